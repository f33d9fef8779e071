"""What the command line ends with. 0 is success, 2 a wrong call (click's), 11 to 19 the verifier's steps 1 to 9.

The verifier's and this package's own codes stand with their classes in :mod:`certify.errors`; the log's and the circuits' are
here.
"""

from certify.errors import CertifyError
from circuits import errors as circuits
from ledger import errors as ledger

FORKED = 51
INTERNAL = 70
INTERRUPTED = 130

_LEDGER_CODES: tuple[tuple[type[ledger.LedgerError], int], ...] = (  # subclasses first
    (ledger.RolledBackError, 33),
    (ledger.TamperedError, 32),
    (ledger.StorageError, 31),
    (ledger.MalformedError, 34),
    (ledger.SignatureError, 35),
    (ledger.ProofError, 36),
    (ledger.EntryTooLargeError, 37),
    (ledger.ConflictError, 38),
    (ledger.KeyFileError, 30),
    (ledger.WitnessError, 50),
    (ledger.TimestampError, 54),
    (ledger.SignerError, 55),
    (ledger.MissingError, 52),
    (ledger.RemoteError, 52),
    (ledger.AdmissionError, 53),
    (ledger.MissingExtraError, 57),
    (ledger.ForkError, FORKED),
)
FSCK_FOUND = 39
STATEMENTS_FOUND = 58
AUDITS_DUE = 59
ROLLED_BACK = 64
_CIRCUIT_CODES: tuple[tuple[type[circuits.CircuitError], int], ...] = (  # subclasses first
    (circuits.SrsError, 41),
    (circuits.CommitmentError, 42),
    (circuits.QuantizeError, 43),
    (circuits.ResourceError, 45),
    (circuits.ProverError, 44),
    (circuits.ZkProofError, 46),
    (circuits.CircuitError, 40),
)


def exit_code(error: BaseException) -> int:
    """The code for an error that ended a command."""
    if isinstance(error, CertifyError):
        return error.exit_code
    for kind, code in (*_LEDGER_CODES, *_CIRCUIT_CODES):
        if isinstance(error, kind):
            return code
    return 1 if isinstance(error, ledger.LedgerError) else INTERNAL
