"""The gate's pictures on one sheet, to look at before anything is trained: the first items of a run, or the worst.

Each item's compared views lie above the teacher's cast from the same cameras; rejected ones are framed and say why.
"""

from __future__ import annotations

import io
import os
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.collections.files import write_atomically
from tasks.collections.records import Record, from_line
from tasks.collections.tarball import member_offset, scan
from tasks.engine.labels import Labels
from tasks.engine.worker import open_upstream
from tasks.stages.gate import PICTURE
from tasks.stages.gate.verdict import GateParams, label_of, verdict, worst_first
from tasks.workspace import Workspace

FIRST = 20
"""Items on a sheet; as many must be finished before the first one is drawn."""
COLUMNS = 4
CELL_PX = (256, 128)
CAPTION_PX = 30
FRAME_PX = 3
PAPER, INK, REJECTED = (250, 250, 248), (27, 35, 32), (179, 56, 44)


@dataclass(frozen=True)
class Shown:
    """An item on the sheet. reasons: why it is rejected. picture: its gate.png."""

    label: str
    reasons: tuple[str, ...]
    picture: bytes


def first_items(workspace: Workspace, limits: GateParams, most: int = FIRST) -> list[Shown]:
    """The first items that a running gate has finished, read from its workers' spools; fewer while there are fewer."""
    labels = Labels(workspace)
    found: list[Shown] = []
    for path in sorted(workspace.local("gate").glob("spool-*.tar")):
        for record, picture in _spooled(path):
            if len(found) == most:
                return found
            found.append(_shown(labels.get(record.id) or record.id, record, picture, limits))
    return found


def worst_items(workspace: Workspace, limits: GateParams, most: int = FIRST) -> list[Shown]:
    """The worst items of the published gate."""
    gate, ingested = open_upstream(workspace, "gate"), open_upstream(workspace, "ingest").records
    return [
        _shown(label_of(ingested, item_id), gate.records[item_id], gate.read(item_id, PICTURE), limits)
        for item_id in worst_first(gate.records, limits)[:most]
    ]


def draw(items: Sequence[Shown]) -> bytes:
    """The sheet as a JPEG."""
    from PIL import Image, ImageDraw

    width, height = CELL_PX[0] + 2 * FRAME_PX, CELL_PX[1] + 2 * FRAME_PX + CAPTION_PX
    num_rows = -(-len(items) // COLUMNS)
    sheet = Image.new("RGB", (width * min(COLUMNS, len(items)), height * num_rows), PAPER)
    pen = ImageDraw.Draw(sheet)
    for place, item in enumerate(items):
        left, top = place % COLUMNS * width, place // COLUMNS * height
        with Image.open(io.BytesIO(item.picture)) as picture:
            small = picture.convert("RGB")
        small.thumbnail(CELL_PX, Image.Resampling.BOX)
        if item.reasons:
            framed = (small.width + 2 * FRAME_PX - 1, small.height + 2 * FRAME_PX - 1)
            pen.rectangle((left, top, left + framed[0], top + framed[1]), fill=REJECTED)
        sheet.paste(small, (left + FRAME_PX, top + FRAME_PX))
        words = f"{item.label}: {', '.join(item.reasons)}" if item.reasons else item.label
        caption = "\n".join(textwrap.wrap(words, 42, max_lines=2, placeholder=" ..."))
        ink = REJECTED if item.reasons else INK
        pen.multiline_text((left + FRAME_PX, top + CELL_PX[1] + 2 * FRAME_PX), caption, fill=ink, spacing=1)
    encoded = io.BytesIO()
    sheet.save(encoded, "JPEG", quality=85)
    return encoded.getvalue()


def place(workspace: Workspace) -> Path:
    """Where the latest sheet lies on this machine."""
    return workspace.local("gate") / "contact_sheet.jpg"


def keep(workspace: Workspace, sheet: bytes) -> Path:
    """Write the sheet to its place."""
    path = place(workspace)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, sheet)
    return path


def _spooled(path: Path) -> Iterator[tuple[Record, bytes]]:
    """Whole items of a worker's spool, which may grow meanwhile, or be sealed and gone.

    For the process that runs the stage only between its own dealings with spools: closing the file drops its locks.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        for segment in scan(descriptor, verify=True):
            record = from_line(segment.line)
            entry = record.files[PICTURE]
            yield record, os.pread(descriptor, entry.size, member_offset(record, segment.offset, PICTURE))
    finally:
        os.close(descriptor)


def _shown(label: str, record: Record, picture: bytes, limits: GateParams) -> Shown:
    return Shown(label, tuple(reason.text for reason in verdict(record.quality, limits)), picture)
