import pytest

from models.training.history import FILE, MOST_STEPS, History


def step(number: int) -> dict:
    return {"step": number, "loss": 1 / number, "raw": {"truth": 0.5}, "weighted": {"truth": 0.25}}


def test_a_quarter_of_a_million_steps_are_saved_and_resumed(tmp_path):
    history = History(tmp_path)
    for number in range(1, 250_001):
        history.add(step(number))
    size = history.flush()
    history.add(step(250_001))  # after the checkpoint: an interrupted training does it again
    history.close()
    resumed = History(tmp_path, size)
    assert (tmp_path / FILE).stat().st_size == size
    resumed.add({"epoch": 1, "step": 250_000, "loss": 0.1})
    steps = resumed.steps()
    assert len(steps) == MOST_STEPS
    assert [steps[0], steps[-1]] == [step(50), step(250_000)]
    assert resumed.epochs() == [{"epoch": 1, "step": 250_000, "loss": 0.1}]


def test_few_steps_are_all_kept(tmp_path):
    history = History(tmp_path)
    for number in range(1, 4):
        history.add(step(number))
    assert history.steps() == [step(1), step(2), step(3)]


def test_a_history_that_lost_rows_is_not_continued(tmp_path):
    with pytest.raises(ValueError, match="shorter than its checkpoint says"):
        History(tmp_path, 100)
