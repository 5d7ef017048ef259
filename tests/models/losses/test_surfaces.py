import pytest
import torch
from pytorch3d.loss import mesh_edge_loss, mesh_laplacian_smoothing, mesh_normal_consistency
from pytorch3d.structures import Meshes

from models.losses.surfaces import SurfaceRegularisers, distillation, sample_faces
from models.students.mesh_deform.icosphere import icosphere
from models.training.terms import total


def points(offset: float, batch: int = 2) -> torch.Tensor:
    """One point an item, at `offset` along x: Chamfer between two of them is the difference."""
    return torch.tensor([offset, 0, 0]).expand(batch, 1, 3).clone()


def weighted(alpha: float, has_truth: list[bool]) -> dict[str, tuple[float, float]]:
    terms = distillation(points(0.0), points(1.0), points(3.0), torch.tensor(has_truth), alpha)
    return {name: (float(term.raw), float(term.weighted)) for name, term in terms.items()}


def test_alpha_mixes_teacher_and_truth():
    assert weighted(0.25, [True, True]) == {"teacher": (1.0, 0.25), "truth": (3.0, 2.25)}


def test_an_item_without_truth_keeps_alpha_one():
    assert weighted(0.25, [True, False]) == {"teacher": (1.0, 0.625), "truth": (3.0, 1.125)}
    assert weighted(0.25, [False, False]) == {"teacher": (1.0, 1.0), "truth": (0.0, 0.0)}


def test_each_item_is_mixed_by_its_own_alpha():
    student = torch.zeros(2, 1, 3)
    teacher = torch.tensor([[[1.0, 0, 0]], [[5.0, 0, 0]]])
    truth = torch.tensor([[[3.0, 0, 0]], [[7.0, 0, 0]]])
    terms = distillation(student, teacher, truth, torch.tensor([True, False]), 0.25)
    assert float(terms["teacher"].weighted) == pytest.approx((0.25 * 1 + 1 * 5) / 2)
    assert float(terms["truth"].weighted) == pytest.approx((0.75 * 3 + 0 * 7) / 2)
    assert (float(terms["teacher"].raw), float(terms["truth"].raw)) == (3.0, 3.0)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_alpha_may_be_0_or_1(alpha):
    assert weighted(alpha, [True, True]) == {"teacher": (1.0, alpha), "truth": (3.0, 3 * (1 - alpha))}


@pytest.mark.parametrize("alpha", [-0.01, 1.2])
def test_alpha_outside_of_0_to_1_is_refused(alpha):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        weighted(alpha, [True, True])


def test_regularisers_are_pytorch3ds_on_a_mesh_that_moves():
    sphere = icosphere(1)
    faces = torch.from_numpy(sphere.faces_F3)
    regularisers = SurfaceRegularisers(faces, edge=2.0, laplacian=3.0, normal=5.0)
    for seed, size in ((0, 2), (1, 2), (2, 3)):
        noise = torch.randn(size, 42, 3, generator=torch.Generator().manual_seed(seed)) * 0.1
        vertices = torch.from_numpy(sphere.vertices_N3) + noise
        meshes = Meshes(vertices, faces.expand(size, -1, -1))
        terms = regularisers.terms(vertices)
        expected = [mesh_edge_loss(meshes), mesh_laplacian_smoothing(meshes), mesh_normal_consistency(meshes)]
        assert torch.allclose(torch.stack([term.raw for term in terms.values()]), torch.stack(expected))
        assert torch.allclose(total(terms), 2 * expected[0] + 3 * expected[1] + 5 * expected[2])


def test_samples_lie_on_the_faces_in_proportion_to_their_area():
    vertices = torch.tensor([[[0.0, 0, 0], [3, 0, 0], [0, 1, 0], [0, 0, 1]]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])  # areas 1.5 and 0.5
    uniforms = torch.rand(1, 20_000, 3, generator=torch.Generator().manual_seed(0))
    sampled = sample_faces(vertices, faces, uniforms)[0]
    flat = sampled[:, 2] == 0
    assert float(flat.float().mean()) == pytest.approx(0.75, abs=0.01)
    assert torch.all(sampled[flat][:, 0] / 3 + sampled[flat][:, 1] <= 1 + 1e-6)
    assert torch.allclose(sampled[flat].mean(0), torch.tensor([1.0, 1 / 3, 0]), atol=0.02)


def test_samples_move_with_the_vertices():
    vertices = torch.rand(1, 3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    sampled = sample_faces(vertices, torch.tensor([[0, 1, 2]]), torch.rand(1, 50, 3))
    (gradient,) = torch.autograd.grad(sampled.sum(), vertices)
    assert torch.allclose(gradient.sum(1), torch.full((1, 3), 50.0))


def test_a_face_without_area_is_never_sampled():
    vertices = torch.tensor([[[9.0, 9, 9], [0, 0, 0], [1, 0, 0], [0, 1, 0]]])
    faces = torch.tensor([[0, 0, 0], [1, 2, 3], [0, 0, 0]])
    edges = torch.tensor([[[0.0, 0.5, 0.5], [1 - 2.0**-24, 0.5, 0.5]]])  # the first and the last place there is
    assert float(sample_faces(vertices, faces, edges).max()) <= 1
