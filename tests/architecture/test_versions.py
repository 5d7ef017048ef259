import json
import shutil

import pytest

from models import plugins
from tasks.order import ORDER
from tasks.versions import load_versions
from tasks.workspace import template
from tests.architecture import closures


def test_every_stage_and_plugin_has_a_version():
    versions = load_versions(closures.ROOT / "versions.yaml")
    expected = set(ORDER) | {f"{family}.{name}" for family in plugins.FAMILIES for name in plugins.known(family)}
    assert set(versions) == expected


@pytest.mark.parametrize("entry", sorted(load_versions(closures.ROOT / "versions.yaml")))
def test_code_changes_only_with_a_raised_version_or_a_recorded_same_output(entry):
    recorded, now = json.loads(closures.RECORDED.read_text()).get(entry), closures.current()[entry]
    advice = (
        f"code behind {entry} changed: raise its number in versions.yaml if results change, then run "
        f"`python -m tests.architecture.closures record {entry}`"
    )
    assert recorded == now, advice


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of the code, which is looked at instead of the real one."""
    for package in closures.PACKAGES:
        shutil.copytree(closures.ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(closures, "ROOT", tmp_path)
    return tmp_path


def changed_by(path, old, new):
    """The entries whose digest changes with this edit."""
    before = {entry: closures.digest(entry) for entry in load_versions(template("versions.yaml"))}
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return {entry for entry, digest in before.items() if closures.digest(entry) != digest}


def test_words_and_formatting_change_no_digest_and_a_number_does(checkout):
    module = checkout / "models" / "encoders" / "dct.py"
    plain = "def create("
    assert changed_by(module, plain, '"""Words."""\n\n\n# more words\n' + plain) == set()
    assert changed_by(module, plain, "ANSWER = 42\n" + plain) == {"encoders.dct"}


def test_a_hosted_runtime_stands_behind_its_teacher(checkout):
    runtimes = checkout / "models" / "hosting" / "runtimes"
    for name in ("hunyuan3d", "trellis"):
        assert changed_by(runtimes / f"{name}.py", "def load(", "ANSWER = 42\ndef load(") == {f"teachers.{name}"}


def test_every_runtime_stands_behind_a_teacher():
    behind = {module for name in plugins.known("teachers") for module in closures.closure(f"models.teachers.{name}")}
    assert set(closures.submodules(closures.RUNTIMES)) <= behind


def test_a_shader_stands_behind_everything_that_renders(checkout):
    shader = checkout / "models" / "rendering" / "shaders" / "mesh.frag"
    changed = changed_by(shader, "void main", "float answer = 42.0;\nvoid main")
    assert {"views", "gate", "report"} <= changed
    assert not {"ingest", "features", "students.mesh_deform", "teachers.visual_hull"} & changed


def test_the_style_of_the_page_stands_behind_the_report_alone(checkout):
    style = checkout / "tasks" / "stages" / "report" / "style.css"
    assert changed_by(style, "{", "{ color: red;") == {"report"}


def test_a_new_data_file_counts_wherever_it_lies_in_a_package(checkout):
    folder = checkout / "models" / "rendering" / "tables"
    folder.mkdir()
    before = closures.digest("views")
    (folder / "gamma.txt").write_text("2.2")
    assert closures.digest("views") != before
