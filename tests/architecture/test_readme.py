import re
from pathlib import Path

import pytest
from typer.main import get_command

from flows.cli import app

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`?make ([a-z]+)\b`", TEXT)) | {"demo", "test"}))
def test_make_targets_exist(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`lostwax ([a-z-]+)", TEXT)) | {"run", "plan"}))
def test_lostwax_commands_exist(command):
    assert command in get_command(app).commands


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python (?:-P )?-m ((?:benchmarks|tests)[a-z_.]*)", TEXT))))
def test_modules_that_are_to_be_run_exist(module):
    base = ROOT / Path(*module.split("."))
    assert base.with_suffix(".py").is_file() or (base / "__main__.py").is_file()


def test_linked_pictures_and_pages_exist():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
