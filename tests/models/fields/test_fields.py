import numpy as np
import pytest
import trimesh

from models.errors import BadInput
from models.fields import COLOUR_CELLS, HALF_SIDE, Field, cell_centres, measure
from models.fields.colours import SurfaceColours, read_coloured
from models.geometry import Mesh
from models.occupancy import contains


def sphere(radius: float = 0.4, subdivisions: int = 4) -> Mesh:
    ball = trimesh.creation.icosphere(subdivisions, radius)
    colours_N4 = np.full((len(ball.vertices), 4), 255, np.uint8)
    colours_N4[:, 0] = np.where(ball.vertices[:, 0] > 0, 255, 0)
    return Mesh(ball.vertices.astype(np.float32), ball.faces.astype(np.int32), colours_N4)


def field_of(mesh: Mesh, resolution: int = 32, truncation_cells: float = 4) -> Field:
    colours = SurfaceColours.of_mesh(mesh)
    return measure(mesh, colours, resolution=resolution, truncation_cells=truncation_cells).field


def centres(resolution: int) -> np.ndarray:
    return np.stack(np.meshgrid(*[cell_centres(resolution)] * 3, indexing="ij"), axis=-1)


def test_distances_of_a_sphere_are_exact_negative_inside_and_truncated():
    field = field_of(sphere(), 32, 4)
    expected = np.linalg.norm(centres(32), axis=-1) - 0.4
    assert field.truncation == pytest.approx(4 * 2 * HALF_SIDE / 32)
    assert np.abs(field.distance_RRR - expected.clip(-field.truncation, field.truncation)).max() < 0.002
    assert field.distance_RRR[16, 16, 16] == np.float16(-field.truncation)


def test_x_is_the_first_axis_and_cell_centres_are_the_cubes():
    mesh = sphere(0.2)
    moved = Mesh(mesh.vertices_N3 + np.float32([0.3, 0, 0]), mesh.faces_F3)
    field = field_of(moved, 32)
    inside = np.argwhere(field.distance_RRR < 0)
    assert cell_centres(32)[inside[:, 0]].mean() == pytest.approx(0.3, abs=0.01)
    assert cell_centres(32)[inside[:, 1]].mean() == pytest.approx(0, abs=0.01)
    assert cell_centres(32)[[0, -1]] == pytest.approx([-HALF_SIDE + field.cell / 2, HALF_SIDE - field.cell / 2])


def test_colours_belong_to_the_cells_near_the_surface_and_are_those_of_its_nearest_point():
    field = field_of(sphere())
    assert np.abs(field.distance_RRR.reshape(-1)[field.coloured]).max() < COLOUR_CELLS * field.cell
    assert field.colours_M3.shape == (len(field.coloured), 3)
    x_M = centres(32).reshape(-1, 3)[field.coloured, 0]
    red_M = field.colours_M3[:, 0]
    assert red_M[x_M > 0.1].min() == 255 and red_M[x_M < -0.1].max() == 0


def test_a_mesh_without_colours_has_a_field_without_colours():
    ball = sphere()
    assert field_of(Mesh(ball.vertices_N3, ball.faces_F3)).colours_M3 is None


def test_regions_take_the_sign_that_each_of_their_cells_has_of_its_own():
    shell = trimesh.util.concatenate(
        [trimesh.creation.icosphere(3, 0.45), trimesh.creation.icosphere(3, 0.3), trimesh.creation.box([1, 0.2, 0.2])]
    )
    faces = shell.faces.copy()
    inner = slice(1280, 2560)
    faces[inner] = faces[inner, ::-1]
    mesh = Mesh(shell.vertices.astype(np.float32), faces.astype(np.int32))
    field = field_of(mesh)
    cells = contains(mesh, centres(32).reshape(-1, 3)).reshape(32, 32, 32)
    assert np.array_equal(field.distance_RRR < 0, cells)
    assert not cells[16, 16 + 6, 16] and cells[16, 16, 16]


def test_a_closed_mesh_leaves_no_doubt_and_an_open_one_does():
    ball = sphere()
    closed = measure(ball, None, resolution=32, truncation_cells=4)
    half = Mesh(ball.vertices_N3, ball.faces_F3[ball.vertices_N3[ball.faces_F3, 1].mean(axis=1) < 0])
    opened = measure(half, None, resolution=32, truncation_cells=4)
    assert closed.doubtful_share == 0
    assert opened.doubtful_share > 0.01
    assert 0 < (opened.field.distance_RRR < 0).sum() < (closed.field.distance_RRR < 0).sum()


def test_faces_where_parts_overlap_are_no_surface():
    parts = trimesh.util.concatenate([trimesh.creation.icosphere(4, 0.45), trimesh.creation.icosphere(3, 0.2)])
    overlapping = field_of(Mesh(parts.vertices.astype(np.float32), parts.faces.astype(np.int32)))
    alone = field_of(sphere(0.45))
    assert np.abs(overlapping.distance_RRR - alone.distance_RRR).max() < alone.cell
    assert np.array_equal(overlapping.coloured, alone.coloured)


def test_slabs_change_nothing(monkeypatch):
    whole = field_of(sphere())
    monkeypatch.setattr("models.fields.SLAB_POINTS", 1_000)
    assert field_of(sphere()).to_bytes() == whole.to_bytes()


def test_a_field_survives_its_file_and_equal_ones_have_equal_bytes():
    field = field_of(sphere())
    read = Field.from_bytes(field.to_bytes())
    assert np.array_equal(read.distance_RRR, field.distance_RRR)
    assert np.array_equal(read.colours_M3, field.colours_M3)
    assert read.truncation == field.truncation
    assert field_of(sphere()).to_bytes() == field.to_bytes()


def test_other_bytes_are_refused():
    with pytest.raises(BadInput, match="not a readable field"):
        Field.from_bytes(b"nothing")


def test_a_mesh_that_is_not_finite_is_refused():
    ball = sphere()
    ball.vertices_N3[0] = np.nan
    with pytest.raises(BadInput, match="not finite"):
        field_of(ball)


def textured_square() -> bytes:
    """Two triangles in the plane z = 0, whose texture is red to the left and green to the right."""
    from PIL import Image

    image = Image.new("RGB", (2, 1), (255, 0, 0))
    image.putpixel((1, 0), (0, 255, 0))
    corners = [[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]]
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=image, baseColorFactor=[255, 128, 255, 255])
    visual = trimesh.visual.TextureVisuals(uv=[[0, 0], [1, 0], [1, 1], [0, 1]], material=material)
    return trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]], visual=visual, process=False).export(file_type="glb")


def test_textures_are_read_where_the_point_lies_times_the_materials_colour():
    _, colours = read_coloured(textured_square())
    found = colours.at(np.array([0, 1, 0]), np.array([[0.3, -0.4, 0], [-0.3, 0.4, 0], [0.49, 0.4, 0]]))
    green = 188  # glTF: the factor .5 is of light, which is 188 of 255 in sRGB
    assert found.tolist() == [[0, green, 0], [255, 0, 0], [0, green, 0]]


def test_parts_keep_their_own_colours_and_places():
    left = trimesh.creation.box([0.2, 0.2, 0.2])
    left.visual.vertex_colors = [255, 0, 0, 255]
    right = trimesh.creation.box([0.2, 0.2, 0.2])
    right.visual.vertex_colors = [0, 0, 255, 255]
    scene = trimesh.Scene()
    scene.add_geometry(left, transform=trimesh.transformations.translation_matrix([-0.3, 0, 0]))
    scene.add_geometry(right, transform=trimesh.transformations.translation_matrix([0.3, 0, 0]))
    mesh, colours = read_coloured(scene.export(file_type="glb"))
    field = measure(mesh, colours, resolution=32, truncation_cells=4).field
    x_M = centres(32).reshape(-1, 3)[field.coloured, 0]
    assert (field.colours_M3[x_M < 0] == [255, 0, 0]).all()
    assert (field.colours_M3[x_M > 0] == [0, 0, 255]).all()


def test_a_glb_without_any_colour_has_none():
    mesh, colours = read_coloured(Mesh(sphere().vertices_N3, sphere().faces_F3).to_glb())
    assert colours is None and len(mesh.faces_F3) == len(sphere().faces_F3)
