"""Photos alone, without truth or cameras: single ones and a set of four sides end in casts, a student and a page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from models.cameras import NAMED_AZIMUTHS_DEG, orbit_camera
from models.geometry import Mesh, canonical
from models.metrics import Protocol, Surface, compare
from models.rendering import render
from models.shapes import make
from models.views import encode_png
from tasks.engine.worker import open_upstream
from tasks.workspace import Workspace
from tests.end_to_end.test_two_drivers import BIN, TINY, command, lostwax

PHOTOS = TINY | {
    "ingest": {"inbox": "inbox", "sources": [{"source": "folder"}], "split": {"val": 0, "test": 0.4}},
    "mattes": {"rembg": {"model": "u2netp", "download": False}},
    "teach": {"teacher": "classical"},
    "teachers": {"classical": {"visual_hull": {"resolution": 32}, "inflation": {"resolution": 32}}},
}
NUM_SINGLE = 6


def photographed(mesh: Mesh, side: str) -> bytes:
    """A photo from a little above, with its background removed."""
    camera = orbit_camera(NAMED_AZIMUTHS_DEG[side], 15.0, 3.2, 35.0, 160)
    return encode_png(render(mesh, [camera], 160).rgba_VHW4[0])


def new_workspace(folder: Path) -> Path:
    command([str(BIN / "lostwax"), "init", str(folder)], folder.parent, 0)
    (folder / "params.yaml").write_text(yaml.safe_dump(PHOTOS, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str]:
    """A workspace of photos after `lostwax run`, and what that said."""
    folder = new_workspace(tmp_path_factory.mktemp("photos") / "workspace")
    for index in range(NUM_SINGLE):
        shoe = canonical(make("shoe", index).mesh)
        (folder / "inbox" / f"single{index}.png").write_bytes(photographed(shoe, "left"))
    told = lostwax(folder, "run").stderr
    return Workspace(folder), told


def test_every_photo_has_a_cast_that_the_gate_accepts(finished: tuple[Workspace, str]) -> None:
    taught, measured = (open_upstream(finished[0], stage).records for stage in ("teach", "gate"))
    assert len(taught) == len(measured) == NUM_SINGLE
    assert {record.quality["method"] for record in taught.values()} == {"inflation"}
    assert all(record.quality["watertight"] for record in taught.values())
    assert min(record.quality["best_view_iou"] for record in measured.values()) > 0.85
    assert {record.quality["chamfer"] for record in measured.values()} == {None}


def test_a_student_is_trained_and_its_figures_are_called_proxies(finished: tuple[Workspace, str]) -> None:
    workspace, told = finished
    metrics = json.loads(workspace.metrics_file("evaluate").read_text())
    assert metrics["test"]["num_items"] == 0
    assert metrics["proxy"]["num_items"] >= 1
    assert 0 < metrics["proxy"]["student"]["proxy_chamfer_to_teacher"] < 1
    assert "without truth, by proxies" in told


def test_the_page_shows_them(finished: tuple[Workspace, str]) -> None:
    page = (finished[0].artifacts("report") / "index.html").read_text()
    assert "No evaluated item has a true mesh, so these are proxies" in page
    assert "single0" in page


def test_a_set_of_four_sides_alone_ends_in_a_cast_near_the_truth_and_says_that_nothing_is_held_out(
    tmp_path: Path,
) -> None:
    folder = new_workspace(tmp_path / "workspace")
    shoe = canonical(make("shoe", 7).mesh)
    for side in NAMED_AZIMUTHS_DEG:
        (folder / "inbox" / f"shoe_{side}.png").write_bytes(photographed(shoe, side))
    told = lostwax(folder, "run").stderr
    assert "no item is in the test split; add items" in told
    assert (Workspace(folder).artifacts("report") / "index.html").is_file()
    taught = open_upstream(Workspace(folder), "teach")
    ((item_id, record),) = taught.records.items()
    assert record.quality["method"] == "visual_hull"
    cast = Mesh.from_glb(taught.read(item_id, "mesh.glb"))
    assert compare(cast, Surface(shoe, Protocol(num_points=2000))).chamfer < 0.05


def test_an_opaque_photo_without_a_model_is_answered_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "models"))
    folder = new_workspace(tmp_path / "workspace")
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(folder / "inbox" / "opaque.png")
    told = lostwax(folder, "run", code=1).stderr
    assert "every item is blocked" in told
    assert "run `lostwax fetch-model u2netp`" in told
