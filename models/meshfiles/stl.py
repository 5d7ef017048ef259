"""STL, binary and text. Which of the two is told by the length, for binary files may begin with `solid` too."""

from __future__ import annotations

import re
import struct

import numpy as np
import numpy.typing as npt

from models.errors import BadInput
from models.meshfiles.parts import Contents, Limits, MeshFile, Part, Placed
from models.meshfiles.text import parsed

HEADER_BYTES = 84
TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def read(mesh_file: MeshFile, limits: Limits) -> Contents:
    """One part with three vertices a triangle. Raises BadInput."""
    data = mesh_file.data
    corners_F33 = _from_text(data) if _is_text(data) else _from_binary(data)
    if not len(corners_F33):
        raise BadInput("it holds no geometry: it is empty, cut off, or of another type than its name says")
    limits.check_triangles(len(corners_F33))
    vertices_N3 = corners_F33.reshape(-1, 3)
    return Contents((Placed(Part(vertices_N3, np.arange(len(vertices_N3)).reshape(-1, 3))),))


def _is_text(data: bytes) -> bool:
    if len(data) >= HEADER_BYTES and len(data) == HEADER_BYTES + _stated_count(data) * TRIANGLE.itemsize:
        return False
    return data.lstrip()[:5].lower() == b"solid" and b"\0" not in data


def _stated_count(data: bytes) -> int:
    return int(struct.unpack_from("<I", data, 80)[0])


def _from_binary(data: bytes) -> npt.NDArray[np.float32]:
    """(F, 3, 3). A count of 0 was never filled in; what stands behind the triangles and is none is passed over."""
    if len(data) < HEADER_BYTES:
        raise BadInput(f"not a readable stl mesh: {len(data)} bytes, its header alone has {HEADER_BYTES}")
    stated, (there, rest) = _stated_count(data), divmod(len(data) - HEADER_BYTES, TRIANGLE.itemsize)
    if stated > there or (0 < stated < there and not rest):
        raise BadInput(
            f"its header says {stated} triangles, there are {there}{' and a piece' if rest else ''}: "
            "it is cut short, or the count is wrong; save it again"
        )
    table = np.frombuffer(data, TRIANGLE, stated or there, HEADER_BYTES)
    return np.array(table["corners"])


def _from_text(data: bytes) -> npt.NDArray[np.float64]:
    """(F, 3, 3) of all solids."""
    text = data.decode("utf-8", "replace")
    rows = re.findall(r"^\s*vertex\s+(.*)$", text, re.IGNORECASE | re.MULTILINE)
    numbers = parsed(" ".join(rows))
    if numbers is None or len(numbers) != 3 * len(rows) or len(rows) % 3:
        raise BadInput(f"it is cut short: it has {len(rows)} lines `vertex x y z`, not three for each triangle")
    last = text.rstrip().rpartition("\n")[2].strip().lower()
    if rows and not last.startswith(("endsolid", "endfacet")):
        raise BadInput(f"it is cut short: it ends with {last[:40]!r}, not with `endsolid`")
    return numbers.reshape(-1, 3, 3)
