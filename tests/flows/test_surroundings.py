"""The command in awkward surroundings: each fault ends in one line that says what to do, and the right exit code."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tasks.engine.outcome import FAILED, OK, WRONG_USAGE
from tasks.workspace import Workspace
from tests.support import ROOT, make_workspace, run_task

STRANGER_ID = 12345
AS_STRANGER = [
    *("setpriv", f"--reuid={STRANGER_ID}", f"--regid={STRANGER_ID}", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),  # the interpreter may lie in a closed home
    *("env", "-u", "USER", "-u", "LOGNAME", "HOME=/"),
]
"""A user id without a name, a home or the right to write anything here, as containers have them."""
can_become_a_stranger = pytest.mark.skipif(
    subprocess.run([*AS_STRANGER, "true"], capture_output=True).returncode != 0 if shutil.which("setpriv") else True,
    reason="changing the user id needs root and setpriv",
)


def command(*arguments: str | Path, module: str = "lostwax") -> list[str]:
    return [sys.executable, "-P", "-m", module, *map(str, arguments)]


def run(
    words: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None, **options: object
) -> subprocess.CompletedProcess[str]:
    """A command in a folder. environment: what is set beside that of the tests."""
    given = os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {})
    done = subprocess.run(words, cwd=folder, env=given, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload]
    assert "Traceback" not in done.stderr
    return done  # type: ignore[no-any-return]


def refusal(words: Sequence[str], folder: Path, code: int, environment: Mapping[str, str] | None = None) -> str:
    """The one line that a command ends with."""
    done = run(words, folder, environment)
    assert done.returncode == code, done.stderr
    (line,) = done.stderr.splitlines()
    return line


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with one ingested photo. Tests leave it as they found it."""
    params = {"ingest": {"inbox": "inbox", "sources": [{"source": "folder"}]}}
    workspace = make_workspace(tmp_path_factory.mktemp("surroundings") / "w", params)
    encoded = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(encoded, "PNG")
    (workspace.root / "inbox" / "cup.png").write_bytes(encoded.getvalue())
    assert run_task("ingest", workspace).exit_code == OK
    return workspace


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Somebody's project whose packages have the names of ours."""
    for name in ("models", "tasks", "flows"):
        (tmp_path / "project" / name).mkdir(parents=True)
        (tmp_path / "project" / name / "__init__.py").write_text(f"print('the {name} of a project')\n")
    return tmp_path / "project"


def test_packages_of_the_same_names_on_pythonpath_stay_unseen(ingested: Workspace, project: Path) -> None:
    done = run(command("status", "--json"), ingested.root, {"PYTHONPATH": f"{project}{os.pathsep}{ROOT}"})
    assert done.returncode == OK, done.stderr
    assert json.loads(done.stdout)["stages"][0]["items"]["done"] == 1


def test_packages_of_the_same_names_in_the_current_folder_stay_unseen(ingested: Workspace, project: Path) -> None:
    words = [sys.executable, "-m", "lostwax", "status", "--json", "-w", str(ingested.root)]  # without -P
    assert json.loads(run(words, project).stdout)["stages"][0]["items"]["done"] == 1


def test_a_stage_and_its_workers_find_our_models_too(tmp_path: Path, project: Path, ingested: Workspace) -> None:
    shutil.rmtree(project / "tasks")  # `python -P -m tasks` itself has to be ours
    workspace = Workspace(shutil.copytree(ingested.root, tmp_path / "w"))
    shutil.copy(workspace.root / "inbox" / "cup.png", workspace.root / "inbox" / "mug.png")
    with (workspace.root / "inbox" / "mug.png").open("ab") as photo:
        photo.write(b"\0")
    path = f"{project}{os.pathsep}{ROOT}"
    done = run(command("ingest", module="tasks"), workspace.root, {"PYTHONPATH": path})
    assert (done.returncode, "2 done" in done.stderr) == (OK, True), done.stderr
    assert "of a project" not in done.stdout


@can_become_a_stranger
def test_a_user_without_a_name_and_a_home_makes_a_workspace_that_dvc_takes(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, STRANGER_ID, STRANGER_ID)
    done = run([*AS_STRANGER, *command("init", folder / "w")], folder)
    assert done.returncode == OK, done.stderr
    assert ".dvc/" in done.stderr
    status = run([*AS_STRANGER, *command("repro", "--dry", "ingest")], folder / "w")
    assert status.returncode == OK, status.stderr
    assert "python -P -m tasks ingest" in status.stdout


@can_become_a_stranger
@pytest.mark.parametrize("words", [["status"], ["plan"], ["explain", "cup"], ["params", "views"]])
def test_reading_commands_need_no_right_to_write(ingested: Workspace, words: list[str]) -> None:
    """Under another's user id they print what they print to the owner."""
    as_owner = run(command(*words, "--json"), ingested.root)
    assert as_owner.returncode == OK, as_owner.stderr
    as_stranger = run([*AS_STRANGER, *command(*words, "--json")], ingested.root)
    assert (as_stranger.returncode, as_stranger.stdout) == (OK, as_owner.stdout), as_stranger.stderr


@can_become_a_stranger
def test_a_workspace_that_was_only_checked_out_is_read_as_well(ingested: Workspace, tmp_path: Path) -> None:
    copy = shutil.copytree(ingested.root, tmp_path / "w", ignore=shutil.ignore_patterns(".lostwax"))
    done = run([*AS_STRANGER, *command("plan", "--until", "ingest", "--json")], copy)
    assert done.returncode == OK, done.stderr
    assert json.loads(done.stdout)["stages"][0]["fresh"] == 1
    assert not (copy / ".lostwax").exists()


@can_become_a_stranger
@pytest.mark.parametrize("words", [["gc"], ["retry", "ingest"], ["run", "--until", "ingest"], ["down"]])
def test_what_must_write_names_the_file_and_the_user(ingested: Workspace, words: list[str]) -> None:
    line = refusal([*AS_STRANGER, *command(*words)], ingested.root, FAILED)
    assert line.startswith(f"cannot read or write {ingested.root}/.lostwax/")
    assert f"(user id {STRANGER_ID})" in line


def test_a_key_that_is_there_twice_is_refused_by_both_drivers(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "w")
    workspace.params_file.write_text("views: {size_px: 64}\nviews: {size_px: 48}\n")
    expected = f"{workspace.params_file}, line 2: views was set in line 1 already; keep one of them"
    assert refusal(command("run", "--until", "views"), workspace.root, WRONG_USAGE) == expected
    assert refusal(command("views", module="tasks"), workspace.root, WRONG_USAGE) == expected


@pytest.mark.parametrize(
    ("address", "code", "words"),
    [
        ("http://127.0.0.1:9/api", FAILED, "no Prefect server answers at http://127.0.0.1:9/api"),
        ("localhost:4200", WRONG_USAGE, "'localhost:4200' is not the address of a Prefect server; write it as http://"),
    ],
)
def test_a_run_without_its_server_says_so(ingested: Workspace, address: str, code: int, words: str) -> None:
    line = refusal(command("run", "--until", "ingest"), ingested.root, code, {"PREFECT_API_URL": address})
    assert words in line


@pytest.mark.parametrize(
    ("words", "out"),
    [
        (["generate", "inbox/cup.png"], "folder.glb"),
        (["teacher", "try", "visual_hull", "inbox/cup.png"], "folder.glb"),
        (["export-encoder", "dinov2", "checkpoint"], "folder.glb"),
        (["show", "cup"], "file"),
    ],
)
def test_an_output_of_the_wrong_kind_is_wrong_usage(
    ingested: Workspace, tmp_path: Path, words: list[str], out: str
) -> None:
    (tmp_path / "folder.glb").mkdir()
    (tmp_path / "file").touch()
    line = refusal(command(*words, "-o", tmp_path / out), ingested.root, WRONG_USAGE)
    assert str(tmp_path / out) in line
    assert line.endswith("--help` says more")


def test_show_writes_into_new_folders_only(ingested: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(command("show", "cup", "-o", out), ingested.root).returncode == OK
    before = sorted(out.rglob("*"))
    line = refusal(command("show", "cup", "-o", out), ingested.root, WRONG_USAGE)
    assert line == f"{out} is not empty, and files of several items would mix there; name a new folder"
    assert sorted(out.rglob("*")) == before


def test_an_ascii_terminal_shows_everything(ingested: Workspace) -> None:
    done = run(command("plan"), ingested.root, {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == OK, done.stderr
    assert "<= 1" in done.stdout
    assert done.stdout.isascii()


def test_letters_that_a_terminal_lacks_are_written_as_escapes(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "w", {"report": {"title": "Schüssel"}})
    done = run(command("params", "report.title"), workspace.root, {"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, "Sch\\" in done.stdout) == (OK, True), done.stderr


@pytest.mark.parametrize("words", [["params", "--json"], ["params"], ["status"]])
def test_a_reader_that_goes_away_ends_the_command_quietly(ingested: Workspace, words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command(*words, "-w", ingested.root), cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (FAILED, "")


def test_a_full_disk_behind_standard_output_is_told(ingested: Workspace) -> None:
    with Path("/dev/full").open("w") as full:
        words = [*command("status", "--json"), "-w", str(ingested.root)]
        done = subprocess.run(words, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == FAILED
    assert done.stderr.startswith("the disk is full at standard output")


def test_standard_output_that_was_closed_before_the_start_is_no_fault(ingested: Workspace) -> None:
    words = ["sh", "-c", 'exec "$0" "$@" >&-', *command("status", "-w", ingested.root)]
    assert run(words, ROOT).returncode == OK


def test_repro_runs_our_python_whatever_path_says(
    ingested: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # where `python` is another one, or none
    workspace = Workspace(shutil.copytree(ingested.root, tmp_path / "w"))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["ingest"] = {"inbox": "inbox", "sources": [{"source": "folder"}]}
    workspace.params_file.write_text(yaml.safe_dump(params))
    assert run(command("init", workspace.root), workspace.root).returncode == OK
    done = run(command("repro", "ingest", "-w", workspace.root), tmp_path)
    assert done.returncode == OK, done.stderr
    assert "ingest    1 done" in done.stderr
    assert (workspace.root / "dvc.lock").is_file()
    workspace.params_file.write_text(yaml.safe_dump(params | {"views": {"size_px": 1}}))
    failed = run(command("repro", "views"), workspace.root)
    assert failed.returncode == WRONG_USAGE
    assert "views.size_px: should be greater than or equal to 32 (got 1)" in failed.stderr
    assert run(command("repro", "--strange"), workspace.root).returncode == WRONG_USAGE


def test_an_unknown_command_is_answered_with_the_nearest(tmp_path: Path) -> None:
    assert refusal(command("pln"), tmp_path, WRONG_USAGE).startswith("No such command 'pln'. Did you mean 'plan'")
