"""YAML as DVC reads it, by the same library: YAML 1.2, UTF-8, every key once. A mistake is told with its line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

KeyPath = tuple[str, ...]


@dataclass(frozen=True)
class Document:
    """What a file holds, and the line (from 1) of each key and list entry by its path: ("views", "size_px")."""

    content: Any
    lines: Mapping[KeyPath, int]


def read_yaml(path: Path) -> Document:
    """Raises ValueError naming file and line of what is not YAML, not UTF-8, or a key that is there twice."""
    text = _decode(path)
    try:
        node = YAML(typ="safe").compose(text)
    except YAMLError as error:
        raise ValueError(_describe(error, text, path)) from error
    lines = dict(_lines(node, path))
    try:
        return Document(YAML(typ="safe").load(text), lines)
    except (YAMLError, ValueError) as error:
        raise ValueError(_describe(error, text, path)) from error


def parse_value(text: str) -> Any:
    """The value that a piece of YAML writes. Raises ValueError."""
    try:
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        raise ValueError(_words(error)) from error


def _decode(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        raise ValueError(f"{path}, line {line}: not UTF-8 (byte {byte:#04x}); save the file as UTF-8") from error


def _lines(node: Node | None, path: Path) -> Iterator[tuple[KeyPath, int]]:
    """Of every key and entry below `node`; what an alias repeats is met once. Raises ValueError for a repeated key."""
    met: set[int] = set()
    pending: list[tuple[KeyPath, Node]] = [((), node)] if node else []
    while pending:
        at, node = pending.pop()
        if id(node) in met:
            continue
        met.add(id(node))
        for name, mark, inner in _children(node, path):
            yield (*at, name), mark.line + 1
            pending.append(((*at, name), inner))


def _children(node: Node, path: Path) -> Iterator[tuple[str, Any, Node]]:
    """Name, place and node of what lies directly in a mapping or a list."""
    if isinstance(node, SequenceNode):
        for index, inner in enumerate(node.value):
            yield str(index), inner.start_mark, inner
    if isinstance(node, MappingNode):
        first: dict[str, int] = {}
        for key, inner in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in first:
                raise ValueError(f"{path}, line {line}: {name} was set in line {first[name]} already; keep one of them")
            first[name] = line
            yield name, key.start_mark, inner


def _describe(error: Exception, text: str, path: Path) -> str:
    mark = (error.context_mark or error.problem_mark) if isinstance(error, MarkedYAMLError) else None
    if mark is None:
        return f"{path}: not valid YAML: {_words(error)}"
    line = text.splitlines()[mark.line : mark.line + 1]
    hint = "; indent with spaces, not tabs" if line and "\t" in line[0] else ""
    return f"{path}, line {mark.line + 1}: not valid YAML: {_words(error)}{hint}"


def _words(error: Exception) -> str:
    """What the library says, on one line and without its excerpt of the file."""
    if isinstance(error, MarkedYAMLError):
        return ": ".join(part for part in (error.context, error.problem) if part)
    return " ".join(str(error).split())
