import pytest
import torch

from models.training.checkpoints import Checkpoint, Checkpoints

CONFIG = {"recipe": {"epochs": 3}, "student": "mesh_deform"}


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint({"model.weight": torch.full((2,), float(step)), "ema.weight": torch.ones(2)}, {"step": step})


def test_what_was_saved_is_loaded(tmp_path):
    Checkpoints(tmp_path, CONFIG).save(7, checkpoint(7))
    loaded = Checkpoints(tmp_path, CONFIG).load_latest()
    assert loaded.facts == {"step": 7}
    assert torch.equal(loaded.group("model")["weight"], torch.full((2,), 7.0))


def test_the_newest_two_are_kept_and_no_temporary_file(tmp_path):
    checkpoints = Checkpoints(tmp_path, CONFIG)
    for step in (5, 10, 15):
        checkpoints.save(step, checkpoint(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{s:09d}.safetensors" for s in (10, 15)]


def test_an_empty_folder_has_no_checkpoint(tmp_path):
    assert Checkpoints(tmp_path / "absent", CONFIG).load_latest() is None


def test_a_torn_checkpoint_falls_back_to_the_one_before(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path, CONFIG)
    checkpoints.save(1, checkpoint(1))
    newest = checkpoints.save(2, checkpoint(2))
    newest.write_bytes(newest.read_bytes()[:-3])
    assert checkpoints.load_latest().facts["step"] == 1
    assert "unreadable" in caplog.text


def test_a_checkpoint_of_other_settings_is_an_error_that_names_them(tmp_path):
    Checkpoints(tmp_path, CONFIG).save(1, checkpoint(1))
    with pytest.raises(ValueError, match="student was 'mesh_deform', is 'other'"):
        Checkpoints(tmp_path, CONFIG | {"student": "other"}).load_latest()
