"""What an index for searching keeps of a log entry: its kind, the time that it states, and the digests that it names.

Read leniently and fast: nothing here is believed, and an entry that is no statement is kept as one that nothing is known of. What
is found is parsed strictly before it is shown.

>>> describe(b"anything").kind
'other'
"""

import re
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

import msgspec

from certify.statement import FORGET_ROOT, PREFIX, PUBLIC_KEY, TENSOR_ROOT

FIELDS = {"statement": 0, "request": 1, "file": 2, "tensors": 3, "key": 4}
"""What a digest is of, and its number in an index."""
OTHER = "other"
"""The kind of an entry that is no statement."""
MIN_DIGITS = 8
DIGEST = re.compile(rf"[0-9a-f]{{{MIN_DIGITS},64}}")
"""A digest in hex, or how it starts."""
_SUBJECTS = {TENSOR_ROOT: None, FORGET_ROOT: None, PUBLIC_KEY: "key"}
"""Subjects that are not files; some are taken from the predicate."""
_WHOLE = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Described:
    """``time``: POSIX seconds, as stated. ``terms``: (number of the field, digest)."""

    kind: str
    time: int | None
    terms: frozenset[tuple[int, bytes]]

    def names(self, field: str | None, start: str) -> bool:
        """Whether a digest of that field (None: of any) starts like this."""
        number = FIELDS[field] if field is not None else None
        return any(digest.hex().startswith(start) for of, digest in self.terms if number in (None, of))


class _Signature(msgspec.Struct):
    keyid: str | None = None


class _Envelope(msgspec.Struct):
    payload: str
    signatures: list[_Signature]


class _Digest(msgspec.Struct):
    sha256: str


class _Subject(msgspec.Struct):
    name: str
    digest: _Digest


class _Base(msgspec.Struct):
    digest: str


class _Model(msgspec.Struct, rename="camel"):
    tensor_root: str


class _Tree(msgspec.Struct):
    root: str


class _Run(msgspec.Struct):
    finished: str


class _Destroyed(msgspec.Struct):
    model: str


class _Predicate(msgspec.Struct):
    run: _Run | None = None
    received: str | None = None
    effective: str | None = None
    built: str | None = None
    planned: str | None = None
    stated: str | None = None
    model: _Model | None = None
    pre: _Model | None = None
    post: _Model | None = None
    forget: _Tree | None = None
    requests: list[str] = []
    base: list[_Base] = []
    destroyed: list[_Destroyed] = []


class _Statement(msgspec.Struct):
    predicateType: str
    predicate: _Predicate
    subject: list[_Subject]


_envelope = msgspec.json.Decoder(_Envelope)
_statement = msgspec.json.Decoder(_Statement)


def describe(data: bytes) -> Described:
    """Of the bytes of an entry; never fails."""
    own = (FIELDS["statement"], sha256(data).digest())
    try:
        envelope = _envelope.decode(data)
        statement = _statement.decode(_payload(envelope.payload))
    except ValueError:  # msgspec's, base64's and UTF-8's
        return Described(OTHER, None, frozenset([own]))
    named = {
        (FIELDS[field], bytes.fromhex(text)) for field, text in _named(envelope, statement) if _WHOLE.fullmatch(text)
    }
    kind = statement.predicateType.removeprefix(PREFIX).removesuffix("/v1")
    if kind == "request":
        named.add((FIELDS["request"], own[1]))
    return Described(kind[:40], _time(statement.predicate), frozenset([own, *named]))


def _named(envelope: _Envelope, statement: _Statement) -> Iterator[tuple[str, str]]:
    said = statement.predicate
    for signature in envelope.signatures:
        yield "key", signature.keyid or ""
    if said.forget is not None:
        yield "request", said.forget.root
    for request in said.requests:
        yield "request", request
    for model in (said.model, said.pre, said.post):
        if model is not None:
            yield "tensors", model.tensor_root
    for subject in statement.subject:
        if (field := _SUBJECTS.get(subject.name, "file")) is not None:
            yield field, subject.digest.sha256
    for copy in said.destroyed:
        yield "tensors", copy.model
    for base in said.base:
        yield "file", base.digest


def _payload(text: str) -> bytes:
    return b64decode(text.replace("-", "+").replace("_", "/") if "-" in text or "_" in text else text)


def _time(said: _Predicate) -> int | None:
    ran = said.run.finished if said.run is not None else None
    text = ran or said.received or said.effective or said.built or said.planned or said.stated or ""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return int(time.timestamp()) if time.tzinfo is not None else None
