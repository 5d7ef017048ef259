"""What the gate's default limits make of good and bad meshes: visual hulls of real objects, and the same ones spoilt.

python -m benchmarks.gate [--data ../shared/data] [--size 128] [--every 3] [--json]

Where the numbers in `GateParams` and docs/decisions/0007-gate.md come from.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from models.geometry import Mesh
from models.normalise import MeshFile, normalise
from models.onnx import Machine
from models.teachers import Site, visual_hull
from tasks.engine.stage import Json
from tasks.params import Params
from tasks.stages.gate import FIGURES, Gate
from tasks.stages.gate.verdict import GateParams, verdict
from tasks.stages.matte import Cutter, matte_item
from tasks.stages.teach import read_views
from tasks.stages.views import ViewsParams, camera_set, render_mesh
from tests.spoilt_meshes import crumpled, inside_out, scaled, shattered
from tests.support import make_item, start

KINDS: Mapping[str, Callable[[Mesh], Mesh]] = {
    "as taught": lambda mesh: mesh,
    "squashed to .6 in x": lambda mesh: scaled(mesh, (0.6, 1, 1)),
    "squashed to .6 in y": lambda mesh: scaled(mesh, (1, 0.6, 1)),
    "squashed to .6 in z": lambda mesh: scaled(mesh, (1, 1, 0.6)),
    "mirrored in x": lambda mesh: scaled(mesh, (-1, 1, 1)),
    "mirrored in z": lambda mesh: scaled(mesh, (1, 1, -1)),
    "turned by half": lambda mesh: scaled(mesh, (-1, 1, -1)),
    "upside down": lambda mesh: scaled(mesh, (1, -1, -1)),
    "shattered": shattered,
    "crumpled": crumpled,
    "inside out": inside_out,
}
WITH_TRUTH = ("chamfer", "normal_consistency")
"""Figures that an item without truth lacks."""


def measure(data: Path, size_px: int, every: int) -> dict[str, Json]:
    """By kind of mesh: how many objects there are, and what `summary` says of them."""
    qualities: dict[str, list[Mapping[str, Json]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        gate = start(Gate(), Path(folder))
        for truth, views, taught in hulls(data, size_px, every):
            for kind, spoil in KINDS.items():
                files = {"teach": {"mesh.glb": spoil(taught).to_glb()}, "matte": views, "ingest": {"mesh.glb": truth}}
                qualities[kind].append(gate(make_item(files, facts={"ingest": {"has_truth": True}})).quality)
    return {kind: summary(found) for kind, found in qualities.items()}


def hulls(data: Path, size_px: int, every: int) -> Iterator[tuple[bytes, dict[str, bytes], Mesh]]:
    """Every so many objects of the folder's manifest: the true GLB, its matted views, and their visual hull."""
    views_params = ViewsParams(size_px=size_px)
    cutter = Cutter(Params({"matte": {"size_px": size_px}}), Machine(data))
    teacher = visual_hull.create(visual_hull.Params(), Site())
    for entry in json.loads((data / "manifest.json").read_text())[::every]:
        truth = normalise(MeshFile((data / entry["file"]).read_bytes(), "glb"), up_axis=entry["up"].lower()).glb
        rendered = render_mesh(truth, camera_set(views_params), views_params)
        views = dict(matte_item(make_item({"views": rendered.files}), cutter).files)
        mesh = teacher.generate(read_views(make_item({"matte": views})), seed=0).mesh
        assert mesh is not None, "a hull is a mesh"
        yield truth, views, mesh


def summary(qualities: list[Mapping[str, Json]]) -> dict[str, Json]:
    """Rejected objects, with the truth and without it, by limit, and [least, median, most] of each figure."""
    verdicts = [verdict(quality, GateParams()) for quality in qualities]
    blind = [verdict(quality | dict.fromkeys(WITH_TRUTH), GateParams()) for quality in map(dict, qualities)]
    ranges = {}
    for name in FIGURES:
        if values := [quality[name] for quality in qualities if quality[name] is not None]:
            ranges[name] = [round(float(np.percentile(values, share)), 4) for share in (0, 50, 100)]
    return {
        "objects": len(qualities),
        "rejected": sum(map(bool, verdicts)),
        "rejected_without_truth": sum(map(bool, blind)),
        "by_limit": dict(Counter(reason.limit for reasons in verdicts for reason in reasons)),
        "figures": ranges,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="a folder with a manifest.json")
    parser.add_argument("--size", type=int, default=128, help="side of the views in pixels")
    parser.add_argument("--every", type=int, default=1, help="take every so many of the objects")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    found = measure(chosen.data, chosen.size, chosen.every)
    if chosen.json:
        print(json.dumps(found))
        return
    for kind, row in found.items():
        print(f"{kind}: {row['rejected']} of {row['objects']} rejected, {row['rejected_without_truth']} without truth")
        print("  by", ", ".join(f"{limit} {count}" for limit, count in row["by_limit"].items()) or "nothing")
        for name, (least, median, most) in row["figures"].items():
            print(f"  {name:22}{least:10.3f}{median:10.3f}{most:10.3f}")


if __name__ == "__main__":
    main()
