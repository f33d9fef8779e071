"""Timestamped signatures on checkpoints: C2SP tlog-cosignature, Ed25519 (type 0x04) and ML-DSA-44 (type 0x06).

Witnesses cosign with either; a log signs with ML-DSA-44 in the same form, beside its plain Ed25519 signature. The Ed25519
cosignature covers the whole note text, the ML-DSA-44 one covers cosigner, time, origin, size and root.
"""

from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

from ledger.checkpoint import Checkpoint
from ledger.errors import MalformedError, SignatureError
from ledger.note import (
    COSIGNATURE_ED25519,
    COSIGNATURE_MLDSA44,
    NoteSignature,
    VerifierKey,
    verify_ed25519,
)

MAX_TIME = 2**63 - 1
MAX_NAME_SIZE = 255
_SIGNATURE_SIZES = {COSIGNATURE_ED25519: 64, COSIGNATURE_MLDSA44: 2420}


def ed25519_message(text: bytes, time: int) -> bytes:
    """What an Ed25519 cosigner signs: two lines, then the note text."""
    return b"cosignature/v1\ntime %d\n" % time + text


def mldsa44_message(name: str, checkpoint: Checkpoint, time: int) -> bytes:
    """The ``cosigned_message`` structure for a checkpoint (start 0, end the tree size)."""
    cosigner, origin = name.encode(), checkpoint.origin.encode()
    if not (0 < len(cosigner) <= MAX_NAME_SIZE and 0 < len(origin) <= MAX_NAME_SIZE):
        raise MalformedError(
            f"ML-DSA-44 signs for names of at most {MAX_NAME_SIZE} bytes: {name[:80]!r} of {checkpoint.origin[:80]!r}"
        )
    return b"".join(
        (
            b"subtree/v1\n\0",
            len(cosigner).to_bytes(1, "big") + cosigner,
            time.to_bytes(8, "big"),
            len(origin).to_bytes(1, "big") + origin,
            (0).to_bytes(8, "big"),
            checkpoint.size.to_bytes(8, "big"),
            checkpoint.root,
        )
    )


def message(key: VerifierKey, checkpoint: Checkpoint, time: int) -> bytes:
    """The bytes that the holder of ``key`` signs for ``checkpoint`` at ``time`` (POSIX seconds)."""
    if key.type == COSIGNATURE_MLDSA44:
        return mldsa44_message(key.name, checkpoint, time)
    return ed25519_message(checkpoint.format(), time)


def cosign(key: VerifierKey, sign: Callable[[bytes], bytes], checkpoint: Checkpoint, time: int) -> NoteSignature:
    """A signature line for ``checkpoint``; ``sign`` is the private operation that belongs to ``key``."""
    signature = sign(message(key, checkpoint, time))
    return NoteSignature(key.name, key.key_id, time.to_bytes(8, "big") + signature)


def verify_cosignature(key: VerifierKey, checkpoint: Checkpoint, payload: bytes) -> int:
    """The time (POSIX seconds) at which ``key`` cosigned ``checkpoint``; raises SignatureError."""
    expected = 8 + _SIGNATURE_SIZES[key.type]
    if len(payload) != expected:
        raise SignatureError(f"cosignature of {key.name} has {len(payload)} bytes, expected {expected}")
    time, signature = int.from_bytes(payload[:8], "big"), payload[8:]
    if time > MAX_TIME:
        raise SignatureError(f"cosignature of {key.name} has time {time}, expected at most {MAX_TIME}")
    signed = message(key, checkpoint, time)
    if key.type == COSIGNATURE_ED25519:
        verify_ed25519(key, signed, signature)
        return time
    try:
        MLDSA44PublicKey.from_public_bytes(key.public).verify(signature, signed)
    except (InvalidSignature, ValueError) as error:
        raise SignatureError(f"wrong ML-DSA-44 signature of {key.name} ({key.key_id.hex()})") from error
    return time
