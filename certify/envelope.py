"""DSSE envelopes (secure-systems-lab/dsse v1): what is signed is the pre-authentication encoding of type and payload.

::

    {"payload":"<base64>","payloadType":"application/vnd.in-toto+json","signatures":[{"keyid":"…","sig":"<base64>"}]}

Readers take standard and URL-safe base64 and do without a key id, as the specification asks; key ids are hints and never
trusted. The exact bytes of an envelope are one log entry, so an envelope that says the same in other bytes is another entry.
"""

import binascii
import json
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec

from certify.errors import EnvelopeSignatureError, StatementError, StatementKeyError, UntrustedKeyError
from certify.keys import PublicKey, StatementSigner
from certify.wire import canonical, check_depth

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_ENVELOPE_SIZE = 65_535
"""Bytes: an envelope has to fit into a log entry."""
MAX_SIGNATURES = 2
"""One, and a second where a key hands over to another."""


def pae(payload_type: str, payload: bytes) -> bytes:
    """``"DSSEv1" SP len(type) SP type SP len(payload) SP payload``"""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


class _SignatureWire(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    keyid: str | None = None
    sig: str


class _EnvelopeWire(msgspec.Struct, forbid_unknown_fields=True):
    payload: str
    payloadType: str
    signatures: list[_SignatureWire]


@dataclass(frozen=True, slots=True)
class EnvelopeSignature:
    sig: bytes
    keyid: str | None


@dataclass(frozen=True, slots=True)
class Envelope:
    """A parsed envelope, its signatures not checked yet. ``data`` are the bytes it was read from."""

    payload: bytes
    signatures: tuple[EnvelopeSignature, ...]
    data: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the envelope's bytes, hex: how statements name each other, and what ``sha256sum`` prints."""
        return sha256(self.data).hexdigest()

    @classmethod
    def parse(cls, data: bytes) -> "Envelope":
        """Raises StatementError."""
        if len(data) > MAX_ENVELOPE_SIZE:
            raise StatementError(f"an envelope has {len(data):,} bytes, expected at most {MAX_ENVELOPE_SIZE:,}")
        check_depth(data, what="an envelope", error=StatementError)
        try:
            wire = msgspec.json.decode(data, type=_EnvelopeWire)
            if msgspec.json.encode(wire) != data:  # as we write it, it has no field twice
                json.loads(data, object_pairs_hook=_refuse_duplicates)
        except (ValueError, RecursionError) as error:
            raise StatementError(f"not a DSSE envelope: {error}") from error
        if wire.payloadType != PAYLOAD_TYPE:
            raise StatementError(f"envelope has payload type {wire.payloadType[:80]!r}, expected {PAYLOAD_TYPE!r}")
        if not 1 <= len(wire.signatures) <= MAX_SIGNATURES:
            raise StatementError(f"envelope has {len(wire.signatures)} signatures, expected 1 or {MAX_SIGNATURES}")
        signatures = tuple(EnvelopeSignature(_base64(s.sig, "signature"), s.keyid) for s in wire.signatures)
        return cls(_base64(wire.payload, "payload"), signatures, data)

    def verify(self, keys: Iterable[PublicKey]) -> list[PublicKey]:
        """The keys that signed, one for each signature: all of them known and distinct.

        Raises UntrustedKeyError if no known key fits a signature, EnvelopeSignatureError if the one that its key id names
        does not.
        """
        known = list(keys)
        message = pae(PAYLOAD_TYPE, self.payload)
        signers: list[PublicKey] = []
        for signature in self.signatures:
            named = [key for key in known if key.keyid == signature.keyid]
            if signature.keyid is not None and not named:
                raise UntrustedKeyError(
                    f"statement {self.digest[:16]} is signed by key {signature.keyid[:80]}, which is not one of the trusted: "
                    + (", ".join(key.keyid[:16] for key in known) or "none")
                )
            key = _signer(message, signature, named or known, self.digest)
            if key in signers:
                raise EnvelopeSignatureError(f"statement {self.digest[:16]} is signed twice by key {key.keyid}")
            signers.append(key)
        return signers


def _signer(message: bytes, signature: EnvelopeSignature, candidates: Sequence[PublicKey], digest: str) -> PublicKey:
    reason: StatementKeyError | None = None
    for key in candidates:
        try:
            key.verify(signature.sig, message)
        except StatementKeyError as error:
            reason = error
        else:
            return key
    if signature.keyid is None:
        raise UntrustedKeyError(f"statement {digest[:16]} names no key, and its signature is of none of the trusted")
    raise EnvelopeSignatureError(f"statement {digest[:16]}: {reason}")


def sign(payload: bytes, keys: Sequence[StatementSigner]) -> Envelope:
    """A payload in an envelope signed by each key. Raises StatementError if it would not fit into a log entry."""
    message = pae(PAYLOAD_TYPE, payload)
    signatures = tuple(EnvelopeSignature(key.sign(message), key.public.keyid) for key in keys)
    wire = {
        "payload": b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": s.keyid, "sig": b64encode(s.sig).decode()} for s in signatures],
    }
    data = canonical(wire, what="an envelope", error=StatementError)
    if len(data) > MAX_ENVELOPE_SIZE:
        raise StatementError(
            f"the signed statement has {len(data):,} bytes, expected at most {MAX_ENVELOPE_SIZE:,} (a log entry): "
            f"name fewer files or shorten the parameters"
        )
    return Envelope(payload, signatures, data)


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field stands twice")
    return fields


def _base64(text: str, what: str) -> bytes:
    """Standard or URL-safe, padded, in the one form that encoding gives."""
    urlsafe = "-" in text or "_" in text
    try:
        data = urlsafe_b64decode(text) if urlsafe else b64decode(text)
    except (binascii.Error, ValueError) as error:
        raise StatementError(f"the {what} is not base64") from error
    if (urlsafe_b64encode(data) if urlsafe else b64encode(data)).decode() != text:
        raise StatementError(f"the {what} is not canonical base64")
    return data
