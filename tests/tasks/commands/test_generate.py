"""What `generate` says where it cannot; a cast that succeeds is tested end to end."""

import json

import pytest

from tasks.commands.generate import by_view, generate
from tasks.engine.outcome import StageFailed
from tasks.params import Params
from tests.support import make_workspace
from tests.tasks.stages.test_train import Shop


@pytest.fixture
def workspace(tmp_path):
    return make_workspace(tmp_path / "w")


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    return dict(Shop().trained(tmp_path_factory.mktemp("train")).files)


@pytest.fixture
def publish(monkeypatch):
    def publish(files):
        monkeypatch.setattr("tasks.commands.generate.open_student", lambda workspace, name: files)

    return publish


def test_without_a_trained_student_it_says_how_to_get_one(workspace, tmp_path):
    with pytest.raises(StageFailed, match=r"no trained student .* run `lostwax run --until train`"):
        generate(workspace, Params({}), [], tmp_path / "x.glb")


@pytest.mark.parametrize("lost", ["preparation", "forms"])
def test_a_student_of_another_version_says_how_to_make_it_anew(workspace, publish, product, tmp_path, lost):
    description = json.loads(product["student.json"])
    del description[lost]
    publish(product | {"student.json": json.dumps(description).encode()})
    with pytest.raises(StageFailed, match=f"another version of lostwax .*{lost}.*`lostwax run --until train`"):
        generate(workspace, Params({}), [], tmp_path / "x.glb")


def test_images_are_views_by_the_end_of_their_names(tmp_path):
    for name in ("shoe_left.png", "shoe_back.PNG", "shoe.png"):
        (tmp_path / name).touch()
    left, back, plain = (tmp_path / name for name in ("shoe_left.png", "shoe_back.PNG", "shoe.png"))
    assert by_view([left, back]) == {"left": left, "back": back}
    assert by_view([plain]) == {"front": plain}
    with pytest.raises(ValueError, match=r"shoe\.png: of several images each is named"):
        by_view([left, plain])
    with pytest.raises(ValueError, match="are both the left view"):
        by_view([left, left])
