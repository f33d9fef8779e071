"""The index of a federation: who could sign, and what was signed by whom in which round, in one canonical form.

A training commits to it (:mod:`certify.methods.federated`)::

    {"clients":[{"client":"9c…","spki":"MFkw…"},…],"rounds":[[[0,"<SHA-256 of envelope>"],[1,"…"]],…]}

Clients are in the order of their pseudonyms; a round names its senders by their places there, in order.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from msgspec import Meta

from certify.errors import StatementError, StatementKeyError
from certify.fields import Base64, Count, Digest, Record, Tree
from certify.keys import PublicKey
from certify.wire import canonical, decode
from ledger.merkle import leaf_hash, root

MAX_CLIENTS = 1024
MAX_ROUNDS = 512
MAX_INDEX = 1 << 20


class ClientKey(Record, frozen=True):
    """A client's pseudonym and its public key, SubjectPublicKeyInfo in base64."""

    client: Digest
    spki: Base64


class _IndexWire(Record, frozen=True):
    clients: Annotated[list[ClientKey], Meta(min_length=1, max_length=MAX_CLIENTS)]
    rounds: Annotated[list[list[tuple[Count, Digest]]], Meta(min_length=1, max_length=MAX_ROUNDS)]


@dataclass(frozen=True)
class Index:
    """Who could sign, and what was signed: the clients in order of their pseudonyms, and for each round the senders with the
    SHA-256 of what each signed, in the clients' order."""

    keys: Mapping[str, PublicKey]
    rounds: Sequence[Mapping[str, str]]

    @cached_property
    def updates(self) -> Tree:
        """An RFC 6962 tree, with the SHA-256 of each envelope as its entries, so that a client can ask for its place in it."""
        digests = [bytes.fromhex(digest) for sent in self.rounds for digest in sent.values()]
        return Tree(root([leaf_hash(digest) for digest in digests]).hex(), len(digests))

    def of(self, name: str) -> list[str]:
        """All that a client signed, round after round."""
        return [sent[name] for sent in self.rounds if name in sent]

    def to_json(self) -> bytes:
        names = list(self.keys)
        fields = {
            "clients": [{"client": name, "spki": b64encode(key.spki).decode()} for name, key in self.keys.items()],
            "rounds": [[[names.index(name), digest] for name, digest in sent.items()] for sent in self.rounds],
        }
        return canonical(fields, what="an index of clients", error=StatementError)

    @classmethod
    def parse(cls, data: bytes) -> "Index":
        """Raises StatementError."""
        wire = decode(data, _IndexWire, limit=MAX_INDEX, what="an index of clients", error=StatementError)
        names = [one.client for one in wire.clients]
        if names != sorted(set(names)) or len({one.spki for one in wire.clients}) != len(names):
            raise StatementError("an index of clients has one twice, a key twice, or not in order")
        rounds = []
        for number, sent in enumerate(wire.rounds):
            places = [place for place, _ in sent]
            if not places or places != sorted(set(places)) or places[-1] >= len(names):
                raise StatementError(
                    f"round {number} names senders {places[:8]}, expected some of {len(names)}, in order"
                )
            rounds.append({names[place]: digest for place, digest in sent})
        try:
            keys = {one.client: PublicKey.from_spki(b64decode(one.spki, validate=True)) for one in wire.clients}
        except (StatementKeyError, ValueError) as error:
            raise StatementError(f"an index of clients: {error}") from error
        return cls(keys, rounds)
