"""From where a mesh looks most like views whose cameras are unknown: by silhouettes that are brought to one size.

A high overlap does not make a mesh right, for another may look like it from somewhere; a low one makes it wrong.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FRAME_PX = 64


def fits(
    seen_VSS: npt.NDArray[np.bool_], drawn_NSS: npt.NDArray[np.bool_], shown_CV: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Mean intersection over union (C,) of the views, for each candidate.

    seen_VSS: masks of the views. drawn_NSS: masks of the mesh. shown_CV: which of them candidate c shows for each view.
    """
    seen_VP = framed(seen_VSS).reshape(len(seen_VSS), -1).astype(np.float32)
    drawn_NP = framed(drawn_NSS).reshape(len(drawn_NSS), -1).astype(np.float32)
    shared_VN = seen_VP @ drawn_NP.T
    union_VN = seen_VP.sum(axis=1)[:, None] + drawn_NP.sum(axis=1) - shared_VN
    iou_VN = shared_VN / np.maximum(union_VN, 1)
    mean_C: npt.NDArray[np.float64] = iou_VN[np.arange(len(seen_VP)), shown_CV].mean(axis=1, dtype=np.float64)
    return mean_C


def framed(masks_VSS: npt.NDArray[np.bool_], size_px: int = FRAME_PX) -> npt.NDArray[np.bool_]:
    """(V, size_px, size_px): what each mask holds, centred and as large as it can be; its proportions stay."""
    result = np.zeros((len(masks_VSS), size_px, size_px), np.bool_)
    grid = (np.arange(size_px) + 0.5) / size_px - 0.5
    for place, mask_SS in enumerate(masks_VSS):
        (rows,), (columns,) = np.nonzero(mask_SS.any(axis=1)), np.nonzero(mask_SS.any(axis=0))
        if len(rows) == 0:
            continue
        side = int(max(np.ptp(rows), np.ptp(columns))) + 1
        ys, xs = (np.floor((ends[0] + ends[-1] + 1) / 2 + grid * side).astype(np.int64) for ends in (rows, columns))
        result[place] = np.pad(mask_SS, side)[np.ix_(ys + side, xs + side)]
    return result
