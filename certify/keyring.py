"""Whose signatures count, and when: the issuers' keys of ``trust.toml``, as ``key/v1`` entries of the log hand them over.

Statements are admitted in the log's order. A rotation, signed by the old and the new key, lets the new one sign later entries
and the old one no longer, within the time that ``trust.toml`` gives the old one; a revocation ends a key at its place in the
log. Both count by log index, which nobody can backdate.

An expired key could still sign statements that claim an earlier time. Where the issuer's own earlier entries show it, it counts
for nothing: what stands after an entry that is dated after the key's end was logged after its end. ::

    entry 7, by the new key, dated 2 March          the old key ends on 1 March
    entry 8, by the old key, dated 20 February      refused: logged on 2 March or later
"""

from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from certify.envelope import Envelope
from certify.errors import KeyValidityError, StatementKeyError, UntrustedKeyError, VerificationError
from certify.keys import PublicKey
from certify.statement import (
    Audit,
    AuditPlan,
    Circuit,
    Deployment,
    KeyChange,
    Replay,
    Request,
    Statement,
    Training,
    Unlearning,
)
from certify.times import parse_time
from certify.trust import Trust, TrustedAuditor, TrustedIssuer, TrustedReplayer

CLOCK_SKEW = timedelta(minutes=5)
"""How far ahead of the verifier's clock a statement's time may be."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signed a statement, with which key."""

    issuer: str
    key: PublicKey
    revoked: datetime | None


def claimed_time(statement: Statement) -> datetime:
    """When the statement says that it was made."""
    match statement.predicate:
        case Training(run=run) | Unlearning(run=run) | Audit(run=run) | Replay(run=run):
            return parse_time(run.finished)
        case (
            Request(received=time)
            | KeyChange(effective=time)
            | Circuit(built=time)
            | AuditPlan(planned=time)
            | Deployment(stated=time)
        ):
            return parse_time(time)


class KeyRing:
    """The keys that count at the current place in the log."""

    def __init__(self, trust: Trust, now: datetime) -> None:
        self._issuers = {issuer.key.keyid: issuer for issuer in trust.issuers}
        self._auditors, self._replayers = trust.auditors, trust.replayers
        self._ended: dict[str, int] = {}
        self._bounds = {keyid: issuer.not_after for keyid, issuer in self._issuers.items()}
        """Until when a key and all that follow it may count at most, as trust.toml says."""
        self._latest: dict[str, tuple[datetime, int]] = {}
        """Of each issuer, the latest time that a statement so far claims, and its index."""
        self._now = now

    def admit(self, index: int, envelope: Envelope, statement: Statement) -> Signer:
        """The signer of the statement at ``index``; raises one of step 2's errors. Call in the log's order."""
        change = statement.predicate if isinstance(statement.predicate, KeyChange) else None
        successor = self._successor(change) if change is not None and change.successor is not None else None
        known = [issuer.key for issuer in self._issuers.values()]
        signers = envelope.verify([*known, successor.key] if successor else known)
        expected = 2 if successor else 1
        if len(signers) != expected:
            raise UntrustedKeyError(
                f"the {statement.kind} statement at {index} has {len(signers)} signatures, expected {expected}"
            )
        if successor is not None and signers[1] != successor.key:
            raise UntrustedKeyError(f"the rotation at entry {index} is not signed by its new key second")
        signer = self._issuers.get(signers[0].keyid)
        if signer is None:
            raise UntrustedKeyError(
                f"the {statement.kind} statement at {index} is signed first by a key that isn't trusted yet"
            )
        time = claimed_time(statement)
        self._check_valid(index, signer, time)
        self._latest[signer.name] = max(self._latest.get(signer.name, (time, index)), (time, index))
        if change is not None:
            self._change(index, signer, change, successor)
        return Signer(signer.name, signer.key, signer.revoked)

    def auditor(self, index: int, envelope: Envelope, statement: Statement) -> Signer | None:
        """Who says that they built a circuit or made an audit: a trusted auditor, or None for anybody else.

        An issuer's signature beside the auditor's is fine, and adds nothing.
        """
        return self._outsider(index, envelope, statement, self._auditors)

    def replayer(self, index: int, envelope: Envelope, statement: Statement) -> Signer | None:
        """Who says that they ran a recipe again: a trusted replayer, or None for anybody else."""
        return self._outsider(index, envelope, statement, self._replayers)

    def _outsider(
        self,
        index: int,
        envelope: Envelope,
        statement: Statement,
        people: Sequence[TrustedAuditor] | Sequence[TrustedReplayer],
    ) -> Signer | None:
        known = {person.key.keyid: person for person in people}
        keys = [person.key for person in people] + [issuer.key for issuer in self._issuers.values()]
        try:
            signers = envelope.verify(keys)
        except UntrustedKeyError:
            return None
        time = claimed_time(statement)
        if time > self._now + CLOCK_SKEW:
            raise KeyValidityError(f"entry {index} is dated {time}, which is in the future (now {self._now})")
        person = next((known[key.keyid] for key in signers if key.keyid in known), None)
        if person is None:
            return None
        self._check_valid(index, person, time)
        return Signer(person.name, person.key, person.revoked)

    def is_issuers(self, envelope: Envelope) -> bool:
        """Whether a key that is or was an issuer's signed, also one that an entry so far handed over to."""
        keys = [issuer.key for issuer in self._issuers.values()]
        for signature in envelope.signatures:
            try:
                Envelope(envelope.payload, (signature,), envelope.data).verify(keys)
            except VerificationError:
                continue
            return True
        return False

    def _check_valid(
        self, index: int, signer: TrustedIssuer | TrustedAuditor | TrustedReplayer, time: datetime
    ) -> None:
        key = signer.key.keyid[:16]
        if time > self._now + CLOCK_SKEW:
            raise KeyValidityError(f"entry {index} is dated {time}, which is in the future (now {self._now})")
        if signer.not_before is not None and time < signer.not_before:
            raise KeyValidityError(
                f"entry {index} is dated {time}; key {key} of {signer.name} is valid from {signer.not_before}"
            )
        if signer.not_after is not None and time > signer.not_after:
            raise KeyValidityError(
                f"entry {index} is dated {time}; key {key} of {signer.name} expired on {signer.not_after}"
            )
        ours = isinstance(signer, TrustedIssuer)
        latest = self._latest.get(signer.name) if ours else max(self._latest.values(), default=None)
        if signer.not_after is not None and latest is not None and latest[0] > signer.not_after + CLOCK_SKEW:
            raise KeyValidityError(
                f"entry {index} is dated {time} and stands after entry {latest[1]}, dated {latest[0]}: key {key} of "
                f"{signer.name}, which expired on {signer.not_after}, signed or logged it too late"
            )
        if signer.revoked is not None and time >= signer.revoked:
            raise KeyValidityError(
                f"entry {index} is dated {time}; key {key} of {signer.name} was revoked on {signer.revoked}"
            )
        if signer.key.keyid in self._ended:
            raise KeyValidityError(
                f"entry {index} is signed by key {key} of {signer.name}, which was rotated or revoked at entry "
                f"{self._ended[signer.key.keyid]}"
            )

    def _successor(self, change: KeyChange) -> TrustedIssuer:
        record = change.successor
        assert record is not None
        try:
            key = PublicKey.from_spki(b64decode(record.spki, validate=True))
        except (ValueError, StatementKeyError) as error:
            raise UntrustedKeyError(f"the new key of a rotation cannot be read: {error}") from error
        if (key.keyid, key.algorithm) != (record.keyid, record.algorithm):
            raise UntrustedKeyError(f"the new key of a rotation has id {key.keyid}, {record.keyid} is stated")
        not_after = parse_time(record.not_after) if record.not_after is not None else None
        return TrustedIssuer("", key, parse_time(record.not_before), not_after)

    def _change(self, index: int, signer: TrustedIssuer, change: KeyChange, successor: TrustedIssuer | None) -> None:
        if change.keyid != signer.key.keyid:
            raise UntrustedKeyError(
                f"the key statement at {index} is about key {change.keyid[:16]}, but signed by another"
            )
        self._ended[change.keyid] = index
        if successor is not None:
            bound = self._bounds[change.keyid]
            ends = [end for end in (bound, successor.not_after) if end is not None]
            heir = replace(successor, name=signer.name, revoked=signer.revoked, not_after=min(ends, default=None))
            self._bounds.setdefault(successor.key.keyid, bound)
            known = self._issuers.setdefault(successor.key.keyid, heir)  # what trust.toml says of a key stands
            if known.name != signer.name:
                raise UntrustedKeyError(
                    f"the rotation at entry {index} is to a key of {known.name}, not of {signer.name}"
                )
