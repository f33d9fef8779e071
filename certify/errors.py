"""Errors of the certificates. One class only where a caller would branch; messages say what was expected and what came.

``exit_code`` is what the command line ends with; SPEC.md lists them all. 11 to 19 are the verifier's steps 1 to 9.
"""


class CertifyError(Exception):
    """Base of everything this package raises on purpose."""

    exit_code = 1


class InputError(CertifyError):
    """A file or an option that the user gave cannot be used."""

    exit_code = 3


class DigestError(CertifyError):
    """Weights or files cannot be hashed, changed while they were, or do not match a digest."""

    exit_code = 4


class DatasetError(CertifyError):
    """Records cannot be read or committed to, or a record does not match its commitment."""

    exit_code = 5


class StatementKeyError(CertifyError):
    """A key cannot be read or used, or a signature by a statement key is wrong."""

    exit_code = 6


class StatementError(CertifyError):
    """Bytes that are not a well-formed envelope or statement, or say what a statement must not."""

    exit_code = 7


class TrustError(CertifyError):
    """The trust file cannot be read or contradicts itself."""

    exit_code = 8


class WorkspaceError(CertifyError):
    """The ledger's folder, its vault or a statement that should be in it is missing or damaged."""

    exit_code = 9


class MissingExtra(CertifyError):
    """A package that only some commands need is not installed."""

    exit_code = 57


class GateError(CertifyError):
    """A model lost more of its use than its operator allows."""

    exit_code = 60


class RollbackError(CertifyError):
    """A model that precedes an unlearning would serve, and nobody said that this is meant."""

    exit_code = 64


class SearchError(CertifyError):
    """The index for searching disagrees with the log."""

    exit_code = 56


class CircuitMismatchError(CertifyError):
    """A circuit that was rebuilt from its description is another than the one described."""

    exit_code = 48


class VerificationError(CertifyError):
    """A step of the verification failed. ``step`` is its number in SPEC.md, ``passed`` what was established before."""

    step = 0
    passed: tuple[object, ...] = ()


class BundleError(VerificationError):
    """Step 1: the bundle is not well-formed."""

    step = 1
    exit_code = 11


class EnvelopeSignatureError(VerificationError):
    """Step 2: an envelope's signature is wrong."""

    step = 2
    exit_code = 12


class UntrustedKeyError(VerificationError):
    """Step 2: an envelope is signed by a key that ``trust.toml`` does not name."""

    step = 2
    exit_code = 22


class KeyValidityError(VerificationError):
    """Step 2: the key was not valid at the time: not yet, expired or revoked."""

    step = 2
    exit_code = 23


class RevokedKeyError(KeyValidityError):
    """Step 5: ``trust.toml`` calls the key revoked, and nothing shows that its statements were logged before."""

    step = 5


class InclusionError(VerificationError):
    """Step 3: an entry is not included under the checkpoint."""

    step = 3
    exit_code = 13


class CheckpointError(VerificationError):
    """Step 4: the checkpoint is not signed by a trusted log, or too few trusted witnesses cosigned it."""

    step = 4
    exit_code = 14


class TimestampError(CheckpointError):
    """Step 4: a time stamp on the checkpoint does not verify, or a required one is missing."""

    exit_code = 54


class OrderError(VerificationError):
    """Step 5: something was logged or done before what it follows from."""

    step = 5
    exit_code = 15


class ChainError(VerificationError):
    """Step 6: the statements contradict each other or what comes with them."""

    step = 6
    exit_code = 16


class ProofRefusedError(VerificationError):
    """Step 7: a zero-knowledge proof does not hold, or not for what the ledger committed to."""

    step = 7
    exit_code = 17


class UnacceptedCircuitError(ProofRefusedError):
    """Step 7: ``trust.toml`` accepts no such circuit, and no trusted auditor has built it."""

    exit_code = 27


class DevelopmentSrsError(ProofRefusedError):
    """Step 7: the reference string is not the ceremony's, so that somebody may be able to forge proofs."""

    exit_code = 28


class AuditError(VerificationError):
    """Step 8: an audit is of something else, by somebody who cannot be its auditor, or says what does not follow."""

    step = 8
    exit_code = 18


class FailedAuditError(AuditError):
    """Step 8: a trusted auditor's last verdict is FAIL or OVER-FORGOTTEN."""


class MissingAuditError(AuditError):
    """Step 8: ``trust.toml`` requires an audit that passed, and there is none, or it is stale."""


class ReplayError(VerificationError):
    """Step 8: a replay is of something else, by somebody who cannot be its replayer, or says what does not follow."""

    step = 8
    exit_code = 61


class FailedReplayError(ReplayError):
    """Step 8: a trusted replayer ran the recipe again and got other weights."""


class DeploymentError(VerificationError):
    """Step 8: a deployment is of another model than it says, or hides that it is a rollback."""

    step = 8
    exit_code = 63


class MismatchError(VerificationError):
    """Step 9: the weights, files or receipt given are not those of the certificate."""

    step = 9
    exit_code = 19


class UpstreamError(VerificationError):
    """Step 9: a bundle given for a base model does not verify, or is not what the training names."""

    step = 9
    exit_code = 62
