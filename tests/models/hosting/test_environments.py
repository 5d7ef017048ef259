import json
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from models.errors import Unavailable
from models.hosting import environments
from models.hosting.environments import ENVIRONMENTS, Checkout, EnvironmentSpec, SetupFailed, describe, setup, steps

SMALL = EnvironmentSpec(
    title="nothing",
    licence="none",
    disk_gb=0.01,
    weights="none",
    python=((3, 8), (4, 0)),
    requirements=(),
    check=("json",),
)


@pytest.fixture
def small(monkeypatch):
    """A set-up that needs no network: packages are `installed` by a command that succeeds."""
    monkeypatch.setitem(ENVIRONMENTS, "small", SMALL)
    succeeds = shutil.which("true")
    monkeypatch.setattr(environments.shutil, "which", lambda name: succeeds)
    return SMALL


@pytest.mark.parametrize("name", ["hunyuan3d", "trellis"])
def test_licence_sizes_and_pins_are_shown_first(name):
    text, spec = describe(name), ENVIRONMENTS[name]
    assert spec.licence in text
    assert f"about {spec.disk_gb:g} GB" in text
    assert spec.weights in text
    assert all(requirement in text for requirement in (*spec.requirements, *spec.bare))
    assert "European Union" in describe("hunyuan3d")
    assert "TRELLIS.git at 6b0d64751ad5, with submodules" in describe("trellis")


def test_an_unknown_teacher_is_answered_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="no setup for a teacher 'visual_hull'; there are: hunyuan3d, trellis"):
        describe("visual_hull")


def test_nothing_is_made_without_acceptance(tmp_path):
    with pytest.raises(Unavailable, match="hunyuan3d comes under a licence that you must accept first: Tencent"):
        setup("hunyuan3d", tmp_path / "environments", accept_licence=False, say=print)
    assert not (tmp_path / "environments").exists()


def test_hy3dgen_is_installed_without_its_own_list_after_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setattr(environments.shutil, "which", lambda name: None)
    commands = [step.command for step in steps("hunyuan3d", tmp_path, "/usr/bin/python3")]
    interpreter = str(tmp_path / "hunyuan3d" / "bin" / "python")
    assert commands[0] == ["/usr/bin/python3", "-m", "venv", str(tmp_path / "hunyuan3d")]
    assert commands[1][:5] == [interpreter, "-m", "pip", "install", "torch==2.12.1"]
    assert commands[2] == [interpreter, "-m", "pip", "install", "--no-deps", "hy3dgen==2.0.2"]
    assert commands[3] == [interpreter, "-P", "-c", "import hy3dgen.shapegen"]


def test_trellis_is_cloned_at_its_revision_and_sets_itself_up_with_the_environments_python(tmp_path):
    made = steps("trellis", tmp_path)
    root = tmp_path / "trellis" / "TRELLIS"
    git = [step.command for step in made if step.command[0] == "git"]
    assert git == [
        ["git", "clone", "--no-checkout", "https://github.com/microsoft/TRELLIS.git", str(root)],
        ["git", "-C", str(root), "checkout", "--detach", "6b0d64751ad54d9c32d7b05fec482eb29178f56f"],
        ["git", "-C", str(root), "submodule", "update", "--init", "--recursive"],
    ]
    own = next(step for step in made if step.command[0] == "bash")
    assert own.folder == root
    assert own.environment["PATH"].startswith(f"{tmp_path / 'trellis' / 'bin'}:")
    assert "import spconv.pytorch" in made[-1].command[-1]


def test_an_environment_is_made_once_and_marked_when_it_is_whole(tmp_path, small):
    said: list[str] = []
    python = setup("small", tmp_path, accept_licence=True, say=said.append)
    assert python == tmp_path / "small" / "bin" / "python"
    assert python.is_file()
    assert json.loads((tmp_path / "small" / "ready.json").read_text()) == {"packages": [], "revision": None}
    assert said[0] == "[1/3] an environment of its own"
    assert said[-1].startswith("[3/3] done in ")
    said.clear()
    setup("small", tmp_path, accept_licence=True, say=said.append)
    assert said == [f"{tmp_path / 'small'} is set up already; remove it to do it again"]


def test_a_setup_that_was_cut_short_starts_anew(tmp_path, small):
    (tmp_path / "small" / "bin").mkdir(parents=True)
    (tmp_path / "small" / "half").touch()
    said: list[str] = []
    setup("small", tmp_path, accept_licence=True, say=said.append)
    assert said[0].endswith("an earlier setup was cut short, or made it of other parts")
    assert not (tmp_path / "small" / "half").exists()
    assert (tmp_path / "small" / "ready.json").is_file()


def test_a_step_that_fails_is_named_with_what_it_said(tmp_path, small, monkeypatch):
    nowhere = Checkout((tmp_path / "nowhere").as_uri(), "0" * 40, "code")
    monkeypatch.setitem(ENVIRONMENTS, "small", replace(SMALL, checkout=nowhere))
    with pytest.raises(SetupFailed, match=r"setup of small stopped: its code ended with exit code 128(.|\n)*nowhere"):
        setup("small", tmp_path / "environments", accept_licence=True, say=lambda line: None)
    assert not (tmp_path / "environments" / "small" / "ready.json").exists()


def test_without_a_network_it_says_so(tmp_path, small, monkeypatch):
    unresolvable = Checkout("https://host.invalid/code.git", "0" * 40, "code")
    monkeypatch.setitem(ENVIRONMENTS, "small", replace(SMALL, checkout=unresolvable))
    for variable in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    with pytest.raises(SetupFailed, match="this machine has no network"):
        setup("small", tmp_path, accept_licence=True, say=lambda line: None)


def test_too_little_room_and_another_python_are_told_before_anything_is_made(tmp_path, small, monkeypatch):
    monkeypatch.setitem(ENVIRONMENTS, "small", replace(SMALL, python=((2, 6), (2, 8))))
    with pytest.raises(Unavailable, match=r"small needs Python 2\.6 or later, before 2\.8; .* is 3\.\d+: run lostwax"):
        setup("small", tmp_path / "a", accept_licence=True, say=print, python=sys.executable)
    monkeypatch.setitem(ENVIRONMENTS, "small", replace(SMALL, disk_gb=20))
    monkeypatch.setattr(environments.shutil, "disk_usage", lambda path: SimpleNamespace(free=3e9))
    with pytest.raises(Unavailable, match=r"small needs about 20 GB; .* has 3\.0 GB left"):
        setup("small", tmp_path / "a", accept_licence=True, say=print)
    assert not (tmp_path / "a" / "small").exists()


def test_a_python_that_does_not_run_is_named(tmp_path, small):
    with pytest.raises(Unavailable, match=r"/none/python is no Python that runs"):
        setup("small", tmp_path, accept_licence=True, say=print, python="/none/python")
