"""Answer requests by the guarantee of a differentially private training: the certificate, with the weights as they are.

::

    request = certify.file_request(ledger, {"patient 3": row}, ground="gdpr-17")
    answer_by_guarantee(ledger, [request], delta=1e-4)        # unlearning/v1, by dp-guarantee/v1

The group is all records that were answered for like this so far, these included: a hundred requests of one are a group of a
hundred. Nothing is computed but the bound.
"""

from collections.abc import Sequence
from pathlib import Path

from certify import environment
from certify.certificate import Made, forgotten_by, log_unlearning, new_run_id
from certify.digest import Manifest
from certify.errors import WorkspaceError
from certify.methods.dp import DpGuarantee, DpSgdTraining
from certify.statement import Method, Run, Training, Unlearning
from certify.times import format_time, now
from certify.workspace import Logged, Workspace


def answer_by_guarantee(
    ledger: Workspace | str | Path, requests: Sequence[Logged], *, delta: float, training: Logged | None = None
) -> Logged:
    """Log ``unlearning/v1`` for requests about records. ``training``: by default the last by dp-sgd/v1.

    Raises WorkspaceError if there is none or the records are not in it, StatementError if no bound follows.
    """
    workspace = ledger if isinstance(ledger, Workspace) else Workspace(ledger)
    trained = training or _last_training(workspace)
    predicate = trained.statement.predicate
    if not isinstance(predicate, Training) or not isinstance(predicate.detail, DpSgdTraining):
        raise WorkspaceError(f"entry {trained.index} is no training by dp-sgd/v1")
    started = now()
    lineage = _lineage(workspace, trained)
    forgotten = forgotten_by(workspace, lineage[-1], requests)
    if forgotten is None:
        raise WorkspaceError(
            "a guarantee answers requests about records: how many there are of anything else is not known"
        )
    group = answered_before(lineage) + forgotten.removed.count
    manifest = Manifest.parse(str(workspace.vault.note(f"manifest/{predicate.model.tensor_root}")).encode())
    made = Made(
        manifest=manifest,
        method=Method("dp-guarantee/v1"),
        run=Run(new_run_id(), format_time(started), format_time(max(started, now()))),
        environment=environment.describe(),
    )
    detail = DpGuarantee.of(predicate.detail, group=group, delta=delta)
    return log_unlearning(workspace, made, pre=manifest, requests=requests, parent=lineage[-1], detail=detail)


def answered_before(lineage: Sequence[Logged]) -> int:
    """Records that certificates of a chain answer for."""
    certificates = [logged.statement.predicate for logged in lineage]
    return sum(one.removed.count for one in certificates if isinstance(one, Unlearning) and one.removed is not None)


def _last_training(workspace: Workspace) -> Logged:
    found: Logged | None = None
    for logged in workspace.of_kind("training"):
        predicate = logged.statement.predicate
        if isinstance(predicate, Training) and isinstance(predicate.detail, DpSgdTraining):
            found = logged
    if found is None:
        raise WorkspaceError(f"{workspace.path} holds no training by dp-sgd/v1")
    return found


def _lineage(workspace: Workspace, training: Logged) -> list[Logged]:
    """The training and the certificates by guarantee that follow from it, one after the other."""
    lineage = [training]
    for logged in workspace.of_kind("unlearning"):
        certificate = logged.statement.predicate
        if (
            isinstance(certificate, Unlearning)
            and certificate.parent == lineage[-1].digest
            and isinstance(certificate.detail, DpGuarantee)
        ):
            lineage.append(logged)
    return lineage
