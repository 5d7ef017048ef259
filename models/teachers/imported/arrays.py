"""Arrays out of untrusted bytes: .npy and .npz without pickle, torch's zip files with `weights_only`.

arrays = READERS["npz"](data, max_bytes)                # by name; "" for the one array that has none

None may claim more bytes than `max_bytes`. All raise BadInput.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import BadInput

Array = npt.NDArray[Any]
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def _npy(data: bytes, max_bytes: int) -> dict[str, Array]:
    """One array without a name. Its header is held against its size before memory is taken."""
    stream = io.BytesIO(data)
    try:
        read_header = _HEADERS[np.lib.format.read_magic(stream)]
        shape, fortran_order, dtype = read_header(stream)
    except (ValueError, KeyError, SyntaxError, TypeError) as error:
        raise BadInput(f"not a readable .npy: {error}") from error
    if dtype.hasobject or dtype.itemsize == 0:
        raise BadInput("it holds Python objects, which are never loaded, or nothing")
    expected, there = math.prod(shape) * dtype.itemsize, len(data) - stream.tell()
    if expected != there:
        raise BadInput(f"its header says {expected} bytes, there are {there}: cut short or damaged")
    flat = np.frombuffer(data, dtype, offset=stream.tell())
    return {"": flat.reshape(shape, order="F" if fortran_order else "C")}


def _npz(data: bytes, max_bytes: int) -> dict[str, Array]:
    """Arrays by name."""
    with _archive(data, max_bytes) as archive:
        arrays = {}
        for info in archive.infolist():
            arrays[info.filename.removesuffix(".npy")] = _npy(_member(archive, info), max_bytes)[""]
        return arrays


def _torch(data: bytes, max_bytes: int) -> dict[str, Array]:
    """Tensors by name, or one without; other objects that weights_only lets through are left out."""
    import torch

    with _archive(data, max_bytes):
        pass
    try:
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        named = loaded if isinstance(loaded, dict) else {"": loaded}
        tensors = {name: value for name, value in named.items() if isinstance(value, torch.Tensor)}
        sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in tensors.items()}
        if too_large := [name for name, size in sizes.items() if size > max_bytes]:
            raise BadInput(f"its tensor {too_large[0]!r} claims more than {max_bytes / 1e6:.0f} MB")
        return {str(name): tensor.detach().numpy() for name, tensor in tensors.items()}
    except (BadInput, MemoryError):
        raise
    except Exception as error:  # torch's reader raises whatever it hits
        message = str(error).partition("\n")[0][:200]
        raise BadInput(f"not a torch file of plain tensors: {type(error).__name__}: {message}") from error


def _archive(data: bytes, max_bytes: int) -> zipfile.ZipFile:
    """A zip file whose members are not larger together than a file may be."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise BadInput(f"not a whole zip archive ({error}): cut short, or written by torch before 1.6") from error
    if (size := sum(info.file_size for info in archive.infolist())) > max_bytes:
        raise BadInput(f"it unpacks to {size / 1e6:.0f} MB, over {max_bytes / 1e6:.0f} (teachers.imported.max_file_mb)")
    return archive


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(info)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError) as error:
        raise BadInput(f"its member {info.filename} is damaged: {error}") from error


READERS: dict[str, Callable[[bytes, int], dict[str, Array]]] = {"npy": _npy, "npz": _npz, "pt": _torch}
"""By suffix: (bytes, the most that may come of them) -> arrays."""
