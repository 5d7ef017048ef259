"""The list of knobs says what the models say: names, defaults, ranges, descriptions."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from models.params import Block
from tasks.commands.params import _knobs_of, knobs
from tasks.params import Params
from tests.support import make_workspace, run_module


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(Block):
    """A block in a block."""

    share: float = Field(0.5, gt=0, le=1)
    """A share."""


class Toy(Block):
    """Every kind of field."""

    source: Literal["toy"] = "toy"
    count: int = Field(3, ge=1)
    """How many,
    told on two lines."""
    angle: float = Field(10.0, ge=-80, le=80.5)
    """An angle."""
    colour: Colour = Colour.RED
    """A colour."""
    limit: int | None = Field(None, ge=1)
    """A limit."""
    names: tuple[str, ...] = ("a", "b")
    """Names."""
    bounds: tuple[float, float] = (0.0, 1.0)
    """Two numbers."""
    inner: Inner = Inner()
    """A block."""
    folder: str
    """A folder."""
    up: dict[str, Literal["x", "y"]] = Field(default_factory=dict)
    """Axes."""
    fast: bool = False
    """Speed."""


def test_a_knob_says_default_range_and_what_it_does():
    found = {knob.name: knob for knob in _knobs_of(Toy, "toys.toy", {"toys": {"toy": {"count": 7, "inner": None}}})}
    shown = {name: (knob.default, knob.allowed) for name, knob in found.items()}
    assert shown == {
        "toys.toy.count": (3, "1 or more"),
        "toys.toy.angle": (10.0, "-80 to 80.5"),
        "toys.toy.colour": ("red", "red, blue"),
        "toys.toy.limit": (None, "1 or more, or null"),
        "toys.toy.names": (["a", "b"], "list of text"),
        "toys.toy.bounds": ([0.0, 1.0], "[number, number]"),
        "toys.toy.inner.share": (0.5, "over 0, 1 or less"),
        "toys.toy.folder": (None, "text"),
        "toys.toy.up": ({}, "names and values"),
        "toys.toy.fast": (False, "true, false"),
    }
    assert [name for name, knob in found.items() if knob.required] == ["toys.toy.folder"]
    assert found["toys.toy.count"].description == "How many, told on two lines."
    assert {name: knob.setting for name, knob in found.items() if knob.setting is not None} == {"toys.toy.count": 7}


def test_the_defaults_are_those_that_a_run_takes():
    found = {knob.name: knob.default for knob in knobs("views")}
    assert found == {f"views.{key}": value for key, value in Params({}).stage("views").model_dump(mode="json").items()}


@pytest.mark.parametrize(
    ("block", "first", "prefix"),
    [
        ("run", "run.workers", "run."),
        ("run.attempts", "run.attempts.bad_input", "run.attempts."),
        ("run.workers", "run.workers", "run.workers"),
        ("teachers", "teachers.classical.visual_hull.resolution", "teachers."),
        ("teachers.visual_hull", "teachers.visual_hull.resolution", "teachers.visual_hull."),
        ("sources.folder", "sources.folder.path", "sources.folder."),
    ],
)
def test_a_block_a_family_a_plugin_or_a_single_key_can_be_asked_for(block, first, prefix):
    names = [knob.name for knob in knobs(block)]
    assert names[0] == first
    assert all(name.startswith(prefix) for name in names)


def test_what_names_a_plugin_may_be_any_of_them():
    (teacher,) = knobs("teach.teacher")
    assert "hunyuan3d" in teacher.allowed.split(", ")
    assert "visual_hull" in teacher.allowed.split(", ")


def test_an_unknown_block_is_answered_with_what_exists():
    with pytest.raises(ValueError, match=r"unknown block 'evalute'; there are: run, .*; did you mean evaluate\?"):
        knobs("evalute")


def test_the_command_shows_the_settings_of_a_workspace_even_of_an_invalid_one(tmp_path: Path):
    workspace = make_workspace(tmp_path / "w", {"views": {"size_px": 64, "sise_px": 3}})
    done = run_module("flows.cli", "params", "views", "--json", cwd=workspace.root)
    settings = {knob["name"]: knob["setting"] for knob in json.loads(done.stdout)["params"]}
    assert settings["views.size_px"] == 64
    assert settings["views.distance"] is None
    table = run_module("flows.cli", "params", "views.size_px", cwd=tmp_path)
    assert table.stdout.splitlines()[1].split()[:2] == ["views.size_px", "256"]
    assert done.exit_code == table.exit_code == 0
