"""What training and certificate claim of privacy themselves: an audit's plan takes it over, so that a bound above it is a FAIL.

=========================  ============================================================================  ===============
detail                     what (ε, δ) compares                                                          the arm tested
=========================  ============================================================================  ===============
``dp-sgd/v1``              models trained with and without one record                                    original
``certified-removal/v1``   the model after removal, and one retrained without the records                unlearned
=========================  ============================================================================  ===============

An accountant knows what the noise would give, had it been drawn. The audit attacks the model that there is.
"""

from collections.abc import Iterable

from certify.audit.verdict import Claim
from certify.methods.certified_removal import CertifiedRemoval
from certify.methods.dp import DpSgdTraining
from certify.statement import Training, Unlearning


def stated(training: Training, certificate: Unlearning) -> Claim | None:
    """The claim nearest to the certificate, None if there is none."""
    if isinstance(removal := certificate.detail, CertifiedRemoval):
        return Claim("unlearned", removal.epsilon, removal.delta)
    if isinstance(noise := training.detail, DpSgdTraining):
        return Claim("original", noise.epsilon, noise.delta)
    return None


def left_out(stated: Claim | None, tested: Claim | None) -> Iterable[str]:
    """What the plan has to name among what it cannot test."""
    if stated is not None and stated != tested:
        yield f"the claim of {stated}, which the operator's own statements make"
