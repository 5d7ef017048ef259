"""`doctor`: what this machine and this workspace lack, and what to do about it."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import lostwax
from models.rendering import PACKAGES as GL_PACKAGES
from tasks.collections.files import file_sha256
from tasks.collections.statcache import StatCache
from tasks.order import ORDER, load_stage
from tasks.params import load_params
from tasks.versions import check_versions
from tasks.workspace import Workspace

MIN_FREE_GB = 5


@dataclass(frozen=True)
class Check:
    """One thing looked at. remedy is empty where all is well."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


def examine(folder: Path, *, verify: bool) -> list[Check]:
    """Every check, in order; none stops the others."""
    checks = [_python(), *(_package(*row) for row in PACKAGES), _torch(), _pytorch3d(), _gl(), _gpu()]
    try:
        workspace = Workspace.find(folder)
    except FileNotFoundError as error:
        return [*checks, Check("workspace", False, "none", str(error))]
    checks += [Check("workspace", True, str(workspace.root)), _space(workspace.root)]
    checks += [_asked("params.yaml", lambda: load_params(workspace.params_file))]
    checks += _blocks(workspace)
    checks += [
        _asked("versions.yaml", lambda: check_versions(workspace, load_params(workspace.params_file))),
        _dvc(workspace),
        _python_on_path(),
    ]
    if verify:
        checks += [_shards(workspace, stage) for stage in ORDER if workspace.shards_dir(stage).is_dir()]
    return checks


PACKAGES = [
    ("prefect", "prefect>=3.8.8,<3.9"),
    ("dvc", "dvc>=3.67"),
    ("trimesh", "trimesh>=5.2"),
    ("onnxruntime", "onnxruntime>=1.31"),
    ("igl", "libigl>=2.6"),
    ("safetensors", "safetensors>=0.8"),
]


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check(
        "python", sys.version_info >= (3, 11), version, "" if sys.version_info >= (3, 11) else "install Python 3.11"
    )


def _package(module: str, requirement: str) -> Check:
    try:
        with warnings.catch_warnings(action="ignore"):  # Prefect warns of a home that it cannot write to
            found = importlib.import_module(module)
    except ImportError as error:
        return Check(module, False, str(error), f"pip install '{requirement}'")
    return Check(module, True, str(getattr(found, "__version__", "present")))


def _torch() -> Check:
    try:
        import torch
    except ImportError as error:
        return Check("torch", False, str(error), "pip install 'torch>=2.11,<2.13'")
    return Check("torch", True, torch.__version__)


def _pytorch3d() -> Check:
    """Imports under any torch; a build against another torch fails at the first call, so one is made."""
    remedy = "pip install easypytorch3d==0.7.9.post1 'torch>=2.11,<2.13' (a prebuilt pytorch3d)"
    try:
        import torch
        from pytorch3d.ops import knn_points

        distance = float(knn_points(torch.zeros(1, 1, 3), torch.ones(1, 1, 3)).dists)
    except (ImportError, RuntimeError, OSError) as error:
        return Check("pytorch3d", False, f"{type(error).__name__}: {error}", remedy)
    return Check("pytorch3d", distance == 3.0, f"nearest neighbour of a unit cube's corner: {distance:g} (3 is right)")


def _gl() -> Check:
    """Renders in a process of its own: a GL library that crashes must not take the doctor along."""
    code = "from models.rendering.context import gl_context; print(gl_context().platform_name)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False, timeout=120)
    if done.returncode == 0:
        return Check("headless GL", True, done.stdout.strip())
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return Check("headless GL", False, last, f"apt-get install -y --no-install-recommends {GL_PACKAGES}")


def _gpu() -> Check:
    if shutil.which("nvidia-smi") is None:
        return Check("GPU", True, "none: everything runs on the CPU")
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30)
    remedy = "" if done.returncode == 0 else "reinstall the NVIDIA driver"
    return Check("GPU", done.returncode == 0, (done.stdout or done.stderr).strip().replace("\n", "; "), remedy)


def _space(root: Path) -> Check:
    free_gb = shutil.disk_usage(root).free / 1e9
    enough = free_gb >= MIN_FREE_GB
    return Check("disk", enough, f"{free_gb:.0f} GB free", "" if enough else f"free at least {MIN_FREE_GB} GB")


def _asked(name: str, ask: Callable[[], object]) -> Check:
    try:
        ask()
    except (ValueError, OSError) as error:
        return Check(name, False, "invalid", str(error))
    return Check(name, True, "valid")


def _blocks(workspace: Workspace) -> list[Check]:
    """Params that DVC watches must be written down, be they empty; here defaults would do."""
    try:
        params = load_params(workspace.params_file)
    except (ValueError, OSError):
        return []  # told already
    missing = [f"{name}: {{}}" for name in ORDER if name not in params.raw]
    chosen = {pair for stage in map(load_stage, ORDER) for pair in stage.plugins(params).items()}
    missing += [
        f"{family}: {{{name}: {{}}}}" for family, name in sorted(chosen) if name not in (params.raw.get(family) or {})
    ]
    if not missing:
        return []
    return [Check("blocks for DVC", False, f"{len(missing)} missing", f"add to params.yaml: {', '.join(missing)}")]


def _dvc(workspace: Workspace) -> Check:
    if (workspace.root / ".dvc").is_dir():
        return Check("DVC repository", True, "yes")
    return Check("DVC repository", False, "no: runs are not recorded in dvc.lock", f"lostwax init {workspace.root}")


def _python_on_path() -> Check:
    """dvc.yaml calls `python`; one without lostwax is no fault as long as nobody calls `dvc repro` itself."""
    python = shutil.which("python")
    if python is None:
        return Check("python of dvc.yaml", True, "none on PATH: use `lostwax repro` instead of `dvc repro`")
    code = "import lostwax; print(lostwax.ROOT)"
    done = subprocess.run([python, "-P", "-c", code], capture_output=True, text=True, check=False, timeout=60)
    if done.stdout.strip() == str(lostwax.ROOT):
        return Check("python of dvc.yaml", True, python)
    return Check("python of dvc.yaml", True, f"{python}, another one: use `lostwax repro` instead of `dvc repro`")


def _shards(workspace: Workspace, stage: str) -> Check:
    """Reads every byte. Damage that left no trace in the times is remembered, so that the next run sees it."""
    paths = sorted(workspace.shards_dir(stage).glob("*.tar"))
    damaged = [path for path in paths if file_sha256(path)[:16] != path.stem]
    with closing(StatCache(workspace.stat_cache_file)) as stats:
        for path in damaged:
            stats.forget(path)
    remedy = f"lostwax run --until {stage} makes the damaged items anew" if damaged else ""
    return Check(f"shards of {stage}", not damaged, f"{len(paths)} read, {len(damaged)} damaged", remedy)
