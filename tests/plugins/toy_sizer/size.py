"""Casts that are the extents of an object and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.cameras import Camera
from models.errors import EmptyOutput
from models.exam import Exam
from models.metric import Metric

FILE = "size.json"


@dataclass(frozen=True)
class Size:
    """Side lengths (3,) of the bounding box."""

    extents: tuple[float, float, float]


CAST = Size
METRICS = (Metric("size_error", "Size error", digits=3),)


def to_files(cast: Size) -> dict[str, bytes]:
    return {FILE: json.dumps(cast.extents).encode()}


def from_files(files: Mapping[str, bytes]) -> Size:
    return Size(tuple(json.loads(files[FILE])))


def check(cast: Size) -> dict[str, Any]:
    if not np.isfinite(cast.extents).all():
        raise EmptyOutput("the size is not finite")
    return {}


def measure(cast: Size, exam: Exam) -> dict[str, float]:
    if exam.truth is None:
        return {}
    return {"size_error": round(float(np.abs(np.array(cast.extents) - exam.truth.mesh.extents).mean()), 6)}


def surface(cast: Size) -> None:
    return None


def rendering(cast: Size, cameras: Sequence[Camera], size_px: int) -> npt.NDArray[np.uint8]:
    """A red rectangle of the object's width and height."""
    pictures = np.zeros((len(cameras), size_px, size_px, 4), np.uint8)
    half = [max(1, round(side * size_px / 4)) for side in cast.extents]
    middle = size_px // 2
    pictures[:, middle - half[1] : middle + half[1], middle - half[0] : middle + half[0]] = (200, 0, 0, 255)
    return pictures


def describe(cast: Size) -> str:
    return " x ".join(f"{side:.2f}" for side in cast.extents)


EXPORTS: Mapping[str, Callable[[Size], bytes]] = {".json": lambda cast: to_files(cast)[FILE]}
