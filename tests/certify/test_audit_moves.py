"""What changed since the last audit, and what of it counts as worse."""

from dataclasses import replace as copy
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from certify.audit import verdict
from certify.audit.verdict import Estimate
from certify.audit_moves import Move, moves
from certify.audit_probes import Probe
from certify.audit_terms import Figures
from certify.auditing import audit_before
from certify.cli import cli
from certify.envelope import Envelope
from certify.errors import InputError, VerificationError
from certify.statement import Audit, AuditData, Statement
from certify.trust import format_trust
from certify.verifier import verify
from certify.workspace import Logged
from tests.audit_cases import FAILED, HELD_OUT, PASSED, Auditor, around, audited_case, key, probe, trust
from tests.cases import LATER, NOW, POST, TREE, Case, request, run, stamp, usual_case
from tests.reports import read


def audit(found: verdict.Figures = PASSED, probes: list[Probe] | None = None, **changes: Any) -> Audit:
    said = Statement.parse(Envelope.parse(audited_case(found).entries[-1]).payload).predicate
    assert isinstance(said, Audit)
    return replace(said, figures=Figures.of(found), probes=probes or [], **changes)


def told(before: Audit, after: Audit) -> dict[str, Move]:
    return {move.what: move for move in moves(before, after)}


def test_nothing_changed() -> None:
    found = moves(audit(), audit())
    assert not any(move.worse for move in found)
    assert [str(move) for move in found] == [
        "verdict: still PASS",
        "AUC less the retrained models': still +0.000 (-0.040 to +0.040)",
        "lower bound of ε: still 0.00",
        "accuracy on retained records: still 90.0 %",
        "accuracy on test records: still 90.0 %",
    ]


@pytest.mark.parametrize(
    ("difference", "worse"), [(0.03, False), (0.08, False), (0.081, True), (0.3, True), (-0.3, False)]
)
def test_differences_are_worse_only_where_intervals_are_apart(difference: float, worse: bool) -> None:
    found = told(audit(), audit(copy(PASSED, difference=around(difference))))["AUC less the retrained models'"]
    assert found.worse == worse
    assert str(found).endswith("worse, beyond both intervals: more is given away") == worse


@pytest.mark.parametrize(
    ("was", "is_", "alarms", "worse"),
    [(0.0, 0.9, 2, False), (0.0, 1.7, 2, True), (2.0, 1.7, 2, False), (0.0, 9.0, 0, False)],
    ids=["below what was counted", "above it", "less than before", "nothing was counted"],
)
def test_bounds_are_worse_only_above_what_was_counted(was: float, is_: float, alarms: int, worse: bool) -> None:
    """10 of 50 found with 2 of 50 false alarms: ln 5 = 1.61."""

    def with_bound(lower: float, alarms: int = 2) -> Audit:
        bound = copy(PASSED.unlearned.epsilon, lower=lower, false_alarms=alarms)
        return audit(copy(PASSED, unlearned=copy(PASSED.unlearned, epsilon=bound)))

    assert told(with_bound(was, alarms), with_bound(is_))["lower bound of ε"].worse == worse


def test_utility_is_worse_only_beyond_chance() -> None:
    """Of 8 training records 6 are retained: on so few, only a collapse is worse. How many test records there are is not known."""

    def with_accuracy(share: float) -> Audit:
        utility = copy(PASSED.unlearned.utility, retain=share, test=share)
        return audit(copy(PASSED, unlearned=copy(PASSED.unlearned, utility=utility)))

    for now, retained, test in ((0.895, False, False), (0.85, False, True), (0.3, True, True), (0.99, False, False)):
        found = told(audit(), with_accuracy(now))
        assert found["accuracy on retained records"].worse == retained, now
        assert found["accuracy on test records"].worse == test, now


def test_probes_that_both_have_are_compared() -> None:
    before = audit(probes=[probe("canaries"), probe("population", value=0.1), probe("relearn")])
    rise = {"difference": 0.5, "difference_low": 0.4, "difference_high": 0.6}
    after = audit(probes=[probe("canaries", epsilon=0.4), probe("population", value=0.1, **rise), probe("ulira")])
    found = told(before, after)
    assert found["population, difference"].worse and not found["population, rmia-difference"].worse
    assert found["canaries, lower bound of ε"].worse
    assert not any(what.startswith(("relearn", "ulira")) for what in found)
    assert not told(after, before)["canaries, lower bound of ε"].worse


def test_attempts_without_figures_are_not_compared() -> None:
    with pytest.raises(InputError, match="only finished audits"):
        moves(audit(), replace(audit(), figures=None))


def test_a_pass_lost_is_worse_whatever_the_figures() -> None:
    found = told(audit(), audit(FAILED))
    assert str(found["verdict"]) == "verdict: PASS -> FAIL, worse"
    assert not told(audit(FAILED), audit())["verdict"].worse


def two_certificates() -> tuple[Case, Auditor]:
    """An audit of a certificate, then another certificate that follows it, and its audit."""
    case = audited_case()
    first = Envelope.parse(case.entries[3])
    asked = case.say(request((2,), received=stamp(41), due=stamp(60)))
    case.models = (*case.models, LATER)
    case.certify(first, asked, positions=(2,), gone=(1, 4), pre=POST, post=LATER, run=run(49, 50))
    later = Auditor(case, certificate=Envelope.parse(case.entries[-1]))
    later.plan(day=51, data=AuditData(TREE, later.removed, HELD_OUT))
    later.start(52, data=AuditData(TREE, later.removed, HELD_OUT))
    worse = copy(PASSED, difference=around(0.085, 0.004), forgotten=1, examples=PASSED.examples[:1])
    later.finish(worse, 53, data=AuditData(TREE, later.removed, HELD_OUT))
    return case, later


def test_an_audit_is_compared_with_the_parents_where_it_is_the_first() -> None:
    case, later = two_certificates()
    envelopes = [Envelope.parse(entry) for entry in case.entries[1:]]
    logged = [Logged(i, each, Statement.parse(each.payload)) for i, each in enumerate(envelopes, 1)]
    ours = [later.key.public]
    before = audit_before(logged, logged[-1], ours)
    assert before is not None and before.index == 6
    assert audit_before(logged, logged[5], ours) is None
    assert audit_before(logged, logged[-1], [key("somebody").public]) is None
    later.start(54, data=AuditData(TREE, later.removed, HELD_OUT))
    again = Envelope.parse(case.entries[-1])
    more = [*logged, Logged(len(case.entries) - 1, again, Statement.parse(again.payload))]
    assert audit_before(more, more[-1], ours) == logged[-1]


def test_the_report_compares_with_the_bundle_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case, _ = two_certificates()
    earlier = audited_case()
    (tmp_path / "before.bundle").write_bytes(copy(case, **first_only(case)).data())
    case.shown = [index for index in case.shown if index not in (4, 5, 6)]
    (tmp_path / "case.bundle").write_bytes(case.data())
    auditor = f'\n[[auditor]]\nname = "Example Audits"\npublic_key = """\n{key().public.pem()}"""\n'
    (tmp_path / "trust.toml").write_text(format_trust(case.trust().logs, case.trust().issuers) + auditor)
    monkeypatch.chdir(tmp_path)
    known = ["report", "case.bundle", "-t", "trust.toml", "--at", "2026-04-11T00:00:00Z"]
    cli.main([*known, "--before", "before.bundle"], standalone_mode=False)
    seen = read((tmp_path / "case.html").read_text()).seen
    assert "Since the audit by Example Audits before this one" in seen and "worse than before" in seen
    assert (
        "AUC less the retrained models' +0.000 (-0.040 to +0.040) +0.085 (+0.081 to +0.089) worse: beyond both" in seen
    )
    cli.main(known, standalone_mode=False)
    assert "Since the audit by" not in read((tmp_path / "case.html").read_text()).seen
    with pytest.raises(InputError, match="that this case's followed"):
        cli.main([*known, "--before", "case.bundle", "-o", "other.html"], standalone_mode=False)
    (tmp_path / "stranger.bundle").write_bytes(earlier.data())
    with pytest.raises((InputError, VerificationError)):
        cli.main([*known, "--before", "stranger.bundle"], standalone_mode=False)


def first_only(case: Case) -> dict[str, Any]:
    """The case as it was before the second certificate."""
    first = Envelope.parse(case.entries[3]).digest
    return {"shown": [1, 2, 3, 4, 5, 6], "models": case.models[:-1], "removed": {first: case.removed[first]}}


def test_the_verifier_tells_what_changed() -> None:
    """Two audits of one certificate: the second stays a PASS and gives more away than the first."""
    case = usual_case()
    auditor = Auditor(case)
    auditor.whole(copy(PASSED, difference=Estimate(-0.05, -0.08, -0.02)))
    auditor.start(26)
    auditor.finish(copy(PASSED, difference=Estimate(0.02, -0.01, 0.05)), 27)
    [found] = verify(case.data(), trust(case), now=NOW).audits
    assert [move.what for move in found.moves if move.worse] == ["AUC less the retrained models'"]
    assert found.beside[0].startswith("since the audit before: AUC less the retrained models': -0.050")
    assert verify(audited_case().data(), trust(audited_case()), now=NOW).audits[0].moves == ()
