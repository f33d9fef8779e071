"""Statements by others than the issuer, brought to its ledger as they were signed elsewhere: audits and replays.

::

    said, envelope = read(workspace, data, (AuditPlan, Audit), "an audit or the plan of one")
    logged, signer = append(workspace, envelope, [*known, *auditors], trust, own="nobody audits their own forgetting")
"""

from collections.abc import Iterable

from certify.envelope import Envelope
from certify.errors import StatementError, UntrustedKeyError
from certify.keyring import CLOCK_SKEW, claimed_time
from certify.keys import PublicKey
from certify.statement import Audit, AuditPlan, Replay, Statement
from certify.times import now
from certify.trust import Trust
from certify.workspace import Logged, Workspace

Said = AuditPlan | Audit | Replay


def read(workspace: Workspace, data: bytes, kinds: tuple[type[Said], ...], expected: str) -> tuple[Said, Envelope]:
    """What is said, and the envelope. It has to be of one of those kinds, made for this log, and not dated in the future.

    Raises StatementError.
    """
    envelope = Envelope.parse(data)
    statement = Statement.parse(envelope.payload)
    said = statement.predicate
    if not isinstance(said, kinds):
        raise StatementError(f"a {statement.kind} statement came, expected {expected}")
    if said.log != workspace.origin:
        raise StatementError(f"the statement is made for log {said.log!r}, this one is {workspace.origin!r}")
    if claimed_time(statement) > now() + CLOCK_SKEW:
        raise StatementError("the statement is dated in the future")
    return said, envelope


def append(
    workspace: Workspace, envelope: Envelope, known: Iterable[PublicKey], trust: Trust, *, own: str
) -> tuple[Logged, PublicKey | None]:
    """Log it; also the key of ``known`` that it is checked to be signed by. ``own`` says why no issuer may have signed it.

    A wrong signature by one of ``known`` would make verifiers refuse every bundle that has it. Raises StatementError or
    EnvelopeSignatureError.
    """
    issuers = {issuer.key.keyid for issuer in trust.issuers}
    if any(signature.keyid in issuers for signature in envelope.signatures):
        raise StatementError(f"an issuer signed this: {own}, and verifiers would refuse it")
    try:
        signers = envelope.verify(known)
    except UntrustedKeyError:
        return workspace.append(envelope), None
    return workspace.append(envelope), signers[0]
