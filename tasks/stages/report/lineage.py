"""Where the figures come from: data and its licences, params, versions and weights of every stage."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections import Counter
from collections.abc import Mapping, Sequence

import yaml

from tasks.collections.records import Record
from tasks.engine.planning import StageRecipe
from tasks.engine.stage import Upstream
from tasks.stages.licences import LICENCES
from tasks.stages.report.markup import Html, heads, table, tag


def package_version() -> str:
    """Of the installed lostwax."""
    try:
        return importlib.metadata.version("lostwax")
    except importlib.metadata.PackageNotFoundError:
        return "not installed (run from a checkout)"


def dataset_digest(records: Mapping[str, Record]) -> str:
    """sha256 (64 hex) over the ingested items' ids and their files' names and digests, in order."""
    digest = hashlib.sha256()
    for item_id in sorted(records):
        for name, entry in sorted(records[item_id].files.items()):
            digest.update(f"{item_id}\0{name}\0{entry.sha256}\n".encode())
    return digest.hexdigest()


def section(upstreams: Mapping[str, Upstream], recipes: Sequence[StageRecipe]) -> Html:
    ingested = upstreams["ingest"].records
    facts = [
        ("lostwax", package_version()),
        ("Dataset", f"sha256 {dataset_digest(ingested)}"),
        ("Items", _counts(ingested, "split")),
        ("Classes", _counts(ingested, "class")),
        ("Kinds", _counts(ingested, "kind")),
        ("Result versions", _versions(recipes)),
    ]
    listed = [part for name, value in facts for part in (tag("dt", {}, name), tag("dd", {}, value))]
    note = "The dataset’s digest is over ids, names and digests of the ingested files, sorted by id."
    return tag(
        "section",
        {"id": "lineage"},
        tag("h2", {}, "Lineage"),
        tag("dl", {}, *listed),
        tag("p", {"class": "foot"}, note),
        tag("h3", {}, "Licences"),
        _licences(upstreams),
        tag("h3", {}, "Params that decide results, by stage"),
        *(_params(recipe) for recipe in recipes),
    )


def _counts(records: Mapping[str, Record], fact: str) -> str:
    counts = Counter(str(record.facts.get(fact)) for record in records.values())
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.most_common()) or "none"


def _versions(recipes: Sequence[StageRecipe]) -> str:
    versions = {name: number for recipe in recipes for name, number in recipe.content["versions"].items()}
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def _licences(upstreams: Mapping[str, Upstream]) -> Html:
    rows = []
    for stage, thing, licence in LICENCES:
        counts = Counter(
            (str(record.facts[thing]), record.facts.get(licence))
            for record in upstreams[stage].records.values()
            if record.facts.get(thing) is not None
        )
        for (name, terms), count in counts.most_common():
            words = "none is needed: the photo’s own mask" if (stage, name) == ("matte", "alpha") else "not stated"
            rows.append(
                tag(
                    "tr",
                    {},
                    tag("th", {"scope": "row"}, thing),
                    tag("td", {}, name),
                    tag("td", {}, str(terms) if terms else tag("i", {}, words)),
                    tag("td", {"class": "num"}, str(count)),
                )
            )
    if not rows:
        return tag("p", {"class": "none"}, "No record states a licence.")
    return table(heads("What", "Name", "Licence or attribution", num=["Items"]), rows)


def _params(recipe: StageRecipe) -> Html:
    content = recipe.content
    written = yaml.safe_dump({content["stage"]: content["params"], **content["plugins"]}, sort_keys=True)
    weights = [tag("p", {"class": "foot"}, f"weights: sha256 {digest}") for digest in content["weights"]]
    summary = tag("summary", {}, content["stage"], " ", tag("span", {"class": "id"}, recipe.name))
    return tag("details", {}, summary, tag("pre", {}, written), *weights)
