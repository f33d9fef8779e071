"""The page: one file with everything in it, no script, nothing fetched from anywhere.

    page = html(verify(data, trust, now=at), Bundle.parse(data), Source("case.bundle", data, "trust.toml", believed, at))

A content security policy forbids everything but the one style sheet, by its hash: should anything get past
:mod:`certify.report.markup`, browsers do not run or fetch it. The same case, trust and time give the same bytes.
"""

import shlex
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from certify import chain as chains
from certify.bundle import Bundle
from certify.chain import Chain, Link
from certify.errors import VerificationError
from certify.report import words
from certify.report.audited import Pictures, audits
from certify.report.deployed import bases, deployments
from certify.report.markup import Markup, join, section, table, tag
from certify.report.replayed import replays
from certify.report.style import CSS
from certify.report.words import Headline
from certify.statement import KeyChange, Request, Statement, Training, Unlearning
from certify.times import format_time
from certify.verifier import TITLES, Report, Step

_POLICY = "default-src 'none'; style-src 'sha256-{}'; img-src data:; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True, slots=True)
class Source:
    """What the report is about, and by whose trust and at what time it was verified. Names are as they were called."""

    name: str
    data: bytes
    trust_name: str
    trust: bytes
    at: datetime
    options: tuple[str, ...] = ()
    """What else ``certify verify`` was given."""


def html(report: Report, bundle: Bundle, source: Source, pictures: Pictures | None = None) -> str:
    """The report of a case that verified, from the same bundle. ``pictures``: of audits, whose scores somebody has."""
    links = [
        Link(entry.index, entry.envelope.digest, Statement.parse(entry.envelope.payload)) for entry in bundle.entries
    ]
    chain = chains.build(links)
    changes = [link for link in links if isinstance(link.statement.predicate, KeyChange)]
    grade = tag("p", "Grade: ", tag("strong", report.grade), f", which means: {report.meaning}.")
    beside = [tag("p", "Audited: ", tag("strong", str(audit)), ".") for audit in report.audits]
    beside += [tag("p", "Replayed: ", tag("strong", str(replay)), ".") for replay in report.replays]
    beside += [tag("p", "Deployed: ", tag("strong", str(one)), ".") for one in report.deployments]
    return _page(
        source,
        words.headline(report, chain),
        [grade, *beside],
        [
            section("What this does not show", tag("ul", (tag("li", limit) for limit in report.limits))),
            section("What happened, and when", *_timeline(words.timeline(report, chain, changes), report.issuer)),
            audits(report.audits, links, pictures or {}),
            replays(report.replays),
            deployments(report.deployments, report.issuer),
            bases(report.upstream),
            section("What was checked", _steps(report.steps)),
            _measured(chain, report.issuer),
            section("Digests", _digests(report, chain, links, source)),
        ],
    )


def refused(error: VerificationError, source: Source) -> str:
    """The report of a case that did not verify. What the bundle claims is not in it, but for what was established before."""
    steps = tuple(step for step in error.passed if isinstance(step, Step))
    return _page(
        source,
        words.refusal(error),
        [tag("p", "Reason: ", str(error), ".")],
        [
            section(
                "What was checked",
                tag("p", "Later steps were not tried, and what the bundle claims beyond these is not shown here."),
                _steps(steps, failed=error.step, reason=str(error)),
            )
        ],
    )


def _page(source: Source, headline: Headline, after: Sequence[Markup], sections: Iterable[Markup]) -> str:
    at = format_time(source.at)
    sign = {"good": "✓", "warn": "!", "bad": "✗"}[headline.look]
    verdict = tag(
        "div",
        tag("p", f"{sign} {headline.word}", class_="word"),
        (tag("p", sentence) for sentence in headline.sentences),
        after,
        class_=f"verdict {headline.look}",
    )
    title = f"{headline.word}: {source.name}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY.format(_hash(CSS))),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        Markup(f"<style>{CSS}</style>"),
    )
    body = tag(
        "body",
        tag(
            "header",
            tag("p", "Report on a case of machine unlearning", class_="eyebrow"),
            tag("h1", source.name),
            tag("p", f"Checked as of {at}, believing {source.trust_name} and nothing else.", class_="soft"),
        ),
        tag("main", verdict, sections, _yourself(source)),
        tag(
            "footer",
            tag(
                "p",
                "This page is a reading of the case, not evidence: anybody can write such a page. It is no legal advice.",
            ),
        ),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _steps(steps: Sequence[Step], *, failed: int | None = None, reason: str = "") -> Markup:
    shown = [
        _step("✓", "good", step.number, step.title, step.established)
        if step.established
        else _step("–", "idle", step.number, step.title, ("nothing to check",))
        for step in steps
    ]
    if failed is not None:
        shown.append(_step("✗", "bad", failed, TITLES[failed], (reason,)))
    return tag("ol", shown, class_="steps")


def _step(sign: str, look: str, number: int, title: str, lines: Sequence[str]) -> Markup:
    told = {"✓": "established", "–": "nothing to check", "✗": "failed"}[sign]
    return tag(
        "li",
        tag("span", sign, class_=f"sign {look}", role="img", aria_label=told),
        tag("div", tag("span", f"{number}. {title}", class_="title"), tag("ul", (tag("li", line) for line in lines))),
        class_=look if look == "idle" else None,
    )


def _timeline(events: Sequence[words.Event], issuer: str) -> list[Markup]:
    rows = [
        (
            tag("time", event.time.replace("T", " ").removesuffix("Z"), datetime=event.time, class_="short"),
            tag("span", f"entry {event.index}" if event.index is not None else "–", class_="short"),
            event.what,
        )
        for event in events
    ]
    caption = f"By the times that {issuer}, auditors and replayers state. The order of the entries is the log's, and was checked."
    return [table(caption, ("Stated time (UTC)", "In the log", "What"), rows)]


def _measured(chain: Chain, issuer: str) -> Markup:
    certificate = chain.case.statement.predicate
    assert isinstance(certificate, Unlearning)
    rows = [(name, f"{value:g}") for name, value in sorted(certificate.metrics.items())]
    if (gate := certificate.utility) is not None:
        rows += [
            (f"{gate.metric}, before", f"{gate.before:g}"),
            (f"{gate.metric}, after", f"{gate.after:g}, where at least {gate.floor:g} was set as the least"),
        ]
    if not rows:
        return join()
    caption = f"Stated in the certificate by {issuer}, and checked by nobody else."
    return section("What the operator measured", table(caption, ("Measure", "Value"), rows))


def _digests(report: Report, chain: Chain, links: Sequence[Link], source: Source) -> Markup:
    certificate, training = chain.case.statement.predicate, chain.training.statement.predicate
    assert isinstance(certificate, Unlearning) and isinstance(training, Training)
    named = [
        ("certificate, its envelope", report.certificate),
        ("model after unlearning, tensor root", report.tensor_root),
        ("model before, tensor root", certificate.pre.tensor_root),
        ("training data, root", training.dataset.root),
    ]
    if certificate.removed is not None and certificate.retained is not None:
        named += [
            ("records left out, root", certificate.removed.root),
            ("records kept, root", certificate.retained.root),
        ]
    for link in chain.requests:
        request = link.statement.predicate
        assert isinstance(request, Request)
        named.append((f"what request {link.index} asks to forget, root", request.forget.root))
    named += [(f"entry {link.index}, {link.statement.kind}", link.digest) for link in links if link is not chain.case]
    named += [("the bundle, SHA-256", _digest(source.data)), ("the trust file, SHA-256", _digest(source.trust))]
    pairs = [join(tag("dt", name), tag("dd", tag("code", digest))) for name, digest in named]
    return tag("details", tag("summary", f"{len(named)} digests, to compare with what you were told"), tag("dl", pairs))


def _yourself(source: Source) -> Markup:
    command = ["certify", "verify", source.name, "--trust", source.trust_name, *source.options]
    return section(
        "Check it yourself",
        tag(
            "p",
            "Do not believe this page. Get the operator's trust file over a channel that you trust, install the package "
            "unlearning-ledger, and run this; it needs no network, no weights and no data:",
        ),
        tag("pre", tag("code", shlex.join(command))),
        tag(
            "p",
            "Options show more: --weights compares the model in use with the certificate, --receipt a person's own record with "
            "what was forgotten.",
        ),
        tag(
            "p",
            f"This report was made from a bundle of {len(source.data):,} bytes, SHA-256 ",
            tag("code", _digest(source.data)),
            ", and a trust file of SHA-256 ",
            tag("code", _digest(source.trust)),
            ".",
            class_="soft",
        ),
    )


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def _hash(style: str) -> str:
    return b64encode(sha256(style.encode()).digest()).decode()
