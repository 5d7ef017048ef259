"""Casts that are triangle meshes with coloured vertices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.cameras import Camera
from models.casts import _fields
from models.errors import EmptyOutput
from models.exam import Exam
from models.geometry import Mesh, face_areas
from models.metric import Metric
from models.topology import components, is_watertight, volume

CAST = Mesh
OBJECT = 128
"""Alpha from which a pixel of a view is the object."""
FILE = "mesh.glb"
BOX_TOLERANCE = 0.02
"""How far outside the canonical box vertices may lie."""
_OWNER = "mesh has"


def to_files(cast: Mesh) -> dict[str, bytes]:
    return {FILE: cast.to_glb()}


def from_files(files: Mapping[str, bytes]) -> Mesh:
    return Mesh.from_glb(files[FILE])


def as_stored(cast: Mesh) -> Mesh:
    """float32 vertices, int32 faces, uint8 RGBA colours."""
    vertices_N3 = _fields.floats(cast.vertices_N3, _OWNER, "vertices_N3", 3)
    faces_F3 = _fields.corners(cast.faces_F3, _OWNER, "faces_F3", len(vertices_N3))
    colours_N4 = None
    if cast.colours_N4 is not None:
        colours_N4 = _fields.colours(cast.colours_N4, _OWNER, "colours_N4", len(vertices_N3))
    return Mesh(vertices_N3, faces_F3, colours_N4)


def check(cast: Mesh) -> dict[str, Any]:
    """Counts, whether it is closed, area, volume. Raises EmptyOutput for a mesh that is not finite or has no area."""
    if len(cast.vertices_N3) == 0 or len(cast.faces_F3) == 0:
        raise EmptyOutput("mesh is without faces")
    _fields.refuse_not_finite(cast.vertices_N3, _OWNER, "vertices_N3")
    if (area := float(face_areas(cast).sum())) <= 0:
        raise EmptyOutput("mesh has no area")
    return {
        "vertices": len(cast.vertices_N3),
        "faces": len(cast.faces_F3),
        "watertight": is_watertight(cast),
        "components": len(np.unique(components(cast)[cast.faces_F3[:, 0]])),  # pieces that have faces
        "area": round(area, 6),
        "volume": round(volume(cast), 6),
    }


def check_frame(cast: Mesh) -> None:
    if (reach := float(np.abs(cast.vertices_N3).max())) > 0.5 + BOX_TOLERANCE:
        raise EmptyOutput(f"mesh leaves the canonical box: it reaches {reach:.3f}, and .5 is the limit")


def surface(cast: Mesh) -> Mesh:
    return cast


def rendering(cast: Mesh, cameras: Sequence[Camera], size_px: int) -> npt.NDArray[np.uint8]:
    """(V, H, W, 4): the colours of the vertices, grey where there are none, alpha 0 beside it."""
    from models.rendering import render

    return render(cast, cameras, size_px, supersample=2).rgba_VHW4


METRICS = (
    Metric("chamfer", "Chamfer"),
    Metric("accuracy", "Accuracy"),
    Metric("completeness", "Completeness"),
    Metric("fscore", "F-score", "higher", 3),
    Metric("iou", "IoU", "higher", 3),
    Metric("normal_consistency", "Normals", "higher", 3),
    Metric("proxy_chamfer_to_teacher", "Chamfer to teacher", is_proxy=True),
    Metric("proxy_silhouette_iou", "Silhouette IoU", "higher", 3, is_proxy=True),
)


def measure(cast: Mesh, exam: Exam) -> dict[str, float]:
    """Against the truth; without one, Chamfer to the teacher's surface and IoU with silhouettes of unseen views."""
    from models.metrics import compare
    from models.metrics.silhouettes import silhouette_iou

    if exam.truth is not None:
        return compare(cast, exam.truth).to_json()
    figures = {}
    if exam.teacher is not None:
        figures["proxy_chamfer_to_teacher"] = round(compare(cast, exam.teacher).chamfer, 6)
    if exam.unseen is not None and exam.unseen.cameras is not None:
        masks_VHW = exam.unseen.rgba_VHW4[..., 3] >= OBJECT
        figures["proxy_silhouette_iou"] = round(silhouette_iou(cast, masks_VHW, exam.unseen.cameras), 6)
    return figures


def describe(cast: Mesh) -> str:
    return f"{len(cast.vertices_N3)} vertices, {len(cast.faces_F3)} triangles"


EXPORTS: Mapping[str, Callable[[Mesh], bytes]] = {".glb": Mesh.to_glb}
