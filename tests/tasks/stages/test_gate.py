"""The gate: its figures against what must come out, its verdicts, and what training and the report make of them."""

from __future__ import annotations

import dataclasses
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from models.cameras import orbit_camera
from models.gaussians import splats_on
from models.geometry import Mesh
from models.metrics.images import MAX_PSNR_DB, masks
from models.rendering import render
from models.shapes import make
from models.students import mesh_deform
from models.views import decode_rgba, encode_png
from tasks.collections.records import Record, to_line
from tasks.collections.spool import Spool
from tasks.collections.tarball import encode_item
from tasks.engine.outcome import OK, STOPPED
from tasks.engine.planning import make_recipe
from tasks.engine.runner import run_stage
from tasks.engine.stage import Context, Output
from tasks.params import Params
from tasks.stages.gate import FIGURES, Gate, contact_sheet
from tasks.stages.gate.judged import of_mesh
from tasks.stages.gate.measures import find_viewpoint
from tasks.stages.gate.verdict import GateParams, Tally, tally, verdict, worst_first
from tasks.stages.report import gate as report_gate
from tasks.stages.train import Train
from tasks.stages.train.sources import find_sources
from tasks.versions import check_versions
from tasks.workspace import Workspace
from tests.support import make_context, make_item, make_record, make_workspace, run_task, start
from tests.toy import Toy, fill, plain

SIZE_PX = 64
VIEWS = ("front", "left", "back", "right")
NO_LIMITS = GateParams(**dict.fromkeys(GateParams().limits()))
BOUNDS = {limit: ask for limit, ask in GateParams().limits().items() if limit.startswith(("min_", "max_"))}
GOOD = {
    "silhouette_iou": 0.98,
    "side_ratio": 1.02,
    "flipped_iou_gain": -0.1,
    "flipped_psnr_gain_db": -4.0,
    "best_view_iou": None,
    "psnr_db": 24.0,
    "brightness_ratio": 0.95,
    "area": 1.2,
    "area_to_hull": 0.9,
    "outward_share": 1.0,
    "components": 1,
    "watertight": True,
    "chamfer": 0.02,
    "normal_consistency": 0.9,
}


def ball(
    radius: float = 0.4,
    *,
    grey: int | None = 100,
    tint: tuple[float, float, float] = (1, 1, 1),
    at: tuple[float, float, float] = (0, 0, 0),
) -> Mesh:
    """A sphere, darker at the bottom; without colours where grey is None."""
    sphere = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    vertices = (sphere.vertices + np.array(at)).astype(np.float32)
    colours = None
    if grey is not None:
        shade_N = grey * (0.75 + 0.25 * sphere.vertices[:, 1] / radius)
        rgb_N3 = shade_N[:, None] * np.array(tint)
        colours = np.column_stack([rgb_N3, np.full(len(shade_N), 255)]).round().astype(np.uint8)
    return Mesh(vertices, sphere.faces.astype(np.int32), colours)


TRUTH = ball()


def dusty() -> Mesh:
    """The sphere with 120 specks in it."""
    speck = trimesh.creation.icosphere(subdivisions=0, radius=0.001)
    places = np.linspace(-0.2, 0.2, 120)
    specks = trimesh.util.concatenate([speck.copy().apply_translation((0, 0, place)) for place in places])
    whole = trimesh.util.concatenate([trimesh.Trimesh(TRUTH.vertices_N3, TRUTH.faces_F3, process=False), specks])
    colours = np.tile(np.array([100, 100, 100, 255], np.uint8), (len(whole.vertices), 1))
    return Mesh(np.asarray(whole.vertices, np.float32), np.asarray(whole.faces, np.int32), colours)


def matted(mesh: Mesh, *, cameras: bool = True, views: tuple[str, ...] = VIEWS) -> dict[str, bytes]:
    """Views of a mesh as the matte stage leaves them."""
    named = {name: orbit_camera(90.0 * index, 12, 2.7, 40, SIZE_PX) for index, name in enumerate(views)}
    images = render(mesh, list(named.values()), SIZE_PX).rgba_VHW4
    files = {f"view.{name}.png": encode_png(image) for name, image in zip(named, images, strict=True)}
    layout = {"size_px": SIZE_PX, "views": {name: camera.to_json() for name, camera in named.items()}}
    return files | ({"cameras.json": json.dumps(layout).encode()} if cameras else {})


@cache
def inputs() -> dict[str, bytes]:
    """The truth's matted views."""
    return matted(TRUTH)


def gated(folder: Path, taught: Mesh, *, truth: bool = True, views: dict[str, bytes] | None = None) -> Output:
    item = make_item(
        {
            "teach": {"mesh.glb": taught.to_glb()},
            "matte": inputs() if views is None else views,
            "ingest": {"mesh.glb": TRUTH.to_glb()} if truth else {},
        },
        facts={"ingest": {"has_truth": truth, "label": "ball"}},
    )
    return start(Gate(), folder, {"gate": {"num_points": 2_000}})(item)


def limits_failed(quality: Any, params: GateParams = GateParams()) -> set[str]:  # noqa: B008
    return {reason.limit for reason in verdict(quality, params)}


def test_a_teacher_that_returns_the_truth_is_accepted_with_perfect_figures(tmp_path: Path) -> None:
    output = gated(tmp_path, TRUTH)
    quality = output.quality
    assert quality["silhouette_iou"] == 1.0
    assert quality["psnr_db"] == MAX_PSNR_DB
    assert quality["brightness_ratio"] == 1.0
    assert quality["area"] == pytest.approx(4 * np.pi * 0.4**2, rel=0.01)
    assert (quality["components"], quality["watertight"]) == (1, True)
    assert quality["chamfer"] == output.facts["chamfer_floor"] > 0
    assert {name: output.facts[name] for name in ("views", "cameras", "colours", "truth", "chamfer_points")} == {
        "views": list(VIEWS),
        "cameras": True,
        "colours": True,
        "truth": True,
        "chamfer_points": 2_000,
    }
    assert limits_failed(quality) == set()


def test_equal_inputs_give_equal_outputs(tmp_path: Path) -> None:
    assert gated(tmp_path, ball(0.35)) == gated(tmp_path, ball(0.35))


def test_a_smaller_ball_covers_the_share_of_its_silhouette(tmp_path: Path) -> None:
    quality = gated(tmp_path, ball(0.36)).quality
    tangent_sq = [radius**2 / (2.7**2 - radius**2) for radius in (0.36, 0.4)]
    assert quality["silhouette_iou"] == pytest.approx(tangent_sq[0] / tangent_sq[1], abs=0.03)
    assert quality["chamfer"] == pytest.approx(0.04, abs=0.005)


@pytest.mark.parametrize(
    ("taught", "expected"),
    [
        (ball(at=(0.1, 0, 0)), set()),
        (ball(at=(0.0, 0.07, 0)), set()),
        (ball(at=(0, 0.18, 0)), {"min_silhouette_iou"}),
        (ball(0.36), set()),
        (ball(0.2), {"min_silhouette_iou", "max_side_ratio", "max_chamfer"}),
        (ball(grey=25), {"brightness_range"}),
        (ball(grey=250), {"min_psnr_db", "brightness_range"}),
        (ball(0.01), {"min_silhouette_iou", "max_side_ratio", "brightness_range", "min_area", "max_chamfer"}),
        (dusty(), {"max_components"}),
    ],
    ids=["shifted a little", "raised a little", "raised", "smaller", "half", "dark", "bright", "speck", "dust"],
)
def test_what_is_wrong_is_rejected_for_just_that(tmp_path: Path, taught: Mesh, expected: set[str]) -> None:
    assert limits_failed(gated(tmp_path, taught).quality) == expected


def test_colours_of_the_right_brightness_may_still_be_wrong(tmp_path: Path) -> None:
    quality = gated(tmp_path, ball(tint=(2.5, 0.5, 0.2))).quality
    assert quality["brightness_ratio"] == pytest.approx(1, abs=0.1)
    assert limits_failed(quality, GateParams(min_psnr_db=12)) == {"min_psnr_db"}


def test_an_open_mesh_is_rejected_only_where_it_must_be_closed(tmp_path: Path) -> None:
    quality = gated(tmp_path, dataclasses.replace(TRUTH, faces_F3=TRUTH.faces_F3[1:])).quality
    assert quality["watertight"] is False
    assert limits_failed(quality) == set()
    assert limits_failed(quality, GateParams(require_watertight=True)) == {"require_watertight"}


def test_vertices_that_a_seam_splits_are_one_piece_and_closed(tmp_path: Path) -> None:
    corners = np.arange(TRUTH.faces_F3.size, dtype=np.int32).reshape(-1, 3)
    split = Mesh(TRUTH.vertices_N3[TRUTH.faces_F3.reshape(-1)], corners)
    quality = gated(tmp_path, split).quality
    assert (quality["components"], quality["watertight"]) == (1, True)


def test_photos_without_cameras_are_compared_from_where_the_mesh_fits_them_best(tmp_path: Path) -> None:
    views = matted(TRUTH, cameras=False, views=("front", "left"))
    output = gated(tmp_path, ball(0.2), truth=False, views=views)
    measured = {name for name, value in output.quality.items() if value is not None}
    assert measured == {"best_view_iou", "area", "area_to_hull", "outward_share", "components", "watertight"}
    assert output.quality["best_view_iou"] > 0.9  # a smaller ball is a ball
    assert (output.facts["cameras"], output.facts["truth"]) == (False, False)
    assert limits_failed(output.quality) == set()
    assert picture(output).size == (2 * SIZE_PX, 2 * SIZE_PX)


@cache
def shoe_glb() -> bytes:
    """A shoe in the canonical frame."""
    mesh = Mesh.from_glb(make("shoe", 3).mesh.to_glb())
    centred_N3 = mesh.vertices_N3 - (mesh.vertices_N3.max(axis=0) + mesh.vertices_N3.min(axis=0)) / 2
    return Mesh(centred_N3 / mesh.extents.max(), mesh.faces_F3).to_glb()


def test_the_viewpoint_of_a_photo_is_found_and_another_object_is_rejected(tmp_path: Path) -> None:
    shoe, rod = shoe_glb(), trimesh.creation.box((0.05, 1, 0.05)).export(file_type="glb")
    camera = orbit_camera(130, 30, 2.2, 30, SIZE_PX)
    photo = render(shoe, [camera], SIZE_PX).rgba_VHW4
    places, iou = find_viewpoint(of_mesh(shoe), ["front"], masks(photo))
    assert iou > 0.9
    assert tuple(places[0][:2]) == pytest.approx((130, 30), abs=10)
    views = {"view.front.png": encode_png(photo[0])}
    right, wrong = (gated(tmp_path, Mesh.from_glb(glb), truth=False, views=views) for glb in (shoe, rod))
    assert limits_failed(right.quality) == set()
    assert limits_failed(wrong.quality) == {"min_best_view_iou"}


def test_of_sides_that_look_nearly_alike_it_is_the_named_one() -> None:
    box = trimesh.creation.box((0.4, 0.6, 1.0))
    knob = trimesh.creation.icosphere(subdivisions=2, radius=0.03).apply_translation([-0.2, 0.3, 0.4])
    glb = trimesh.util.concatenate([box, knob]).export(file_type="glb")
    seen = masks(render(glb, [orbit_camera(270, 10, 2.7, 40, SIZE_PX)], SIZE_PX).rgba_VHW4)
    assert find_viewpoint(of_mesh(glb), ["left"], seen)[0][0].azimuth_deg == pytest.approx(90, abs=10)
    assert find_viewpoint(of_mesh(glb), ["right"], seen)[0][0].azimuth_deg == pytest.approx(270, abs=10)


def test_a_fine_mesh_is_searched_with_few_triangles_and_measured_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = trimesh.creation.icosphere(subdivisions=5, radius=0.5)
    vertices_N3 = (fine.vertices * (1, 0.6, 0.3)).astype(np.float32)
    mesh = Mesh(vertices_N3, fine.faces.astype(np.int32), np.full((len(vertices_N3), 4), 200, np.uint8))
    photo = masks(render(mesh, [orbit_camera(15, 10, 2.7, 40, SIZE_PX)], SIZE_PX).rgba_VHW4)
    searched: list[int] = []

    def counting(source: bytes | Mesh, cameras: Any, size_px: int, **options: Any) -> Any:
        triangles = len(source.faces_F3 if isinstance(source, Mesh) else Mesh.from_glb(source).faces_F3)
        searched.extend([triangles] * len(cameras))
        return render(source, cameras, size_px, **options)

    monkeypatch.setattr("tasks.stages.gate.judged.render", counting)
    _, iou = find_viewpoint(of_mesh(mesh.to_glb()), ["front"], photo)
    assert iou > 0.93
    assert searched[-1] == len(mesh.faces_F3)
    assert searched.count(len(mesh.faces_F3)) == 4
    assert max(searched[:-4]) < 0.6 * len(mesh.faces_F3)


def test_named_photos_are_seen_from_sides_at_right_angles(tmp_path: Path) -> None:
    shoe = shoe_glb()
    cameras = [orbit_camera(azimuth, 10, 2.2, 30, SIZE_PX) for azimuth in (40, 130)]
    front, left = render(shoe, cameras, SIZE_PX).rgba_VHW4
    places, iou = find_viewpoint(of_mesh(shoe), ["front", "left"], masks(np.stack([front, left])))
    assert iou > 0.9
    assert [azimuth for azimuth, *_ in places] == pytest.approx([40, 130], abs=10)
    assert find_viewpoint(of_mesh(shoe), ["left", "front"], masks(np.stack([front, left])))[1] < iou - 0.1


def test_black_views_have_no_brightness_to_compare_with(tmp_path: Path) -> None:
    views = dict(inputs())
    for name in VIEWS:
        rgba = decode_rgba(views[f"view.{name}.png"]).copy()
        rgba[..., :3] = 0
        views[f"view.{name}.png"] = encode_png(rgba)
    quality = gated(tmp_path, TRUTH, views=views).quality
    assert (quality["brightness_ratio"], quality["silhouette_iou"]) == (None, 1.0)


def test_a_mesh_that_is_not_in_the_picture_has_no_brightness(tmp_path: Path) -> None:
    quality = gated(tmp_path, ball(at=(9, 0, 0))).quality
    assert (quality["brightness_ratio"], quality["silhouette_iou"]) == (0, 0)
    assert {"brightness_range", "min_silhouette_iou", "max_side_ratio"} <= limits_failed(quality)


def test_a_vertex_that_no_face_uses_is_no_piece(tmp_path: Path) -> None:
    vertices_N3 = np.concatenate([TRUTH.vertices_N3, np.zeros((1, 3), np.float32)])
    assert gated(tmp_path, Mesh(vertices_N3, TRUTH.faces_F3)).quality["components"] == 1


def test_a_mesh_without_colours_is_not_blamed_for_the_renderers(tmp_path: Path) -> None:
    output = gated(tmp_path, ball(grey=None))
    assert output.quality["silhouette_iou"] == 1.0
    assert (output.quality["psnr_db"], output.quality["brightness_ratio"]) == (None, None)
    assert output.facts["colours"] is False


def test_an_item_whose_views_are_gone_keeps_the_figures_of_its_mesh(tmp_path: Path) -> None:
    output = gated(tmp_path, TRUTH, views={})
    assert output.quality["silhouette_iou"] is None
    assert output.quality["chamfer"] is not None
    assert picture(output).height == 128


def test_the_picture_has_the_views_above_and_the_renders_below(tmp_path: Path) -> None:
    image = np.asarray(picture(gated(tmp_path, ball(grey=25))).convert("L"), np.float32)
    assert image.shape == (2 * SIZE_PX, len(VIEWS) * SIZE_PX)
    above, below = image[SIZE_PX // 2, SIZE_PX // 2], image[SIZE_PX * 3 // 2, SIZE_PX // 2]
    assert below < above / 2
    assert image[0, 0] == pytest.approx(127, abs=4)


def picture(output: Output) -> Image.Image:
    return Image.open(io.BytesIO(output.files["gate.png"]))


def test_records_from_before_a_figure_are_judged_by_the_others() -> None:
    first = ("silhouette_iou", "psnr_db", "brightness_ratio", "area", "components", "watertight", "chamfer")
    older = {name: GOOD[name] for name in first}
    assert limits_failed(older) == set()
    assert limits_failed(older | {"area": 0.001}) == {"min_area"}
    records = {"a": make_record({}, item_id="a", quality=older)}
    assert worst_first(records, GateParams()) == ["a"]


@pytest.mark.parametrize(("limit", "ask"), BOUNDS.items(), ids=BOUNDS)
def test_a_figure_at_its_limit_passes_and_one_beyond_it_does_not(limit: str, ask: float) -> None:
    side, _, figure = limit.partition("_")
    beyond = np.nextafter(ask, -np.inf if side == "min" else np.inf)
    assert figure in FIGURES
    assert limits_failed({**GOOD, figure: ask}) == set()
    assert limits_failed({**GOOD, figure: float(beyond)}) == {limit}


def test_a_brightness_at_either_end_of_its_range_passes_and_one_beyond_it_does_not() -> None:
    for end, outwards in ((0.5, -np.inf), (2.0, np.inf)):
        assert limits_failed({**GOOD, "brightness_ratio": end}) == set()
        beyond = float(np.nextafter(end, outwards))
        assert limits_failed({**GOOD, "brightness_ratio": beyond}) == {"brightness_range"}


def test_every_figure_has_its_words_on_the_page() -> None:
    assert set(report_gate.TITLES) == set(FIGURES)


def test_reasons_say_what_failed_by_how_much() -> None:
    bad = {
        "silhouette_iou": 0.4137,
        "side_ratio": 1.668,
        "flipped_iou_gain": 0.19,
        "flipped_psnr_gain_db": 8.23,
        "best_view_iou": 0.3,
        "psnr_db": 8.2,
        "brightness_ratio": 0.31,
        "area": 0.0004,
        "area_to_hull": 11.9,
        "outward_share": 0.357,
        "components": 812,
        "watertight": False,
        "chamfer": 0.21,
        "normal_consistency": 0.56,
    }
    assert [str(reason) for reason in verdict(bad, GateParams(require_watertight=True))] == [
        "silhouette IoU 0.414 < 0.75",
        "side ratio 1.67 > 1.3",
        "IoU gained by a flip 0.19 > 0.03",
        "PSNR gained by a flip 8.23 > 2 dB",
        "best-view IoU 0.3 < 0.4",
        "PSNR 8.2 < 10 dB",
        "brightness 0.31 < 0.5",
        "area 0.0004 < 0.02",
        "area to hull 11.9 > 3",
        "outward share 0.357 < 0.6",
        "components 812 > 100",
        "not watertight",
        "Chamfer 0.21 > 0.1",
        "normal consistency 0.56 < 0.65",
    ]
    (bright,) = verdict({**GOOD, "brightness_ratio": 2.5}, GateParams())
    (close,) = verdict({**GOOD, "silhouette_iou": 0.74999}, GateParams())
    assert (str(bright), str(close)) == ("brightness 2.5 > 2", "silhouette IoU 0.74999 < 0.75")
    assert verdict(bad, NO_LIMITS) == []


def test_a_figure_that_an_item_lacks_fails_no_limit() -> None:
    assert verdict(dict.fromkeys(GOOD) | {"area": 1.0, "components": 1, "watertight": True}, GateParams()) == []


def test_a_range_that_descends_is_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"brightness_range must ascend: \[2\.0, 0\.5\]"):
        GateParams(brightness_range=(2, 0.5))


def test_limits_stay_out_of_the_key_and_views_do_not(tmp_path: Path) -> None:
    def key_of(**block: Any) -> str:
        params = Params({"gate": block})
        return make_recipe(Gate(), params, {}, make_workspace(tmp_path), lambda _: "").name

    strict = {"min_silhouette_iou": 0.9, "max_chamfer": None, "min_accepted_share": 0.9, "brightness_range": None}
    assert key_of() == key_of(**strict)
    assert len({key_of(), key_of(views=["front"]), key_of(num_points=500), key_of(platform="osmesa")}) == 4


def test_it_reads_the_mesh_the_chosen_views_their_cameras_and_the_truth() -> None:
    params = Params({"gate": {"views": ["front", "top"]}})
    records = make_item(
        {
            "teach": {"mesh.glb": b"m", "gaussians.ply": b"g"},
            "matte": {"view.front.png": b"f", "view.back.png": b"b", "cameras.json": b"{}", "crops.json": b"{}"},
            "ingest": {"mesh.glb": b"t"},
        },
        facts={"ingest": {"has_truth": True}},
    ).records
    read = [("teach", "mesh.glb"), ("matte", "view.front.png"), ("matte", "cameras.json"), ("ingest", "mesh.glb")]
    assert Gate().reads(records, params) == read
    assert Gate().skip(records, params) is None
    none_of_them = Params({"gate": {"views": ["top"]}})
    assert Gate().reads(records, none_of_them)[1] == ("matte", "view.back.png")
    without = {**records, "teach": make_record({"gaussians.ply": b"g", "size.json": b"s", "latents.npz": b"l"})}
    assert [name for stage, name in Gate().reads(without, params) if stage == "teach"] == ["gaussians.ply"]
    assert Gate().skip(without, params) is None
    of_no_kind = {"teach": make_record({"latents.npz": b"l"})}
    assert "of no kind known here; install the package" in (Gate().skip(of_no_kind, params) or "")


def gate_records(*qualities: dict[str, Any]) -> dict[str, tuple[Record, dict[str, bytes]]]:
    """Gate records item-0, item-1...: GOOD with these figures changed."""
    files = {"gate.png": encode_png(np.full((16, 32, 3), 200, np.uint8))}
    records = {}
    for number, quality in enumerate(qualities):
        item_id = f"item-{number}"
        record = make_record(files, item_id=item_id, quality={**GOOD, **quality}, facts={"cameras": True})
        records[item_id] = (record, files)
    return records


def ingested(count: int) -> dict[str, tuple[Record, dict[str, bytes]]]:
    files = {"mesh.glb": b"truth"}
    facts = {"split": "train", "has_truth": True, "class": "ball"}
    labelled = {f"item-{number}": {**facts, "label": f"shoe{number}"} for number in range(count)}
    return {item_id: (make_record(files, item_id=item_id, facts=own), files) for item_id, own in labelled.items()}


MIXED = ({}, {"silhouette_iou": 0.41}, {"silhouette_iou": 0.2, "area": 0.001}, {"psnr_db": None})


def gate_context(folder: Path, **limits: Any) -> Context:
    return make_context(folder, {"gate": limits}, upstreams={"ingest": ingested(4), "gate": gate_records(*MIXED)})


def test_metrics_count_verdicts_and_name_the_rejected(tmp_path: Path) -> None:
    context = gate_context(tmp_path)
    metrics = Gate().metrics(context.upstreams["gate"].records.values(), context)
    assert (metrics["accepted"], metrics["rejected"], metrics["share"]) == (2, 2, 0.5)
    assert metrics["rejected_by"] == {"min_area": 1, "min_silhouette_iou": 2}
    assert metrics["median"]["silhouette_iou"] == pytest.approx((0.41 + 0.98) / 2)
    assert metrics["median"]["psnr_db"] == 24.0
    assert metrics["rejected_items"] == [
        {"id": "item-1", "label": "shoe1", "reasons": ["silhouette IoU 0.41 < 0.75"]},
        {"id": "item-2", "label": "shoe2", "reasons": ["silhouette IoU 0.2 < 0.75", "area 0.001 < 0.02"]},
    ]


def test_explain_is_told_the_verdict(tmp_path: Path) -> None:
    records, params = gate_context(tmp_path).upstreams["gate"].records, Params({})
    assert Gate().remark(records["item-0"], params) == "accepted"
    assert Gate().remark(records["item-1"], params) == "rejected: silhouette IoU 0.41 < 0.75"


def test_the_worst_come_first(tmp_path: Path) -> None:
    records = gate_context(tmp_path).upstreams["gate"].records
    assert worst_first(records, GateParams()) == ["item-2", "item-1", "item-0", "item-3"]


GATED = {"student": "mesh_deform"}
"""A student that learns from the teacher, and so from accepted items alone."""


def training_context(folder: Path, **limits: Any) -> Context:
    facts = {"encoder": "toy", "channels": 8, "grid": [4, 4], "views": ["front"]}
    upstreams: dict[str, Any] = {"ingest": ingested(4), "gate": gate_records(*MIXED), "features": {}, "teach": {}}
    for item_id in upstreams["ingest"]:
        for stage, name in (("features", "grids.safetensors"), ("teach", "mesh.glb")):
            upstreams[stage][item_id] = (make_record({name: b"x"}, item_id=item_id, facts=facts), {name: b"x"})
    return make_context(folder, {"gate": limits, "train": GATED}, upstreams=upstreams)


def trained_on(context: Context) -> list[str]:
    return ids_of(context, context.params.stage("gate"))


def ids_of(context: Context, limits: GateParams | None) -> list[str]:
    found = find_sources(mesh_deform.needs(mesh_deform.Params()), context.upstreams, ("train",), limits, context.params)
    return [source.id for source in found.chosen]


def test_training_takes_what_the_gate_accepts_and_nothing_it_has_not_measured(tmp_path: Path) -> None:
    context = training_context(tmp_path)
    assert trained_on(context) == ["item-0", "item-3"]
    assert trained_on(training_context(tmp_path, min_silhouette_iou=0.3)) == ["item-0", "item-1", "item-3"]
    del context.upstreams["gate"].records["item-0"]  # type: ignore[attr-defined]  # a dict, here
    assert trained_on(context) == ["item-3"]
    assert ids_of(context, None) == [f"item-{number}" for number in range(4)]


def test_a_limit_changes_trainings_key_only_where_it_changes_a_verdict(tmp_path: Path) -> None:
    def key(**limits: Any) -> tuple[tuple[str, str], ...]:
        (wanted,) = Train().wanted(training_context(tmp_path, **limits))
        return wanted.inputs

    assert key() == key(min_silhouette_iou=0.5) == key(min_accepted_share=0.1)
    assert key() != key(min_silhouette_iou=0.3)


def test_training_refuses_a_collection_of_which_too_little_is_accepted(tmp_path: Path) -> None:
    assert Train().refusal(training_context(tmp_path, min_accepted_share=0.5)) is None
    assert Train().refusal(training_context(tmp_path, min_accepted_share=0.6)) == (
        "the gate accepts 2 of 4 items (50%), under gate.min_accepted_share = 60%. Rejected: 2 by "
        "gate.min_silhouette_iou (shoe1: silhouette IoU 0.41 < 0.75), 1 by gate.min_area (shoe2: area 0.001 < 0.02). "
        "Look at artifacts/gate/metrics.json and at the picture gate/gate.png that `lostwax show shoe1 -o DIR` writes; "
        "then mend the teacher's settings, or the limits in the gate block"
    )


def test_an_unmeasured_collection_has_no_share() -> None:
    assert tally([], GateParams()) == Tally(0, {})
    assert Tally(0, {}).share is None


class Refusing(Toy):
    """Will not start."""

    def refusal(self, context: Context) -> str | None:
        return "too little of it is good"


def test_a_refused_stage_ends_with_5_and_leaves_what_was_published(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    params = Params({"run": {"workers": 1}}, [Toy()])
    fill(workspace, plain(2))
    assert run_stage(Toy(), workspace, params, {}).exit_code == OK
    published = workspace.items_file("toy").read_bytes()
    fill(workspace, plain(3))
    outcome = run_stage(Refusing(), workspace, params, {})
    assert (outcome.exit_code, outcome.computed) == (STOPPED, 0)
    assert outcome.message.startswith("too little of it is good")
    assert workspace.items_file("toy").read_bytes() == published


def publish(workspace: Workspace, stage: str, items: dict[str, dict[str, bytes]], facts: dict[str, Any]) -> None:
    """A collection as its stage would have left it."""
    spool = Spool(workspace.local(stage), workspace.shards_dir(stage))
    workspace.local(stage).mkdir(parents=True)
    lines = []
    for item_id, files in sorted(items.items()):
        record = make_record(files, item_id=item_id, facts={**facts, "label": item_id})
        spool.append(*encode_item(record, files))
        lines.append(to_line(record))
    spool.seal()
    workspace.artifacts(stage).mkdir(parents=True, exist_ok=True)
    workspace.items_file(stage).write_bytes(b"".join(lines))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Three balls up to features: one taught well, one raised and one as a speck."""
    params = {"run": {"workers": 1}, "gate": {"num_points": 500}, "train": GATED}
    workspace = make_workspace(tmp_path_factory.mktemp("gate"), params)
    taught = {"good": TRUTH, "raised": ball(at=(0, 0.25, 0)), "speck": ball(0.01)}
    features = {"encoder": "toy", "channels": 8, "grid": [4, 4], "views": ["front"]}
    truths = {"split": "train", "has_truth": True, "class": "ball"}
    publish(workspace, "ingest", {name: {"mesh.glb": TRUTH.to_glb()} for name in taught}, truths)
    publish(workspace, "matte", dict.fromkeys(taught, inputs()), {})
    publish(workspace, "features", {name: {"grids.safetensors": b"grids"} for name in taught}, features)
    publish(workspace, "teach", {name: {"mesh.glb": mesh.to_glb()} for name, mesh in taught.items()}, {})
    for stage in {*Train.upstreams} - {"ingest", "matte", "features", "teach", "gate"}:
        publish(workspace, stage, {}, {})
    ended = run_task("gate", workspace)
    assert ended.exit_code == OK, ended.stderr
    return workspace


def run_gate(workspace: Workspace, report: Any = lambda _: None, **limits: Any) -> tuple[int, dict[str, Any]]:
    """How many items a run computed, and its metrics.json."""
    params = Params({"run": {"workers": 1}, "gate": {"num_points": 500, **limits}})
    outcome = run_stage(Gate(), workspace, params, check_versions(workspace, params), report=report)
    assert outcome.exit_code == OK
    return outcome.computed, json.loads(workspace.metrics_file("gate").read_text())


def test_another_limit_renders_nothing_and_judges_anew(workshop: Workspace) -> None:
    items = workshop.items_file("gate").read_bytes()
    computed, metrics = run_gate(workshop, min_silhouette_iou=0.1, max_chamfer=None)
    assert (computed, metrics["accepted"]) == (0, 2)
    assert workshop.items_file("gate").read_bytes() == items
    computed, metrics = run_gate(workshop)
    assert (computed, metrics["accepted"]) == (0, 1)
    assert [entry["label"] for entry in metrics["rejected_items"]] == ["raised", "speck"]


def test_the_train_command_refuses_with_exit_code_5_and_says_why(workshop: Workspace) -> None:
    ended = run_task("train", workshop)
    assert ended.exit_code == STOPPED
    assert "the gate accepts 1 of 3 items (33%), under gate.min_accepted_share = 50%" in ended.stderr
    assert "`lostwax show raised -o DIR`" in ended.stderr
    assert not workshop.items_file("train").exists()


def test_the_worst_items_make_a_sheet_with_their_reasons(workshop: Workspace) -> None:
    items = contact_sheet.worst_items(workshop, GateParams())
    assert [item.label for item in items] == ["speck", "raised", "good"]
    assert [bool(item.reasons) for item in items] == [True, True, False]
    image = Image.open(io.BytesIO(contact_sheet.draw(items)))
    assert image.size == (3 * 262, 128 + 30 + 6)
    assert image.getpixel((1, 60)) == pytest.approx(contact_sheet.REJECTED, abs=40)
    assert image.getpixel((2 * 262 + 1, 60)) == pytest.approx(contact_sheet.PAPER, abs=20)


def test_the_first_items_of_a_run_can_be_looked_at_while_it_runs(workshop: Workspace) -> None:
    spool = Spool(workshop.local("gate"), workshop.shards_dir("gate"))
    for record, files in gate_records(*MIXED).values():
        spool.append(*encode_item(record, files))
    try:
        shown = contact_sheet.first_items(workshop, GateParams(), most=3)
        assert [(item.label, len(item.reasons)) for item in shown] == [("item-0", 0), ("item-1", 1), ("item-2", 2)]
        assert len(contact_sheet.first_items(workshop, GateParams())) == 4
    finally:
        for path in workshop.local("gate").glob("spool-*.tar"):
            path.unlink()
    assert contact_sheet.first_items(workshop, GateParams()) == []


def test_a_label_in_any_script_can_be_written_on_the_sheet() -> None:
    black = encode_png(np.zeros((16, 32, 3), np.uint8))
    shown = contact_sheet.Shown("靴-ø-\N{ATHLETIC SHOE}" * 20, ("Chamfer 0.2 > 0.1",), black)
    assert Image.open(io.BytesIO(contact_sheet.draw([shown] * 5))).size == (4 * 262, 2 * 164)


def test_the_page_shows_the_share_the_limits_and_the_worst_items(tmp_path: Path) -> None:
    context = gate_context(tmp_path, max_chamfer=None)
    limits = context.params.stage("gate")
    section = report_gate.section(context.upstreams, limits, 3)
    assert "2 of 4 of the teacher’s outputs are accepted (50%); training asks for 50%." in section
    assert section.count("data:image/webp;base64,") == 3
    assert "silhouette IoU 0.2 &lt; 0.75, area 0.001 &lt; 0.02" in section
    assert section.index("shoe2") < section.index("shoe1") < section.index("shoe0")
    assert "max_chamfer" not in section
    nothing = make_context(tmp_path, upstreams={"ingest": {}, "gate": {}}).upstreams
    assert "No output of the teacher has been measured" in report_gate.section(nothing, limits, 3)


@cache
def splats() -> bytes:
    """Gaussians on the truth."""
    up_N3 = np.tile(np.array([0.0, 1.0, 0.0]), (len(TRUTH.vertices_N3), 1))
    return splats_on(TRUTH, up_N3, up_N3.astype(np.float32), 40, np.random.default_rng(0)).to_ply()


def gated_splats(folder: Path, **views: Any) -> Output:
    item = make_item(
        {
            "teach": {"gaussians.ply": splats()},
            "matte": views or inputs(),
            "ingest": {"mesh.glb": TRUTH.to_glb()},
        },
        facts={"ingest": {"has_truth": True, "label": "ball"}},
    )
    return start(Gate(), folder, {"gate": {"num_points": 2_000}})(item)


NOT_FLIPPED = {"silhouette_iou", "side_ratio", "psnr_db", "brightness_ratio"}
OF_VIEWS = NOT_FLIPPED | {"flipped_iou_gain", "flipped_psnr_gain_db"}


def known(quality: Any) -> dict[str, Any]:
    return {name: value for name, value in quality.items() if value is not None}


def draw_truth(cast: Any, cameras: Any, size_px: int) -> Any:
    """As Gaussians that look just like the truth would be drawn."""
    return render(TRUTH, cameras, size_px).rgba_VHW4


def test_a_kind_that_can_be_drawn_has_the_figures_of_the_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.casts.gaussians.rendering", draw_truth)
    output, of_mesh_ = gated_splats(tmp_path), gated(tmp_path, TRUTH)
    assert known(output.quality) == {name: of_mesh_.quality[name] for name in OF_VIEWS}
    assert {name: output.facts[name] for name in ("judged", "kinds", "colours")} == {
        "judged": "gaussians",
        "kinds": ["gaussians"],
        "colours": True,
    }
    assert output.files == of_mesh_.files
    photo = render(TRUTH, [orbit_camera(0, 12, 2.7, 40, SIZE_PX)], SIZE_PX).rgba_VHW4[0]
    unposed = gated_splats(tmp_path, **{"view.front.png": encode_png(photo)})
    assert unposed.quality["best_view_iou"] > 0.9


def test_a_kind_that_has_a_surface_has_all_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.casts.gaussians.surface", lambda cast: TRUTH)
    output, of_mesh_ = gated_splats(tmp_path), gated(tmp_path, TRUTH)
    assert output.quality["chamfer"] == pytest.approx(of_mesh_.quality["chamfer"], abs=1e-4)
    assert known(output.quality).keys() == known(of_mesh_.quality).keys()
    assert limits_failed(output.quality) == set()


def test_what_is_drawn_from_the_given_cameras_alone_is_not_flipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(cast: Any, cameras: Any, size_px: int) -> Any:
        return draw_truth(cast, cameras, size_px) if len(cameras) <= len(VIEWS) else None

    monkeypatch.setattr("models.casts.gaussians.rendering", draw)
    assert known(gated_splats(tmp_path).quality).keys() == NOT_FLIPPED


def test_a_mesh_is_judged_before_all_else_and_its_record_does_not_say_so(tmp_path: Path) -> None:
    assert {"judged", "kinds"}.isdisjoint(gated(tmp_path, TRUTH).facts)


def test_what_cannot_be_measured_is_accepted_and_counted(tmp_path: Path) -> None:
    output = gated_splats(tmp_path)
    assert set(output.quality.values()) == {None}
    assert set(output.quality) == {*FIGURES, "watertight"}
    record = make_record(dict(output.files), item_id="item-9", quality=output.quality, facts=output.facts)
    strict = GateParams(require_watertight=True, min_silhouette_iou=1)
    assert tally([record], strict) == Tally(1, {}, ("item-9",))
    assert Gate().remark(record, Params({})).startswith("accepted unmeasured")
    assert gated_splats(tmp_path, **{"crops.json": b"{}"}).files["gate.png"], "without views, too"
