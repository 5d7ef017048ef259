"""Accessors as arrays: strided, normalised, sparse."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import BadInput
from models.meshfiles.gltf.document import Document
from models.meshfiles.parts import Limits

COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}


def read(document: Document, index: Any, limits: Limits) -> npt.NDArray[Any]:
    """(count, width) of the accessor's own type, or float32 where it is normalised."""
    accessor = document.entry("accessors", index)
    count, width = accessor["count"], WIDTHS[accessor["type"]]
    limits.check_list(count)
    dtype = _dtype(accessor["componentType"])
    if "bufferView" in accessor:
        values = _packed(document, accessor["bufferView"], accessor.get("byteOffset", 0), dtype, (count, width))
    else:
        values = np.zeros((count, width), dtype)
    if sparse := accessor.get("sparse"):
        values = _replaced(document, values, sparse)
    return normalised(values) if accessor.get("normalized") and dtype.kind in "iu" else values


def normalised(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Integers as float32: the largest is 1, and -1 the least."""
    scaled = values.astype(np.float64) / np.iinfo(values.dtype).max
    return np.maximum(scaled, -1).astype(np.float32)


def _dtype(component_type: Any) -> np.dtype[Any]:
    if component_type not in COMPONENTS:
        raise BadInput(f"an accessor has components of type {component_type}, which glTF 2.0 does not know")
    return np.dtype(COMPONENTS[component_type])


def _packed(
    document: Document, view_index: Any, start: int, dtype: np.dtype[Any], shape: tuple[int, int]
) -> npt.NDArray[Any]:
    data, stride = document.view(view_index)
    row = shape[1] * dtype.itemsize
    stride = stride or row
    end = start + (shape[0] - 1) * stride + row
    if start < 0 or stride < row or end > len(data):
        raise BadInput(f"truncated: an accessor ends at byte {end}, its buffer view has {len(data)}")
    return np.ndarray(shape, dtype, data, start, (stride, dtype.itemsize)).copy()


def _replaced(document: Document, values: npt.NDArray[Any], sparse: dict[str, Any]) -> npt.NDArray[Any]:
    """The values with those that the sparse part gives."""
    count, where, what = sparse["count"], sparse["indices"], sparse["values"]
    if not 0 < count <= len(values):
        raise BadInput(f"a sparse accessor replaces {count} of {len(values)} values")
    index_type = _dtype(where["componentType"])
    indices = _packed(document, where["bufferView"], where.get("byteOffset", 0), index_type, (count, 1))[:, 0]
    if indices.max() >= len(values):
        raise BadInput(f"a sparse accessor replaces value {indices.max()} of {len(values)}")
    shape = (count, values.shape[1])
    values[indices] = _packed(document, what["bufferView"], what.get("byteOffset", 0), values.dtype, shape)
    return values
