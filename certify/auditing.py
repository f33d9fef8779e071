"""The auditor's side of the log: which certificate, what of ours about it is logged already, and the next statement after it.

::

    target = find(workspace, "3")                             # the certificate at entry 3, and what it follows from
    mine = chain_of(workspace, target, [key.public])          # our plan and attempts about it, in order
    log(workspace, key, plan)                                 # which names the last of them as the one before

The log may be the operator's or a remote one; only the log is read, never the operator's vault. Nothing here imports torch.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from certify import outside
from certify.audit_moves import moves
from certify.envelope import sign
from certify.errors import StatementError, VerificationError, WorkspaceError
from certify.keys import PublicKey, StatementSigner
from certify.statement import TENSOR_ROOT, Audit, AuditPlan, Request, Statement, Training, Tree, Unlearning, subject
from certify.times import now, parse_time
from certify.trust import Trust
from certify.workspace import Logged, Workspace


@dataclass(frozen=True, slots=True)
class Target:
    """A certificate, and the training data and forgotten records that it is about."""

    logged: Logged
    training: Tree
    forget: Tree

    @property
    def certificate(self) -> Unlearning:
        predicate = self.logged.statement.predicate
        assert isinstance(predicate, Unlearning)
        return predicate


def find(workspace: Workspace, name: str | None = None) -> Target:
    """The certificate with this index or (start of a) digest, by default the last one in the log. Raises WorkspaceError."""
    statements = list(workspace.statements())
    certificates = [logged for logged in statements if isinstance(logged.statement.predicate, Unlearning)]
    if name is not None:
        certificates = [
            logged
            for logged in certificates
            if (name.isdecimal() and len(name) < 10 and int(name) == logged.index)
            or (len(name) >= 4 and logged.digest.startswith(name))
        ]
        if len(certificates) != 1:
            raise WorkspaceError(f"{len(certificates) or 'no'} certificates match {name!r}, expected one")
    if not certificates:
        raise WorkspaceError("the log has no certificate to audit")
    return _target(certificates[-1], {logged.digest: logged for logged in statements})


def _target(logged: Logged, by_digest: dict[str, Logged]) -> Target:
    certificate = logged.statement.predicate
    assert isinstance(certificate, Unlearning)
    parent: Logged | None = by_digest.get(certificate.parent)
    while parent is not None and isinstance(earlier := parent.statement.predicate, Unlearning):
        before = by_digest.get(earlier.parent)
        parent = before if before is not None and before.index < parent.index else None
    if parent is None or not isinstance(training := parent.statement.predicate, Training):
        raise WorkspaceError(f"the certificate at entry {logged.index} leads back to no training in the log")
    forget = certificate.removed
    if forget is None:
        request = by_digest.get(certificate.requests[0])
        if request is None or not isinstance(asked := request.statement.predicate, Request):
            raise WorkspaceError(f"the certificate at entry {logged.index} answers no request in the log")
        forget = asked.forget
    return Target(logged, training.dataset, forget)


def signed_by(logged: Logged, keys: Sequence[PublicKey]) -> bool:
    """Whether one of the keys, and nobody else, signed."""
    try:
        return bool(logged.envelope.verify(keys))
    except VerificationError:
        return False


def chain_of(workspace: Workspace, target: Target, keys: Sequence[PublicKey]) -> list[Logged]:
    """What these keys have signed about the certificate, in the log's order."""
    return [
        logged
        for logged in workspace.statements(target.logged.index + 1)
        if isinstance(said := logged.statement.predicate, AuditPlan | Audit)
        and said.certificate == target.logged.digest
        and signed_by(logged, keys)
    ]


def current(chain: Sequence[Logged]) -> tuple[Logged, AuditPlan]:
    """The last plan. Raises WorkspaceError."""
    for logged in reversed(chain):
        if isinstance(plan := logged.statement.predicate, AuditPlan):
            return logged, plan
    raise WorkspaceError("you have logged no plan about this certificate: certify audit plan comes first")


def attempts(chain: Sequence[Logged], plan: str) -> list[Audit]:
    """The entries about attempts at the plan with this digest."""
    return [said for logged in chain if isinstance(said := logged.statement.predicate, Audit) and said.plan == plan]


def log(workspace: Workspace, key: StatementSigner, said: AuditPlan | Audit) -> Logged:
    """Sign it, and append it to the log."""
    if said.log != workspace.origin:
        raise StatementError(f"the statement is made for log {said.log!r}, this one is {workspace.origin!r}")
    statement = Statement((subject(TENSOR_ROOT, said.model.tensor_root),), said)
    return workspace.append(sign(statement.payload(), [key]))


def log_envelope(workspace: Workspace, data: bytes, known: Sequence[PublicKey] = ()) -> tuple[Logged, PublicKey | None]:
    """Append an auditor's statement that was signed elsewhere, as it came; also the key that it is checked to be signed by.

    It has to be made for this log, about a certificate in it, and not dated in the future. A signature by one of ``known``, or by
    an auditor in the ledger's trust file, has to hold: a wrong one would make verifiers refuse every bundle that has it. Raises
    StatementError, WorkspaceError or EnvelopeSignatureError.
    """
    said, envelope = outside.read(workspace, data, (AuditPlan, Audit), "an audit or the plan of one")
    find(workspace, said.certificate)
    trust = Trust.load(workspace.path / "trust.toml")
    keys = [*known, *(auditor.key for auditor in trust.auditors)]
    return outside.append(workspace, envelope, keys, trust, own="nobody audits their own forgetting")


# -- what is due ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Status:
    """How a certificate stands, from the log alone. ``due``: when the last audit becomes stale, None where there is none."""

    logged: Logged
    auditor: str | None
    last: Logged | None
    due: datetime | None
    unfinished: bool
    """An attempt was started after it and did not end, or an end is missing."""

    @property
    def verdict(self) -> str | None:
        audit = self.last.statement.predicate if self.last is not None else None
        return audit.verdict if isinstance(audit, Audit) else None

    def is_due(self, moment: datetime) -> bool:
        return self.due is None or moment >= self.due or self.unfinished or self.verdict != "PASS"


def schedule(workspace: Workspace, trust: Trust) -> list[Status]:
    """Every certificate that no later one follows, those due first. Only auditors that the trust file names count."""
    statements = list(workspace.statements())
    followed = {said.parent for one in statements if isinstance(said := one.statement.predicate, Unlearning)}
    heads = [
        one for one in statements if isinstance(one.statement.predicate, Unlearning) and one.digest not in followed
    ]
    found = [_status(head, statements, trust) for head in heads]
    never = datetime.min.replace(tzinfo=now().tzinfo)
    return sorted(found, key=lambda status: (status.due or never, status.logged.index))


def _status(head: Logged, statements: Sequence[Logged], trust: Trust) -> Status:
    last: Logged | None = None
    name: str | None = None
    due: datetime | None = None
    opened: set[str] = set()
    plans: dict[str, AuditPlan] = {}
    for logged in statements:
        said = logged.statement.predicate
        if not isinstance(said, AuditPlan | Audit) or said.certificate != head.digest or logged.index <= head.index:
            continue
        auditor = next((one.name for one in trust.auditors if signed_by(logged, [one.key])), None)
        if auditor is None:
            continue
        if isinstance(said, AuditPlan):
            plans[logged.digest] = said
        elif said.state != "finished":
            opened.add(auditor)
        elif said.plan in plans:
            opened.discard(auditor)
            last, name = logged, auditor
            days = min(plans[said.plan].stale_after_days, trust.audits.max_age_days)
            due = parse_time(said.run.finished) + timedelta(days=days)
    return Status(head, name, last, due, bool(opened))


def regressions(before: Audit, after: Audit) -> Iterator[str]:
    """In what a finished audit is worse than an earlier one, beyond what their intervals allow. Raises InputError."""
    return (str(move) for move in moves(before, after) if move.worse)


def last_finished(statements: Iterable[Logged], certificate: str, keys: Sequence[PublicKey]) -> Logged | None:
    """The last audit of this certificate that these keys signed and that came to an end."""
    found = None
    for logged in statements:
        said = logged.statement.predicate
        if isinstance(said, Audit) and said.certificate == certificate and said.state == "finished":
            found = logged if signed_by(logged, keys) else found
    return found


def audit_before(statements: Sequence[Logged], after: Logged, keys: Sequence[PublicKey]) -> Logged | None:
    """The finished audit to compare with: the auditor's last one before of the same certificate, or else of the certificate
    that it followed, and so on back to the training."""
    said = after.statement.predicate
    assert isinstance(said, Audit)
    by_digest = {logged.digest: logged for logged in statements}
    earlier = [logged for logged in statements if logged.index < after.index]
    certificate: str | None = said.certificate
    seen: set[str] = set()
    while certificate is not None and certificate not in seen:
        seen.add(certificate)
        if (found := last_finished(earlier, certificate, keys)) is not None:
            return found
        logged = by_digest.get(certificate)
        parent = logged.statement.predicate if logged is not None else None
        certificate = parent.parent if isinstance(parent, Unlearning) else None
    return None
