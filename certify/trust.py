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

    [witnesses]                                      # optional: so many of these
    quorum = 1
    keys = ["witness.example+…"]
    # or, in their place, a C2SP tlog-policy:
    # policy = \"\"\"
    # witness A a.example/w+5c…+BA…
    # witness B b.example/w+91…+BA…
    # group both all A B
    # quorum both
    # \"\"\"

    [[auditor]]                                      # optional: whose audits count, and circuits that they built
    name = "Example Audits"
    public_key = \"\"\"-----BEGIN PUBLIC KEY-----…\"\"\"
                                                     # optional: not_before, not_after and revoked, as an issuer has

    [[replayer]]                                     # optional: whose replays count
    name = "Example Replays"
    public_key = \"\"\"-----BEGIN PUBLIC KEY-----…\"\"\"
                                                     # optional: not_before, not_after and revoked, as an issuer has

    [[circuit]]                                      # optional: circuits that you have built yourself
    digest = "51c40e81…"                             # what 'certify circuit rebuild' prints

    [[timestamping]]                                 # optional: whose time stamps count (RFC 3161)
    name = "Example Time"
    root = \"\"\"-----BEGIN CERTIFICATE-----…\"\"\"       # one or several
    policy = "1.2.3.4.1"                             # optional: only tokens made under this policy
    required = false                                 # true: a bundle without one is refused

    [proofs]                                         # optional
    max_radius = 0.05                                # how far proven weights may be from the optimum

    [audits]                                         # optional
    max_age_days = 180                               # older audits are stale
    required = false                                 # true: without an audit that passed and is not stale, a case is refused
"""

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from certify.errors import InputError, StatementKeyError, TrustError
from certify.fields import Digest
from certify.inputs import read_file, write_file
from certify.keys import PublicKey
from ledger.errors import MalformedError
from ledger.note import COSIGNATURE_ED25519, COSIGNATURE_MLDSA44, ED25519, VerifierKey
from ledger.policy import Policy

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

MAX_TRUST_SIZE = 1 << 20
MAX_RADIUS = 0.05
"""How far proven weights may be from the optimum, where the trust file doesn't say."""
MAX_AUDIT_AGE_DAYS = 180
"""From when on an audit is stale, where the trust file doesn't say."""


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
    quorum: int | None = None
    keys: list[str] | None = None
    policy: str | None = None


class _AuditorWire(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    public_key: str
    not_before: datetime | None = None
    not_after: datetime | None = None
    revoked: datetime | None = None


class _ReplayerWire(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    public_key: str
    not_before: datetime | None = None
    not_after: datetime | None = None
    revoked: datetime | None = None


class _CircuitWire(msgspec.Struct, forbid_unknown_fields=True):
    digest: Digest
    name: str | None = None


class _AuthorityWire(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    root: str
    policy: str | None = None
    required: bool = False


class _ProofsWire(msgspec.Struct, forbid_unknown_fields=True):
    max_radius: float


class _AuditsWire(msgspec.Struct, forbid_unknown_fields=True):
    max_age_days: int = MAX_AUDIT_AGE_DAYS
    required: bool = False


class _TrustWire(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    log: list[_LogWire]
    issuer: list[_IssuerWire]
    witnesses: _WitnessWire | None = None
    auditor: list[_AuditorWire] = []
    circuit: list[_CircuitWire] = []
    timestamping: list[_AuthorityWire] = []
    proofs: _ProofsWire | None = None
    audits: _AuditsWire | None = None
    replayer: list[_ReplayerWire] = []


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
    """Somebody whose audits and builds of circuits count, and when."""

    name: str
    key: PublicKey
    not_before: datetime | None = None
    not_after: datetime | None = None
    revoked: datetime | None = None


@dataclass(frozen=True, slots=True)
class TrustedReplayer:
    """Somebody whose replays count, and when."""

    name: str
    key: PublicKey
    not_before: datetime | None = None
    not_after: datetime | None = None
    revoked: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuditPolicy:
    """From which age on an audit is stale, and whether a case without a good one is refused."""

    max_age_days: int = MAX_AUDIT_AGE_DAYS
    required: bool = False


@dataclass(frozen=True, slots=True)
class TrustedAuthority:
    """A time-stamping authority by its roots. ``policy``: an OID that its tokens must have."""

    name: str
    roots: "tuple[Certificate, ...]"
    policy: str | None = None
    required: bool = False

    @classmethod
    def of(cls, name: str, root: str, policy: str | None = None, required: bool = False) -> "TrustedAuthority":
        """``root``: certificates in PEM. Raises TrustError."""
        from cryptography.x509 import ObjectIdentifier, load_pem_x509_certificates

        try:
            roots = tuple(load_pem_x509_certificates(root.encode()))
            _ = [certificate.subject for certificate in roots]  # read late, and not always well-formed
            if policy is not None:
                ObjectIdentifier(policy)
        except ValueError as error:
            raise TrustError(
                f"time-stamping authority {name!r} has no root certificate in PEM, or no policy like 1.2.3.4.1: {error}"
            ) from error
        return cls(name, roots, policy, required)


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
    authorities: tuple[TrustedAuthority, ...] = ()
    policy: Policy | None = None
    """If the file has one; ``witnesses`` are then those that count in it, and ``quorum`` is 0."""
    audits: AuditPolicy = AuditPolicy()
    replayers: tuple[TrustedReplayer, ...] = ()

    @property
    def outsiders(self) -> tuple[TrustedAuditor | TrustedReplayer, ...]:
        """Those who are no issuers: auditors and replayers."""
        return (*self.auditors, *self.replayers)

    @property
    def witnessing(self) -> Policy:
        """Who has to have cosigned a checkpoint, whichever way the file says it. Its ``quorum`` is None if nobody has to."""
        return self.policy if self.policy is not None else Policy.of(self.witnesses, self.quorum)

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
            witnesses, quorum, policy = _witnesses(wire.witnesses, logs)
            auditors = tuple(_auditor(item) for item in wire.auditor)
            replayers = tuple(_replayer(item) for item in wire.replayer)
        except (MalformedError, StatementKeyError) as error:
            raise TrustError(f"a key in the trust file cannot be used: {error}") from error
        if not logs or not issuers:
            raise TrustError(
                f"the trust file names {len(logs)} logs and {len(issuers)} issuers, expected one of each at least"
            )
        keyids = [issuer.key.keyid for issuer in issuers] + [auditor.key.keyid for auditor in auditors]
        if len(set(keyids)) != len(keyids):
            raise TrustError("the trust file names the key of an issuer or an auditor twice")
        _check_replayers(replayers, [issuer.key.keyid for issuer in issuers])
        radius = wire.proofs.max_radius if wire.proofs else MAX_RADIUS
        if not 0 < radius < math.inf:
            raise TrustError(f"max_radius is {radius} in the trust file, expected a number above 0")
        authorities = tuple(
            TrustedAuthority.of(item.name, item.root, item.policy, item.required) for item in wire.timestamping
        )
        if len({authority.name for authority in authorities}) != len(authorities):
            raise TrustError("the trust file names a time-stamping authority twice")
        circuits = frozenset(item.digest for item in wire.circuit)
        audits = _audits(wire.audits, auditors)
        return cls(logs, issuers, witnesses, quorum, auditors, circuits, radius, authorities, policy, audits, replayers)


def _log(wire: _LogWire) -> TrustedLog:
    keys = tuple(VerifierKey.parse(key) for key in wire.keys)
    if not any(key.type == ED25519 for key in keys):
        raise TrustError(f"log {wire.origin!r} has no Ed25519 key in the trust file")
    if len(set(keys)) != len(keys) or any(key.type == COSIGNATURE_ED25519 for key in keys):
        raise TrustError(f"log {wire.origin!r} has a key twice, or a witness's key, in the trust file")
    return TrustedLog(wire.origin, keys)


def _issuer(wire: _IssuerWire) -> TrustedIssuer:
    return TrustedIssuer(wire.name, PublicKey.from_pem(wire.public_key), *_times(wire, "issuer"))


def _auditor(wire: _AuditorWire) -> TrustedAuditor:
    return TrustedAuditor(wire.name, PublicKey.from_pem(wire.public_key), *_times(wire, "auditor"))


def _replayer(wire: _ReplayerWire) -> TrustedReplayer:
    return TrustedReplayer(wire.name, PublicKey.from_pem(wire.public_key), *_times(wire, "replayer"))


def _check_replayers(replayers: Sequence[TrustedReplayer], issuers: Sequence[str]) -> None:
    """An auditor may be a replayer as well; an issuer is none."""
    keyids = [replayer.key.keyid for replayer in replayers]
    if len(set(keyids)) != len(keyids) or set(keyids) & set(issuers):
        raise TrustError("the trust file names the key of a replayer twice, or an issuer's key as a replayer's")


def _times(wire: _IssuerWire | _AuditorWire | _ReplayerWire, what: str) -> list[datetime | None]:
    times = [wire.not_before, wire.not_after, wire.revoked]
    if any(time is not None and time.tzinfo is None for time in times):
        raise TrustError(f"a time of {what} {wire.name!r} has no offset, expected like 2026-01-01T00:00:00Z")
    return times


def _audits(wire: _AuditsWire | None, auditors: Sequence[TrustedAuditor]) -> AuditPolicy:
    if wire is None:
        return AuditPolicy()
    if wire.max_age_days < 1:
        raise TrustError(f"max_age_days is {wire.max_age_days} in the trust file, expected at least 1")
    if wire.required and not auditors:
        raise TrustError("the trust file requires audits and names no [[auditor]] whose audits would count")
    return AuditPolicy(wire.max_age_days, wire.required)


def _witnesses(
    wire: _WitnessWire | None, logs: Sequence[TrustedLog]
) -> tuple[tuple[VerifierKey, ...], int, Policy | None]:
    """The keys that count, how many have to cosign, or the policy in place of that number."""
    if wire is None:
        return (), 0, None
    if wire.policy is not None:
        if wire.quorum is not None or wire.keys is not None:
            raise TrustError("[witnesses] in the trust file has a policy and quorum or keys, expected one or the other")
        policy = _policy(wire.policy, logs)
        return tuple(policy.witness_keys), 0, policy
    if wire.quorum is None or wire.keys is None:
        raise TrustError("[witnesses] in the trust file has neither quorum and keys nor a policy")
    keys = tuple(VerifierKey.parse(key) for key in wire.keys)
    _check_witnesses(keys, wire.quorum)
    return keys, wire.quorum, None


def _policy(text: str, logs: Sequence[TrustedLog]) -> Policy:
    try:
        policy = Policy.parse(text.encode())
    except MalformedError as error:
        raise TrustError(f"the policy in the trust file: {error}") from error
    named = {log.key for log in policy.logs}
    trusted = {key for log in logs for key in log.keys}
    if named and (named - trusted or any(named.isdisjoint(log.keys) for log in logs)):
        raise TrustError(
            "the policy in the trust file names other logs than its [[log]] tables: leave them out, or name a key of each"
        )
    return policy


def _check_witnesses(witnesses: Sequence[VerifierKey], quorum: int) -> None:
    if any(key.type not in (COSIGNATURE_ED25519, COSIGNATURE_MLDSA44) for key in witnesses):
        raise TrustError("a witness has a plain note key, expected a cosignature key (type 04 or 06)")
    names = {key.name for key in witnesses}
    if not 1 <= quorum <= len(names):
        raise TrustError(
            f"a quorum of {quorum} among {len(names)} witnesses is not possible, expected 1 to {len(names)}"
        )
    Policy.of(witnesses, quorum)  # which refuses one key under two names


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


def accept_authority(path: Path, name: str, root: str) -> bool:
    """Believe a time-stamping authority by its root certificates (PEM); False if the file names it already.

    Raises TrustError or InputError, and then leaves the file as it is.
    """
    if any(authority.name == name for authority in Trust.load(path).authorities):
        return False
    table = f'[[timestamping]]\nname = {quoted(name)}\nroot = """\n{root.strip()}\n"""\n'
    _append_table(path, table)
    return True


def circuit_table(digest: str, name: str) -> str:
    """The lines of a trust file that accept a circuit."""
    return f"[[circuit]]\nname = {quoted(name)}\ndigest = {quoted(digest)}\n"


def accept_circuit(path: Path, digest: str, name: str) -> bool:
    """Accept a circuit in a trust file; False if it did already. Raises TrustError or InputError, and then leaves it as it is."""
    if digest in Trust.load(path).circuits:
        return False
    _append_table(path, circuit_table(digest, name))
    return True


def _append_table(path: Path, table: str) -> None:
    data = f"{path.read_text(encoding='utf-8').rstrip()}\n\n{table}".encode()
    Trust.parse(data)
    write_file(path, data)


def quoted(text: str) -> str:
    """A TOML basic string."""
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")  # then a JSON string is a TOML basic string
