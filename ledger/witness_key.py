"""A witness's own keys: Ed25519 always, ML-DSA-44 beside it when its key file has one. C2SP tlog-cosignature.

The specification prefers ML-DSA-44; logs whose clients know only Ed25519 need the other. Both signatures go out with each reply.
"""

from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from ledger.checkpoint import Checkpoint
from ledger.cosignature import cosign
from ledger.errors import KeyFileError
from ledger.keyfile import load_keys, save_keys
from ledger.note import COSIGNATURE_ED25519, COSIGNATURE_MLDSA44, NoteSignature, VerifierKey


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """The private keys of the witness named ``name``, and their public halves, Ed25519 first."""

    name: str
    ed25519: Ed25519PrivateKey
    mldsa44: MLDSA44PrivateKey | None = None
    verifier_keys: tuple[VerifierKey, ...] = field(init=False)

    def __post_init__(self) -> None:
        keys = [VerifierKey(self.name, COSIGNATURE_ED25519, self.ed25519.public_key().public_bytes_raw())]
        if self.mldsa44 is not None:
            keys.append(VerifierKey(self.name, COSIGNATURE_MLDSA44, self.mldsa44.public_key().public_bytes_raw()))
        object.__setattr__(self, "verifier_keys", tuple(keys))

    @classmethod
    def generate(cls, name: str, *, post_quantum: bool = False) -> "WitnessKey":
        return cls(name, Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate() if post_quantum else None)

    def cosign(self, checkpoint: Checkpoint, time: int) -> tuple[NoteSignature, ...]:
        """A cosignature by each key, at ``time`` (POSIX seconds)."""
        lines = [cosign(self.verifier_keys[0], self.ed25519.sign, checkpoint, time)]
        if self.mldsa44 is not None:
            lines.append(cosign(self.verifier_keys[1], self.mldsa44.sign, checkpoint, time))
        return tuple(lines)

    def save(self, path: Path, password: bytes | None) -> None:
        """Write the key file; see :mod:`ledger.keyfile`."""
        save_keys(path, [self.ed25519, *([self.mldsa44] if self.mldsa44 is not None else [])], password)

    @classmethod
    def load(cls, path: Path, name: str, password: bytes | None) -> "WitnessKey":
        """Raises KeyFileError."""
        keys = load_keys(path, password)
        match keys:
            case [Ed25519PrivateKey() as ed25519]:
                return cls(name, ed25519)
            case [Ed25519PrivateKey() as ed25519, MLDSA44PrivateKey() as mldsa44]:
                return cls(name, ed25519, mldsa44)
        raise KeyFileError(f"{path} is not a witness's key file: expected an Ed25519 key and at most one ML-DSA-44 key")
