"""``trust.toml``: everything that a verifier believes. Nothing inside a bundle is ever a root of trust.

::

    version = 1

    [[log]]
    origin = "example.com/ledger"
    keys = ["example.com/ledger+0f3b…+AQ…"]          # all of them have to sign; several [[log]] tables are alternatives

    [[issuer]]
    name = "Example Clinic"
    public_key = \"\"\"-----BEGIN PUBLIC KEY-----…\"\"\"
    not_before = 2026-01-01T00:00:00Z                # optional, like not_after and revoked
    not_after = 2028-01-01T00:00:00Z

    [witnesses]                                      # optional
    quorum = 1
    keys = ["witness.example+…"]

    [[auditor]]                                      # optional: circuits that they built are accepted
    name = "Example Audits"
    public_key = \"\"\"-----BEGIN PUBLIC KEY-----…\"\"\"

    [[circuit]]                                      # optional: circuits that you have built yourself
    digest = "51c40e81…"                             # what 'certify circuit rebuild' prints

    [proofs]                                         # optional
    max_radius = 0.05                                # how far proven weights may be from the optimum
"""

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from certify.errors import InputError, StatementKeyError, TrustError
from certify.fields import Digest
from certify.inputs import read_file, write_file
from certify.keys import PublicKey
from ledger.errors import MalformedError
from ledger.note import COSIGNATURE_ED25519, COSIGNATURE_MLDSA44, ED25519, VerifierKey

MAX_TRUST_SIZE = 1 << 20
MAX_RADIUS = 0.05
"""How far proven weights may be from the optimum, where the trust file doesn't say."""


class _LogWire(msgspec.Struct, forbid_unknown_fields=True):
    origin: str
    keys: list[str]


class _IssuerWire(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    public_key: str
    not_before: datetime | None = None
    not_after: datetime | None = None
    revoked: datetime | None = None


class _WitnessWire(msgspec.Struct, forbid_unknown_fields=True):
    quorum: int
    keys: list[str]


class _AuditorWire(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    public_key: str


class _CircuitWire(msgspec.Struct, forbid_unknown_fields=True):
    digest: Digest
    name: str | None = None


class _ProofsWire(msgspec.Struct, forbid_unknown_fields=True):
    max_radius: float


class _TrustWire(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    log: list[_LogWire]
    issuer: list[_IssuerWire]
    witnesses: _WitnessWire | None = None
    auditor: list[_AuditorWire] = []
    circuit: list[_CircuitWire] = []
    proofs: _ProofsWire | None = None


@dataclass(frozen=True, slots=True)
class TrustedLog:
    """A log by its origin, with keys that must all sign."""

    origin: str
    keys: tuple[VerifierKey, ...]


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """An issuer's key, and when its signatures count."""

    name: str
    key: PublicKey
    not_before: datetime | None = None
    not_after: datetime | None = None
    revoked: datetime | None = None


@dataclass(frozen=True, slots=True)
class TrustedAuditor:
    """Somebody whose builds of circuits count."""

    name: str
    key: PublicKey


@dataclass(frozen=True, slots=True)
class Trust:
    """What ``trust.toml`` says. ``circuits``: digests of accepted descriptions. ``max_radius``: in units of the weights."""

    logs: tuple[TrustedLog, ...]
    issuers: tuple[TrustedIssuer, ...]
    witnesses: tuple[VerifierKey, ...] = ()
    quorum: int = 0
    auditors: tuple[TrustedAuditor, ...] = ()
    circuits: frozenset[str] = frozenset()
    max_radius: float = MAX_RADIUS

    @classmethod
    def load(cls, path: Path) -> "Trust":
        """Raises TrustError."""
        try:
            data = read_file(path, MAX_TRUST_SIZE)
        except InputError as error:
            raise TrustError(f"the trust file: {error}") from error
        return cls.parse(data)

    @classmethod
    def parse(cls, data: bytes) -> "Trust":
        if len(data) > MAX_TRUST_SIZE:
            raise TrustError(f"the trust file has {len(data):,} bytes, expected at most {MAX_TRUST_SIZE:,}")
        try:
            wire = msgspec.convert(tomllib.loads(data.decode()), type=_TrustWire)
        except (ValueError, RecursionError) as error:
            raise TrustError(f"the trust file is not as expected: {error}") from error
        if wire.version != 1:
            raise TrustError(f"the trust file has version {wire.version}, expected 1")
        try:
            logs = tuple(_log(log) for log in wire.log)
            issuers = tuple(_issuer(issuer) for issuer in wire.issuer)
            witnesses = tuple(VerifierKey.parse(key) for key in wire.witnesses.keys) if wire.witnesses else ()
            auditors = tuple(TrustedAuditor(item.name, PublicKey.from_pem(item.public_key)) for item in wire.auditor)
        except (MalformedError, StatementKeyError) as error:
            raise TrustError(f"a key in the trust file cannot be used: {error}") from error
        if not logs or not issuers:
            raise TrustError(
                f"the trust file names {len(logs)} logs and {len(issuers)} issuers, expected one of each at least"
            )
        keyids = [issuer.key.keyid for issuer in issuers] + [auditor.key.keyid for auditor in auditors]
        if len(set(keyids)) != len(keyids):
            raise TrustError("the trust file names the key of an issuer or an auditor twice")
        quorum = wire.witnesses.quorum if wire.witnesses else 0
        _check_witnesses(witnesses, quorum, wire.witnesses is not None)
        radius = wire.proofs.max_radius if wire.proofs else MAX_RADIUS
        if not 0 < radius < math.inf:
            raise TrustError(f"max_radius is {radius} in the trust file, expected a number above 0")
        return cls(logs, issuers, witnesses, quorum, auditors, frozenset(item.digest for item in wire.circuit), radius)


def _log(wire: _LogWire) -> TrustedLog:
    keys = tuple(VerifierKey.parse(key) for key in wire.keys)
    if not any(key.type == ED25519 for key in keys):
        raise TrustError(f"log {wire.origin!r} has no Ed25519 key in the trust file")
    if len(set(keys)) != len(keys) or any(key.type == COSIGNATURE_ED25519 for key in keys):
        raise TrustError(f"log {wire.origin!r} has a key twice, or a witness's key, in the trust file")
    return TrustedLog(wire.origin, keys)


def _issuer(wire: _IssuerWire) -> TrustedIssuer:
    times = [wire.not_before, wire.not_after, wire.revoked]
    if any(time is not None and time.tzinfo is None for time in times):
        raise TrustError(f"a time of issuer {wire.name!r} has no offset, expected like 2026-01-01T00:00:00Z")
    return TrustedIssuer(wire.name, PublicKey.from_pem(wire.public_key), *times)


def _check_witnesses(witnesses: Sequence[VerifierKey], quorum: int, given: bool) -> None:
    if any(key.type not in (COSIGNATURE_ED25519, COSIGNATURE_MLDSA44) for key in witnesses):
        raise TrustError("a witness has a plain note key, expected a cosignature key (type 04 or 06)")
    names = {key.name for key in witnesses}
    if given and not 1 <= quorum <= len(names):
        raise TrustError(
            f"a quorum of {quorum} among {len(names)} witnesses is not possible, expected 1 to {len(names)}"
        )


def format_trust(logs: Sequence[TrustedLog], issuers: Sequence[TrustedIssuer]) -> str:
    """A trust file to hand to a verifier, who should compare its keys over another channel."""
    lines = [
        "# What a verifier believes. Compare the keys with their owners over another channel before you rely on them.",
        "version = 1",
    ]
    for log in logs:
        keys = ", ".join(f'"{key.format()}"' for key in log.keys)
        lines += ["", "[[log]]", f"origin = {quoted(log.origin)}", f"keys = [{keys}]"]
    for issuer in issuers:
        lines += ["", "[[issuer]]", f"name = {quoted(issuer.name)}", f'public_key = """\n{issuer.key.pem()}"""']
        for field in ("not_before", "not_after", "revoked"):
            time: datetime | None = getattr(issuer, field)
            if time is not None:
                lines.append(f"{field} = {time.astimezone(UTC).strftime('%Y-%m-%dT%H:%M:%SZ')}")
    return "\n".join(lines) + "\n"


def circuit_table(digest: str, name: str) -> str:
    """The lines of a trust file that accept a circuit."""
    return f"[[circuit]]\nname = {quoted(name)}\ndigest = {quoted(digest)}\n"


def accept_circuit(path: Path, digest: str, name: str) -> bool:
    """Accept a circuit in a trust file; False if it did already. Raises TrustError or InputError, and then leaves it as it is."""
    if digest in Trust.load(path).circuits:
        return False
    data = f"{path.read_text(encoding='utf-8').rstrip()}\n\n{circuit_table(digest, name)}".encode()
    Trust.parse(data)
    write_file(path, data)
    return True


def quoted(text: str) -> str:
    """A TOML basic string."""
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")  # then a JSON string is a TOML basic string
