"""Toy shapes that train in seconds: bent boxes between ellipsoid and cuboid, seen as silhouettes from four sides."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from models.needs import TOKENS, InHand
from models.students import FeatureSpec, Spec
from models.training.trainable import Example

VIEWS = ("front", "left", "back", "right")


def spec(grid: int = 16, channels: int = 384) -> Spec:
    return Spec({"tokens": FeatureSpec("silhouette", channels, (grid, grid), VIEWS).to_json()})


@dataclass(frozen=True)
class Shapes:
    """Examples of `mesh_deform`, stacked: N items with V views."""

    tokens_NVHWC: torch.Tensor
    present_NV: torch.Tensor
    teacher_NP3: torch.Tensor
    truth_NP3: torch.Tensor
    has_truth_N: torch.Tensor

    def __len__(self) -> int:
        return len(self.tokens_NVHWC)

    def __getitem__(self, index: int) -> Example:
        return {
            "tokens": self.tokens_NVHWC[index],
            "present": self.present_NV[index],
            "teacher": self.teacher_NP3[index],
            "truth": self.truth_NP3[index],
            "has_truth": self.has_truth_N[index],
            "colours": _colours(self.truth_NP3[index]),
            "coloured": torch.tensor(True),
        }

    def without_truth(self) -> Shapes:
        return replace(self, has_truth_N=torch.zeros_like(self.has_truth_N))

    def given(self, index: int, views: tuple[str, ...] = VIEWS) -> InHand:
        """What a prediction is made from: tokens of some of the views."""
        grids = {view: self.tokens_NVHWC[index, VIEWS.index(view)].numpy() for view in views}
        return InHand(f"toy-{index}", {TOKENS: grids}, (TOKENS,))


def shapes(
    num_items: int, *, seed: int, grid: int = 16, channels: int = 384, num_points: int = 4_000, truth: bool = True
) -> Shapes:
    """Superquadrics of random extents, squareness, taper and bend; the teacher is the truth with noise."""
    rng = np.random.default_rng(seed)
    lift = np.random.default_rng(0).normal(size=(16, channels)) / 4
    tokens = np.empty((num_items, 4, grid, grid, channels), np.float16)
    points = np.empty((num_items, num_points, 3), np.float32)
    for item in range(num_items):
        points[item] = _superquadric(rng, num_points)
        dense = _superquadric_like(points[item])
        for view in range(4):
            tokens[item, view] = _silhouette_patches(dense, view, grid) @ lift
    teacher = points + rng.normal(scale=0.01, size=points.shape).astype(np.float32)
    return Shapes(
        torch.from_numpy(tokens),
        torch.ones(num_items, 4, dtype=torch.bool),
        torch.from_numpy(teacher),
        torch.from_numpy(points),
        torch.full((num_items,), truth),
    )


def _colours(points_P3: torch.Tensor) -> torch.Tensor:
    """Red above, blue below."""
    above_P = points_P3[:, 1] > 0
    return torch.stack([above_P, torch.zeros_like(above_P), ~above_P], dim=-1).byte() * 255


def _superquadric(rng: np.random.Generator, num_points: int) -> np.ndarray:
    extents = np.array([1.0, rng.uniform(0.3, 0.9), rng.uniform(0.25, 0.7)])
    power, taper, bend = rng.uniform(0.4, 1.0), rng.uniform(-0.6, 0.6), rng.uniform(-0.4, 0.4)
    direction = rng.normal(size=(num_points, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    points = np.sign(direction) * np.abs(direction) ** power * extents / 2
    points[:, 1:] *= 1 + taper * points[:, :1]
    points[:, 1] += bend * (points[:, 0] * 2) ** 2
    points -= (points.max(0) + points.min(0)) / 2
    return (points / np.ptp(points, axis=0).max()).astype(np.float32)


def _superquadric_like(points: np.ndarray) -> np.ndarray:
    """The solid's shadow from its surface: points towards the centre fill the silhouette."""
    return np.concatenate([points * scale for scale in np.linspace(0.1, 1, 10)])


def _silhouette_patches(points: np.ndarray, view: int, grid: int) -> np.ndarray:
    """4x4 binary pixels of each of grid x grid patches, the object filling 90 % of the picture."""
    turn = view * np.pi / 2
    across = points[:, 0] * np.cos(turn) + points[:, 2] * np.sin(turn)
    flat = np.stack([-points[:, 1], across], axis=1)
    flat -= (flat.max(0) + flat.min(0)) / 2
    size = grid * 4
    pixel = ((flat / np.ptp(flat, axis=0).max() * 0.9 + 0.5) * size).astype(int).clip(0, size - 1)
    image = np.zeros((size, size))
    image[pixel[:, 0], pixel[:, 1]] = 1
    return image.reshape(grid, 4, grid, 4).transpose(0, 2, 1, 3).reshape(grid, grid, 16)
