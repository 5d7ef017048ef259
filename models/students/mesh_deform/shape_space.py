"""A linear space of whole shapes, and a linear reading of a place in it: fitted in closed form before training.

On 72 toy shapes, 216 steps of `tiny` reached a validation Chamfer of .027 without the linear reading, .030 with one
fitted to the very items it was trained on, and .020 with a reading cross-fitted as below (one seed each).
"""

from __future__ import annotations

import itertools

import torch
from torch import nn

from models.students import FeatureSpec
from models.students.mesh_deform.icosphere import LEVELS, icosphere, neighbours
from models.students.mesh_deform.layers import averaging, subdivided

PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Ridge penalties tried, relative to the mean squared length of a row."""


class ShapeSpace(nn.Module):
    """Amounts of R modes (B, R) -> shapes (B, N, 3): a mean and displacement fields, both fitted, and a correction of
    the mean that is trained. The fields are not: training them too gave as good a Chamfer and rougher surfaces.
    """

    mean_N3: torch.Tensor
    fields_RN3: torch.Tensor

    def __init__(self, rank: int) -> None:
        super().__init__()
        sphere = icosphere(LEVELS[-1])
        self.register_buffer("mean_N3", torch.from_numpy(sphere.vertices_N3) * 0.4)
        self.register_buffer("fields_RN3", torch.zeros(rank, len(sphere.vertices_N3), 3))
        self.correction_N3 = nn.Parameter(torch.zeros(len(sphere.vertices_N3), 3))

    @torch.no_grad()
    def fit(self, points_NP3: torch.Tensor) -> torch.Tensor:
        """Take the mean and the principal modes of how far the surfaces reach in each direction.

        Returns the shapes' amounts (N, R), of unit deviation; unused modes are zero.
        """
        device = points_NP3.device
        coarse, fine = icosphere(LEVELS[-2]), icosphere(LEVELS[-1])
        directions_S3 = torch.from_numpy(coarse.vertices_N3).to(device)
        reach_NS = torch.stack([_reach(points_P3[:2048], directions_S3) for points_P3 in points_NP3])
        reach_NS = _smoothed(reach_NS, torch.from_numpy(neighbours(coarse.faces_F3)).to(device))
        reach_NS = subdivided(reach_NS[..., None], torch.from_numpy(fine.parents_M2).to(device))[..., 0]

        unit_S3 = torch.from_numpy(fine.vertices_N3).to(device)
        mean_S = reach_NS.mean(0)
        places_NK, spread_K, modes_KS = torch.linalg.svd(reach_NS - mean_S, full_matrices=False)
        scale = len(points_NP3) ** 0.5
        used = min(len(self.fields_RN3), len(spread_K), int((spread_K > 1e-4 * spread_K[0]).sum()))
        self.mean_N3.copy_(mean_S[:, None] * unit_S3)
        self.fields_RN3[:used] = (spread_K[:used, None] / scale * modes_KS[:used])[..., None] * unit_S3
        amounts_NR = torch.zeros(len(points_NP3), len(self.fields_RN3), device=device)
        amounts_NR[:, :used] = places_NK[:, :used] * scale
        return amounts_NR

    def forward(self, amounts_BR: torch.Tensor) -> torch.Tensor:
        moved_BN3 = torch.einsum("br,rnc->bnc", amounts_BR, self.fields_RN3)
        return self.mean_N3 + self.correction_N3 + moved_BN3.float()


class LinearReader(nn.Module):
    """Standardised tokens of the views that are there -> amounts of the modes (B, R). Fitted, not trained.

    Tokens are reduced to their principal channels on a coarse grid; absent views are left out of a mean. Beside the map
    fitted to all items it keeps one for each of four folds, fitted to the other three: in training an item is read as
    an unseen one would be, else the network would learn to correct errors that are smaller than it meets later.
    """

    SIDE = 8
    CHANNELS = 24
    FOLDS = 4
    channels_CK: torch.Tensor
    weight_MFR: torch.Tensor
    rows_GH: torch.Tensor
    columns_GW: torch.Tensor

    def __init__(self, spec: FeatureSpec, rank: int) -> None:
        super().__init__()
        kept = min(self.CHANNELS, spec.channels)
        num_features = len(spec.views) * self.SIDE**2 * kept
        self.register_buffer("channels_CK", torch.zeros(spec.channels, kept))
        self.register_buffer("weight_MFR", torch.zeros(self.FOLDS + 1, num_features, rank))
        self.register_buffer("rows_GH", averaging(spec.grid[0], self.SIDE), persistent=False)
        self.register_buffer("columns_GW", averaging(spec.grid[1], self.SIDE), persistent=False)

    def forward(
        self, standard_BVHWC: torch.Tensor, present_BV: torch.Tensor, fold_B: torch.Tensor | None
    ) -> torch.Tensor:
        """fold_B: the fold that an item belongs to, FOLDS where it belongs to none; None is none for all."""
        rows_BF = _masked(self._reduced(standard_BVHWC), present_BV)
        if fold_B is None:
            return rows_BF @ self.weight_MFR[-1]
        amounts_MBR = rows_BF @ self.weight_MFR
        return amounts_MBR[fold_B, torch.arange(len(fold_B), device=fold_B.device)]

    @torch.no_grad()
    def fit(
        self,
        standard_NVHWC: torch.Tensor,
        present_NV: torch.Tensor,
        amounts_NR: torch.Tensor,
        fold_N: torch.Tensor,
    ) -> None:
        """Ridge regression over the items with all their views and with some of them.

        Each mode's penalty is the one that reads the folds left out best; a mode that none reads better than its mean
        does is not read.
        """
        tokens_XC = standard_NVHWC[present_NV].flatten(0, -2).double()
        _, axes_CC = torch.linalg.eigh(tokens_XC.T @ tokens_XC)
        self.channels_CK.copy_(axes_CC.flip(1)[:, : self.channels_CK.shape[1]])
        reduced_NVF = self._reduced(standard_NVHWC)
        subsets = _view_subsets(present_NV)
        rows_XF = torch.cat([_masked(reduced_NVF, subset_NV) for subset_NV in subsets]).double()
        target_XR = amounts_NR.double().repeat(len(subsets), 1)
        self.weight_MFR.copy_(_cross_fitted(rows_XF, target_XR, fold_N.repeat(len(subsets)), self.FOLDS))

    def _reduced(self, standard_BVHWC: torch.Tensor) -> torch.Tensor:
        grid = torch.einsum("gh,bvhwk,jw->bvgjk", self.rows_GH, standard_BVHWC @ self.channels_CK, self.columns_GW)
        return grid.flatten(2)


def _masked(reduced_BVF: torch.Tensor, present_BV: torch.Tensor) -> torch.Tensor:
    share_BV = present_BV / present_BV.sum(1, keepdim=True)
    return (reduced_BVF * share_BV[..., None]).flatten(1)


def _view_subsets(present_NV: torch.Tensor) -> list[torch.Tensor]:
    """The views that are there, and twice what is left of them when some are hidden: of each item, others."""
    num_items, num_views = present_NV.shape
    kept = [set(some) for size in (1, 2) for some in itertools.combinations(range(num_views), size)]
    subsets = [present_NV]
    for turn in range(2):
        shown_NV = torch.tensor(
            [[view in kept[(item + turn * 5) % len(kept)] for view in range(num_views)] for item in range(num_items)],
            device=present_NV.device,
        )
        left_NV = present_NV & shown_NV
        subsets.append(torch.where(left_NV.any(1, keepdim=True), left_NV, present_NV))
    return subsets


def _cross_fitted(rows_XF: torch.Tensor, target_XR: torch.Tensor, fold_X: torch.Tensor, num_folds: int) -> torch.Tensor:
    """Ridge weights (num_folds + 1, F, R): for each fold fitted to the other folds, the last fitted to all.

    Each target's penalty is the one that reads the folds left out best; a target that none reads better than its mean
    does has zero weights. Solved in the dual: there are fewer rows than features.
    """
    gram_XX = rows_XF @ rows_XF.T
    strengths_P = torch.tensor(PENALTIES, dtype=rows_XF.dtype, device=rows_XF.device) * gram_XX.diagonal().mean()
    duals, errors_PR = [], torch.zeros(len(PENALTIES), target_XR.shape[1]).to(target_XR)
    for left_out in range(num_folds + 1):
        kept_X = fold_X != left_out
        values_K, vectors_KK = torch.linalg.eigh(gram_XX[kept_X][:, kept_X])
        shrunk_PK = 1 / (values_K.clamp(min=0) + strengths_P[:, None]).clamp(min=1e-12)
        dual_PKR = vectors_KK @ (shrunk_PK[..., None] * (vectors_KK.T @ target_XR[kept_X]))
        errors_PR += (gram_XX[~kept_X][:, kept_X] @ dual_PKR - target_XR[~kept_X]).square().sum(1)
        duals.append((kept_X, dual_PKR))
    least_R, best_R = errors_PR.min(0)
    worth_R = least_R < target_XR.square().sum(0)
    every_R = torch.arange(len(best_R), device=best_R.device)
    return torch.stack([rows_XF[kept_X].T @ (dual_PKR[best_R, :, every_R].T * worth_R) for kept_X, dual_PKR in duals])


def _reach(points_P3: torch.Tensor, directions_S3: torch.Tensor) -> torch.Tensor:
    """How far (S,) a surface lies from the origin in each direction: of the dozen points nearest to it, the outer."""
    distance_P = torch.linalg.vector_norm(points_P3, dim=1)
    cosine_SP = directions_S3 @ (points_P3 / distance_P.clamp(min=1e-6)[:, None]).T
    near_SK = cosine_SP.topk(min(12, len(points_P3)), dim=1).indices
    reach_S: torch.Tensor = distance_P[near_SK].quantile(0.75, dim=1)
    return reach_S


def _smoothed(values_NS: torch.Tensor, around_S6: torch.Tensor, rounds: int = 2) -> torch.Tensor:
    valid_S6 = (around_S6 >= 0).float()
    for _ in range(rounds):
        values_NS = (values_NS + (values_NS[:, around_S6] * valid_S6).sum(-1) / valid_S6.sum(-1)) / 2
    return values_NS
