"""Spools, shards and indexes: nothing finished is lost, nothing whole is touched."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path

import pytest

from tasks.collections import spool as spools
from tasks.collections.files import file_sha256
from tasks.collections.index import DamagedShard, Finished, ItemReader
from tasks.collections.records import from_line
from tasks.collections.spool import Spool, recover, rewrite
from tasks.collections.tarball import encode_item
from tests.support import ROOT, TOY_KEY, make_record

NAMES = ("a", "b", "c")


@pytest.fixture
def local(tmp_path):
    return tmp_path / "local"


@pytest.fixture
def shards(tmp_path):
    return tmp_path / "shards"


def content(item_id: str) -> dict[str, bytes]:
    return {"out.bin": item_id.encode() * 700}


def append(spool: Spool, *item_ids: str, key: str = TOY_KEY) -> None:
    for item_id in item_ids:
        spool.append(*encode_item(make_record(content(item_id), item_id=item_id, key=key), content(item_id)))


def abandoned(local: Path, name: str, *item_ids: str, torn: int = 0) -> Path:
    """A spool as a dead worker leaves it; `torn` bytes of the last item are missing."""
    local.mkdir(exist_ok=True)
    items = [encode_item(make_record(content(i), item_id=i), content(i))[0] for i in item_ids]
    data = b"".join(items)
    path = local / f"spool-{name}.tar"
    path.write_bytes(data[: len(data) - torn])
    return path


def held(local: Path, shards: Path, **options) -> Finished:
    found = Finished(local, shards, file_sha256, **options)
    found.refresh()
    return found


def shard_files(shards: Path) -> list[Path]:
    return sorted(shards.glob("*.tar"))


def assert_readable(local: Path, shards: Path, *item_ids: str) -> None:
    found, reader = held(local, shards), ItemReader(shards)
    assert found.ids() == set(item_ids)
    for item_id in item_ids:
        location, line = found.location(item_id, TOY_KEY), found.line(item_id, TOY_KEY)
        assert reader.read(location, from_line(line), "out.bin") == content(item_id)["out.bin"]
    reader.close()


def test_a_sealed_spool_is_a_readable_tar_named_by_its_content(local, shards):
    spool = Spool(local, shards)
    append(spool, *NAMES)
    spool.seal()
    (shard,) = shard_files(shards)
    assert shard.stem == file_sha256(shard)[:16]
    assert shard.stat().st_mode & 0o777 == 0o444
    with tarfile.open(shard) as tar:
        assert len(tar.getnames()) == 2 * len(NAMES)
    assert not list(local.glob("spool-*"))
    assert_readable(local, shards, *NAMES)


def test_equal_items_make_equal_shards(tmp_path):
    names = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        spool = Spool(folder / "local", folder / "shards")
        append(spool, *NAMES)
        spool.seal()
        names.append(shard_files(folder / "shards")[0].name)
    assert names[0] == names[1]


def test_an_empty_spool_leaves_no_file(local, shards):
    Spool(local, shards).seal()
    assert not local.exists()
    assert recover(local, shards) == []


def test_a_full_spool_seals_itself(local, shards, monkeypatch):
    monkeypatch.setattr(spools, "SEAL_AT_BYTES", 4000)
    spool = Spool(local, shards)
    for item_id in ("a", "b", "c", "d"):
        append(spool, item_id)
        spool.seal_if_full()
    spool.seal()
    assert len(shard_files(shards)) == 2
    assert_readable(local, shards, "a", "b", "c", "d")


def test_every_25_items_are_synced_and_the_rest_within_a_second(local, shards, monkeypatch):
    synced, now = [], [0.0]
    monkeypatch.setattr(os, "fdatasync", lambda _: synced.append(now[0]))
    monkeypatch.setattr(spools.time, "monotonic", lambda: now[0])
    spool = Spool(local, shards)
    append(spool, *(f"i{index}" for index in range(60)))
    assert len(synced) == 2
    spool.sync_if_due()
    assert len(synced) == 2
    now[0] = 0.9
    spool.sync_if_due()
    assert synced[2:] == [0.9]
    spool.sync_if_due()
    spool.sync()
    assert len(synced) == 3


def test_a_full_disk_cuts_the_item_off_and_the_spool_goes_on(local, shards, monkeypatch):
    spool = Spool(local, shards)
    append(spool, "a")
    real_write = os.write
    monkeypatch.setattr(os, "write", _failing_after(real_write, 700))
    with pytest.raises(OSError, match="No space"):
        append(spool, "b")
    monkeypatch.setattr(os, "write", real_write)
    append(spool, "c")
    spool.seal()
    assert_readable(local, shards, "a", "c")


def _failing_after(real_write, num_bytes):
    def write(descriptor, data):
        if num_bytes < len(data):
            real_write(descriptor, bytes(data[:num_bytes]))
            raise OSError(28, "No space left on device")
        return real_write(descriptor, data)

    return write


def test_several_spools_are_recovered_into_one_shard_without_their_torn_tails(local, shards):
    abandoned(local, "1", "a", "b", torn=10)
    abandoned(local, "2", "c", "d")
    abandoned(local, "3", "e", torn=100)
    assert {item for item, _ in recover(local, shards)} == {"a", "c", "d"}
    assert len(shard_files(shards)) == 1
    assert not list(local.glob("spool-*"))
    assert_readable(local, shards, "a", "c", "d")


def test_a_spool_torn_at_any_byte_is_recovered_to_its_whole_items(tmp_path):
    whole = [len(encode_item(make_record(content(i), item_id=i), content(i))[0]) for i in ("a", "b")]
    for size in [*range(0, sum(whole), 97), whole[0] - 1, whole[0], whole[0] + 1, sum(whole) - 1, sum(whole)]:
        local, shards = tmp_path / f"local{size}", tmp_path / f"shards{size}"
        abandoned(local, "1", "a", "b", torn=sum(whole) - size)
        expected = {"a": size >= whole[0], "b": size >= sum(whole)}
        assert {item for item, _ in recover(local, shards)} == {item for item, there in expected.items() if there}, size


def test_a_spool_damaged_in_the_middle_keeps_the_items_around_it(local, shards):
    path = abandoned(local, "1", *NAMES)
    data = bytearray(path.read_bytes())
    data[data.index(content("b")["out.bin"])] ^= 1
    path.write_bytes(data)
    assert {item for item, _ in recover(local, shards)} == {"a", "c"}
    assert_readable(local, shards, "a", "c")


def test_an_item_that_was_copied_before_a_death_is_not_copied_again(local, shards):
    abandoned(local, "1", "a", "b")
    abandoned(local, "2", "b", "c")
    assert sorted(item for item, _ in recover(local, shards)) == ["a", "b", "c"]
    (shard,) = shard_files(shards)
    with tarfile.open(shard) as tar:
        assert len(tar.getnames()) == 6


def test_a_living_workers_spool_is_left_alone(local, shards):
    abandoned(local, "1", "a")
    code = """
        import sys
        from pathlib import Path
        from tasks.collections.spool import Spool
        from tests.tasks.collections.test_spools import append
        spool = Spool(Path(sys.argv[1]), Path(sys.argv[2]))
        append(spool, "b")
        print("ready", flush=True)
        sys.stdin.read()
        spool.seal()
    """
    command = [sys.executable, "-P", "-c", textwrap.dedent(code), str(local), str(shards)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as worker:
        worker.stdout.readline()
        assert recover(local, shards) == [("a", TOY_KEY)]
        assert len(list(local.glob("spool-*"))) == 1
        worker.stdin.close()
        worker.wait(30)
    assert_readable(local, shards, "a", "b")


def test_an_index_is_made_again_from_its_shard(local, shards):
    spool = Spool(local, shards)
    append(spool, *NAMES)
    spool.seal()
    (index,) = local.glob("*.idx")
    before = index.read_bytes()
    for damage in (index.unlink, lambda: index.write_bytes(before[:40] + b"\n"), lambda: index.write_bytes(b"\0" * 80)):
        damage()
        assert_readable(local, shards, *NAMES)
        assert index.read_bytes() == before


def damage(shard: Path, needle: bytes) -> None:
    data = bytearray(shard.read_bytes())
    data[data.index(needle)] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(data)


def sealed(local: Path, shards: Path, *item_ids: str) -> Path:
    spool = Spool(local, shards)
    append(spool, *item_ids)
    spool.seal()
    return shard_files(shards)[0]


def test_of_a_damaged_shard_the_holder_keeps_the_whole_items(local, shards):
    shard = sealed(local, shards, *NAMES)
    damage(shard, content("b")["out.bin"])
    found = Finished(local, shards, file_sha256, holding=True)
    assert found.refresh()
    assert not shard.exists()
    assert {item for item, _ in recover(local, shards)} == {"a", "c"}
    assert not found.refresh()
    assert_readable(local, shards, "a", "c")


def test_who_only_looks_touches_no_damaged_shard(local, shards):
    shard = sealed(local, shards, *NAMES)
    damage(shard, content("b")["out.bin"])
    before = shard.read_bytes()
    assert held(local, shards).ids() == {"a", "c"}
    assert shard.read_bytes() == before


def test_a_damaged_record_is_not_believed_even_where_its_files_match(local, shards):
    shard = sealed(local, shards, *NAMES)
    data = shard.read_bytes()
    at = data.index(b'"rung":0')
    shard.chmod(0o644)
    shard.write_bytes(data[: at + 7] + b"1" + data[at + 8 :])
    assert Finished(local, shards, file_sha256, holding=True).refresh()
    assert {item for item, _ in recover(local, shards)} == {"b", "c"}


def test_a_shard_that_dvc_has_linked_is_never_written_to(tmp_path, local, shards):
    shard = sealed(local, shards, *NAMES)
    cache = tmp_path / "cache"
    cache.hardlink_to(shard)
    before = cache.stat().st_mtime_ns, cache.read_bytes()
    append_more = Spool(local, shards)
    append(append_more, "d")
    append_more.seal()
    rewrite(local, shards, [path.stem for path in shard_files(shards)], {held(local, shards).line("a", TOY_KEY)})
    assert (cache.stat().st_mtime_ns, cache.read_bytes()) == before
    damage(cache, content("b")["out.bin"])
    damaged = cache.read_bytes()
    Finished(local, shards, file_sha256, holding=True).refresh()
    recover(local, shards)
    assert cache.read_bytes() == damaged


def test_items_of_a_deleted_shard_are_no_longer_held(local, shards):
    shard = sealed(local, shards, *NAMES)
    found = held(local, shards)
    assert len(found) == 3
    shard.unlink()
    found.refresh()
    assert len(found) == 0


def test_an_item_is_found_under_each_of_its_keys_and_is_one_item(local, shards):
    keys = sorted(hashlib.sha256(b"%d" % number).hexdigest() for number in range(3))
    for key in keys:
        spool = Spool(local, shards)
        append(spool, "a", key=key)
        spool.seal()
    found = held(local, shards)
    assert {from_line(found.line("a", key)).key for key in keys} == set(keys)
    assert sorted(key for _, key in found.pairs()) == keys
    assert (len(found), found.ids(), found.line("a", TOY_KEY)) == (3, {"a"}, None)
    assert len({found.location("a", key) for key in keys}) == 3


def test_of_an_item_that_was_made_twice_under_a_key_the_better_rung_counts(local, shards):
    for rung in (1, 0, 2):
        spool = Spool(local, shards)
        spool.append(*encode_item(make_record(content("a"), item_id="a", rung=rung), content("a")))
        spool.seal()
    found = held(local, shards)
    assert from_line(found.line("a", TOY_KEY)).rung == 0
    assert len(found) == 1


def test_more_indexes_are_read_than_files_may_be_open(local, shards, monkeypatch):
    monkeypatch.setattr("tasks.collections.index.MAX_OPEN_FILES", 2)
    names = [f"item{number}" for number in range(7)]
    for name in names:
        sealed(local, shards, name)
    found = held(local, shards)
    for name in names * 2:
        assert from_line(found.line(name, TOY_KEY)).id == name
    assert len(found._files) <= 2


def test_a_row_can_be_read_after_another_shard_has_gone(local, shards):
    gone = sealed(local, shards, "a")
    sealed(local, shards, "b")
    found = held(local, shards)
    row = found.row("b", TOY_KEY)
    gone.unlink()
    found.refresh()
    assert found.ids() == {"b"}
    assert from_line(found.line_of(row)).id == "b"


def test_a_read_of_changed_or_missing_bytes_names_the_shard(local, shards):
    shard = sealed(local, shards, *NAMES)
    found = held(local, shards)
    record = from_line(found.line("a", TOY_KEY))
    location = found.location("a", TOY_KEY)
    damage(shard, content("a")["out.bin"])
    with pytest.raises(DamagedShard, match=r"out\.bin of item a does not match") as caught:
        ItemReader(shards).read(location, record, "out.bin")
    assert caught.value.path == shard
    shard.unlink()
    with pytest.raises(DamagedShard, match="is gone"):
        ItemReader(shards).read(location, record, "out.bin")
    with pytest.raises(KeyError):
        ItemReader(shards).read(location, record, "absent")


def test_rewriting_keeps_each_wanted_item_once(local, shards):
    sealed(local, shards, "a", "b")
    spool = Spool(local, shards)
    append(spool, "b", "c")
    spool.seal()
    names = [path.stem for path in shard_files(shards)]
    new = rewrite(local, shards, names, {held(local, shards).line(name, TOY_KEY) for name in ("b", "c")})
    for name in {*names} - {new}:
        (shards / f"{name}.tar").unlink()
    with tarfile.open(shards / f"{new}.tar") as tar:
        assert len(tar.getnames()) == 4
    assert_readable(local, shards, "b", "c")
    assert rewrite(local, shards, [new], set()) is None


def test_artifacts_may_lie_on_another_file_system(local, tmp_path):
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    shards = elsewhere / f"lostwax-test-{os.getpid()}"
    try:
        sealed(local, shards, *NAMES)
        assert_readable(local, shards, *NAMES)
        assert [path.suffix for path in shards.iterdir()] == [".tar"]
    finally:
        shutil.rmtree(shards, ignore_errors=True)
