"""Background removal by rembg, with a published model by name or an ONNX file of one's own.

    mattes:
      rembg: {model: dis_custom, path: weights/isnet.onnx}

`lostwax fetch-model u2netp` fetches the default, 4.6 MB; larger models cut finer. `u2net_custom` takes [1, 3, 320, 320]
normalised by ImageNet's mean and std, `dis_custom` [1, 3, 1024, 1024] with mean 0.5 and std 1; both give [1, 1, H, W].
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from models import onnx
from models.errors import Unavailable
from models.mattes.rembg.published import PUBLISHED, obtain
from models.params import Block

CUSTOM = ("dis_custom", "u2net_custom")


class Params(Block):
    model: str = "u2netp"
    """A model that rembg publishes, or `dis_custom` / `u2net_custom` for the file at `path`."""
    path: Path | None = Field(None, exclude=True)
    """The ONNX file of a custom model, relative to the workspace. Its digest enters the key, its path does not."""
    download: bool = Field(True, exclude=True)
    """Fetch a published model on the first opaque photo where it is not on this machine. Not in the key."""
    accept_non_commercial: bool = Field(False, exclude=True)
    """Needed for models whose terms bar commercial use. Not in the key."""

    @model_validator(mode="after")
    def _model_is_usable(self) -> Self:
        if self.model in CUSTOM:
            if self.path is None:
                raise ValueError(f"model {self.model} needs `path`, the ONNX file to run")
            return self
        if self.model not in PUBLISHED:
            raise ValueError(f"unknown model {self.model!r}; there are: {', '.join((*PUBLISHED, *CUSTOM))}")
        if self.path is not None:
            raise ValueError(f"`path` goes with {' or '.join(CUSTOM)}; {self.model} is found by its name")
        published = PUBLISHED[self.model]
        if published.non_commercial and not self.accept_non_commercial:
            raise ValueError(f"{self.model} is {published.licence}; to accept this, set accept_non_commercial: true")
        return self


def weights(params: Params, workspace: Path) -> Sequence[Path]:
    """The custom file. A published name stands for its bytes, which are verified before use."""
    return () if params.path is None else (workspace / params.path,)


def create(params: Params, machine: onnx.Machine) -> RembgMatte:
    """Open the model. Raises Unavailable, before rembg's slow first import, where its file cannot be had."""
    if params.path is None:
        obtain(params.model, download=params.download)
        return RembgMatte(params.model, None, PUBLISHED[params.model].licence, machine)
    path = (machine.workspace / params.path).absolute()
    if not path.is_file():
        raise Unavailable(f"mattes.rembg.path: there is no model at {path}")
    return RembgMatte(params.model, path, "unknown: a file of your own", machine)


class RembgMatte:
    """A rembg session."""

    def __init__(self, model: str, path: Path | None, licence: str, machine: onnx.Machine) -> None:
        self.id = f"rembg:{model}"
        self.licence = licence
        self._session = _open(model, path, machine)

    def alpha(self, rgb_HW3: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The object's opacity (H, W). All 0 where the model sees the same everywhere."""
        from PIL import Image

        rembg = _imported()
        with np.errstate(invalid="ignore"):  # rembg stretches the mask to 0..1, which divides 0 by 0 on a flat one
            mask = rembg.remove(Image.fromarray(rgb_HW3), session=self._session, only_mask=True)
        return np.asarray(mask)


def _open(model: str, path: Path | None, machine: onnx.Machine) -> Any:
    rembg = _imported()
    options, providers = onnx.session_options(machine), list(onnx.providers(machine))
    if path is None:
        return rembg.new_session(model, sess_opts=options, providers=providers)
    with onnx.opening(path), _models_may_lie_in(path.parent):
        return rembg.new_session(model, sess_opts=options, providers=providers, model_path=str(path))


def _imported() -> ModuleType:
    """rembg, without compiling pymatting, which takes minutes on a new machine and which only its alpha matting calls.

    Numba looks at the switch where a function is defined: pymatting's stay Python, what is defined later is compiled.
    """
    from numba import config

    before, config.DISABLE_JIT = config.DISABLE_JIT, 1
    try:
        return importlib.import_module("rembg")
    finally:
        config.DISABLE_JIT = before


@contextmanager
def _models_may_lie_in(folder: Path) -> Iterator[None]:
    """rembg opens custom files only below its home, which U2NET_HOME names before all else."""
    before = os.environ.get("U2NET_HOME")
    os.environ["U2NET_HOME"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["U2NET_HOME"]
        else:
            os.environ["U2NET_HOME"] = before
