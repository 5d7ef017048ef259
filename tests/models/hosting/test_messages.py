"""Messages between a host and its client arrive as they were sent, and nothing else is taken for one."""

import io
import json

import numpy as np
import pytest

from models.hosting.messages import DTYPES, ProtocolError, read_message, write_message


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_of_every_type_and_shape_arrive_bit_for_bit(dtype):
    random = np.random.default_rng(0)
    arrays = {
        "many": (random.random((3, 4, 5)) * 200).astype(dtype),
        "none": np.zeros((0, 3), dtype),
        "one": np.array(1, dtype),
        "strided": (random.random((6, 6)) * 9).astype(dtype)[::2, ::3],
    }
    stream = io.BytesIO()
    write_message(stream, {"generate": {"id": "ü"}}, arrays)
    write_message(stream, {"beat": {}})
    stream.seek(0)
    head, found = read_message(stream)
    assert head == {"generate": {"id": "ü"}}
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
    assert read_message(stream) == ({"beat": {}}, {})
    assert read_message(stream) is None


def test_a_message_cut_anywhere_is_the_end_of_the_stream():
    stream = io.BytesIO()
    write_message(stream, {"done": {}}, {"vertices_N3": np.ones((5, 3), np.float32)})
    whole = stream.getvalue()
    for length in range(len(whole)):
        assert read_message(io.BytesIO(whole[:length])) is None


@pytest.mark.parametrize(
    "line",
    [
        b"loading model: 100%\n",
        b"[]\n",
        b'{"done": {}}\n',
        json.dumps({"arrays": [["x", "object", [1]]]}).encode() + b"\n",
        json.dumps({"arrays": [["x", "float32", [1 << 40]]]}).encode() + b"\n",
        json.dumps({"arrays": [["x", "float32", [-1]]]}).encode() + b"\n",
    ],
)
def test_what_is_no_message_is_refused(line):
    with pytest.raises(ProtocolError):
        read_message(io.BytesIO(line + bytes(64)))
