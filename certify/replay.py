"""Replays: run a certificate's recipe again, compare bits, and state what came out, whatever it is (``replay/v1``).

A recipe is one Python file, which takes what it needs by name and imports nothing that lies beside it::

    def unlearn(records, removed, parameters, seeds):    # also: earlier, before
        keep = [record for i, record in enumerate(records) if i not in set(removed)]
        return fit(keep, parameters["epochs"], seeds[0]).state_dict()

    def train(records, parameters, seeds): ...           # optional: the weights `before`, where unlearn() asks for them

``records`` are the training data in the order that was committed to, JSON values, None for a record that is not at hand any
more; ``removed`` the positions that the certificate removes, ``earlier`` those that certificates before it did; ``parameters``
and ``seeds`` what the certificate states (for train(): what the training does). A whole number that was a float is an int there.

This is the replayer's side, up to the statement; certify.replay_job runs the recipe. Nothing here imports torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from certify import chain as chains
from certify import dataset, outside
from certify.audit_salts import Salts
from certify.bundle import Bundle
from certify.certificate import new_run_id
from certify.chain import Chain, Link
from certify.digest import Manifest, diff
from certify.envelope import Envelope, sign
from certify.errors import InputError, MismatchError, WorkspaceError
from certify.inputs import MAX_RECIPE, read_file
from certify.keys import PublicKey, StatementSigner
from certify.records import Records
from certify.replay_job import Job, Result, not_pinned
from certify.replays import DIFFERENT, IDENTICAL
from certify.safetensors import digest_weights
from certify.statement import (
    MAX_REMARKS,
    TENSOR_ROOT,
    Model,
    Replay,
    Run,
    Statement,
    Training,
    Tree,
    Unlearning,
    subject,
)
from certify.times import format_time
from certify.trust import Trust
from certify.workspace import Logged, Workspace
from ledger.merkle import leaf_hash


@dataclass(frozen=True)
class Target:
    """The certificate of a bundle, with what a recipe needs to know. ``removed`` and ``earlier``: positions in the dataset."""

    case: Link
    certificate: Unlearning
    training: Training
    removed: tuple[int, ...]
    earlier: tuple[int, ...]
    post: Manifest
    follows: int
    """How many certificates it follows."""


@dataclass(frozen=True)
class Data:
    """Records for a recipe, None where one is not at hand. ``checked``: the tree they were found to be those of, but for
    ``unchecked`` records."""

    records: tuple[bytes | None, ...]
    checked: Tree | None
    unchecked: int


def target(bundle: Bundle) -> Target:
    """What a bundle is about. Its statements have to agree; who signed them is ``certify verify``'s question.

    Raises ChainError, or InputError for a bundle that does not say what was removed.
    """
    links = [
        Link(entry.index, entry.envelope.digest, Statement.parse(entry.envelope.payload)) for entry in bundle.entries
    ]
    chain = chains.build(links)
    chains.check(chain, bundle)
    certificate, training = chain.case.statement.predicate, chain.training.statement.predicate
    assert isinstance(certificate, Unlearning) and isinstance(training, Training)
    return Target(
        chain.case,
        certificate,
        training,
        *_positions(bundle, chain),
        bundle.manifests[certificate.post.tensor_root],
        len(chain.unlearnings) - 1,
    )


def _positions(bundle: Bundle, chain: Chain) -> tuple[tuple[int, ...], tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    for link in chain.unlearnings:
        certificate = link.statement.predicate
        assert isinstance(certificate, Unlearning)
        positions = bundle.removed.get(link.digest)
        if positions is None and certificate.removed is not None:
            raise InputError(
                "the bundle does not say which records were removed: ask for one that was made without --no-leaves"
            )
        found.append(positions or ())
    *before, removed = found
    return removed, tuple(sorted(position for positions in before for position in positions))


def read_recipe(path: Path) -> str:
    """The SHA-256 of a recipe, in hex. Raises InputError."""
    return sha256(read_file(path, MAX_RECIPE)).hexdigest()


def check_recipe(about: Target, digest: str) -> bool:
    """Whether the certificate names this recipe; False if it names none. Raises MismatchError if it names another."""
    named = about.certificate.method.recipe
    if named is not None and named != digest:
        raise MismatchError(f"the recipe has SHA-256 {digest}, the certificate names {named}")
    return named is not None


def match_data(about: Target, records: Records, salts: Salts | None) -> Data:
    """Put records in their places, and compare them with what was committed to at training, where there are salts.

    The forgotten records may be missing, all of them. Raises MismatchError for other data.
    """
    tree, gone = about.training.dataset, {*about.removed, *about.earlier}
    rows = iter(record for _, record in records)
    if len(records) == tree.count:
        placed: tuple[bytes | None, ...] = tuple(rows)
    elif len(records) == tree.count - len(gone):
        placed = tuple(None if position in gone else next(rows) for position in range(tree.count))
    else:
        raise MismatchError(
            f"the data have {len(records)} records, expected {tree.count}, or the {tree.count - len(gone)} that were retained"
        )
    if salts is None:
        return Data(placed, None, 0)
    root, count = dataset.retained(salts.leaves, ())
    if (root.hex(), count) != (tree.root, tree.count):
        raise MismatchError(f"the salts are of dataset {root.hex()}, the certificate is about {tree.root}")
    unchecked = 0
    for position, (record, salt, leaf) in enumerate(zip(placed, salts.salts, dataset.split(salts.leaves), strict=True)):
        if record is None:
            continue
        if not salt:
            unchecked += 1
        elif leaf_hash(dataset.commit_record(record, salt)) != leaf:
            raise MismatchError(f"record {position} of the data is not the one that was committed to at training")
    return Data(placed, tree, unchecked)


def check_before(about: Target, weights: Path) -> None:
    """Raises MismatchError unless these are the weights that the certificate starts from."""
    found = digest_weights(weights).root().hex()
    if found != about.certificate.pre.tensor_root:
        raise MismatchError(
            f"the weights before have tensor root {found}, the certificate starts from {about.certificate.pre.tensor_root}"
        )


def prepare(about: Target, recipe: Path, data: Data, before: Path | None = None) -> Job:
    """A process that waits to run the recipe, as the certificate's environment says. Use it in a ``with`` block."""
    return Job(
        recipe,
        data.records,
        removed=about.removed,
        earlier=about.earlier,
        method=about.certificate.method,
        training=about.training.recipe,
        recorded=about.certificate.environment,
        before=before,
        trains=not about.follows,
    )


def state(about: Target, digest: str, data: Data, result: Result) -> Replay:
    """What is to be signed."""
    certificate, manifest = about.certificate, result.after
    changes = diff(about.post, manifest)
    names = [*changes.changed, *changes.removed, *changes.added]
    lines = not_pinned(certificate.environment, result.environment)
    if result.before is not None and result.before.root().hex() != certificate.pre.tensor_root:
        lines.append(
            f"the weights before, from the recipe's train(), have tensor root {result.before.root().hex()}, not "
            f"{certificate.pre.tensor_root}"
        )
    return Replay(
        log=certificate.log,
        run=Run(new_run_id(), format_time(result.started), format_time(result.finished)),
        certificate=about.case.digest,
        recipe=digest,
        outcome=DIFFERENT if names else IDENTICAL,
        model=Model(manifest.root().hex(), len(manifest.tensors), str(manifest.nbytes)),
        environment=result.environment,
        before="trained" if result.before is not None else "given" if result.given else "none",
        differing=len(names),
        names=[name for name in names if 0 < len(name) <= 256][:MAX_REMARKS],
        data=data.checked,
        unchecked=data.unchecked,
        not_pinned=short(lines),
    )


def short(lines: Sequence[str]) -> list[str]:
    """Lines that a statement can hold."""
    most = 2 * MAX_REMARKS
    plain = ["".join(c if c.isprintable() else " " for c in line)[:4096] for line in lines]
    return plain if len(plain) <= most else [*plain[: most - 1], f"{len(plain) - most + 1} more"]


def signed(key: StatementSigner, said: Replay) -> Envelope:
    """The statement in an envelope."""
    return sign(Statement((subject(TENSOR_ROOT, said.model.tensor_root),), said).payload(), [key])


def log_envelope(workspace: Workspace, data: bytes, known: Sequence[PublicKey] = ()) -> tuple[Logged, PublicKey | None]:
    """Append a replayer's statement, as it came; also the key that it is checked to be signed by.

    It has to be made for this log, about a certificate in it, and not dated in the future. A signature by one of ``known``, or by
    a replayer in the ledger's trust file, has to hold. Raises StatementError, WorkspaceError or EnvelopeSignatureError.
    """
    said, envelope = outside.read(workspace, data, (Replay,), "a replay")
    if not any(
        logged.digest == said.certificate and isinstance(logged.statement.predicate, Unlearning)
        for logged in workspace.statements()
    ):
        raise WorkspaceError(f"the log has no certificate {said.certificate}, which this is a replay of")
    trust = Trust.load(workspace.path / "trust.toml")
    keys = [*known, *(replayer.key for replayer in trust.replayers)]
    return outside.append(workspace, envelope, keys, trust, own="a replay is by somebody else")
