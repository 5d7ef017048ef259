"""Which optional stages run: those whose files somebody declared. A function of params alone, so that both drivers, the
plan and the page agree."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from models import plugins
from models.params import Block
from tasks.engine.stage import Json, Stage
from tasks.stages.students import choices


class OptionalParams(Block):
    """What the block of every optional stage has."""

    when: Literal["needed", "always"] = Field("needed")
    """needed: where a student that params name, or the teacher, needs what it makes. always: whatever they need."""


class OptionalStage(Stage):
    """A stage that rests where nobody needs what it offers: it publishes nothing, and what is stored stays."""

    optional = True

    def idle(self, params: Any) -> str | None:
        if params.stage(self.name).when == "always":
            return None
        if {offer.need.name for offer in self.offers} & demanded(params):
            return None
        return f"not needed by {', '.join(sorted(who_needs(params)))}"

    def key_params(self, params: Any) -> Json:
        """Whether it runs does not change what it makes."""
        return params.stage(self.name).model_dump(mode="json", exclude={"when"})


def demanded(params: Any) -> set[str]:
    """Names of what the students that params name, and the teacher, need of an item."""
    return set().union(*who_needs(params).values())


def who_needs(params: Any) -> dict[str, set[str]]:
    """Names of needs, by the plug-in's name."""
    found: dict[str, set[str]] = {}
    for choice in choices(params):
        found.setdefault(choice.block.student, set()).update(need.name for need in choice.needs.all)
    teacher = params.stage("teach").teacher
    if needs := getattr(plugins.load("teachers", teacher), "needs", None):
        found[teacher] = {need.name for need in needs(params.plugin("teachers", teacher)).all}
    return found
