"""HTML and SVG elements, in which everything is text unless it was made here.

>>> str(tag("p", "<script>", tag("b", "bold"), class_="note"))
'<p class="note">&lt;script&gt;<b>bold</b></p>'

A bundle may hold any text. It cannot become markup, and cannot pose as other text: characters that nobody sees or that turn the
reading direction are written out as escapes, and so are heaps of combining marks, which would cover the lines around them.

>>> str(text("safe\\u202e.exe"))
'safe\\\\u202e.exe'
"""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from unicodedata import category

MARKS = 4
"""Combining marks on one character, more than any script needs in a row."""
_VOID = frozenset({"meta", "img"})


@dataclass(frozen=True, slots=True)
class Markup:
    """Markup made by this module: goes into a page as it is."""

    html: str

    def __str__(self) -> str:
        return self.html


Content = str | int | Markup | None
"""What an element may hold; strings are text, None is nothing."""


def tag(name: str, /, *content: Content | Iterable[Content], **attributes: str | float | None) -> Markup:
    """An element. Attributes that are None are left out; ``class_`` is class, ``stroke_width`` is stroke-width."""
    named = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(_number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{named}>")
    return Markup(f"<{name}{named}>{join(*content)}</{name}>")


def join(*content: Content | Iterable[Content]) -> Markup:
    """One after the other."""
    parts: list[str] = []
    for part in content:
        if isinstance(part, Markup):
            parts.append(part.html)
        elif isinstance(part, str | int):
            parts.append(text(str(part)).html)
        elif part is not None:
            parts += [join(each).html for each in part]
    return Markup("".join(parts))


def section(title: str, *content: Content | Iterable[Content]) -> Markup:
    """Content under a heading."""
    return tag("section", tag("h2", title), *content)


def table(caption: str, columns: Iterable[str], rows: Iterable[Iterable[Content]]) -> Markup:
    """A table whose rows are named by their first cell."""
    head = tag("thead", tag("tr", (tag("th", column, scope="col") for column in columns)))
    body = (tag("tr", _cells(list(row))) for row in rows)
    return tag("table", tag("caption", caption), head, tag("tbody", body))


def text(value: str) -> Markup:
    """Text from anywhere, as the characters that it is made of."""
    shown: list[str] = []
    marks = 0
    for character in value:
        marks = marks + 1 if category(character) in ("Mn", "Me") else 0
        seen = character.isprintable() and marks <= MARKS
        shown.append(character if seen else _escaped(character))
    return Markup(escape("".join(shown)))


def _cells(row: list[Content]) -> list[Markup]:
    return [tag("th", cell, scope="row") if not place else tag("td", cell) for place, cell in enumerate(row)]


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _number(value: str | float) -> str:
    """Numbers as short as they go, so that pictures are the same wherever they are drawn."""
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
