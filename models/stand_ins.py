"""What lies in a file's place when its bytes were never fetched: told by name, with the remedy."""

from __future__ import annotations

_LFS = b"version https://git-lfs.github.com/spec/"
_ANNEX = b"/annex/objects/"
_PAGES = (b"<!doctype html", b"<html", b"<error>")
"""A web page, or the answer of an object store that refused."""


def stand_in(data: bytes) -> str | None:
    """What the bytes are instead of a mesh or an image, and what to do; None where they may be one."""
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(_LFS):
        return "a Git LFS pointer, not the file: run `git lfs pull` where it came from, and copy it again"
    if head.startswith(_ANNEX):
        return "a git-annex pointer, not the file: run `git annex get` where it came from, and copy it again"
    if data and not data[:512].strip(b"\0") and not data.strip(b"\0"):
        return "nothing but zero bytes: its copy or download broke off, fetch it again"
    if head.startswith(b"<?xml"):
        head = head.partition(b"?>")[2].lstrip()
    if head.startswith(_PAGES):
        return "a web page, not the file: its download failed, fetch it again"
    return None
