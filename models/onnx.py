"""ONNX models run by onnxruntime, and what `lostwax export-encoder` writes into them about themselves."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models import crop
from models.errors import Unavailable

METADATA_KEY = "lostwax"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Machine:
    """Where a plug-in runs: relative paths start at `workspace`; device is "cpu" or "cuda:N"."""

    workspace: Path
    device: str = "cpu"
    num_threads: int = 1


@dataclass(frozen=True)
class Description:
    """What an exported model says of itself, kept as JSON in its metadata.

    family: dinov2 or depth_anything. id: names the network, e.g. "dinov2-384x12". The input is (B, 3, S, S) with
    S = image_size_px, RGB in [0, 1] less `mean`, over `std`. channels: of a token (0 for depth models).
    num_prefix_tokens: class and register tokens that precede the patches.
    """

    family: str
    id: str
    image_size_px: int
    patch_px: int
    channels: int
    num_prefix_tokens: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    checkpoint: str = ""
    licence: str = "unknown"

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Description:
        value = json.loads(text)
        return Description(**{**value, "mean": tuple(value["mean"]), "std": tuple(value["std"])})

    def pixels(self, rgba_BHW4: npt.NDArray[np.uint8], background: int) -> npt.NDArray[np.float32]:
        """The model's input (B, 3, S, S) of straight-alpha images, composited on a grey of level `background`."""
        sized = np.stack([crop.resize(rgba, self.image_size_px) for rgba in rgba_BHW4])
        rgb_BHW3 = crop.on_grey(sized, background)
        normalised = (rgb_BHW3 - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray(normalised.transpose(0, 3, 1, 2))


class ExportedModel:
    """An open session of a file that `lostwax export-encoder` wrote."""

    def __init__(self, path: Path, family: str, machine: Machine) -> None:
        """Raises Unavailable where the file is absent or unreadable, ValueError where it is another kind of model."""
        self._session = open_session(path, machine)
        text = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if text is None:
            raise ValueError(f"{path} does not say what it is; write it with {_command(family)}")
        self.description = Description.from_json(text)
        if self.description.family != family:
            raise ValueError(f"{path} is a {self.description.family} model, not {family}")

    def run(self, pixels_B3SS: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The model's one output for a batch."""
        name = self._session.get_inputs()[0].name
        output: npt.NDArray[np.float32] = self._session.run(None, {name: pixels_B3SS})[0]
        return output


def exported_path(path: Path | None, family: str, where: str, machine: Machine) -> Path:
    """The model file named by the params key `where`. Raises Unavailable telling how to make one."""
    if path is None:
        raise Unavailable(f"{where} names no model: run {_command(family)} and set {where} to the file")
    return machine.workspace / path


def _command(family: str) -> str:
    return f"`lostwax export-encoder {family} CHECKPOINT -o FILE`"


def open_session(path: Path, machine: Machine) -> Any:
    """An onnxruntime.InferenceSession on the machine's device with its number of threads. Raises Unavailable."""
    import onnxruntime

    with opening(path):
        return onnxruntime.InferenceSession(str(path), session_options(machine), providers=providers(machine))


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """Raises Unavailable for an absent file, and instead of what onnxruntime raises inside for an unusable one."""
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    if not path.is_file():
        raise Unavailable(f"there is no model at {path}")
    try:
        yield
    except (errors.InvalidProtobuf, errors.InvalidGraph, errors.Fail, errors.NotImplemented) as error:
        raise Unavailable(f"{path} is not a usable ONNX model: {error}") from error


def session_options(machine: Machine) -> Any:
    """onnxruntime.SessionOptions: the machine's threads, warnings off, the same results on every run."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = machine.num_threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    return options


def providers(machine: Machine) -> Sequence[str | tuple[str, dict[str, int]]]:
    """The execution providers for the machine's device; CPU, with a warning, where CUDA is not built in."""
    import onnxruntime

    if machine.device.startswith("cuda"):
        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            index = int(machine.device.partition(":")[2] or 0)
            return [("CUDAExecutionProvider", {"device_id": index}), "CPUExecutionProvider"]
        log.warning("onnxruntime has no CUDA here (install onnxruntime-gpu): ONNX models run on the CPU")
    return ["CPUExecutionProvider"]
