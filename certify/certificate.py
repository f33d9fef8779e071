"""Issuing: from a training, a request or an unlearning to a signed statement in the log.

What only the operator may know (salts, ids, positions) is in the vault before the log speaks of it; nothing personal is ever
in a statement.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from certify import dataset
from certify.batches import BatchMap
from certify.case import rehearse
from certify.digest import Manifest, diff
from certify.envelope import Envelope
from certify.errors import WorkspaceError
from certify.files import hash_files, oms_root_of
from certify.methods import AnyDetail, AnyTrainingDetail
from certify.records import Records
from certify.statement import (
    OMS_ROOT,
    TENSOR_ROOT,
    Base,
    Changes,
    Environment,
    Method,
    Model,
    Request,
    Run,
    Statement,
    Subject,
    Training,
    Tree,
    Unlearning,
    Utility,
    subject,
)
from certify.vault import Progress, Vault, commit_records
from certify.workspace import Logged, Workspace
from certify.zk import Commitments, Evidence


@dataclass(slots=True)
class Made:
    """Weights as a run left them, and what there is to say of the run."""

    manifest: Manifest
    method: Method
    run: Run
    environment: Environment
    files: Sequence[Path] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)


def new_run_id() -> str:
    return secrets.token_hex(16)


def log_training(
    workspace: Workspace,
    made: Made,
    records: Records,
    base: Sequence[Base] = (),
    progress: Progress = lambda done: None,
    zk: Commitments | None = None,
    detail: AnyTrainingDetail | None = None,
    batches: Sequence[Iterable[int]] | None = None,
) -> Logged:
    """``training/v1``: commit to the data and to the weights. ``progress`` hears how many records are committed to.

    ``zk``: commitments for proofs, whose values are kept already, as is what ``detail`` refers to. ``batches``: positions of the
    records in each batch, in order (:mod:`certify.provenance`).
    """
    committed = commit_records(records)
    placed = BatchMap.of(batches, len(records)) if batches is not None else None
    predicate = Training(
        log=workspace.origin,
        run=made.run,
        dataset=committed.tree,
        model=_keep_manifest(workspace.vault, made.manifest),
        recipe=made.method,
        environment=made.environment,
        base=list(base),
        metrics=dict(made.metrics),
        zk=zk,
        detail=detail,
        batches=placed.root() if placed is not None else None,
    )
    envelope = workspace.sign(
        Statement(_subjects(made), predicate)
    )  # what cannot be stated leaves nothing in the vault
    if placed is not None:
        placed.keep(workspace.vault)
    workspace.vault.keep(committed, progress)
    return workspace.append(envelope)


def log_unlearning(
    workspace: Workspace,
    made: Made,
    *,
    pre: Manifest,
    requests: Sequence[Logged],
    parent: Logged | None = None,
    evidence: Evidence | None = None,
    detail: AnyDetail | None = None,
    utility: Utility | None = None,
) -> Logged:
    """``unlearning/v1``, the certificate. The model before must be one that this ledger logged.

    ``parent``: the statement that it follows from, by default the first about the model before; several are where a request
    changed nothing. ``evidence``: proofs, and ``detail``: of the method, whose attachments are kept already.
    """
    with workspace.even_offline():  # the work is done: what it comes to is signed now, and logged when the log is there
        envelope = _certificate(workspace, made, pre, requests, parent, evidence, detail, utility)
    return workspace.append(envelope)


def _certificate(
    workspace: Workspace,
    made: Made,
    pre: Manifest,
    requests: Sequence[Logged],
    parent: Logged | None,
    evidence: Evidence | None,
    detail: AnyDetail | None,
    utility: Utility | None,
) -> Envelope:
    parent = parent or parent_of(workspace, pre)
    forgotten = forgotten_by(workspace, parent, requests)
    changes = diff(pre, made.manifest)
    predicate = Unlearning(
        log=workspace.origin,
        run=made.run,
        parent=parent.digest,
        requests=[request.digest for request in requests],
        pre=_keep_manifest(workspace.vault, pre),
        post=_keep_manifest(workspace.vault, made.manifest),
        changes=Changes(
            changed=len(changes.changed),
            unchanged=len(changes.unchanged),
            added=len(changes.added),
            removed=len(changes.removed),
        ),
        method=made.method,
        environment=made.environment,
        removed=forgotten.removed if forgotten else None,
        retained=forgotten.retained if forgotten else None,
        metrics=dict(made.metrics),
        evidence=evidence,
        detail=detail,
        utility=utility,
    )
    envelope = workspace.sign(Statement(_subjects(made), predicate))
    if forgotten:
        workspace.vault.put_note(f"removed/{envelope.digest}", list(forgotten.positions))
    rehearse(workspace, Logged(workspace.extent(), envelope, Statement.parse(envelope.payload)))
    return envelope


def parent_of(workspace: Workspace, pre: Manifest) -> Logged:
    """The statement that logged the model which unlearning starts from."""
    parent = workspace.model(pre.root().hex())
    if parent is None:
        raise WorkspaceError(
            f"the model to unlearn from has tensor root {pre.root().hex()}, which no training or unlearning in {workspace.path} "
            f"logged: log it first (certify.training, or 'certify train-commit')"
        )
    return parent


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Which leaves of the training dataset an unlearning removes, and what is then left of it."""

    removed: Tree
    retained: Tree
    positions: tuple[int, ...]


def forgotten_by(workspace: Workspace, parent: Logged, requests: Sequence[Logged]) -> Forgotten | None:
    """From the vault: where the requested records stand in the dataset. None if a request isn't about records."""
    predicates = [request.statement.predicate for request in requests]
    if not predicates or not all(isinstance(predicate, Request) for predicate in predicates):
        raise WorkspaceError("an unlearning answers request statements: give at least one")
    if any(isinstance(predicate, Request) and predicate.scope != "records" for predicate in predicates):
        return None
    lineage = workspace.lineage(parent)
    training = lineage[0].statement.predicate
    assert isinstance(training, Training)
    gone = {position for earlier in lineage[1:] for position in workspace.vault.note(f"removed/{earlier.digest}") or ()}
    positions: set[int] = set()
    for predicate in predicates:
        assert isinstance(predicate, Request)
        for opening in workspace.vault.openings(predicate.forget.root):
            found = workspace.vault.find(training.dataset.root, opening.record_id)
            if found is not None:
                positions.add(found.position)
    positions -= gone
    if not positions:
        raise WorkspaceError(
            "none of the requested records is left in this model's training set: there is nothing to unlearn, "
            "and no certificate is issued"
        )
    ordered = tuple(sorted(positions))
    leaves = workspace.vault.leaves(training.dataset.root)
    root, count = dataset.retained(leaves, positions | gone)
    removed = dataset.subset_root(leaves, ordered)
    return Forgotten(Tree(removed.hex(), len(ordered)), Tree(root.hex(), count), ordered)


def _keep_manifest(vault: Vault, manifest: Manifest) -> Model:
    root = manifest.root().hex()
    vault.put_note(f"manifest/{root}", manifest.to_json().decode())
    return Model(tensor_root=root, tensors=len(manifest.tensors), bytes=str(manifest.nbytes))


def _subjects(made: Made) -> tuple[Subject, ...]:
    """The tensor root, then, when there are files, each file and the OpenSSF model-signing root over them."""
    first = subject(TENSOR_ROOT, made.manifest.root().hex())
    if not made.files:
        return (first,)
    digests = hash_files(made.files)
    files = [subject(name, digest.hex()) for name, digest in sorted(digests.items())]
    return (first, *files, subject(OMS_ROOT, oms_root_of(digests).hex()))
