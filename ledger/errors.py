"""Errors of the log. One class only where a caller would branch; each message says what was expected and what came."""


class LedgerError(Exception):
    """Base of everything this package raises on purpose."""


class MalformedError(LedgerError):
    """Bytes that do not parse as the format they claim: a note, a checkpoint, a tile, a proof, a key."""


class SignatureError(LedgerError):
    """A signature is missing, or one from a known key is wrong."""


class ProofError(LedgerError):
    """An inclusion or consistency proof does not lead to the expected root."""


class EntryTooLargeError(LedgerError):
    """An entry is longer than an entry bundle can hold (65,535 bytes)."""


class KeyFileError(LedgerError):
    """A private key file is missing, readable by others, or its password is wrong."""


class StorageError(LedgerError):
    """The database is missing, locked, full, or not a log."""


class TamperedError(StorageError):
    """What was read back from storage is not what was signed. Nothing is signed over it."""


class RolledBackError(TamperedError):
    """Storage is older than a checkpoint that this log is known to have signed."""


class ConflictError(LedgerError):
    """The tree is no longer at the size the caller expected (compare-and-swap failed)."""


class MissingError(LedgerError):
    """A tile, bundle or checkpoint is not where it should be served."""


class RemoteError(LedgerError):
    """A server could not be reached, or answered with something else than what its protocol says. Nothing is acknowledged."""


class AdmissionError(LedgerError):
    """A log does not take entries from whoever asks: no token, or not for this issuer."""


class TokenError(AdmissionError):
    """No token, or one that is unknown, revoked or expired."""


class BusyError(LedgerError):
    """A server has too much to do already. The same request may succeed later."""


class RateError(BusyError):
    """Too much of what a server has to do is for whoever asks."""


class MissingExtraError(LedgerError):
    """A package that only some parts need is not installed."""


class ForkError(LedgerError):
    """A log signed two checkpoints that contradict each other. ``proof`` shows it to anybody (:mod:`ledger.fork`)."""

    def __init__(self, message: str, proof: bytes) -> None:
        super().__init__(message)
        self.proof = proof


class TimestampError(LedgerError):
    """A time-stamp token that is malformed, of something else, or not by the authority that was expected."""


class SignerError(LedgerError):
    """A key that is held elsewhere, in a token or by a cloud's key service, cannot sign: not there, wrong PIN, unplugged."""


class WitnessError(LedgerError):
    """Too few witnesses cosigned a checkpoint. What was appended stays, unacknowledged; the same append later finds it."""


class SupersededError(WitnessError):
    """Witnesses have cosigned a larger tree already: there is no quorum for this one any more. ``size`` is theirs."""

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size
