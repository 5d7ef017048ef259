"""What the gate's defaults make of whole kinds of bad meshes, where the cameras of the views are known."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from models.geometry import Mesh
from models.normalise import MeshFile, normalise
from models.teachers import Site, visual_hull
from tasks.stages.gate import Gate
from tasks.stages.gate.verdict import GateParams, verdict
from tasks.stages.teach import read_views
from tasks.stages.views import ViewsParams, camera_set, render_mesh
from tests.spoilt_meshes import crumpled, inside_out, scaled, shattered
from tests.support import make_item, start

REAL_OBJECTS = Path(__file__).parents[3].parent / "shared" / "data" / "objects"
FEW_POINTS = {"gate": {"num_points": 2_000}}
LENGTHS = {"x": (0.6, 1, 1), "y": (1, 0.6, 1), "z": (1, 1, 0.6)}
MIRRORS = {"x": (-1, 1, 1), "y": (1, -1, 1), "z": (1, 1, -1)}


def as_mesh(shape: trimesh.Trimesh, rgb_N3: np.ndarray) -> Mesh:
    """In the canonical frame."""
    low, high = shape.bounds
    vertices_N3 = (shape.vertices - (low + high) / 2) / (high - low).max()
    colours_N4 = np.column_stack([rgb_N3, np.full(len(rgb_N3), 255)]).astype(np.uint8)
    return Mesh(vertices_N3.astype(np.float32), shape.faces.astype(np.int32), colours_N4)


@cache
def mug() -> Mesh:
    """Plain grey; only its handle tells its sides apart."""
    body = trimesh.creation.cylinder(radius=0.35, height=0.9, sections=48)
    handle = trimesh.creation.torus(major_radius=0.14, minor_radius=0.03)
    handle.apply_translation([0.3, 0, 0])
    upright = trimesh.transformations.rotation_matrix(-np.pi / 2, [1, 0, 0])
    body.apply_transform(upright)
    whole = trimesh.util.concatenate([body, handle])
    return as_mesh(whole, np.full((len(whole.vertices), 3), 150))


@cache
def bus() -> Mesh:
    """A box, longer than wide and wider than high; only the colours of its ends, sides and roof tell them apart."""
    box = trimesh.creation.box(extents=(1, 0.4, 0.5))
    for _ in range(4):
        box = box.subdivide()
    x, y, z = box.vertices.T
    red = np.where(x > 0.3, 230, 90)  # the front
    green = np.where((z > 0.2) & (y < 0), 220, 60)  # a stripe along one side
    blue = np.where(y > 0.15, 200, 60)  # the roof
    return as_mesh(box, np.stack([red, green, blue], axis=1))


@cache
def views_of(glb: bytes, size_px: int) -> dict[str, bytes]:
    """Views of a mesh, with their cameras."""
    files = render_mesh(glb, camera_set(ViewsParams(size_px=size_px)), ViewsParams(size_px=size_px)).files
    return {name: data for name, data in files.items() if not name.startswith("depth.")}


def rejected_by(folder: Path, taught: Mesh, glb: bytes, *, truth: bool, size_px: int = 64) -> set[str]:
    """The limits that a teacher's mesh fails by default. glb: what it was shown, and should have made."""
    item = make_item(
        {"teach": {"mesh.glb": taught.to_glb()}, "matte": views_of(glb, size_px), "ingest": {"mesh.glb": glb}},
        facts={"ingest": {"has_truth": truth}},
    )
    quality = start(Gate(), folder, FEW_POINTS)(item).quality
    return {reason.limit for reason in verdict(quality, GateParams())}


both_with_and_without_truth = pytest.mark.parametrize("truth", [True, False], ids=["truth", "no truth"])
both_objects = pytest.mark.parametrize("shown", [mug, bus])


@both_with_and_without_truth
@both_objects
def test_what_was_shown_is_accepted(tmp_path: Path, shown: Any, truth: bool) -> None:
    assert rejected_by(tmp_path, shown(), shown().to_glb(), truth=truth) == set()


@both_with_and_without_truth
@both_objects
@pytest.mark.parametrize("axis", LENGTHS)
def test_a_mesh_squashed_to_60_percent_has_other_proportions(
    tmp_path: Path, shown: Any, truth: bool, axis: str
) -> None:
    squashed = scaled(shown(), LENGTHS[axis])
    assert "max_side_ratio" in rejected_by(tmp_path, squashed, shown().to_glb(), truth=truth)


@both_with_and_without_truth
@pytest.mark.parametrize("axis", MIRRORS)
def test_a_mirrored_bus_is_told_by_its_colours_alone(tmp_path: Path, truth: bool, axis: str) -> None:
    mirrored = scaled(bus(), MIRRORS[axis])
    assert rejected_by(tmp_path, mirrored, bus().to_glb(), truth=truth) == {"max_flipped_psnr_gain_db"}


def test_a_mirrored_mug_is_told_by_its_handle(tmp_path: Path) -> None:
    mirrored = scaled(mug(), MIRRORS["x"])
    assert "max_flipped_iou_gain" in rejected_by(tmp_path, mirrored, mug().to_glb(), truth=False)
    colourless = replace(mirrored, colours_N4=None)
    assert rejected_by(tmp_path, colourless, mug().to_glb(), truth=False) == {"max_flipped_iou_gain"}


def test_a_mug_mirrored_along_its_handle_is_the_same_mug(tmp_path: Path) -> None:
    mirrored = scaled(mug(), MIRRORS["z"])
    assert rejected_by(tmp_path, mirrored, mug().to_glb(), truth=True) == set()


@both_with_and_without_truth
@both_objects
def test_an_object_turned_by_half_or_upside_down_is_told(tmp_path: Path, shown: Any, truth: bool) -> None:
    for signs in ((-1, 1, -1), (-1, -1, 1)):
        found = rejected_by(tmp_path, scaled(shown(), signs), shown().to_glb(), truth=truth)
        assert {"max_flipped_iou_gain", "max_flipped_psnr_gain_db"} & found


@both_objects
def test_shattered_triangles_bound_no_solid(tmp_path: Path, shown: Any) -> None:
    found = rejected_by(tmp_path, shattered(shown()), shown().to_glb(), truth=True)
    assert {"min_outward_share", "min_normal_consistency"} <= found
    assert "min_outward_share" in rejected_by(tmp_path, shattered(shown()), shown().to_glb(), truth=False)


def test_a_crumpled_surface_has_too_much_area_for_its_hull(tmp_path: Path) -> None:
    found = rejected_by(tmp_path, crumpled(bus(), 0.04), bus().to_glb(), truth=True)
    assert {"max_area_to_hull", "min_normal_consistency"} <= found


@both_with_and_without_truth
@both_objects
def test_a_mesh_that_is_inside_out_is_rejected_for_just_that(tmp_path: Path, shown: Any, truth: bool) -> None:
    assert rejected_by(tmp_path, inside_out(shown()), shown().to_glb(), truth=truth) == {"min_outward_share"}


@pytest.mark.skipif(not REAL_OBJECTS.is_dir(), reason="../shared/data is not here")
@pytest.mark.parametrize("name", ["gso_SCHOOL_BUS", "ycb_knife"])
def test_the_hull_of_a_real_object_passes_and_what_is_wrong_with_it_does_not(tmp_path: Path, name: str) -> None:
    """The knife is the thinnest of all objects there: it has the lowest silhouette IoU."""
    glb = normalise(MeshFile((REAL_OBJECTS / f"{name}.glb").read_bytes(), "glb"), up_axis="z").glb
    teacher = visual_hull.create(visual_hull.Params(), Site())
    taught = teacher.generate(read_views(make_item({"matte": views_of(glb, 128)})), seed=0).mesh
    assert rejected_by(tmp_path, taught, glb, truth=True, size_px=128) == set()
    wrong = {
        "squashed": scaled(taught, LENGTHS["x"]),
        "mirrored": scaled(taught, MIRRORS["x"]),
        "shattered": shattered(taught),
    }
    for kind, mesh in wrong.items():
        assert rejected_by(tmp_path, mesh, glb, truth=False, size_px=128), kind
