"""Step 8: audits of the certificate, by auditors that ``trust.toml`` names. Pure, without torch: verdicts are derived again.

An auditor's statements about one certificate are one chain, each naming the one before it::

    plan  ←  attempt 1 started  ←  attempt 1 finished  ←  attempt 2 started  ←  …  ←  another plan  ←  …

so that no attempt can be left out before the last one shown. The last finished attempt counts. One that was started after it, and
did not end, takes a PASS away: whoever does not like what comes out cannot just stop. FAIL and OVER-FORGOTTEN stay until an
attempt ends otherwise.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from certify import audit_probes
from certify.audit.verdict import FAIL, INCONCLUSIVE, OVER_FORGOTTEN, PASS, judge
from certify.audit_moves import Move, moves
from certify.audit_probes import Probe
from certify.audit_terms import Figures
from certify.chain import Chain, Link
from certify.errors import AuditError, FailedAuditError, MissingAuditError
from certify.keyring import CLOCK_SKEW, Signer, claimed_time
from certify.seen import Seen
from certify.statement import Audit, AuditPlan, Request, Training, Unlearning
from certify.times import format_time, parse_time
from certify.trust import Trust

UNFINISHED = "UNFINISHED"
BAD = (FAIL, OVER_FORGOTTEN)


@dataclass(frozen=True, slots=True)
class Audited:
    """What an auditor's statements come to. ``verdict`` is the last one, or UNFINISHED, and stands at ``index`` of the log."""

    auditor: str
    verdict: str
    index: int
    power: float
    finished: str
    age_days: int
    stale: bool
    reasons: tuple[str, ...]
    untested: tuple[str, ...]
    history: tuple[str, ...]
    """Every plan and attempt, in order, in words."""
    earlier: tuple[str, ...] = ()
    """The verdicts before the last one."""
    probes: tuple[Probe, ...] = ()
    """What was measured beside the verdict, and decides nothing."""
    moves: tuple[Move, ...] = ()
    """Since the auditor's finished attempt before the last one, if there is one."""

    def __str__(self) -> str:
        """``PASS by Example Audits, power 0.93, after FAIL``"""
        after = f", after {', '.join(self.earlier)}" if self.earlier else ""
        after += "; PLANTED CANARIES FOUND" if audit_probes.canaries_found(self.probes) else ""
        if self.verdict == UNFINISHED:
            return f"{UNFINISHED} by {self.auditor}{after}"
        return f"{self.verdict} by {self.auditor}, power {self.power:.2f}{', stale' if self.stale else ''}{after}"

    @property
    def beside(self) -> tuple[str, ...]:
        """What the probes came to, one line each, and in what the last audit is worse than the one before."""
        told = [f"{probe.name}: {audit_probes.said(probe)}" for probe in self.probes]
        return (*(f"since the audit before: {move}" for move in self.moves if move.worse), *told)


@dataclass(frozen=True, slots=True)
class Found:
    """``lines`` are what step 8 says, ``limits`` what it does not show."""

    audits: tuple[Audited, ...]
    lines: tuple[str, ...]
    limits: tuple[str, ...]

    @property
    def failed(self) -> bool:
        return any(audit.verdict in BAD for audit in self.audits)


def check(
    chain: Chain,
    links: Sequence[Link],
    auditors: Mapping[int, Signer | None],
    *,
    own: Iterable[int],
    issuer: str,
    trust: Trust,
    seen: Seen | None,
    now: datetime,
    allow_failed: bool = False,
) -> Found:
    """``auditors``: who signed each audit statement, by index, None for those that trust.toml does not name. ``own``: indices of
    those that a key of an issuer signed. Raises AuditError."""
    said = [link for link in links if isinstance(link.statement.predicate, AuditPlan | Audit)]
    by_name: dict[str, list[Link]] = {}
    lines: list[str] = []
    for link in said:
        signer = auditors[link.index]
        if link.index in set(own) or (signer is not None and signer.issuer == issuer):
            raise AuditError(
                f"the {link.statement.kind} statement at entry {link.index} is by {issuer} itself or another issuer, expected "
                f"one by an auditor: nobody audits their own forgetting"
            )
        if signer is None:
            lines.append(
                f"entry {link.index}: an {link.statement.kind} statement by somebody that trust.toml does not name: it counts "
                f"for nothing"
            )
            continue
        by_name.setdefault(signer.issuer, []).append(link)
    results: list[Audited] = []
    for name, statements in sorted(by_name.items()):
        result, told = _follow(name, statements, chain, trust, seen, now)
        lines += told
        if result is not None:
            results.append(result)
            if result.probes:
                lines.append(
                    f"entry {result.index} has every probe that its plan names, {len(result.probes)}, and no other"
                )
    found = Found(tuple(results), tuple(lines), _limits(results))
    _decide(found, trust, allow_failed)
    return found


def _decide(found: Found, trust: Trust, allow_failed: bool) -> None:
    for audit in found.audits:
        if audit.verdict in BAD and not allow_failed:
            raise FailedAuditError(
                f"FAILED AUDIT: {audit.auditor} found {audit.verdict} (entry {audit.index}): {audit.reasons[0]}. All is "
                f"authentic, and the model is not shown to have forgotten; --allow-failed-audit goes on"
            )
    if not trust.audits.required:
        return
    if not any(audit.verdict == PASS and not audit.stale for audit in found.audits):
        there = ", ".join(str(audit) for audit in found.audits) or "none by an auditor that it names"
        raise MissingAuditError(
            f"trust.toml requires an audit that passed and is not stale, got {there}: ask for one (certify audit plan)"
        )


@dataclass(slots=True)
class _Progress:
    """Where the chain of an auditor's statements is."""

    plan: Link | None = None
    attempt: int = 0
    open: Link | None = None
    """An attempt that was started and has not ended."""
    abandoned: bool = False
    """Since the last finished attempt, one was started, and did not finish."""
    last: Link | None = None
    """The last finished attempt."""
    last_plan: Link | None = None
    before: Audit | None = None
    """The finished attempt before the last one."""
    verdicts: list[str] = field(default_factory=list)
    """Of all finished attempts."""


def _follow(
    name: str, statements: Sequence[Link], chain: Chain, trust: Trust, seen: Seen | None, now: datetime
) -> tuple[Audited | None, list[str]]:
    """From the first plan to the last attempt; None if nothing was attempted."""
    at = _Progress()
    history: list[str] = []
    before: Link | None = None
    for link in statements:
        _check_target(link, chain)
        _check_previous(name, link, before)
        _check_time(link, before, chain, seen)
        predicate = link.statement.predicate
        if isinstance(predicate, AuditPlan):
            _check_plan(link, predicate, chain)
            at.abandoned |= at.open is not None
            at.plan, at.attempt, at.open = link, 0, None
            history.append(
                f"entry {link.index}: {name} planned {predicate.attack}, {predicate.rules.shadows} shadows, "
                f"{predicate.data.forget.count} forgotten and {predicate.data.held_out.count} held-out records"
                + (f", and beside it {', '.join(one.name for one in predicate.also)}" if predicate.also else "")
            )
        else:
            assert isinstance(predicate, Audit)
            history.append(_attempt(name, link, predicate, at))
        before = link
    if at.open is not None:
        at.abandoned = True
        history.append(f"attempt {at.attempt} of {name} was started at entry {at.open.index} and has no end")
    return _result(name, at, history, trust, now), history


def _attempt(name: str, link: Link, audit: Audit, at: _Progress) -> str:
    """One entry of an attempt, in its place; returns it in words. Raises AuditError."""
    plan = at.plan.statement.predicate if at.plan is not None else None
    if at.plan is None or audit.plan != at.plan.digest:
        raise AuditError(
            f"the audit at entry {link.index} follows plan {audit.plan[:16]}, expected the one logged before it: "
            f"{at.plan.digest[:16] if at.plan is not None else 'there is none'}"
        )
    assert isinstance(plan, AuditPlan)
    for what, found, planned in (
        ("seed", audit.seed, plan.rules.seed),
        ("data", audit.data, plan.data),
        ("adapter", audit.adapter, plan.adapter),
    ):
        if found != planned:
            raise AuditError(f"the audit at entry {link.index} was made with another {what} than its plan says")
    if audit.state == "started":
        expected = at.attempt + 1
        at.abandoned |= at.open is not None
        at.open = link
    else:
        expected = at.attempt
        if at.open is None:
            raise AuditError(f"entry {link.index} ends attempt {audit.attempt}, which was not logged as it started")
        at.open = None
        at.abandoned |= audit.state != "finished"
    if audit.attempt != expected:
        raise AuditError(f"entry {link.index} is of attempt {audit.attempt}, expected {expected}: an attempt is hidden")
    at.attempt = audit.attempt
    told = f"entry {link.index}: attempt {audit.attempt} of {name} {audit.state}"
    if audit.state != "finished":
        return told + (f": {audit.reason}" if audit.reason else f" at {audit.run.started}")
    assert audit.figures is not None
    _check_figures(link, audit, audit.figures, plan)
    _check_probes(link, audit, plan)
    if at.last is not None and isinstance(earlier := at.last.statement.predicate, Audit):
        at.before = earlier
    at.last, at.last_plan, at.abandoned = link, at.plan, False
    at.verdicts.append(str(audit.verdict))
    return f"{told}: {audit.verdict}, derived again from its figures and the plan"


def _check_target(link: Link, chain: Chain) -> None:
    """It is about this certificate, and these models."""
    certificate = chain.case.statement.predicate
    audit = link.statement.predicate
    assert isinstance(certificate, Unlearning) and isinstance(audit, AuditPlan | Audit)
    if audit.certificate != chain.case.digest:
        raise AuditError(
            f"entry {link.index} is about certificate {audit.certificate[:16]}, expected the case's, {chain.case.digest[:16]}"
        )
    for what, found, expected in (
        ("attacked", audit.model, certificate.post),
        ("taken as the original", audit.original, certificate.pre),
    ):
        if found != expected:
            raise AuditError(
                f"the model {what} at entry {link.index} is {found.tensor_root}, the certificate's is {expected.tensor_root}"
            )


def _check_previous(name: str, link: Link, before: Link | None) -> None:
    predicate = link.statement.predicate
    assert isinstance(predicate, AuditPlan | Audit)
    if predicate.previous != (before.digest if before is not None else None):
        there = f"entry {before.index} ({before.digest[:16]})" if before is not None else "nothing"
        raise AuditError(
            f"entry {link.index} by {name} goes on from {(predicate.previous or 'nothing')[:16]}, in the bundle it follows "
            f"{there}: an attempt or a plan is hidden"
        )


def _check_time(link: Link, before: Link | None, chain: Chain, seen: Seen | None) -> None:
    """After the certificate, after what it goes on from, and not after others saw it logged."""
    time = claimed_time(link.statement)
    predicate = link.statement.predicate
    began = parse_time(predicate.run.started) if isinstance(predicate, Audit) else time
    earlier = before if before is not None else chain.case
    if link.index <= chain.case.index:
        raise AuditError(
            f"the {link.statement.kind} statement is entry {link.index}, before its certificate at {chain.case.index}"
        )
    ending = isinstance(predicate, Audit) and predicate.state != "started"
    if (time if ending else began) < claimed_time(earlier.statement) - CLOCK_SKEW:
        raise AuditError(f"entry {link.index} states {format_time(began)}, before entry {earlier.index} was made")
    if seen is not None and time > seen.time + CLOCK_SKEW:
        raise AuditError(f"entry {link.index} states {format_time(time)}, after {seen.how} at {format_time(seen.time)}")


def _check_plan(link: Link, plan: AuditPlan, chain: Chain) -> None:
    """The data are those that the log knows."""
    certificate, training = chain.case.statement.predicate, chain.training.statement.predicate
    assert isinstance(certificate, Unlearning) and isinstance(training, Training)
    if plan.data.training != training.dataset:
        raise AuditError(f"the plan at entry {link.index} is about other training data than the certificate's")
    forgotten = [certificate.removed] if certificate.removed is not None else [
        request.statement.predicate.forget
        for request in chain.requests
        if isinstance(request.statement.predicate, Request) and request.digest in certificate.requests
    ]  # fmt: skip
    if plan.data.forget not in forgotten:
        raise AuditError(
            f"the plan at entry {link.index} attacks other records than those that the certificate is about"
        )
    if plan.data.held_out.root == plan.data.training.root:
        raise AuditError(f"the plan at entry {link.index} holds out the training data themselves")


def _check_figures(link: Link, audit: Audit, figures: Figures, plan: AuditPlan) -> None:
    """The figures are of the planned attack, and the verdict follows from them."""
    rules = plan.rules
    for what, found, planned in (
        ("attack", figures.attack, rules.attack),
        ("number of forgotten records", figures.forgotten, plan.data.forget.count),
        ("number of held-out records", figures.held_out, plan.data.held_out.count),
        ("number of retrained models", len(figures.retrained), rules.retrained),
    ):
        if found != planned:
            raise AuditError(f"entry {link.index} has figures of another {what}, {found}, than its plan, {planned}")
    verdict = judge(rules.plan(), figures.found())
    if verdict.outcome != audit.verdict:
        raise AuditError(
            f"entry {link.index} states {audit.verdict}, from its figures and its plan follows {verdict.outcome}: "
            f"{verdict.reasons[0]}"
        )


def _check_probes(link: Link, audit: Audit, plan: AuditPlan) -> None:
    """Exactly what was planned: nobody adds what turned out well, or leaves out what did not."""
    was, found = [one.name for one in plan.also], [probe.name for probe in audit.probes]
    if unplanned := sorted(set(found) - set(was)):
        raise AuditError(f"entry {link.index} has a probe that its plan does not name: {unplanned[0]}")
    if missing := sorted(set(was) - set(found)):
        raise AuditError(f"entry {link.index} leaves out a probe that its plan names: {missing[0]}")
    for one, probe in zip(plan.also, audit.probes, strict=True):  # both in the order of their names
        for name, chosen in one.parameters.items():
            if probe.figures.get(name, chosen) != chosen:
                raise AuditError(
                    f"entry {link.index} has the probe {one.name} with {name} {probe.figures[name]:g}, planned was {chosen:g}"
                )


def _result(name: str, at: _Progress, history: list[str], trust: Trust, now: datetime) -> Audited | None:
    if at.last is None or at.last_plan is None:
        if not at.abandoned:
            return None
        assert at.plan is not None
        return Audited(name, UNFINISHED, at.plan.index, 0.0, "", 0, False, (), (), tuple(history))
    audit, plan = at.last.statement.predicate, at.last_plan.statement.predicate
    assert isinstance(audit, Audit) and isinstance(plan, AuditPlan) and audit.figures is not None and audit.verdict
    age = max(now - parse_time(audit.run.finished), timedelta(0))
    verdict = judge(plan.rules.plan(), audit.figures.found())
    counts = UNFINISHED if at.abandoned and audit.verdict in (PASS, INCONCLUSIVE) else audit.verdict
    return Audited(
        auditor=name,
        verdict=counts,
        index=at.last.index,
        power=audit.figures.power,
        finished=audit.run.finished,
        age_days=age.days,
        stale=age > timedelta(days=min(plan.stale_after_days, trust.audits.max_age_days)),
        reasons=verdict.reasons,
        untested=tuple(dict.fromkeys([*plan.untested, *audit.untested])),
        history=tuple(history),
        earlier=tuple(at.verdicts if counts == UNFINISHED else at.verdicts[:-1]),
        probes=tuple(audit.probes),
        moves=moves(at.before, audit) if at.before is not None else (),
    )


def _limits(audits: Sequence[Audited]) -> tuple[str, ...]:
    if not audits:
        return ()
    limits = [
        "An audit is a lower bound: it shows what one attack did not find, and never that there is nothing to find.",
        "Audits later than those in the bundle would be in the log, not here: see certify audit due.",
        "An auditor could have tried seeds before logging a plan: that the seed was drawn fairly is the auditor's word.",
    ]
    for audit in audits:
        if audit.stale:
            limits.append(f"The audit by {audit.auditor} is stale: it ended {audit.age_days} days ago.")
        limits += [f"Not tested by {audit.auditor}: {what}" for what in audit.untested]
    if any(audit.probes for audit in audits):
        limits.append(
            "Probes beside a verdict decide nothing, and none of them shows that a model forgot: certify audit show and the "
            "report say what each leaves open."
        )
    return tuple(limits)
