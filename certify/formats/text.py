"""Words from a case, so that they stay words in whatever they are written into.

Operators choose the names of methods, metrics and files, and auditors their remarks. None of these may become a line, markup, a
key or a colour of the document around them. ::

    line("a\\x1b[2J\\nb")         a\\x1b[2J\\nb      one line; what nobody sees is written out
    code("<b>`x`")              `<b>\\x60x\\x60`   a Markdown code span, in which nothing else is markup
    prose("see *this*")         see \\*this\\*     Markdown text
    quoted("yes: no")           "yes: no"        a YAML (and JSON) string, ASCII only
"""

import re
from unicodedata import category

MARKS = 4
"""Combining marks on one character, more than any script needs in a row."""
_MARKS = re.compile(r"[\\`*_{}\[\]<>#!|~&$^]|:(?=[/A-Za-z+_-])|(?<=www)\.", re.IGNORECASE)
"""What opens or closes something inside of a line: a colon in addresses and in names of pictures."""
_OPENS = re.compile(r"\A(\d*)([-+=.)])")
"""What a list or a rule opens with at the start of a line."""


def line(value: str) -> str:
    """One line of visible characters; others, and heaps of combining marks, are written as escapes."""
    shown: list[str] = []
    marks = 0
    for character in value:
        marks = marks + 1 if category(character) in ("Mn", "Me") else 0
        seen = character.isprintable() and marks <= MARKS
        shown.append(character if seen else character.encode("unicode_escape").decode())
    return "".join(shown)


def code(value: str) -> str:
    """A code span, for names and values."""
    shown = line(value).replace("`", "\\x60")
    if not shown.strip():
        return "(blank)"
    around = " " if shown[0] == shown[-1] == " " else ""  # readers take one space off each end
    return f"`{around}{shown}{around}`"


def prose(value: str) -> str:
    """Text, for sentences with somebody's names in them. An ``@`` makes an address however it is escaped: then, code."""
    shown = line(value).strip()
    if not shown or "@" in shown:
        return code(shown)
    return _OPENS.sub(r"\1\\\2", _MARKS.sub(lambda found: "\\" + found[0], shown))


def quoted(value: str) -> str:
    """A string in double quotes that YAML 1.1 and 1.2 read alike, as JSON does up to U+FFFF."""
    return '"' + "".join(_yaml(character) for character in line(value)) + '"'


def _yaml(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if " " <= character <= "~":
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"
