"""Distances between two sampled surfaces. All distances are unsquared, in the units of the points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from models.geometry import FloatArray


@dataclass(frozen=True)
class Matches:
    """Nearest neighbours between N predicted points P and M true points T.

    to_truth_N, to_predicted_M: distances. truth_index_N, predicted_index_M: the neighbours.
    """

    to_truth_N: npt.NDArray[np.float64]
    truth_index_N: npt.NDArray[np.intp]
    to_predicted_M: npt.NDArray[np.float64]
    predicted_index_M: npt.NDArray[np.intp]

    @property
    def accuracy(self) -> float:
        """Mean distance from a predicted point to the truth."""
        return float(self.to_truth_N.mean())

    @property
    def completeness(self) -> float:
        """Mean distance from a true point to the prediction."""
        return float(self.to_predicted_M.mean())

    @property
    def chamfer(self) -> float:
        """(accuracy + completeness) / 2, unsquared."""
        return (self.accuracy + self.completeness) / 2

    def fscore(self, threshold: float) -> float:
        """Harmonic mean of the shares of points, each way, that lie closer than `threshold` to the other surface."""
        precision = float((self.to_truth_N < threshold).mean())
        recall = float((self.to_predicted_M < threshold).mean())
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    def normal_consistency(self, predicted_N3: FloatArray, truth_M3: FloatArray) -> float:
        """Mean |cosine| between the unit normals of neighbours, both ways averaged; insensitive to orientation."""
        there = np.abs(np.einsum("ij,ij->i", predicted_N3, truth_M3[self.truth_index_N])).mean()
        back = np.abs(np.einsum("ij,ij->i", truth_M3, predicted_N3[self.predicted_index_M])).mean()
        return float(there + back) / 2


def match(predicted: cKDTree, truth: cKDTree) -> Matches:
    """Nearest neighbours both ways between the points of two trees, on the caller's thread."""
    return Matches(*_query(truth, predicted.data), *_query(predicted, truth.data))


def _query(tree: cKDTree, points_N3: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    distance_N, index_N = tree.query(points_N3, workers=1)
    return np.asarray(distance_N), np.asarray(index_N)
