"""Replays as the verifier sees them: what counts, what grade they give, what is said of them."""

from dataclasses import replace as copy

import pytest

from certify.errors import FailedReplayError, StatementError, TrustError
from certify.statement import Replay, Statement, Tree
from certify.trust import Trust, format_trust
from certify.verifier import Report, verify
from tests.audit_cases import Auditor
from tests.audit_cases import trust as audit_trust
from tests.cases import LATER, NOW, POST, Case, day, usual_case
from tests.replay_cases import METHOD, RECIPE, failed_case, key, replay, replayed_case, say, trust


def check(case: Case, beliefs: Trust | None = None, **how: bool) -> Report:
    return verify(case.data(), beliefs or trust(case), now=NOW, **how)


def test_identical_replay_is_a_grade() -> None:
    report = check(replayed_case())
    assert report.grade == "replayed"
    assert str(report.replays[0]) == "identical by Example Replays (entry 4)"
    assert "ran the recipe" in " ".join(report.steps[7].established)
    assert report.steps[9].established == (
        "replayed: a named party ran the recipe again and got bit-identical weights",
        "replayed: identical by Example Replays (entry 4)",
    )
    limits = " ".join(report.limits)
    assert "does not just carry the weights along" in limits
    assert "no proof and no replay shows it" not in limits


def test_replay_by_somebody_unknown_counts_for_nothing() -> None:
    for case in (replayed_case(), failed_case()):
        report = check(case, case.trust())
        assert (report.grade, report.replays) == ("attested", ())
        assert "it counts for nothing" in " ".join(report.steps[7].established)
        assert "no proof and no replay shows it" in " ".join(report.limits)


def test_failed_replay_is_refused_with_what_may_be_why() -> None:
    case = failed_case(not_pinned=["cpu was A, is B"])
    with pytest.raises(FailedReplayError, match=r"FAILED REPLAY: Example Replays .* cpu was A, is B") as caught:
        check(case)
    assert (caught.value.step, caught.value.exit_code) == (8, 61)
    assert len(caught.value.passed) == 7


def test_failed_replay_can_be_looked_at() -> None:
    report = check(failed_case(), allow_failed_replay=True)
    assert report.grade == "attested"
    assert str(report.replays[0]) == "different by Example Replays (entry 4), 1 tensors differ"
    assert report.replays[0].names == ("head",)


def test_last_replay_of_each_replayer_counts() -> None:
    case = failed_case()
    say(case, POST, day=26)
    report = check(case)
    assert report.grade == "replayed"
    assert str(report.replays[0]) == "identical by Example Replays (entry 5), after different"
    say(case, LATER, day=27)
    with pytest.raises(FailedReplayError):
        check(case)


def test_one_who_failed_outweighs_one_who_did_not() -> None:
    case = replayed_case()
    say(case, LATER, key("other"), day=26)
    both = trust(case, "replayer", "other")
    with pytest.raises(FailedReplayError, match="Example Replays other"):
        check(case, both)
    report = check(case, both, allow_failed_replay=True)
    assert report.grade == "attested" and len(report.replays) == 2


def test_what_the_replayer_could_not_check_is_said() -> None:
    case = usual_case()  # whose certificate names no recipe
    say(case, data=None, before="given", not_pinned=["torch was 2.8, is 2.9"])
    limits = " ".join(check(case).limits)
    assert "does not name the recipe" in limits
    assert "did not check that the data" in limits
    assert "was given the weights to start from" in limits
    assert "torch was 2.8, is 2.9" in limits
    assert check(replayed_case(unchecked=2)).replays[0].unchecked == 2
    assert "could not check 2 of the records" in " ".join(check(replayed_case(unchecked=2)).limits)
    assert "does not name the recipe" not in " ".join(check(replayed_case()).limits)


def test_audit_and_replay_stand_side_by_side() -> None:
    case = usual_case(method=METHOD)
    Auditor(case).whole()
    say(case)
    report = check(case, copy(audit_trust(case), replayers=trust(case).replayers))
    assert report.grade == "replayed"
    assert [line.split(":")[0] for line in report.steps[9].established] == ["replayed", "audited", "replayed"]


def test_trust_file_names_replayers() -> None:
    case = replayed_case()
    own = case.trust()
    text = format_trust(own.logs, own.issuers)
    table = f'\n[[replayer]]\nname = "R"\npublic_key = """\n{key().public.pem()}"""\nnot_after = 2027-01-01T00:00:00Z\n'
    parsed = Trust.parse((text + table).encode())
    assert parsed.replayers[0].not_after is not None
    assert check(case, parsed).replays[0].replayer == "R"
    with pytest.raises(TrustError, match="replayer twice"):
        Trust.parse((text + table + table).encode())
    issuers = table.replace(key().public.pem(), case.operator.key.public.pem())
    with pytest.raises(TrustError, match="issuer's key as a replayer's"):
        Trust.parse((text + issuers).encode())


def test_key_of_a_replayer_has_its_time() -> None:
    from certify.errors import KeyValidityError

    case = replayed_case()
    for window in ({"not_before": day(26)}, {"not_after": day(24)}, {"revoked": day(25)}):
        with pytest.raises(KeyValidityError):
            check(case, trust(case, **window))


def test_statement_that_contradicts_itself_is_none() -> None:
    certificate = usual_case().say(replay(usual_case().say(_any())))
    for changes, why in (
        ({"differing": 1}, "identical with 1"),
        ({"outcome": "different"}, "different with 0"),
        ({"names": ["head"]}, "1 of them by name"),
        ({"data": None, "unchecked": 1}, "more records that were not checked"),
        ({"data": Tree("ab" * 32, 3), "unchecked": 4}, "more records that were not checked"),
    ):
        with pytest.raises(StatementError, match=why):
            replay(certificate, **changes).payload()


def _any() -> Statement:
    from tests.cases import training

    return training()


def test_statement_survives_writing_and_reading() -> None:
    certificate = usual_case().say(_any())
    statement = replay(certificate, LATER, not_pinned=["threads was 2, is 4"])
    read = Statement.parse(statement.payload())
    assert read == statement and read.kind == "replay"
    assert isinstance(read.predicate, Replay) and read.predicate.recipe == RECIPE


def test_monitor_counts_replays_by_those_it_knows() -> None:
    from certify.monitoring import Statements
    from ledger.monitor import Finding
    from tests.cases import ORIGIN

    case = failed_case()
    say(case, by=key("stranger"), day=26)
    findings: list[Finding] = []
    with Statements(trust(case), ORIGIN, report=findings.append, clock=lambda: NOW, workers=1) as statements:
        statements.begin(0)
        statements.look(0, case.entries[1:])
        statements.keep()
        summary = statements.summary()
    assert summary.kinds["replay"] == 1 and summary.unknown == 1
    assert not [finding for finding in findings if finding.kind == "statement"]
