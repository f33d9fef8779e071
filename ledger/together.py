"""What writers of one log say to each other through its database, so that one of them appends for all: sealed with a secret that
only holders of the log's key can compute. The database carries these bytes and may replay or drop them, but not make them up.

A request is ``nonce (16) || HMAC || entry bundle``, an answer ``HMAC || (index * 2 + new, 8 bytes each) || signed checkpoint``;
HMAC-SHA-256 is over what follows it and what it is for, an answer's over the nonce that it answers, too. A request that is
replayed asks for entries that are logged already: nothing happens. The secret is the hash of an Ed25519 signature, which is the
same each time (RFC 8032, 5.1.6) and can be had of a key that is held in a token as well::

    together = Together(key)
    request = together.ask([b"some entry"])
    asked = together.parse(request.data)             # by the one who appends; None if it is not by a holder of the key
    placed = together.read(request, together.answer(asked, [(7, True)], note))
"""

import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from ledger.errors import MalformedError, TamperedError
from ledger.log_key import LogKey
from ledger.tiles import format_bundle, parse_bundle

MAX_ENTRIES = 64
MAX_BYTES = 1 << 16
"""More than that is appended by whoever has it: the commit is shared out among its own entries."""
_NONCE, _SEAL, _PLACE = 16, 32, 8
_PURPOSE = b"unlearning-ledger/together@v1\n"


@dataclass(frozen=True, slots=True)
class Request:
    """Entries that somebody wants appended."""

    nonce: bytes
    entries: list[bytes]
    data: bytes


def fits(entries: Sequence[bytes]) -> bool:
    """Whether others may be asked to append these."""
    return 0 < len(entries) <= MAX_ENTRIES and sum(map(len, entries)) <= MAX_BYTES


class Together:
    """Requests and answers of the holders of ``key``."""

    def __init__(self, key: LogKey) -> None:
        self._secret = sha256(key.ed25519.sign(_PURPOSE + key.name.encode())).digest()

    def _seal(self, purpose: bytes, nonce: bytes, body: bytes) -> bytes:
        return hmac.digest(self._secret, purpose + nonce + body, "sha256")

    def ask(self, entries: Sequence[bytes]) -> Request:
        nonce, bundle = os.urandom(_NONCE), format_bundle(entries)
        return Request(nonce, list(entries), nonce + self._seal(b"ask", nonce, bundle) + bundle)

    def parse(self, data: bytes) -> Request | None:
        """The request, or None if no holder of the key asked for it."""
        nonce, seal, bundle = data[:_NONCE], data[_NONCE : _NONCE + _SEAL], data[_NONCE + _SEAL :]
        if not hmac.compare_digest(seal, self._seal(b"ask", nonce, bundle)):
            return None
        try:
            return Request(nonce, parse_bundle(bundle), data)
        except MalformedError:
            return None

    def answer(self, request: Request, placed: Sequence[tuple[int, bool]], note: bytes) -> bytes:
        """Where each entry is, whether it is new there, and a signed checkpoint that includes them."""
        places = b"".join((index * 2 + new).to_bytes(_PLACE, "big") for index, new in placed)
        return self._seal(b"answer", request.nonce, places + note) + places + note

    def read(self, request: Request, data: bytes) -> tuple[list[tuple[int, bool]], bytes]:
        """What :meth:`answer` was given. Raises TamperedError if this is not an answer to ``request``."""
        seal, body = data[:_SEAL], data[_SEAL:]
        end = _PLACE * len(request.entries)
        if not hmac.compare_digest(seal, self._seal(b"answer", request.nonce, body)) or len(body) < end:
            raise TamperedError("the answer to an append is not from a holder of the log's key: storage was altered")
        places = [int.from_bytes(body[i : i + _PLACE], "big") for i in range(0, end, _PLACE)]
        return [(place >> 1, bool(place & 1)) for place in places], body[end:]
