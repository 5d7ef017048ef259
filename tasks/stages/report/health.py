"""How the pipeline itself fared: items by outcome, failures by class, times from the ledgers of this machine."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.collections.ledger import Ledger
from tasks.engine.outcome import some_of
from tasks.engine.standing import Standing
from tasks.stages.report.charts import share_bar
from tasks.stages.report.markup import Html, heads, table, tag
from tasks.workspace import Workspace

OUTCOMES = (("done", "student"), ("exhausted", "bad"), ("blocked", "teacher"), ("skipped", "plain"))
"""How an item may end, and the ink of its share."""
MOST_NAMES = 12
"""Items named in a row of failures."""
HEADS = ("Total", "Done", "Exhausted", "Blocked", "Skipped", "Median", "Last run")


def medians(workspace: Workspace, names: Sequence[str]) -> dict[str, float]:
    """Median seconds of an item by stage, as this machine's ledgers know them."""
    found = {}
    for name in names:
        if (workspace.local(name) / "ledger.db").is_file():
            with Ledger(workspace.local(name)) as ledger:
                if (median_s := ledger.seconds_per_item()) is not None:
                    found[name] = median_s
    return found


def section(standings: Sequence[Standing], medians_s: Mapping[str, float], most_rows: int) -> Html:
    """The stages, then what failed, at most `most_rows` rows of items that ended alike."""
    rows = [_stage_row(standing, medians_s.get(standing.stage)) for standing in standings]
    note = (
        "Items: exhausted, tried as often as allowed; blocked, its plug-in cannot run here; skipped, the stage does "
        "not apply to it. Median: seconds an item, of the last 1,000; last run: wall-clock time and items computed. "
        "Times are those of this machine’s ledgers when the page was made"
    )
    unknown = [standing.stage for standing in standings if standing.stage not in medians_s and not standing.last_run]
    missing = f"; it has none of {', '.join(unknown)}" if unknown else ""
    return tag(
        "section",
        {"id": "health"},
        tag("h2", {}, "The pipeline"),
        table(heads("Stage", "", num=HEADS), rows, "health"),
        tag("p", {"class": "foot"}, f"{note}{missing}."),
        *_failures(standings, most_rows),
    )


def _stage_row(standing: Standing, median_s: float | None) -> Html:
    items = standing.items
    counts = [tag("td", {"class": "num"}, str(items.get("total", "–")))]
    for name, ink in OUTCOMES:
        count = int(items.get(name, 0))
        loud = f" ink-{ink}" if count and name in ("exhausted", "blocked") else "" if count else " quiet"
        counts.append(tag("td", {"class": f"num{loud}"}, str(count)))
    bar = share_bar((int(items.get(name, 0)), ink) for name, ink in OUTCOMES)
    return tag(
        "tr",
        {},
        tag("th", {"scope": "row"}, standing.stage),
        tag("td", {"class": "bar"}, bar),
        *counts,
        tag("td", {"class": "num"}, "–" if median_s is None else f"{median_s:.3g} s"),
        tag("td", {"class": "num"}, _last_run(standing.last_run)),
    )


def _last_run(run: Mapping[str, object] | None) -> str:
    """`12.5 s (10)`: wall-clock time and items computed."""
    return "–" if run is None else f"{run['seconds']:.1f} s ({run['computed']})"


def _failures(standings: Sequence[Standing], most_rows: int) -> list[Html]:
    failed = [(standing.stage, entry) for standing in standings for entry in standing.failed]
    heading = tag("h3", {}, "Failures by class")
    if not failed:
        return [heading, tag("p", {"class": "none"}, "None: no item failed, was blocked or was skipped.")]
    counts = Counter(str(entry["class"]) for _, entry in failed)
    chips = [tag("li", {}, tag("b", {}, str(count)), " ", name) for name, count in counts.most_common()]
    rows = _alike(failed)
    listed = table(heads("Stage", "Class", "What happened", "Items", num=["Count"]), rows[:most_rows])
    parts = [heading, tag("ul", {"class": "chips"}, *chips), listed]
    if len(rows) > most_rows:
        where = "artifacts/STAGE/failures.json has them all"
        parts.append(tag("p", {"class": "foot"}, f"{len(rows) - most_rows} more rows are not shown; {where}."))
    return parts


def _alike(failed: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Html]:
    """A row for all items that ended alike: exhausted ones first, then blocked, then skipped."""
    order = {"exhausted": 0, "blocked": 1, "skipped": 2}
    labels: dict[tuple[int, str, str, str], list[str]] = defaultdict(list)
    for stage, entry in failed:
        rank = order.get(str(entry["state"]), len(order))
        labels[rank, stage, str(entry["class"]), str(entry["message"])].append(str(entry["label"]))
    rows = []
    for (_, stage, failure, message), names in sorted(labels.items()):
        cells = [
            tag("th", {"scope": "row"}, stage),
            tag("td", {}, failure),
            tag("td", {"class": "message"}, message),
            tag("td", {"class": "names"}, some_of(names, MOST_NAMES)),
            tag("td", {"class": "num"}, str(len(names))),
        ]
        rows.append(tag("tr", {}, *cells))
    return rows
