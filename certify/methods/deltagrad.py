"""DeltaGrad (Wu, Dobriban & Davidson 2020): training again along a cached path, most gradients corrected instead of computed.

The training commits to its path, each certificate to the one that it left for the next request. An attachment has the commitments
to all steps of a path, 32 bytes each (:mod:`circuits.steps.trail`); its SHA-256 stands for the path.
"""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from certify.errors import ChainError
from certify.fields import Count, Digest
from certify.methods import checks
from certify.methods.detail import Case, Detail, Trained, TrainingDetail
from certify.methods.newton import NotNegative

MAX_STEPS = 1 << 18
Positive = Annotated[float, Meta(gt=0)]
Some = Annotated[int, Meta(ge=1, le=MAX_STEPS)]


class DeltaGradTraining(TrainingDetail, frozen=True, tag="deltagrad/v1"):
    """Gradient descent, of ``batch`` records a step, 0 for all."""

    rate: Positive
    steps: Some
    l2: NotNegative
    batch: Count
    path: Digest

    SHOWS = "that the weights and gradients of every step were committed to before anybody asked"
    DOES_NOT_SHOW = "that these are the weights and gradients of the training"

    @property
    def attachments(self) -> tuple[str, ...]:
        return (self.path,)

    def check(self, trained: Trained) -> list[str]:
        check_path(trained.index, trained.attached, self.path, self.steps)
        return [f"the path of its {self.steps} steps was committed to as {self.path[:16]}"]


class DeltaGrad(Detail, frozen=True, tag="deltagrad/v1"):
    """``before`` and ``after``: paths. ``computed`` steps had their gradient computed, ``left_out`` of these gave no curvature.
    ``moved``: the norm of the change."""

    before: Digest
    after: Digest
    period: Some
    burn: Count
    history: Annotated[int, Meta(ge=1, le=256)]
    computed: Count
    left_out: Count
    moved: NotNegative
    forgotten: Some
    retained: Annotated[int, Meta(ge=1)]

    SHOWS = (
        "along which path, committed to in training or by the certificate before, it was replayed, and in how many of its steps "
        "the gradient was computed anew"
    )
    DOES_NOT_SHOW = (
        "that the replay followed that path, or how far its result is from training without the records: corrected gradients are "
        "approximations"
    )

    @property
    def attachments(self) -> tuple[str, ...]:
        return (self.before, self.after)

    def check(self, case: Case) -> list[str]:
        training = case.training.detail
        if not isinstance(training, DeltaGradTraining):
            raise ChainError(f"entry {case.index} is by deltagrad/v1, its training cached no path")
        last = training.path
        for number, earlier in enumerate(case.earlier):
            if not isinstance(earlier.detail, DeltaGrad):
                raise ChainError(
                    f"entry {case.index}: certificate {number + 1} of its chain is by {earlier.method.name}, which has no path"
                )
            last = earlier.detail.after
        if self.before != last:
            raise ChainError(
                f"entry {case.index} was replayed along path {self.before[:16]}, the last that was committed to is {last[:16]}"
            )
        for path in (self.before, self.after):
            check_path(case.index, case.attached, path, training.steps)
        expected = sum(t < self.burn or (t - self.burn) % self.period == 0 for t in range(training.steps))
        if self.computed != expected or self.left_out > self.computed:
            raise ChainError(
                f"entry {case.index} computed {self.computed} gradients, a burn-in of {self.burn} and a period of {self.period} "
                f"make it {expected}"
            )
        checks.told(case, rate=training.rate, steps=training.steps, l2=training.l2, batch=training.batch)
        checks.told(case, period=self.period, burn=self.burn, history=self.history)
        checks.same_shapes(case)
        return [
            *checks.records(case, forgotten=self.forgotten, retained=self.retained),
            f"it names the path {self.before[:16]}, which was committed to before, and leaves {self.after[:16]} to the next",
            f"by the operator's word, {self.computed} of {training.steps} gradients were computed and the others corrected; the "
            f"weights moved by {self.moved:.4g}",
        ]


def check_path(index: int, attached: Mapping[str, bytes], path: str, steps: int) -> None:
    """There is a commitment for each step. Raises ChainError."""
    if len(attached[path]) != 32 * steps:
        raise ChainError(
            f"entry {index} names a path of {steps} steps, its commitments have {len(attached[path])} bytes, expected 32 each"
        )
