"""matte: the object of every view on transparent ground, cut to a centred square.

Rendered views and photos that bring a mask keep their alpha. Opaque photos go through the matte plug-in, which is
opened when a worker meets the first of them; where that fails, those photos are blocked and everything else goes on.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from models import plugins
from models.cameras import NAMED_AZIMUTHS_DEG, Camera
from models.crop import Square, crop, square_around
from models.errors import BadInput, EmptyOutput, Unavailable
from models.mattes import Matte as Model
from models.needs import VIEWS
from models.onnx import Machine
from models.params import Block
from models.views import Views, decode_rgba, encode_png
from tasks.collections.records import Record
from tasks.engine.stage import Context, Item, ItemFiles, Json, Offer, Output, Stage

ByteArray = npt.NDArray[np.uint8]
OWN_ALPHA = "alpha"
OBJECT = 128
"""Alpha from which a pixel of a matted view is the object."""


class MatteParams(Block):
    matte: str = "rembg"
    """The plug-in that removes the background of opaque photos."""
    size_px: int = Field(224, ge=16, le=2048)
    """Side of the square images."""
    padding: float = Field(0.1, ge=0, le=1)
    """Free space at either side of the object, as a share of its longer side."""
    alpha_threshold: int = Field(128, ge=1, le=255)
    """Alpha from which a pixel counts as object when its box is measured."""
    min_background: float = Field(0.01, ge=0, le=1)
    """A photo's own alpha counts as a mask when at least this share of its pixels lies below the threshold."""


CAMERAS = "cameras.json"


def view_file(view: str) -> str:
    """The file of a matted view."""
    return f"view.{view}.png"


def matted_views(record: Record) -> list[str]:
    """Names of the item's matted views: the named ones first, then the others by name."""
    present = {name.removeprefix("view.").removesuffix(".png") for name in record.files if name.startswith("view.")}
    named = [name for name in NAMED_AZIMUTHS_DEG if name in present]
    return named + sorted(present.difference(named))


def read_views(names: Sequence[str], has_cameras: bool, read: Callable[[str], bytes]) -> Views:
    """Matted views of an item, with their cameras where these are known. read: bytes of a file of matte."""
    images = np.stack([decode_rgba(read(view_file(name))) for name in names])
    cameras = None
    if has_cameras:
        layout = json.loads(read(CAMERAS))["views"]
        cameras = tuple(Camera.from_json(layout[name]) for name in names)
    return Views(tuple(names), images, cameras)


def _declared_views(record: Record, params: Any) -> list[str]:
    """The views that a student may see: those that features declares. The others are held out for evaluation."""
    present = matted_views(record)
    return [name for name in params.stage("features").views if name in present]


def _view_files(record: Record, params: Any) -> list[str]:
    names = [view_file(name) for name in _declared_views(record, params)]
    return [*names, CAMERAS] if names and CAMERAS in record.files else names


def _read_declared(files: ItemFiles) -> Views:
    names = [name.removeprefix("view.").removesuffix(".png") for name in files.names if name != CAMERAS]
    return read_views(names, CAMERAS in files.names, files.read)


class Matte(Stage):
    name = "matte"
    upstreams = ("views",)
    Params = MatteParams
    plugin_blocks = ("mattes.${matte.matte}",)
    offers = (
        Offer(
            VIEWS,
            files=_view_files,
            read=_read_declared,
            form=lambda record, params: {"size_px": params.stage("matte").size_px},
        ),
    )

    def plugins(self, params: Any) -> dict[str, str]:
        return {"mattes": params.stage(self.name).matte}

    def weights(self, params: Any, workspace: Path) -> Sequence[Path]:
        name = params.stage(self.name).matte
        paths: Sequence[Path] = plugins.load("mattes", name).weights(params.plugin("mattes", name), workspace)
        return paths

    def reads(self, records: Mapping[str, Record], params: Any) -> Iterable[tuple[str, str]]:
        return [("views", name) for name in sorted(records["views"].files) if _is_read(name)]

    def start(self, context: Context) -> Callable[[Item], Output]:
        machine = Machine(context.workspace, context.device, context.num_threads)
        cutter = Cutter(context.params, machine)
        return lambda item: matte_item(item, cutter)

    def metrics(self, records: Iterable[Record], context: Context) -> dict[str, Json]:
        """Items by what made their masks."""
        return {"mattes": dict(sorted(Counter(record.facts["matte"] for record in records).items()))}


@dataclass(frozen=True)
class Cutout:
    """rgba_SS4: the object, cropped. square: where it was cut. matte, licence: what made the mask, on what terms."""

    rgba_SS4: ByteArray
    square: Square
    matte: str
    licence: str | None


class Cutter:
    """Masks and crops one image after another; training data and `generate` go through the same one."""

    def __init__(self, params: Any, machine: Machine) -> None:
        self.params: MatteParams = params.stage("matte")
        self._plugin_params = params.plugin("mattes", self.params.matte)
        self._machine = machine
        self._model: Model | Unavailable | None = None

    def cut(self, rgba_HW4: ByteArray, *, rendered: bool = False) -> Cutout:
        """The object of an image. `rendered`: its alpha is the truth, however little background there is.

        Raises BadInput where the image is all transparent, EmptyOutput where the matte finds no object, Unavailable
        where it cannot run here.
        """
        if rendered or self._is_mask(rgba_HW4[..., 3]):
            cutout = self._crop(rgba_HW4, OWN_ALPHA, None)
            if cutout is None:
                raise BadInput("nothing to see: every pixel is transparent")
            return cutout
        model = self.model()
        rgb_HW3 = np.ascontiguousarray(rgba_HW4[..., :3])
        cutout = self._crop(np.dstack([rgb_HW3, model.alpha(rgb_HW3)]), model.id, model.licence)
        if cutout is None:
            raise EmptyOutput(f"{model.id} found no object; give the photo a transparent background (PNG) instead")
        return cutout

    def model(self) -> Model:
        """The matte, opened on first use. What it lacks is found out once: it raises the same Unavailable again."""
        if self._model is None:
            try:
                self._model = plugins.load("mattes", self.params.matte).create(self._plugin_params, self._machine)
            except Unavailable as error:
                self._model = Unavailable(str(error))
        if isinstance(self._model, Unavailable):
            raise Unavailable(str(self._model))
        return self._model

    def _is_mask(self, alpha_HW: ByteArray) -> bool:
        return float((alpha_HW < self.params.alpha_threshold).mean()) >= self.params.min_background

    def _crop(self, rgba_HW4: ByteArray, matte: str, licence: str | None) -> Cutout | None:
        params = self.params
        square = square_around(rgba_HW4[..., 3], padding=params.padding, threshold=params.alpha_threshold)
        if square is None:
            return None
        return Cutout(crop(rgba_HW4, square, params.size_px), square, matte, licence)


def matte_item(item: Item, cutter: Cutter) -> Output:
    """All views of an item. A view without object is left out and named; an item without any is a BadInput."""
    names = [name.removeprefix("view.").removesuffix(".png") for name in item.names("views", "view.")]
    cameras = json.loads(item.read("views", "cameras.json")) if item.names("views", "cameras.json") else None
    cutouts: dict[str, Cutout] = {}
    empty: dict[str, BadInput | EmptyOutput] = {}
    for name in names:
        rgba_HW4 = decode_rgba(item.read("views", f"view.{name}.png"))
        try:
            cutouts[name] = cutter.cut(rgba_HW4, rendered=cameras is not None)
        except (BadInput, EmptyOutput) as error:
            empty[name] = error
    if not cutouts:
        raise _all_empty(empty)
    files = {f"view.{name}.png": encode_png(cutout.rgba_SS4) for name, cutout in cutouts.items()}
    files["crops.json"] = _json({name: cutout.square.to_json() for name, cutout in cutouts.items()})
    if cameras is not None:
        files["cameras.json"] = _json(crop_cameras(cameras, cutouts, cutter.params.size_px))
    used = {cutout.matte: cutout.licence for cutout in cutouts.values()}
    matte = next((name for name in used if name != OWN_ALPHA), OWN_ALPHA)
    return Output(files, facts={"matte": matte, "licence": used[matte], "views": list(cutouts), "empty": list(empty)})


def crop_cameras(cameras: Json, cutouts: Mapping[str, Cutout], size_px: int) -> Json:
    """cameras.json of the cropped views: the same poses, the intrinsics of the squares."""
    views = {}
    for name, cutout in cutouts.items():
        square = cutout.square
        camera = Camera.from_json(cameras["views"][name])
        views[name] = camera.cropped(square.left, square.top, size_px / square.side).to_json()
    return {**cameras, "size_px": size_px, "views": views}


def _all_empty(failures: Mapping[str, BadInput | EmptyOutput]) -> BadInput | EmptyOutput:
    """One error for an item without any usable view, of the class that the first of them had."""
    if not failures:
        return BadInput("it has no views")
    first = next(iter(failures.values()))
    return type(first)("; ".join(f"view {name}: {error}" for name, error in failures.items()))


def _is_read(name: str) -> bool:
    return name == "cameras.json" or name.startswith("view.")


def _json(value: Json) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
