"""Relearn time: how many steps until a model is as good on the forgotten records as the original was?

Golatkar, Achille and Soatto, "Eternal Sunshine of the Spotless Net" (2020), section 6: what was only hidden comes back sooner
than what was never learnt. Chundawat, Tarun, Mandal and Kankanhalli, "Zero-Shot Machine Unlearning" (2023), put it beside the
retrained model's, as the anamnesis index::

    index = steps(unlearned) / steps(retrained)        near 1: as if never learnt; below it: traces; above it: pushed away

A step is one gradient step on the whole forget set with the recipe's optimiser and rate. The target is the original's mean
loss on the forget set, so that the original needs 0 steps. Everything is deterministic: no batches, dropout off.

The limits: steps are whole numbers, and with few of them the index is coarse; another rate gives another index, so fix it
beforehand; retrained models differ among one another, hence ``usual``; and a model may relearn fast since what it kept is
useful for those records, without having kept the records. It is a symptom, not a test with a known error.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite

import numpy as np
import torch
from torch import Tensor

from certify.audit.adapter import Params, Subject


@dataclass(frozen=True)
class Relearning:
    """One model on its way back. ``steps`` is None where the limit came first."""

    steps: int | None
    losses: tuple[float, ...]
    """Mean loss on the forget set, before the first step and after each."""


@dataclass(frozen=True)
class RelearnTimes:
    """All arms on the same records, with the same optimiser and limit."""

    target: float
    limit: int
    original: Relearning
    unlearned: Relearning
    retrained: tuple[Relearning, ...]

    @property
    def usual(self) -> tuple[int, int] | None:
        """The fewest and the most steps that a retrained model took, None if one of them did not get there."""
        steps = [arm.steps for arm in self.retrained if arm.steps is not None]
        return (min(steps), max(steps)) if len(steps) == len(self.retrained) else None

    @property
    def index(self) -> float | None:
        """The unlearned model's steps over the mean of the retrained models', None where that cannot be said."""
        steps = [arm.steps for arm in self.retrained if arm.steps is not None]
        if self.unlearned.steps is None or self.usual is None or not sum(steps):
            return None
        return self.unlearned.steps * len(steps) / sum(steps)


def relearn(
    subject: Subject, params: Params, forget: np.ndarray, target: float, *, limit: int, rate: float | None = None
) -> Relearning:
    """Train on the forget set alone until its mean loss is at most ``target``, for at most ``limit`` steps."""
    if limit < 1 or not len(forget) or not isfinite(target):
        raise ValueError(f"expected a forget set, a finite target and a limit of 1 or more, got {target} and {limit}")
    recipe = subject.recipe if rate is None else replace(subject.recipe, rate=rate)
    own = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
    optimiser = recipe.optimise(list(own.values()))
    losses = []
    for step in range(limit + 1):
        optimiser.zero_grad(set_to_none=True)
        loss = _loss(subject, own, forget)
        losses.append(float(loss.detach()))
        if losses[-1] <= target:
            return Relearning(step, tuple(losses))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return Relearning(None, tuple(losses))


def compare(
    subject: Subject,
    forget: np.ndarray,
    *,
    original: Params,
    unlearned: Params,
    retrained: Sequence[Params],
    limit: int = 500,
    rate: float | None = None,
) -> RelearnTimes:
    """The relearn times of all arms. The target is the original's own loss."""
    with torch.no_grad():
        target = float(_loss(subject, original, forget))
    first, second, *others = (
        relearn(subject, params, forget, target, limit=limit, rate=rate) for params in (original, unlearned, *retrained)
    )
    return RelearnTimes(target, limit, first, second, tuple(others))


def _loss(subject: Subject, params: Params, forget: np.ndarray) -> Tensor:
    places = torch.from_numpy(forget).to(subject.x.device)
    return subject.loss(subject.apply(params, subject.x[places]), subject.y[places]).mean()
