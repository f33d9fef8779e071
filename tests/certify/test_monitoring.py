"""What a monitor says of the statements in a log: signatures, keys, order, requests that nobody answered."""

from collections.abc import Iterator, Sequence
from dataclasses import replace as replace_trust
from datetime import datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from certify import monitoring
from certify.envelope import Envelope, sign
from certify.errors import WorkspaceError
from certify.keys import SigningKey
from certify.monitoring import Statements
from certify.statement import Statement
from certify.trust import Trust, TrustedAuditor, TrustedIssuer
from ledger.monitor import Finding
from tests.cases import (
    NOW,
    ORIGIN,
    POST,
    PRE,
    Case,
    certificate,
    day,
    key_record,
    model,
    operator,
    request,
    revocation,
    rotation,
    run,
    stamp,
    training,
    usual_case,
)


def look(
    entries: Sequence[bytes],
    trust: Trust,
    *,
    place: Path | None = None,
    first: int = 0,
    now: datetime = NOW,
    workers: int = 1,
    steps: int = 256,
) -> tuple[list[Finding], monitoring.Summary]:
    """Look at ``entries[first:]`` as a monitor does."""
    findings: list[Finding] = []
    with Statements(
        trust, ORIGIN, place=place, report=findings.append, clock=lambda: now, workers=workers
    ) as statements:
        statements.begin(first)
        for index in range(first, len(entries), steps):
            statements.look(index, entries[index : index + steps])
        statements.keep()
        findings += statements.overdue()
        return findings, statements.summary()


def found(case: Case, **options: object) -> list[str]:
    findings, _ = look(case.entries[1:], case.trust(), **options)  # type: ignore[arg-type]
    return [f"{finding.kind} {finding.line()}" for finding in findings]


def case_of(*statements: Statement) -> Case:
    case = Case()
    for statement in statements:
        case.say(statement)
    return case


def test_a_usual_case_has_nothing_to_find() -> None:
    case = usual_case()
    findings, summary = look(case.entries[1:], case.trust())
    assert findings == []
    assert summary == monitoring.Summary({"training": 1, "request": 1, "unlearning": 1}, 0, 0, 0, 0)


def test_an_entry_that_is_no_statement_is_counted() -> None:
    case = usual_case()
    findings, summary = look(case.entries, case.trust())
    assert [finding.kind for finding in findings] == ["note"] and findings[0].index == 0
    assert (summary.other, summary.kinds["unlearning"]) == (1, 1)


def test_requests_that_nobody_answered_in_time_are_overdue() -> None:
    case = case_of(training(), request(), request((2,), due=stamp(90)))
    assert look(case.entries[1:], case.trust(), now=day(39))[1].overdue == 0
    findings, summary = look(case.entries[1:], case.trust(), now=day(41))
    assert [(finding.kind, finding.index) for finding in findings] == [("overdue", 1)]
    assert (summary.unanswered, summary.overdue) == (2, 1)


def test_an_answer_after_the_due_date_is_late() -> None:
    lines = found(usual_case(run=run(50, 51)))
    assert len(lines) == 1 and lines[0].startswith(
        "overdue entry 2: it answers the request at entry 1 after it was due"
    )


# -- attacks by an issuer, or by somebody who gets entries into the log --------------------------------------------------


def test_statements_signed_by_nobody_trusted_are_told_and_answer_nothing() -> None:
    stranger = SigningKey.generate()
    case = Case()
    trained, asked = case.say(training()), case.say(request())
    case.log(case.sign(certificate(trained, asked), stranger))
    findings, summary = look(case.entries[1:], case.trust(), now=day(35))
    assert [(finding.kind, finding.index) for finding in findings] == [("note", 2)]
    assert (summary.unknown, summary.unanswered, summary.kinds) == (1, 1, {"training": 1, "request": 1})


def test_an_auditor_is_no_issuer() -> None:
    """Their key is known, but for other statements."""
    auditor = SigningKey.generate()
    case = Case()
    case.say(request(), auditor)
    trust = replace_trust(case.trust(), auditors=(TrustedAuditor("Audits", auditor.public),))
    findings, summary = look(case.entries[1:], trust)
    assert [(finding.kind, finding.index) for finding in findings] == [("note", 0)]
    assert (summary.unknown, summary.kinds) == (1, {})


def test_a_flood_by_strangers_is_counted_not_listed() -> None:
    stranger = SigningKey.generate("ed25519")
    entries = [sign(request(due=stamp(40 + i)).payload(), [stranger]).data for i in range(50)]
    findings, summary = look(entries, Case().trust())
    assert len(findings) == monitoring.MAX_MENTIONS + 1 and summary.unknown == 50
    assert {finding.kind for finding in findings} == {"note"}


def wrong_signature() -> Case:
    case = case_of(training())
    envelope = case.sign(request())
    other = case.sign(request((2,)))
    case.log(Envelope.parse(envelope.data.replace(_sig(envelope.data), _sig(other.data))))
    return case


def _sig(data: bytes) -> bytes:
    return data.partition(b'"sig":"')[2].partition(b'"')[0]


def no_statement() -> Case:
    case = Case()
    case.log(sign(b'{"not":"a statement"}', [case.operator.key]))
    return case


def repeated() -> Case:
    case = case_of(training())
    case.entries.append(case.entries[1])
    return case


def before(change: Statement, then: Statement) -> Case:
    return case_of(training(), change, then)


def other_model() -> Case:
    case = Case()
    trained, asked = case.say(training(POST)), case.say(request())
    case.certify(trained, asked)
    return case


def two_issuers() -> Case:
    case = Case()
    trained, asked = case.say(training()), case.say(request())
    case.log(case.sign(certificate(trained, asked), operator("Other").key))
    return case


def certificate_first() -> Case:
    case = Case()
    trained, asked = case.sign(training()), case.sign(request())
    for envelope in (asked, trained):
        case.log(envelope)
    case.certify(trained, asked)
    return case


def unlogged(which: str) -> Case:
    case = Case()
    trained, asked = case.sign(training()), case.sign(request())
    case.log(trained if which == "request" else asked)
    case.certify(trained, asked)
    return case


KEY = operator().key
WRONG = {
    "signature of another statement": (wrong_signature, "entry 1: statement"),
    "signed, and no statement": (no_statement, "entry 0: a trusted issuer signed it, and it is no statement"),
    "the same bytes twice": (repeated, "entry 1: the same bytes as entry 0"),
    "made for another log": (lambda: case_of(training(log="example.com/another")), "entry 0: it is made for log"),
    "dated in the future": (lambda: case_of(training(run=run(200, 201))), "entry 0: entry 0 is dated"),
    "by a revoked key": (lambda: before(revocation(KEY), request()), "entry 2: entry 2 is signed by key"),
    "request not logged": (lambda: unlogged("request"), "entry 1: it answers"),
    "training not logged": (lambda: unlogged("training"), "entry 1: it goes on from"),
    "request logged before the training": (certificate_first, "entry 2: its request, entry 0, is before its training"),
    "from another model": (other_model, "entry 2: it starts from another model than entry 0"),
    "started before the request came": (lambda: usual_case(run=run(5, 6)), "entry 2: it began before the request"),
    "started before training was finished": (lambda: usual_case(run=run(0, 12)), "entry 2: it states a start before"),
}


@pytest.mark.parametrize("name", WRONG)
def test_statements_that_break_the_rules_are_named(name: str) -> None:
    made, expected = WRONG[name]
    lines = found(made())
    assert any(line.startswith(f"statement {expected}") for line in lines), lines


def test_an_issuer_cannot_answer_for_another() -> None:
    case = two_issuers()
    trust = case.trust()
    other = TrustedIssuer("Other", operator("Other").key.public)
    trust = Trust(trust.logs, (*trust.issuers, other))
    findings, _ = look(case.entries[1:], trust)
    assert findings[0].text.startswith("it is by Other, and follows entry 0 by Clinic")


# -- keys --------------------------------------------------------------------------------------------------------------


def test_rotations_and_revocations_are_told() -> None:
    new = SigningKey.generate()
    case = case_of(training())
    case.say(rotation(KEY, new), KEY, new)
    case.say(request(), new)
    case.say(revocation(new, effective=stamp(12)), new)
    lines = found(case, now=day(30))
    assert [line.split()[2] for line in lines] == ["1:", "3:"] and all(line.startswith("note") for line in lines)
    assert "is rotated: scheduled" in lines[0] and "is revoked: compromised" in lines[1]


def test_keys_that_the_log_handed_over_are_known_after_a_restart(tmp_path: Path) -> None:
    new = SigningKey.generate()
    case = case_of(training())
    case.say(rotation(KEY, new), KEY, new)
    look(case.entries[1:], case.trust(), place=tmp_path / "notes", now=day(30))
    case.say(request(), new)
    case.say(request((2,)), KEY)
    findings, summary = look(case.entries[1:], case.trust(), place=tmp_path / "notes", first=2, now=day(30))
    assert [(finding.kind, finding.index) for finding in findings] == [("statement", 3)]
    assert summary.kinds["request"] == 1


# -- remembering -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", range(5))
def test_looking_again_from_anywhere_gives_the_same(stop: int, tmp_path: Path) -> None:
    case = usual_case()
    case.say(request((2,)))
    entries, place = case.entries[1:], tmp_path / "notes"
    look(entries, case.trust(), place=place)
    findings, summary = look(entries, case.trust(), place=place, first=stop)
    assert ([finding.kind for finding in findings], summary.unanswered) == (["overdue"], 1)
    assert summary.kinds == {"training": 1, "request": 2, "unlearning": 1}


def test_what_was_not_kept_is_not_remembered(tmp_path: Path) -> None:
    case = usual_case()
    with Statements(case.trust(), ORIGIN, place=tmp_path / "notes", clock=lambda: NOW) as statements:
        statements.begin(0)
        statements.look(0, case.entries[1:])
    assert look([], case.trust(), place=tmp_path / "notes")[1].kinds == {}


def test_a_certificate_of_what_came_before_the_monitor_began_is_only_mentioned() -> None:
    case = usual_case()
    findings, _ = look(case.entries[1:], case.trust(), first=2)
    assert [finding.kind for finding in findings] == ["note", "note"]
    assert "not among the entries from 2 on" in findings[0].text


def test_two_monitors_do_not_share_their_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "LOCK_TIMEOUT", 0.1)
    case = usual_case()
    with Statements(case.trust(), ORIGIN, place=tmp_path / "notes") as first:
        first.begin(0)
        with Statements(case.trust(), ORIGIN, place=tmp_path / "notes") as second:
            with pytest.raises(WorkspaceError, match="another monitor"):
                second.begin(0)


def test_notes_that_are_no_database_are_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "notes").write_bytes(b"not a database" * 100)
    with pytest.raises(WorkspaceError, match="cannot open"):
        Statements(Case().trust(), ORIGIN, place=tmp_path / "notes")


# -- many --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def many() -> Iterator[tuple[Case, SigningKey]]:
    """600 requests, half of them signed by a key that the log hands over to in the middle."""
    new = SigningKey.generate("ed25519")
    case = case_of(training())
    dues = iter(range(1000))
    for _ in range(300):
        case.say(request(due=format_due(next(dues))))
    case.say(rotation(KEY, new, successor=key_record(new)), KEY, new)
    for _ in range(300):
        case.say(request(due=format_due(next(dues))), new)
    yield case, new


def format_due(number: int) -> str:
    return stamp(40 + number)


def test_other_processes_find_the_same(many: tuple[Case, SigningKey], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "POOL_FROM", 0)
    case, _ = many
    entries = [*case.entries[1:], wrong_signature().entries[2], b"nonsense"]
    alone = look(entries, case.trust(), steps=100)
    helped = look(entries, case.trust(), steps=100, workers=2)
    assert helped == alone
    assert alone[1].kinds == {"training": 1, "request": 600, "key": 1}


def test_a_model_is_told_apart_by_more_than_its_root() -> None:
    smaller = replace(model(PRE), bytes="1")
    lines = found(usual_case(pre=PRE, says_training=lambda: training(model=smaller)))
    assert any("starts from another model" in line for line in lines)
