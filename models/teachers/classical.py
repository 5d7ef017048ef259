"""What silhouettes alone give: the visual hull of several views, the inflation of a single one.

    teach: {teacher: classical}
    teachers:
      classical: {visual_hull: {resolution: 128}, inflation: {depth: 0.7}}

Views with cameras, and photos of the front or back together with a side, go to `visual_hull`; any other photo goes to
`inflation`. The record's quality says which `method` made a shape. Both need no weights and run in well under a second
on one core; their modules say what they cannot do.
"""

from __future__ import annotations

from dataclasses import replace

from models.params import Block
from models.teachers import Site, TeacherOutput
from models.teachers import inflation as single_view
from models.teachers import visual_hull as several_views
from models.views import Views

NEEDS_CAMERAS = False
LICENCE = several_views.LICENCE


class Params(Block):
    """The `teachers.classical` block."""

    visual_hull: several_views.Params = several_views.Params()
    """Of the hull; the keys are those of `teachers.visual_hull`."""
    inflation: single_view.Params = single_view.Params()
    """Of the inflation; the keys are those of `teachers.inflation`."""


def create(params: Params, site: Site) -> Classical:
    """The teacher. It runs on the CPU whatever the site's device."""
    return Classical(params)


class Classical:
    """Hands an item to the method that fits its views."""

    licence = LICENCE

    def __init__(self, params: Params) -> None:
        self._visual_hull = several_views.VisualHull(params.visual_hull)
        self._inflation = single_view.Inflation(params.inflation)

    def close(self) -> None:
        """There is nothing to end."""

    def generate(self, views: Views, *, seed: int, name: str = "item", rungs: int | None = None) -> TeacherOutput:
        """Raises what the chosen method raises."""
        if several_views.unfit(views.names, views.cameras is not None):
            return _by("inflation", self._inflation.generate(views, seed=seed))
        return _by("visual_hull", self._visual_hull.generate(views, seed=seed))


def _by(method: str, made: TeacherOutput) -> TeacherOutput:
    return replace(made, quality={"method": method, **made.quality})
