"""What a report says in words: what a verdict means, and what happened when.

The statements say when things happened by the operator's clock; their places in the log say in which order they were logged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from certify.audit.verdict import FAIL, INCONCLUSIVE, OVER_FORGOTTEN, PASS, Estimate
from certify.audit_probes import canaries_found
from certify.audits import BAD, UNFINISHED
from certify.chain import Chain, Link
from certify.errors import DeploymentError, FailedAuditError, FailedReplayError, VerificationError
from certify.statement import KeyChange, Request, Training, Unlearning
from certify.times import parse_time
from certify.verifier import TITLES, Report

VERDICTS = {
    PASS: "The attack tells the forgotten records from others about as badly as on models that never learnt them.",
    FAIL: "The model is not shown to have forgotten, or was harmed by it: the first reason decides.",
    INCONCLUSIVE: "The attack shows nothing, for or against: the first reason says why.",
    OVER_FORGOTTEN: "The model is worse on the forgotten records than models that never learnt them: that gives them away too.",
    UNFINISHED: "An attempt was started and not brought to its end, so that no verdict counts.",
}
LOOKS = {PASS: "good", FAIL: "bad", OVER_FORGOTTEN: "bad", INCONCLUSIVE: "warn", UNFINISHED: "warn"}
"""How a verdict is marked."""


@dataclass(frozen=True, slots=True)
class Headline:
    """The verdict in a word, how it looks, and the sentences after it."""

    word: str
    look: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a stated time; ``index`` is its entry in the log, if it is one."""

    time: str
    index: int | None
    what: str


def headline(report: Report, chain: Chain) -> Headline:
    """Of a case that verified."""
    certificate = _certificate(chain.case)
    asked = len(certificate.requests)
    what = f"{_records(certificate.removed.count)} left out" if certificate.removed is not None else "no single records"
    sentences = [
        f"{report.issuer} certifies that this model came from an earlier one by {report.method}, in answer to "
        f"{asked} request{'' if asked == 1 else 's'} to be forgotten ({what}). The certificate is authentic, is in the log, and "
        f"agrees with everything in the case."
    ]
    failed = [audit for audit in report.audits if audit.verdict in BAD]
    sentences += [
        f"{audit.auditor} attacked the model and found {audit.verdict}: {audit.reasons[0]}." for audit in failed
    ]
    sentences += [
        f"{audit.auditor} says that it had planted records in the training data, and that this model shows them still."
        for audit in report.audits
        if canaries_found(audit.probes)
    ]
    if report.development_srs:
        sentences.append(
            "Its zero-knowledge proof counts for nothing: whoever made the reference string, which is for development, can forge "
            "such proofs."
        )
    again = [replay for replay in report.replays if replay.failed]
    sentences += [
        f"{replay.replayer} ran the recipe again and got other weights: {replay.differing} tensors differ."
        for replay in again
    ]
    back = [one for one in report.deployments if one.state == "rollback"]
    sentences += [
        f"The model that serves as {one.name} is an earlier one: what this certificate says was forgotten may serve there again."
        for one in back
    ]
    if failed or again or back:
        word = "FAILED AUDIT" if failed else "FAILED REPLAY" if again else "ROLLBACK"
        return Headline(word, "bad", tuple(sentences))
    return Headline("VERIFIED", "warn" if report.development_srs else "good", tuple(sentences))


def refusal(error: VerificationError) -> Headline:
    """Of a case that did not verify."""
    if isinstance(error, FailedAuditError):
        word, advice = "FAILED AUDIT", "The case is authentic, and the model is not shown to have forgotten."
    elif isinstance(error, FailedReplayError):
        word, advice = (
            "FAILED REPLAY",
            "The case is authentic, and the weights are not shown to follow from the recipe.",
        )
    elif isinstance(error, DeploymentError):
        word, advice = (
            "REFUSED",
            "The certificate may be authentic; what the operator says of the model that serves contradicts it.",
        )
    elif error.step == 9:
        word, advice = "REFUSED", "What was given is not what this case is about."
    else:
        word, advice = "REFUSED", "Do not rely on this bundle."
    return Headline(word, "bad", (f"Step {error.step} failed: {TITLES[error.step]}. {advice}",))


def timeline(report: Report, chain: Chain, changes: Sequence[Link]) -> list[Event]:
    """What is stated to have happened, in that order. ``changes``: of keys."""
    case = chain.case
    training = _training(chain.training)
    events = [
        Event(
            training.run.finished,
            chain.training.index,
            f"The model was trained on {_records(training.dataset.count)}, which were committed to",
        )
    ]
    if chain.start is not None:
        start = _training(chain.start)
        events.append(
            Event(start.run.finished, chain.start.index, "An earlier training, from which this one went on, ended")
        )
    for link in chain.requests:
        request = link.statement.predicate
        assert isinstance(request, Request)
        asked = _records(request.forget.count) if request.scope == "records" else f"a {request.scope}"
        events += [
            Event(request.received, link.index, f"A request to forget {asked} was received, ground {request.ground}"),
            Event(request.due, None, f"The request at entry {link.index} was due"),
        ]
    for link in chain.unlearnings:
        certificate = _certificate(link)
        which = "the certificate of this case" if link is case else "an earlier certificate"
        events += [
            Event(certificate.run.started, None, f"The unlearning of entry {link.index} began"),
            Event(certificate.run.finished, link.index, f"It ended, by {certificate.method.name}: {which}"),
        ]
    for link in changes:
        change = link.statement.predicate
        assert isinstance(change, KeyChange)
        done = "was handed over" if change.action == "rotate" else "was revoked"
        events.append(Event(change.effective, link.index, f"Key {change.keyid[:16]} {done}: {change.reason}"))
    for audit in report.audits:
        if audit.finished:
            told = f"The last attempt of {audit.auditor} to attack the model ended: {audit.verdict}"
            events.append(Event(audit.finished, audit.index, told))
    events += [
        Event(replay.finished, replay.index, f"{replay.replayer} ran the recipe again: {replay.outcome}")
        for replay in report.replays
    ]
    events += [
        Event(one.since, one.index, f"The model of entry {one.model_entry} began to serve as {one.name}")
        for one in report.deployments
    ]
    return sorted(events, key=lambda event: (parse_time(event.time), event.index is None, event.index or 0))


def percent(share: float) -> str:
    """``98.4 %``"""
    return f"{100 * share:.1f} %" if abs(share) < 1e4 else figure(share)


def figure(value: float) -> str:
    """``0.64``; a figure that nobody expects stays short."""
    return f"{value:.2f}" if isfinite(value) and abs(value) < 1e4 else f"{value:.3g}"


def figure_of(value: float) -> str:
    """``29``, ``0.6071``: of any kind."""
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.3g}"


def estimate(value: Estimate) -> str:
    """``0.64 (0.60 to 0.68)``"""
    return f"{figure(value.value)} ({figure(value.low)} to {figure(value.high)})"


def _records(count: int) -> str:
    return f"{count:,} record{'' if count == 1 else 's'}"


def _certificate(link: Link) -> Unlearning:
    certificate = link.statement.predicate
    assert isinstance(certificate, Unlearning)
    return certificate


def _training(link: Link) -> Training:
    training = link.statement.predicate
    assert isinstance(training, Training)
    return training
