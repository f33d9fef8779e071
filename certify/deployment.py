"""Deploying: ``deployment/v1`` from the operator's side, and whether a model may serve without giving back what was forgotten.

Two things make a model one that must not simply serve: a certificate in the log that goes on from it (anybody who reads the log
sees that), and records of a request that was answered elsewhere, which only the vault knows::

    entry 1 training  ─┬─ entry 3 certificate, request 2        deploying entry 1's model is a rollback: it precedes entry 3
    entry 5 training   │  of the same records, from scratch     so is entry 5's: it has request 2's records
                       └─ entry 8 certificate, request 7        entry 3's model too, once this one is there
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from certify import provenance
from certify.deployments import later, unlearnings
from certify.errors import RollbackError, WorkspaceError
from certify.keyring import CLOCK_SKEW, claimed_time
from certify.provenance import Ledger, ModelRequests, RequestSeen
from certify.statement import (
    TENSOR_ROOT,
    Deployment,
    Destroyed,
    Model,
    Notified,
    Statement,
    Training,
    Unlearning,
    checked,
    subject,
)
from certify.times import format_time, now, parse_time
from certify.workspace import Logged, Workspace


@dataclass(frozen=True, slots=True)
class Lacking:
    """What a model lacks. ``certificates``: entries that it precedes; ``requests``: entries of requests that were answered, and
    whose records (or, for other scopes, whose answer) it has not been rid of."""

    certificates: tuple[int, ...]
    requests: tuple[int, ...]

    def __bool__(self) -> bool:
        return bool(self.certificates or self.requests)

    def __str__(self) -> str:
        """``it precedes the unlearning of entry 3, and has records of the answered request at entry 2``"""
        told = [f"it precedes {unlearnings(self.certificates)}"] if self.certificates else []
        if self.requests:
            listed = ", ".join(map(str, self.requests))
            several = len(self.requests) > 1
            told.append(f"has what answered request{'s' if several else ''} {listed} asked to forget")
        return ", and it ".join([told[0] if self.certificates else f"it {told[0]}", *told[1:]])


@dataclass(frozen=True, slots=True)
class Serving:
    """What a name serves now, by the last deployment that names it, and how that model stands."""

    name: str
    entry: int
    digest: str
    tensor_root: str
    model_entry: int
    since: str
    rollback: str | None
    lacking: Lacking
    overdue: tuple[int, ...]
    """Entries of requests that it does not satisfy, as far as is known, and that are past due."""
    unanswered: tuple[int, ...]
    """The same, not due yet."""
    destroyed: tuple[int, ...]
    """Entries of deployments that say that copies of these very weights were destroyed."""

    @property
    def wrong(self) -> bool:
        """It should not serve."""
        return self.rollback is not None or bool(self.lacking or self.overdue)


class Standing:
    """How the models of a ledger stand to what was forgotten."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.ledger = Ledger(workspace)
        self._requests: dict[str, ModelRequests] = {}

    @cached_property
    def models(self) -> Mapping[int, str]:
        return {one.index: root_of(one) for one in (*self.ledger.trainings, *self.ledger.unlearnings)}

    @cached_property
    def parents(self) -> Mapping[int, int]:
        found: dict[int, int] = {}
        for one in self.ledger.unlearnings:
            chain = self.ledger.lineage(one)
            if len(chain) > 1:
                found[one.index] = chain[-2].index
        return found

    def logged(self, root: str) -> Logged:
        """The last statement that logged a model. Raises WorkspaceError."""
        known = [one for one in (*self.ledger.trainings, *self.ledger.unlearnings) if root_of(one) == root]
        if not known:
            raise WorkspaceError(
                f"no training or certificate of this ledger is of the weights with tensor root {root}: log them first "
                f"('certify train-commit' or 'certify issue')"
            )
        return max(known, key=lambda one: one.index)

    def requests(self, root: str) -> ModelRequests:
        """How a model stands to every request, worked out once."""
        if root not in self._requests:
            self._requests[root] = provenance.satisfied(self.workspace, root)
        return self._requests[root]

    def lacking(self, root: str) -> Lacking:
        """What a logged model lacks: ``requests`` are those that none of ``certificates`` answers."""
        named = self.logged(root)
        missing = later(named.index, self.parents, self.models)
        first = self.ledger.lineage(named)[0].digest
        by = self._answered
        lacks = [
            asked.entry
            for asked in self.requests(root).requests
            if asked.state == "open"
            and asked.entry in by
            and not by[asked.entry].keys() & set(missing)
            and (asked.left or first in by[asked.entry].values())
        ]
        return Lacking(missing, tuple(lacks))

    @cached_property
    def _answered(self) -> Mapping[int, Mapping[int, str]]:
        """By the entry of each request that was answered: the certificates that did, and the training that each goes back to."""
        entries = {request.digest: request.index for request in self.ledger.requests}
        found: dict[int, dict[int, str]] = {}
        for one in self.ledger.unlearnings:
            said = one.statement.predicate
            assert isinstance(said, Unlearning)
            for digest in said.requests:
                if digest in entries:
                    found.setdefault(entries[digest], {})[one.index] = self.ledger.lineage(one)[0].digest
        return found


def deploy(
    workspace: Workspace,
    root: str,
    name: str,
    *,
    since: datetime | None = None,
    destroyed: Sequence[Destroyed] = (),
    notified: Sequence[Notified] = (),
    rollback: str | None = None,
) -> Logged:
    """Log ``deployment/v1``: the model with this tensor root (hex) serves under ``name``.

    Raises RollbackError for a model that lacks an unlearning, unless ``rollback`` says why; WorkspaceError for one that was not
    logged, or for a rollback that is none; StatementError for what no statement can hold.
    """
    standing = Standing(workspace)
    logged = standing.logged(root)
    lacking = standing.lacking(root)
    if lacking and rollback is None:
        raise RollbackError(
            f"this would be a rollback: the model of entry {logged.index} is {root[:16]}, and {lacking}. Deploy one that was "
            f"made to forget, or say why this one has to serve with --rollback REASON, which is logged"
        )
    if rollback is not None and not lacking:
        raise WorkspaceError(
            f"the model of entry {logged.index} lacks no unlearning that this ledger has: deploy it without --rollback"
        )
    stated = now()
    begun = since or stated
    made = claimed_time(logged.statement)
    if begun < made - CLOCK_SKEW:
        raise WorkspaceError(
            f"the weights cannot serve since {format_time(begun)}: entry {logged.index} states that they were finished at "
            f"{format_time(made)}"
        )
    said = checked(
        Deployment(
            log=workspace.origin,
            name=name,
            model=model_of(logged),
            statement=logged.digest,
            since=format_time(begun),
            stated=format_time(stated),
            destroyed=list(destroyed),
            notified=list(notified),
            rollback=rollback,
        )
    )
    return workspace.append(workspace.sign(Statement((subject(TENSOR_ROOT, root),), said)))


def serving(workspace: Workspace) -> list[Serving]:
    """What each name serves now, in the order of the names, by this issuer's deployments in the log."""
    standing = Standing(workspace)
    last: dict[str, tuple[Logged, Deployment]] = {}
    destroyed: dict[str, list[int]] = {}
    for logged in workspace.of_kind("deployment"):
        said = logged.statement.predicate
        assert isinstance(said, Deployment)
        last[said.name] = (logged, said)
        for copy in said.destroyed:
            destroyed.setdefault(copy.model, []).append(logged.index)
    return [_serving(standing, logged, said, destroyed) for _, (logged, said) in sorted(last.items())]


def _serving(standing: Standing, logged: Logged, said: Deployment, destroyed: Mapping[str, Sequence[int]]) -> Serving:
    root = said.model.tensor_root
    lacking = standing.lacking(root)
    open_ = [one for one in standing.requests(root).requests if _is_open(one)]
    late = [one.entry for one in open_ if parse_time(one.due) < now()]
    return Serving(
        said.name,
        logged.index,
        logged.digest,
        root,
        standing.logged(root).index,
        said.since,
        said.rollback,
        lacking,
        tuple(late),
        tuple(one.entry for one in open_ if one.entry not in late),
        tuple(destroyed.get(root, ())),
    )


def _is_open(request: RequestSeen) -> bool:
    """Records that were asked to be forgotten are in the model, or nobody knows."""
    return request.state in ("open", "unknown")


def model_of(logged: Logged) -> Model:
    """The model that a training or certificate logged."""
    said = logged.statement.predicate
    assert isinstance(said, Training | Unlearning)
    return said.model if isinstance(said, Training) else said.post


def root_of(logged: Logged) -> str:
    return model_of(logged).tensor_root
