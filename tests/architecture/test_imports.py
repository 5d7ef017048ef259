import pkgutil
import subprocess
import sys

from models import plugins
from tasks.order import CLASSES

HEAVY = (
    "torch",
    "pytorch3d",
    "pyrender",
    "OpenGL",
    "trimesh",
    "rembg",
    "onnxruntime",
    "skimage",
    "scipy",
    "igl",
    "prefect",
)
LIGHT = [
    "flows.cli",
    "tasks.__main__",
    "tasks.commands.plan",
    "tasks.commands.items",
    "tasks.engine.worker",
    *(reference.partition(":")[0] for reference in CLASSES.values()),
    *(f"models.casts.{name}" for name in plugins.known("casts")),
    *(f"{package}.{name}" for family, package in plugins.FAMILIES.items() for name in plugins.known(family)),
]


def test_planning_stages_and_plugins_import_nothing_heavy():
    code = f"""
import importlib, sys
for name in {LIGHT!r}:
    importlib.import_module(name)
    heavy = [module for module in {HEAVY!r} if module in sys.modules]
    assert not heavy, f"importing {{name}} imports {{heavy}}"
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr.strip().splitlines()[-1]


def test_importing_any_module_prints_nothing():
    code = """
import importlib, pkgutil
for package in ("models", "tasks", "flows"):
    module = importlib.import_module(package)
    for info in pkgutil.walk_packages(module.__path__, package + "."):
        if not info.name.endswith("__main__"):
            importlib.import_module(info.name)
"""
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == ""


def test_there_is_no_junk_drawer():
    names = {
        info.name.rpartition(".")[2]
        for package in ("models", "tasks", "flows")
        for info in pkgutil.walk_packages([package], package + ".")
    }
    assert not names & {"utils", "common", "helpers", "util", "misc"}
