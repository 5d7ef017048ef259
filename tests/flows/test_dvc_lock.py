import os
from pathlib import Path

from flows.dvc_lock import DvcLock
from tests.support import make_workspace


def test_a_name_that_is_not_utf8_is_among_a_stages_dependencies(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    lock = DvcLock(workspace)
    before = lock.dependencies("ingest")
    (workspace.root / "inbox" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    assert lock.dependencies("ingest") != before
