"""A trained student, of this workspace or another, as a teacher. The gate judges what it makes like any other's.

    lostwax students export train ../best -w shoes      the student of the workspace shoes, as two files
    teach: {teacher: student}
    teachers:
      student: {path: ../best}

It is given what it was trained on, made ready by this workspace's stages matte and features: where these work otherwise
than they did for its training, it is unavailable and says in what. It makes whatever kind of cast the student predicts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from models import trained
from models.casts import Cast
from models.errors import BadInput, Unavailable
from models.needs import Given
from models.params import Block
from models.teachers import Site, TeacherOutput, Wants
from models.views import Views

NEEDS_CAMERAS = False
USES_GPU = True
LICENCE = "those of what the student learned from, as its student.json states them"
UNSTATED = "unstated: the student was trained before licences were kept"


class Params(Block):
    """The `teachers.student` block."""

    LOCAL: ClassVar[frozenset[str]] = frozenset({"path"})

    path: str = Field(min_length=1)
    """The folder that `lostwax students export` wrote, relative to the workspace. It may be moved: contents count."""


def weights(params: Params, workspace: Path) -> Sequence[Path]:
    """Both files: the description says how the weights are used."""
    folder = _folder(params, workspace)
    return folder / trained.DESCRIPTION, folder / trained.WEIGHTS


def wants(params: Params, workspace: Path) -> Wants | None:
    """What the student is given of an item, as its training had it; None while there is no student.

    Raises ValueError for a file that describes none.
    """
    path = _folder(params, workspace) / trained.DESCRIPTION
    if not path.is_file():
        return None
    files = {trained.DESCRIPTION: path.read_bytes()}
    try:
        needs = trained.needs_of(files)
        preparation, forms = trained.preparation_of(files), trained.forms_of(files)
        return Wants(needs, preparation, forms, entries=(f"students.{trained.name_of(files)}",))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} describes no student that this lostwax knows ({error}); {_remedy()}") from error


def create(params: Params, site: Site) -> StudentTeacher:
    """Load it. Raises Unavailable where it is not there, or of another version of lostwax."""
    paths = weights(params, site.workspace)
    if missing := next((path for path in paths if not path.is_file()), None):
        raise Unavailable(f"teachers.student.path: there is no {missing}; {_remedy()}")
    files = {path.name: path.read_bytes() for path in paths}
    try:
        student = trained.load_student(files)
    except (KeyError, ValueError, RuntimeError) as error:
        raise Unavailable(
            f"the student in {paths[0].parent} is of another version of lostwax ({type(error).__name__}: {error}); "
            "train it anew and export it again"
        ) from error
    student.network.to(site.device)
    return StudentTeacher(partial(trained.cast, student), "; ".join(trained.licences_of(files)) or UNSTATED)


class StudentTeacher:
    """Hands on what a student predicts of an item, with a seed."""

    def __init__(self, predict: Callable[[Given, int], Cast], licence: str) -> None:
        self._predict, self.licence = predict, licence

    def generate(self, views: Views, *, seed: int, name: str = "item", rungs: int | None = None) -> TeacherOutput:
        """Raises BadInput for an item that shows none of the views which the student knows."""
        if views.given is None:
            raise BadInput("the student teacher is given nothing of the item beside its views")
        try:
            return TeacherOutput((self._predict(views.given, seed),))
        except ValueError as error:
            raise BadInput(f"the student can do nothing with it: {error}") from error

    def close(self) -> None:
        """There is nothing to end."""


def _folder(params: Params, workspace: Path) -> Path:
    return workspace / Path(params.path).expanduser()


def _remedy() -> str:
    return "`lostwax students export NAME FOLDER`, in the workspace that trained it, writes one"
