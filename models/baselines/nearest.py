"""The training item whose feature grids are nearest, by cosine over the views both have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

POOLED = 4
"""Grids are averaged to POOLED x POOLED tokens: shifts of a token or two do not matter, and an item takes kilobytes."""


@dataclass(frozen=True)
class FeatureIndex:
    """Pooled features of N items: ids, view names, and rows (N, V, D) float16; a row of NaN is a view an item lacks."""

    ids: tuple[str, ...]
    views: tuple[str, ...]
    rows_NVD: npt.NDArray[np.float16]

    @staticmethod
    def build(items: Iterable[tuple[str, Mapping[str, npt.NDArray[np.float16]]]]) -> FeatureIndex:
        """From (id, token grids (H, W, C) by view), all of one encoder."""
        pooled = [(item_id, {view: pool(grid) for view, grid in grids.items()}) for item_id, grids in items]
        views = tuple(sorted({view for _, rows in pooled for view in rows}))
        width = next((len(row) for _, rows in pooled for row in rows.values()), 0)
        rows_NVD = np.full((len(pooled), len(views), width), np.nan, np.float16)
        for item_place, (_, rows) in enumerate(pooled):
            for view, row in rows.items():
                rows_NVD[item_place, views.index(view)] = row
        return FeatureIndex(tuple(item_id for item_id, _ in pooled), views, rows_NVD)

    def nearest(self, grids: Mapping[str, npt.NDArray[np.float16]]) -> str | None:
        """Id of the item with the highest mean cosine over the shared views, the first of equals; None without any.

        Features are taken relative to the index's mean: what all items have in common says nothing.
        """
        total_N, count_N = np.zeros(len(self.ids)), np.zeros(len(self.ids))
        for place, view in enumerate(self.views):
            if view not in grids:
                continue
            rows_ND = self.rows_NVD[:, place].astype(np.float32)
            present_N = np.isfinite(rows_ND[:, 0])
            mean_D = rows_ND[present_N].mean(axis=0)
            query_D = pool(grids[view]).astype(np.float32) - mean_D
            centred_ND = rows_ND[present_N] - mean_D
            lengths_N = np.linalg.norm(centred_ND, axis=1) * np.linalg.norm(query_D)
            total_N[present_N] += centred_ND @ query_D / np.maximum(lengths_N, 1e-12)
            count_N[present_N] += 1
        if not count_N.any():
            return None
        cosine_N = np.where(count_N > 0, total_N / np.maximum(count_N, 1), -np.inf)
        return self.ids[int(cosine_N.argmax())]


def pool(grid_HWC: npt.NDArray[np.float16]) -> npt.NDArray[np.float16]:
    """Means of POOLED x POOLED near-equal blocks of a token grid, flat: (POOLED * POOLED * C,)."""
    height, width, _ = grid_HWC.shape
    rows = np.linspace(0, height, POOLED + 1).astype(int)
    columns = np.linspace(0, width, POOLED + 1).astype(int)
    if height < POOLED or width < POOLED:
        raise ValueError(f"a token grid of {height}x{width} is smaller than {POOLED}x{POOLED}")
    wide = grid_HWC.astype(np.float32)
    sums = np.add.reduceat(np.add.reduceat(wide, rows[:-1], axis=0), columns[:-1], axis=1)
    means = sums / (np.diff(rows)[:, None] * np.diff(columns))[..., None]
    pooled: npt.NDArray[np.float16] = means.reshape(-1).astype(np.float16)
    return pooled
