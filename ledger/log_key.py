"""A log's own signing key: Ed25519 always, ML-DSA-44 beside it when its key file has one.

tlog-tiles asks public logs for an Ed25519 signature, tlog-checkpoint recommends ML-DSA-44: signing with both serves both.

The Ed25519 key may be held elsewhere: whatever has ``public_key()`` and ``sign(text)`` will do, like a key in a token::

    LogKey.load(file, "example.com/log", password, held=TokenKey(TokenReference.parse("hsm:2"), pin))
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from ledger.checkpoint import Checkpoint
from ledger.cosignature import cosign
from ledger.errors import KeyFileError, SignerError
from ledger.keyfile import load_keys, save_keys
from ledger.note import COSIGNATURE_MLDSA44, ED25519, Note, NoteSignature, VerifierKey
from ledger.signed_checkpoint import open_checkpoint


class Ed25519Signer(Protocol):
    """An Ed25519 key that signs: cryptography's own, or one in a token."""

    def public_key(self) -> Ed25519PublicKey: ...

    def sign(self, data: bytes, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class LogKey:
    """The private keys of the log named ``name`` (its origin), and their public halves for ``trust.toml``, Ed25519 first."""

    name: str
    ed25519: Ed25519Signer
    mldsa44: MLDSA44PrivateKey | None = None
    verifier_keys: tuple[VerifierKey, ...] = field(init=False)

    def __post_init__(self) -> None:
        keys = [VerifierKey(self.name, ED25519, self.ed25519.public_key().public_bytes_raw())]
        if self.mldsa44 is not None:
            keys.append(VerifierKey(self.name, COSIGNATURE_MLDSA44, self.mldsa44.public_key().public_bytes_raw()))
        object.__setattr__(self, "verifier_keys", tuple(keys))

    @classmethod
    def generate(cls, name: str, *, post_quantum: bool = False, held: Ed25519Signer | None = None) -> "LogKey":
        """New keys. ``held``: an Ed25519 key that is there already, held elsewhere."""
        return cls(name, held or Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate() if post_quantum else None)

    def sign(self, checkpoint: Checkpoint, time: int) -> bytes:
        """The signed note of ``checkpoint``; ``time`` (POSIX seconds) goes into the ML-DSA-44 signature. Raises SignerError."""
        text = checkpoint.format()
        keys = self.verifier_keys
        signatures = [NoteSignature(self.name, keys[0].key_id, self._sign_ed25519(text))]
        if self.mldsa44 is not None:
            signatures.append(cosign(keys[1], self.mldsa44.sign, checkpoint, time))
        return Note(text.decode(), tuple(signatures)).format()

    def countersign(self, note: bytes, time: int) -> bytes:
        """``note``, a checkpoint that the Ed25519 key has signed, with an ML-DSA-44 signature beside; cosignatures stay.

        Raises SignatureError for any other checkpoint.
        """
        ed25519, *others = self.verifier_keys
        if self.mldsa44 is None or not others:
            raise KeyFileError(f"the log {self.name} has no ML-DSA-44 key")
        checkpoint = open_checkpoint(note, log_keys=[ed25519]).checkpoint
        kept = [
            line for line in Note.parse(note).signatures if (line.name, line.key_id) != (self.name, others[0].key_id)
        ]
        place = 1 + [line.key_id for line in kept].index(ed25519.key_id)
        kept.insert(place, cosign(others[0], self.mldsa44.sign, checkpoint, time))
        return Note(checkpoint.format().decode(), tuple(kept)).format()

    def _sign_ed25519(self, text: bytes) -> bytes:
        signature = self.ed25519.sign(text)
        if not isinstance(self.ed25519, Ed25519PrivateKey):  # what others made is checked before anything rests on it
            try:
                Ed25519PublicKey.from_public_bytes(self.verifier_keys[0].public).verify(signature, text)
            except InvalidSignature as error:
                raise SignerError(
                    f"what holds the key of log {self.name} returned a signature of another key"
                ) from error
        return signature

    def save(self, path: Path, password: bytes | None) -> None:
        """Write the key file, of the keys that are not held elsewhere; see :mod:`ledger.keyfile`."""
        keys = [key for key in (self.ed25519, self.mldsa44) if isinstance(key, Ed25519PrivateKey | MLDSA44PrivateKey)]
        if keys:
            save_keys(path, keys, password)

    @classmethod
    def load(cls, path: Path, name: str, password: bytes | None, *, held: Ed25519Signer | None = None) -> "LogKey":
        """From a key file. With ``held``, the Ed25519 key is that one, and the file, if there is one, has the ML-DSA-44 key."""
        ed25519: Ed25519PrivateKey | None = None
        mldsa44: MLDSA44PrivateKey | None = None
        for key in load_keys(path, password) if held is None or path.exists() else ():
            if isinstance(key, Ed25519PrivateKey) and ed25519 is None and held is None:
                ed25519 = key
            elif isinstance(key, MLDSA44PrivateKey) and mldsa44 is None:
                mldsa44 = key
            else:
                expected = "one Ed25519 key and" if held is None else "no Ed25519 key, as that is held elsewhere, and"
                raise KeyFileError(
                    f"{path} holds a {type(key).__name__}: a log key file has {expected} at most one ML-DSA-44 key"
                )
        signer = held if held is not None else ed25519
        if signer is None:
            raise KeyFileError(f"{path} holds no Ed25519 key")
        return cls(name, signer, mldsa44)
