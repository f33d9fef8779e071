"""Steps 5 and 6: the statements of a case are in order, and agree with each other and with what comes with them. Pure.

From the certificate, the chain goes back through its parents to the training. Along it, each model before is the model after of
its parent, every request is answered, and counts, roots and changes are recomputed wherever the bundle has what they are made of.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from certify import dataset
from certify.bundle import Bundle
from certify.digest import Changes, diff
from certify.errors import ChainError, DatasetError, OrderError
from certify.keyring import CLOCK_SKEW
from certify.seen import Seen
from certify.statement import (
    Audit,
    AuditPlan,
    Circuit,
    Deployment,
    Model,
    Replay,
    Request,
    Statement,
    Training,
    Tree,
    Unlearning,
)
from certify.times import format_time, parse_time

CHAIN, START = "exclusion-chain/v1", "start"
"""A recipe, and its parameter that names an earlier training."""


@dataclass(frozen=True, slots=True)
class Link:
    """A statement in its place."""

    index: int
    digest: str
    statement: Statement


@dataclass(frozen=True, slots=True)
class Chain:
    """What belongs together: the training, the unlearnings that led to the case, and the requests that they answer.

    ``start`` is the earlier training from whose weights the training went on, where it says so.
    """

    training: Link
    unlearnings: tuple[Link, ...]
    requests: tuple[Link, ...]
    start: Link | None = None

    def until_answered(self, request: Link) -> list[Link]:
        """The certificates up to the one that answers a request of the chain."""
        links: list[Link] = []
        for link in self.unlearnings:
            links.append(link)
            if isinstance(link.statement.predicate, Unlearning) and request.digest in link.statement.predicate.requests:
                break
        return links

    @property
    def case(self) -> Link:
        """The certificate that the bundle is about."""
        return self.unlearnings[-1]


@dataclass(frozen=True, slots=True)
class Established:
    """What recomputing showed: the tensors that the case changed, and whether the retained sets could be recomputed."""

    changes: Changes
    retained_checked: bool
    unchanged: tuple[int, ...]
    """Entries whose weights before and after are the same."""


def build(links: Sequence[Link]) -> Chain:
    """Find the chain; every statement but of keys, audits, replays and deployments has to be part of it.

    Raises ChainError.
    """
    by_digest = {link.digest: link for link in links}
    parents = {link.statement.predicate.parent for link in links if isinstance(link.statement.predicate, Unlearning)}
    unlearnings = [link for link in links if isinstance(link.statement.predicate, Unlearning)]
    heads = [link for link in unlearnings if link.digest not in parents]
    if not heads and [link.statement.kind for link in links if link.statement.kind != "key"] == ["training"]:
        raise ChainError(
            "the bundle has 0 certificates, but a training: it is for --upstream, beside the case of a model made from its own"
        )
    if len(heads) != 1:
        raise ChainError(f"the bundle has {len(heads)} certificates that no other follows, expected one")
    lineage = [heads[0]]
    while isinstance(certificate := lineage[-1].statement.predicate, Unlearning):
        parent = by_digest.get(certificate.parent)
        if parent is None or parent in lineage:
            raise ChainError(
                f"entry {lineage[-1].index} follows statement {certificate.parent[:16]}, which is not in the bundle"
            )
        lineage.append(parent)
    lineage.reverse()
    if not isinstance(lineage[0].statement.predicate, Training):
        raise ChainError(f"entry {lineage[0].index} is a {lineage[0].statement.kind} statement, expected the training")
    requests: list[Link] = []
    for link in lineage[1:]:
        certificate = link.statement.predicate
        assert isinstance(certificate, Unlearning)
        for digest in certificate.requests:
            request = by_digest.get(digest)
            if request is None or not isinstance(request.statement.predicate, Request):
                raise ChainError(f"entry {link.index} answers request {digest[:16]}, which is not in the bundle")
            if request in requests:
                raise ChainError(f"the request at entry {request.index} is answered twice")
            requests.append(request)
    start = _start(lineage[0], by_digest)
    used = {link.digest for link in (*lineage, *requests, *([start] if start else []))}
    evidence = heads[0].statement.predicate.evidence if isinstance(heads[0].statement.predicate, Unlearning) else None
    for link in links:
        circuit = link.statement.predicate
        if isinstance(circuit, Circuit) and evidence is not None and circuit.circuit.digest in evidence.circuits:
            continue
        if isinstance(circuit, AuditPlan | Audit | Replay | Deployment):  # step 8 is about these
            continue
        if link.digest not in used and link.statement.kind != "key":
            raise ChainError(
                f"the {link.statement.kind} statement at entry {link.index} has nothing to do with the case"
            )
    return Chain(lineage[0], tuple(lineage[1:]), tuple(requests), start)


def start_of(training: Training) -> str | None:
    """The digest of the training from whose weights this one went on."""
    start = training.recipe.parameters.get(START)
    return start if isinstance(start, str) and training.recipe.name == CHAIN else None


def _start(training: Link, by_digest: Mapping[str, Link]) -> Link | None:
    assert isinstance(training.statement.predicate, Training)
    digest = start_of(training.statement.predicate)
    if digest is None:
        return None
    found = by_digest.get(digest)
    if found is None or not isinstance(found.statement.predicate, Training):
        raise ChainError(
            f"the training at entry {training.index} went on from {digest[:16]}, which is no training in the bundle"
        )
    return found


def check_order(chain: Chain, seen: Seen | None) -> None:
    """Training before request before unlearning: by index, and by the times that statements give.

    ``seen``: by when others show that all of it was logged.
    """
    requests = {link.digest: link for link in chain.requests}
    before = chain.training
    training = before.statement.predicate
    assert isinstance(training, Training)
    trained = parse_time(training.run.finished)
    if chain.start is not None and chain.start.index >= before.index:
        raise OrderError(
            f"the training at entry {before.index} goes on from entry {chain.start.index}, which came later"
        )
    for link in chain.unlearnings:
        certificate = link.statement.predicate
        assert isinstance(certificate, Unlearning)
        started = parse_time(certificate.run.started)
        if link.index <= before.index:
            raise OrderError(f"the certificate is entry {link.index}, before its parent at entry {before.index}")
        if started < trained:
            raise OrderError(
                f"entry {link.index} states a start at {format_time(started)}, before its model was finished"
            )
        for digest in certificate.requests:
            request = requests[digest]
            predicate = request.statement.predicate
            assert isinstance(predicate, Request)
            if request.index <= chain.training.index:
                raise OrderError(
                    f"the request is entry {request.index}, before the training at entry {chain.training.index}"
                )
            if request.index >= link.index:
                raise OrderError(f"the request is entry {request.index}, after the unlearning at entry {link.index}")
            if parse_time(predicate.received) < parse_time(training.run.finished):
                raise OrderError(
                    f"the request at entry {request.index} was received {predicate.received}, before the model was trained"
                )
            if parse_time(predicate.received) > started:
                raise OrderError(f"the request at entry {request.index} was received after the unlearning began")
        before, trained = link, parse_time(certificate.run.finished)
    if seen is not None and trained > seen.time + CLOCK_SKEW:
        raise OrderError(
            f"the unlearning finished at {format_time(trained)}, after {seen.how} at {format_time(seen.time)}"
        )


def check(chain: Chain, bundle: Bundle) -> Established:
    """Recompute what can be. Raises ChainError."""
    training = chain.training.statement.predicate
    assert isinstance(training, Training)
    requests = {link.digest: link.statement.predicate for link in chain.requests}
    manifests_used = {training.model.tensor_root}
    leaves_used: set[str] = set()
    positions_used: set[str] = set()
    _check_manifest(bundle, training.model)
    model, retained, gone = training.model, training.dataset, set[int]()
    changes: Changes | None = None
    unchanged: list[int] = []
    checked = True
    for link in chain.unlearnings:
        certificate = link.statement.predicate
        assert isinstance(certificate, Unlearning)
        if certificate.pre != model:
            raise ChainError(
                f"entry {link.index} starts from the model {certificate.pre.tensor_root}, "
                f"but its parent's model is {model.tensor_root}"
            )
        _check_manifest(bundle, certificate.post)
        if certificate.post == certificate.pre:
            unchanged.append(link.index)
        elif certificate.post.tensor_root in manifests_used:
            raise ChainError(
                f"entry {link.index} goes back to weights from before an unlearning, {certificate.post.tensor_root}"
            )
        manifests_used.add(certificate.post.tensor_root)
        changes = _check_changes(bundle, link.index, certificate)
        scopes = {request.scope for digest in certificate.requests if isinstance(request := requests[digest], Request)}
        if len(scopes) > 1 or (certificate.removed is not None) != (scopes == {"records"}):
            raise ChainError(
                f"entry {link.index} answers requests about {', '.join(sorted(scopes))}, its record sets do not fit that"
            )
        if certificate.removed is not None and certificate.retained is not None:
            asked = sum(
                request.forget.count
                for digest in certificate.requests
                if isinstance(request := requests[digest], Request)
            )
            _check_counts(link.index, certificate.removed, certificate.retained, retained, asked)
            retained = certificate.retained
            positions = bundle.removed.get(link.digest)
            leaves = bundle.leaves.get(training.dataset.root)
            if positions is None or leaves is None:
                checked = False
            else:
                leaves_used.add(training.dataset.root)
                positions_used.add(link.digest)
                _check_sets(link.index, training.dataset, certificate, leaves, positions, gone)
                gone |= set(positions)
        else:
            checked = False
        model = certificate.post
    _refuse_others(bundle, manifests_used, leaves_used, positions_used)
    assert changes is not None  # a chain has a certificate
    return Established(changes, checked, tuple(unchanged))


def check_training(training: Link, bundle: Bundle, seen: Seen | None) -> None:
    """Of a training's own bundle: the manifest is the model's, and it was finished before it was seen. Raises ChainError or
    OrderError."""
    said = training.statement.predicate
    assert isinstance(said, Training)
    _check_manifest(bundle, said.model)
    _refuse_others(bundle, {said.model.tensor_root}, set(), set())
    for folder in ("circuits", "points", "proofs", "srs"):
        if getattr(bundle, folder):
            raise ChainError(f"the bundle of a training has {folder}, which belong to no statement in it")
    if seen is not None and parse_time(said.run.finished) > seen.time + CLOCK_SKEW:
        raise OrderError(f"the training finished at {said.run.finished}, after {seen.how} at {format_time(seen.time)}")


def _check_manifest(bundle: Bundle, model: Model) -> None:
    manifest = bundle.manifests.get(model.tensor_root)
    if manifest is None:
        raise ChainError(f"the bundle has no manifest of the model with tensor root {model.tensor_root}")
    if manifest.root().hex() != model.tensor_root:
        raise ChainError(f"a manifest has tensor root {manifest.root().hex()}, expected {model.tensor_root}")
    if (len(manifest.tensors), str(manifest.nbytes)) != (model.tensors, model.bytes):
        raise ChainError(
            f"the model {model.tensor_root[:16]} is stated with {model.tensors} tensors and {model.bytes} bytes, "
            f"its manifest has {len(manifest.tensors)} and {manifest.nbytes}"
        )


def _check_changes(bundle: Bundle, index: int, certificate: Unlearning) -> Changes:
    manifests = bundle.manifests
    changes = diff(manifests[certificate.pre.tensor_root], manifests[certificate.post.tensor_root])
    stated = certificate.changes
    for name in ("changed", "unchanged", "added", "removed"):
        found = len(getattr(changes, name))
        if found != getattr(stated, name):
            raise ChainError(f"entry {index} states {getattr(stated, name)} tensors {name}, the manifests show {found}")
    return changes


def _check_counts(index: int, removed: Tree, retained: Tree, before: Tree, asked: int) -> None:
    if removed.count > asked:
        raise ChainError(f"entry {index} removed {removed.count} records, but {asked} were requested")
    if not removed.count or removed.count + retained.count != before.count:
        raise ChainError(
            f"entry {index} states {removed.count} records removed and {retained.count} retained, of {before.count} before"
        )


def _check_sets(
    index: int, tree: Tree, certificate: Unlearning, leaves: bytes, positions: Sequence[int], gone: set[int]
) -> None:
    """The removed and retained sets are what is left out of, and left of, the leaves committed to at training time."""
    assert certificate.removed is not None and certificate.retained is not None
    try:
        root, count = dataset.retained(leaves, ())
        if (root.hex(), count) != (tree.root, tree.count):
            raise ChainError(
                f"the leaves lead to dataset root {root.hex()} with {count} records, {tree.root} was committed"
            )
        if gone & set(positions):
            raise ChainError(f"entry {index} removes a record that was removed before")
        removed = Tree(dataset.subset_root(leaves, positions).hex(), len(positions))
        root, count = dataset.retained(leaves, gone | set(positions))
    except DatasetError as error:
        raise ChainError(f"entry {index}: {error}") from error
    for what, found, stated in (
        ("removed", removed, certificate.removed),
        ("retained", Tree(root.hex(), count), certificate.retained),
    ):
        if found != stated:
            raise ChainError(f"entry {index}: the {what} records lead to root {found.root}, {stated.root} is stated")


def _refuse_others(bundle: Bundle, manifests: set[str], leaves: set[str], positions: set[str]) -> None:
    """Nothing rides along unchecked."""
    members: tuple[tuple[str, Mapping[str, object], set[str]], ...] = (
        ("tensors", bundle.manifests, manifests),
        ("datasets", bundle.leaves, leaves),
        ("removed", bundle.removed, positions),
    )
    for folder, parts, used in members:
        for name in parts:
            if name not in used:
                raise ChainError(f"the bundle has {folder}/{name[:16]}…, which belongs to no statement in it")
