"""Items of different groups that are nearly of one shape: copies under another name, which splits may tear apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from models.fingerprint import nearly_equal
from tasks.collections.records import Record
from tasks.engine.outcome import counted, some_of
from tasks.engine.stage import Json

FINGERPRINT = "fingerprint"
"""The fact of a mesh's record that holds `shape_fingerprint`."""
MOST_PAIRS = 20
"""Pairs that metrics.json names."""


def find_alike(records: Iterable[Record]) -> dict[str, Json]:
    """For metrics.json: pairs of nearly one shape in different groups, and those of them in different splits."""
    meshes: list[tuple[str, str, str]] = []
    fingerprints: list[npt.NDArray[np.float64]] = []
    for record in records:
        if FINGERPRINT in record.facts:
            meshes.append((record.facts["label"], record.facts["group"], record.facts["split"]))
            fingerprints.append(np.array(record.facts[FINGERPRINT]))
    near = [(meshes[i], meshes[j]) for i, j in nearly_equal(np.array(fingerprints))]
    pairs = [(one, other) for one, other in near if one[1] != other[1]]
    apart = [(one[0], other[0]) for one, other in pairs if one[2] != other[2]]
    return {
        "num_pairs": len(pairs),
        "num_in_different_splits": len(apart),
        "in_different_splits": [list(labels) for labels in apart[:MOST_PAIRS]],
    }


def notices(alike: Mapping[str, Json]) -> list[str]:
    """What people should know of it."""
    count = int(alike.get("num_in_different_splits", 0))
    if not count:
        return []
    names = some_of([" and ".join(pair) for pair in alike["in_different_splits"]], 2)
    return [
        f"{counted(count, 'pair')} of objects in different splits nearly of one shape: {names}; "
        "if they are one object, give them one group (`group` of the source) or one split (ingest.split.named)"
    ]
