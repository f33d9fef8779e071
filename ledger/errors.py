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
