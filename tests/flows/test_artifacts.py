from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from flows.artifacts import (
    COLUMNS,
    LABEL_PX,
    PAPER,
    TILE_PX,
    GateArtifact,
    contact_sheet,
    failure_rows,
    reasons,
)
from tasks.collections.records import Record
from tasks.engine.outcome import STOPPED, Outcome, Progress
from tasks.engine.stage import Upstream
from tasks.stages.gate.contact_sheet import FIRST, Shown, place
from tasks.stages.gate.verdict import GateParams
from tests.support import make_record, make_workspace


def png(size: tuple[int, int], colour: tuple[int, int, int, int]) -> bytes:
    encoded = io.BytesIO()
    Image.new("RGBA", size, colour).save(encoded, "PNG")
    return encoded.getvalue()


def collection(pictures: list[bytes], name: str = "view.front.png") -> Upstream:
    items: dict[str, Record] = {}
    for index, picture in enumerate(pictures):
        items[f"{index:016d}"] = make_record({name: picture}, item_id=f"{index:016d}")
    return Upstream("views", items, lambda record, _: pictures[int(record.id)])


def test_a_contact_sheet_has_rows_of_six_tiles_from_all_over_the_collection() -> None:
    reds = [png((TILE_PX, TILE_PX), (5 * index, 0, 0, 255)) for index in range(48)]
    sheet = contact_sheet(collection(reds), str)
    assert sheet is not None
    image = Image.open(io.BytesIO(sheet))
    assert image.size == (6 * TILE_PX, 4 * (TILE_PX + LABEL_PX))
    middle = TILE_PX // 2
    centres = [
        image.getpixel((column * TILE_PX + middle, row * (TILE_PX + LABEL_PX) + middle))[0]
        for row in range(4)
        for column in range(6)
    ]
    assert centres == pytest.approx([10 * index for index in range(24)], abs=3)


def test_a_contact_sheet_has_the_labels_under_the_tiles_and_within_their_width() -> None:
    empty = png((TILE_PX, TILE_PX), (*PAPER, 255))

    def ink(label: str) -> npt.NDArray[np.bool_]:
        sheet = contact_sheet(collection([empty, empty]), lambda item_id: label if item_id == f"{0:016d}" else "")
        assert sheet is not None
        grey = np.asarray(Image.open(io.BytesIO(sheet)).convert("L"))[TILE_PX:]
        return np.asarray(grey < 150)

    assert not ink("").any()
    assert ink("mugs/blue").any()
    long = ink("a very long path/" * 20 + "mug")
    assert long[:, :TILE_PX].any()
    assert not long[:, TILE_PX:].any()


def test_what_is_transparent_shows_the_paper_and_wide_pictures_are_centred() -> None:
    sheet = contact_sheet(collection([png((320, 80), (0, 0, 255, 255)), png((64, 64), (0, 0, 0, 0))]), str)
    assert sheet is not None
    image = Image.open(io.BytesIO(sheet))
    assert image.getpixel((TILE_PX // 2, TILE_PX // 2))[2] > 240
    assert image.getpixel((TILE_PX // 2, 10)) == pytest.approx(PAPER, abs=4)
    assert image.getpixel((TILE_PX + TILE_PX // 2, TILE_PX // 2)) == pytest.approx(PAPER, abs=4)


def test_a_collection_without_pictures_has_no_sheet() -> None:
    assert contact_sheet(collection([b"glTF"], name="mesh.glb"), str) is None
    assert contact_sheet(collection([]), str) is None


def test_failures_come_before_what_does_not_apply(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "w")
    entries = [
        {"id": "a", "label": "a", "state": "skipped", "class": "skipped", "message": "has no cameras"},
        {"id": "b", "label": "z", "state": "blocked", "class": "environment", "message": "no model"},
        {"id": "c", "label": "b", "state": "exhausted", "class": "bad_input", "message": "torn", "attempts": 1},
    ]
    assert failure_rows(workspace, "teach") == []
    workspace.artifacts("teach").mkdir(parents=True)
    workspace.failures_file("teach").write_text(json.dumps(entries))
    rows = failure_rows(workspace, "teach")
    assert [row["label"] for row in rows] == ["b", "z", "a"]
    assert all(tuple(row) == COLUMNS for row in rows)


def test_items_that_failed_alike_share_a_line() -> None:
    rows = [{"label": f"item{index}", "state": "blocked", "message": "no model"} for index in range(5)]
    rows.append({"label": "torn", "state": "exhausted", "message": "cut short"})
    assert reasons("matte", rows) == [
        "- **matte**: 5 blocked: no model (item0, item1, item2, ...)",
        "- **matte**: 1 exhausted: cut short (torn)",
    ]


def test_names_from_outside_are_no_markdown() -> None:
    rows = [{"label": "[a](b)|<img>", "state": "exhausted", "message": "*torn*_"}]
    assert reasons("matte", rows) == [r"- **matte**: 1 exhausted: \*torn\*\_ (\[a\](b)\|\<img\>)"]


class Sheets:
    """What GateArtifact would show, with `finished` of the gate's items finished so far."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown: list[str] = []
        self.finished = 0
        bad = Shown("bad", ("area 0 < 0.02",), png((32, 16), (9, 9, 9, 255)))
        good = Shown("good", (), png((32, 16), (9, 9, 9, 255)))
        several = [bad] + [good] * (FIRST - 1)
        monkeypatch.setattr("tasks.stages.gate.contact_sheet.first_items", lambda *_: several[: self.finished])
        monkeypatch.setattr("tasks.stages.gate.contact_sheet.worst_items", lambda *_: [bad])
        monkeypatch.setattr("flows.artifacts.UPDATE_EVERY_S", 0.0)
        monkeypatch.setattr(
            "flows.artifacts.create_markdown_artifact", lambda text, key, description: self.shown.append(description)
        )


def test_the_gates_first_items_are_shown_once_while_it_runs_and_the_worst_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheets, workspace = Sheets(monkeypatch), make_workspace(tmp_path / "w")
    artifact = GateArtifact(workspace, GateParams())
    for sheets.finished in (FIRST - 1, FIRST, FIRST):
        artifact.progress(Progress("gate", 100, 0, 200, 1.0, 1.0))
    (first,) = sheets.shown
    assert first.startswith(f"Of the first {FIRST} items the gate accepts {FIRST - 1}.")
    with Image.open(place(workspace)) as sheet:
        assert sheet.width == 4 * 262
    artifact.finished(Outcome("gate", STOPPED, 200, 30, 30, 0, 0, 0, 0, 1.0))
    assert len(sheets.shown) == 1
    artifact.finished(Outcome("gate", 0, 200, 200, 200, 0, 0, 0, 0, 1.0))
    assert sheets.shown[1].startswith("Of the worst 1 of 200 items the gate accepts 0.")
    assert str(place(workspace)) in sheets.shown[1]
