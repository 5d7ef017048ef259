from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import pytest

from tasks.collections.files import file_sha256
from tasks.collections.statcache import StatCache
from tasks.commands.doctor import Check, _python_on_path, examine
from tests.support import make_workspace


def find(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def test_a_healthy_machine_and_workspace_pass(tmp_path: Path) -> None:
    checks = examine(make_workspace(tmp_path).root, verify=True)
    assert [check.name for check in checks if not check.ok] == ["DVC repository"]
    assert find(checks, "DVC repository").remedy == f"lostwax init {tmp_path.resolve()}"


def test_without_pytorch3d_it_names_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch3d.ops", None)
    check = find(examine(make_workspace(tmp_path).root, verify=False), "pytorch3d")
    assert not check.ok
    assert "easypytorch3d==0.7.9.post1" in check.remedy


def test_without_gl_it_names_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    hide = "import ctypes.util\nctypes.util.find_library = lambda name: None\n"
    (bare / "sitecustomize.py").write_text(hide)
    monkeypatch.setenv("PYTHONPATH", str(bare))
    check = find(examine(make_workspace(tmp_path / "workspace").root, verify=False), "headless GL")
    assert not check.ok
    assert check.remedy.startswith("apt-get install")
    assert "libosmesa6" in check.remedy


def test_outside_a_workspace_it_says_how_to_make_one(tmp_path: Path) -> None:
    check = find(examine(tmp_path, verify=False), "workspace")
    assert not check.ok
    assert f"lostwax init {tmp_path.resolve()}" in check.remedy


def test_a_mistake_in_params_is_named(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, {"views": {"sise_px": 3}})
    check = find(examine(workspace.root, verify=False), "params.yaml")
    assert not check.ok
    assert "unknown key views.sise_px" in check.remedy


def test_blocks_that_dvc_misses_are_named(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    kept = [line for line in workspace.params_file.read_text().splitlines() if not line.startswith("gate:")]
    workspace.params_file.write_text("\n".join(kept))
    check = find(examine(workspace.root, verify=False), "blocks for DVC")
    assert (check.ok, check.remedy) == (False, "add to params.yaml: gate: {}")


def test_blocks_of_chosen_plug_ins_that_dvc_misses_are_named(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    lines = workspace.params_file.read_text().splitlines()
    kept = [line for line in lines if not line.startswith(("teachers:", "  classical:"))]
    workspace.params_file.write_text("\n".join(kept))
    check = find(examine(workspace.root, verify=False), "blocks for DVC")
    assert (check.ok, check.remedy) == (False, "add to params.yaml: teachers: {classical: {}}")


def test_another_python_on_path_is_no_fault_and_repro_is_advised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace(tmp_path / "w")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert _python_on_path() == Check("python of dvc.yaml", True, str(Path(sys.executable).with_name("python")))
    other = tmp_path / "bin" / "python"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\nexit 1\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(other.parent))
    check = find(examine(workspace.root, verify=False), "python of dvc.yaml")
    assert (check.ok, check.found) == (True, f"{other}, another one: use `lostwax repro` instead of `dvc repro`")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _python_on_path().found == "none on PATH: use `lostwax repro` instead of `dvc repro`"


def test_a_damaged_shard_is_found_by_verify(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    shards = workspace.shards_dir("views")
    shards.mkdir(parents=True)
    (shards / "0123456789abcdef.tar").write_bytes(b"not what the name says")
    check = find(examine(workspace.root, verify=True), "shards of views")
    assert not check.ok
    assert check.found == "1 read, 1 damaged"


def test_damage_that_left_no_trace_in_a_files_times_is_seen_by_the_next_run(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    shard = workspace.shards_dir("views") / "0123456789abcdef.tar"
    shard.parent.mkdir(parents=True)
    shard.write_bytes(b"not what the name says")
    found = shard.stat()
    signature = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    with closing(StatCache(workspace.stat_cache_file)) as stats:
        stats._learn(str(shard), (*signature, "0123456789abcdef"))
        assert stats.digest(shard) == "0123456789abcdef"
    examine(workspace.root, verify=True)
    with closing(StatCache(workspace.stat_cache_file)) as stats:
        assert stats.digest(shard) == file_sha256(shard)
