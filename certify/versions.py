"""The history of a model: every certificate names its parent, so that all versions are one tree that begins with a training.

::

    history(workspace, root)
        entry 1   training adam, 8 records                 deployed as production (entry 4)
        └─ entry 3   certificate, retrain, request 2       audit PASS (entry 6), replay identical (entry 7)

All of it is as stated and logged. Nothing is verified by this: grades are for the verifier, from a bundle and a trust file.
"""

from dataclasses import dataclass, field

from certify.chain import start_of
from certify.deployment import Standing, model_of
from certify.deployments import later
from certify.keyring import claimed_time
from certify.provenance import Ledger
from certify.statement import Audit, AuditPlan, Base, Deployment, Replay, Request, Training, Unlearning
from certify.times import format_time
from certify.workspace import Logged, Workspace


@dataclass(frozen=True, slots=True)
class Happened:
    """Something that a statement at ``entry`` says of a version: a request that it answers, an audit, a replay or a deployment.
    ``warning``: it should not be overlooked."""

    entry: int
    kind: str
    time: str
    facts: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Version:
    """A model, and what became of it. ``bears_on``: what its grade may follow from, as stated. ``depth`` counts the branches."""

    entry: int
    parent: int | None
    """The entry of the version that it came from; None for the training."""
    depth: int
    kind: str
    digest: str
    time: str
    method: str
    tensor_root: str
    records: int | None
    """Trained on, or left out; None where a certificate is not about single records."""
    bears_on: tuple[str, ...]
    current: bool
    base: tuple[Base, ...] = ()
    happened: tuple[Happened, ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    """All versions that go back to the same training as the model asked for."""

    tensor_root: str
    entries: tuple[int, ...]
    """Where that model was logged."""
    versions: tuple[Version, ...]
    """The training first, each after the one that it came from."""
    started_from: tuple[int, ...] = ()
    """Entries of models of this ledger that the training started from."""


@dataclass(slots=True)
class _Read:
    """Statements by what they are about, read once."""

    standing: Standing
    requests: dict[str, Logged] = field(default_factory=dict)
    about: dict[str, list[Happened]] = field(default_factory=dict)

    @property
    def ledger(self) -> Ledger:
        return self.standing.ledger


def history(workspace: Workspace, tensor_root: str) -> History:
    """The history of the model with this tensor root (hex). Raises WorkspaceError for one that was not logged."""
    standing = Standing(workspace)
    first = standing.ledger.lineage(standing.logged(tensor_root))[0]
    read = _Read(standing, {one.digest: one for one in standing.ledger.requests})
    for kind in ("audit-plan", "audit", "replay", "deployment"):
        for logged in workspace.of_kind(kind):
            _collect(read, logged)
    entries = tuple(entry for entry, root in standing.models.items() if root == tensor_root)
    sources: tuple[int, ...] = ()
    if isinstance(first.statement.predicate, Training):
        sources = tuple(one.index for one in standing.ledger.sources(first))
    return History(tensor_root, tuple(sorted(entries)), tuple(_versions(read, first)), sources)


def _versions(read: _Read, first: Logged) -> list[Version]:
    """The training and all that came from it, each after what it came from; branches in the log's order."""
    found: list[Version] = []
    waiting: list[tuple[Logged, int | None, int]] = [(first, None, 0)]
    while waiting:
        logged, parent, depth = waiting.pop()
        found.append(_version(read, logged, parent, depth))
        children = [
            one
            for one in read.ledger.unlearnings
            if isinstance(child := one.statement.predicate, Unlearning) and child.parent == logged.digest
        ]
        deeper = depth + (len(children) > 1)
        waiting += [(child, logged.index, deeper) for child in reversed(children)]
    return found


def _version(read: _Read, logged: Logged, parent: int | None, depth: int) -> Version:
    said = logged.statement.predicate
    happened = sorted(read.about.get(logged.digest, []), key=lambda one: one.entry)
    records: int | None
    if isinstance(said, Training):
        kind, method, base, records = "training", said.recipe.name, tuple(said.base), said.dataset.count
    else:
        assert isinstance(said, Unlearning)
        kind, method, base = "certificate", said.method.name, ()
        records = said.removed.count if said.removed is not None else None
        happened = [*(_asked(read, digest) for digest in said.requests), *happened]
    return Version(
        logged.index,
        parent,
        depth,
        kind,
        logged.digest,
        said.run.finished,
        method,
        model_of(logged).tensor_root,
        records,
        tuple(_bears_on(said)),
        read.ledger.is_current(logged),
        base,
        tuple(happened),
    )


def _bears_on(said: Training | Unlearning) -> list[str]:
    told: list[str] = []
    recipe = said.recipe.recipe if isinstance(said, Training) else said.method.recipe
    if recipe is not None:
        told.append(f"names a recipe, {recipe[:16]}")
    if isinstance(said, Training):
        if said.zk is not None:
            told.append("commits to its data for proofs")
        if start_of(said) is not None:
            told.append("goes on from an earlier training")
        return told
    if said.evidence is not None:
        told.append(f"zero-knowledge proof, {said.evidence.statement}")
    if said.detail is not None:
        told.append("shows details of its method")
    if said.pre == said.post:
        told.append("left the weights as they were")
    return told


def _asked(read: _Read, digest: str) -> Happened:
    request = read.requests.get(digest)
    if request is None or not isinstance(asked := request.statement.predicate, Request):
        return Happened(-1, "request", "", f"answers {digest[:16]}, which this ledger does not have", True)
    what = (
        f"{asked.forget.count} record{'' if asked.forget.count == 1 else 's'}"
        if asked.scope == "records"
        else f"a {asked.scope}"
    )
    return Happened(request.index, "request", asked.received, f"answered: {what}, {asked.ground}, due {asked.due[:10]}")


def _collect(read: _Read, logged: Logged) -> None:
    said = logged.statement.predicate
    time = format_time(claimed_time(logged.statement))

    def add(about: str, kind: str, facts: str, warning: bool = False) -> None:
        read.about.setdefault(about, []).append(Happened(logged.index, kind, time, facts, warning))

    match said:
        case AuditPlan():
            add(said.certificate, "audit plan", f"{said.attack}, {said.rules.shadows} shadow models")
        case Audit():
            told = said.verdict if said.verdict is not None else said.state
            add(said.certificate, "audit", f"attempt {said.attempt}: {told}", told in ("FAIL", "OVER-FORGOTTEN"))
        case Replay():
            differ = f", {said.differing} tensors differ" if said.differing else ""
            add(said.certificate, "replay", f"{said.outcome}{differ}", said.outcome != "identical")
        case Deployment():
            add(said.statement, "deployment", *_deployed(read, logged, said))


def _deployed(read: _Read, logged: Logged, said: Deployment) -> tuple[str, bool]:
    told = f"serves as {said.name} since {said.since}"
    if said.destroyed:
        told += f"; copies of {len(said.destroyed)} older model{'' if len(said.destroyed) == 1 else 's'} destroyed"
    standing = read.standing
    named = next(
        (one for one in (*read.ledger.trainings, *read.ledger.unlearnings) if one.digest == said.statement), None
    )
    missing = later(named.index, standing.parents, standing.models) if named is not None else ()
    if said.rollback is not None:
        return f"ROLLBACK: {told}; {said.rollback}", True
    before = [entry for entry in missing if entry < logged.index]
    return (f"HIDDEN ROLLBACK: {told}", True) if before else (told, False)
