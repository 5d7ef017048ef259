"""Versions: those in use must be the package's, and plug-ins of other packages bring their own."""

import subprocess
import sys
from dataclasses import replace

import pytest
import yaml

from models import plugins
from tasks.engine.planning import make_recipe
from tasks.params import Params
from tasks.stages.ingest import Ingest
from tasks.stages.teach import Teach
from tasks.versions import check_versions, entries_in_use
from tasks.workspace import template
from tests.support import PLUGINS, make_context, make_workspace

SCRIPTED = {"teach": {"teacher": "scripted"}, "teachers": {"scripted": {"script": "acts.json"}}}


@pytest.fixture
def scripted(monkeypatch):
    """A teacher that another installed package brings."""
    monkeypatch.syspath_prepend(PLUGINS)
    plugins._declared.cache_clear()
    yield plugins.load("teachers", "scripted")
    plugins._declared.cache_clear()


def set_version(workspace, family, name, number):
    versions = yaml.safe_load(workspace.versions_file.read_text())
    if number is None:
        del versions[family][name]
    else:
        versions[family][name] = number
    workspace.versions_file.write_text(yaml.safe_dump(versions))


@pytest.mark.parametrize("number", [None, 7])
def test_only_the_plug_ins_in_use_must_be_the_packages(tmp_path, number):
    workspace = make_workspace(tmp_path)
    set_version(workspace, "teachers", "trellis", number)
    set_version(workspace, "sources", "generated", number)
    folder = {"ingest": {"sources": [{"source": "folder"}]}}
    check_versions(workspace, Params(folder))
    with pytest.raises(ValueError, match=r"differs .* in teachers\.trellis; bring it up to date with `lostwax init"):
        check_versions(workspace, Params(folder | {"teach": {"teacher": "trellis"}}))
    with pytest.raises(ValueError, match=r"differs .* in sources\.generated;"):
        check_versions(workspace, Params({"ingest": {"sources": [{"source": "generated"}]}}))


def test_every_stage_must_be_the_packages(tmp_path):
    workspace = make_workspace(tmp_path)
    set_version(workspace, "stages", "views", 99)
    with pytest.raises(ValueError, match="differs from the installed lostwax in views;"):
        check_versions(workspace, Params({}))


def test_the_version_of_another_packages_plug_in_is_in_the_key(tmp_path, scripted, monkeypatch):
    workspace = make_workspace(tmp_path)
    assert "teachers.scripted" not in entries_in_use(Params(SCRIPTED))
    check_versions(workspace, Params(SCRIPTED))

    def recipe():
        return make_recipe(Teach(), Params(SCRIPTED), {}, workspace, lambda path: "")

    before = recipe()
    assert before.content["versions"] == {"teach": 1, "teachers.scripted": 1}
    monkeypatch.setattr(scripted, "VERSION", "2.0", raising=False)
    assert recipe().content["versions"]["teachers.scripted"] == "2.0"
    assert recipe().name != before.name
    monkeypatch.setattr(scripted, "VERSION", [2])
    with pytest.raises(ValueError, match="'scripted' in teachers: its VERSION must be a whole number or text"):
        recipe()


def test_the_version_of_its_source_is_in_an_items_key(tmp_path):
    params = {"ingest": {"sources": [{"source": "generated", "count": 2}]}}

    def inputs(**versions):
        numbers = {f"sources.{name}": number for name, number in versions.items()}
        context = replace(make_context(tmp_path, params), versions=numbers)
        return [wanted.inputs for wanted in Ingest().wanted(context)]

    assert inputs(generated=1) != inputs(generated=2)
    assert inputs(folder=1) == inputs(folder=2)


def test_dvc_finds_all_params_of_a_stage_with_another_packages_plug_in(tmp_path, scripted):
    packaged = yaml.safe_load(template("params.yaml").read_text())
    workspace = make_workspace(tmp_path, packaged | SCRIPTED)
    for upstream in Teach.upstreams:
        workspace.artifacts(upstream).mkdir(parents=True)
        workspace.items_file(upstream).touch()
    dvc(workspace, "init", "--quiet", "--no-scm")
    assert "Running stage 'teach'" in dvc(workspace, "repro", "--dry", "--single-item", "teach")


def dvc(workspace, *arguments):
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=workspace.root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
