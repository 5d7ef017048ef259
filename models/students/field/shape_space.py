"""A linear space of whole fields, and a reading of a place in it: fitted in closed form before training.

The space is spanned by the principal modes of the training items' fields. A place in it is read off the item's visual
hull by kernel ridge regression over the training items' hulls of the same views; what of the hull lies outside the
space is added, so that an object unlike any in training starts from its hull, and not from the nearest shoe. An item
of whose views it is unknown where they stand is read off its tokens.

Measured on 21 generated shoes and 51 real objects of classes left out: docs/experiments/field.md.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from models.fields import cell_centres
from models.students import FeatureSpec
from models.students.field.evidence import RANGE, Seen, look

FOLDS = 4
"""In training an item is read by a regression over the other folds: it errs as it will on unseen items."""
WIDTHS = (1.5, 2.5, 4.0)
"""Widths of the kernel tried, in units of the median distance to the fifth neighbour."""
RIDGES = (0.003, 0.03)
"""Penalties tried."""
NEIGHBOUR = 5


class ShapeSpace(nn.Module):
    """What is seen -> a first guess of the field (B, R, R, R) and how familiar the item looks (B,), 0 to 1.

    Nothing is trained. The first `capacity` items are kept. Buffers: the mean and modes of fields on R^3 cells; of each
    kept item its amounts of the modes, its distances on COARSE^3 cells to each view's cone, and its pooled tokens.
    """

    RESOLUTION = 32
    COARSE = 16
    POOLED = 4
    CHANNELS = 24
    num_items: torch.Tensor
    mean_X: torch.Tensor
    modes_KX: torch.Tensor
    amounts_NK: torch.Tensor
    cones_NVY: torch.Tensor
    channels_CD: torch.Tensor
    tokens_NVF: torch.Tensor
    seen_NV: torch.Tensor
    grid_Y3: torch.Tensor
    settings_2: torch.Tensor

    def __init__(self, spec: FeatureSpec, *, rank: int, capacity: int) -> None:
        super().__init__()
        num_views, channels = len(spec.views), min(self.CHANNELS, spec.channels)
        self.capacity = capacity
        num_cells, num_coarse = self.RESOLUTION**3, self.COARSE**3
        self.register_buffer("num_items", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean_X", torch.full((num_cells,), RANGE))
        self.register_buffer("modes_KX", torch.zeros(rank, num_cells))
        self.register_buffer("amounts_NK", torch.zeros(capacity, rank))
        self.register_buffer("cones_NVY", torch.zeros(capacity, num_views, num_coarse, dtype=torch.float16))
        self.register_buffer("channels_CD", torch.zeros(spec.channels, channels))
        self.register_buffer("tokens_NVF", torch.zeros(capacity, num_views, self.POOLED**2 * channels))
        self.register_buffer("seen_NV", torch.zeros(capacity, num_views, dtype=torch.bool))
        self.register_buffer("settings_2", torch.tensor([WIDTHS[1], RIDGES[0]]))
        axis = torch.from_numpy(cell_centres(self.COARSE)).float()
        grid_Y3 = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)
        self.register_buffer("grid_Y3", grid_Y3, persistent=False)
        self._known: dict[tuple[bool, ...], _Rows] = {}
        self._regressions: dict[tuple[tuple[bool, ...], int], _Regression] = {}

    @torch.no_grad()
    def fit(self, seen: Seen, fields_NX: torch.Tensor) -> None:
        """Span the space by the fields and remember how the items look: N items, at most `capacity`."""
        count = len(fields_NX)
        self.num_items.fill_(count)
        self.mean_X.copy_(fields_NX.mean(0))
        _, spread_K, modes_KX = torch.linalg.svd(fields_NX - self.mean_X, full_matrices=False)
        used = min(len(self.modes_KX), int((spread_K > 1e-4 * spread_K[0]).sum()))
        self.modes_KX.zero_()[:used] = modes_KX[:used]
        self.amounts_NK[:count] = (fields_NX - self.mean_X) @ self.modes_KX.T
        self.cones_NVY[:count] = self._cones(seen).half()
        tokens_XC = seen.tokens_BVHWC[seen.present_BV].flatten(0, -2).double()
        _, axes_CC = torch.linalg.eigh(tokens_XC.T @ tokens_XC)
        self.channels_CD.copy_(axes_CC.flip(1)[:, : self.channels_CD.shape[1]])
        self.tokens_NVF[:count] = self._pooled(seen)
        self.seen_NV.zero_()[:count] = seen.present_BV
        self._forget()
        self._choose_settings()

    def forward(self, seen: Seen, fold_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """fold_B: the fold that an item belongs to in training, -1 where it belongs to none."""
        cones_BVY, pooled_BVF = self._cones(seen), self._pooled(seen)
        amounts_BK = cones_BVY.new_zeros(len(fold_B), self.amounts_NK.shape[1])
        beyond_BY = cones_BVY.new_zeros(len(fold_B), self.COARSE**3)
        familiar_B = cones_BVY.new_zeros(len(fold_B))
        for item, (placed, fold) in enumerate(zip(map(tuple, seen.placed_BV.tolist()), fold_B.tolist(), strict=True)):
            rows = self._rows(placed)
            regression = self._regression(placed, fold, rows)
            if any(placed):
                query_D = cones_BVY[item, list(placed)].amax(0)
            else:
                query_D = pooled_BVF[item][seen.present_BV[item]].mean(0)
            weights_J, familiar_B[item] = regression.weights(query_D)
            amounts_BK[item] = weights_J @ rows.amounts_MK[regression.kept_J]
            if any(placed):
                hulls_JY = rows.features_MD[regression.kept_J]
                mean_Y = hulls_JY.mean(0)
                beyond_BY[item] = query_D - mean_Y - weights_J @ (hulls_JY - mean_Y)
        within_BX = self.mean_X + amounts_BK @ self.modes_KX
        coarse_BYYY = beyond_BY.reshape(-1, *(self.COARSE,) * 3)
        beyond_BRRR = functional.interpolate(coarse_BYYY[:, None], size=(self.RESOLUTION,) * 3, mode="trilinear")[:, 0]
        return within_BX.reshape(beyond_BRRR.shape) + beyond_BRRR, familiar_B

    def _cones(self, seen: Seen) -> torch.Tensor:
        """Distances (B, V, Y) of the coarse cells to the views' cones; a view that is not placed carves nothing."""
        points_BY3 = self.grid_Y3.expand(len(seen.present_BV), -1, -1)
        sight = look(seen, points_BY3)
        return sight.distance_BVP.masked_fill(~seen.placed_BV[..., None], -RANGE)

    def _pooled(self, seen: Seen) -> torch.Tensor:
        """Tokens (B, V, F) in their principal channels on a coarse grid."""
        reduced_BVHWD = seen.tokens_BVHWC @ self.channels_CD
        grid_XDHW = reduced_BVHWD.flatten(0, 1).permute(0, 3, 1, 2)
        pooled = functional.adaptive_avg_pool2d(grid_XDHW, self.POOLED)
        return pooled.reshape(*seen.present_BV.shape, -1)

    def _rows(self, placed: tuple[bool, ...]) -> _Rows:
        """How the items look from the views that are placed: by their hulls; without any, by each of their views."""
        if placed not in self._known:
            self._known[placed] = self._look_of_items(placed)
        return self._known[placed]

    def _look_of_items(self, placed: tuple[bool, ...]) -> _Rows:
        count = int(self.num_items)
        item_N = torch.arange(count, device=self.mean_X.device)
        if any(placed):
            hulls_NY = self.cones_NVY[:count, list(placed)].amax(1).float()
            return _Rows(hulls_NY, self.amounts_NK[:count], item_N % FOLDS)
        seen_NV = self.seen_NV[:count]
        item_M = item_N[:, None].expand(seen_NV.shape)[seen_NV]
        return _Rows(self.tokens_NVF[:count][seen_NV], self.amounts_NK[item_M], item_M % FOLDS)

    def _regression(self, placed: tuple[bool, ...], fold: int, rows: _Rows) -> _Regression:
        key = (placed, fold)
        if key not in self._regressions:
            width, ridge = self.settings_2.tolist()
            self._regressions[key] = _Regression(rows, fold, width, ridge)
        return self._regressions[key]

    def _choose_settings(self) -> None:
        """The kernel that reads the folds left out best."""
        rows = self._rows((True,) * self.cones_NVY.shape[1])
        errors = {}
        for width, ridge in itertools.product(WIDTHS, RIDGES):
            errors[width, ridge] = sum(_left_out_error(rows, fold, width, ridge) for fold in range(FOLDS))
        self.settings_2.copy_(torch.tensor(min(errors, key=lambda setting: errors[setting])))

    def _forget(self) -> None:
        """What was derived from the buffers."""
        self._known.clear()
        self._regressions.clear()

    def _apply(self, *arguments: Any, **options: Any) -> ShapeSpace:
        self._forget()
        moved: ShapeSpace = super()._apply(*arguments, **options)  # type: ignore[no-untyped-call]
        return moved

    def _load_from_state_dict(self, *arguments: Any) -> None:
        self._forget()
        super()._load_from_state_dict(*arguments)


@dataclass(frozen=True)
class _Rows:
    """M things to compare with: how they look, where they lie in the space, and the fold that each belongs to."""

    features_MD: torch.Tensor
    amounts_MK: torch.Tensor
    fold_M: torch.Tensor


class _Regression:
    """Kernel ridge regression over the J rows outside one fold (all of them where there would be none)."""

    def __init__(self, rows: _Rows, fold: int, width: float, ridge: float) -> None:
        kept_M = rows.fold_M != fold
        self.kept_J = torch.nonzero(kept_M if kept_M.any() else torch.ones_like(kept_M)).flatten()
        self._features_JD = rows.features_MD[self.kept_J]
        distance_JJ = torch.cdist(self._features_JD, self._features_JD)
        near = min(NEIGHBOUR + 1, len(self.kept_J))
        self._scale = (distance_JJ.kthvalue(near, dim=1).values.median() * width).clamp(min=1e-6)
        kernel_JJ = self._kernel(distance_JJ).double()
        ridge_JJ = ridge * torch.eye(len(kernel_JJ), dtype=torch.float64, device=kernel_JJ.device)
        self._inverse_JJ = torch.linalg.inv(kernel_JJ + ridge_JJ).float()

    def weights(self, query_D: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What each kept row counts (J,), and how close the closest one is, 0 to 1."""
        kernel_J = self._kernel(torch.cdist(query_D[None], self._features_JD)[0])
        return kernel_J @ self._inverse_JJ, kernel_J.max()

    def _kernel(self, distance: torch.Tensor) -> torch.Tensor:
        return torch.exp(-(distance / self._scale).square())


def _left_out_error(rows: _Rows, fold: int, width: float, ridge: float) -> float:
    """Summed squared error of the fold's amounts, read by a regression over the other folds."""
    regression = _Regression(rows, fold, width, ridge)
    error = 0.0
    for row in torch.nonzero(rows.fold_M == fold).flatten().tolist():
        weights_J, _ = regression.weights(rows.features_MD[row])
        error += float((weights_J @ rows.amounts_MK[regression.kept_J] - rows.amounts_MK[row]).square().sum())
    return error
