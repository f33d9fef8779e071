"""For operators who train in shards (SISA): the details of a training and of an unlearning, with what they refer to.

::

    with certify.training(sisa.ensemble, ledger=ledger, data=patients, method="sisa/v1") as run:
        sisa.fit(x, y)
        run.detail = sharding.trained(ledger, sisa.plan, checkpoints=sisa.checkpoints.digests)
    with certify.unlearning(sisa.ensemble, ledger=ledger, request=request, method="sisa/v1") as run:
        affected = sisa.forget(positions, x, y)
        run.detail = sharding.retrained(ledger, training, [request], affected, checkpoints=sisa.checkpoints.digests)

The map's secret stays in the vault, as the note ``shard-map/<root>``: ``{"secret": hex, "places": [[shard, slice], …]}``.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from certify.certificate import forgotten_by
from certify.dataset import split
from certify.errors import WorkspaceError
from certify.methods.sisa import Retrained, Sisa, SisaTraining, to_json
from certify.shard_map import ShardMap
from certify.statement import Training, Unlearning
from certify.workspace import Logged, Workspace

Plan = Sequence[Sequence[Sequence[int]]]
"""Shard, slice, positions of records in the dataset."""
Digests = Sequence[Sequence[str]]
"""For each shard, the SHA-256 of its state before each slice."""


def trained(
    workspace: Workspace,
    plan: Plan,
    *,
    prefix: str = "constituents.",
    aggregation: Literal["mean", "majority"] = "mean",
    checkpoints: Digests | None = None,
) -> SisaTraining:
    """Commit to the plan. Tensors of shard k have names that begin with ``prefix`` and k and a full stop.

    Raises WorkspaceError unless the plan deals out positions 0, 1, … of a dataset, each once.
    """
    dealt = {p: (shard, part) for shard, parts in enumerate(plan) for part, those in enumerate(parts) for p in those}
    slices = {len(parts) for parts in plan}
    count = sum(len(those) for parts in plan for those in parts)
    if len(slices) != 1 or sorted(dealt) != list(range(count)):
        raise WorkspaceError("expected a plan with as many slices in each shard, and every record in one of them")
    found = ShardMap.of([dealt[position] for position in range(len(dealt))])
    root = found.root().hex()
    workspace.vault.put_note(f"shard-map/{root}", {"secret": found.secret.hex(), "places": found.places})
    kept = _keep(workspace, checkpoints)
    return SisaTraining(len(plan), slices.pop(), root, prefix, aggregation, kept)


def shard_map(workspace: Workspace, root: str) -> ShardMap:
    """The map that a training committed to, out of the vault. Raises WorkspaceError."""
    note = workspace.vault.note(f"shard-map/{root}")
    if note is None:
        raise WorkspaceError(f"the vault has no shard map with root {root}: restore it")
    found = ShardMap(bytes.fromhex(note["secret"]), tuple((shard, part) for shard, part in note["places"]))
    if found.root().hex() != root:
        raise WorkspaceError(f"the vault's shard map {root[:16]} was altered: it leads to another root")
    return found


def retrained(
    workspace: Workspace,
    parent: Logged,
    requests: Sequence[Logged],
    affected: Mapping[int, int],
    *,
    checkpoints: Digests | None = None,
) -> Sisa:
    """Open the places of the records that ``requests`` remove from the model of ``parent`` (a training or certificate).

    ``affected``: each retrained shard, and the first slice that it learnt again.
    """
    lineage = [logged.statement.predicate for logged in workspace.lineage(parent)]
    training = lineage[0]
    assert isinstance(training, Training)
    detail = training.detail
    if not isinstance(detail, SisaTraining):
        raise WorkspaceError("the training committed to no shards: give its run a detail (certify.sharding.trained)")
    places = None
    if (forgotten := forgotten_by(workspace, parent, requests)) is not None:
        leaves = split(workspace.vault.leaves(training.dataset.root))
        opened = shard_map(workspace, detail.map).open(forgotten.positions, leaves)
        places = workspace.attachments.put("details", opened.to_json())
    last = detail.checkpoints
    for earlier in lineage[1:]:
        if isinstance(earlier, Unlearning) and isinstance(earlier.detail, Sisa):
            last = earlier.detail.after
    again = [Retrained(shard, part) for shard, part in sorted(affected.items())]
    return Sisa(again, places, last, _keep(workspace, checkpoints) if last is not None else None)


def _keep(workspace: Workspace, checkpoints: Digests | None) -> str | None:
    if checkpoints is None:
        return None
    return workspace.attachments.put("details", to_json([list(states) for states in checkpoints]))
