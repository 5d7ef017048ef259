"""Classes of failure: whose fault an error is, by its type, its number, its text, and what caused it."""

import errno
import os

import pytest

from models.errors import MACHINE_ERRNOS, BadInput, BrokenMachine, EmptyOutput, ItemFailed, failure_class, poisons


def caused(error: BaseException, cause: BaseException) -> BaseException:
    """`raise error from cause`"""
    error.__cause__ = cause
    error.__suppress_context__ = True
    return error


def while_handling(error: BaseException, earlier: BaseException) -> BaseException:
    """`raise error` where `earlier` had been caught."""
    error.__context__ = earlier
    return error


@pytest.mark.parametrize("number", sorted(MACHINE_ERRNOS), ids=errno.errorcode.get)
def test_a_full_disk_and_its_like_are_the_machines_fault_however_they_are_told(number):
    plain = OSError(number, os.strerror(number), "/tmp/x")
    wrapped = RuntimeError(
        f"Error while serializing: IoError(Os {{ code: {number}, message: {os.strerror(number)!r} }})"
    )
    for error in (
        plain,
        wrapped,
        caused(RuntimeError("cannot save"), plain),
        while_handling(KeyError("cache"), plain),
        caused(BadInput("x cannot be read"), plain),
    ):
        assert failure_class(error) == "environment"
        assert poisons(error)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOENT, "No such file"), "error"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "oom_host"),
        (caused(RuntimeError("rendering failed"), MemoryError()), "oom_host"),
        (caused(RuntimeError("decoding failed"), RuntimeError("CUDA out of memory")), "oom_gpu"),
        (caused(BadInput("not a mesh"), MemoryError()), "bad_input"),
        (while_handling(KeyError("x"), BadInput("not a mesh")), "error"),
        (caused(EmptyOutput("nothing"), KeyError("x")), "empty_output"),
        (BrokenMachine("gone"), "environment"),
        (caused(ItemFailed("timeout", "late"), OSError(errno.ENOSPC, "No space left on device")), "timeout"),
        (KeyError("a view"), "error"),
    ],
)
def test_other_errors_keep_their_class(error, expected):
    assert failure_class(error) == expected


def test_an_error_that_was_raised_on_purpose_without_its_cause_stands_alone():
    error = while_handling(KeyError("x"), OSError(errno.ENOSPC, "No space left on device"))
    error.__suppress_context__ = True
    assert failure_class(error) == "error"
