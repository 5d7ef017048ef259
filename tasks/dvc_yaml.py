"""dvc.yaml, made from the stages: what each reads, the params and versions in its keys, what it writes.

    python -m tasks.dvc_yaml > dvc.yaml

There is one for all students and teachers: DVC sees the same stages whichever params choose. `run:` is not watched.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import yaml

from tasks.engine.stage import Stage
from tasks.order import ORDER, load_stage

HEADER = (
    "# The stage graph, made from the stages by `python -m tasks.dvc_yaml`. Only items.jsonl is anybody's dependency;\n"
    "# shards carry the bytes. `run:` params are not watched. Stages and deps of your own are kept by `lostwax init`.\n"
)
PERSIST = {"persist": True}
"""A stage resumes on what it finds: DVC must not delete it first."""
IN_PARAMS = ("mattes", "encoders", "depths", "teachers", "students")
"""Families whose blocks stand in params.yaml; the entries of sources are in ingest's own block."""


def dvc_yaml() -> str:
    """The whole file."""
    return HEADER + _dump({"vars": ["params.yaml"], "stages": {name: _entry(load_stage(name)) for name in ORDER}})


def merged(text: str) -> str:
    """A user's dvc.yaml brought up to date: our stages as they are now, with the user's own deps; the user's stages.

    Raises ValueError for what is no dvc.yaml.
    """
    theirs = _read(text)
    ours = {name: _entry(load_stage(name)) for name in ORDER}
    stages = dict(theirs.get("stages", {}))
    for name, entry in ours.items():
        stages[name] = {**entry, "deps": [*entry["deps"], *_own_deps(name, stages.get(name, {}))]}
    ordered = {**{name: stages[name] for name in ORDER}, **stages}
    variables = list(dict.fromkeys(["params.yaml", *theirs.get("vars", [])]))
    return HEADER + _dump({**theirs, "vars": variables, "stages": ordered})


def without_additions(text: str) -> str:
    """What the file was made as, where a user has only added deps, stages and vars; some other text, where not.

    Raises ValueError for what is no dvc.yaml.
    """
    theirs = _read(text)
    stages = {name: dict(entry) for name, entry in theirs.get("stages", {}).items() if name in ORDER}
    for name, entry in stages.items():
        own = _own_deps(name, entry)
        entry["deps"] = [dep for dep in entry.get("deps", []) if dep not in own]
    comments = [line for line in text.splitlines(keepends=True) if "#" in line]  # the user's own would be lost
    return "".join(comments) + _dump({"vars": ["params.yaml"], "stages": stages})


def _read(text: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"dvc.yaml is not valid YAML: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("stages", {}), dict):
        raise ValueError("dvc.yaml has no block `stages`")
    return content


def _own_deps(name: str, entry: Mapping[str, Any]) -> list[str]:
    """The deps of one of our stages that a user has added: no other stage's files, and none of our own."""
    known = {f"artifacts/{stage}/{file}" for stage in ORDER for file in ("items.jsonl", "failures.json")}
    known |= set(_deps(load_stage(name)))
    return [dep for dep in entry.get("deps", []) if dep not in known]


def _entry(stage: Stage) -> dict[str, Any]:
    published = (name for name in stage.publishes if name not in stage.plots)
    outs = ["items.jsonl", "shards", "failures.json", "metrics.json", *published]
    entry: dict[str, Any] = {
        "cmd": f"python -P -m tasks {stage.name}",
        "deps": _deps(stage),
        "params": _params(stage),
        "outs": [{f"artifacts/{stage.name}/{name}": PERSIST} for name in outs],
    }
    if type(stage).scores is not Stage.scores:
        entry["metrics"] = [{f"artifacts/{stage.name}/scores.json": PERSIST}]
    if stage.plots:
        plots = {f"artifacts/{stage.name}/{name}": {**PERSIST, **axes} for name, axes in stage.plots.items()}
        entry["plots"] = [{path: settings} for path, settings in plots.items()]
    return entry


def _deps(stage: Stage) -> list[str]:
    if not stage.upstreams:
        return ["${ingest.inbox}"]
    deps = [f"artifacts/{name}/items.jsonl" for name in stage.upstreams]
    if stage.name == "report":  # the page tells of failures, too
        deps += [f"artifacts/{name}/failures.json" for name in ORDER if name != "report"]
    return deps


def _params(stage: Stage) -> list[Any]:
    blocks = [name for name in stage.plugin_blocks if name.partition(".")[0] in IN_PARAMS]
    watched = list(stage.watches)
    if stage.optional:
        watched += ["train", "students"]  # demand decides whether it runs
    families = [name.partition(".")[0] for name in stage.plugin_blocks]  # one of another package has no entry to name
    versions = [f"stages.{stage.name}", *families]
    return [stage.name, *blocks, *watched, {"versions.yaml": versions}]


class _Dumper(yaml.SafeDumper):
    """Lists are indented, as in every dvc.yaml; equal mappings are written out, not referred to."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _dump(content: Mapping[str, Any]) -> str:
    return yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False, width=120)


if __name__ == "__main__":
    sys.stdout.write(dvc_yaml())
