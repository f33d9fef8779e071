"""Attacks on whoever reads a report: text in a case that poses as the page, runs in it, hides, or breaks it.

Operators and auditors sign what they like, so a hostile text verifies. Each attack is also tried with escaping taken away, and
has to succeed then.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from certify.audit import verdict
from certify.audit.verdict import EpsilonBound, Estimate, Example
from certify.audit_probes import MOST
from certify.report import markup
from certify.report.markup import Markup
from certify.statement import Method
from tests.audit_cases import ALSO, PASSED, PROBES, Auditor, arm, probe, trust
from tests.cases import Case, request, usual_case
from tests.reports import page_of, read

TEXTS = {
    "script": "<script>alert(1)</script>",
    "handler": '"><img src=x onerror=alert(1)>',
    "single quotes": "' onmouseover='alert(1)' x='",
    "end of title": "</title><script>alert(1)</script>",
    "end of style": "</style><script>alert(1)</script>",
    "end of svg": "</text></svg><iframe src=javascript:alert(1)></iframe>",
    "a verdict of its own": "</p></div><div class='verdict good'><p class=word>VERIFIED</p>",
    "comment": "<!-- ",
    "declaration": "<![CDATA[<script>]]><!doctype x>",
    "entity": "&lt;script&gt;&#60;b&#62;",
    "stylesheet": "<style>*{display:none}</style><link rel=stylesheet href=//x.example>",
    "unclosed": "<b <i",
}
HIDDEN = {
    "right to left override": "by \u202etsurt ton od\u202c nobody",
    "isolates": "\u2067a\u2066b\u2069",
    "zero width": "PA\u200bSS\u2060\ufeff",
    "escape sequence": "\x1b[2J\x1b[1;32mVERIFIED",
    "carriage return": "\r\b\b\bVERIFIED",
    "null": "a\0b",
    "line separators": "a\u2028b\u2029c\x85d",
    "tags block": "\U000e0041\U000e0042",
    "soft hyphen": "VERI\u00adFIED",
    "private use": "\ue000\U0010ffff",
}


def hostile(value: str) -> Case:
    """Says ``value`` wherever operator and auditor can say something."""
    case = usual_case(
        says_request=lambda: request(ground=value),
        method=Method(value, {}, []),
        metrics={value: 1.0},
    )
    auditor = Auditor(case)
    remark = value if min(value) >= " " else "harmless"  # remarks have no control characters
    auditor.plan(untested=[remark], also=ALSO)
    auditor.start()
    found = replace(PASSED, unlearned=replace(PASSED.unlearned, name=value), retrained=(arm(value), arm("b" + value)))
    auditor.finish(found, untested=[remark], metrics={value: 2.0}, probes=PROBES)
    return case


def page(value: str) -> str:
    case = hostile(value)
    return page_of(case, trust(case))


@pytest.fixture(scope="module")
def harmless() -> str:
    made = page("harmless")
    assert made.count("harmless") > 8 and "VERIFIED" in made
    return made


def unescaped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(markup, "text", lambda value: Markup(value))


@pytest.mark.parametrize("value", TEXTS.values(), ids=TEXTS.keys())
def test_text_that_would_be_markup(value: str, harmless: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = read(page(value))
    assert made.shape == read(harmless).shape
    assert made.others == read(harmless).others == ["doctype html"]
    shortened = 6  # names of arms in two charts
    assert made.seen.count(" ".join(value.split())) >= read(harmless).seen.count("harmless") - shortened
    unescaped(monkeypatch)
    naked = page(value)
    try:
        other = read(naked)
    except AssertionError:
        return  # elements close where they should not
    assert other.shape != made.shape or other.others != made.others or other.seen != made.seen


@pytest.mark.parametrize("value", HIDDEN.values(), ids=HIDDEN.keys())
def test_characters_that_nobody_sees(value: str, harmless: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = page(value)
    assert all(character.isprintable() or character == "\n" for character in made)
    assert read(made).shape == read(harmless).shape
    assert "\\" in made
    unescaped(monkeypatch)
    assert not all(character.isprintable() or character == "\n" for character in page(value))


def test_marks_heaped_over_the_lines_around(monkeypatch: pytest.MonkeyPatch) -> None:
    def heaps(made: str) -> bool:
        return "\u0336" * (markup.MARKS + 1) in made

    value = "x" + "\u0336" * 120
    assert not heaps(page(value))
    unescaped(monkeypatch)
    assert heaps(page(value))


def test_a_refusal_that_quotes_the_bundle() -> None:
    """The reason for a refusal has the bundle's words in it."""
    case = hostile("<script>\u202e")
    case.models = case.models[:1]  # step 6 fails, after step 2 to 5 told of what they saw
    other = page_of(case, trust(case))
    made = read(other)
    assert "REFUSED" in made.seen and not made.all("script") and "\u202e" not in other


def test_file_names_are_hostile_too() -> None:
    from certify.bundle import Bundle
    from certify.report import html
    from certify.verifier import verify
    from tests.cases import NOW
    from tests.reports import source
    from tests.verdict import CASE

    data = CASE.data()
    name = "</title><script>alert(1)</script>\u202e.bundle"
    made = html(verify(data, CASE.trust(), now=NOW), Bundle.parse(data), source(data, name=name))
    assert not read(made).all("script") and "\u202e" not in made


HUGE = 1e308
FIGURES: dict[str, Callable[[], dict[str, Any]]] = {
    "scores": lambda: {"examples": (Example(0, HUGE, -HUGE, 0.0), Example(1, -HUGE, HUGE, 5e-324))},
    "equal scores": lambda: {"examples": (Example(0, 1e300, 1e300, 1e300),)},
    "areas": lambda: {"original": replace(PASSED.original, auc=Estimate(0.8, -HUGE, HUGE))},
    "areas of all": lambda: {
        "retrained": tuple(replace(each, auc=Estimate(HUGE, HUGE, HUGE)) for each in PASSED.retrained)
    },
    "bounds": lambda: {"original": replace(PASSED.original, epsilon=_bound(HUGE, HUGE))},
    "negative bounds": lambda: {"unlearned": replace(PASSED.unlearned, epsilon=_bound(-HUGE, -HUGE))},
    "tiny bounds": lambda: {
        name: replace(getattr(PASSED, name), epsilon=_bound(0.0, 5e-324)) for name in ("original", "unlearned")
    },
    "accuracy": lambda: {
        "unlearned": replace(
            PASSED.unlearned, utility=replace(PASSED.unlearned.utility, forget=Estimate(HUGE, HUGE, HUGE))
        )
    },
}


@pytest.mark.parametrize("value", [MOST, -MOST, 5e-324, 0.0])
def test_figures_of_probes_that_would_leave_the_page(value: float) -> None:
    case = usual_case()
    auditor = Auditor(case)
    auditor.plan(also=ALSO)
    auditor.start()
    auditor.finish(probes=[probe(one.name, value) for one in ALSO])
    made = page_of(case, trust(case))
    assert "VERIFIED" in read(made).seen and len(made) < 110_000
    assert max(len(word) for word in read(made).seen.split()) < 100


def _bound(lower: float, greatest: float) -> EpsilonBound:
    return EpsilonBound(lower, greatest, 0.5, "high", 0.0, 1, 2, 1, 2)


@pytest.mark.parametrize("change", FIGURES.values(), ids=FIGURES.keys())
def test_figures_that_would_leave_the_page(change: Callable[[], dict[str, Any]]) -> None:
    found: verdict.Figures = replace(PASSED, **change())
    case = usual_case()
    Auditor(case).whole(found)
    made = page_of(case, trust(case), allow_failed_audit=True)
    seen = read(made)
    assert len(seen.all("svg")) == 3 and len(made) < 60_000
    for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width"):
        places = [float(str(found[name])) for _, found in seen.tags if name in found]
        assert all(-20 <= place <= 1000 for place in places)
