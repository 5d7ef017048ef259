"""Renders against what projection and coverage say they must be."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
import trimesh
from PIL import Image

from models.cameras import NAMED_AZIMUTHS_DEG, Camera, orbit_camera
from models.errors import BadInput, Unavailable
from models.geometry import Mesh
from models.meshfiles import Material, Part, Texture, write_glb
from models.rendering import PACKAGES, Renders, assets, context, render, turntable_grid, turntable_strip
from models.rendering.context import PLATFORMS, works

SIZE_PX, DISTANCE, FOV_DEG, RADIUS = 96, 2.7, 40.0, 0.4
WORKING = [platform for platform in PLATFORMS if works(platform)]
RED, BLUE = (200, 30, 30, 255), (30, 30, 200, 255)


def camera(azimuth_deg: float = 0.0, elevation_deg: float = 0.0, size_px: int = SIZE_PX) -> Camera:
    return orbit_camera(azimuth_deg, elevation_deg, DISTANCE, FOV_DEG, size_px)


def shape(mesh: trimesh.Trimesh, colour: tuple[int, int, int, int] | None = None) -> Mesh:
    colours = None if colour is None else np.tile(np.array(colour, np.uint8), (len(mesh.vertices), 1))
    return Mesh(np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int32), colours)


def sphere() -> Mesh:
    return shape(trimesh.creation.icosphere(subdivisions=4, radius=RADIUS))


def cube_at(x: float, y: float, z: float) -> Mesh:
    mesh = trimesh.creation.box((0.1, 0.1, 0.1))
    mesh.apply_translation((x, y, z))
    return shape(mesh)


def quad_glb(material: trimesh.visual.material.PBRMaterial) -> bytes:
    """A square of side 1 that faces +Z; u runs with x, and v with y."""
    vertices = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]])
    visual = trimesh.visual.TextureVisuals(uv=vertices[:, :2] + 0.5, material=material)
    return trimesh.Trimesh(vertices, [[0, 1, 2], [0, 2, 3]], visual=visual, process=False).export(file_type="glb")


def centroid_px(renders: Renders, view: int) -> np.ndarray:
    """Centre of the view's coverage, in pixels (x, y)."""
    alpha_HW = renders.rgba_VHW4[view, ..., 3].astype(float)
    rows, columns = np.indices(alpha_HW.shape) + 0.5
    return np.array([(alpha_HW * columns).sum(), (alpha_HW * rows).sum()]) / alpha_HW.sum()


def test_dark_vertex_colours_stay_dark_in_every_pixel():
    mesh = sphere()
    rng = np.random.default_rng(0)
    colours_N4 = np.full((len(mesh.vertices_N3), 4), 255, np.uint8)
    colours_N4[:, :3] = rng.choice([0, 30], (len(mesh.vertices_N3), 3))  # neighbours differ: extrapolated below 0
    rgba_HW4 = render(Mesh(mesh.vertices_N3, mesh.faces_F3, colours_N4), [camera(30, 20)], SIZE_PX).rgba_VHW4[0]
    inside_HW = rgba_HW4[..., 3] == 255
    assert rgba_HW4[inside_HW, :3].max() < 130


def test_cameras_may_come_in_any_order_of_distance():
    far, near = (orbit_camera(0, 0, distance, 20, SIZE_PX) for distance in (6.0, 2.7))
    renders = render(sphere(), [far, near, far], SIZE_PX)
    np.testing.assert_array_equal(renders.rgba_VHW4[0], renders.rgba_VHW4[2])
    assert renders.rgba_VHW4[1, ..., 3].sum() > renders.rgba_VHW4[0, ..., 3].sum()


def test_alpha_of_a_sphere_covers_its_disc():
    focal_px = SIZE_PX / 2 / np.tan(np.radians(FOV_DEG) / 2)
    disc_px = np.pi * (focal_px * RADIUS / np.sqrt(DISTANCE**2 - RADIUS**2)) ** 2
    for supersample in (1, 2):
        alpha = render(sphere(), [camera(30, 20)], SIZE_PX, supersample=supersample).rgba_VHW4[0, ..., 3]
        assert alpha.sum() / 255 == pytest.approx(disc_px, rel=0.006)


def test_depth_is_the_distance_along_the_optical_axis():
    view = camera(50, -25)
    depth_HW = render(sphere(), [view], SIZE_PX).depth_VHW[0]
    assert depth_HW.dtype == np.float32
    rows, columns = np.nonzero(depth_HW)
    rays = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))], axis=1) @ np.linalg.inv(view.intrinsics_33).T
    square, across = (rays**2).sum(axis=1), (rays**2)[:, :2].sum(axis=1)
    inner = across < 0.5 * RADIUS**2 / DISTANCE**2
    square = square[inner]
    expected = (DISTANCE - np.sqrt(DISTANCE**2 - square * (DISTANCE**2 - RADIUS**2))) / square
    np.testing.assert_allclose(depth_HW[rows, columns][inner], expected, atol=0.008)
    assert np.median(np.abs(depth_HW[rows, columns][inner] - expected)) < 0.003


def test_a_cube_lands_where_each_camera_projects_it():
    position = np.array([[0.35, 0.2, 0.1]])
    cameras = [camera(azimuth, 15) for azimuth in (*NAMED_AZIMUTHS_DEG.values(), 40, 200)]
    renders = render(cube_at(*position[0]), cameras, SIZE_PX)
    for index, view in enumerate(cameras):
        expected_px, expected_depth = view.project(position)
        assert np.linalg.norm(centroid_px(renders, index) - expected_px[0]) < 0.6
        covered = renders.depth_VHW[index][renders.depth_VHW[index] > 0]
        assert abs(covered.mean() - expected_depth[0]) < 0.08


def test_plus_x_is_right_in_front_near_from_the_left_view_and_left_from_behind():
    cameras = [camera(azimuth) for azimuth in NAMED_AZIMUTHS_DEG.values()]
    renders = render(cube_at(0.4, 0, 0), cameras, SIZE_PX)
    front, left, back, right = (centroid_px(renders, view)[0] - SIZE_PX / 2 for view in range(4))
    assert front > 10
    assert back < -10
    assert abs(left) < 0.5
    assert abs(right) < 0.5
    nearest = [depth[depth > 0].min() for depth in renders.depth_VHW]
    assert nearest[1] == pytest.approx(DISTANCE - 0.45, abs=1e-3)
    assert nearest[3] == pytest.approx(DISTANCE + 0.35, abs=1e-3)


def test_plus_y_is_up():
    assert centroid_px(render(cube_at(0, 0.4, 0), [camera()], SIZE_PX), 0)[1] < SIZE_PX / 2 - 10


def test_alpha_is_straight_so_edges_keep_their_colour():
    rgba_HW4 = render(shape(trimesh.creation.box((0.7, 0.7, 0.7)), RED), [camera(10, 0)], SIZE_PX).rgba_VHW4[0]
    edge = (rgba_HW4[..., 3] > 0) & (rgba_HW4[..., 3] < 255)
    solid = rgba_HW4[..., 3] == 255
    assert edge.sum() > 50
    assert rgba_HW4[edge, 0].min() > 0.75 * rgba_HW4[solid, 0].min()
    assert not rgba_HW4[rgba_HW4[..., 3] == 0].any()


def test_equal_inputs_give_equal_bytes_whatever_was_drawn_between():
    first = render(sphere(), [camera(), camera(90)], SIZE_PX)
    render(quad_glb(trimesh.visual.material.PBRMaterial(baseColorTexture=Image.new("RGB", (9, 5)))), [camera()], 64)
    again = render(sphere(), [camera(), camera(90)], SIZE_PX)
    assert first.rgba_VHW4.tobytes() == again.rgba_VHW4.tobytes()
    assert first.depth_VHW.tobytes() == again.depth_VHW.tobytes()


def test_metal_is_not_black():
    texture = Image.new("RGB", (8, 8), (180, 180, 180))
    metal, plastic = (
        render(
            quad_glb(trimesh.visual.material.PBRMaterial(baseColorTexture=texture, metallicFactor=metallic)),
            [camera(20, 20)],
            SIZE_PX,
        ).rgba_VHW4[0]
        for metallic in (1.0, 0.0)
    )
    np.testing.assert_array_equal(metal, plastic)
    assert metal[metal[..., 3] == 255, :3].mean() > 120


def test_textures_of_any_width_keep_their_sides():
    pixels = np.zeros((6, 6, 3), np.uint8)  # rows of 18 bytes: not a multiple of GL's alignment of 4
    pixels[:, :3], pixels[:, 3:] = RED[:3], BLUE[:3]
    pixels[:2, :] = (30, 200, 30)  # the image's upper rows
    glb = quad_glb(trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(pixels)))
    rgba_HW4 = render(glb, [camera()], SIZE_PX).rgba_VHW4[0]
    middle = SIZE_PX // 2
    assert rgba_HW4[middle + 8, middle - 10, :3].argmax() == 0
    assert rgba_HW4[middle + 8, middle + 10, :3].argmax() == 2
    assert rgba_HW4[middle - 20, middle, :3].argmax() == 1


@pytest.mark.parametrize(("alpha_mode", "expected"), [("MASK", 0), ("BLEND", 255), ("OPAQUE", 255)])
def test_texture_alpha_cuts_holes_under_mask_only(alpha_mode, expected):
    texture = Image.new("RGBA", (8, 8), (200, 200, 200, 40))
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=texture, alphaMode=alpha_mode, alphaCutoff=0.5)
    alpha_HW = render(quad_glb(material), [camera()], SIZE_PX).rgba_VHW4[0, ..., 3]
    assert alpha_HW[SIZE_PX // 2, SIZE_PX // 2] == expected


def test_an_inside_out_mesh_looks_the_same():
    mesh = sphere()
    flipped = Mesh(mesh.vertices_N3, np.ascontiguousarray(mesh.faces_F3[:, ::-1]))
    images = [render(m, [camera(0, 30)], SIZE_PX).rgba_VHW4.astype(int) for m in (mesh, flipped)]
    assert np.abs(images[0] - images[1]).max() <= 4


def test_every_node_of_a_scene_is_drawn_in_its_place():
    scene = trimesh.Scene()
    for x in (-0.4, 0.4):
        place = trimesh.transformations.translation_matrix((x, 0, 0))
        scene.add_geometry(trimesh.creation.box((0.1, 0.1, 0.1)), transform=place)
    alpha_HW = render(scene.export(file_type="glb"), [camera()], SIZE_PX).rgba_VHW4[0, ..., 3]
    columns = np.flatnonzero(alpha_HW.any(axis=0))
    assert np.count_nonzero(np.diff(columns) > 1) == 1
    assert columns[0] + columns[-1] == pytest.approx(SIZE_PX - 1, abs=1)


def test_creases_keep_flat_normals_and_spheres_smooth_ones():
    box = trimesh.creation.box((1, 1, 1))
    corner_vertex, faces, normals = assets._shading_corners(np.asarray(box.vertices), np.asarray(box.faces))
    np.testing.assert_allclose(normals[faces].min(axis=1), normals[faces].max(axis=1), atol=1e-12)
    np.testing.assert_allclose(normals[faces][:, 0], box.face_normals, atol=1e-9)
    np.testing.assert_array_equal(corner_vertex[faces], box.faces)
    ball = trimesh.creation.icosphere(subdivisions=3)
    corner_vertex, _, normals = assets._shading_corners(np.asarray(ball.vertices), np.asarray(ball.faces))
    assert len(corner_vertex) == len(ball.vertices)
    assert np.einsum("nd,nd->n", normals, ball.vertices).min() > 0.999


def test_normals_run_smoothly_over_texture_seams():
    ball = trimesh.creation.icosphere(subdivisions=3)
    split = np.asarray(ball.vertices)[ball.faces].reshape(-1, 3)
    _, _, normals = assets._shading_corners(split, np.arange(len(split)).reshape(-1, 3))
    assert np.einsum("nd,nd->n", normals, split).min() > 0.999


def test_strips_stand_side_by_side_and_grids_under_each_other():
    assert turntable_strip(sphere(), 3, 32).shape == (32, 96, 4)
    assert turntable_grid([sphere(), cube_at(0, 0, 0)], 3, 32).shape == (64, 96, 4)


def test_a_glb_without_triangles_is_bad_input():
    scene = trimesh.Scene([trimesh.PointCloud([[0, 0, 0], [1, 1, 1]])])
    with pytest.raises(BadInput, match="no triangles"):
        render(scene.export(file_type="glb"), [camera()], 32)


def test_a_machine_without_gl_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(context.ctypes.util, "find_library", lambda name: None)
    for platform in ("auto", "egl", "osmesa"):
        with pytest.raises(Unavailable, match=f"apt-get install.*{PACKAGES}"):
            context._choose(platform)


def test_a_process_keeps_its_platform():
    current = context.gl_context().platform_name
    other = "osmesa" if current == "egl" else "egl"
    with pytest.raises(Unavailable, match=f"already renders with {current}"):
        context.gl_context(other)


def test_this_machine_renders():
    assert WORKING, f"neither EGL nor OSMesa works here; apt-get install --no-install-recommends {PACKAGES}"


@pytest.mark.parametrize("platform", WORKING)
def test_each_platform_that_works_here_draws(platform):
    script = """
import sys
import numpy as np
from models.cameras import orbit_camera
from models.geometry import Mesh
from models.rendering import render
vertices = np.array([[-.5, -.5, 0], [.5, -.5, 0], [.5, .5, 0], [-.5, .5, 0]], np.float32)
mesh = Mesh(vertices, np.array([[0, 1, 2], [0, 2, 3]], np.int32))
renders = render(mesh, [orbit_camera(0, 0, 2.0, 90, 64)], 64, platform=sys.argv[1])
assert renders.rgba_VHW4[..., 3].sum() == 255 * 16 * 16, renders.rgba_VHW4[..., 3].sum() / 255
assert abs(renders.depth_VHW.max() - 2) < 1e-4
"""
    command = [sys.executable, "-c", script, platform]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_torch_trains_in_a_process_that_has_rendered():
    """Triton's LLVM, which torch's optimisers load, and Mesa's crash in one process unless Triton's comes first."""
    script = """
from models.rendering.context import gl_context
gl_context()
import torch
weight = torch.zeros(1, requires_grad=True)
optimiser = torch.optim.AdamW([weight])
weight.sum().backward()
optimiser.step()
print(weight.item() < 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr[-500:]


def part_of_square(uv: np.ndarray, **more: object) -> Part:
    """A square of side 1 that faces +Z, with texture coordinates by corner: lower left, lower right, ..."""
    vertices = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]])
    return Part(vertices, np.array([[0, 1, 2], [0, 2, 3]]), uv, **more)


def test_vertex_colours_multiply_a_texture():
    white = io.BytesIO()
    Image.new("RGB", (4, 4), (255, 255, 255)).save(white, format="PNG")
    shades = np.array([[200, 30, 30, 255]] * 4, np.uint8)
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]])
    material = Material(texture=Texture(white.getvalue()))
    textured = render(write_glb([part_of_square(uv, colours_N4=shades, material=material)]), [camera()], 32)
    painted = render(write_glb([part_of_square(uv, colours_N4=shades)]), [camera()], 32)
    np.testing.assert_array_equal(textured.rgba_VHW4, painted.rgba_VHW4)


@pytest.mark.parametrize(("wrap", "expected"), [("repeat", RED), ("clamp", BLUE)])
def test_a_texture_goes_on_beyond_its_border_as_its_file_says(wrap, expected):
    encoded = io.BytesIO()
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4], pixels[:, 4:] = RED[:3], BLUE[:3]
    Image.fromarray(pixels).save(encoded, format="PNG")
    uv = np.array([[0.25, 1], [1.25, 1], [1.25, 0], [0.25, 0]])  # the right quarter lies beyond
    material = Material(texture=Texture(encoded.getvalue(), (wrap, wrap)))
    rgba_HW4 = render(write_glb([part_of_square(uv, material=material)]), [camera()], SIZE_PX).rgba_VHW4[0]
    middle = SIZE_PX // 2
    columns = np.flatnonzero(rgba_HW4[middle, :, 3] == 255)
    assert rgba_HW4[middle, columns[-6], :3].argmax() == np.argmax(expected[:3])
    assert rgba_HW4[middle, columns[len(columns) // 2], :3].argmax() == 2
