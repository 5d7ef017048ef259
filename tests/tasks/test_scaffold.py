from pathlib import Path

import pytest
import yaml

from tasks import scaffold
from tasks.params import load_params
from tasks.scaffold import MARK, Generated, create, whose
from tasks.versions import check_versions
from tasks.workspace import Workspace, template
from tests.support import ROOT


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def release(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, old: str, new: str) -> None:
    """Another version of the package, whose file `name` says `new` instead of `old`."""
    folder.mkdir(exist_ok=True)
    text = template(name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
    packaged = scaffold.template
    monkeypatch.setattr(scaffold, "template", lambda asked: folder / name if asked == name else packaged(asked))


def test_a_new_workspace_is_whole_and_valid(tmp_path: Path) -> None:
    created = create(tmp_path / "w")
    assert created.written == ["params.yaml", "versions.yaml", "dvc.yaml", "inbox/", ".gitignore"]
    assert created.notices == []
    workspace = Workspace(tmp_path / "w")
    params = load_params(workspace.params_file)
    assert [source.source for source in params.stage("ingest").sources] == ["folder"]
    check_versions(workspace, params)
    packaged = yaml.safe_load(template("dvc.yaml").read_text())
    assert yaml.safe_load((workspace.root / "dvc.yaml").read_text()) == packaged
    before = contents(workspace.root)
    again = create(workspace.root)
    assert (again.written, again.notices, contents(workspace.root)) == ([], [], before)


@pytest.mark.parametrize(("kind", "shape"), [("shoes", "shoe"), ("eyeglasses", "eyeglasses"), ("mixed", "mixed")])
def test_generated_objects_are_written_into_new_params(tmp_path: Path, kind: str, shape: str) -> None:
    create(tmp_path / "w", Generated(kind), 7)
    (source,) = load_params(tmp_path / "w" / "params.yaml").stage("ingest").sources
    assert source.model_dump() == {"source": "generated", "shape": shape, "count": 7, "seed": 0}


@pytest.mark.parametrize(("kind", "size_px"), [("shoes", 128), ("eyeglasses", 256), ("mixed", 256)])
def test_eyeglasses_are_seen_on_more_pixels_for_their_thin_temples(tmp_path: Path, kind: str, size_px: int) -> None:
    create(tmp_path / "w", Generated(kind), 7)
    params = load_params(tmp_path / "w" / "params.yaml")
    assert (params.stage("views").size_px, params.stage("matte").size_px) == (size_px, size_px)


def test_generated_objects_do_not_change_params_that_are_there(tmp_path: Path) -> None:
    create(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"put `- \{source: generated, shape: shoe, count: 128\}` under"):
        create(tmp_path, Generated.SHOES)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["dvc.yaml", "versions.yaml"])
def test_another_projects_file_stays_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("stages:\n  prepare: {cmd: python prepare.py}\n")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=rf"{name} is not what `lostwax init` writes: .* in a folder of its own"):
        create(tmp_path)
    assert contents(tmp_path) == before
    assert not (tmp_path / "inbox").exists()


def test_another_projects_params_stay_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("prepare: {split: 0.2}\n")
    with pytest.raises(ValueError, match=r"prepare(.|\n)*If it is another project's, make the workspace"):
        create(tmp_path)
    assert list(contents(tmp_path)) == ["params.yaml"]


def test_params_written_before_the_workspace_are_kept(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("ingest: {up_axis: z}\n")
    assert "params.yaml" not in create(tmp_path).written
    assert (tmp_path / "params.yaml").read_text() == "ingest: {up_axis: z}\n"


def test_blocks_that_dvc_asks_for_and_older_params_lack_are_named(tmp_path: Path) -> None:
    create(tmp_path)
    params = tmp_path / "params.yaml"
    params.write_text(params.read_text().replace("fields: {}", "# fields: {}"))
    (notice,) = create(tmp_path).notices
    assert notice == f"{params} lacks what `dvc repro` asks for; `lostwax run` does not. Add `fields: {{}}`"


def test_a_file_in_the_folders_place_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "w").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        create(tmp_path / "w")


def test_an_unedited_file_follows_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(tmp_path / "w")
    release(monkeypatch, tmp_path / "next", "versions.yaml", "stages:\n", "stages:\n  new_stage: 1\n")
    created = create(tmp_path / "w")
    assert (created.written, created.notices) == (["versions.yaml"], [])
    assert "new_stage: 1" in (tmp_path / "w" / "versions.yaml").read_text()
    assert create(tmp_path / "w").written == []


def test_windows_line_ends_are_no_edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(tmp_path / "w")
    path = tmp_path / "w" / "dvc.yaml"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert create(tmp_path / "w").written == []
    release(monkeypatch, tmp_path / "next", "dvc.yaml", "stages:\n", "stages: # new\n")
    assert create(tmp_path / "w").written == ["dvc.yaml"]


def older(folder: Path, old: str, new: str) -> Path:
    """A workspace's dvc.yaml as an older lostwax wrote it, in which `old` was `new`."""
    create(folder)
    text = template("dvc.yaml").read_text()
    assert old in text
    body = text.replace(old, new)
    path = folder / "dvc.yaml"
    path.write_text(MARK.format(scaffold._digest(body.encode())) + body)
    return path


OWN_STAGE = "  mine:\n    cmd: python mine.py\n"


def test_stages_and_deps_of_the_users_own_outlive_an_update(tmp_path: Path) -> None:
    path = older(tmp_path, "python -P -m tasks views", "python -m tasks views")
    own_dep = "      - ${ingest.inbox}\n      - scans.dvc\n"
    path.write_text(path.read_text().replace("      - ${ingest.inbox}\n", own_dep) + OWN_STAGE)
    created = create(tmp_path)
    assert (created.written, created.notices) == (["dvc.yaml"], [])
    stages = yaml.safe_load(path.read_text())["stages"]
    assert stages["mine"] == {"cmd": "python mine.py"}
    assert stages["ingest"]["deps"] == ["${ingest.inbox}", "scans.dvc"]
    assert stages["views"]["cmd"] == "python -P -m tasks views"
    again = create(tmp_path)
    assert (again.written, again.notices) == ([], [])


@pytest.mark.parametrize("edit", ["tasks matte --strict", "tasks matte  # twice a week"])
def test_an_edited_file_stays_and_what_differs_from_a_newer_one_is_told(tmp_path: Path, edit: str) -> None:
    path = older(tmp_path, "python -P -m tasks views", "python -m tasks views")
    edited = path.read_text().replace("tasks matte", edit) + OWN_STAGE
    path.write_text(edited)
    created = create(tmp_path)
    assert created.written == []
    (notice,) = created.notices
    assert notice.startswith(f"{path} has edits and stays as it is")
    assert "stages.mine, stages.views): move it away" in notice
    assert path.read_text() == edited


def test_edits_of_the_present_version_are_left_without_a_word(tmp_path: Path) -> None:
    create(tmp_path)
    for name in scaffold.OURS:
        (tmp_path / name).write_text((tmp_path / name).read_text() + "# mine\n")
    created = create(tmp_path)
    assert (created.written, created.notices) == ([], [])


def test_an_edited_file_that_is_no_yaml_any_more_is_told(tmp_path: Path) -> None:
    path = older(tmp_path, "python -P -m tasks views", "python -m tasks views")
    path.write_text(path.read_text() + "\t- {")
    (notice,) = create(tmp_path).notices
    assert "(it is no valid YAML)" in notice


def test_what_was_written_before_there_was_a_mark_follows_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(tmp_path / "w")
    old = b"stages: {ingest: 1}\n"
    monkeypatch.setitem(scaffold.BEFORE_MARKS, "versions.yaml", (scaffold._digest(old)[:16],))
    (tmp_path / "w" / "versions.yaml").write_bytes(old)
    assert create(tmp_path / "w").written == ["versions.yaml"]
    workspace = Workspace(tmp_path / "w")
    check_versions(workspace, load_params(workspace.params_file))


def test_the_checkouts_own_files_are_ours_and_carry_no_mark() -> None:
    for name in scaffold.OURS:
        written = (ROOT / name).read_bytes()
        assert whose(name, written) == "ours"
        assert not written.startswith(MARK[:20].encode())


def test_a_gitignore_keeps_what_it_says(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_bytes(b"caf\xe9\n/inbox/")
    create(tmp_path)
    assert (tmp_path / ".gitignore").read_bytes() == b"caf\xe9\n/inbox/\n/.lostwax/\n/artifacts/*/.holder.json\n"
