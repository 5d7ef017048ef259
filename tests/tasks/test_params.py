"""Mistakes in params.yaml: each is answered with file, line and key, with what exists and what was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.params import Params, load_params
from tests.support import ROOT

CASES = ROOT.parent / "shared" / "cases" / "40_params"
REFUSED = {
    "duplicate_block": "line 2: views was set in line 1 already; keep one of them",
    "duplicate_key": "line 3: size_px was set in line 2 already; keep one of them",
    "float_for_int": "line 1: views.size_px: should be a valid integer, got a number with a fractional part (got 64.5)",
    "inf": "line 1: train.learning_rate: should be a finite number (got inf)",
    "latin1": "line 1: not UTF-8 (byte 0xf6); save the file as UTF-8",
    "laughs": "line 1: unknown block 'a'; there are: run, ingest, views, ",
    "list": "must be a block of names and values, not ['a', 'b']",
    "nan": "line 1: views.distance: should be a finite number (got nan)",
    "negative": "line 1: run.workers: should be greater than or equal to 0 (got -1)",
    "norway": "line 1: matte.matte: unknown plug-in 'no' in mattes; there are: ",
    "other_project": "line 1: unknown block 'stages'; there are: run, ingest, views, ",
    "percent": "line 1: run.max_failed_share: should be a valid number, ",
    "plugin_case": "line 1: teach.teacher: unknown plug-in 'Visual_Hull' in teachers; there are: ",
    "plugin_path": "line 1: teach.teacher: unknown plug-in '../../evil' in teachers; there are: ",
    "python_tag": "line 1: not valid YAML: could not determine a constructor for the tag",
    "source_mapping": "line 1: ingest.sources: should be a list: [a, b], or a line `- a` for each entry",
    "source_string": "line 1: ingest.sources: should be a list: [a, b], or a line `- a` for each entry (got 'folder')",
    "source_unknown": "line 1: ingest.sources.0: unknown plug-in 'foldr' in sources; there are: ",
    "tab": "line 2: not valid YAML: ",
    "unclosed": "line 1: not valid YAML: while parsing a flow mapping",
    "unknown_block": "line 1: unknown block 'veiws'; there are: run, ingest, views, ",
    "unknown_key": "line 1: unknown key views.sizepx; there are: distance, ",
    "unknown_view": "line 1: features.views: unknown view 'side'; there are: front, left, back, right",
    "wrong_type": "line 1: views.size_px: should be a valid integer, unable to parse string as an integer (got 'big')",
}
ENDINGS = {
    "percent": "; 10% is written 0.1 (got '10%')",
    "plugin_case": "; did you mean visual_hull?",
    "source_unknown": "; did you mean folder?",
    "tab": "; indent with spaces, not tabs",
    "unknown_block": "; did you mean views?",
    "unknown_key": "; did you mean size_px?",
}
ACCEPTED = {
    "bom": ("views", "size_px", 64),
    "comment": ("views", "size_px", 256),
    "crlf": ("views", "size_px", 64),
    "empty": ("views", "size_px", 256),
    "exp_float": ("train", "learning_rate", 0.002),
    "exp_int": ("views", "size_px", 100),
    "inbox_missing": ("ingest", "inbox", "/nonexistent/photos"),  # ingest says that there is no such folder
    "inbox_tilde": ("ingest", "inbox", "~/photos"),
    "source_no_path": ("ingest", "limit", None),  # the same for a folder in the inbox
    "no_such_gpu": ("run", "device", "cuda:7"),  # another machine may have it: see below
    "nulls": ("views", "size_px", 256),
    "quoted_number": ("views", "size_px", 64),
}
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not here")


@needs_cases
def test_every_case_has_its_answer():
    assert {path.stem for path in CASES.iterdir()} <= REFUSED.keys() | ACCEPTED.keys()


@needs_cases
@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_is_told_on_one_line(case):
    path = CASES / f"{case}.yaml"
    with pytest.raises(ValueError) as raised:
        load_params(path)
    message = str(raised.value)
    assert message.startswith(str(path))
    assert REFUSED[case] in message
    assert message.endswith(ENDINGS.get(case, ""))
    assert "\n" not in message
    assert len(message) < 500 + len(str(path))


@needs_cases
@pytest.mark.parametrize("case", ACCEPTED)
def test_what_is_merely_unusual_is_read(case):
    block, key, value = ACCEPTED[case]
    params = load_params(CASES / f"{case}.yaml")
    found = getattr(params.run if block == "run" else params.stage(block), key)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("device", "gpus", "words"),
    [
        ("cuda:7", 2, "line 2: run.device is cuda:7, and this machine has 2 GPUs; set it to auto or cpu"),
        ("cuda", 0, "line 2: run.device is cuda, and this machine has 0 GPUs; set it to auto or cpu"),
        ("cuda:1", 2, None),
        ("auto", 0, None),
    ],
)
def test_a_gpu_that_is_not_there_is_told_before_a_run_and_not_before_a_plan(tmp_path, monkeypatch, device, gpus, words):
    monkeypatch.setattr("tasks.params.num_gpus", lambda: gpus)
    path = tmp_path / "params.yaml"
    path.write_text(f"run:\n  device: {device}\n")
    params = load_params(path)
    if words is None:
        params.check_device()
    else:
        with pytest.raises(ValueError, match=words):
            params.check_device()


def refusal(tmp_path: Path, text: str, *overrides: str) -> str:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as raised:
        load_params(path, overrides)
    return str(raised.value).removeprefix(str(path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "views:\n  size_px: 64\nrun:\n  attempts: {eror: 2}\n",
            ", line 4: unknown key run.attempts.eror; there are: ",
        ),
        ("run:\n  attempts: 3\n", ", line 2: run.attempts: should be a block of names and values (got 3)"),
        ("run: {device: gpu}\n", "line 1: run.device: should be written as one of auto, cpu, cuda, cuda:1 (got 'gpu')"),
        ("teachers:\n  visual_hull:\n    resolutio: 2\n", "line 3: unknown key teachers.visual_hull.resolutio; there "),
        ("teachers:\n  visual_hul: {}\n", ", line 2: teachers.visual_hul: unknown plug-in 'visual_hul' in teachers; "),
        ("teachers: {hunyuan3d: 3}\n", ", line 1: teachers.hunyuan3d must be a block of names and values, not 3"),
        ("ingest:\n  split: {val: 0.9, test: 0.9}\n", ", line 2: ingest.split: val + test is 1.8, over 1"),
        ("1: 2\n", ", line 1: unknown block '1'; there are: "),
        ("views: {1: 2}\n", ", line 1: views.1: "),
    ],
)
def test_the_line_is_that_of_the_key_at_fault(tmp_path, text, words):
    assert words in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("views.size_px=big", "--set views.size_px=big: views.size_px: should be a valid integer"),
        ("views.sizepx=3", "--set views.sizepx=3: unknown key views.sizepx; there are: "),
        ("veiws.size_px=3", "--set veiws.size_px=3: unknown block 'veiws'; there are: "),
        ("teach.teacher=hull", "--set teach.teacher=hull: teach.teacher: unknown plug-in 'hull' in teachers; "),
        ("views=3", "--set views=3: views must be a block of names and values, not 3"),
        ("views.size_px.x=3", "--set 'views.size_px.x=3': size_px must be a block of names and values, not 64"),
        ("views.size_px=[1", "--set 'views.size_px=[1': not valid YAML: while parsing a flow sequence"),
        ("views.size_px", "--set 'views.size_px': write it as block.name=value"),
        ("views..size_px=3", "--set 'views..size_px=3': write it as block.name=value"),
    ],
)
def test_a_mistake_in_an_override_is_told_as_one(tmp_path, override, words):
    assert words in refusal(tmp_path, "views:\n  size_px: 64\n", override)


def test_an_override_of_an_empty_block_is_taken(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("views:\n")
    assert load_params(path, ["views.size_px=96"]).stage("views").size_px == 96


def test_a_value_that_repeats_itself_endlessly_is_told_in_short(tmp_path):
    levels = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    text = "views:\n  distance: 3\n  size_px: *a11\n"
    assert ", line 1: unknown block 'a0'" in refusal(tmp_path, "\n".join([*levels, text]))
    with pytest.raises(ValueError, match=r"views must be a block of names and values, not \["):
        nested: list[object] = ["x"]
        for _ in range(60):
            nested = [nested, nested]
        Params({"views": nested}).stage("views")
