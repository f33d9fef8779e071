"""Who may append what to a served log: statements by an issuer's key, with a token for that issuer.

An entry is admitted if it is a well-formed envelope with a well-formed statement, made for this log, each of whose signatures
is by a key that the token is for. A rotation (``key/v1``) is signed by its new key too, and from then on the token is for that
key as well. ::

    admit = Admission(ledger / "tokens.toml", ledger / "trust.toml", "example.com/ledger")
    admit("ulog_…").check(envelope)          # TokenError, AdmissionError

This keeps strangers and mistakes out of the log. It decides nothing for a verifier, who judges every signature, in the log's
order, by a trust file of their own.
"""

import math
import time
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from certify import tokens
from certify.envelope import Envelope
from certify.errors import CertifyError, StatementKeyError, VerificationError
from certify.keys import PublicKey
from certify.statement import KeyChange, Statement
from certify.tokens import Token
from certify.trust import Trust
from ledger.errors import AdmissionError, StorageError, TokenError

LOOK_EVERY = 0.2
"""Seconds between looks at whether the files have changed."""
_Stamp = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class Holder:
    """A token, and the keys that it is for at the moment."""

    token: Token
    keys: tuple[PublicKey, ...]
    origin: str
    path: Path
    changed: Callable[[], None]
    """Called once the token is for another key as well."""

    @property
    def name(self) -> str:
        return self.token.name

    def check(self, entry: bytes) -> None:
        """Raise AdmissionError unless this token's issuer may log ``entry``."""
        try:
            envelope = Envelope.parse(entry)
            statement = Statement.parse(envelope.payload)
            if statement.predicate.log != self.origin:
                raise AdmissionError(
                    f"the statement is made for the log {statement.predicate.log!r}, this one is {self.origin!r}"
                )
            heir = self._heir(statement)
            signers = envelope.verify([*self.keys, heir] if heir is not None else self.keys)
        except VerificationError as error:
            raise AdmissionError(f"token {self.name!r} is not for who signed this: {error}") from error
        except CertifyError as error:
            raise AdmissionError(f"expected a signed statement: {error}") from error
        change = statement.predicate
        if isinstance(change, KeyChange) and signers[0].keyid != change.keyid:
            raise AdmissionError(f"the statement is about key {change.keyid[:16]}, but signed first by another")
        if heir is None or heir in self.keys:
            return
        if len(signers) != 2 or signers[0] not in self.keys or signers[1] != heir:
            raise AdmissionError("expected a rotation signed by the old key first and the new one second")
        try:
            tokens.hand_over(self.path, self.name, heir)
        except CertifyError as error:
            raise AdmissionError(f"the new key cannot be noted: {error}") from error
        self.changed()

    @staticmethod
    def _heir(statement: Statement) -> PublicKey | None:
        """The key that the statement hands over to, if it does."""
        change = statement.predicate
        if not isinstance(change, KeyChange) or change.successor is None:
            return None
        try:
            return PublicKey.from_spki(b64decode(change.successor.spki, validate=True))
        except ValueError as error:
            raise StatementKeyError(f"the new key of a rotation cannot be read: {error}") from error


class Admission:
    """See the module. Both files are read again when they change: a token that was revoked is refused a moment later."""

    def __init__(
        self, tokens_file: Path, trust_file: Path, origin: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._tokens_file = tokens_file
        self._trust_file = trust_file
        self._origin = origin
        self._clock = clock
        self._read: tuple[_Stamp, _Stamp] = (None, None)
        self._looked = -math.inf
        self._tokens: dict[str, Token] = {}
        self._trust: Trust | None = None

    def __call__(self, token: str | None) -> Holder:
        """The holder of a token. Raises TokenError; and StorageError if the files cannot be used."""
        self._refresh()
        if token is None:
            raise TokenError("expected a token: 'Authorization: Bearer TOKEN'. The log's operator gives them out")
        known = self._tokens.get(tokens.digest(token))
        if known is None:
            raise TokenError("the token is unknown, or was revoked: ask the log's operator for another")
        now = datetime.fromtimestamp(self._clock(), UTC)
        if known.not_after is not None and now > known.not_after:
            raise TokenError(f"the token expired on {known.not_after.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")
        return Holder(known, self._keys(known, now), self._origin, self._tokens_file, self._look_again)

    def _keys(self, token: Token, now: datetime) -> tuple[PublicKey, ...]:
        """The token's own keys, and those that trust.toml gives its issuers and that are valid now."""
        assert self._trust is not None
        named = [
            issuer.key
            for issuer in self._trust.issuers
            if issuer.name in token.issuers
            and (issuer.not_before is None or now >= issuer.not_before)
            and (issuer.not_after is None or now <= issuer.not_after)
            and (issuer.revoked is None or now < issuer.revoked)
        ]
        named += [person.key for person in self._trust.outsiders if person.name in token.issuers]
        return (*named, *(key for key in token.keys if key not in named))

    def _look_again(self) -> None:
        self._looked = -math.inf

    def _refresh(self) -> None:
        moment = time.monotonic()
        if moment - self._looked < LOOK_EVERY and self._trust is not None:
            return
        self._looked = moment
        now = (_stamp(self._tokens_file), _stamp(self._trust_file))
        if now == self._read and self._trust is not None:
            return
        self._read, self._tokens, self._trust = (None, None), {}, None
        try:
            known = {one.digest: one for one in tokens.load(self._tokens_file)}
            self._trust = Trust.load(self._trust_file)
        except CertifyError as error:
            raise StorageError(f"cannot tell who may append: {error}") from error
        self._tokens, self._read = known, now


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
