"""What the Prefect UI shows of a stage: progress, a table of what is not done, sample pictures."""

from __future__ import annotations

import base64
import io
import re
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from tasks.collections.summaries import known_failures
from tasks.engine.labels import Labels
from tasks.engine.outcome import OK, STOPPED, Outcome, Progress, counted
from tasks.engine.stage import Upstream
from tasks.engine.worker import open_upstream
from tasks.stages.gate import contact_sheet as gate_sheet
from tasks.stages.gate.verdict import GateParams
from tasks.workspace import Workspace

UPDATE_EVERY_S = 2.0
MAX_ROWS = 200
COLUMNS = ("label", "state", "message", "class")
MAX_REASONS = 5
MAX_NAMES = 3
PICTURES = ("view.front.png", "photo.front.png")
NUM_SAMPLES, NUM_COLUMNS = 24, 6
TILE_PX, LABEL_PX = 160, 18
PAPER, INK = (238, 238, 234), (70, 70, 66)
SAMPLES = {"views": "Front views. Objects that lie on their side: set ingest.up_axis"}
"""What is said of a stage's pictures."""


class StageArtifacts:
    """The artifacts of one stage's task run; to be used inside it."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._bar: UUID | None = None
        self._updated_at = -UPDATE_EVERY_S

    def progress(self, progress: Progress) -> None:
        """Move the progress bar, at most every other second."""
        if time.monotonic() - self._updated_at < UPDATE_EVERY_S:
            return
        left = f", {progress.left_s:.0f} s left" if progress.left_s is not None else ""
        text = progress.text or f"{progress.done} of {progress.total}, {progress.rate:.3g} items/s{left}"
        self._show(100.0 * (progress.done + progress.failed) / max(1, progress.total), text)

    def finished(self, outcome: Outcome, workspace: Workspace) -> None:
        """The bar at its end, what is not done and why, and pictures of what was computed where there are any."""
        ended = outcome.done + outcome.exhausted + outcome.skipped + outcome.blocked
        self._show(100.0 * ended / max(1, outcome.total), outcome.line())
        if rows := failure_rows(workspace, self._stage):
            first = f", the first {MAX_ROWS}:" if len(rows) > MAX_ROWS else ""
            words = f"{counted(len(rows))} of {self._stage} not done{first}"
            create_table_artifact(rows[:MAX_ROWS], key=f"{self._stage}-failures", description=words)
        if outcome.computed and (sheet := _samples(workspace, self._stage)):
            words = SAMPLES.get(self._stage, "Front views")
            create_markdown_artifact(_as_markdown(sheet), key=f"{self._stage}-samples", description=words)

    def _show(self, percent: float, text: str) -> None:
        self._updated_at = time.monotonic()
        if self._bar is None:
            bar = create_progress_artifact(percent, key=f"{self._stage}-progress", description=text)
            assert isinstance(bar, UUID)  # the coroutine that its type allows is for asynchronous callers
            self._bar = bar
        else:
            update_progress_artifact(self._bar, percent, description=text)


class GateArtifact:
    """The gate's contact sheet: of its first items while it runs, of the worst ones when it has ended."""

    def __init__(self, workspace: Workspace, limits: GateParams) -> None:
        self._workspace, self._limits = workspace, limits
        self._looked_at = -UPDATE_EVERY_S
        self._shown = False

    def progress(self, progress: Progress) -> None:
        """Show the first items, once there are enough of them."""
        due = time.monotonic() - self._looked_at >= UPDATE_EVERY_S
        if self._shown or progress.done < gate_sheet.FIRST or not due:
            return
        self._looked_at = time.monotonic()
        items = gate_sheet.first_items(self._workspace, self._limits)
        if len(items) == gate_sheet.FIRST:
            self._show(items, f"the first {len(items)} items")
            self._shown = True

    def finished(self, outcome: Outcome) -> None:
        """Show the worst items of what was published."""
        if outcome.exit_code != STOPPED and (items := gate_sheet.worst_items(self._workspace, self._limits)):
            self._show(items, f"the worst {len(items)} of {outcome.done} items")

    def _show(self, items: Sequence[gate_sheet.Shown], which: str) -> None:
        sheet = gate_sheet.draw(items)
        path = gate_sheet.keep(self._workspace, sheet)
        accepted = sum(not item.reasons for item in items)
        words = f"Of {which} the gate accepts {accepted}. Views above, the teacher's cast below; also at {path}"
        create_markdown_artifact(f"{words}\n\n{_as_markdown(sheet)}", key="gate-contact-sheet", description=words)


def summarise(outcomes: Sequence[Outcome], workspace: Workspace) -> None:
    """The flow run's own page: the stages, why items are not done, and pictures where something was computed."""
    if not outcomes:
        return
    lines = ["| stage | done | of | computed | exhausted | skipped | blocked | seconds |", "|:--|" + "--:|" * 7]
    for outcome in outcomes:
        counts = (outcome.done, outcome.total, outcome.computed, outcome.exhausted, outcome.skipped, outcome.blocked)
        cells = [outcome.stage, *(str(count) if count else "" for count in counts), f"{outcome.seconds:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    for outcome in outcomes:
        lines += ["", *reasons(outcome.stage, failure_rows(workspace, outcome.stage))]
        lines += [f"- **{outcome.stage}**: {_as_text(notice)}" for notice in outcome.notices]
        if outcome.exit_code != OK:
            lines += ["", f"**{_as_text(outcome.line())}**"]
    computed = [outcome.stage for outcome in reversed(outcomes) if outcome.computed]
    sheets = (_samples(workspace, stage) for stage in computed)
    if sheet := next(filter(None, sheets), None):
        lines += ["", _as_markdown(sheet)]
    create_markdown_artifact("\n".join(lines), key="summary", description=f"What became of {workspace.root.name}")


def reasons(stage: str, rows: Sequence[Mapping[str, str]]) -> list[str]:
    """A markdown line for each way in which items of a stage are not done, the most frequent first."""
    labels: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        labels.setdefault((row["state"], row["message"]), []).append(row["label"])
    ordered = sorted(labels.items(), key=lambda entry: -len(entry[1]))[:MAX_REASONS]
    return [
        f"- **{stage}**: {len(names)} {state}: "
        + _as_text(f"{message} ({', '.join(names[:MAX_NAMES])}" + (", ...)" if len(names) > MAX_NAMES else ")"))
        for (state, message), names in ordered
    ]


def failure_rows(workspace: Workspace, stage: str) -> list[dict[str, str]]:
    """One row an item that is skipped, blocked or exhausted, failures before what does not apply."""
    entries = known_failures(workspace.failures_file(stage))
    entries.sort(key=lambda entry: (entry["state"] == "skipped", entry["label"]))
    return [{name: str(entry.get(name, "")) for name in COLUMNS} for entry in entries]


def _samples(workspace: Workspace, stage: str) -> bytes | None:
    labels = Labels(workspace)
    return contact_sheet(open_upstream(workspace, stage), lambda item_id: labels.get(item_id) or item_id)


def contact_sheet(collection: Upstream, label: Callable[[str], str]) -> bytes | None:
    """Front views of some items from all over the collection over their labels, as a JPEG.

    None where the collection has no pictures.
    """
    from PIL import Image, ImageDraw

    step = max(1, len(collection.records) // NUM_SAMPLES)
    tiles = []
    for item_id in islice(collection.records, 0, NUM_SAMPLES * step, step):
        names = [name for name in PICTURES if name in collection.records[item_id].files]
        if names:
            with Image.open(io.BytesIO(collection.read(item_id, names[0]))) as picture:
                picture.thumbnail((TILE_PX, TILE_PX))
                tiles.append((picture.convert("RGBA"), label(item_id)))
    if not tiles:
        return None
    num_rows = -(-len(tiles) // NUM_COLUMNS)
    size = (TILE_PX * min(len(tiles), NUM_COLUMNS), (TILE_PX + LABEL_PX) * num_rows)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (tile, words) in enumerate(tiles):
        left, top = TILE_PX * (number % NUM_COLUMNS), (TILE_PX + LABEL_PX) * (number // NUM_COLUMNS)
        sheet.paste(tile, (left + (TILE_PX - tile.width) // 2, top + (TILE_PX - tile.height) // 2), mask=tile)
        while words and draw.textlength(words) > TILE_PX - 8:
            words = words[1:]  # the end of a path says most
        draw.text((left + TILE_PX / 2, top + TILE_PX + LABEL_PX / 2), words, INK, anchor="mm")
    encoded = io.BytesIO()
    sheet.save(encoded, "JPEG", quality=85)
    return encoded.getvalue()


def _as_text(words: str) -> str:
    """Words from outside, so that markdown shows them as they are."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!$])", r"\\\1", words)


def _as_markdown(sheet: bytes) -> str:
    """A picture that needs no server of files: both of Prefect's UIs show data URIs."""
    return f"![pictures](data:image/jpeg;base64,{base64.b64encode(sheet).decode()})"
