"""Provenance: which models saw a record, in which shard, slice and batches, and which requests a model satisfies.

All of it is by the ledger's own vault and log: where a record stands is known to its operator alone. Shards and slices were
committed to at training as :mod:`certify.shard_map` does, batches as :mod:`certify.batches` does: nobody chooses them afterwards.

``trace`` is about one record, ``satisfied`` about one model::

    trace(workspace, "17").trainings[0].models[0].state          # holds, gone, by way or unknown
    satisfied(workspace, root).requests[0].state                 # answered, left out, never seen, open or unknown
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from certify.batches import batch_map
from certify.chain import start_of
from certify.errors import WorkspaceError
from certify.methods.sisa import SisaTraining
from certify.statement import Request, Training, Unlearning
from certify.times import now, parse_time
from certify.vault import Vault
from certify.workspace import Logged, Workspace

Holding = Literal["holds", "gone", "by way", "unknown"]
Satisfied = Literal["answered", "left out", "never seen", "open", "unknown"]


@dataclass(frozen=True, slots=True)
class ModelSeen:
    """A model that a statement logged, and how it stands to a record. ``by``: the entry that decides, where another does:
    the certificate that left it out, or the statement whose model this one came from."""

    entry: int
    kind: str
    method: str
    tensor_root: str
    state: Holding
    by: int | None
    current: bool
    """No certificate follows it."""


@dataclass(frozen=True, slots=True)
class TrainingSeen:
    """A training that had the record, where it stood, and all models that came from it."""

    entry: int
    digest: str
    position: int | None
    """None where only a model that this training started from had it."""
    shard: int | None
    slice: int | None
    batches: tuple[int, ...] | None
    """None: not recorded."""
    models: tuple[ModelSeen, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that names the record."""

    entry: int
    ground: str
    received: str
    due: str
    answered: tuple[int, ...]
    overdue: bool


@dataclass(frozen=True, slots=True)
class Trace:
    """What the ledger knows of a record. ``destroyed``: openings of records that it knows no longer, in all trainings."""

    record_id: str
    trainings: tuple[TrainingSeen, ...]
    requests: tuple[Asked, ...]
    destroyed: int

    @property
    def holding(self) -> tuple[ModelSeen, ...]:
        """Current models that learnt it, or came from one that did, and were not made to forget it."""
        return tuple(
            model for training in self.trainings for model in training.models if model.current and model.state != "gone"
        )


@dataclass(frozen=True, slots=True)
class RequestSeen:
    """A request, and how a model stands to it. ``left``: requested records that the model still has, ``by``: the certificates
    that answer it or left its records out."""

    entry: int
    scope: str
    ground: str
    received: str
    due: str
    records: int
    state: Satisfied
    left: int
    by: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelRequests:
    """All requests of the ledger, for one model; ``entry`` is the last statement that logged it."""

    tensor_root: str
    entry: int
    kind: str
    current: bool
    requests: tuple[RequestSeen, ...]


class Ledger:
    """What statements and vault know together, read once."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.vault = workspace, workspace.vault
        self.trainings = list(workspace.of_kind("training"))
        self.unlearnings = list(workspace.of_kind("unlearning"))
        self.requests = list(workspace.of_kind("request"))
        self._by_digest = {one.digest: one for one in (*self.trainings, *self.unlearnings)}
        self._followed = {
            said.parent for one in self.unlearnings if isinstance(said := one.statement.predicate, Unlearning)
        }
        self._removed: dict[str, frozenset[int] | None] = {}

    @cached_property
    def destroyed(self) -> dict[str, int]:
        """Of each training's dataset root, how many openings are gone."""
        counts = {_training(one).dataset.root: _training(one).dataset.count for one in self.trainings}
        return {root: count - len(self.vault.openings(root)) for root, count in counts.items()}

    def is_current(self, logged: Logged) -> bool:
        return logged.digest not in self._followed

    def removed(self, logged: Logged) -> frozenset[int] | None:
        """Positions that a certificate left out; None where the vault does not know."""
        if logged.digest not in self._removed:
            positions = self.vault.note(f"removed/{logged.digest}")
            self._removed[logged.digest] = None if positions is None else frozenset(positions)
        return self._removed[logged.digest]

    def lineage(self, logged: Logged) -> list[Logged]:
        """From the training on; shorter where a parent is not of this ledger."""
        chain = [logged]
        while isinstance(said := chain[-1].statement.predicate, Unlearning) and said.parent in self._by_digest:
            chain.append(self._by_digest[said.parent])
        return chain[::-1]

    def position(self, training: Logged, record_id: str) -> int | None:
        found = self.vault.find(_training(training).dataset.root, record_id)
        return found.position if found is not None else None

    def state(
        self, logged: Logged, record_id: str, seen: frozenset[str] = frozenset()
    ) -> tuple[Holding, int | None] | None:
        """How a model stands to a record, and the entry that decides; None if it never saw it, as far as is known."""
        first, *rest = self.lineage(logged)
        if not isinstance(first.statement.predicate, Training) or first.digest in seen:
            return None
        found: tuple[Holding, int | None] | None = None
        position = self.position(first, record_id)
        if position is not None:
            state: Holding = "holds"
            by: int | None = None
            for certificate in rest:
                said, gone = certificate.statement.predicate, self.removed(certificate)
                assert isinstance(said, Unlearning)
                if gone is not None and position in gone:
                    state, by = "gone", certificate.index
                elif gone is None and said.removed is not None and state == "holds":
                    state, by = "unknown", certificate.index
            found = (state, by)
        if found is not None and found[0] != "gone":
            return found
        for source in self.sources(first):
            before = self.state(source, record_id, seen | {first.digest})
            if before is not None and before[0] != "gone":
                way: Holding = "unknown" if before[0] == "unknown" else "by way"
                return way, source.index
        return found

    def sources(self, training: Logged) -> list[Logged]:
        """Logged models from whose weights a training says that it started."""
        said = _training(training)
        start, bases = start_of(said), {base.digest for base in said.base}
        return [
            one
            for one in self._by_digest.values()
            if one.index < training.index and (one.digest == start or _model(one) in bases)
        ]

    def models(self, training: Logged) -> list[Logged]:
        """A training and all certificates that go back to it."""
        return [training, *(one for one in self.unlearnings if self.lineage(one)[0] is training)]


def trace(workspace: Workspace, record_id: str) -> Trace:
    """Every training and model of this ledger that saw the record, directly or by way of a model that it started from."""
    ledger = Ledger(workspace)
    trainings: list[TrainingSeen] = []
    for training in ledger.trainings:
        models = [
            (one, state) for one in ledger.models(training) if (state := ledger.state(one, record_id)) is not None
        ]
        if not models:
            continue
        position = ledger.position(training, record_id)
        shard, slice_ = _shard(workspace, training, position)
        trainings.append(
            TrainingSeen(
                training.index,
                training.digest,
                position,
                shard,
                slice_,
                _batches(workspace, training, position),
                tuple(
                    ModelSeen(one.index, one.statement.kind, _method(one), _model(one), *state, ledger.is_current(one))
                    for one, state in models
                ),
            )
        )
    asked = tuple(_asked(ledger, request) for request in ledger.requests if _names(ledger.vault, request, record_id))
    return Trace(record_id, tuple(trainings), asked, sum(ledger.destroyed.values()))


def satisfied(workspace: Workspace, tensor_root: str) -> ModelRequests:
    """How the model with this tensor root stands to every request. Raises WorkspaceError for a model that was not logged."""
    ledger = Ledger(workspace)
    known = [one for one in (*ledger.trainings, *ledger.unlearnings) if _model(one) == tensor_root]
    if not known:
        raise WorkspaceError(f"no training or certificate of this ledger is of a model with tensor root {tensor_root}")
    model = max(known, key=lambda one: one.index)
    requests = tuple(_stands(ledger, model, request) for request in ledger.requests)
    return ModelRequests(tensor_root, model.index, model.statement.kind, ledger.is_current(model), requests)


def _stands(ledger: Ledger, model: Logged, request: Logged) -> RequestSeen:
    asked = request.statement.predicate
    assert isinstance(asked, Request)
    answering = [
        one.index
        for one in ledger.lineage(model)
        if isinstance(said := one.statement.predicate, Unlearning) and request.digest in said.requests
    ]
    state, left, by = _records(ledger, model, asked)
    if answering:
        state, by = "answered", answering
    return RequestSeen(
        request.index,
        asked.scope,
        asked.ground,
        asked.received,
        asked.due,
        asked.forget.count,
        state,
        left,
        tuple(sorted(set(by))),
    )


def _records(ledger: Ledger, model: Logged, asked: Request) -> tuple[Satisfied, int, list[int]]:
    """Of a request that no certificate of the model's names: whether its records are in the model all the same."""
    if asked.scope != "records":
        return "open", 0, []
    openings = ledger.vault.openings(asked.forget.root)
    states = [ledger.state(model, opening.record_id) for opening in openings]
    by = [state[1] for state in states if state is not None and state[0] == "gone" and state[1] is not None]
    left = sum(state is not None and state[0] in ("holds", "by way") for state in states)
    if left:
        return "open", left, by
    first = ledger.lineage(model)[0]
    unseen = any(state is None for state in states) and _forgot_some(ledger, first)
    if (
        len(openings) < asked.forget.count
        or unseen
        or any(state is not None and state[0] == "unknown" for state in states)
    ):
        return "unknown", 0, by
    return ("left out", 0, by) if by else ("never seen", 0, [])


def _forgot_some(ledger: Ledger, training: Logged) -> bool:
    """Openings of its dataset were destroyed: a record that is not found may have been one of them."""
    said = training.statement.predicate
    return not isinstance(said, Training) or bool(ledger.destroyed.get(said.dataset.root))


def _names(vault: Vault, request: Logged, record_id: str) -> bool:
    asked = request.statement.predicate
    assert isinstance(asked, Request)
    return asked.scope == "records" and vault.find(asked.forget.root, record_id) is not None


def _asked(ledger: Ledger, request: Logged) -> Asked:
    said = request.statement.predicate
    assert isinstance(said, Request)
    answered = tuple(
        one.index
        for one in ledger.unlearnings
        if isinstance(certificate := one.statement.predicate, Unlearning) and request.digest in certificate.requests
    )
    overdue = not answered and parse_time(said.due) < now()
    return Asked(request.index, said.ground, said.received, said.due, answered, overdue)


def _shard(workspace: Workspace, training: Logged, position: int | None) -> tuple[int | None, int | None]:
    detail = _training(training).detail
    if position is None or not isinstance(detail, SisaTraining):
        return None, None
    from certify.sharding import shard_map

    return shard_map(workspace, detail.map).places[position]


def _batches(workspace: Workspace, training: Logged, position: int | None) -> tuple[int, ...] | None:
    root = _training(training).batches
    return None if position is None or root is None else batch_map(workspace.vault, root).batches[position]


def _training(logged: Logged) -> Training:
    said = logged.statement.predicate
    assert isinstance(said, Training)
    return said


def _model(logged: Logged) -> str:
    said = logged.statement.predicate
    assert isinstance(said, Training | Unlearning)
    return said.model.tensor_root if isinstance(said, Training) else said.post.tensor_root


def _method(logged: Logged) -> str:
    said = logged.statement.predicate
    assert isinstance(said, Training | Unlearning)
    return said.recipe.name if isinstance(said, Training) else said.method.name
