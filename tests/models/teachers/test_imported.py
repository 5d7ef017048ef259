"""Imported results: which files belong to which item, what is read of them, in which frame, and what is refused."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from models.errors import BadInput
from models.gaussians import Gaussians, sh_dc_from_rgb
from models.geometry import Mesh, sample_surface
from models.hosting.canonical import Placement
from models.normalise import TO_Y_UP
from models.teachers import Site, TeacherOutput
from models.teachers.imported import Imported, Params, create, find_files
from models.views import Views
from tasks.stages.teach import accept

LICENCE = "CC0-1.0"
FROM_Y_UP_TO_TRELLIS = TO_Y_UP["z"].T
SAVE_PLY = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""What TRELLIS's save_ply does by default: (x, y, z) -> (x, -z, y)."""


def teacher(**block: Any) -> Imported:
    return create(Params(folder="runs", licence=LICENCE, **block), Site())


def take(*paths: Path, **block: Any) -> TeacherOutput:
    """What the teacher makes of these files."""
    views = Views(("front",), np.zeros((1, 2, 2, 4), np.uint8), files=paths)
    return teacher(**block).generate(views, seed=0)


def write(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    paths = []
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        paths.append(path)
    return paths


def boot() -> Mesh:
    """Canonical, unequal along every axis and direction: tall in Y, its mass low and to the front (+Z)."""
    leg = trimesh.creation.box((0.3, 1, 0.3)).subdivide().subdivide()
    foot = trimesh.creation.box((0.28, 0.2, 0.3)).subdivide()
    foot.apply_translation((0, -0.39, 0.25))
    both = trimesh.util.concatenate([leg, foot])
    own = Mesh(both.vertices.astype(np.float32), both.faces.astype(np.int32))
    return Placement.of(own.vertices_N3, np.eye(3)).mesh(own)


BOOT = boot()


def turned(rotation_33: np.ndarray, scale: float = 1.0, shift: float = 0.0) -> Mesh:
    """The boot in another frame."""
    return replace(BOOT, vertices_N3=(scale * BOOT.vertices_N3 @ rotation_33.T + shift).astype(np.float32))


def glb(mesh: Mesh = BOOT) -> bytes:
    return mesh.to_glb()


def splats(rotation_33: np.ndarray | None = None, scale: float = 1.0, shift: float = 0.0, num: int = 500) -> Gaussians:
    """On the boot's surface, in the frame that the rotation leads to."""
    points_N3, _ = sample_surface(BOOT, num, np.random.default_rng(1))
    rotation_33 = np.eye(3) if rotation_33 is None else rotation_33
    return Gaussians(
        means_N3=(scale * points_N3 @ rotation_33.T + shift).astype(np.float32),
        log_scales_N3=np.full((num, 3), np.log(0.01 * scale), np.float32),
        rotations_N4=np.tile(np.array([1, 0, 0, 0], np.float32), (num, 1)),
        opacity_logits_N=np.full(num, 3, np.float32),
        sh_dc_N3=sh_dc_from_rgb(np.full((num, 3), 0.5, np.float32)),
    )


def saved(value: Any) -> bytes:
    """As torch.save writes it."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


COORDS_N4 = np.column_stack([np.zeros(40), np.arange(120).reshape(40, 3) % 60]).astype(np.int32)
FEATS_N8 = np.random.default_rng(2).normal(size=(40, 8)).astype(np.float32)


def fresnel(**others: bytes) -> dict[str, bytes]:
    """A folder as fresnel's generator leaves it, and the mesh that it does not make."""
    to_file_33 = SAVE_PLY @ FROM_Y_UP_TO_TRELLIS
    coords, feats = torch.from_numpy(COORDS_N4), torch.from_numpy(FEATS_N8)
    made = {
        "image.png": b"png",
        "features.pt": b"never read",
        "coords.pt": saved(coords),
        "slat.pt": saved({"feats": feats, "coords": coords}),
        "gaussians.ply": splats(to_file_33).to_ply(),
        "metadata.json": json.dumps({"num_gaussians": 500, "num_occupied_voxels": 40, "seed": 42}).encode(),
        "mesh.glb": glb(),
    }
    return made | others


def shoe(mesh: Mesh = BOOT) -> dict[str, Any]:
    """What the shoes project caches of a shoe."""
    vertices, faces = torch.from_numpy(mesh.vertices_N3), torch.from_numpy(mesh.faces_F3.astype(np.int64))
    return {"vertices": vertices, "faces": faces, "vertex_normals": torch.zeros_like(vertices)}


def listed(folder: Path, labels: list[str], **block: Any) -> dict[str, list[str] | str]:
    """Per label the paths of its files under the folder, or why it has none. Ids are the labels."""
    params = Params(folder=str(folder), licence=LICENCE, **block)
    files_of = find_files(params, Path("/nowhere"), {label: label for label in labels})
    found: dict[str, list[str] | str] = {}
    for label in labels:
        try:
            found[label] = [str(path.relative_to(folder)) for path in files_of(label)]
        except BadInput as error:
            found[label] = str(error)
    return found


def test_a_licence_must_be_stated():
    with pytest.raises(ValueError, match="state the licence"):
        Params(folder="runs", licence=" ")
    assert teacher().licence == LICENCE


def test_a_mesh_of_any_size_and_place_is_brought_into_the_canonical_frame(tmp_path):
    for suffix in ("glb", "obj", "ply", "stl"):
        own = turned(np.eye(3), scale=30, shift=7)
        exported = trimesh.Trimesh(own.vertices_N3, own.faces_F3, process=False).export(file_type=suffix)
        data = exported.encode() if isinstance(exported, str) else exported
        shape = take(*write(tmp_path, {f"boot.{suffix}": data}))
        assert np.abs(shape.mesh.vertices_N3).max() == pytest.approx(0.5, abs=1e-6)
        np.testing.assert_allclose(shape.mesh.extents, BOOT.extents, atol=1e-5)
        assert shape.quality["imported"] == [f"boot.{suffix}"]
        assert accept(shape)[1]["components"] == 2
        assert accept(shape)[1]["watertight"] is True


def test_z_up_files_end_along_y_with_their_front_at_z(tmp_path):
    paths = write(tmp_path, {"boot.glb": glb(turned(FROM_Y_UP_TO_TRELLIS))})
    mesh = take(*paths, up="z").mesh
    assert mesh.extents.argmax() == 1
    toes_N3 = mesh.vertices_N3[mesh.vertices_N3[:, 2] > mesh.vertices_N3[:, 2].max() - 0.01]
    assert toes_N3[:, 1].max() < -0.2
    assert take(*paths, up="y").mesh.extents.argmax() == 2


def test_vertex_colours_and_textures_become_vertex_colours(tmp_path):
    red = np.tile(np.array([200, 10, 20, 255], np.uint8), (len(BOOT.vertices_N3), 1))
    textured = trimesh.creation.box()
    uv = np.zeros((len(textured.vertices), 2))
    textured.visual = trimesh.visual.TextureVisuals(uv=uv, image=Image.new("RGB", (4, 4), (10, 20, 200)))
    painted, papered = write(
        tmp_path, {"painted.glb": glb(replace(BOOT, colours_N4=red)), "papered.glb": textured.export(file_type="glb")}
    )
    assert np.unique(take(painted).mesh.colours_N4, axis=0).tolist() == [[200, 10, 20, 255]]
    assert np.unique(take(papered).mesh.colours_N4, axis=0).tolist() == [[10, 20, 200, 255]]
    assert take(*write(tmp_path, {"bare.glb": glb()})).mesh.colours_N4 is None


def test_a_fresnel_folder_gives_gaussians_and_latents_in_the_meshs_frame(tmp_path):
    paths = [path for path in write(tmp_path, fresnel()) if path.name not in ("image.png", "features.pt")]
    shape = take(*paths)
    assert shape.gaussians is not None
    np.testing.assert_allclose(shape.gaussians.means_N3, splats().means_N3, atol=1e-5)
    np.testing.assert_array_equal(shape.latents["coords_N3"], COORDS_N4[:, 1:])
    np.testing.assert_array_equal(shape.latents["slat_N8"], FEATS_N8.astype(np.float16))
    assert shape.quality["placement"]["rotation"] == TO_Y_UP["z"].astype(int).tolist()
    assert shape.quality["gaussians_to_mesh"] < 0.02
    assert accept(shape)[1]["faces"] == len(shape.mesh.faces_F3)


def test_gaussians_follow_the_scale_and_the_place_of_the_mesh(tmp_path):
    own, ply = glb(turned(np.eye(3), scale=4, shift=2)), splats(scale=4, shift=2).to_ply()
    shape = take(*write(tmp_path, {"boot.glb": own, "boot.ply": ply}), gaussians_up="y")
    assert shape.gaussians is not None
    np.testing.assert_allclose(shape.gaussians.means_N3, splats().means_N3, atol=1e-5)
    np.testing.assert_allclose(shape.gaussians.log_scales_N3, np.log(0.01), atol=1e-4)


def test_gaussians_in_another_frame_than_said_are_told_apart(tmp_path):
    paths = write(tmp_path, {"boot.glb": glb(), "boot.ply": splats(FROM_Y_UP_TO_TRELLIS).to_ply()})
    with pytest.raises(BadInput, match=r"boot\.ply: its Gaussians lie .* with z up: set teachers\.imported\.gauss"):
        take(*paths)
    assert take(*paths, gaussians_up="z").gaussians is not None


def test_gaussians_of_another_object_are_refused(tmp_path):
    paths = write(tmp_path, {"boot.glb": glb(), "boot.ply": splats(shift=3).to_ply()})
    with pytest.raises(BadInput, match="of another object"):
        take(*paths)


def test_an_infinite_opacity_is_bounded_and_a_nan_is_refused(tmp_path):
    whole = splats()
    sure = replace(whole, opacity_logits_N=np.full(500, np.inf, np.float32))
    shape = take(*write(tmp_path, {"boot.glb": glb(), "boot.ply": sure.to_ply()}), gaussians_up="y")
    assert shape.gaussians is not None
    assert set(shape.gaussians.opacity_logits_N.tolist()) == {15.0}
    means_N3 = whole.means_N3.copy()
    means_N3[3] = np.nan
    broken = replace(whole, means_N3=means_N3).to_ply()
    with pytest.raises(BadInput, match=r"boot\.ply: 1 of 500 Gaussians have means that are NaN"):
        take(*write(tmp_path, {"boot.glb": glb(), "boot.ply": broken}))


def test_scales_that_are_no_logarithms_are_refused(tmp_path):
    linear = replace(splats(), log_scales_N3=np.full((500, 3), 0.01, np.float32))
    with pytest.raises(BadInput, match="logarithms"):
        take(*write(tmp_path, {"boot.glb": glb(), "boot.ply": linear.to_ply()}))


def test_gaussians_alone_are_brought_into_the_canonical_frame_by_their_own_box(tmp_path):
    own = splats(FROM_Y_UP_TO_TRELLIS, scale=4, shift=2)
    means_N3, logits_N = own.means_N3.copy(), own.opacity_logits_N.copy()
    means_N3[7], logits_N[7] = 1000, -9  # one that nobody can see, far out, is not part of the box
    stray = replace(own, means_N3=means_N3, opacity_logits_N=logits_N)
    made, quality = accept(take(*write(tmp_path, {"gaussians.ply": stray.to_ply()}), gaussians_up="z"))
    assert made.mesh is None
    seen_N3 = np.delete(made.gaussians.means_N3, 7, axis=0)
    assert np.ptp(seen_N3, axis=0).max() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(seen_N3.min(axis=0) + seen_N3.max(axis=0), 0, atol=1e-6)
    placed_N3 = np.delete(splats().means_N3, 7, axis=0)
    centre_3 = (placed_N3.min(axis=0) + placed_N3.max(axis=0)) / 2
    np.testing.assert_allclose(seen_N3, (placed_N3 - centre_3) / np.ptp(placed_N3, axis=0).max(), atol=1e-5)
    assert quality == {"gaussians": 500, "imported": ["gaussians.ply"], "gaussians_up": "z"}


def test_neither_a_mesh_nor_gaussians_is_no_result(tmp_path):
    with pytest.raises(BadInput, match=r"neither a mesh nor Gaussians, only latents\.npz: decode it where it was made"):
        take(*write(tmp_path, {"latents.npz": npz(coords=COORDS_N4)}))


def test_a_shoe_of_the_cache_is_a_mesh(tmp_path):
    shape = take(*write(tmp_path, {"shoe001.pt": saved(shoe(turned(np.eye(3), scale=2)))}))
    np.testing.assert_allclose(shape.mesh.extents, BOOT.extents, atol=1e-5)
    assert shape.gaussians is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"faces": torch.zeros((0, 3), dtype=torch.int64)}, "points only"),
        ({"faces": torch.full((4, 3), 10**6)}, "refers to vertex 1000000"),
        ({"vertices": torch.full((9, 3), torch.nan), "faces": torch.ones((4, 3), dtype=torch.int64)}, "not finite"),
        ({"vertices": torch.zeros((9, 2))}, r"float32 of shape \(9, 2\)"),
        ({"vertices": torch.zeros(1).expand(10**9, 3)}, "claims more than"),
    ],
)
def test_a_broken_shoe_is_bad_input(tmp_path, change, message):
    with pytest.raises(BadInput, match=f"shoe.pt: .*{message}"):
        take(*write(tmp_path, {"shoe.pt": saved(shoe() | change)}))


class Evil:
    """What a pickle may do."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("/tmp/imported-was-run",)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("boot.glb", b"", r"boot\.glb is empty"),
        ("boot.glb", glb()[:-100], r"boot\.glb: truncated: the GLB's header says"),
        ("boot.glb", b"glTF" + bytes(40), r"boot\.glb: "),
        ("boot.stl", trimesh.creation.box().export(file_type="stl")[:-60], r"boot\.stl: "),
        ("boot.ply", trimesh.creation.box().export(file_type="ply")[:-60], r"boot\.ply: not a readable ply"),
        ("boot.glb", glb(turned(np.diag([1, 1, 1e-5]))), r"it is flat: its box is .* x 1 x "),
        ("boot.glb", glb(turned(np.eye(3), scale=1e-8)), "of no size that can be meant"),
        ("shoe.pt", saved(shoe())[:-200], r"shoe\.pt: not a whole zip archive"),
        ("shoe.pt", pickle.dumps(Evil()), r"shoe\.pt: not a whole zip archive"),
        ("shoe.pt", saved({"vertices": Evil()}), r"shoe\.pt: not a torch file of plain tensors"),
    ],
)
def test_a_broken_file_is_bad_input_with_its_name(tmp_path, name, data, message):
    with pytest.raises(BadInput, match=message):
        take(*write(tmp_path, {name: data}))
    assert not Path("/tmp/imported-was-run").exists()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("slat.pt", saved(torch.from_numpy(FEATS_N8[:30])), "40 voxels .* 30 latents .* not of one run"),
        ("slat.npy", npy(np.full((40, 8), 1e6, np.float32)), "too large for float16"),
        ("slat.npy", npy(FEATS_N8[:, :5]), r"float32 of shape \(40, 5\)"),
        ("slat.npy", npy(np.array([Evil()])), "Python objects"),
        ("slat.npy", npy(FEATS_N8)[:-4], "its header says 1280 bytes, there are 1276: cut short"),
        ("slat.npy", npy(FEATS_N8).replace(b"(40, 8)", b"(40,88)"), "cut short or damaged"),
        ("slat.npz", npz(coords=COORDS_N4 + np.array([0, 1, 0, 0], np.int32), feats=FEATS_N8), "different coords"),
        ("latents.npz", npz(coords=COORDS_N4 + 1), "several objects"),
        ("metadata.json", b'{"num_occupied_voxels": 41}', "metadata.json says num_occupied_voxels 41, there are 40"),
        ("metadata.json", b'{"num_occu', "cut short"),
    ],
)
def test_latents_that_do_not_fit_are_bad_input(tmp_path, name, data, message):
    files = {"mesh.glb": glb(), "coords.npy": npy(COORDS_N4[:, 1:]), name: data}
    with pytest.raises(BadInput, match=message):
        take(*write(tmp_path, files))


def test_latents_of_a_lostwax_result_are_taken(tmp_path):
    files = {"mesh.glb": glb(), "latents.npz": npz(coords_N3=COORDS_N4[:, 1:], slat_N8=FEATS_N8.astype(np.float16))}
    assert set(take(*write(tmp_path, files)).latents) == {"coords_N3", "slat_N8"}


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("coords.npy", npy(np.zeros((2_000_000, 3), np.int32)))
    assert len(buffer.getvalue()) < 1_000_000
    with pytest.raises(BadInput, match=r"boot\.npz: it unpacks to 24 MB, over 20 \(teachers\.imported\.max_file_mb\)"):
        take(*write(tmp_path, {"boot.glb": glb(), "boot.npz": buffer.getvalue()}), max_file_mb=20)


def test_limits_name_their_block(tmp_path):
    paths = write(tmp_path, {"boot.glb": glb()})
    with pytest.raises(BadInput, match=r"more than 20 triangles \(teachers\.imported\.max_triangles\)"):
        take(*paths, max_triangles=20)
    with pytest.raises(BadInput, match=r"is over 0 MB \(teachers\.imported\.max_file_mb\)"):
        take(*paths, max_file_mb=0.001)


def test_two_meshes_of_one_name_are_ambiguous(tmp_path):
    obj = trimesh.creation.box().export(file_type="obj").encode()
    with pytest.raises(BadInput, match=r"boot\.glb and boot\.obj are all meshes of one item"):
        take(*write(tmp_path, {"boot.glb": glb(), "boot.obj": obj}))


def test_without_files_it_makes_nothing():
    with pytest.raises(BadInput, match="no files"):
        take()


def test_files_of_one_name_belong_together(tmp_path):
    write(tmp_path, dict.fromkeys(["shoes/boot.glb", "shoes/boot.ply", "shoes/boot.npz", "shoes/boot.txt"], b"x"))
    assert listed(tmp_path, ["shoes/boot", "mugs/blue"]) == {
        "shoes/boot": ["shoes/boot.glb", "shoes/boot.npz", "shoes/boot.ply"],
        "mugs/blue": [],
    }


def test_a_folder_for_each_item_is_fresnels_layout(tmp_path):
    write(tmp_path, {f"run/{name}/{file}": b"x" for name in ("abo_1", "lpff_2") for file in fresnel()})
    taken = ["coords.pt", "gaussians.ply", "mesh.glb", "metadata.json", "slat.pt"]
    assert listed(tmp_path, ["abo_1", "faces/lpff_2", "abo"]) == {
        "abo_1": [f"run/abo_1/{name}" for name in taken],
        "faces/lpff_2": [f"run/lpff_2/{name}" for name in taken],
        "abo": [],
    }


def test_a_cache_of_pt_files_is_the_shoes_layout(tmp_path):
    write(tmp_path, {"metadata.json": b"{}", "shoe001.pt": b"x", "shoe002.pt": b"x"})
    labels = ["shoe001", "OBJs/shoe002/model", "OBJs/shoe003/model"]
    assert listed(tmp_path, labels) == {
        "shoe001": ["shoe001.pt"],
        "OBJs/shoe002/model": ["shoe002.pt"],
        "OBJs/shoe003/model": [],
    }


def test_the_front_photo_of_a_set_stands_for_it(tmp_path):
    write(tmp_path, {f"clog_{view}/gaussians.ply": b"x" for view in ("front", "left")})
    assert listed(tmp_path, ["clog"]) == {"clog": ["clog_front/gaussians.ply"]}


def test_equal_stems_in_different_folders_are_not_mixed_up(tmp_path):
    write(tmp_path, dict.fromkeys(["run/a/boot.glb", "run/b/boot.glb"], b"x"))
    assert listed(tmp_path, ["a/boot", "b/boot", "c/boot"]) == {
        "a/boot": ["run/a/boot.glb"],
        "b/boot": ["run/b/boot.glb"],
        "c/boot": [],
    }


def test_two_results_that_fit_one_item_alike_are_named(tmp_path):
    write(tmp_path, dict.fromkeys(["x/boot.glb", "y/boot.glb", "mug.glb"], b"x"))
    found = listed(tmp_path, ["a/boot", "a/mug"])
    assert str(found["a/boot"]).startswith("x/boot, y/boot fit a/boot equally well")
    assert found["a/mug"] == ["mug.glb"]


def test_one_result_that_fits_two_items_alike_is_given_to_neither(tmp_path):
    write(tmp_path, dict.fromkeys(["boot.glb", "mug.glb"], b"x"))
    found = listed(tmp_path, ["a/boot", "b/boot", "mug"])
    assert found["a/boot"] == found["b/boot"]
    assert str(found["a/boot"]).startswith("boot fits a/boot, b/boot alike")
    assert found["mug"] == ["mug.glb"]
    params = Params(folder=str(tmp_path), licence=LICENCE)
    with pytest.raises(BadInput, match="mug fits 2 items, all labelled mug"):
        find_files(params, tmp_path, {"1": "mug", "2": "mug"})("1")


def test_links_out_of_the_folder_are_refused_and_those_inside_are_followed(tmp_path):
    write(tmp_path, {"secret.glb": b"x", "elsewhere/mesh.glb": b"x", "runs/real.glb": b"x", "runs/other.glb": b"x"})
    runs = tmp_path / "runs"
    (runs / "boot.glb").symlink_to("../secret.glb")
    (runs / "dead.glb").symlink_to("nothing.glb")
    (runs / "clog").symlink_to("../elsewhere")
    (runs / "mug.glb").symlink_to("real.glb")
    (runs / "loop").symlink_to(".")
    os.mkfifo(runs / "pipe.glb")
    found = listed(runs, ["boot", "dead", "clog", "mug", "pipe", "other"])
    assert "boot.glb is a link that leads out of the folder" in str(found["boot"])
    assert "dead.glb is a link to nothing" in str(found["dead"])
    assert "clog is a link that leads out of the folder" in str(found["clog"])
    assert (found["mug"], found["pipe"], found["other"]) == (["mug.glb"], [], ["other.glb"])


def test_a_file_over_the_limit_is_refused_before_it_is_read(tmp_path):
    write(tmp_path, {"boot.glb": bytes(2_000_000)})
    assert "boot.glb has 2 MB, the limit is 1" in str(listed(tmp_path, ["boot"], max_file_mb=1)["boot"])


def test_a_missing_or_empty_folder_stops_the_stage(tmp_path):
    with pytest.raises(ValueError, match=r"there is no folder at .*gone \(teachers\.imported\.folder\)"):
        listed(tmp_path / "gone", [])
    write(tmp_path, {"boot.glb": b"x"})
    with pytest.raises(ValueError, match="holds nothing of the layout shoes"):
        listed(tmp_path, [], layout="shoes")


@pytest.mark.parametrize("label", ["{}/model", "thing_{}"])
def test_ten_thousand_items_are_matched(tmp_path, label):
    """Comparing each with each would take many minutes."""
    names = [label.format(index) for index in range(10_000)]
    write(tmp_path, {f"run/{name}.glb": b"x" for name in names[:9000]})
    found = listed(tmp_path, names)
    assert sum(len(files) == 1 for files in found.values()) == 9000
    assert sum(files == [] for files in found.values()) == 1000
