"""What a teacher's host and its client say: a line of JSON, then the bytes of the arrays that it lists.

    {"generate": {...}, "arrays": [["rgba_VHW4", "uint8", [1, 518, 518, 4]]]}\n<bytes>

Needs Python and NumPy only: it runs in the teachers' own environments too. No pickle on either side.

To the host: {"load": {runtime, settings, device}} once, then {"generate": {id, names, settings, seed}} for each item
(array rgba_VHW4). From it: {"ready": figures} or {"unavailable": text}; {"done": figures} with the arrays of the shape,
or {"failed": {class, message, detail, figures, poisoned}}; and {"beat": figures} whenever nothing else was said for a
while.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
import numpy.typing as npt

PROTOCOL = 1
MAX_ARRAY_BYTES = 2 << 30
DTYPES = ("uint8", "int32", "int64", "float16", "float32", "float64", "bool")
Arrays = Mapping[str, npt.NDArray[Any]]


class ProtocolError(RuntimeError):
    """The other side said something that is no message."""


def write_message(stream: IO[bytes], head: Mapping[str, Any], arrays: Arrays | None = None) -> None:
    """Write one message and flush."""
    contiguous = {name: np.asarray(array, order="C") for name, array in (arrays or {}).items()}
    listing = [[name, array.dtype.name, list(array.shape)] for name, array in contiguous.items()]
    stream.write(json.dumps({**head, "arrays": listing}).encode() + b"\n")
    for array in contiguous.values():
        stream.write(array.tobytes())
    stream.flush()


def read_message(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]] | None:
    """(head, arrays) of the next message; None at the end of the stream. Raises ProtocolError."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    try:
        head: dict[str, Any] = json.loads(line)
        listing = head.pop("arrays")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProtocolError(f"not a message: {line[:80]!r}") from error
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, dtype, shape in listing:
        if dtype not in DTYPES:
            raise ProtocolError(f"array {name} has type {dtype}; there are: {', '.join(DTYPES)}")
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if not 0 <= size <= MAX_ARRAY_BYTES:
            raise ProtocolError(f"array {name} has {size} bytes; the limit is {MAX_ARRAY_BYTES}")
        data = stream.read(size)
        if len(data) < size:
            return None
        arrays[name] = np.frombuffer(data, dtype).reshape(shape)
    return head, arrays
