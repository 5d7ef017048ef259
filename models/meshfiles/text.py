"""Text of formats that say nothing of their encoding."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt


def decoded(line: bytes) -> str:
    """A line as UTF-8, else as Latin-1: names from older Windows programs."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


def parsed(text: str) -> npt.NDArray[np.float64] | None:
    """All numbers, parted by white space; None where anything else stands among them."""
    if not text.strip():
        return np.zeros(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # what NumPy before 2.4 says instead of its ValueError
        try:
            return np.fromstring(text, dtype=np.float64, sep=" ")
        except (ValueError, DeprecationWarning):
            return None
