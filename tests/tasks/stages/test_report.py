"""The report, on upstreams made by hand: what it says, what it escapes, and how it degrades."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.geometry import Mesh
from models.metric import Metric
from models.metrics import Protocol
from models.views import encode_png
from tasks.collections.ledger import Attempt, Ledger
from tasks.collections.records import Record
from tasks.engine.stage import Context
from tasks.stages.evaluate.methods import record_id
from tasks.stages.evaluate.results import by_item
from tasks.stages.evaluate.summary import summarise
from tasks.stages.report import PAGE, Report, charts, markup, strips
from tasks.stages.report.gallery import choose
from tests.support import make_context, make_record, make_workspace

SMALL = {"report": {"strip_views": 2, "strip_size_px": 32}}
EVIL = "<script>alert('shoe')</script>"
Collections = dict[str, dict[str, tuple[Record, dict[str, bytes]]]]


def box(height: float = 0.5) -> bytes:
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-height, height) for z in (-0.3, 0.3)], np.float32)
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    faces = [face for a, b, c, d in quads for face in ((a, b, c), (a, c, d))]
    return Mesh(corners, np.array(faces, np.int32)).to_glb()


def add(collections: Collections, stage: str, item_id: str, files: dict[str, bytes], **fields: Any) -> None:
    collections[stage][item_id] = (make_record(files, item_id=item_id, **fields), files)


def make_upstreams(num_items: int = 3, *, truth: bool = True, teacher: bool = True) -> Collections:
    """num_items test items; the student of item k has Chamfer .02 + .001 k, the mean shape .04, the teacher .01."""
    made: Collections = {stage: {} for stage in Report.upstreams}
    for number in range(num_items):
        item_id = f"item{number:012d}"
        facts = {
            "label": EVIL if number == 0 else f"shoe-{number}",
            "class": "shoe",
            "split": "test",
            "source": "generated",
            "licence": "CC0-1.0",
            "kind": "mesh" if truth else "photo",
            "has_truth": truth,
        }
        png = encode_png(np.full((16, 16, 4), 255, np.uint8))
        add(made, "ingest", item_id, {"mesh.glb": box()} if truth else {"photo.front.png": png}, facts=facts)
        add(made, "views", item_id, {"view.front.png": png}, facts={"views": ["front"]})
        add(made, "matte", item_id, {"view.front.png": png}, facts={"matte": "alpha", "licence": None})
        features = {"views": ["front"], "encoder": "dct", "encoder_licence": None, "depth": None}
        add(made, "features", item_id, {}, facts=features)
        if teacher:
            add(made, "teach", item_id, {"mesh.glb": box(0.4)}, facts={"teacher": "visual_hull", "licence": "own"})
        quality: dict[str, dict[str, float]]
        if truth:
            quality = {"student": figures(0.02 + 0.001 * number), "mean_shape": figures(0.04)}
            quality |= {"teacher": figures(0.01)} if teacher else {}
        else:
            quality = {"student": {"proxy_chamfer_to_teacher": 0.03}}
            quality["floor"] = figures(0.005)
        files = {"student": {"mesh.glb": box(0.3)}, "mean_shape": {"mesh.glb": box(0.2)}}
        for name, values in quality.items():
            add_evaluated(made, item_id, name, values, files.get(name, {}), "truth" if truth else "proxy")
    history = {"steps": [step(1), step(2)], "epochs": [{"epoch": 1, "step": 2, "loss": 1.0, "val_chamfer": 0.03}]}
    trained = {"val_chamfer": 0.03, "selected_by": "chamfer"}
    files = {"history.json": json.dumps(history).encode()}
    add(made, "train", "train", files, quality=trained, facts={"student": "mesh_deform"})
    return made


def add_evaluated(
    made: Collections, item_id: str, name: str, quality: dict[str, float], files: dict[str, bytes], basis: str
) -> None:
    facts = {"item": item_id, "method": name, "class": "shoe", "basis": basis, "kind": "mesh"}
    add(made, "evaluate", record_id(item_id, name), files, quality=quality, facts=facts)


def figures(chamfer: float) -> dict[str, float]:
    return {"chamfer": chamfer, "fscore": 0.5, "normal_consistency": 0.9, "iou": 0.8}


def step(number: int) -> dict[str, Any]:
    terms = {"teacher": 1 / number, "truth": 0.0}
    return {"step": number, "epoch": 1, "loss": 1 / number, "alpha": 0.9, "raw": terms, "weighted": terms}


def report_context(folder: Path, collections: Collections, failures: Mapping[str, Any] | None = None) -> Context:
    """A workspace in which evaluate and the failures are published, and the context over it."""
    workspace = make_workspace(folder)
    records = [record for record, _ in collections["evaluate"].values()]
    metrics = summarise(records, "test", Protocol(), seed=0)
    for stage, entries in {"evaluate": [], **(failures or {})}.items():
        workspace.artifacts(stage).mkdir(parents=True)
        workspace.failures_file(stage).write_text(json.dumps(entries))
    workspace.metrics_file("evaluate").write_text(json.dumps({**metrics, "items": {"total": len(records)}}))
    return make_context(folder, SMALL, upstreams=collections)


def page_of(context: Context, item: Any = None) -> str:
    return Report().start(context)(item).files[PAGE].decode()


def key_inputs(context: Context) -> tuple[tuple[str, str], ...]:
    (wanted,) = Report().wanted(context)
    return wanted.inputs


def visible(page: str) -> str:
    """The page's text, in one line."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.S)))


class Reader(HTMLParser):
    """Notes what a page would load, and elements that are left open."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in markup.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_headline_compares_student_mean_shape_and_teacher_in_words(tmp_path: Path) -> None:
    text = visible(page_of(report_context(tmp_path, make_upstreams())))
    said = "mean Chamfer of 0.0210 is 48 % below the class mean shape’s 0.0400; the teacher stands at 0.0100."
    assert said in text


def test_the_headline_owns_up_to_a_baseline_that_beats_the_student(tmp_path: Path) -> None:
    collections = make_upstreams()
    for item_id in collections["ingest"]:
        add_evaluated(collections, item_id, "nearest", figures(0.015), {}, "truth")
    text = visible(page_of(report_context(tmp_path, collections)))
    assert "Simpler methods do better: nearest training mesh 0.0150." in text


def test_the_page_is_well_formed_and_loads_nothing(tmp_path: Path) -> None:
    page = page_of(report_context(tmp_path, make_upstreams()))
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert all(address.startswith(("data:image/webp;base64,", "#")) for address in reader.addresses)
    assert not re.search(r"url\(|@import|https?://", page)


def test_labels_messages_and_titles_are_escaped(tmp_path: Path) -> None:
    entry = {"id": "b" * 16, "label": EVIL, "state": "exhausted", "class": "bad_input", "message": EVIL, "key": "k"}
    context = report_context(tmp_path, make_upstreams(), {"teach": [entry]})
    params = make_context(tmp_path, {"report": {**SMALL["report"], "title": EVIL}}).params
    page = page_of(dataclasses.replace(context, params=params))
    assert EVIL not in page
    assert page.count("&lt;script&gt;alert(&#x27;shoe&#x27;)&lt;/script&gt;") >= 4


def sheet_of(context: Context) -> str:
    """The contact sheet's markup."""
    found = re.search(r'<section id="objects">.*?</section>', page_of(context), flags=re.S)
    assert found
    return found.group()


def test_the_contact_sheet_shows_what_was_ingested_and_how_to_turn_it(tmp_path: Path) -> None:
    collections = make_upstreams(3)
    del collections["views"]["item000000000002"]
    sheet = sheet_of(report_context(tmp_path, collections))
    assert sheet.count("<img") == 2
    assert "shoe-1 shoe, test" in visible(sheet)
    assert "no view of it shoe-2" in visible(sheet)
    assert "3 of 3 objects" in visible(sheet)
    assert "set ingest.up_axis" in visible(sheet)


def test_the_contact_sheet_takes_objects_from_all_over_the_collection(tmp_path: Path) -> None:
    context = report_context(tmp_path, make_upstreams(6))
    params = make_context(tmp_path, {"report": {**SMALL["report"], "num_objects": 3}}).params
    text = visible(sheet_of(dataclasses.replace(context, params=params)))
    assert re.findall(r"shoe-\d", text) == ["shoe-2", "shoe-4"]
    assert "3 of 6 objects" in text


def test_an_f_string_of_markup_is_text_again() -> None:
    inner = markup.tag("b", {}, "bold")
    assert markup.tag("p", {"title": '"<'}, f"{inner}") == '<p title="&quot;&lt;">&lt;b&gt;bold&lt;/b&gt;</p>'


def test_items_without_truth_or_teacher_are_shown_by_proxy_with_the_reason(tmp_path: Path) -> None:
    collections = make_upstreams(1, truth=False, teacher=False)
    entry = {"id": "item000000000000", "label": "x", "state": "skipped", "class": "skipped", "message": "no cameras"}
    text = visible(page_of(report_context(tmp_path, collections, {"teach": [entry]})))
    assert "these are proxies: the student’s mean Chamfer distance to its teacher is 0.0300" in text
    assert "no true mesh: the item is a photo" in text
    assert "skipped: no cameras" in text
    assert "No item of the test split has a true mesh" in text


def test_a_page_without_any_evaluated_item_says_so(tmp_path: Path) -> None:
    collections = make_upstreams(0)
    collections["train"].clear()
    text = visible(page_of(report_context(tmp_path, collections)))
    assert "No item of the test split was evaluated" in text
    assert "No student has been trained" in text
    assert "Latency was not measured on this machine" in text
    assert "it has none of ingest, views" in text


def test_times_come_from_ledgers_and_latency_without_entering_the_key(tmp_path: Path) -> None:
    context = report_context(tmp_path, make_upstreams(1))
    before = key_inputs(context)
    with Ledger(tmp_path / ".lostwax" / "teach") as ledger:
        ledger.add([Attempt("a", "k", "done", seconds=1.25)])
        run = ledger.begin_run("recipe")
        ledger.end_run(run, seconds=12.5, computed=10, exit_code=0, message="", published=True)
    timed = {"p50_s": 0.0123, "p95_s": 0.02, "from": ["tokens"]}
    timed |= {"device": "cpu", "num_threads": 2, "num_runs": 10}
    (tmp_path / ".lostwax" / "evaluate").mkdir(parents=True)
    (tmp_path / ".lostwax" / "evaluate" / "latency.json").write_text(json.dumps(timed))
    text = visible(page_of(context))
    assert "12.3 ms" in text
    assert "1.25 s 12.5 s (10)" in text
    assert key_inputs(context) == before


def test_the_key_follows_records_failures_and_params(tmp_path: Path) -> None:
    collections = make_upstreams(1)
    context = report_context(tmp_path, collections, {"teach": []})
    keys = {key_inputs(context)}
    (tmp_path / "artifacts" / "teach" / "failures.json").write_text('[{"id": "x"}]')
    keys.add(key_inputs(context))
    add(collections, "teach", "item000000000000", {"mesh.glb": box(0.1)})
    keys.add(key_inputs(make_context(tmp_path, SMALL, upstreams=collections)))
    keys.add(key_inputs(make_context(tmp_path, {**SMALL, "matte": {"padding": 0.2}}, upstreams=collections)))
    assert len(keys) == 4


@pytest.mark.parametrize("num_items", range(1, 12))
def test_the_gallery_shows_worst_typical_and_best_once_each(num_items: int) -> None:
    items = by_item(record for record, _ in make_upstreams_light(9).values())
    chosen = choose(items, num_items, Metric("chamfer", "Chamfer"))
    assert len({choice.id for choice in chosen}) == len(chosen) == min(num_items, 9)
    assert chosen[0].id == "item8"
    assert num_items < 2 or (chosen[-1].id, chosen[-1].why) == ("item0", "best")


def make_upstreams_light(num_items: int) -> dict[str, tuple[Record, dict[str, bytes]]]:
    """evaluate's records alone, without meshes."""
    made: Collections = {"evaluate": {}}
    for number in range(num_items):
        add_evaluated(made, f"item{number}", "student", figures(0.02 + 0.001 * number), {}, "truth")
    return made["evaluate"]


def test_strips_of_an_item_keep_their_sizes_relative_to_each_other() -> None:
    small, large = np.zeros((2, 1, 64, 64, 4), np.uint8)
    small[:, 28:36, 30:34] = large[:, 20:40, 10:50] = 255
    sizes = {image_size(uri) for uri in strips.fitted([small, large])}
    assert sizes == {(2 * (22 + strips.MARGIN_PX), 2 * (12 + strips.MARGIN_PX))}


def test_a_tall_item_gets_square_views() -> None:
    tall = np.zeros((3, 64, 64, 4), np.uint8)
    tall[:, 4:60, 30:34] = 255
    (uri,) = strips.fitted([tall])
    assert image_size(uri) == (3 * 64, 64)


def test_items_that_failed_alike_share_a_row(tmp_path: Path) -> None:
    entry = {"state": "blocked", "class": "environment", "message": "no model", "key": "k"}
    entries = [{**entry, "id": f"{number:016d}", "label": f"photo-{number}"} for number in range(20)]
    text = visible(page_of(report_context(tmp_path, make_upstreams(1), {"matte": entries})))
    assert text.count("no model") == 1
    assert "photo-11 and 8 more 20" in text


def image_size(uri: str) -> tuple[int, int]:
    import base64
    import io

    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return image.size


def test_log_charts_leave_out_zeros_and_survive_flat_curves() -> None:
    flat = charts.Curve("flat", ((1.0, 0.5), (2.0, 0.5)), "c1")
    zero = charts.Curve("zero", ((1.0, 0.0),), "c2")
    drawn = charts.lines("Loss", [flat, zero], "step", "", log=True)
    assert drawn.count("<polyline") == 1
    assert "nan" not in drawn
    assert "Nothing was recorded" in charts.lines("Loss", [zero], "step", "", log=True)


def test_a_narrow_log_range_still_has_ticks() -> None:
    assert len(charts.log_ticks(0.0262, 0.033)) >= 3


def test_long_curves_are_averaged_and_keep_their_ends() -> None:
    points = [(float(x), float(x % 2)) for x in range(10_000)]
    binned = charts.binned(points)
    assert len(binned) == charts.MAX_POINTS
    assert (binned[0], binned[-1]) == (points[0], points[-1])
    assert all(y == pytest.approx(0.5, abs=0.02) for _, y in binned[1:-1])


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "0"), (0.02134, "0.0213"), (0.5, "0.5"), (120.0, "120"), (1234567.0, "1e6"), (2e-5, "2e-5")],
)
def test_numbers_are_written_with_three_digits(value: float, written: str) -> None:
    assert charts.short(value) == written


def test_a_warm_start_is_told(tmp_path: Path) -> None:
    upstreams = make_upstreams()
    files = upstreams["train"]["train"][1]
    assert "a warm start" not in visible(page_of(report_context(tmp_path / "cold", upstreams)))
    facts = {"student": "mesh_deform", "warm_from": "ab" * 32, "warm_epochs": 8}
    add(upstreams, "train", "train", files, facts=facts, quality={"selected_by": "chamfer"})
    assert "a warm start: 8 epochs from the student abababab" in visible(
        page_of(report_context(tmp_path / "warm", upstreams))
    )
