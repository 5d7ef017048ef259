import itertools

import numpy as np
import pytest
import torch

from models.chamfer import chamfer
from models.students import FeatureSpec
from models.students.mesh_deform import SIZES, Params, create
from models.students.mesh_deform.icosphere import icosphere
from models.students.mesh_deform.network import GraphBlock, ViewFusion, _NeighbourSum
from models.training.sampler import Stream, uniforms
from tests.models.training import toy_shapes

SPEC = toy_shapes.spec(grid=8, channels=16)


@pytest.fixture(scope="module")
def shapes():
    return toy_shapes.shapes(24, seed=1, grid=8, channels=16, num_points=2_000)


@pytest.fixture(scope="module")
def student(shapes):
    """Calibrated, with every layer stirred so that none is at its zero start."""
    student = create(Params(), SPEC, seed=0)
    student.calibrate(shapes)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in student.network.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return student


def tokens(shapes, num_items: int = 2) -> np.ndarray:
    return shapes.tokens_NVHWC[:num_items].numpy()


def vertices(meshes) -> np.ndarray:
    return np.stack([mesh.vertices_N3 for mesh in meshes])


def test_a_prediction_is_the_icosphere_moved(student, shapes):
    meshes = student.predict(tokens(shapes))
    assert [mesh.vertices_N3.shape for mesh in meshes] == [(2562, 3)] * 2
    assert np.array_equal(meshes[0].faces_F3, icosphere(4).faces_F3)


def test_the_order_of_the_views_does_not_matter(student, shapes):
    expected = vertices(student.predict(tokens(shapes)))
    for order in itertools.permutations(range(4)):
        views = tuple(SPEC.views[place] for place in order)
        assert np.array_equal(vertices(student.predict(tokens(shapes)[:, list(order)], views)), expected)


def test_fusion_knows_a_view_by_its_name_alone():
    fusion = ViewFusion(8, 3)
    code_BVC, present_BV = torch.randn(2, 3, 8), torch.tensor([[True, True, False], [True, True, True]])
    expected, names = fusion(code_BVC, present_BV), fusion.name_VC
    turned = [2, 0, 1]
    fusion.name_VC = torch.nn.Parameter(names[turned])
    assert torch.allclose(fusion(code_BVC[:, turned], present_BV[:, turned]), expected, atol=1e-6)


@pytest.mark.parametrize("views", [("front",), ("back", "left"), ("right", "front", "left")])
def test_any_views_suffice_and_absent_ones_count_for_nothing(student, shapes, views):
    places = [SPEC.views.index(name) for name in views]
    few = vertices(student.predict(tokens(shapes)[:, places], views))
    garbage, present = torch.full((2, 4, 8, 8, 16), 7.0), torch.zeros(2, 4, dtype=torch.bool)
    garbage[:, places], present[:, places] = torch.from_numpy(tokens(shapes)[:, places]).float(), True
    with torch.no_grad():
        assert np.allclose(student.network(garbage, present).numpy(), few, atol=1e-5)
    assert not np.allclose(few, vertices(student.predict(tokens(shapes))), atol=1e-3)


def test_equal_images_under_other_names_are_other_views(student, shapes):
    front = tokens(shapes)[:, :1]
    assert not np.allclose(
        vertices(student.predict(front, ("front",))), vertices(student.predict(front, ("left",))), atol=1e-4
    )


@pytest.mark.parametrize(
    ("views", "shape", "match"),
    [
        (("top",), (1, 1, 8, 8, 16), "takes one or more of"),
        ((), (1, 0, 8, 8, 16), "takes one or more of"),
        (("left", "left"), (1, 2, 8, 8, 16), "once each"),
        (("left",), (1, 1, 8, 8, 17), r"the student takes \(1, 8, 8, 16\)"),
    ],
)
def test_views_and_grids_it_was_not_made_for_are_refused(student, views, shape, match):
    with pytest.raises(ValueError, match=match):
        student.predict(np.zeros(shape, np.float16), views)


def test_equal_seeds_give_equal_networks():
    one, two, other = (create(Params(), SPEC, seed=seed).network.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["encoder.project.weight"], other["encoder.project.weight"])


def test_the_closed_form_start_beats_the_mean_shape_on_unseen_items(shapes):
    student = create(Params(), SPEC, seed=0)
    student.calibrate(shapes)
    unseen = toy_shapes.shapes(8, seed=2, grid=8, channels=16, num_points=2_000)
    place = uniforms(torch.arange(8), (2_000, 3), seed=0, epoch=0, stream=Stream.SURFACE)
    with torch.no_grad():
        read = student.network(unseen.tokens_NVHWC.float(), unseen.present_NV)
        mean = student.network.space(torch.zeros(8, SIZES["tiny"].rank))
    error, of_mean = (float(chamfer(student.sample(v, place), unseen.truth_NP3)) for v in (read, mean))
    assert error < 0.8 * of_mean


def test_an_item_is_read_in_training_as_if_it_were_unseen(shapes):
    student = create(Params(), SPEC, seed=0)
    student.calibrate(shapes)
    fold_B = torch.arange(len(shapes)) % 4
    with torch.no_grad():
        standard = student.network.encoder.standard(shapes.tokens_NVHWC.float())
        held_out = student.network.reader(standard, shapes.present_NV, fold_B)
        fitted = student.network.reader(standard, shapes.present_NV, None)
        amounts = student.network.space.fit(shapes.teacher_NP3)
    assert float((fitted - amounts).square()[:, 0].mean()) < float((held_out - amounts).square()[:, 0].mean())


def test_the_neighbour_sums_gradient_is_right():
    block = GraphBlock(2, icosphere(0).faces_F3)
    feature = torch.randn(1, 12, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: _NeighbourSum.apply(x, block.neighbours_N6, block.valid_N6.double()), (feature,)
    )


COUNTS = [("tiny", 660_992), ("small", 2_969_216), ("base", 15_102_368), ("reference", 32_336_480)]


@pytest.mark.parametrize(("preset", "num_parameters"), COUNTS)
def test_sizes_of_the_presets(preset, num_parameters):
    spec = FeatureSpec("dinov2", 768, (37, 37), ("front", "left", "back", "right"))
    network = create(Params(preset=preset), spec, seed=0).network
    assert sum(parameter.numel() for parameter in network.parameters()) == num_parameters
