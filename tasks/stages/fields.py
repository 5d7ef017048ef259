"""fields: the shape of every item as truncated signed distances, with colours near the surface.

The true shape where there is one, else the teacher's, if the gate accepts it: `shape` says which. For the latter's sake
the stage comes after teach and gate; of the truth alone it could come first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import Field as Knob

from models.fields import Field, measure
from models.fields.colours import read_coloured
from models.geometry import FRAME
from models.needs import FIELD as NEED
from tasks.collections.records import Record
from tasks.engine.stage import Context, Item, Json, Offer, Output
from tasks.stages.demand import OptionalParams, OptionalStage
from tasks.stages.gate.verdict import verdict

FILE = "field.safetensors"
MESH = "mesh.glb"


class FieldParams(OptionalParams):
    """The `fields` block."""

    resolution: int = Knob(64, ge=16, le=256)
    """Cells along a side of the cube [-.55, .55]^3."""
    truncation_cells: float = Knob(6, ge=2)
    """Distances beyond so many cells are all the same."""


class Fields(OptionalStage):
    """Writes field.safetensors (see `models.fields.Field`).

    Quality: doubtful_share, of the cells whose winding number lies between .25 and .75 (0 for closed meshes, more the
    wider a mesh stands open), and inside_share. Facts: shape (truth or teacher), coloured, resolution, truncation.
    """

    name = "fields"
    upstreams = ("ingest", "teach", "gate")
    Params = FieldParams
    watches = ("gate",)
    offers = (
        Offer(
            NEED,
            files=lambda record, params: (FILE,),
            read=lambda files: Field.from_bytes(files.read(FILE)),
            facts=("shape",),
            form=lambda record, params: {name: record.facts[name] for name in ("resolution", "truncation")},
        ),
    )

    def skip(self, records: Mapping[str, Record], params: Any) -> str | None:
        """An item has no field without a true mesh, and without a teacher's that the gate accepts."""
        source = _source(records)
        if source is None:
            return "it has no true mesh, and the teacher made none of it"
        if source == "ingest":
            return None
        if "gate" not in records:
            return "it has no true mesh, and the gate has not measured the teacher's"
        rejected = verdict(records["gate"].quality, params.stage("gate"))
        return "it has no true mesh, and the gate rejects the teacher's" if rejected else None

    def reads(self, records: Mapping[str, Record], params: Any) -> Iterable[tuple[str, str]]:
        """The one mesh."""
        return [(stage, MESH) for stage in [_source(records)] if stage]

    def start(self, context: Context) -> Callable[[Item], Output]:
        params: FieldParams = context.params.stage(self.name)
        return lambda item: measure_item(item, params)

    def metrics(self, records: Iterable[Record], context: Context) -> dict[str, Json]:
        """Items by whose shape it is."""
        return {"shapes": dict(sorted(Counter(record.facts["shape"] for record in records).items()))}


def measure_item(item: Item, params: FieldParams) -> Output:
    """The field of an item's mesh."""
    source = _source(item.records)
    assert source
    mesh, colours = read_coloured(item.read(source, MESH))
    measured = measure(mesh, colours, resolution=params.resolution, truncation_cells=params.truncation_cells)
    field = measured.field
    quality = {
        "doubtful_share": round(measured.doubtful_share, 6),
        "inside_share": round(float((field.distance_RRR < 0).mean()), 6),
    }
    facts = {
        "shape": "truth" if source == "ingest" else "teacher",
        "coloured": colours is not None,
        "resolution": field.resolution,
        "truncation": round(field.truncation, 6),
    }
    return Output({FILE: field.to_bytes()}, FRAME, quality, facts=facts)


def _source(records: Mapping[str, Record]) -> str | None:
    """The stage whose mesh is measured: the truth comes before the teacher."""
    ingest, teach = records.get("ingest"), records.get("teach")
    if ingest and ingest.facts.get("has_truth") and MESH in ingest.files:
        return "ingest"
    return "teach" if teach and MESH in teach.files else None
