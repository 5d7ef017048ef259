import itertools

import numpy as np
import pytest
import torch

from models.chamfer import chamfer
from models.geometry import Mesh
from models.losses.surfaces import sample_faces
from models.needs import TEACHER, TOKENS, TRUTH, InHand
from models.students import Ask, FeatureSpec, Spec
from models.students.mesh_deform import SIZES, Params, create, needs
from models.students.mesh_deform.icosphere import icosphere
from models.students.mesh_deform.network import GraphBlock, ViewFusion, _NeighbourSum
from models.training.sampler import uniforms
from models.training.trainable import Moment
from tests.models.training import toy_shapes
from tests.models.training.toy_shapes import VIEWS

SPEC = toy_shapes.spec(grid=8, channels=16)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shapes():
    return toy_shapes.shapes(24, seed=1, grid=8, channels=16, num_points=2_000)


@pytest.fixture(scope="module")
def student(shapes):
    """Calibrated, with every layer stirred so that none is at its zero start."""
    student = create(Params(), SPEC, seed=0)
    student.calibrate(shapes, CPU)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in student.network.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return student


def vertices(student, shapes, views=VIEWS, num_items: int = 2) -> np.ndarray:
    """Of the predictions from some views of the first items."""
    return np.stack([student.predict(shapes.given(item, views), Ask()).vertices_N3 for item in range(num_items)])


def test_a_prediction_is_the_icosphere_moved(student, shapes):
    mesh = student.predict(shapes.given(0), Ask())
    assert mesh.vertices_N3.shape == (2562, 3)
    assert np.array_equal(mesh.faces_F3, icosphere(4).faces_F3)


def test_the_order_of_the_views_does_not_matter(student, shapes):
    expected = vertices(student, shapes)
    for views in itertools.permutations(VIEWS):
        assert np.array_equal(vertices(student, shapes, views), expected)


def test_fusion_knows_a_view_by_its_name_alone():
    fusion = ViewFusion(8, 3)
    code_BVC, present_BV = torch.randn(2, 3, 8), torch.tensor([[True, True, False], [True, True, True]])
    expected, names = fusion(code_BVC, present_BV), fusion.name_VC
    turned = [2, 0, 1]
    fusion.name_VC = torch.nn.Parameter(names[turned])
    assert torch.allclose(fusion(code_BVC[:, turned], present_BV[:, turned]), expected, atol=1e-6)


@pytest.mark.parametrize("views", [("front",), ("back", "left"), ("right", "front", "left")])
def test_any_views_suffice_and_absent_ones_count_for_nothing(student, shapes, views):
    shown = [VIEWS.index(name) for name in views]
    few = vertices(student, shapes, views)
    garbage, present = torch.full((2, 4, 8, 8, 16), 7.0), torch.zeros(2, 4, dtype=torch.bool)
    garbage[:, shown], present[:, shown] = shapes.tokens_NVHWC[:2, shown].float(), True
    with torch.no_grad():
        assert np.allclose(student.network(garbage, present).numpy(), few, atol=1e-5)
    assert not np.allclose(few, vertices(student, shapes), atol=1e-3)


def test_equal_images_under_other_names_are_other_views(student, shapes):
    grid = shapes.tokens_NVHWC[0, 0].numpy()
    front, left = (InHand("one", {TOKENS: {view: grid}}, (TOKENS,)) for view in ("front", "left"))
    one, other = (student.predict(item, Ask()).vertices_N3 for item in (front, left))
    assert not np.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(
    ("grids", "match"),
    [
        ({"top": np.zeros((8, 8, 16), np.float16)}, "views are top; the student takes one or more of front"),
        ({}, "takes one or more of"),
        ({"left": np.zeros((8, 8, 17), np.float16)}, r"the student takes \(8, 8, 16\) of silhouette"),
    ],
)
def test_views_and_grids_it_was_not_made_for_are_refused(student, grids, match):
    with pytest.raises(ValueError, match=match):
        student.predict(InHand("one", {TOKENS: grids}, (TOKENS,)), Ask())


def test_equal_seeds_give_equal_networks():
    one, two, other = (create(Params(), SPEC, seed=seed).network.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["encoder.project.weight"], other["encoder.project.weight"])


def test_the_closed_form_start_beats_the_mean_shape_on_unseen_items(shapes):
    student = create(Params(), SPEC, seed=0)
    student.calibrate(shapes, CPU)
    unseen = toy_shapes.shapes(8, seed=2, grid=8, channels=16, num_points=2_000)
    place = uniforms(torch.arange(8), (2_000, 3), seed=0, epoch=0, stream=1)
    with torch.no_grad():
        read = student.network(unseen.tokens_NVHWC.float(), unseen.present_NV)
        mean = student.network.space(torch.zeros(8, SIZES["tiny"].rank))
    faces_F3 = torch.from_numpy(icosphere(4).faces_F3)
    error, of_mean = (float(chamfer(sample_faces(v, faces_F3, place), unseen.truth_NP3)) for v in (read, mean))
    assert error < 0.8 * of_mean


def test_an_item_is_read_in_training_as_if_it_were_unseen(shapes):
    student = create(Params(), SPEC, seed=0)
    student.calibrate(shapes, CPU)
    fold_B = torch.arange(len(shapes)) % 4
    with torch.no_grad():
        standard = student.network.encoder.standard(shapes.tokens_NVHWC.float())
        held_out = student.network.reader(standard, shapes.present_NV, fold_B)
        fitted = student.network.reader(standard, shapes.present_NV, None)
        amounts = student.network.space.fit(shapes.teacher_NP3)
    assert float((fitted - amounts).square()[:, 0].mean()) < float((held_out - amounts).square()[:, 0].mean())


def colour_term(student, shapes):
    batch = student.collate([shapes[index] for index in range(4)])
    moment = Moment(step=0, num_steps=10, epoch=0, seed=0, items_B=torch.arange(4))
    batch = student.prepare(batch, moment)
    return student.loss(student.forward(batch, moment), batch, moment)["colour"].weighted


def test_colours_teach_the_shape_nothing(student, shapes):
    student.network.zero_grad()
    colour_term(student, shapes).backward()
    taught = {name for name, parameter in student.network.named_parameters() if parameter.grad is not None}
    assert taught and all(name.startswith("colouring.") for name in taught)
    shape, colours = student.groups()
    assert {id(one) for one in colours.parameters} == {id(one) for one in student.network.colouring.parameters()}
    assert colours.clip_norm is not None and shape.clip_norm is None
    student.network.zero_grad()


def test_vertices_learn_the_colours_of_the_surface_next_to_them(shapes):
    student = create(Params(num_points=500), SPEC, seed=0)
    student.calibrate(shapes, CPU)
    optimizer = torch.optim.Adam(student.network.colouring.parameters(), 0.01)
    for _ in range(25):
        optimizer.zero_grad()
        colour_term(student, shapes).backward()
        optimizer.step()
    mesh = student.predict(shapes.given(0), Ask())
    upper, lower = mesh.vertices_N3[:, 1] > 0.1, mesh.vertices_N3[:, 1] < -0.1
    assert mesh.colours_N4[upper, 0].mean() > 180 > 80 > mesh.colours_N4[lower, 0].mean()
    assert mesh.colours_N4[lower, 2].mean() > 180 and (mesh.colours_N4[:, 3] == 255).all()


def test_a_shape_without_colours_teaches_none(student):
    grey = Mesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32))
    red = Mesh(grey.vertices_N3, grey.faces_F3, np.array([[255, 0, 0, 255]] * 3, np.uint8))
    grids = {"front": np.zeros((8, 8, 16), np.float16)}
    for mesh, coloured in ((grey, False), (red, True)):
        item = InHand("one", {TOKENS: grids, TRUTH: mesh, TEACHER: grey}, (TOKENS, TRUTH, TEACHER))
        example = student.example(item)
        assert bool(example["coloured"]) == coloured
        assert bool((example["colours"] == torch.tensor([255, 0, 0], dtype=torch.uint8)).all()) == coloured


def test_the_neighbour_sums_gradient_is_right():
    block = GraphBlock(2, icosphere(0).faces_F3)
    feature = torch.randn(1, 12, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: _NeighbourSum.apply(x, block.neighbours_N6, block.valid_N6.double()), (feature,)
    )


COUNTS = [("tiny", 673_187), ("small", 3_052_931), ("base", 15_433_635), ("reference", 33_346_275)]


@pytest.mark.parametrize(("preset", "num_parameters"), COUNTS)
def test_sizes_of_the_presets(preset, num_parameters):
    spec = Spec({"tokens": FeatureSpec("dinov2", 768, (37, 37), VIEWS).to_json()})
    network = create(Params(preset=preset), spec, seed=0).network
    assert sum(parameter.numel() for parameter in network.parameters()) == num_parameters


@pytest.mark.parametrize(
    ("preset", "start", "end"), [("balanced", 0.9, 0.3), ("conservative", 0.95, 0.5), ("aggressive", 0.8, 0.2)]
)
def test_alpha_presets_run_from_start_to_end(preset, start, end):
    params = Params(alpha=preset)
    assert params.alpha_at(0) == pytest.approx(start)
    assert params.alpha_at(0.5) == pytest.approx((start + end) / 2)
    assert params.alpha_at(1) == pytest.approx(end)


def test_alpha_ends_can_be_set_one_by_one():
    params = Params(alpha="aggressive", alpha_end=0.0)
    assert (params.alpha_at(0), params.alpha_at(1)) == (pytest.approx(0.8), 0.0)


def test_without_a_teacher_it_needs_the_truth_and_no_teachers_mesh():
    assert needs(Params()).learned == (TEACHER,)
    assert needs(Params(alpha="none")).learned == (TRUTH,)
    assert TEACHER not in needs(Params(alpha="none")).all
    with pytest.raises(ValueError, match="alpha is none"):
        Params(alpha="none", alpha_start=0.5)


def test_a_batch_is_the_same_whatever_it_is_cut_from(shapes):
    student = create(Params(num_points=50, view_dropout=0.5), SPEC, seed=0)

    def prepared(*items: int):
        moment = Moment(step=3, num_steps=9, epoch=1, seed=3, items_B=torch.tensor(items))
        return student.prepare(student.collate([shapes[item] for item in items]), moment)

    whole, part = prepared(2, 0, 3), prepared(3)
    assert whole["teacher"].shape == (3, 50, 3)
    for name, value in part.items():
        assert torch.equal(whole[name][2:], value), name
