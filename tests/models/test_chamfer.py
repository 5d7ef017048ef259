import pytest
import torch
from pytorch3d.loss import chamfer_distance
from pytorch3d.ops import knn_points

from models.chamfer import chamfer, chamfer_sq


def clouds(num_a: int = 300, num_b: int = 450) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(3, num, 3, generator=generator).requires_grad_() for num in (num_a, num_b))


def gradients(value: torch.Tensor, *points: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(value, points))


def test_a_shifted_point_is_as_far_as_it_was_shifted():
    a, b = torch.zeros(1, 1, 3), torch.tensor([[[0.3, 0.0, 0.4]]])
    assert float(chamfer(a, b)) == pytest.approx(0.5)
    assert float(chamfer_sq(a, b)) == pytest.approx(0.25)


def test_accuracy_and_completeness_count_half_each():
    a, b = torch.zeros(1, 1, 3), torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 2, 0]]])
    assert float(chamfer(a, b)) == pytest.approx((0 + (0 + 1 + 2) / 3) / 2)


def test_squared_values_and_gradients_are_half_of_pytorch3ds():
    a, b = clouds()
    ours, (theirs, _) = chamfer_sq(a, b), chamfer_distance(a, b)
    assert torch.allclose(ours, theirs / 2, rtol=1e-6)
    for mine, other in zip(gradients(ours, a, b), gradients(theirs / 2, a, b), strict=True):
        assert torch.allclose(mine, other, rtol=1e-5, atol=1e-9)


def test_unsquared_values_and_gradients_are_those_of_pytorch3ds_nearest_neighbours():
    a, b = clouds()
    ours = chamfer(a, b, reduction="none")
    theirs = (knn_points(a, b).dists.sqrt().mean((1, 2)) + knn_points(b, a).dists.sqrt().mean((1, 2))) / 2
    assert ours.shape == (3,)
    assert torch.allclose(ours, theirs, rtol=1e-6)
    for mine, other in zip(gradients(ours.sum(), a, b), gradients(theirs.sum(), a, b), strict=True):
        assert torch.allclose(mine, other, rtol=1e-5, atol=1e-9)


def test_coinciding_points_have_a_zero_gradient_instead_of_nan():
    a = torch.rand(1, 5, 3).requires_grad_()
    (gradient,) = gradients(chamfer(a, a.detach().clone()), a)
    assert torch.equal(gradient, torch.zeros_like(a))


def test_points_that_are_not_finite_are_refused():
    with pytest.raises(FloatingPointError, match="not finite"):
        chamfer(torch.full((1, 4, 3), torch.nan), torch.zeros(1, 4, 3))


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"\(2, 4, 3\)"):
        chamfer(torch.zeros(1, 4, 3), torch.zeros(2, 4, 3))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_the_cpu():
    a, b = clouds()
    on_gpu = [points.detach().cuda().requires_grad_() for points in (a, b)]
    assert float(chamfer(*on_gpu)) == pytest.approx(float(chamfer(a, b)), rel=1e-5)
    for mine, other in zip(gradients(chamfer(*on_gpu), *on_gpu), gradients(chamfer(a, b), a, b), strict=True):
        assert torch.allclose(mine.cpu(), other, rtol=1e-4, atol=1e-8)
