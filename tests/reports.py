"""Reading reports as a browser would: elements, attributes and the text that is seen. ::

page = read(html(…))
page.seen                                   # all text, in order
page.tags                                   # ("html", {"lang": "en"}), …
"""

from dataclasses import dataclass, field
from datetime import datetime
from html.parser import HTMLParser

from certify.bundle import Bundle
from certify.errors import VerificationError
from certify.report import Source, html, refused
from certify.trust import Trust
from certify.verifier import verify
from tests.cases import NOW, Case

VOID = {"meta", "img"}


@dataclass
class Page(HTMLParser):
    """Raises AssertionError for elements that do not close in order."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    """(element around it, text)"""
    others: list[str] = field(default_factory=list)
    """Comments, declarations and processing instructions."""
    open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), attrs
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def handle_comment(self, data: str) -> None:
        self.others.append(data)

    def handle_decl(self, decl: str) -> None:
        self.others.append(decl)

    def handle_pi(self, data: str) -> None:
        self.others.append(data)

    def unknown_decl(self, data: str) -> None:
        self.others.append(data)

    @property
    def seen(self) -> str:
        """The text of the page, without its style sheet."""
        return " ".join(" ".join(text for where, text in self.texts if where != "style").split())

    @property
    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        """Elements and the names of their attributes: what text must not change."""
        return [(tag, tuple(attributes)) for tag, attributes in self.tags]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def read(page: str) -> Page:
    found = Page()
    found.feed(page)
    found.close()
    assert not found.open
    return found


def source(data: bytes, at: datetime = NOW, name: str = "case.bundle") -> Source:
    return Source(name, data, "trust.toml", b"version = 1", at)


def page_of(case: Case, trust: Trust | None = None, **allowed: bool) -> str:
    """The report, of a case that verifies or does not."""
    data = case.data()
    try:
        report = verify(data, trust or case.trust(), now=NOW, **allowed)
    except VerificationError as error:
        return refused(error, source(data))
    return html(report, Bundle.parse(data), source(data))
