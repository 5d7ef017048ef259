"""Object File Format (OFF, COFF and their kin), as text."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from models.errors import BadInput
from models.meshfiles.colours import rgba_bytes
from models.meshfiles.parts import Contents, IntArray, Limits, MeshFile, Part, Placed
from models.meshfiles.polygons import cut

_HEADER = re.compile(r"\s*(ST)?(C)?(N)?(4)?(n)?OFF\b")


def read(mesh_file: MeshFile, limits: Limits) -> Contents:
    """One part. Raises BadInput."""
    text = re.sub(r"#.*", "", mesh_file.data.decode("utf-8-sig", "replace"))
    header = _HEADER.match(text)
    if header is None:
        raise BadInput("not a readable off mesh: it does not start with OFF")
    if header.group(4) or header.group(5) or text[header.end() :].lstrip().startswith("BINARY"):
        raise BadInput("it is a binary or four-dimensional OFF, which is not read here: export it as ply")
    lines = [line.split() for line in text[header.end() :].splitlines() if line.strip()]
    try:
        num_vertices, num_faces = int(lines[0][0]), int(lines[0][1])
        rows, polygons = lines[1 : 1 + num_vertices], lines[1 + num_vertices : 1 + num_vertices + num_faces]
        if len(rows) < num_vertices or len(polygons) < num_faces:
            raise BadInput(f"it is cut short: {num_vertices} + {num_faces} lines are said, {len(lines) - 1} are there")
        vertices_N3 = np.array([row[:3] for row in rows], np.float64).reshape(-1, 3)
        faces_F3 = _faces(polygons, vertices_N3)
        colours = _colours([row[3 + 3 * bool(header.group(3)) :] for row in rows]) if header.group(2) else None
    except (ValueError, IndexError) as error:
        raise error if isinstance(error, BadInput) else BadInput(f"not a readable off mesh: {error}") from error
    if not len(faces_F3):
        raise BadInput(f"it holds {'points only, no triangles' if num_vertices else 'no geometry'}")
    limits.check_triangles(len(faces_F3))
    return Contents((Placed(Part(vertices_N3, faces_F3, colours_N4=colours)),))


def _faces(polygons: list[list[str]], vertices_N3: npt.NDArray[np.float64]) -> IntArray:
    """Triangles of lines that begin with a number of corners; what follows the corners is a colour."""
    lengths_P = np.array([int(row[0]) for row in polygons], np.int64)
    vertices_C = np.array([int(corner) for row in polygons for corner in row[1 : 1 + int(row[0])]], np.int64)
    if len(vertices_C) != lengths_P.sum():
        raise BadInput("a face has fewer corners than it says")
    if len(vertices_C) and not 0 <= vertices_C.min() <= vertices_C.max() < len(vertices_N3):
        raise BadInput(f"a triangle refers to vertex {vertices_C.max()}, there are {len(vertices_N3)}")
    corners_F3, _ = cut(lengths_P, vertices_C, vertices_N3)
    return vertices_C[corners_F3]


def _colours(rows: list[list[str]]) -> npt.NDArray[np.uint8]:
    """RGBA of COFF vertices: whole numbers up to 255, or fractions up to 1."""
    table = np.array([row[:4] for row in rows], np.float64)
    written_whole = not any("." in value for row in rows for value in row[:4])
    return rgba_bytes(table / 255 if written_whole or table.max() > 1 else table)
