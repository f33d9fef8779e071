"""For operators of certified removal: what a model's removal budget is, and how much of it is left.

::

    with certify.training(model, ledger=ledger, data=patients, method="certified-removal/v1", seeds=[]) as run:
        trained = Training(l2=1e-2, sigma=10.0, epsilon=1.0, delta=1e-4).fit(model, x, y)
        run.detail = removal_budget.trained(trained)
    account = removal_budget.account(ledger, model)
    certify.unlearn(model, account.step(), ledger=ledger, request=request, task=task)

When :class:`circuits.steps.certified_removal.RetrainingDue` is raised, the model has to be trained anew: a new training/v1 with
fresh noise, and a chain of its own.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from certify.errors import WorkspaceError
from certify.methods.certified_removal import CertifiedTraining, spent
from certify.statement import Training, Unlearning
from certify.workspace import Workspace

if TYPE_CHECKING:
    from torch import nn

    from circuits.steps.certified_removal import CertifiedRemoval, Trained


@dataclass(frozen=True, slots=True)
class Account:
    """A model's training, and what it and all removals since have spent."""

    training: CertifiedTraining
    spent: float

    @property
    def left(self) -> float:
        return self.training.budget - self.spent

    def step(self) -> "CertifiedRemoval":
        """The next removal."""
        from circuits.steps.certified_removal import CertifiedRemoval

        of = self.training
        return CertifiedRemoval(l2=of.l2, sigma=of.sigma, epsilon=of.epsilon, delta=of.delta, spent=self.spent)


def trained(by: "Trained") -> CertifiedTraining:
    """The detail of a training."""
    return CertifiedTraining(by.l2, by.sigma, by.epsilon, by.delta, by.gradient)


def account(workspace: Workspace, model: "nn.Module") -> Account:
    """Raises WorkspaceError for a model that is not in the ledger or was trained otherwise, ChainError as a verifier would."""
    from certify.certificate import parent_of
    from certify.state_dict import digest_state_dict

    lineage = [one.statement.predicate for one in workspace.lineage(parent_of(workspace, digest_state_dict(model)))]
    first = lineage[0]
    detail = first.detail if isinstance(first, Training) else None
    if not isinstance(detail, CertifiedTraining):
        raise WorkspaceError("the model was trained without noise in its objective: it has no removal budget")
    return Account(detail, spent(detail, [one for one in lineage[1:] if isinstance(one, Unlearning)]))
