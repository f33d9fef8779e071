"""Opening a signed checkpoint: whose log it is, that the log signed it, and who cosigned it when.

A log's trusted keys are *all* required: a log that signs with Ed25519 and ML-DSA-44 can't have one of them stripped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ledger.checkpoint import Checkpoint
from ledger.cosignature import verify_cosignature
from ledger.errors import SignatureError
from ledger.note import ED25519, Note, VerifierKey, verify_ed25519, verify_note


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint that the expected log signed; ``cosigned`` maps a witness's name to its time (POSIX seconds)."""

    checkpoint: Checkpoint
    data: bytes
    cosigned: Mapping[str, int] = field(default_factory=dict)


def open_checkpoint(
    data: bytes,
    *,
    log_keys: Sequence[VerifierKey],
    origin: str | None = None,
    witness_keys: Sequence[VerifierKey] = (),
) -> SignedCheckpoint:
    """Parse and verify. ``origin`` defaults to the log keys' name.

    Raises MalformedError, or SignatureError if the origin is another, one of ``log_keys`` did not sign, or a known witness's
    cosignature is wrong. Absent and unknown cosignatures are not an error: a policy counts what is there.
    """
    if not log_keys:  # with no key to require, a witness alone would do
        raise SignatureError("no key of the log is known: a checkpoint needs at least one to be opened")
    note = Note.parse(data)
    checkpoint = Checkpoint.parse(note.text)
    expected = origin if origin is not None else log_keys[0].name
    if checkpoint.origin != expected:
        raise SignatureError(f"a checkpoint of log {checkpoint.origin[:120]!r}, expected {expected!r}")

    cosigned: dict[str, int] = {}

    def verify(key: VerifierKey, text: bytes, payload: bytes) -> None:
        if key.type == ED25519:
            return verify_ed25519(key, text, payload)
        time = verify_cosignature(key, checkpoint, payload)
        if key not in log_keys:
            cosigned[key.name] = max(time, cosigned.get(key.name, 0))
        return None

    signed = verify_note(note, [*log_keys, *witness_keys], verify)
    for key in log_keys:
        if key not in signed:
            raise SignatureError(f"no {key.algorithm} signature of the log {key.name} ({key.key_id.hex()})")
    return SignedCheckpoint(checkpoint, data, cosigned)
