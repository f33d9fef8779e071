"""Keys that sign statements: ECDSA P-256 (the default, what sigstore's tools verify), Ed25519 and ML-DSA-65.

A key is known by its id, the SHA-256 of its public key as SubjectPublicKeyInfo. Signatures have one form each: ECDSA ones
are strict DER with the lower of the two possible s, so that a signed envelope cannot be turned into another valid one.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from certify.errors import StatementKeyError
from ledger.errors import MalformedError
from ledger.keyfile import load_keys, save_keys
from ledger.note import check_ed25519_key

Algorithm = Literal["ecdsa-p256", "ed25519", "ml-dsa-65"]
ALGORITHMS: tuple[Algorithm, ...] = ("ecdsa-p256", "ed25519", "ml-dsa-65")

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_Public = EllipticCurvePublicKey | Ed25519PublicKey | MLDSA65PublicKey
_Private = EllipticCurvePrivateKey | Ed25519PrivateKey | MLDSA65PrivateKey


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A statement key's public half. ``keyid`` is the SHA-256 of ``spki`` (DER), in hex."""

    key: _Public = field(compare=False, repr=False)
    algorithm: Algorithm
    spki: bytes = field(repr=False)
    keyid: str

    @classmethod
    def of(cls, key: object) -> "PublicKey":
        if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
            algorithm: Algorithm = "ecdsa-p256"
        elif isinstance(key, Ed25519PublicKey):
            algorithm = "ed25519"
            try:
                check_ed25519_key(key.public_bytes_raw())
            except MalformedError as error:
                raise StatementKeyError(str(error)) from error
        elif isinstance(key, MLDSA65PublicKey):
            algorithm = "ml-dsa-65"
        else:
            raise StatementKeyError(f"a {type(key).__name__} came, expected a key of {', '.join(ALGORITHMS)}")
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return cls(key, algorithm, spki, sha256(spki).hexdigest())

    @classmethod
    def from_spki(cls, spki: bytes) -> "PublicKey":
        """From DER, which must be in the form that we would write."""
        try:
            key = cls.of(load_der_public_key(spki))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise StatementKeyError("not a public key in DER (SubjectPublicKeyInfo)") from error
        if key.spki != spki:
            raise StatementKeyError(f"public key {key.keyid} is not in its canonical form")
        return key

    @classmethod
    def from_pem(cls, text: str) -> "PublicKey":
        try:
            return cls.of(load_pem_public_key(text.encode()))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise StatementKeyError("not a public key in PEM ('-----BEGIN PUBLIC KEY-----')") from error

    def pem(self) -> str:
        return self.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def canonical(self, signature: bytes) -> bytes:
        """The one accepted form of a signature that somebody else's software or hardware made: low s, where it is ECDSA."""
        if isinstance(self.key, EllipticCurvePublicKey):
            try:
                r, s = decode_dss_signature(signature)
                return encode_dss_signature(r, min(s, _P256_ORDER - s))
            except ValueError as error:
                raise StatementKeyError(f"not an ECDSA signature in DER: {signature[:4].hex()}…") from error
        return signature

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raise StatementKeyError unless ``signature`` is this key's, in its only accepted form."""
        try:
            if isinstance(self.key, EllipticCurvePublicKey):
                r, s = decode_dss_signature(signature)
                if s > _P256_ORDER // 2 or encode_dss_signature(r, s) != signature:
                    raise StatementKeyError(f"signature of {self.keyid} is not in its canonical form (DER, low s)")
                self.key.verify(signature, message, ECDSA(SHA256()))
            else:
                self.key.verify(signature, message)
        except (InvalidSignature, ValueError) as error:
            raise StatementKeyError(f"wrong {self.algorithm} signature of key {self.keyid}") from error


class StatementSigner(Protocol):
    """What signs statements: a key from a file, or one held elsewhere (:mod:`certify.signers`)."""

    @property
    def public(self) -> PublicKey: ...

    def sign(self, message: bytes) -> bytes:
        """A signature in its one accepted form."""
        ...


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A statement key from a file."""

    key: _Private = field(repr=False)
    public: PublicKey

    @classmethod
    def generate(cls, algorithm: Algorithm = "ecdsa-p256") -> "SigningKey":
        if algorithm == "ecdsa-p256":
            return cls.of(generate_ec(SECP256R1()))
        if algorithm == "ed25519":
            return cls.of(Ed25519PrivateKey.generate())
        if algorithm == "ml-dsa-65":
            return cls.of(MLDSA65PrivateKey.generate())
        raise StatementKeyError(f"no algorithm {algorithm!r}, expected one of {', '.join(ALGORITHMS)}")

    @classmethod
    def of(cls, key: object) -> "SigningKey":
        if not isinstance(key, _Private):
            raise StatementKeyError(f"a {type(key).__name__} came, expected a key of {', '.join(ALGORITHMS)}")
        return cls(key, PublicKey.of(key.public_key()))

    @classmethod
    def load(cls, path: Path, password: bytes | None) -> "SigningKey":
        """From an encrypted PKCS#8 file that holds one key; raises ledger's KeyFileError."""
        keys = load_keys(path, password)
        if len(keys) != 1:
            raise StatementKeyError(f"{path} holds {len(keys)} keys, expected one")
        return cls.of(keys[0])

    def save(self, path: Path, password: bytes | None) -> None:
        save_keys(path, [self.key], password)

    def sign(self, message: bytes) -> bytes:
        if isinstance(self.key, EllipticCurvePrivateKey):
            return self.public.canonical(self.key.sign(message, ECDSA(SHA256())))
        return self.key.sign(message)
