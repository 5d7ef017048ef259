"""Which code stands behind each entry of versions.yaml, as a digest that formatting and docstrings do not change.

python -m tests.architecture.closures record NAME...     the results of NAME are the same (or its version was raised)
python -m tests.architecture.closures record --all
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import sys
from functools import cache
from pathlib import Path

from models import plugins
from tasks.order import CLASSES
from tasks.versions import load_versions

ROOT = Path(__file__).parent.parent.parent
RECORDED = Path(__file__).parent / "closures.json"
PACKAGES = ("models", "tasks")
INTERFACES = {"models.params", "models.plugins", "models.errors", "tasks.engine.stage", "tasks.order", "tasks.params"}
"""What is shared by everything and computes nothing of an item."""


def entry_module(entry: str) -> str:
    """The module behind an entry: a stage's or a plug-in's."""
    family, _, name = entry.rpartition(".")
    return f"{plugins.FAMILIES[family]}.{name}" if family else CLASSES[entry].partition(":")[0]


def closure(module: str) -> list[str]:
    """Modules of the project that a module imports, directly or not, itself and its submodules included; sorted."""
    seen: set[str] = set()
    open_modules = [module, *submodules(module)]
    while open_modules:
        name = open_modules.pop()
        if name not in seen and name not in INTERFACES and not name.startswith("tasks.collections"):
            seen.add(name)
            open_modules += imports(name)
    return sorted(seen)


def digest(entry: str) -> str:
    """sha256 over the syntax trees of the closure, without docstrings."""
    found = hashlib.sha256()
    for name in closure(entry_module(entry)):
        found.update(f"{name}\n{ast.dump(tree(name))}\n".encode())
    return found.hexdigest()[:16]


@cache
def imports(module: str) -> tuple[str, ...]:
    found: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return tuple(sorted(name for name in found if name.partition(".")[0] in PACKAGES and source(name)))


@cache
def tree(module: str) -> ast.Module:
    path = source(module)
    assert path is not None, module
    parsed = ast.parse(path.read_text())
    for node in ast.walk(parsed):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [inner for inner in body if not _is_docstring(inner)]  # type: ignore[attr-defined]
    return parsed


def source(module: str) -> Path | None:
    """The file of a module of this checkout; None for what is no module."""
    base = ROOT / Path(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def submodules(module: str) -> list[str]:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return []
    folder = Path(next(iter(spec.submodule_search_locations)))
    return [f"{module}.{path.stem}" for path in folder.glob("*.py") if path.stem != "__init__"]


def current() -> dict[str, dict[str, int | str]]:
    versions = load_versions(ROOT / "versions.yaml")
    return {entry: {"version": version, "digest": digest(entry)} for entry, version in sorted(versions.items())}


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def main() -> None:
    command, *names = sys.argv[1:] or ["help"]
    found = current()
    if command != "record" or not (names and (names == ["--all"] or set(names) <= found.keys())):
        sys.exit(f"{__doc__}\nentries: {', '.join(found)}")
    recorded = json.loads(RECORDED.read_text()) if RECORDED.is_file() else {}
    recorded |= {name: found[name] for name in (found if names == ["--all"] else names)}
    RECORDED.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
