"""A log's own signing key: Ed25519 always, ML-DSA-44 beside it when its key file has one.

tlog-tiles asks public logs for an Ed25519 signature, tlog-checkpoint recommends ML-DSA-44: signing with both serves both.
"""

from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from ledger.checkpoint import Checkpoint
from ledger.cosignature import cosign
from ledger.errors import KeyFileError
from ledger.keyfile import load_keys, save_keys
from ledger.note import COSIGNATURE_MLDSA44, ED25519, Note, NoteSignature, VerifierKey


@dataclass(frozen=True, slots=True)
class LogKey:
    """The private keys of the log named ``name`` (its origin), and their public halves for ``trust.toml``, Ed25519 first."""

    name: str
    ed25519: Ed25519PrivateKey
    mldsa44: MLDSA44PrivateKey | None = None
    verifier_keys: tuple[VerifierKey, ...] = field(init=False)

    def __post_init__(self) -> None:
        keys = [VerifierKey(self.name, ED25519, self.ed25519.public_key().public_bytes_raw())]
        if self.mldsa44 is not None:
            keys.append(VerifierKey(self.name, COSIGNATURE_MLDSA44, self.mldsa44.public_key().public_bytes_raw()))
        object.__setattr__(self, "verifier_keys", tuple(keys))

    @classmethod
    def generate(cls, name: str, *, post_quantum: bool = False) -> "LogKey":
        return cls(name, Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate() if post_quantum else None)

    def sign(self, checkpoint: Checkpoint, time: int) -> bytes:
        """The signed note of ``checkpoint``; ``time`` (POSIX seconds) goes into the ML-DSA-44 signature."""
        text = checkpoint.format()
        keys = self.verifier_keys
        signatures = [NoteSignature(self.name, keys[0].key_id, self.ed25519.sign(text))]
        if self.mldsa44 is not None:
            signatures.append(cosign(keys[1], self.mldsa44.sign, checkpoint, time))
        return Note(text.decode(), tuple(signatures)).format()

    def save(self, path: Path, password: bytes | None) -> None:
        """Write the key file; see :mod:`ledger.keyfile`."""
        save_keys(path, [self.ed25519, *([self.mldsa44] if self.mldsa44 is not None else [])], password)

    @classmethod
    def load(cls, path: Path, name: str, password: bytes | None) -> "LogKey":
        ed25519: Ed25519PrivateKey | None = None
        mldsa44: MLDSA44PrivateKey | None = None
        for key in load_keys(path, password):
            if isinstance(key, Ed25519PrivateKey) and ed25519 is None:
                ed25519 = key
            elif isinstance(key, MLDSA44PrivateKey) and mldsa44 is None:
                mldsa44 = key
            else:
                raise KeyFileError(
                    f"{path} holds a {type(key).__name__}: a log key file has one Ed25519 key and at most one ML-DSA-44 key"
                )
        if ed25519 is None:
            raise KeyFileError(f"{path} holds no Ed25519 key")
        return cls(name, ed25519, mldsa44)
