"""Segments of a tar: what is whole is found, what is torn or damaged is not."""

import io
import os
import tarfile
from pathlib import Path

import pytest
import webdataset

from tasks.collections.records import from_line, identity
from tasks.collections.tarball import BLOCK, END, Segment, _header_block, encode_item, file_entries, member_offset, scan
from tests.support import make_record

FILES = ({"a.bin": b"abc", "view.front.png": b"x" * 600}, {"a.bin": b""}, {"b.bin": b"y" * 512, "c": b"z"})


def items() -> list[bytes]:
    """The tar bytes of three small items."""
    return [encode_item(make_record(files, item_id=f"item{index}"), files)[0] for index, files in enumerate(FILES)]


def scanned(data: bytes, path: Path, verify: bool = True) -> list[Segment]:
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return list(scan(descriptor, verify))
    finally:
        os.close(descriptor)


def ids(segments: list[Segment]) -> list[str]:
    return [identity(segment.line)[0] for segment in segments]


def test_tarfile_reads_every_member_and_nothing_of_time_or_owner_is_in_it():
    data = b"".join(items()) + END
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        assert all((member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "") for member in tar.getmembers())
    prefix = "item0-" + "k" * 16
    assert members[f"{prefix}.a.bin"] == b"abc"
    assert members[f"{prefix}.view.front.png"] == b"x" * 600
    assert sum(name.endswith(".record.json") for name in members) == 3


@pytest.mark.parametrize("size", [0, 1, 511, 512, 16384, 8**11 - 1])
@pytest.mark.parametrize("name", ["a", "0123456789abcdef-kkkkkkkkkkkkkkkk.größe.bin", "n" * 100])
def test_headers_are_those_of_tarfile(name, size):
    info = tarfile.TarInfo(name)
    info.size = size
    assert _header_block(name.encode(), size) == info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")


def test_what_no_ustar_header_can_say_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        _header_block(b"big", 8**11)


def test_webdataset_groups_the_files_by_item(tmp_path):
    path = tmp_path / "shard.tar"
    path.write_bytes(b"".join(items()) + END)
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [f"item{index}-{'k' * 16}" for index in range(3)]
    assert samples[0]["view.front.png"] == b"x" * 600


def test_a_tail_torn_at_any_byte_leaves_exactly_the_whole_items(tmp_path):
    parts = items()
    data = b"".join(parts)
    ends = [len(parts[0]), len(parts[0]) + len(parts[1]), len(data)]
    segments = scanned(data, tmp_path / "spool.tar")
    assert [segment.offset for segment in segments] == [0, *ends[:2]]
    assert [segment.size for segment in segments] == [len(part) for part in parts]
    with (tmp_path / "spool.tar").open("rb+") as spool:
        for size in range(len(data), -1, -1):
            spool.truncate(size)
            found = ids(list(scan(spool.fileno(), verify=True)))
            assert found == [f"item{index}" for index, end in enumerate(ends) if end <= size], size


def test_one_wrong_bit_anywhere_costs_at_most_its_own_item(tmp_path):
    parts = items()
    data = b"".join(parts) + END
    entries = [file_entries(files) for files in FILES]
    second = range(len(parts[0]), len(parts[0]) + len(parts[1]))
    for at in [*second[:BLOCK:7], *second[BLOCK::31]]:
        wrong = bytearray(data)
        wrong[at] ^= 1
        found = scanned(bytes(wrong), tmp_path / "spool.tar")
        assert ids(found) in (["item0", "item2"], ["item0", "item1", "item2"]), at
        assert all(from_line(segment.line).files in entries for segment in found)


def test_bytes_that_do_not_match_the_record_are_passed_over_only_when_verified(tmp_path):
    wrong = bytearray(b"".join(items()))
    wrong[BLOCK] ^= 1  # the first byte of the first file
    assert ids(scanned(bytes(wrong), tmp_path / "s.tar")) == ["item1", "item2"]
    assert ids(scanned(bytes(wrong), tmp_path / "s.tar", verify=False)) == ["item0", "item1", "item2"]


def test_a_hole_of_zeros_hides_no_item_behind_it(tmp_path):
    first, second, third = items()
    data = first + bytes(len(second)) + third
    segments = scanned(data, tmp_path / "spool.tar")
    assert ids(segments) == ["item0", "item2"]
    assert segments[1].offset == len(first) + len(second)


def test_a_member_is_found_without_reading_the_tar():
    for files in FILES:
        record = make_record(files)
        data, _ = encode_item(record, files)
        for name, content in files.items():
            at = member_offset(record, 0, name)
            assert data[at : at + len(content)] == content
    with pytest.raises(KeyError):
        member_offset(make_record({}), 0, "absent")


def test_thousands_of_files_in_one_item_survive(tmp_path):
    files = {f"tile{index:04d}.bin": index.to_bytes(2) for index in range(3000)}
    data, line = encode_item(make_record(files), files)
    assert [segment.line for segment in scanned(data, tmp_path / "s.tar")] == [line]


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "record.json", "a.record.json", "n" * 61, "ü" * 31])
def test_names_that_cannot_be_a_members_are_refused(name):
    with pytest.raises(ValueError, match="cannot name a file"):
        file_entries({name: b""})


def test_names_beyond_ascii_are_kept(tmp_path):
    files = {"größe.bin": b"1"}
    data, _ = encode_item(make_record(files), files)
    assert len(scanned(data, tmp_path / "s.tar")) == 1
