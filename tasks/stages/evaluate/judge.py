"""One item in front of the judge: every candidate mesh against the truth, or by proxies where there is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from models.baselines.ellipsoid import fit_ellipsoid
from models.baselines.icosphere_fit import fit_icosphere
from models.cameras import Camera
from models.errors import BadInput, EmptyOutput
from models.geometry import FRAME, Mesh
from models.metrics import Surface, compare
from models.metrics.silhouettes import silhouette_iou
from models.students import Student
from models.views import decode_rgba
from tasks.engine.stage import Context, Item, Json, Output
from tasks.stages.evaluate import STUDENT_FILES, EvaluateParams, files_read, has_cameras, has_mesh
from tasks.stages.evaluate.latency import measure_once
from tasks.stages.evaluate.references import References, class_of, open_references, read_grids, training_items
from tasks.stages.features import GRIDS
from tasks.stages.train import WEIGHTS, load_student

SHOWN = ("student", "mean_shape", "nearest")
"""Candidates whose meshes are kept for the report."""
Grids = Mapping[str, npt.NDArray[np.float16]]


@dataclass(frozen=True)
class Silhouettes:
    """names: of the V views. masks_VSS: square. cameras: one a view."""

    names: tuple[str, ...]
    masks_VSS: npt.NDArray[np.bool_]
    cameras: tuple[Camera, ...]

    def select(self, names: set[str]) -> Silhouettes | None:
        """The views of these names; None where none is left."""
        kept = [place for place, name in enumerate(self.names) if name in names]
        if not kept:
            return None
        cameras = tuple(self.cameras[place] for place in kept)
        return Silhouettes(tuple(self.names[place] for place in kept), self.masks_VSS[kept], cameras)


class Judge:
    """Holds the student and the references; judges one item at a time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._params: EvaluateParams = context.params.stage("evaluate")
        self._protocol = self._params.protocol()
        train = context.upstreams["train"]
        self._student: Student = load_student({name: train.read("train", name) for name in STUDENT_FILES})
        self._student.network.to(context.device)
        self._student_digest = train.records["train"].files[WEIGHTS].sha256

    def judge(self, item: Item) -> Output:
        grids = read_grids(item.read("features", GRIDS))
        silhouettes = _read_silhouettes(item)
        candidates, nearest = self._candidates(item, grids, silhouettes)
        facts: dict[str, Json] = {"class": class_of(item.records["ingest"]), "basis": "proxy"}
        if nearest is not None:
            facts["nearest"] = nearest
        if has_mesh(item.records, "ingest"):
            truth = Surface(Mesh.from_glb(item.read("ingest", "mesh.glb")), self._protocol)
            candidates |= self._fitted_to(truth.mesh)
            quality = {name: compare(mesh, truth).to_json() for name, mesh in candidates.items()}
            facts |= {"basis": "truth", "floor": compare(truth.mesh, truth).to_json()}
        else:
            quality = self._proxies(candidates, silhouettes, set(grids))
        files = {f"{name}.glb": candidates[name].to_glb() for name in SHOWN if name in candidates}
        return Output(files, FRAME, quality, facts=facts)

    def _candidates(
        self, item: Item, grids: Grids, silhouettes: Silhouettes | None
    ) -> tuple[dict[str, Mesh], str | None]:
        """Meshes by method, and the id of the nearest training item. A method that does not apply is absent."""
        found = {"student": self._predict(grids)}
        if has_mesh(item.records, "teach"):
            found["teacher"] = Mesh.from_glb(item.read("teach", "mesh.glb"))
        baselines, nearest = self._params.baselines, None
        if "mean_shape" in baselines and (mean := self._references.mean_shape(class_of(item.records["ingest"]))):
            found["mean_shape"] = mean
        if "nearest" in baselines and (nearest := self._references.nearest(grids)):
            found["nearest"] = Mesh.from_glb(self._context.upstreams["ingest"].read(nearest, "mesh.glb"))
        if "ellipsoid" in baselines and silhouettes and (seen := silhouettes.select(set(grids))):
            found["ellipsoid"] = fit_ellipsoid(seen.masks_VSS, seen.cameras)
        return found, nearest

    def _fitted_to(self, truth: Mesh) -> dict[str, Mesh]:
        if "icosphere_fit" not in self._params.baselines:
            return {}
        steps, seed = self._params.icosphere_fit_steps, self._params.seed
        return {"icosphere_fit": fit_icosphere(truth, num_steps=steps, seed=seed + 2)}

    @cached_property
    def _references(self) -> References:
        upstreams = self._context.upstreams
        items = training_items(upstreams, self._params.reference_items)
        return open_references(self._context.work_dir / "references", items, upstreams, self._context.progress)

    def _predict(self, grids: Grids) -> Mesh:
        views = tuple(view for view in self._student.spec.views if view in grids)
        if not views:
            known = ", ".join(self._student.spec.views)
            raise BadInput(f"its views {', '.join(grids)} are none of the student's: {known}")
        tokens_1VHWC = np.stack([grids[view] for view in views])[None]
        measure_once(
            self._context.work_dir / "latency.json",
            lambda: self._student.predict(tokens_1VHWC, views),
            facts={
                "student": self._student_digest,
                "device": self._context.device,
                "num_threads": self._context.num_threads,
            },
            views=views,
        )
        (mesh,) = self._student.predict(tokens_1VHWC, views)
        if not np.isfinite(mesh.vertices_N3).all() or not mesh.extents.any():
            raise EmptyOutput("the student's mesh is not finite or has no extent; its training diverged")
        return mesh

    def _proxies(
        self, candidates: Mapping[str, Mesh], silhouettes: Silhouettes | None, seen: set[str]
    ) -> dict[str, dict[str, float]]:
        """Chamfer to the teacher, and IoU with the silhouettes of views that no method was given."""
        quality: dict[str, dict[str, float]] = {name: {} for name in candidates}
        if "teacher" in candidates:
            teacher = Surface(candidates["teacher"], self._protocol)
            for name in candidates.keys() - {"teacher"}:
                quality[name]["proxy_chamfer_to_teacher"] = round(compare(candidates[name], teacher).chamfer, 6)
        if silhouettes and (held_out := silhouettes.select(set(silhouettes.names) - seen)):
            for name, mesh in candidates.items():
                iou = silhouette_iou(mesh, held_out.masks_VSS, held_out.cameras)
                quality[name]["proxy_silhouette_iou"] = round(iou, 6)
        return {name: values for name, values in quality.items() if values}


def _read_silhouettes(item: Item) -> Silhouettes | None:
    """Silhouettes of the matted views with cameras: of those that have grids, and of all where truth is unknown."""
    if not has_cameras(item.records):
        return None
    cameras = json.loads(item.read("matte", "cameras.json"))["views"]
    read = {file for stage, file in files_read(item.records) if stage == "matte"}
    names = [name for name in sorted(cameras) if f"view.{name}.png" in read]
    if not names:
        return None
    masks_VSS = np.stack([decode_rgba(item.read("matte", f"view.{name}.png"))[..., 3] > 127 for name in names])
    return Silhouettes(tuple(names), masks_VSS, tuple(Camera.from_json(cameras[name]) for name in names))
