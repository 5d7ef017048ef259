"""Chamfer, forward and backward: `models.chamfer` against pytorch3d and torch.cdist on this machine's CPU."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from pytorch3d.loss import chamfer_distance

from models.chamfer import chamfer_sq

SIZES = ((2_562, 10_000), (10_000, 10_000))


def by_cdist(a_BN3: torch.Tensor, b_BM3: torch.Tensor) -> torch.Tensor:
    distances = torch.cdist(a_BN3, b_BM3).square()
    return (distances.min(2).values.mean() + distances.min(1).values.mean()) / 2


def by_pytorch3d(a_BN3: torch.Tensor, b_BM3: torch.Tensor) -> torch.Tensor:
    value: torch.Tensor = chamfer_distance(a_BN3, b_BM3)[0] / 2
    return value


METHODS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "lostwax": chamfer_sq,
    "pytorch3d": by_pytorch3d,
    "cdist": by_cdist,
}


def measure(repeats: int, num_threads: int) -> dict[str, object]:
    """Median milliseconds by size and method, and how far each method's value and gradient lie from pytorch3d's."""
    torch.set_num_threads(num_threads)
    figures: dict[str, object] = {"num_threads": num_threads, "repeats": repeats, "unit": "ms, median"}
    for num_a, num_b in SIZES:
        generator = torch.Generator().manual_seed(0)
        a, b = (torch.rand(1, num, 3, generator=generator) for num in (num_a, num_b))
        value, gradient = _value_and_gradient(by_pytorch3d, a, b)
        row: dict[str, object] = {}
        for name, method in METHODS.items():
            milliseconds = [_milliseconds(method, a, b) for _ in range(repeats)]
            other_value, other_gradient = _value_and_gradient(method, a, b)
            row[name] = {
                "ms": round(statistics.median(milliseconds), 1),
                "value_error": float((other_value - value).abs() / value),
                "gradient_error": float((other_gradient - gradient).norm() / gradient.norm()),
            }
        figures[f"{num_a}x{num_b}"] = row
    return figures


def _milliseconds(
    method: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], a: torch.Tensor, b: torch.Tensor
) -> float:
    started = time.perf_counter()
    _value_and_gradient(method, a, b)
    return (time.perf_counter() - started) * 1000


def _value_and_gradient(
    method: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], a: torch.Tensor, b: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    a = a.clone().requires_grad_()
    value = method(a, b)
    (gradient,) = torch.autograd.grad(value, a)
    return value.detach(), gradient


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print nothing but JSON")
    arguments = parser.parse_args()
    figures = measure(arguments.repeats, arguments.threads)
    if arguments.json:
        print(json.dumps(figures))
        return
    for size, row in figures.items():
        if isinstance(row, dict):
            print(size, "  ".join(f"{name} {found['ms']} ms" for name, found in row.items()))


if __name__ == "__main__":
    main()
