"""Items inside a tar: an item's files, sorted by name, then its record. The item is finished when the record is whole.

Members are named `ID-KEY16.NAME`, so that any tar reads them and WebDataset groups them by item. Headers are plain
ustar without time, path or owner: equal items are equal bytes.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tasks.collections.records import FileEntry, Record, from_line, to_line

BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)
RECORD_NAME = "record.json"
RECORD_SUFFIX = "." + RECORD_NAME
MAX_NAME_BYTES = 60
MAX_MEMBER_BYTES = 100
MAX_FILE_BYTES = 8**11 - 1
HASH_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Segment:
    """One whole item in a tar: where it begins, how long it is, and its record's line."""

    offset: int
    size: int
    line: bytes


def encode_item(record: Record, files: Mapping[str, bytes]) -> tuple[bytes, bytes]:
    """The tar bytes of one finished item, and its record's line. `record.files` must describe `files`."""
    prefix = _prefix(record)
    parts: list[bytes] = []
    for name in sorted(files):
        _append_member(parts, f"{prefix}.{name}", files[name])
    line = to_line(record)
    _append_member(parts, prefix + RECORD_SUFFIX, line)
    return b"".join(parts), line


def file_entries(files: Mapping[str, bytes]) -> dict[str, FileEntry]:
    """Digest and size of each file. Raises ValueError for a name that cannot be a member's."""
    for name in files:
        reserved = f".{name}".endswith(RECORD_SUFFIX)
        if not name or "/" in name or name.startswith(".") or reserved or len(name.encode()) > MAX_NAME_BYTES:
            raise ValueError(f"{name!r} cannot name a file of an item")
    return {name: FileEntry(hashlib.sha256(files[name]).hexdigest(), len(files[name])) for name in sorted(files)}


def member_offset(record: Record, segment_offset: int, name: str) -> int:
    """Where the bytes of one file begin, given where its item begins."""
    offset = segment_offset
    for other in sorted(record.files):
        if other == name:
            return offset + BLOCK
        offset += BLOCK + _padded(record.files[other].size)
    raise KeyError(name)


def scan(descriptor: int, verify: bool) -> Iterator[Segment]:
    """The whole items of a tar or of a spool, in order, whatever is torn or damaged between and behind them.

    verify: also hash every file against its record. An item whose bytes do not match is passed over.
    """
    end = os.fstat(descriptor).st_size
    offset = start = 0
    members: dict[str, tuple[int, int]] = {}
    while offset + BLOCK <= end:
        info = _header(os.pread(descriptor, BLOCK, offset))
        if info is None or offset + BLOCK + _padded(info.size) > end:
            offset += BLOCK  # the end marker, a torn tail or damage: look for the next item
            members, start = {}, offset
            continue
        data_at, offset = offset + BLOCK, offset + BLOCK + _padded(info.size)
        if info.name.endswith(RECORD_SUFFIX):
            line = os.pread(descriptor, info.size, data_at)
            if _is_whole(descriptor, line, info.name, members, verify):
                yield Segment(start, offset - start, line)
            members, start = {}, offset
        else:
            members[info.name] = (data_at, info.size)


def _header(block: bytes) -> tarfile.TarInfo | None:
    if block[257:262] != b"ustar":
        return None
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError):
        return None
    return info if info.size >= 0 else None


def _is_whole(descriptor: int, line: bytes, member: str, members: Mapping[str, tuple[int, int]], verify: bool) -> bool:
    try:
        record = from_line(line)
    except ValueError:
        return False
    prefix = _prefix(record)
    if member != prefix + RECORD_SUFFIX or to_line(record) != line:
        return False
    expected = {f"{prefix}.{name}": entry for name, entry in record.files.items()}
    if {name: size for name, (_, size) in members.items()} != {name: entry.size for name, entry in expected.items()}:
        return False
    return not verify or all(
        _sha256(descriptor, at, size) == expected[name].sha256 for name, (at, size) in members.items()
    )


def _sha256(descriptor: int, offset: int, size: int) -> str:
    digest = hashlib.sha256()
    for at in range(offset, offset + size, HASH_BYTES):
        digest.update(os.pread(descriptor, min(HASH_BYTES, offset + size - at), at))
    return digest.hexdigest()


def _append_member(parts: list[bytes], name: str, data: bytes) -> None:
    parts += (_header_block(name.encode(), len(data)), data, bytes(_padded(len(data)) - len(data)))


def _header_block(name: bytes, size: int) -> bytes:
    """The ustar header of a plain file: what `tarfile.TarInfo.tobuf` gives, at a tenth of its cost."""
    if size > MAX_FILE_BYTES or len(name) > MAX_MEMBER_BYTES:
        raise ValueError(f"{name.decode()} of {size} bytes does not fit into a ustar header")
    head = b"%s0000644\0000000000\0000000000\0%011o\00000000000000\0" % (name.ljust(MAX_MEMBER_BYTES, b"\0"), size)
    tail = b"0".ljust(101, b"\0") + b"ustar\00000".ljust(255, b"\0")
    return b"%s%06o\0 %s" % (head, sum(head) + 8 * ord(" ") + sum(tail), tail)


def _prefix(record: Record) -> str:
    return f"{record.id}-{record.key[:16]}"


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
