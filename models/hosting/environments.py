"""`lostwax teacher setup NAME`: a teacher's Python environment, its code at a pinned revision, its licence shown first.

    say(describe("hunyuan3d"))
    python = setup("hunyuan3d", Path(".lostwax/environments"), accept_licence=True, say=print)

An environment lies in a folder of its teacher's name; `ready.json` is written into it last.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from models.errors import Unavailable

READY = "ready.json"
OFFLINE = (
    "Could not resolve host",
    "Temporary failure in name resolution",
    "Name or service not known",
    "dns error",
    "Network is unreachable",
    "Failed to establish a new connection",
    "Connection refused",
    "tcp connect error",
)
"""What git, pip and uv say without a network."""


@dataclass(frozen=True)
class Checkout:
    """A Git repository at one revision, submodules included, in `folder` of the environment."""

    url: str
    revision: str
    folder: str


@dataclass(frozen=True)
class EnvironmentSpec:
    """What a teacher's environment is made of.

    requirements: installed with what they depend on. bare: installed without. in_checkout: commands of the teacher's
    own setup, run in the checkout with the environment's Python first. check: modules that must be importable then.
    disk_gb: of the environment. weights: where they come from and their size. python: (from, below).
    """

    title: str
    licence: str
    disk_gb: float
    weights: str
    python: tuple[tuple[int, int], tuple[int, int]]
    requirements: Sequence[str]
    check: Sequence[str]
    bare: Sequence[str] = ()
    checkout: Checkout | None = None
    in_checkout: Sequence[Sequence[str]] = ()
    needs: str = "a network"


@dataclass(frozen=True)
class Step:
    """A command of the setup and what it is for."""

    purpose: str
    command: Sequence[str]
    folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


ENVIRONMENTS = {
    "hunyuan3d": EnvironmentSpec(
        title="Hunyuan3D 2.0, by the package hy3dgen 2.0.2 (shape only; no textures, no web interface)",
        licence=(
            "Tencent Hunyuan 3D 2.0 Community License Agreement: no rights in the European Union, the United Kingdom "
            "and South Korea; outputs must not improve any AI model but Hunyuan3D and its derivatives, and a student "
            "trained on them is such a derivative. The text is in the package hy3dgen (LICENSE)"
        ),
        disk_gb=6,
        weights="3 to 5 GB a variant, fetched from the hub by the first run (tencent/Hunyuan3D-2mini, -2, -2mv)",
        python=((3, 11), (3, 14)),
        requirements=(
            "torch==2.12.1",
            "torchvision==0.27.1",
            "accelerate==1.15.0",
            "diffusers==0.42.1",
            "einops==0.8.2",
            "numpy<2.5",
            "opencv-python-headless==5.0.0.93",
            "pillow>=12",
            "pymeshlab==2025.7.post1",
            "pyyaml>=6",
            "safetensors>=0.8",
            "scikit-image==0.26.0",
            "tqdm>=4.66.3",
            "transformers==5.23.0",
            "trimesh==5.2.0",
        ),
        bare=("hy3dgen==2.0.2",),  # its own list adds a web interface, texturing and a second OpenCV
        check=("hy3dgen.shapegen",),
    ),
    "trellis": EnvironmentSpec(
        title="TRELLIS, from its repository",
        licence=(
            "MIT (code and weights); its FlexiCubes: Apache-2.0 (NVIDIA); DINOv2, which it sees with: Apache-2.0. What "
            "its setup installs has licences of its own"
        ),
        disk_gb=12,
        weights="3.3 GB (microsoft/TRELLIS-image-large) and 1.2 GB (DINOv2 ViT-L/14), fetched by the first run",
        python=((3, 10), (3, 13)),
        requirements=("torch==2.4.0", "torchvision==0.19.0", "numpy<2", "plyfile", "wheel", "setuptools<75"),
        checkout=Checkout(
            "https://github.com/microsoft/TRELLIS.git", "6b0d64751ad54d9c32d7b05fec482eb29178f56f", "TRELLIS"
        ),
        # Its script picks the builds of xformers, spconv and kaolin that go with this torch. What it has for rendering
        # and training is left out: the mesh and the Gaussians are decoded without.
        in_checkout=(("bash", "-c", ". ./setup.sh --basic --xformers --spconv --kaolin"),),
        check=("xformers.ops", "spconv.pytorch", "kaolin.utils.testing", "utils3d", "easydict", "plyfile", "open3d"),
        needs="a network, git, bash, an NVIDIA GPU of 16 GB whose driver knows CUDA 12.1 (its setup looks for one)",
    ),
}


class SetupFailed(RuntimeError):
    """A step failed. The message names it, what it said last and what to do."""


def describe(name: str) -> str:
    """What is shown before anything is done. Raises ValueError naming the teachers there are."""
    spec = _spec(name)
    low, high = (".".join(map(str, version)) for version in spec.python)
    lines = [
        f"{name}: {spec.title}",
        f"  licence   {spec.licence}",
        f"  disk      about {spec.disk_gb:g} GB for the environment",
        f"  weights   {spec.weights}",
        f"  needs     {spec.needs}; Python {low} or later, before {high}",
    ]
    if spec.checkout is not None:
        lines.append(f"  revision  {spec.checkout.url} at {spec.checkout.revision[:12]}, with submodules")
    lines.append(f"  packages  {', '.join((*spec.requirements, *spec.bare))}")
    return "\n".join(lines)


def setup(
    name: str, folder: Path, *, accept_licence: bool, say: Callable[[str], None], python: str = sys.executable
) -> Path:
    """Make folder/NAME, anew if an earlier attempt was cut short; returns its interpreter.

    python: the interpreter that it is made from. Raises ValueError for an unknown teacher, Unavailable without
    acceptance, room on the disk or a fitting Python, SetupFailed with the step that failed.
    """
    spec = _spec(name)
    if not accept_licence:
        raise Unavailable(f"{name} comes under a licence that you must accept first: {spec.licence}")
    home = folder.absolute() / name
    interpreter = home / "bin" / "python"
    if (home / READY).is_file() and json.loads((home / READY).read_text()) == _state(spec):
        say(f"{home} is set up already; remove it to do it again")
        return interpreter
    version = _version_of(python)
    if not spec.python[0] <= version < spec.python[1]:
        low, high = (".".join(map(str, bound)) for bound in spec.python)
        raise Unavailable(
            f"{name} needs Python {low} or later, before {high}; {python} is {'.'.join(map(str, version))}: "
            "run lostwax under such a Python, or call setup with one"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if (free_gb := shutil.disk_usage(folder).free / 1e9) < spec.disk_gb:
        raise Unavailable(f"{name} needs about {spec.disk_gb:g} GB; {folder.absolute()} has {free_gb:.1f} GB left")
    if home.exists():
        say(f"removing {home}: an earlier setup was cut short, or made it of other parts")
        shutil.rmtree(home)
    try:
        for number, step in enumerate(todo := steps(name, folder, python), 1):
            started = time.monotonic()
            say(f"[{number}/{len(todo)}] {step.purpose}")
            _run(step, say)
            say(f"[{number}/{len(todo)}] done in {time.monotonic() - started:.0f} s")
    except SetupFailed as error:
        raise SetupFailed(f"the setup of {name} stopped: {error}") from error
    (home / READY).write_text(json.dumps(_state(spec)))
    return interpreter


def steps(name: str, folder: Path, python: str = sys.executable) -> list[Step]:
    """The commands of the setup, in order. pip is replaced by uv where that is installed: it is faster."""
    spec = _spec(name)
    home = folder.absolute() / name
    interpreter = str(home / "bin" / "python")
    uv = shutil.which("uv")
    pip = [uv, "pip", "install", "--python", interpreter] if uv else [interpreter, "-m", "pip", "install"]
    made = [Step("an environment of its own", [python, "-m", "venv", str(home)])]
    made.append(Step("packages (some GB: this takes minutes)", [*pip, *spec.requirements]))
    if spec.bare:
        made.append(Step(f"{', '.join(spec.bare)}, without what it lists", [*pip, "--no-deps", *spec.bare]))
    if (checkout := spec.checkout) is not None:
        root = home / checkout.folder
        git = ["git", "-C", str(root)]
        made.append(Step("its code", ["git", "clone", "--no-checkout", checkout.url, str(root)]))
        made.append(Step(f"revision {checkout.revision[:12]}", [*git, "checkout", "--detach", checkout.revision]))
        made.append(Step("its submodules", [*git, "submodule", "update", "--init", "--recursive"]))
        active = {"VIRTUAL_ENV": str(home), "PATH": f"{home / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
        made += [Step("its own setup", command, root, active) for command in spec.in_checkout]
    imports = "; ".join(f"import {module}" for module in spec.check)
    made.append(Step("a check: everything imports", [interpreter, "-P", "-c", imports]))
    return made


def _spec(name: str) -> EnvironmentSpec:
    if name not in ENVIRONMENTS:
        raise ValueError(f"there is no setup for a teacher {name!r}; there are: {', '.join(sorted(ENVIRONMENTS))}")
    return ENVIRONMENTS[name]


def _state(spec: EnvironmentSpec) -> dict[str, object]:
    revision = None if spec.checkout is None else spec.checkout.revision
    return {"packages": [*spec.requirements, *spec.bare], "revision": revision}


def _version_of(python: str) -> tuple[int, int]:
    code = "import sys; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(f"{python} is no Python that runs: {error}") from error
    major, minor = done.stdout.split()
    return int(major), int(minor)


def _run(step: Step, say: Callable[[str], None]) -> None:
    """Run it, passing on what it says; its last lines are kept for the error."""
    tail: deque[str] = deque(maxlen=8)
    try:
        process = subprocess.Popen(
            step.command,
            cwd=step.folder,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0", **step.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise SetupFailed(f"{step.purpose}: cannot run {step.command[0]}: {error.strerror}; install it") from error
    assert process.stdout is not None
    with process:
        for line in process.stdout:
            if line.strip():
                tail.append(line.rstrip())
                say(f"    {line.rstrip()}")
    if process.returncode:
        said = "\n".join(tail)
        remedy = "look at its last lines"
        if any(sign in said for sign in OFFLINE):
            remedy = (
                "this machine has no network: run it where there is one; the folder works at the same path elsewhere"
            )
        raise SetupFailed(f"{step.purpose} ended with exit code {process.returncode}: {remedy}\n{said}")
