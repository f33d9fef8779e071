"""Certified removal (Guo et al. 2020, arXiv 1911.03030): a bound on what is left of forgotten records, and a budget for it.

The training states the noise that its objective had; each certificate what its own bound is made of. The verifier works out
the bound and the budget, and adds up what the chain has taken so far (as :func:`math.fsum` does, so that all agree)::

    bound  = ¼ · data · step · moved + residual             ‖X‖₂, ‖Δ‖₂, ‖XΔ‖₂, ‖HΔ − g‖₂
    budget = σ ε / √(2 ln(1.5/δ))
    gradient at the end of training + all bounds ≤ budget
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from certify.errors import ChainError
from certify.methods import checks
from certify.methods.detail import Case, Detail, Trained, TrainingDetail
from certify.methods.newton import NotNegative

if TYPE_CHECKING:
    from certify.statement import Unlearning

GAMMA = 0.25
ROUNDING = 1e-6

Positive = Annotated[float, Meta(gt=0, le=1e12)]
Epsilon = Annotated[float, Meta(gt=0, le=1)]
Probability = Annotated[float, Meta(gt=0, lt=1)]


class CertifiedTraining(TrainingDetail, frozen=True, tag="certified-removal/v1"):
    """``l2``: λ for each record, ``sigma``: of the noise, ``gradient``: the norm of the objective's at the end."""

    l2: Positive
    sigma: Positive
    epsilon: Epsilon
    delta: Probability
    gradient: NotNegative

    SHOWS = (
        "with what noise in its objective, by the operator's word, the model was trained, and what removals that allows"
    )
    DOES_NOT_SHOW = "that the noise was drawn at random and kept by nobody"

    @property
    def budget(self) -> float:
        """The largest sum of bounds for which the removals are (ε, δ)-certified."""
        return self.sigma * self.epsilon / math.sqrt(2 * math.log(1.5 / self.delta))

    def check(self, trained: Trained) -> list[str]:
        tensors = trained.model.tensors
        if len(tensors) != 1 or len(tensors[0].shape) != 2 or tensors[0].shape[0] != 1:
            raise ChainError(
                f"entry {trained.index} trained {len(tensors)} tensors for certified removal, expected a single one, of one row"
            )
        if trained.training.recipe.seeds:
            raise ChainError(
                f"entry {trained.index} publishes seeds, from which the noise could be drawn again: expected none (seeds=[])"
            )
        if not self.gradient <= self.budget:
            raise ChainError(
                f"entry {trained.index} ended with a gradient of {self.gradient:g}, above the removal budget of {self.budget:g}"
            )
        return [
            f"σ = {self.sigma:g}, ε = {self.epsilon:g} and δ = {self.delta:g} make a removal budget of {self.budget:.4g}, "
            f"of which training took {self.gradient:.2g}"
        ]


class CertifiedRemoval(Detail, frozen=True, tag="certified-removal/v1"):
    """``spent``: the training's gradient and the bounds of all earlier certificates, added up."""

    l2: Positive
    sigma: Positive
    epsilon: Epsilon
    delta: Probability
    spent: NotNegative
    data: NotNegative
    step: NotNegative
    moved: NotNegative
    residual: NotNegative
    forgotten: Annotated[int, Meta(ge=1)]
    retained: Annotated[int, Meta(ge=1)]

    SHOWS = (
        "that, if the operator's norms are right and the noise is nobody's, whoever sees the new weights alone can tell them "
        "from those of retraining no better than ε and δ allow, since the removal budget is not used up"
    )
    DOES_NOT_SHOW = (
        "that the norms were computed from the training data, or anything against those who also saw the weights before, who "
        "chose their requests by looking at the model, or who learn from the certificate's own figures"
    )

    @property
    def bound(self) -> float:
        """By how much the gradient grew at most."""
        return GAMMA * self.data * self.step * self.moved + self.residual

    def check(self, case: Case) -> list[str]:
        training = case.training.detail
        if not isinstance(training, CertifiedTraining):
            raise ChainError(
                f"entry {case.index} is by certified-removal/v1, its training had no noise in its objective"
            )
        for name in ("l2", "sigma", "epsilon", "delta"):
            if getattr(self, name) != getattr(training, name):
                raise ChainError(
                    f"entry {case.index} has {name} {getattr(self, name)}, its training {getattr(training, name)}"
                )
        checks.told(case, l2=self.l2, sigma=self.sigma, epsilon=self.epsilon, delta=self.delta, spent=self.spent)
        before = spent(training, case.earlier)
        if self.spent != before:
            raise ChainError(
                f"entry {case.index} says that {self.spent:.6g} of the removal budget was spent before, it was {before:.6g}"
            )
        self._check_norms(case)
        total = self.spent + self.bound
        if not total <= training.budget:
            raise ChainError(
                f"entry {case.index} takes the removal budget to {total:.4g} of {training.budget:.4g}: retraining was due"
            )
        return [
            *checks.records(case, forgotten=self.forgotten, retained=self.retained),
            f"by the operator's word, ‖X‖ = {self.data:.4g}, ‖Δ‖ = {self.step:.4g}, ‖XΔ‖ = {self.moved:.4g} and "
            f"‖HΔ − g‖ = {self.residual:.2g}",
            f"with these, the removal takes {self.bound:.4g} of a budget of {training.budget:.4g}, {before:.4g} were spent "
            f"before: {training.budget - total:.4g} are left",
        ]

    def _check_norms(self, case: Case) -> None:
        """No matrix and vector have norms that contradict these, for records of norm 1 at most."""
        if self.data > math.sqrt(self.retained) * (1 + ROUNDING) or self.moved > self.data * self.step * (1 + ROUNDING):
            raise ChainError(
                f"entry {case.index} states norms that no {self.retained} records of norm 1 have: ‖X‖ = {self.data:g}, "
                f"‖Δ‖ = {self.step:g}, ‖XΔ‖ = {self.moved:g}"
            )
        if (case.pre.root() != case.post.root()) != (self.step > 0):
            raise ChainError(
                f"entry {case.index} states a step of {self.step:g}, which its weights before and after belie"
            )


def spent(training: CertifiedTraining, earlier: "Sequence[Unlearning]") -> float:
    """What training and certificates took of the budget. Raises ChainError where one of another method came between."""
    bounds = [training.gradient]
    for number, certificate in enumerate(earlier):
        if not isinstance(certificate.detail, CertifiedRemoval):
            raise ChainError(
                f"certificate {number + 1} of the chain is by {certificate.method.name}, which nobody has a bound for: "
                f"train anew, with fresh noise"
            )
        bounds.append(certificate.detail.bound)
    return math.fsum(bounds)
