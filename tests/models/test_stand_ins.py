import pytest

from models.stand_ins import stand_in


@pytest.mark.parametrize(
    "data",
    [
        b"<!DOCTYPE html><html><head><title>403 Forbidden</title></head></html>",
        b"\xef\xbb\xbf\n <HTML lang=en>",
        b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>',
    ],
)
def test_a_web_page_is_named(data: bytes) -> None:
    assert stand_in(data) == "a web page, not the file: its download failed, fetch it again"


def test_a_git_lfs_pointer_is_named_with_the_remedy() -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:abab\nsize 123456\n"
    assert "Git LFS pointer" in str(stand_in(pointer))
    assert "git lfs pull" in str(stand_in(pointer))


def test_a_git_annex_pointer_and_zero_bytes_are_named() -> None:
    assert "git annex get" in str(stand_in(b"/annex/objects/SHA256E-s12--abab.glb\n"))
    assert "nothing but zero bytes" in str(stand_in(bytes(4096)))
    assert stand_in(bytes(84)[:-1] + b"\1") is None


@pytest.mark.parametrize(
    "data", [b"", b"glTF\x02\0\0\0", b"\x89PNG\r\n\x1a\n", b"solid html", b'<?xml version="1.0"?><COLLADA>']
)
def test_other_bytes_may_be_a_mesh_or_an_image(data: bytes) -> None:
    assert stand_in(data) is None
