"""Which statements in a log are this issuer's: several may share one log.

An issuer's keys are those that the trust file names for it, those that this workspace has signed with, and the ones that their
rotations in the log hand over to. A statement is the issuer's if one of these keys signed it, which is checked.
"""

from base64 import b64decode
from collections.abc import Iterable

from certify.envelope import Envelope
from certify.errors import StatementKeyError, VerificationError
from certify.keys import PublicKey
from certify.statement import KeyChange, Statement


class OwnKeys:
    """Keys by their ids; grows as rotations are read. Show it the statements in the log's order."""

    def __init__(self, keys: Iterable[PublicKey]) -> None:
        self._keys = {key.keyid: key for key in keys}

    @property
    def keys(self) -> list[PublicKey]:
        return list(self._keys.values())

    def signed(self, envelope: Envelope, statement: Statement) -> bool:
        """Whether one of the keys signed first."""
        first = envelope.signatures[0]
        if first.keyid is not None and first.keyid not in self._keys:
            return False
        try:
            Envelope(envelope.payload, (first,), envelope.data).verify(self._keys.values())
        except VerificationError:
            return False
        change = statement.predicate
        if isinstance(change, KeyChange) and change.successor is not None:
            self._take(change.successor.spki)
        return True

    def _take(self, spki: str) -> None:
        try:
            key = PublicKey.from_spki(b64decode(spki, validate=True))
        except (ValueError, StatementKeyError):
            return  # no key that could sign anything
        self._keys[key.keyid] = key
