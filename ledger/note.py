"""Signed notes and verifier keys: C2SP signed-note.

A note is a text, an empty line, and signature lines. A verifier key is how a signer is known to others::

    example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k

Unknown signatures are ignored, as the specification asks; a wrong signature of a known key refuses the whole note.
"""

import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.errors import MalformedError, SignatureError

ED25519 = 0x01
COSIGNATURE_ED25519 = 0x04
COSIGNATURE_MLDSA44 = 0x06
KEY_SIZES = {ED25519: 32, COSIGNATURE_ED25519: 32, COSIGNATURE_MLDSA44: 1312}
ALGORITHM_NAMES = {
    ED25519: "Ed25519",
    COSIGNATURE_ED25519: "Ed25519 cosignature",
    COSIGNATURE_MLDSA44: "ML-DSA-44",
}

MAX_NOTE_SIZE = 1 << 20
MAX_SIGNATURES = 64

_P = 2**255 - 19
# y coordinates of the points whose order divides 8. Any message verifies under some of them.
_ORDER_8_Y = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_LOW_ORDER_Y = {0, 1, _P - 1, _ORDER_8_Y, _P - _ORDER_8_Y}


def decode_base64(text: str, what: str) -> bytes:
    """Standard, padded, canonical base64 and nothing else."""
    try:
        data = b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError(f"{what} is not base64: {text[:60]!r}") from error
    if b64encode(data).decode() != text:
        raise MalformedError(f"{what} is not canonical base64: {text[:60]!r}")
    return data


def check_name(name: str) -> None:
    """Key names have no Unicode space, no '+', no control character, and are not empty."""
    if not name or "+" in name or any(c.isspace() or ord(c) < 0x20 for c in name):
        raise MalformedError(f"not a key name: {name[:80]!r} (expected no space and no '+', like 'example.com/log')")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise MalformedError(f"not a key name: {name[:80]!r} is not valid Unicode") from error


def check_ed25519_key(key: bytes) -> None:
    """Refuse non-canonical and low-order public keys: under these, signatures prove nothing (C2SP CCTV)."""
    y = int.from_bytes(key, "little") & (1 << 255) - 1
    if len(key) != 32 or y >= _P:
        raise MalformedError(f"not a canonical Ed25519 public key: {key.hex()[:80]}")
    if y in _LOW_ORDER_Y:
        raise MalformedError(f"Ed25519 public key of low order: {key.hex()}")


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A name, a signature type and a public key: what a note's signature line is checked with.

    ``key_id`` is SHA-256(name || 0x0A || type || key)[:4].
    """

    name: str
    type: int
    public: bytes
    key_id: bytes = field(init=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        expected = KEY_SIZES.get(self.type)
        if expected is None:
            known = ", ".join(f"{type_:02x}" for type_ in KEY_SIZES)
            raise MalformedError(
                f"verifier key {self.name} has signature type {self.type:02x}, expected one of {known}"
            )
        if len(self.public) != expected:
            raise MalformedError(f"verifier key {self.name} has {len(self.public)} bytes, expected {expected}")
        if expected == 32:
            check_ed25519_key(self.public)
        key_id = sha256(self.name.encode() + b"\n" + bytes([self.type]) + self.public).digest()[:4]
        object.__setattr__(self, "key_id", key_id)

    @property
    def algorithm(self) -> str:
        return ALGORITHM_NAMES[self.type]

    def format(self) -> str:
        encoded = b64encode(bytes([self.type]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        name, _, rest = text.partition("+")
        key_id, _, encoded = rest.partition("+")
        data = decode_base64(encoded, f"verifier key {name[:80]!r}")
        if not data:
            raise MalformedError(f"verifier key {text[:80]!r} is empty, expected name+id+base64")
        key = cls(name, data[0], data[1:])
        if key_id != key.key_id.hex():
            raise MalformedError(f"verifier key {name!r} has id {key_id[:16]!r}, expected {key.key_id.hex()}")
        return key


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line; ``payload`` is what follows the key id."""

    name: str
    key_id: bytes
    payload: bytes

    def format(self) -> str:
        return f"— {self.name} {b64encode(self.key_id + self.payload).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A text and its signatures, none of them checked yet."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def format(self) -> bytes:
        return (self.text + "\n" + "".join(s.format() for s in self.signatures)).encode()

    @classmethod
    def parse(cls, data: bytes) -> "Note":
        if len(data) > MAX_NOTE_SIZE:
            raise MalformedError(f"a note has {len(data):,} bytes, expected at most {MAX_NOTE_SIZE:,}")
        try:
            whole = data.decode()
        except UnicodeDecodeError as error:
            raise MalformedError("a note is not valid UTF-8") from error
        if any(c < " " and c != "\n" for c in whole):
            raise MalformedError("a note contains a control character")
        split = whole.rfind("\n\n")
        if split < 0:
            raise MalformedError("a note has no empty line between text and signatures")
        text, block = whole[: split + 1], whole[split + 2 :]
        if not block.endswith("\n"):
            raise MalformedError("a note does not end in a signature line and newline")
        lines = block[:-1].split("\n")
        if len(lines) > MAX_SIGNATURES:
            raise MalformedError(f"a note has {len(lines)} signatures, expected at most {MAX_SIGNATURES}")
        return cls(text, tuple(parse_signature_line(line) for line in lines))


def parse_signature_line(line: str) -> NoteSignature:
    """``— <name> <base64(key id || signature)>``"""
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    if dash != "—":
        raise MalformedError(f"not a signature line: {line[:80]!r}, expected '— name base64'")
    check_name(name)
    data = decode_base64(encoded, f"signature of {name!r}")
    if len(data) < 5:
        raise MalformedError(f"signature of {name!r} has {len(data)} bytes, expected 4 of key id and a signature")
    return NoteSignature(name, data[:4], data[4:])


def verify_ed25519(key: VerifierKey, message: bytes, signature: bytes) -> None:
    """Raise SignatureError unless ``signature`` is the key's Ed25519 signature of ``message``."""
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise SignatureError(f"wrong Ed25519 signature of {key.name} ({key.key_id.hex()})") from error


def verify_note(
    note: Note,
    keys: Sequence[VerifierKey],
    verify: Callable[[VerifierKey, bytes, bytes], None] = verify_ed25519,
) -> list[VerifierKey]:
    """The keys, of those known, that signed ``note``; at least one.

    Raises SignatureError if a known key's signature is wrong or stands twice, or if there is none of a known key.
    """
    text = note.text.encode()
    known = {(key.name, key.key_id): key for key in keys}
    signed: list[VerifierKey] = []
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None:
            continue
        if key in signed:
            raise SignatureError(f"two signatures of {key.name} ({key.key_id.hex()}) on one note")
        verify(key, text, signature.payload)
        signed.append(key)
    if not signed:
        expected = ", ".join(f"{key.name} ({key.key_id.hex()})" for key in keys) or "none, as no key is known"
        came = ", ".join(f"{s.name[:80]} ({s.key_id.hex()})" for s in note.signatures)
        raise SignatureError(f"no signature of a known key: expected {expected}; came {came}")
    return signed
