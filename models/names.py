"""Names that do not exist are answered with what there is, and with the one that was probably meant."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches


def there_are(known: Collection[str], name: str) -> str:
    """The end of a message about an unknown name: `there are: ingest, views; did you mean views?`."""
    meant = nearest(name, known)
    return f"there are: {', '.join(known) or 'none'}" + (f"; did you mean {meant}?" if meant else "")


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name that is written most like `name`, case aside; None where none is much like it."""
    by_case = {other.casefold(): other for other in known}
    found = get_close_matches(name.casefold(), by_case, n=1)
    return by_case[found[0]] if found else None
