"""Shell patterns of paths: `*.glb` matches names, `shoes/*` paths (`*` crosses slashes)."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether a path fits one of the patterns: those without a slash are held against its last part alone."""
    patterns = tuple(patterns)
    path_fits = _any_of([pattern for pattern in patterns if "/" in pattern])
    name_fits = _any_of([pattern for pattern in patterns if "/" not in pattern])
    return lambda path: bool(path_fits(path) or name_fits(path.rpartition("/")[2]))


def _any_of(patterns: list[str]) -> Callable[[str], object]:
    if not patterns:
        return lambda _: None
    return re.compile("|".join(map(fnmatch.translate, patterns))).match
