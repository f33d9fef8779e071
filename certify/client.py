"""What the clients of a federation sign: updates that they send, and that they unlearned something at home.

A client's statement is an in-toto Statement v1 in a DSSE envelope, as the ledger's own are, signed by the client's key. It names
the client by a salted pseudonym and what it sent by tensor root v1; none of its data is in it::

    client = pseudonym("hospital 3", salt)                  # the salt stays with client and operator
    signed = sign(ClientUpdate(log, run, client, 0, start, update, 214), key)

    {"_type":"https://in-toto.io/Statement/v1","predicate":{"client":"9c…","log":"example.com/ledger","round":0,"run":"5f…",
    "start":"c1…","update":"77…","weight":214},"predicateType":"urn:unlearning-ledger:client-update/v1",
    "subject":[{"digest":{"sha256":"77…"},"name":"tensor-root/v1"}]}

They are never log entries themselves: types that no reader of the log knows.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from certify.dataset import SALT_SIZE
from certify.envelope import Envelope
from certify.envelope import sign as sign_envelope
from certify.errors import DatasetError, StatementError
from certify.fields import MAX_INTEGER, Count, Digest, Label, Origin, Record, RunId
from certify.keys import StatementSigner
from certify.wire import canonical, decode

MAX_CLIENT_STATEMENT = 1 << 12
_PREFIX = b"unlearning-ledger/client/v1\x00"
_STATEMENT = "https://in-toto.io/Statement/v1"
_UPDATE: Literal["urn:unlearning-ledger:client-update/v1"] = "urn:unlearning-ledger:client-update/v1"
_UNLEARNING: Literal["urn:unlearning-ledger:client-unlearning/v1"] = "urn:unlearning-ledger:client-unlearning/v1"


class ClientUpdate(Record, frozen=True):
    """``client-update/v1``: in ``round`` (from 0) of ``run``, the client started from the model of tensor root ``start`` and
    sent ``update``, to count as ``weight`` records."""

    log: Origin
    run: RunId
    client: Digest
    round: Count
    start: Digest
    update: Digest
    weight: Annotated[int, Meta(ge=1, le=MAX_INTEGER)]


class ClientUnlearning(Record, frozen=True):
    """``client-unlearning/v1``: to answer ``request`` (SHA-256 of its envelope), the client unlearned ``records`` of its
    records at home, from the model ``start``, and sent ``update``."""

    log: Origin
    run: RunId
    client: Digest
    request: Digest
    start: Digest
    update: Digest
    method: Label
    records: Annotated[int, Meta(ge=1, le=MAX_INTEGER)]


class _Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    digest: dict[Literal["sha256"], Digest]
    name: Literal["tensor-root/v1"]


class _UpdateWire(msgspec.Struct, forbid_unknown_fields=True):
    _type: Literal["https://in-toto.io/Statement/v1"]
    predicate: ClientUpdate
    predicateType: Literal["urn:unlearning-ledger:client-update/v1"]
    subject: Annotated[list[_Named], Meta(min_length=1, max_length=1)]


class _UnlearningWire(msgspec.Struct, forbid_unknown_fields=True):
    _type: Literal["https://in-toto.io/Statement/v1"]
    predicate: ClientUnlearning
    predicateType: Literal["urn:unlearning-ledger:client-unlearning/v1"]
    subject: Annotated[list[_Named], Meta(min_length=1, max_length=1)]


def pseudonym(name: str, salt: bytes) -> str:
    """A client's name in statements: SHA-256("unlearning-ledger/client/v1" 0x00 ‖ salt ‖ name), hex. Raises DatasetError."""
    if len(salt) != SALT_SIZE:
        raise DatasetError(f"salt has {len(salt)} bytes, expected {SALT_SIZE}")
    return sha256(_PREFIX + salt + name.encode()).hexdigest()


def sign(statement: ClientUpdate | ClientUnlearning, key: StatementSigner) -> Envelope:
    """The statement in its envelope, signed by the client. Raises StatementError if nobody would read it."""
    fields = {
        "_type": _STATEMENT,
        "predicate": msgspec.to_builtins(statement),
        "predicateType": _UPDATE if isinstance(statement, ClientUpdate) else _UNLEARNING,
        "subject": [{"digest": {"sha256": statement.update}, "name": "tensor-root/v1"}],
    }
    envelope = sign_envelope(canonical(fields, what="a client's statement", error=StatementError), [key])
    if _parse(envelope, _UpdateWire if isinstance(statement, ClientUpdate) else _UnlearningWire) != statement:
        raise StatementError("the client's statement does not survive writing and reading")
    return envelope


def update_of(envelope: Envelope) -> ClientUpdate:
    """What it says; whether it is signed by whom it names is not looked at. Raises StatementError."""
    found: ClientUpdate = _parse(envelope, _UpdateWire)
    return found


def unlearning_of(envelope: Envelope) -> ClientUnlearning:
    """What it says; whether it is signed by whom it names is not looked at. Raises StatementError."""
    found: ClientUnlearning = _parse(envelope, _UnlearningWire)
    return found


def _parse(envelope: Envelope, wire: Any) -> Any:
    what = "a client's statement"
    read = decode(envelope.payload, wire, limit=MAX_CLIENT_STATEMENT, what=what, error=StatementError)
    if read.subject[0].digest["sha256"] != read.predicate.update:
        raise StatementError("a client's statement is about another update than the one that it names")
    return read.predicate


def join(envelopes: Sequence[Envelope]) -> bytes:
    """Envelopes as a file: each followed by a line feed."""
    return b"".join(envelope.data + b"\n" for envelope in envelopes)


def split(data: bytes, *, most: int) -> list[Envelope]:
    """The envelopes of :func:`join`'s bytes, of one signature each. Raises StatementError."""
    lines = data.split(b"\n")
    if len(lines) < 2 or lines.pop() or len(lines) > most:
        raise StatementError(f"expected 1 to {most} envelopes, each with a line feed after it, got other bytes")
    envelopes = [Envelope.parse(line) for line in lines]
    for envelope, line in zip(envelopes, lines, strict=True):
        if len(envelope.signatures) != 1 or _written(envelope) != line:
            raise StatementError("a client's envelope is not in canonical form, or has two signatures")
    return envelopes


def _written(envelope: Envelope) -> bytes:
    return canonical(msgspec.json.decode(envelope.data), what="an envelope", error=StatementError)
