"""For operators who cache the path of a training (DeltaGrad): its detail, and the step for a request.

::

    path = Trail.create("path", kind=deltagrad.KIND)
    with certify.training(model, ledger=ledger, data=patients, method="deltagrad/v1") as run:
        deltagrad.fit(model, x, y, loss, recipe, path)
        run.detail = paths.trained(ledger, recipe, path)
    step = paths.step(ledger, model, request, recipe, path, into=(new := Trail.create("path-1", kind=deltagrad.KIND)))
    certify.unlearn(model, step, ledger=ledger, request=request, task=task)         # the next request goes along `new`

A path that was replayed is as telling as the records that it was replayed without: destroy it afterwards.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from certify.errors import WorkspaceError
from certify.methods.deltagrad import DeltaGrad, DeltaGradTraining
from certify.statement import Training, Unlearning
from certify.workspace import Logged, Workspace

if TYPE_CHECKING:
    from torch import nn

    from circuits.steps import deltagrad
    from circuits.steps.trail import Trail


def trained(workspace: Workspace, recipe: "deltagrad.Descent", path: "Trail") -> DeltaGradTraining:
    """Commit to the path of a training by ``recipe``."""
    kept = workspace.attachments.put("details", path.commitments())
    return DeltaGradTraining(recipe.rate, recipe.steps, recipe.l2, recipe.batch, kept)


def step(
    workspace: Workspace,
    model: "nn.Module",
    request: Logged | Sequence[Logged],
    recipe: "deltagrad.Descent",
    path: "Trail",
    *,
    into: "Trail",
    period: int = 5,
    burn: int = 10,
    history: int = 2,
) -> "deltagrad.DeltaGrad":
    """The replay without the requested records. ``path``: the training's, or the one that the last request left.

    ``task.forget`` and ``task.retain`` are to have the records in the dataset's order. Raises WorkspaceError for another path
    than the ledger knows of.
    """
    from certify.certificate import forgotten_by, parent_of
    from certify.state_dict import digest_state_dict
    from circuits.steps import deltagrad

    parent = parent_of(workspace, digest_state_dict(model))
    lineage = workspace.lineage(parent)
    said = [one.statement.predicate for one in lineage]
    forgotten = forgotten_by(workspace, parent, [request] if isinstance(request, Logged) else list(request))
    training = said[0].detail if isinstance(said[0], Training) else None
    if not isinstance(training, DeltaGradTraining) or forgotten is None:
        raise WorkspaceError("expected a request for records, of a model whose training cached its path")
    last = said[-1].detail if isinstance(said[-1], Unlearning) else None
    known = last.after if isinstance(last, DeltaGrad) else training.path
    before = sha256(path.commitments()).hexdigest()
    if before != known:
        raise WorkspaceError(f"expected the path {known[:16]}, which was committed to last, got {before[:16]}")
    absent = {p for one in lineage[1:] for p in workspace.vault.note(f"removed/{one.digest}") or ()}

    def commit(new: "Trail") -> str:
        return workspace.attachments.put("details", new.commitments())

    return deltagrad.DeltaGrad.of(recipe, period=period, burn=burn, history=history).along(
        path, forgotten=forgotten.positions, into=into, absent=sorted(absent), shown={"before": before}, seal=commit
    )
