"""ingest: find items in the sources, bring meshes into the canonical frame and photos upright, label and split them.

Writes `mesh.glb` for a mesh, `photo.VIEW.png` for photos. What is known of an item (label, class, group, split,
licence, kind, ...) lies in its record's facts and in its key: a renamed file is ingested anew, later stages are not.
Files that are not taken, classes without test items and objects that look like copies are told as notices.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError

from models import plugins
from models.errors import BadInput
from models.fingerprint import shape_fingerprint
from models.geometry import FRAME, Mesh, bare_mesh
from models.needs import TRUTH
from models.normalise import Limits, UpAxis, normalise
from models.params import Block
from models.plugins import result_version
from models.views import decode_rgba, encode_png
from tasks.collections.records import Record
from tasks.collections.summaries import known_metrics
from tasks.engine.stage import Context, Item, Json, Offer, Output, Stage, Wanted
from tasks.stages.ingest import alike, left_out, splits
from tasks.stages.ingest.listing import list_items
from tasks.stages.ingest.splits import Split, group_of
from tasks.stages.sources import Found, Loaded, SourceParams, SplitName
from tasks.workspace import Workspace


def _source_params(entry: Any) -> SourceParams:
    """The validated entry of `sources`, by its plug-in's own Params. Raises ValueError naming what exists."""
    if isinstance(entry, SourceParams):
        return entry
    if not isinstance(entry, Mapping) or "source" not in entry:
        known = ", ".join(plugins.known("sources"))
        raise ValueError(f"an entry is a block with `source: NAME` and that source's params; there are: {known}")
    model = plugins.load("sources", str(entry["source"])).Params
    try:
        params: SourceParams = model.model_validate(dict(entry))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        names = ", ".join(name for name in model.model_fields if name != "source")
        raise ValueError(f"source {entry['source']}, key {key}: {first['msg']}; its keys are: {names}") from error
    return params


class IngestParams(Block):
    inbox: str = "inbox"
    """The folder of the user's files, relative to the workspace."""
    sources: tuple[Annotated[SerializeAsAny[SourceParams], BeforeValidator(_source_params)], ...] = Field(
        ({"source": "folder"},), validate_default=True
    )
    """Where items come from: entries of a source's name and its params. The first to find an item keeps it."""
    up_axis: UpAxis = "y"
    """The axis that points up in the meshes of which the source does not say it: z turns Z-up objects upright."""
    limit: int | None = Field(None, ge=1)
    """Take this many items only: a stable sample (the smallest ids)."""
    split: Split = Split()
    max_file_mb: float = Field(512, gt=0)
    """A larger file fails its item."""
    max_triangles: int = Field(2_000_000, ge=1)
    """A mesh with more fails."""
    max_texture_pixels: int = Field(64_000_000, ge=1)
    """A mesh whose textures have more pixels together fails."""
    max_photo_px: int = Field(2048, ge=16)
    """Photos are shrunk to this longest side."""


MESH = "mesh.glb"


def has_truth(record: Record) -> bool:
    """Whether an ingested item has a true mesh."""
    return bool(record.facts.get("has_truth")) and MESH in record.files


class Ingest(Stage):
    name = "ingest"
    Params = IngestParams
    plugin_blocks = ("sources",)
    offers = (
        Offer(
            TRUTH,
            files=lambda record, params: (MESH,) if has_truth(record) else (),
            read=lambda files: Mesh.from_glb(files.read(MESH)),
        ),
    )

    def __init__(self) -> None:
        self._not_taken: dict[str, Json] = {}
        self._notices: list[str] = []

    def key_params(self, params: Any) -> Json:
        """Which items there are, and their splits, is in each item's own inputs: only limits change what is made."""
        chosen = {"max_file_mb", "max_triangles", "max_texture_pixels", "max_photo_px"}
        return params.stage(self.name).model_dump(mode="json", include=chosen)

    def used_plugins(self, params: Any) -> Iterable[tuple[str, str]]:
        return {("sources", entry.source) for entry in params.stage(self.name).sources}

    def wanted(self, context: Context) -> Iterator[Wanted]:
        params: IngestParams = context.params.stage(self.name)
        listing = list_items(params.sources, context.workspace / params.inbox, context.digest)
        items = listing.items
        split_of = splits.assign(params.split, items.values())
        self._not_taken = listing.to_json()
        self._notices = listing.notices() + splits.notices(params.split, items.values(), split_of)
        ids = list(items) if params.limit is None else heapq.nsmallest(params.limit, items)
        for item_id in ids:
            item = items.pop(item_id)  # while the plan grows, the listing shrinks
            version = result_version(f"sources.{item.source}", context.versions)
            yield _wanted(item_id, item, split_of[group_of(item)], params.up_axis, version)

    def notices(self, context: Context) -> list[str]:
        """Those of the listing, and of the shapes as they were last published."""
        published = known_metrics(Workspace(context.workspace).metrics_file(self.name))
        lacking, found = published.get("left_out", {}), published.get("alike", {})
        return self._notices + left_out.notices(lacking) + alike.notices(found)

    def start(self, context: Context) -> Callable[[Item], Output]:
        params: IngestParams = context.params.stage(self.name)

        def run(item: Item) -> Output:
            payload = context.payload(item.id)
            if payload["problem"]:
                raise BadInput(payload["problem"])
            loaded = plugins.load("sources", payload["facts"]["source"]).load(
                payload["load"], int(params.max_file_mb * 1e6)
            )
            return _ingested(loaded, payload["facts"], params)

        return run

    def metrics(self, records: Iterable[Record], context: Context) -> dict[str, Json]:
        counts: dict[str, Counter[str]] = {name: Counter() for name in ("class", "split", "kind", "source")}
        incomplete = left_out.Incomplete()

        def counting() -> Iterator[Record]:
            for record in records:
                for name, counter in counts.items():
                    counter[str(record.facts[name])] += 1
                incomplete.add(record)
                yield record

        found = alike.find_alike(counting())
        lacking = incomplete.to_json()
        return (
            {name: dict(sorted(counter.items())) for name, counter in counts.items()}
            | self._not_taken
            | {"left_out": lacking, "alike": found}
            | {"notices": self._notices + left_out.notices(lacking) + alike.notices(found)}
        )


def _wanted(item_id: str, found: Found, split: SplitName, up_axis: UpAxis, version: int | str) -> Wanted:
    facts = {
        "label": found.label,
        "class": found.class_name,
        "group": group_of(found),
        "split": split,
        "labels": dict(found.labels),
        "licence": found.licence,
        "source": found.source,
        "kind": found.kind,
        "has_truth": found.kind == "mesh",
        "up_axis": (found.up_axis or up_axis) if found.kind == "mesh" else None,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return Wanted(
        id=item_id,
        label=found.label,
        inputs=(*found.inputs, ("facts", digest), ("source", str(version))),
        payload={"facts": facts, "load": found.payload, "problem": found.problem},
    )


def _ingested(loaded: Loaded, facts: dict[str, Any], params: IngestParams) -> Output:
    facts = facts | {"labels": facts["labels"] | dict(loaded.labels)}
    if loaded.mesh is None:
        photos = {view: _upright(data, params.max_photo_px) for view, data in loaded.photos.items()}
        return Output({f"photo.{view}.png": data for view, data in photos.items()}, facts=facts)
    limits = Limits(params.max_triangles, params.max_texture_pixels)
    mesh = normalise(loaded.mesh, up_axis=facts["up_axis"], limits=limits)
    measured = {
        "triangles": mesh.num_triangles,
        "colour": mesh.colour,
        "watertight": mesh.watertight,
        "extents": [float(f"{side:.6g}") for side in mesh.extents],
        left_out.FACT: list(mesh.left_out),
        alike.FINGERPRINT: [float(f"{value:.5f}") for value in shape_fingerprint(bare_mesh(mesh.glb))],
    }
    return Output({"mesh.glb": mesh.glb}, frame=FRAME, facts=facts | measured)


def _upright(data: bytes, max_side_px: int) -> bytes:
    if not data:
        raise BadInput("the file is empty (0 bytes)")
    return encode_png(_shrunk(decode_rgba(data), max_side_px))


def _shrunk(rgba_HW4: npt.NDArray[np.uint8], max_side_px: int) -> npt.NDArray[np.uint8]:
    """The image with its longest side at most this; colours are weighted by alpha."""
    from PIL import Image

    height, width = rgba_HW4.shape[:2]
    scale = max_side_px / max(height, width)
    if scale >= 1:
        return rgba_HW4
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(rgba_HW4).convert("RGBa").resize(size, Image.Resampling.LANCZOS)
    return np.asarray(image.convert("RGBA"))
