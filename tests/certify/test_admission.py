"""Who may append what: only statements for this log, by an issuer that the token is for."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from certify import admission, tokens
from certify.admission import Admission
from certify.envelope import Envelope, sign
from certify.errors import WorkspaceError
from certify.keys import SigningKey
from certify.statement import Statement
from certify.trust import Trust, TrustedIssuer, TrustedLog, format_trust
from ledger.errors import AdmissionError, StorageError, TokenError
from tests.cases import ORIGIN, operator, request, revocation, rotation, training

OURS = operator()
THEIRS = operator("Partner")


class Gate:
    """A ledger's two files, and an admission that looks at them each time."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self.tokens, self.trust = folder / "tokens.toml", folder / "trust.toml"
        self.write_trust()
        self.ours = tokens.add(self.tokens, "ours", issuers=["Clinic"])
        self.theirs = tokens.add(self.tokens, "theirs", keys=[THEIRS.key.public])
        self.admit = Admission(self.tokens, self.trust, ORIGIN, clock)

    def write_trust(self, **window: datetime) -> None:
        log = TrustedLog(ORIGIN, OURS.log_key.verifier_keys)
        self.trust.write_text(format_trust([log], [TrustedIssuer("Clinic", OURS.key.public, **window)]))

    def check(self, token: str | None, entry: bytes) -> None:
        self.admit(token).check(entry)


@pytest.fixture
def now() -> list[float]:
    return [datetime(2026, 6, 1, tzinfo=UTC).timestamp()]


@pytest.fixture
def gate(tmp_path: Path, now: list[float], monkeypatch: pytest.MonkeyPatch) -> Gate:
    monkeypatch.setattr(admission, "LOOK_EVERY", 0)
    return Gate(tmp_path, lambda: now[0])


def signed(statement: Statement, *keys: SigningKey) -> bytes:
    return sign(statement.payload(), keys or [OURS.key]).data


def edited(entry: bytes, **fields: Any) -> bytes:
    return json.dumps(json.loads(entry) | fields).encode()


def test_statements_of_the_tokens_issuer_are_admitted(gate: Gate) -> None:
    for statement in (training(), request(), revocation(OURS.key)):
        gate.check(gate.ours, signed(statement))
    gate.check(gate.theirs, signed(training(), THEIRS.key))


def test_issuer_using_anothers_token_is_refused(gate: Gate) -> None:
    with pytest.raises(AdmissionError, match="'theirs' is not for who signed this"):
        gate.check(gate.theirs, signed(training()))
    with pytest.raises(AdmissionError, match="'ours' is not for who signed this"):
        gate.check(gate.ours, signed(training(), THEIRS.key))
    with pytest.raises(AdmissionError, match="is not for who signed this"):
        gate.check(gate.ours, signed(training(), OURS.key, THEIRS.key))  # each signature counts


def test_what_is_not_a_signed_statement_is_refused(gate: Gate) -> None:
    good = signed(training())
    fields = json.loads(good)
    other = json.loads(signed(request()))
    for bad in (
        b"",
        b"{}",
        b"\xff" * 100,
        b"[" * 60_000,
        good[:-1],
        good + b" " * 70_000,
        edited(good, signatures=[]),
        edited(good, extra=1),
        edited(good, payloadType="text/plain"),
        edited(good, payload=other["payload"]),
        edited(good, signatures=other["signatures"]),
        edited(good, signatures=[fields["signatures"][0], fields["signatures"][0]]),
        sign(b'{"_type":"https://in-toto.io/Statement/v1"}', [OURS.key]).data,
        sign(training().payload() + b" ", [OURS.key]).data,
    ):
        with pytest.raises(AdmissionError):
            gate.check(gate.ours, bad)


def test_statement_made_for_another_log_is_refused(gate: Gate) -> None:
    with pytest.raises(AdmissionError, match=r"made for the log 'example\.com/other'"):
        gate.check(gate.ours, signed(training(log="example.com/other")))


def test_no_token_and_unknown_ones_are_refused(gate: Gate) -> None:
    for token in (None, "", "x", gate.ours + "x", gate.ours[:-1], tokens.digest(gate.ours)):
        with pytest.raises(TokenError):
            gate.admit(token)


def test_revoked_token_is_refused_while_the_server_runs(gate: Gate) -> None:
    gate.admit(gate.ours)
    tokens.revoke(gate.tokens, "ours")
    with pytest.raises(TokenError, match="revoked"):
        gate.admit(gate.ours)
    gate.admit(gate.theirs)


def test_token_ends_when_it_should(gate: Gate, now: list[float]) -> None:
    token = tokens.add(gate.tokens, "short", issuers=["Clinic"], not_after=datetime(2026, 6, 2, tzinfo=UTC))
    gate.check(token, signed(training()))
    now[0] += 2 * 86_400
    with pytest.raises(TokenError, match="expired on 2026-06-02T00:00:00Z"):
        gate.admit(token)


@pytest.mark.parametrize("field", ("not_after", "revoked"))
def test_key_that_trust_no_longer_counts_is_refused(gate: Gate, field: str) -> None:
    gate.write_trust(**{field: datetime(2026, 5, 1, tzinfo=UTC)})
    with pytest.raises(AdmissionError):
        gate.check(gate.ours, signed(training()))


def test_files_that_cannot_be_read_refuse_everything(gate: Gate) -> None:
    gate.admit(gate.ours)
    good = gate.tokens.read_bytes()
    for bad in (b"version = 2\n", b"nonsense", good + b"\n[[token]]\nname = 'x'\n", good + good.partition(b"1\n")[2]):
        gate.tokens.write_bytes(bad)
        with pytest.raises(StorageError, match="cannot tell who may append"):
            gate.admit(gate.ours)
    gate.tokens.write_bytes(good)
    gate.admit(gate.ours)
    gate.trust.unlink()
    with pytest.raises(StorageError):
        gate.admit(gate.ours)


def test_rotation_takes_the_token_along(gate: Gate) -> None:
    heir = SigningKey.generate("ed25519")
    with pytest.raises(AdmissionError):
        gate.check(gate.ours, signed(training(), heir))
    gate.check(gate.ours, signed(rotation(OURS.key, heir), OURS.key, heir))
    gate.check(gate.ours, signed(training(), heir))
    third = SigningKey.generate()
    gate.check(gate.ours, signed(rotation(heir, third), heir, third))
    gate.check(gate.ours, signed(training(), third))
    with pytest.raises(AdmissionError):
        gate.check(gate.theirs, signed(training(), heir))
    assert trust_is_unchanged(gate)


def trust_is_unchanged(gate: Gate) -> bool:
    return [issuer.key for issuer in Trust.load(gate.trust).issuers] == [OURS.key.public]


def test_rotation_that_is_not_the_owners_takes_nothing_along(gate: Gate) -> None:
    heir = SigningKey.generate()
    for entry in (
        signed(rotation(OURS.key, heir), heir),
        signed(rotation(OURS.key, heir), OURS.key),
        signed(rotation(OURS.key, heir), heir, OURS.key),
        signed(rotation(THEIRS.key, heir), OURS.key, heir),
        signed(rotation(OURS.key, heir), THEIRS.key, heir),
        signed(revocation(THEIRS.key), OURS.key),
        signed(rotation(OURS.key, heir, log="example.com/other"), OURS.key, heir),
    ):
        with pytest.raises(AdmissionError):
            gate.check(gate.ours, entry)
        with pytest.raises(AdmissionError):
            gate.check(gate.ours, signed(training(), heir))


def test_a_token_takes_only_so_many_keys(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MAX_KEYS", 3)
    for number in range(4):
        heir = SigningKey.generate("ed25519")
        entry = signed(rotation(OURS.key, heir), OURS.key, heir)
        if number < 3:
            gate.check(gate.ours, entry)
        else:
            with pytest.raises(AdmissionError, match="3 keys already"):
                gate.check(gate.ours, entry)


def test_tokens_are_random_long_and_kept_as_hashes(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    made = [tokens.add(path, f"token {number}", issuers=["Clinic"]) for number in range(5)]
    assert len(set(made)) == 5 and all(len(token) == 48 and token.startswith("ulog_") for token in made)
    text = path.read_text()
    assert not any(token in text or token[5:] in text for token in made)
    with pytest.raises(WorkspaceError, match="already"):
        tokens.add(path, "token 1", issuers=["Clinic"])
    with pytest.raises(WorkspaceError, match="no token"):
        tokens.revoke(path, "token 9")


def test_file_says_what_was_put_in_whatever_the_name(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    until = datetime(2027, 1, 1, tzinfo=UTC)
    for name in ('quo"te', "new\nline", "umläut \\", "]"):
        tokens.add(path, name, issuers=["Clinic", name], keys=[OURS.key.public, THEIRS.key.public], not_after=until)
    known = tokens.load(path)
    assert [one.name for one in known] == ['quo"te', "new\nline", "umläut \\", "]"]
    assert all(one.keys == (OURS.key.public, THEIRS.key.public) and one.not_after == until for one in known)


def test_edits_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    path = tmp_path / "tokens.toml"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: tokens.add(path, f"{number}", issuers=["Clinic"]), range(24)))
    assert {one.name for one in tokens.load(path)} == {str(number) for number in range(24)}


def test_changes_are_noticed_soon(tmp_path: Path) -> None:
    """With the real interval between looks."""
    gate = Gate(tmp_path, time.time)
    gate.admit(gate.ours)
    tokens.revoke(gate.tokens, "ours")
    end = time.monotonic() + 10
    while True:
        try:
            gate.admit(gate.ours)
        except TokenError:
            break
        assert time.monotonic() < end
        time.sleep(0.01)


def test_envelope_is_checked_as_it_came(gate: Gate) -> None:
    """Spaces make another entry, which is as valid: the log keeps bytes."""
    entry = signed(training())
    spaced = json.dumps(json.loads(entry)).encode()
    assert Envelope.parse(spaced).payload == Envelope.parse(entry).payload and spaced != entry
    gate.check(gate.ours, spaced)
