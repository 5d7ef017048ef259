"""A student trained by several processes, through the stage itself: each of them reads the collections anew."""

import json

import pytest

from tasks.engine.worker import open_upstream
from tests.support import run_task
from tests.tasks.stages.test_new_data import Foundry
from tests.tasks.stages.test_train import POINTS, QUICK


def trained(folder, count: int) -> Foundry:
    foundry = Foundry(folder)
    params = {"run": {"workers": 1, "train_processes": count}, "train": QUICK, "students": POINTS}
    (foundry.workspace.root / "params.yaml").write_text(json.dumps(params))
    finished = run_task("train", foundry.workspace)
    assert finished.exit_code == 0, finished.stderr
    return foundry


def losses(foundry: Foundry) -> list[float]:
    history = json.loads(open_upstream(foundry.workspace, "train").read("train", "history.json"))
    return [row["loss"] for row in history["steps"]]


def test_two_processes_train_the_student_that_one_trains(tmp_path):
    one, two = (trained(tmp_path / str(count), count) for count in (1, 2))
    assert losses(two) == pytest.approx(losses(one), rel=1e-6)
