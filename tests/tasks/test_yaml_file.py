"""YAML is read as DVC reads it, and mistakes are told with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.yaml_file import parse_value, read_yaml


@pytest.fixture
def write(tmp_path: Path):
    def write(content: str | bytes) -> Path:
        path = tmp_path / "params.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def test_every_key_and_entry_has_its_line(write):
    document = read_yaml(write("a:\n  b: [x,\n      {c: 1}]\nd: 2\n"))
    assert document.content == {"a": {"b": ["x", {"c": 1}]}, "d": 2}
    assert document.lines == {
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "b", "0"): 2,
        ("a", "b", "1"): 3,
        ("a", "b", "1", "c"): 3,
        ("d",): 4,
    }


@pytest.mark.parametrize("text", ["a: yes\n", "a: 1e2\n", "a: 010\n", "a: 12:30\n", "a: on\nb: 0x10\nc: 2e-3\n"])
def test_values_are_what_dvc_reads(write, text):
    from dvc.utils.serialize import parse_yaml

    assert read_yaml(write(text)).content == parse_yaml(text, "params.yaml")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", r"params\.yaml, line 3: a was set in line 1 already"),
        ("a:\n  b: 1\n  b: 2\n", r"params\.yaml, line 3: b was set in line 2 already"),
        ("a: [{b: 1, b: 2}]\n", r"params\.yaml, line 1: b was set in line 1 already"),
        (b"a: 1\nb: gr\xf6\xdfe\n", r"params\.yaml, line 2: not UTF-8 \(byte 0xf6\); save the file as UTF-8"),
        ("a:\n\tb: 2\n", r"line 2: not valid YAML: .*; indent with spaces, not tabs"),
        ("a: 1\nb: {c: 2\n", r"line 2: not valid YAML: while parsing a flow mapping"),
        ("a: 1\n---\nb: 2\n", r"line 1: not valid YAML: expected a single document"),
        ("a: *nowhere\n", r"line 1: not valid YAML: found undefined alias"),
        ("a: 2020-13-45\n", r"params\.yaml: not valid YAML: month must be in 1\.\.12"),
        ("a: \0\n", r"params\.yaml: not valid YAML: unacceptable character"),
    ],
)
def test_a_mistake_is_one_line_that_names_file_and_line(write, content, words):
    with pytest.raises(ValueError, match=words) as raised:
        read_yaml(write(content))
    assert "\n" not in str(raised.value)


def test_a_tag_that_would_run_code_is_refused_and_runs_nothing(write, tmp_path):
    made = tmp_path / "made"
    with pytest.raises(ValueError, match=r"line 1: not valid YAML: could not determine a constructor for the tag"):
        read_yaml(write(f"a: !!python/object/apply:os.mkdir ['{made}']\n"))
    assert not made.exists()


def test_aliases_are_followed_once_however_often_they_repeat(write):
    levels = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert len(read_yaml(write("\n".join(levels))).lines) < 200
    assert read_yaml(write("a: &a {b: *a}\n")).lines == {("a",): 1, ("a", "b"): 1}


@pytest.mark.parametrize("content", ["", "# only a comment\n", "\ufeffa: 1\n", "a: 1\r\nb:\r\n"])
def test_empty_files_byte_order_marks_and_windows_line_ends_are_read(write, content):
    assert read_yaml(write(content)).content in (None, {"a": 1}, {"a": 1, "b": None})


def test_a_value_of_the_command_line_is_yaml_too():
    assert parse_value("[1, 2e-3, no]") == [1, 0.002, "no"]
    with pytest.raises(ValueError, match="while parsing a flow sequence"):
        parse_value("[1")
