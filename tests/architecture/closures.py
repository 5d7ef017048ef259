"""Which code stands behind each entry of versions.yaml, as a digest that formatting and docstrings do not change.

Code is what a module imports, the runtimes that a hosted teacher names, and the files beside it that are no Python
(shaders, style sheets).

python -m tests.architecture.closures record NAME...     the results of NAME are the same (or its version was raised)
python -m tests.architecture.closures record --all
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Iterable
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
RUNTIMES = "models.hosting.runtimes"
"""Modules that a host process loads by name: a teacher's module says `runtime="NAME"`."""


KINDS = "models.casts"
"""A stage that asks for a kind of cast finds it by name; a plug-in names its own kind."""


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
            open_modules += submodules(name) if name == KINDS and module.startswith("tasks.") else []
    return sorted(seen)


def digest(entry: str) -> str:
    """sha256 over the syntax trees of the closure, without docstrings, and over the data files beside it."""
    found = hashlib.sha256()
    modules = closure(entry_module(entry))
    for name in modules:
        found.update(f"{name}\n{_tree(_text(name))}\n".encode())
    for path in data_files(modules):
        found.update(f"{path.relative_to(ROOT)}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()[:16]


def imports(module: str) -> tuple[str, ...]:
    """The project's modules that a module names."""
    return tuple(name for name in _names(_text(module)) if name.partition(".")[0] in PACKAGES and source(name))


@cache
def _names(text: str) -> tuple[str, ...]:
    """What a module's text imports, and the runtimes that it names; sorted."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.keyword) and node.arg == "runtime" and isinstance(node.value, ast.Constant):
            found.add(f"{RUNTIMES}.{node.value.value}")
    return tuple(sorted(found))


@cache
def _tree(text: str) -> str:
    """The syntax tree of a module's text, without docstrings."""
    parsed = ast.parse(text)
    for node in ast.walk(parsed):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [inner for inner in body if not _is_docstring(inner)]  # type: ignore[attr-defined]
    return ast.dump(parsed)


def _text(module: str) -> str:
    path = source(module)
    assert path is not None, module
    return path.read_text()


def source(module: str) -> Path | None:
    """The file of a module of this checkout; None for what is no module."""
    base = ROOT / Path(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def submodules(module: str) -> list[str]:
    """The modules of a package; none for a plain module."""
    path = source(module)
    if path is None or path.name != "__init__.py":
        return []
    return [f"{module}.{inner.stem}" for inner in path.parent.glob("*.py") if inner != path]


def data_files(modules: Iterable[str]) -> list[Path]:
    """Files that are no Python in the modules' folders, and in the folders below that are no packages; sorted."""
    folders = {path.parent for module in modules if (path := source(module))}
    found: set[Path] = set()
    while folders:
        folder = folders.pop()
        for path in folder.iterdir():
            if path.is_dir() and not path.name.startswith(("__", ".")) and not (path / "__init__.py").is_file():
                folders.add(path)
            elif path.is_file() and not path.name.startswith(".") and path.suffix != ".py":
                found.add(path)
    return sorted(found)


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
