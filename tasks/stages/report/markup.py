"""HTML and SVG by construction: whatever is not `Html` already is escaped, so no label can become markup.

tag("td", {"class": "num"}, "<script>")          # <td class="num">&lt;script&gt;</td>
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping

VOID = frozenset({"meta", "img", "line", "circle", "path", "polyline", "rect"})
"""Elements that are written without an end tag."""


class Html(str):
    """Markup. An f-string of one is plain text again, and will be escaped: build with `tag` and `join`."""

    __slots__ = ()


Attributes = Mapping[str, str | int | float]


def tag(name: str, attributes: Attributes | None = None, *children: str) -> Html:
    """An element. Children that are not Html are text."""
    written = "".join(f' {key}="{html.escape(str(value))}"' for key, value in (attributes or {}).items())
    if name in VOID:
        return Html(f"<{name}{written}/>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(parts: Iterable[str], separator: str = "") -> Html:
    """Parts one after another; the separator is text too."""
    return Html(text(separator).join(text(part) for part in parts))


def text(part: str) -> Html:
    """`part` itself where it is markup, else escaped."""
    return part if isinstance(part, Html) else Html(html.escape(part))


def table(heads: Iterable[Html], rows: Iterable[Html], kind: str = "plain") -> Html:
    """A table that scrolls sideways where it is wider than the page. heads: `th` elements; rows: `tr` elements."""
    head = tag("thead", {}, tag("tr", {}, *heads))
    return tag("div", {"class": "scroll"}, tag("table", {"class": kind}, head, tag("tbody", {}, *rows)))


def heads(*names: str, num: Iterable[str] = ()) -> list[Html]:
    """Column heads; those after `names` stand over figures."""
    return [tag("th", {}, name) for name in names] + [tag("th", {"class": "num"}, name) for name in num]
