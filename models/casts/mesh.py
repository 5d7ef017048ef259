"""Casts that are triangle meshes with coloured vertices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.cameras import Camera
from models.errors import EmptyOutput
from models.exam import Exam
from models.geometry import Mesh
from models.metric import Metric

CAST = Mesh
OBJECT = 128
"""Alpha from which a pixel of a view is the object."""
FILE = "mesh.glb"


def to_files(cast: Mesh) -> dict[str, bytes]:
    return {FILE: cast.to_glb()}


def from_files(files: Mapping[str, bytes]) -> Mesh:
    return Mesh.from_glb(files[FILE])


def check(cast: Mesh) -> dict[str, Any]:
    """Raises EmptyOutput for a mesh that is not finite or has no extent."""
    if not np.isfinite(cast.vertices_N3).all() or not cast.extents.any():
        raise EmptyOutput("the mesh is not finite or has no extent")
    return {"vertices": len(cast.vertices_N3), "faces": len(cast.faces_F3)}


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
