import socket
import sys
import urllib.request

import pytest

from models.errors import Unavailable
from models.mattes import rembg
from models.mattes.rembg import published
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
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


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


def test_a_model_out_of_reach_says_what_to_fetch_and_imports_no_rembg(home, offline, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "rembg", raising=False)
    with pytest.raises(Unavailable) as error:
        rembg.create(rembg.Params(), Machine(tmp_path))
    message = str(error.value)
    assert "isnet-general-use is not here" in message
    assert str(home / "models" / "isnet-general-use" / "isnet-general-use.onnx") in message
    assert "Name or service not known" in message
    assert f"fetch {published.RELEASE}/isnet-general-use.onnx" in message
    assert "rembg" not in sys.modules


def test_nothing_is_fetched_where_download_is_off(home, offline, tmp_path):
    with pytest.raises(Unavailable, match="download is off"):
        rembg.create(rembg.Params(download=False), Machine(tmp_path))


def test_another_file_of_that_name_is_refused(home, tmp_path):
    path = home / "models" / "u2netp" / "u2netp.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not it")
    with pytest.raises(Unavailable, match="is not the published u2netp"):
        rembg.create(rembg.Params(model="u2netp"), Machine(tmp_path))


def test_a_broken_download_leaves_nothing_that_counts_as_the_model(home, monkeypatch, tmp_path):
    import io

    monkeypatch.setattr(urllib.request, "urlopen", lambda *args, **kwargs: io.BytesIO(b"half of it"))
    with pytest.raises(Unavailable, match="is not the published u2netp"):
        rembg.create(rembg.Params(model="u2netp"), Machine(tmp_path))
    assert not (home / "models" / "u2netp" / "u2netp.onnx").exists()


def test_a_missing_custom_file_is_named(tmp_path):
    with pytest.raises(Unavailable, match=r"no model at .*gone\.onnx"):
        rembg.create(rembg.Params(model="dis_custom", path="gone.onnx"), Machine(tmp_path))
