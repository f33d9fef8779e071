"""``trust.toml``: parsed strictly, written so that it reads back the same."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.errors import TrustError
from certify.trust import Trust, TrustedIssuer, TrustedLog, format_trust
from ledger.log_key import LogKey
from ledger.policy import Policy
from tests.cases import Witness, day, operator

CLINIC, OTHER = operator(post_quantum=True), operator("Other", algorithm="ed25519", origin="other.example/log")
WITNESSES = [Witness("witness.example/a"), Witness("witness.example/b")]
LOGS = [TrustedLog(o.log_key.name, o.log_key.verifier_keys) for o in (CLINIC, OTHER)]
ISSUERS = [
    TrustedIssuer("Clinic", CLINIC.key.public, day(0), day(365), day(200)),
    TrustedIssuer('Other "\\\n\t\x00\x7fé\N{SNOWMAN}', OTHER.key.public),
]
TEXT = format_trust(LOGS, ISSUERS)


def witnesses(quorum: Any, *keys: str) -> str:
    names = ", ".join(f'"{key}"' for key in keys)
    return f"{TEXT}\n[witnesses]\nquorum = {quorum}\nkeys = [{names}]\n"


KEYS = [witness.public.format() for witness in WITNESSES]


def test_what_is_written_reads_back() -> None:
    assert Trust.parse(TEXT.encode()) == Trust(tuple(LOGS), tuple(ISSUERS))


def test_witnesses_and_quorum() -> None:
    trust = Trust.parse(witnesses(2, *KEYS).encode())
    assert trust.quorum == 2
    assert trust.witnesses == tuple(witness.public for witness in WITNESSES)


POLICY = f"""
witness a {KEYS[0]}
witness b {KEYS[1]} https://b.example/
group both all a b
quorum both
"""


def by_policy(policy: str = POLICY, more: str = "") -> str:
    return f'{TEXT}\n[witnesses]\n{more}policy = """{policy}"""\n'


def test_a_policy_in_place_of_a_number() -> None:
    trust = Trust.parse(by_policy().encode())
    assert trust.witnessing == trust.policy == Policy.parse(POLICY.encode())
    assert (set(trust.witnesses), trust.quorum) == ({witness.public for witness in WITNESSES}, 0)
    flat = Trust.parse(witnesses(2, *KEYS).encode()).witnessing
    for cosigned in ([], ["witness.example/a"], ["witness.example/a", "witness.example/b"]):
        assert flat.satisfied(cosigned) == trust.witnessing.satisfied(cosigned) == (len(cosigned) == 2)
    assert Trust.parse(TEXT.encode()).witnessing.quorum is None
    assert Trust.parse(by_policy("quorum none\n").encode()).witnessing.quorum is None


def test_logs_in_a_policy_have_to_be_those_of_the_file() -> None:
    own = [f"log {log.keys[0].format()}" for log in LOGS]
    assert Trust.parse(by_policy("\n".join(["", *own, POLICY])).encode()).policy
    stranger = f"log {LogKey.generate('stranger.example').verifier_keys[0].format()}"
    for logs in (own[:1], [stranger], [*own, stranger]):
        with pytest.raises(TrustError, match="names other logs"):
            Trust.parse(by_policy("\n".join(["", *logs, POLICY])).encode())


def test_offsets_are_honoured() -> None:
    text = TEXT.replace("not_before = 2026-01-01T00:00:00Z", "not_before = 2026-01-01T02:00:00+02:00")
    assert text != TEXT
    assert Trust.parse(text.encode()).issuers[0].not_before == datetime(2026, 1, 1, tzinfo=UTC)


LOG_KEY = LOGS[0].keys[0].format()
REFUSED = {
    "empty": "",
    "not TOML": "version = ",
    "no version": TEXT.replace("version = 1", ""),
    "another version": TEXT.replace("version = 1", "version = 2"),
    "no log": format_trust([], ISSUERS),
    "no issuer": format_trust(LOGS, []),
    "empty log list": "version = 1\nlog = []\nissuer = []\n",
    "unknown field": TEXT.replace("version = 1", "version = 1\nallow_all = true"),
    "unknown field of an issuer": TEXT.replace("name =", "admin = true\nname =", 1),
    "log without keys": TEXT.replace(f'"{LOG_KEY}", ', "").replace(f'"{LOGS[0].keys[1].format()}"', ""),
    "log without Ed25519": TEXT.replace(f'"{LOG_KEY}", ', ""),
    "log with a key twice": TEXT.replace(f'"{LOG_KEY}"', f'"{LOG_KEY}", "{LOG_KEY}"'),
    "log with a witness's key": TEXT.replace(f'"{LOG_KEY}"', f'"{LOG_KEY}", "{KEYS[0]}"'),
    "log key with another id": TEXT.replace(LOGS[0].keys[0].key_id.hex(), "00000000"),
    "log key cut short": TEXT.replace(LOG_KEY, LOG_KEY[:-4]),
    "issuer's key twice": format_trust(LOGS, [ISSUERS[0], TrustedIssuer("Alias", CLINIC.key.public)]),
    "issuer with a private key": TEXT.replace("PUBLIC KEY", "PRIVATE KEY"),
    "issuer with no key": TEXT.replace(CLINIC.key.public.pem(), ""),
    "time without offset": TEXT.replace("2026-01-01T00:00:00Z", "2026-01-01T00:00:00"),
    "date": TEXT.replace("2026-01-01T00:00:00Z", "2026-01-01"),
    "time as text": TEXT.replace("2026-01-01T00:00:00Z", '"soon"'),
    "quorum of none": witnesses(0, *KEYS),
    "negative quorum": witnesses(-1, *KEYS),
    "quorum of more than there are": witnesses(3, *KEYS),
    "quorum of two by one witness twice": witnesses(2, KEYS[0], Witness("witness.example/a").public.format()),
    "quorum as text": witnesses('"1"', *KEYS),
    "quorum as a flag": witnesses("true", *KEYS),
    "no witness": witnesses(1),
    "log key as a witness": witnesses(1, LOG_KEY),
    "one witness's key under two names": witnesses(
        2, KEYS[0], Witness("alias.example", WITNESSES[0].key).public.format()
    ),
    "neither number nor policy": TEXT + "\n[witnesses]\n",
    "number without keys": TEXT + "\n[witnesses]\nquorum = 1\n",
    "keys without number": TEXT + f'\n[witnesses]\nkeys = ["{KEYS[0]}"]\n',
    "number and policy": by_policy(more="quorum = 1\n"),
    "keys and policy": by_policy(more=f'keys = ["{KEYS[0]}"]\n'),
    "policy without quorum": by_policy(POLICY.replace("quorum both", "")),
    "policy that counts a witness twice": by_policy(POLICY.replace("all a b", "all a a")),
    "policy that ends early": by_policy(POLICY.rstrip()),
    "policy as a list": TEXT + "\n[witnesses]\npolicy = []\n",
    "oversized": TEXT + "#" * (1 << 20),
    "deep nesting": "x = " + "[" * 100_000,
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_malformed_trust_is_refused(text: str) -> None:
    with pytest.raises(TrustError):
        Trust.parse(text.encode())


def test_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(TrustError, match="the trust file: cannot read"):
        Trust.load(tmp_path / "trust.toml")
    (tmp_path / "trust.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(TrustError):
        Trust.load(tmp_path / "trust.toml")


names = st.text(st.characters(codec="utf-8"), max_size=30)
times = st.none() | st.datetimes(datetime(1000, 1, 1), datetime(9998, 1, 1)).map(
    lambda t: t.replace(microsecond=0, tzinfo=UTC)
)


@given(names, times, times, times)
def test_any_issuer_survives(
    name: str, first: datetime | None, last: datetime | None, revoked: datetime | None
) -> None:
    issuer = TrustedIssuer(name, CLINIC.key.public, first, last, revoked)
    assert Trust.parse(format_trust(LOGS, [issuer]).encode()) == Trust(tuple(LOGS), (issuer,))


@given(st.binary(max_size=300))
def test_bytes_are_trust_or_an_error(data: bytes) -> None:
    with pytest.raises(TrustError):
        Trust.parse(data)


@given(st.integers(0, 100_000), st.binary(max_size=3), st.integers(0, 3))
def test_mutated_trust_is_trust_or_an_error(at: int, patch: bytes, skip: int) -> None:
    data = witnesses(1, *KEYS).encode()
    at %= len(data)
    try:
        trust = Trust.parse(data[:at] + patch + data[at + skip :])
    except TrustError:
        return
    assert trust.logs
    assert trust.issuers
    assert trust.quorum <= len(trust.witnesses)
