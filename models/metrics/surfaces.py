"""A mesh against the true mesh, under one protocol."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from models.geometry import FRAME, FloatArray, Mesh, sample_surface
from models.metrics.points import match
from models.occupancy import Cells, cells_iou, occupied_cells


@dataclass(frozen=True)
class Protocol:
    """What makes two figures comparable.

    num_points: area-uniform samples of each surface. thresholds: of the F-scores, ascending; the first is "the"
    F-score. iou_resolution: cells along the canonical longest side. seed: of the samples.
    """

    num_points: int = 10_000
    thresholds: tuple[float, ...] = (0.01, 0.02)
    iou_resolution: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_points < 1 or self.iou_resolution < 1:
            raise ValueError(f"num_points and iou_resolution must be positive: {self}")
        if not self.thresholds or min(self.thresholds) <= 0 or list(self.thresholds) != sorted(self.thresholds):
            raise ValueError(f"thresholds must be positive and ascending, at least one: {self.thresholds}")

    def to_json(self) -> dict[str, Any]:
        """The protocol in words and numbers, to stand beside the figures."""
        return {
            "frame": FRAME,
            "distance": "unsquared, in units of the object's longest side",
            "num_points": self.num_points,
            "sampling": f"area-uniform, seeds {self.seed} (truth) and {self.seed + 1} (prediction)",
            "chamfer": "(accuracy + completeness) / 2",
            "fscore_threshold": self.thresholds[0],
            "fscore_thresholds": list(self.thresholds),
            "normal_consistency": "mean |cosine| of nearest samples, both ways",
            "iou": "cells whose centre has |winding number| > 1/2",
            "iou_resolution": self.iou_resolution,
        }


class Surface:
    """A mesh prepared for comparisons under one protocol: samples, tree and cells are made once, when first asked."""

    def __init__(self, mesh: Mesh, protocol: Protocol, seed: int | None = None) -> None:
        """seed: of its samples, the protocol's by default. Raises BadInput for a mesh without area."""
        self.mesh = mesh
        self.protocol = protocol
        rng = np.random.default_rng(protocol.seed if seed is None else seed)
        self.points_N3, self.normals_N3 = sample_surface(mesh, protocol.num_points, rng)

    points_N3: FloatArray
    normals_N3: FloatArray

    @cached_property
    def tree(self) -> cKDTree:
        """Over points_N3."""
        return cKDTree(self.points_N3)

    @cached_property
    def cells(self) -> Cells:
        return occupied_cells(self.mesh, self.protocol.iou_resolution)


@dataclass(frozen=True)
class Figures:
    """One mesh against one truth. Distances unsquared, in units of the object's longest side; fscores by threshold."""

    chamfer: float
    accuracy: float
    completeness: float
    fscores: dict[float, float]
    normal_consistency: float
    iou: float

    def to_json(self) -> dict[str, float]:
        """Flat: `fscore` at the first threshold, `fscore_T` at the others; rounded to 6 decimals."""
        first, *others = self.fscores
        values = {
            "chamfer": self.chamfer,
            "accuracy": self.accuracy,
            "completeness": self.completeness,
            "fscore": self.fscores[first],
            **{f"fscore_{threshold:g}": self.fscores[threshold] for threshold in others},
            "normal_consistency": self.normal_consistency,
            "iou": self.iou,
        }
        return {name: round(value, 6) for name, value in values.items()}


def compare(predicted: Mesh, truth: Surface) -> Figures:
    """Figures of a mesh against the truth, under the truth's protocol. Raises BadInput for a mesh without area.

    The prediction is sampled with the next seed, so `compare(truth.mesh, truth)` is the sampling floor.
    """
    protocol = truth.protocol
    surface = Surface(predicted, protocol, seed=protocol.seed + 1)
    matches = match(surface.tree, truth.tree)
    return Figures(
        chamfer=matches.chamfer,
        accuracy=matches.accuracy,
        completeness=matches.completeness,
        fscores={threshold: matches.fscore(threshold) for threshold in protocol.thresholds},
        normal_consistency=matches.normal_consistency(surface.normals_N3, truth.normals_N3),
        iou=cells_iou(truth.cells if predicted is truth.mesh else surface.cells, truth.cells),
    )
