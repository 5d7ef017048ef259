"""Outputs that a teacher made elsewhere: meshes, 3DGS PLYs, latents, or the output folders of two other projects.

    teach: {teacher: imported}
    teachers:
      imported: {folder: ../trellis_run, licence: "MIT (TRELLIS)"}

Each item's files are found by the end of their path (listing.py), read with bounds, verified and brought into the
canonical frame (reading.py). docs/importing.md shows how.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from models.errors import BadInput
from models.normalise import UpAxis
from models.params import Block
from models.teachers import Site, TeacherOutput
from models.teachers.imported.listing import Layout, Listing
from models.teachers.imported.reading import Frames, GaussiansUp, read_files
from models.views import Views

NEEDS_CAMERAS = False
LICENCE = "as stated in teachers.imported.licence"


class Params(Block):
    """The `teachers.imported` block."""

    LOCAL: ClassVar[frozenset[str]] = frozenset({"folder", "layout", "max_file_mb"})

    folder: str = Field(min_length=1)
    """Where the files lie, relative to the workspace. They may be moved: names and contents count."""
    licence: str
    """The licence of what is imported. It is put on every record."""
    layout: Layout = Layout.AUTO
    """files (NAME.glb with NAME.ply and NAME.npz beside), fresnel (a folder for each item), shoes (NAME.pt) or auto."""
    up: UpAxis = "y"
    """The axis that points up in the meshes."""
    gaussians_up: GaussiansUp = GaussiansUp.MINUS_Y
    """The same of Gaussians: -y is what TRELLIS's save_ply writes by default, z what it writes with transform=None."""
    max_file_mb: float = Field(512, gt=0)
    """A larger file fails its item."""
    max_triangles: int = Field(2_000_000, ge=1)
    """A mesh with more fails."""
    max_texture_pixels: int = Field(64_000_000, ge=1)
    """A mesh whose textures have more pixels together fails."""

    @field_validator("licence")
    @classmethod
    def _licence_says_something(cls, licence: str) -> str:
        if not licence.strip():
            raise ValueError("state the licence of what is imported: it is put on every record")
        return licence.strip()


def find_files(params: Params, workspace: Path, labels: Mapping[str, str]) -> Callable[[str], Sequence[Path]]:
    """The files of an item, by its id. The folder is listed once, here; see `Listing.files_of`.

    labels: of all items, by id. Raises ValueError without a folder, or with one that holds nothing of the layout.
    """
    folder = workspace / Path(params.folder).expanduser()
    return Listing(folder, params.layout, labels, int(params.max_file_mb * 1e6)).files_of


def create(params: Params, site: Site) -> Imported:
    """Ready at once: there is nothing to load."""
    return Imported(params)


class Imported:
    """Reads what lies there; see the module."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self.licence = params.licence

    def generate(self, views: Views, *, seed: int, name: str = "item", rungs: int | None = None) -> TeacherOutput:
        """What `views.files` hold; the images are not looked at. `seed` only places the points of a check.

        Raises BadInput for files that are missing, broken, or do not fit together.
        """
        if not views.files:
            raise BadInput("no files: the imported teacher takes what was made elsewhere and makes nothing itself")
        params = self.params
        frames = Frames(params.up, params.gaussians_up)
        limits = (int(params.max_file_mb * 1e6), params.max_triangles, params.max_texture_pixels)
        return read_files(views.files, frames, *limits, seed=seed)

    def close(self) -> None:
        """There is nothing to end."""
