"""Filing a request: a commitment to what must be forgotten, in the log before anything is done about it."""

from datetime import datetime
from pathlib import Path

from certify import dataset
from certify.committed import (
    Made,
    commit,
    encoding_of,
    keep,
    open_row,
    reference_string_of,
    rows_of,
    shred_rows,
    training_with,
)
from certify.dataset import RecordOpening
from certify.encoding import outputs_of
from certify.errors import DatasetError, WorkspaceError
from certify.receipt import Opening, Receipt, ZkOpenings
from certify.records import Records, records_of
from certify.statement import FORGET_ROOT, Request, Scope, Statement, Training, subject
from certify.times import add_month, format_time, now
from certify.vault import commit_records
from certify.workspace import Logged, Workspace
from certify.zk import FORGOTTEN, Commitments
from circuits.layout import PROOFS, Layout
from ledger.merkle import inclusion_path, leaf_hash

STEP = "step/v1"
"""The recipe of trainings that prepared for proofs of steps: :mod:`certify.exclusion_step`."""


def file_request(
    ledger: Workspace | str | Path,
    data: object,
    *,
    ground: str,
    scope: Scope = "records",
    received: datetime | None = None,
    due: datetime | None = None,
    note: str | None = None,
) -> Logged:
    """Log ``request/v1``: commit, with fresh salts, to what must be forgotten. ``note`` stays in the vault.

    ``data`` maps record ids to records, as they were in the training data; for another scope than records it maps a label of
    your own to a description (of the subject, class, concept or client), which is committed to in the same way.

    ``due`` defaults to one month after ``received``. Raises DatasetError if a record differs from the one of the same id that a
    training committed to.
    """
    workspace = ledger if isinstance(ledger, Workspace) else Workspace(ledger)
    records = records_of(data)
    if not records:
        raise DatasetError("a request names nothing that must be forgotten")
    if scope == "records":
        _check_known(workspace, records)
    received = received or now()
    committed = commit_records(records)
    tree = committed.tree
    due = due or add_month(received)
    provable = _commit_rows(workspace, records) if scope == "records" else None
    predicate = Request(
        log=workspace.origin,
        scope=scope,
        forget=tree,
        ground=ground,
        received=format_time(received),
        due=format_time(due),
        zk=provable[0] if provable else None,
    )
    envelope = workspace.sign(Statement((subject(FORGET_ROOT, tree.root),), predicate))
    workspace.vault.keep(committed)  # before the log speaks of it, and not if no statement can
    if provable:
        keep(workspace, provable[1])
    if note:
        workspace.vault.put_note(f"note/{tree.root}", note)
    return workspace.append(envelope)


def _check_known(workspace: Workspace, records: Records) -> None:
    """Records that a training knows by the same id must be the same records."""
    for logged in workspace.of_kind("training"):
        training = logged.statement.predicate
        assert isinstance(training, Training)
        leaves = dataset.split(workspace.vault.leaves(training.dataset.root))
        for record_id, record in records:
            opening = workspace.vault.find(training.dataset.root, record_id)
            if (
                opening is not None
                and leaf_hash(dataset.commit_record(record, opening.salt)) != leaves[opening.position]
            ):
                raise DatasetError(
                    f"record {record_id!r} is not the one that the training at entry {logged.index} committed to under that id: "
                    f"give it as it was in the training data"
                )


def _commit_rows(workspace: Workspace, records: Records) -> tuple[Commitments, Made] | None:
    """Commit to the records' rows of integers, as the last training that has them all did, if it did: what a proof leaves out."""
    found = training_with(workspace, [record_id for record_id, _ in records])
    training = found[0].statement.predicate if found else None
    if found is None or not isinstance(training, Training) or training.zk is None:
        return None
    rows = rows_of(workspace, training.zk, found[1])
    columns = len(rows[0])
    if training.recipe.name != STEP:  # a step on the records takes their targets as well
        columns -= outputs_of(encoding_of(training.zk))
    proofs = training.recipe.parameters.get("forgotten_proofs")
    layout = Layout(len(rows), columns, training.zk.logrows, proofs if isinstance(proofs, int) else PROOFS)
    _, string = reference_string_of(training.zk)
    made = commit(FORGOTTEN, layout, [[row[:columns] for row in rows]], string)
    return Commitments(training.zk.logrows, training.zk.srs, [made.stated]), made


def make_receipt(workspace: Workspace, request: Logged, training: Logged, record_id: str, record: bytes) -> Receipt:
    """The receipt for one record of a request, against the training that it was part of.

    Raises WorkspaceError if the vault no longer has its openings, DatasetError if ``record`` is not the one committed to.
    """
    openings: list[Opening] = []
    positions: list[int] = []
    for logged in (request, training):
        match logged.statement.predicate:
            case Request(forget=tree) | Training(dataset=tree):
                found = workspace.vault.find(tree.root, record_id)
                if found is None:
                    raise WorkspaceError(
                        f"record {record_id!r} is not in the {logged.statement.kind} at entry {logged.index}"
                    )
                leaves = dataset.split(workspace.vault.leaves(tree.root))
                path = tuple(inclusion_path(leaves, found.position))
                opening = Opening.of(tree.root, RecordOpening(found.salt, found.position, tree.count, path))
                opening.verify(record, tree.root, tree.count)
                openings.append(opening)
                positions.append(found.position)
            case _:
                raise WorkspaceError(f"entry {logged.index} is a {logged.statement.kind} statement, expected another")
    zk = None
    asked, trained = request.statement.predicate, training.statement.predicate
    if isinstance(asked, Request) and isinstance(trained, Training) and asked.zk is not None and trained.zk is not None:
        zk = ZkOpenings(
            *(open_row(workspace, stated, row) for stated, row in zip((asked.zk, trained.zk), positions, strict=True))
        )
    return Receipt(record, openings[0], openings[1], zk)


def shred_request(workspace: Workspace, request: Logged) -> int:
    """Destroy the openings of a request and of its records in every training; how many there were.

    Certificates that were issued stay as they are: positions and leaf hashes identify nobody without an opening.
    """
    predicate = request.statement.predicate
    if not isinstance(predicate, Request):
        raise WorkspaceError(f"entry {request.index} is a {request.statement.kind} statement, expected a request")
    destroyed = 0
    ids = [opening.record_id for opening in workspace.vault.openings(predicate.forget.root)]
    for logged in workspace.of_kind("training"):
        training = logged.statement.predicate
        assert isinstance(training, Training)
        found = (workspace.vault.find(training.dataset.root, record_id) for record_id in ids)
        positions = [opening.position for opening in found if opening is not None]
        destroyed += workspace.vault.shred(training.dataset.root, positions)
        shred_rows(workspace, training.zk, positions)
    shred_rows(workspace, predicate.zk, range(predicate.forget.count))
    workspace.vault.drop_note(f"note/{predicate.forget.root}")
    return destroyed + workspace.vault.shred(predicate.forget.root)
