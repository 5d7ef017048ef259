import itertools

import numpy as np
import pytest
import torch

from models.errors import BadInput, EmptyOutput
from models.fields import HALF_SIDE, cell_centres
from models.metrics import Protocol, Surface, compare
from models.needs import FIELD, TOKENS, TRUTH, VIEWS
from models.students import Ask, FeatureSpec, Spec
from models.students.field import SIZES, Params, create, needs
from models.students.field.evidence import RANGE, Seen, look
from models.students.field.examples import observed
from models.students.field.placing import named_cameras, projection
from models.topology import is_watertight
from models.training.engine import Job, train
from models.training.recipe import Recipe
from models.training.trainable import Moment
from models.training.weights import load_trained
from models.views import Views
from tests.models.students import toy_ellipsoids as toy

TOKENS_SPEC = FeatureSpec.from_json(toy.FORMS["tokens"])
CPU = torch.device("cpu")
UNSEEN = (0.5, 0.3, 0.21)


class Items:
    """Examples of ellipsoids."""

    def __init__(self, student, all_half_axes):
        self._examples = [student.example(toy.given(half_axes)) for half_axes in all_half_axes]

    def __len__(self):
        return len(self._examples)

    def __getitem__(self, index):
        return self._examples[index]


@pytest.fixture(scope="module")
def items():
    return Items(create(Params(), toy.SPEC, seed=0), toy.radii(16, seed=1))


@pytest.fixture(scope="module")
def trained(items, tmp_path_factory):
    """After sixty small steps."""
    student = create(Params(near_points=128, band_points=96, far_points=32), toy.SPEC, seed=0)
    recipe = Recipe(epochs=30, batch_size=8, validate_every_epochs=30)
    result = train(student, items, None, recipe, Job(tmp_path_factory.mktemp("field")))
    load_trained(student, result.state)
    return student


@pytest.fixture
def calibrated(items):
    student = create(Params(), toy.SPEC, seed=0)
    student.calibrate(items, CPU)
    return student


def seen(half_axes, names=toy.NAMES, *, cameras=True):
    item = toy.given(half_axes, names, cameras=cameras)
    example = observed(TOKENS_SPEC, item(TOKENS), item(VIEWS), toy.SIZE_PX)
    return Seen.of({name: tensor[None] for name, tensor in example.items()})


def figures(mesh, half_axes=UNSEEN):
    return compare(mesh, Surface(toy.mesh(half_axes), Protocol(num_points=4_000, iou_resolution=48)))


def test_projections_are_those_of_the_cameras():
    camera, points_N3 = toy.CAMERAS["left"], np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3))
    pixels_N2, depth_N = camera.project(points_N3)
    unit_N3 = np.c_[points_N3, np.ones(20)] @ projection(camera, toy.SIZE_PX).T
    np.testing.assert_allclose(unit_N3[:, 2], depth_N, atol=1e-5)
    np.testing.assert_allclose((unit_N3[:, :2] / unit_N3[:, 2:] + 1) * toy.SIZE_PX / 2, pixels_N2, atol=1e-3)


def test_points_know_how_far_they_lie_from_the_silhouettes():
    """From the front and from behind, a ball's silhouette is a cone that touches it."""
    ball = (0.4, 0.4, 0.4)
    heights_P = torch.tensor([0.3, 0.38, 0.42, 0.47])
    points_1P3 = torch.stack([heights_P, torch.zeros(4), torch.zeros(4)], dim=-1)[None]
    sight = look(seen(ball, ("front", "back")), points_1P3)
    cone_P = (heights_P - 2.7 * np.tan(np.arcsin(0.4 / 2.7))).numpy()  # in the plane through the centre
    for place in (toy.NAMES.index("front"), toy.NAMES.index("back")):
        np.testing.assert_allclose(sight.distance_BVP[0, place], cone_P.clip(-RANGE, RANGE), atol=0.006)
    assert (sight.distance_BVP[0, toy.NAMES.index("left")] == 0).all()
    np.testing.assert_allclose(sight.hull()[0], cone_P.clip(-RANGE, RANGE), atol=0.006)


def test_without_any_placed_view_nothing_is_carved_away():
    sight = look(seen(UNSEEN, ("front",), cameras=False), torch.zeros(1, 3, 3))
    assert (sight.hull() == -RANGE).all()


def test_known_cameras_come_first_then_those_of_the_names_and_none_for_a_lone_photo_of_an_unknown_side():
    known = seen(UNSEEN)
    assert known.placed_BV.all()
    expected = np.stack([projection(toy.CAMERAS[name], toy.SIZE_PX) for name in toy.NAMES])
    np.testing.assert_array_equal(known.projections_BV34[0].numpy(), expected)
    several = seen(UNSEEN, ("front", "left"), cameras=False)
    assert several.placed_BV[0].tolist() == [True, True, False, False]
    assert seen(UNSEEN, ("left",), cameras=False).placed_BV[0].tolist() == [False, True, False, False]
    lone = seen(UNSEEN, ("front",), cameras=False)
    assert lone.present_BV[0, 0] and not lone.placed_BV.any()


@pytest.mark.parametrize("names", [toy.NAMES, ("front", "left"), ("left",)])
def test_cameras_of_names_see_the_object_nearly_where_it_is(names):
    half_axes = (0.35, 0.3, 0.5)
    alpha_VSS = np.stack([toy.picture(half_axes, name)[..., 3] for name in names])
    points_N3 = toy.mesh(half_axes).vertices_N3
    for name, camera in zip(names, named_cameras(names, alpha_VSS), strict=True):
        off_px = np.linalg.norm(camera.project(points_N3)[0] - toy.CAMERAS[name].project(points_N3)[0], axis=1)
        assert off_px.mean() < 0.04 * toy.SIZE_PX


def test_a_name_without_a_side_stands_for_no_camera():
    alpha_VSS = np.full((2, 8, 8), 255, np.uint8)
    known, unknown = named_cameras(("left", "ring_00"), alpha_VSS)
    assert known is not None and unknown is None


def guess(student, half_axes, fold=-1, **shown):
    volume_1RRR, familiar_1 = student.network.space(seen(half_axes, **shown), torch.tensor([fold]))
    return volume_1RRR[0].numpy(), float(familiar_1[0])


def exact(half_axes, resolution=32):
    """The ellipsoid's field to first order, clipped."""
    axis = cell_centres(resolution)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    scaled = np.linalg.norm(points / half_axes, axis=-1)
    slope = np.linalg.norm(points / np.square(half_axes), axis=-1) / np.maximum(scaled, 1e-9)
    return ((scaled - 1) / np.maximum(slope, 1e-9)).clip(-RANGE, RANGE)


def test_a_training_item_is_guessed_from_itself_and_in_training_from_the_others(calibrated):
    first = toy.radii(16, seed=1)[0]
    itself, familiar = guess(calibrated, first)
    others, less_familiar = guess(calibrated, first, fold=0)
    assert familiar == pytest.approx(1, abs=1e-3) and less_familiar < familiar
    errors = [np.abs(volume - exact(first)).mean() for volume in (itself, others)]
    assert errors[0] < errors[1] < 0.01


def test_an_unseen_item_is_guessed_well_from_any_views(calibrated):
    mean_error = np.abs(calibrated.network.space.mean_X.numpy().reshape(32, 32, 32) - exact(UNSEEN)).mean()
    for names in (toy.NAMES, ("front", "left"), ("back",)):
        volume, _ = guess(calibrated, UNSEEN, names=names)
        assert np.abs(volume - exact(UNSEEN)).mean() < mean_error / 3


def test_an_unfamiliar_item_is_guessed_from_its_hull(calibrated):
    """An upright ellipsoid among lying ones: none of their modes makes one."""
    upright = (0.15, 0.5, 0.15)
    volume, familiar = guess(calibrated, upright)
    assert familiar < guess(calibrated, UNSEEN)[1] - 0.1
    space = calibrated.network.space
    lying = exact(upright).reshape(-1) - space.mean_X.numpy()
    modes = space.modes_KX.numpy()
    within = (space.mean_X.numpy() + modes.T @ (modes @ lying)).reshape(32, 32, 32)
    errors = [np.abs(field - exact(upright)).mean() for field in (volume, within)]
    assert errors[0] < errors[1]


def test_a_lone_photo_is_read_by_its_tokens_whatever_side_it_shows(calibrated):
    for shown in ("front", "left"):
        item = toy.given(UNSEEN, (shown,))
        called_front = {TOKENS: {"front": item(TOKENS)[shown]}, VIEWS: Views(("front",), item(VIEWS).rgba_VHW4)}
        example = observed(TOKENS_SPEC, called_front[TOKENS], called_front[VIEWS], toy.SIZE_PX)
        lone = Seen.of({name: tensor[None] for name, tensor in example.items()})
        volume_1RRR, familiar_1 = calibrated.network.space(lone, torch.tensor([-1]))
        assert familiar_1[0] > 0.5
        assert 0.5 < (volume_1RRR < 0).float().mean() / (exact(UNSEEN) < 0).mean() < 2


def test_the_untrained_network_answers_with_the_guess(calibrated):
    points_1P3 = torch.rand(1, 50, 3) - 0.5
    with torch.no_grad():
        distance_1P, colour_1P3 = calibrated.network(seen(UNSEEN), torch.tensor([-1]), points_1P3)
    volume, _ = guess(calibrated, UNSEEN)
    index = ((points_1P3[0].numpy() / HALF_SIDE + 1) * 16).astype(int)
    nearest = volume[tuple(index.T)]
    assert np.abs(distance_1P[0].numpy() - nearest).max() < 1.1 / 32
    assert ((colour_1P3 >= 0) & (colour_1P3 <= 1)).all()


def test_an_unseen_shape_is_cast_closed_true_and_in_its_colours(trained):
    mesh = trained.predict(toy.given(UNSEEN), Ask())
    found = figures(mesh)
    assert is_watertight(mesh)
    assert found.iou > 0.9 and found.chamfer < 0.02
    top = mesh.vertices_N3[:, 1] > 0.05
    bottom = mesh.vertices_N3[:, 1] < -0.05
    assert np.abs(mesh.colours_N4[top, :3].mean(axis=0) - toy.TOP).max() < 40
    assert np.abs(mesh.colours_N4[bottom, :3].mean(axis=0) - toy.BOTTOM).max() < 40
    assert (mesh.colours_N4[:, 3] == 255).all()


def test_training_betters_the_untrained_answer(trained, calibrated, items):
    """On the items themselves, read as unseen ones are."""
    for student in (trained, calibrated):
        assert student.network.space.num_items == len(items)
    errors = []
    for student in (trained, calibrated):
        batch, moment = batch_at(student, items, -1)
        with torch.no_grad():
            terms = student.loss(student.forward(batch, moment), batch, moment)
        errors.append({name: float(term.raw) for name, term in terms.items()})
    assert errors[0]["distance"] < errors[1]["distance"]
    assert errors[0]["colour"] < 0.5 * errors[1]["colour"]


def test_the_order_of_the_views_does_not_matter(trained):
    expected = trained.predict(toy.given(UNSEEN), Ask())
    for names in itertools.islice(itertools.permutations(toy.NAMES), 1, None, 7):
        mesh = trained.predict(toy.given(UNSEEN, names), Ask())
        assert np.array_equal(mesh.vertices_N3, expected.vertices_N3)


@pytest.mark.parametrize("names", [("front",), ("left", "back"), ("right", "front", "left")])
def test_any_views_suffice_and_absent_ones_count_for_nothing(trained, names):
    assert figures(trained.predict(toy.given(UNSEEN, names), Ask())).iou > 0.7
    few = seen(UNSEEN, names)
    absent_BV = ~few.present_BV
    garbage = Seen(
        few.tokens_BVHWC.masked_fill(absent_BV[..., None, None, None], 7.0),
        few.present_BV,
        few.placed_BV,
        few.silhouettes_BVSS.masked_fill(absent_BV[..., None, None], 3.0),
        few.rgb_BV3SS.masked_fill(absent_BV[..., None, None, None], 200),
        few.projections_BV34,
    )
    points_1P3, fold_1 = torch.rand(1, 100, 3) - 0.5, torch.tensor([-1])
    with torch.no_grad():
        for answer, expected in zip(
            trained.network(garbage, fold_1, points_1P3), trained.network(few, fold_1, points_1P3), strict=True
        ):
            assert torch.allclose(answer, expected, atol=1e-5)


def test_photos_without_cameras_are_cast_too(trained):
    assert figures(trained.predict(toy.given(UNSEEN, cameras=False), Ask())).iou > 0.7
    assert is_watertight(trained.predict(toy.given(UNSEEN, ("front",), cameras=False), Ask()))


def test_a_field_without_a_surface_is_an_empty_output(calibrated):
    with torch.no_grad():
        calibrated.network.correction.bias.fill_(10)
        calibrated.network.space.mean_X.fill_(1)
    with pytest.raises(EmptyOutput, match="the field has no surface"):
        calibrated.predict(toy.given(UNSEEN), Ask())


def test_views_that_it_does_not_know_are_refused(calibrated):
    item = toy.given(UNSEEN, ("front",))
    item.values[TOKENS]["ring_00"] = item.values[TOKENS].pop("front")
    with pytest.raises(BadInput, match="none of the student's: front, left, back, right"):
        calibrated.predict(item, Ask())


def test_pictures_of_another_size_are_refused(calibrated):
    item = toy.given(UNSEEN)
    views = item.values[VIEWS]
    item.values[VIEWS] = Views(views.names, views.rgba_VHW4[:, ::2, ::2], views.cameras)
    with pytest.raises(BadInput, match=r"\(32, 32\) px; the student takes squares of 64 px"):
        calibrated.predict(item, Ask())


def batch_at(student, items, epoch):
    moment = Moment(step=0, num_steps=10, epoch=epoch, seed=0, items_B=torch.arange(8))
    return student.prepare(student.collate([items[index] for index in range(8)]), moment), moment


def test_points_lie_where_their_distances_say(calibrated, items):
    batch, _ = batch_at(calibrated, items, 0)
    for half_axes, points_P3, distance_P in zip(
        toy.radii(16, seed=1), batch["points"].numpy(), batch["distances"].numpy(), strict=False
    ):
        scaled = np.linalg.norm(points_P3 / half_axes, axis=1)
        clear = np.abs(scaled - 1) > 0.02
        assert ((scaled > 1) == (distance_P > 0))[clear].all()
    near_BP = batch["distances"][:, : Params().near_points]
    assert near_BP.abs().max() < 1.5 * 1.1 / toy.RESOLUTION


def test_every_epoch_asks_for_other_points_and_hides_other_views_and_validation_is_always_the_same(calibrated, items):
    first, _ = batch_at(calibrated, items, 0)
    second, _ = batch_at(calibrated, items, 1)
    assert not torch.equal(first["points"], second["points"])
    hidden = [batch_at(calibrated, items, epoch)[0]["present"].all() for epoch in range(6)]
    assert not all(hidden)
    validation, moment = batch_at(calibrated, items, -1)
    assert validation["present"].all() and validation["placed"].all()
    assert torch.equal(validation["points"], batch_at(calibrated, items, -1)[0]["points"])
    error_B = calibrated.validate(validation, moment)["distance_error"]
    assert error_B.shape == (8,) and (error_B > 0).all()


def test_the_loss_is_the_weighted_mean_difference_of_distances_and_colours(calibrated, items):
    batch, moment = batch_at(calibrated, items, 0)
    colour_BP3 = torch.zeros(*batch["points"].shape)
    colour_BP3[:, : Params().near_points] = batch["colours"] + 0.1
    terms = calibrated.loss((batch["distances"] + 0.01, colour_BP3), batch, moment)
    near_BP, inside_BP = batch["distances"].abs() < 0.03, batch["distances"] < 0
    weight = torch.where(near_BP, torch.where(inside_BP, 2.0, 1.0), 0.4).mean()
    assert float(terms["distance"].raw) == pytest.approx(0.01 * float(weight), rel=0.1)
    assert float(terms["colour"].raw) == pytest.approx(0.1, rel=1e-3)
    assert float(terms["colour"].weighted) == pytest.approx(0.1 * Params().colour_weight, rel=1e-3)


def test_shapes_without_colours_teach_none(calibrated, items):
    batch, moment = batch_at(calibrated, items, 0)
    batch["coloured"] = torch.zeros(8, dtype=torch.bool)
    with torch.no_grad():
        outputs = calibrated.forward(batch, moment)
    assert float(calibrated.loss(outputs, batch, moment)["colour"].raw) == 0


def test_it_learns_from_the_teacher_unless_told_otherwise():
    assert needs(Params()).required == (TOKENS, VIEWS, FIELD)
    assert needs(Params(teacher=False)).required == (TOKENS, VIEWS, FIELD, TRUTH)


@pytest.mark.parametrize(("preset", "expected"), [("tiny", 94_585), ("base", 585_129), ("reference", 4_551_497)])
def test_presets_have_their_sizes(preset, expected):
    forms = {**toy.FORMS, "tokens": FeatureSpec("dinov2", 768, (16, 16), toy.NAMES).to_json()}
    student = create(Params(preset=preset), Spec(forms), seed=0)
    assert sum(parameter.numel() for parameter in student.network.parameters()) == expected
    assert SIZES[preset].capacity == student.network.space.capacity


def test_equal_seeds_give_equal_weights_and_other_seeds_others():
    states = [create(Params(), toy.SPEC, seed=seed).network.state_dict() for seed in (0, 0, 1)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["enter.weight"], states[2]["enter.weight"])
