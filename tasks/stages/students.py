"""What each published student is trained with: the params, and what a variant says otherwise.

    train:
      student: field
      variants:
        no_teacher: {students.field.alpha: none}
        seed1: {train.seed: 1}

A student's key holds its own settings and no other student's, so that adding a variant trains one student, and a trial
whose settings are written down as a variant is found where it lies.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models import plugins
from models.needs import Needs
from models.plugins import result_version
from tasks.engine.stage import Context, Json
from tasks.params import Params

if TYPE_CHECKING:
    from tasks.stages.train import TrainParams

MAIN = "train"
"""The main student's id: that of the stage."""
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,21}")
TAKEN = {MAIN, "student", "teacher", "truth", "floor", "mean_shape", "nearest", "ellipsoid", "icosphere_fit"}
"""Names that mean something else where students are compared."""
NOT_IN_KEY = ("variants", "checkpoint_every_steps", "on_new_data", "warm_start_epochs")
"""Fields of `train` that do not change what a training from scratch makes. A warm start's epochs enter its own key."""
CHANGEABLE = ("train", "students")
"""Blocks that a variant may change: all others are read by stages that serve every student."""


@dataclass(frozen=True)
class Choice:
    """A student that params name: its id, and the params as it sees them."""

    id: str
    params: Params

    @property
    def block(self) -> TrainParams:
        block: TrainParams = self.params.stage("train")
        return block

    @property
    def plugin(self) -> Any:
        return plugins.load("students", self.block.student)

    @property
    def plugin_params(self) -> Any:
        return self.params.plugin("students", self.block.student)

    @property
    def needs(self) -> Needs:
        needs: Needs = self.plugin.needs(self.plugin_params)
        return needs

    def settings(self, context: Context) -> dict[str, Json]:
        """What enters the key of it, beside the items: params, the plug-in's version, digests of pretrained weights."""
        name = self.block.student
        own = self.plugin_params
        find = getattr(self.plugin, "weights", None)
        weights = find(self.plugin_params, context.workspace) if find else ()
        return {
            "train": self.block.model_dump(mode="json", exclude=set(NOT_IN_KEY)),
            "students": {name: own.model_dump(mode="json", exclude={*own.USE_ONLY, *own.LOCAL})},
            "version": result_version(f"students.{name}", context.versions),
            "weights": [context.digest(path) if path.is_file() else "missing" for path in weights],
        }


def choices(params: Params) -> list[Choice]:
    """The students that params name: the main one, then the variants in their order. Raises ValueError."""
    block: TrainParams = params.stage("train")
    return [Choice(MAIN, params), *(Choice(name, _varied(params, name, block)) for name in block.variants)]


def choice(params: Params, name: str) -> Choice:
    """The student of that id. Raises ValueError naming the known ones."""
    found = {one.id: one for one in choices(params)}
    if name not in found:
        raise ValueError(f"params.yaml names no student {name!r}; there are: {', '.join(found)}")
    return found[name]


def _varied(params: Params, name: str, block: TrainParams) -> Params:
    if not NAME.fullmatch(name) or name in TAKEN:
        raise ValueError(f"train.variants: {name!r} cannot be a name: 1 to 22 of a-z, 0-9, _ and -, not {MAIN!r} etc.")
    settings: Mapping[str, Json] = block.variants[name]
    for dotted in settings:
        first, _, rest = dotted.partition(".")
        if first not in CHANGEABLE or not rest or rest.split(".")[0] in NOT_IN_KEY:
            raise ValueError(
                f"train.variants.{name}: {dotted!r} cannot vary; write train.KEY or students.NAME.KEY, for example "
                "train.seed"
            )
    varied = params.overridden(settings)
    try:
        varied.plugin("students", varied.stage("train").student)
    except ValueError as error:
        raise ValueError(f"train.variants.{name}: {error}") from error
    return varied


def digest(value: Json) -> str:
    """sha256 (64 hex) of JSON with sorted names."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
