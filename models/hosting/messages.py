"""What a teacher's host and its client send each other: a line of JSON, then the bytes of the arrays that it lists.

    {"generate": {...}, "request": 7, "arrays": [["rgba_VHW4", "uint8", [1, 518, 518, 4]]]}\n<bytes>

Needs Python and NumPy only: it runs in the teachers' own environments too. No pickle on either side.

To the host: {"load": {runtime, settings, device}} once, then {"generate": {id, names, settings, seed}} for each item
(array rgba_VHW4). Every request has a number, `request`, and every answer repeats it: {"ready": figures} or
{"unavailable": text}; {"done": figures} with the arrays of the output, or {"failed": {class, message, detail, figures,
poisoned}}. {"beat": {}}, without a number, comes whenever nothing else was sent for a while.
"""

from __future__ import annotations

import json
import math
import numbers
import os
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
import numpy.typing as npt

PROTOCOL = 2
MAX_HEAD_BYTES = 1 << 20
MAX_ARRAY_BYTES = 2 << 30
_INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
DTYPES = ("bool", *_INTEGERS, "float16", "float32", "float64")
Arrays = Mapping[str, npt.NDArray[Any]]


class ProtocolError(RuntimeError):
    """The other side sent something that is no message."""


def sendable(figures: Mapping[str, Any], arrays: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures as plain JSON values, arrays as ones of DTYPES, converted where they can be.

    Raises TypeError or ValueError naming the figure or the array that cannot.
    """
    plain = {str(name): _plain(value, f"the figure {name!r}") for name, value in figures.items()}
    if (size := len(json.dumps(plain))) > MAX_HEAD_BYTES // 2:
        raise ValueError(f"the figures take {size} bytes, over {MAX_HEAD_BYTES // 2}: give what is large as an array")
    return plain, {str(name): _array(value, str(name)) for name, value in arrays.items()}


def write_message(stream: IO[bytes], head: Mapping[str, Any], arrays: Arrays | None = None) -> None:
    """Write one message and flush."""
    native = {name: _native(array) for name, array in (arrays or {}).items()}
    listing = [[name, array.dtype.name, list(array.shape)] for name, array in native.items()]
    stream.write(json.dumps({**head, "arrays": listing}).encode() + b"\n")
    for array in native.values():
        stream.write(_bytes_of(array))
    stream.flush()


def read_message(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]] | None:
    """(head, arrays) of the next message; None at the end of the stream. The arrays may be written to.

    Raises ProtocolError.
    """
    line = stream.readline(MAX_HEAD_BYTES)
    if len(line) == MAX_HEAD_BYTES and not line.endswith(b"\n"):
        raise ProtocolError(f"not a message: {MAX_HEAD_BYTES} bytes without an end, {line[:80]!r}...")
    if not line.endswith(b"\n"):
        return None
    try:
        head: dict[str, Any] = json.loads(line)
        listing = [(str(name), str(dtype), tuple(map(int, shape))) for name, dtype, shape in head.pop("arrays")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ProtocolError(f"not a message: {line[:80]!r}") from error
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, dtype, shape in listing:
        if dtype not in DTYPES:
            raise ProtocolError(f"array {name} has type {dtype}; there are: {', '.join(DTYPES)}")
        if any(side < 0 for side in shape) or _num_bytes(shape, np.dtype(dtype)) > MAX_ARRAY_BYTES:
            raise ProtocolError(f"array {name} cannot have the shape {shape}; the limit is {MAX_ARRAY_BYTES} bytes")
        array = np.empty(shape, dtype)
        if not _fill(_bytes_of(array), stream):
            return None
        arrays[name] = array
    return head, arrays


def _plain(value: Any, name: str) -> Any:
    """A figure as JSON has it: NumPy's numbers become Python's. Raises TypeError."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, f"{name}[{key!r}]") for key, inner in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist(), name)
    if isinstance(value, (list, tuple)):
        return [_plain(inner, f"{name}[{index}]") for index, inner in enumerate(value)]
    kind = type(value).__qualname__
    raise TypeError(f"{name} is of type {kind}; a figure is a number, a text, a list or a mapping of them")


def _array(value: Any, name: str) -> npt.NDArray[Any]:
    """An array of one of DTYPES. Raises TypeError or ValueError."""
    try:
        array = np.asarray(value)
        if array.dtype.kind == "O":
            array = np.asarray(array.tolist())  # Python's numbers
        elif array.dtype.name not in DTYPES and array.dtype.name.startswith(("float", "longdouble", "bfloat")):
            array = array.astype(np.float64)
    except Exception as error:  # whatever the value's own class raises when it is asked for an array
        kind = type(value).__qualname__
        raise TypeError(f"the array {name!r} is of type {kind}, which NumPy cannot take: {error}") from error
    if array.dtype.name not in DTYPES:
        raise TypeError(f"the array {name!r} has type {array.dtype.name}; it can be sent as: {', '.join(DTYPES)}")
    if (size := _num_bytes(array.shape, array.dtype)) > MAX_ARRAY_BYTES:
        raise ValueError(f"the array {name!r} of shape {array.shape} has {size} bytes, over {MAX_ARRAY_BYTES}")
    return array


def _native(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Contiguous, in this machine's order of bytes."""
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")


def _num_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return math.prod(shape) * dtype.itemsize


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    """The memory of a contiguous array."""
    return array.reshape(-1).view(np.uint8).data


def _fill(memory: memoryview, stream: IO[bytes]) -> bool:
    """Whether the stream held as many bytes."""
    filled = 0
    while filled < len(memory):
        count: int = stream.readinto(memory[filled:])  # type: ignore[attr-defined]
        if not count:
            return False
        filled += count
    return True
