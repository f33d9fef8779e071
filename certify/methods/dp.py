"""Differentially private training (DP-SGD, Abadi et al. 2016), and requests answered by its guarantee alone.

The training states noise, sampling rate and steps; whoever verifies computes what (ε, δ) follow (:mod:`certify.rdp`) and refuses
a smaller ε. A certificate by ``dp-guarantee/v1`` leaves the weights as they are and says how little a group of that many records
could have changed about them. That is a bound on what weights tell, not removal::

    detail = DpSgdTraining.of(noise=4.0, rate=0.07, steps=150, clipping=1.0, delta=1e-5, accountant="opacus 1.6.0 rdp")
    DpGuarantee.of(detail, group=3, delta=1e-4)
"""

from typing import Annotated, Literal

from msgspec import Meta

from certify import rdp
from certify.errors import ChainError, StatementError
from certify.fields import MAX_INTEGER, Label
from certify.methods.detail import Case, Detail, Trained, TrainingDetail

Share = Annotated[float, Meta(gt=0, lt=1)]
Epsilon = Annotated[float, Meta(ge=0)]
_SLACK = 1 - 1e-9  # logarithms differ in their last bits from machine to machine


class DpSgdTraining(TrainingDetail, frozen=True, tag="dp-sgd/v1"):
    """``epsilon`` and ``delta`` are about one record added or removed; ``reported`` is what the accountant made of it, at
    ``delta``. ``noise_multiplier`` is σ over ``clipping``, the norm that each record's gradient is cut to."""

    accountant: Label
    adjacency: Literal["add-or-remove-one"]
    sampling: Literal["poisson"]
    noise_multiplier: Annotated[float, Meta(ge=1e-3, le=1e6)]
    sampling_rate: Annotated[float, Meta(gt=0, le=1)]
    steps: Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
    clipping: Annotated[float, Meta(gt=0)]
    epsilon: Epsilon
    delta: Share
    reported: Epsilon | None = None

    SHOWS = "which privacy loss follows from the noise, the sampling rate and the number of steps that it states"
    DOES_NOT_SHOW = "that noise was drawn, gradients were clipped or records were sampled like that"

    @classmethod
    def of(
        cls,
        *,
        noise: float,
        rate: float,
        steps: int,
        clipping: float,
        delta: float,
        accountant: str,
        reported: float | None = None,
    ) -> "DpSgdTraining":
        """With the ε that follows. Raises StatementError where none does."""
        found = _epsilon(delta, noise, rate, steps)
        return cls(
            accountant, "add-or-remove-one", "poisson", noise, rate, steps, clipping, found, delta, reported
        )  # fmt: skip

    def least(self, delta: float, group: int = 1) -> float:
        """The ε that follows for a group of records. Raises StatementError."""
        return _epsilon(delta, self.noise_multiplier, self.sampling_rate, self.steps, group)

    def check(self, trained: Trained) -> list[str]:
        where = f"entry {trained.index}"
        if trained.training.recipe.seeds:
            raise ChainError(f"{where} publishes a seed: noise that anybody can draw again protects nobody")
        least = _within(where, self, self.delta)
        if self.epsilon < least * _SLACK:
            raise ChainError(f"{where} states ε = {self.epsilon:.6g} at δ = {self.delta:g}, but {least:.6g} follows")
        lines = [
            f"noise {self.noise_multiplier:g}, sampling rate {self.sampling_rate:.4g} and {self.steps} steps, which are the "
            f"operator's word, give ε = {least:.4g} at δ = {self.delta:g} for one record; it states {self.epsilon:.4g}"
        ]
        if self.reported is not None:
            lines.append(f"by the operator's word, {self.accountant} reported ε = {self.reported:.4g}")
        if trained.training.base:
            lines.append("what the base model had learnt before is not covered by ε")
        return lines


class DpGuarantee(Detail, frozen=True, tag="dp-guarantee/v1"):
    """``epsilon`` and ``delta`` are about ``group`` records at once: all that this certificate and those before it answer for.

    :mod:`certify.dp_answer` issues it."""

    group: Annotated[int, Meta(ge=1, le=rdp.MAX_GROUP)]
    epsilon: Epsilon
    delta: Share

    SHOWS = (
        "how little the weights can tell of whether the requested records were learnt from, if the training "
        "added the noise that it states"
    )
    DOES_NOT_SHOW = (
        "that anything was removed: the model is the same as before and did learn from those records, and figures "
        "computed from the training records, such as metrics, are not covered; nor what other certificates for the same "
        "weights answer"
    )

    @classmethod
    def of(cls, training: DpSgdTraining, *, group: int, delta: float) -> "DpGuarantee":
        """With the ε that follows for the group. Raises StatementError where none does."""
        return cls(group, training.least(delta, group), delta)

    def check(self, case: Case) -> list[str]:
        where = f"entry {case.index}"
        training = case.training.detail
        if not isinstance(training, DpSgdTraining):
            raise ChainError(f"{where} answers by dp-guarantee/v1, its training is not by dp-sgd/v1")
        if any(not isinstance(one.detail, DpGuarantee) for one in case.earlier):
            raise ChainError(f"{where} answers by dp-guarantee/v1 for weights that an earlier certificate changed")
        if case.certificate.pre != case.training.model or case.certificate.post != case.training.model:
            raise ChainError(f"{where} answers by dp-guarantee/v1, and changes the weights that the guarantee is about")
        if {request.scope for request in case.requests} != {"records"}:
            raise ChainError(
                f"{where} answers by dp-guarantee/v1, which needs requests about records that can be counted"
            )
        removed = [one.removed.count for one in (*case.earlier, case.certificate) if one.removed is not None]
        if sum(removed) > self.group:
            raise ChainError(
                f"{where} is about a group of {self.group}, it and those before it answer for {sum(removed)} records"
            )
        least = _within(where, training, self.delta, self.group)
        if self.epsilon < least * _SLACK:
            raise ChainError(
                f"{where} states ε = {self.epsilon:.6g} at δ = {self.delta:g} for {self.group} records, "
                f"but {least:.6g} follows"
            )
        most = rdp.best_test(self.epsilon, self.delta)
        return [
            f"for any {self.group} records together ε = {self.epsilon:.4g} at δ = {self.delta:g}, recomputed from the training's "
            f"noise by the k-fold bound",
            f"a test for those records that is wrong for 1 % of models without them is right for at most {most:.1%} of models "
            f"with them" + (", so that the bound excludes next to nothing" if most > 0.9 else ""),
        ]


def _epsilon(delta: float, noise: float, rate: float, steps: int, group: int = 1) -> float:
    try:
        found = rdp.epsilon(delta, noise=noise, rate=rate, steps=steps, group=group)
    except (ValueError, OverflowError) as error:
        raise StatementError(f"no guarantee: {error}") from error
    if found == float("inf"):
        raise StatementError(f"no guarantee follows for {group} records at δ = {delta:g}")
    return found


def _within(where: str, training: DpSgdTraining, delta: float, group: int = 1) -> float:
    try:
        return training.least(delta, group)
    except StatementError as error:
        raise ChainError(f"{where}: {error}") from error
