"""Planted canaries and the one-run bound: did training, or training and then unlearning, depend on a coin that was flipped?

Steinke, Nasr and Jagielski, "Privacy Auditing with One (1) Training Run" (2023, arXiv 2305.08846), algorithm 1, theorem 5.2.

1. Before training, the auditor picks m records and flips a fair coin for each: heads, it is added to the training data.
2. After it, the records are ordered by score. The k highest are guessed to be in, the k lowest out, of the rest nothing is
   said. ``two_sided`` guesses the opposite as well, which finds canaries that were pushed out too far; each of the two
   guesses then gets half of what may go wrong.
3. An (ε, δ)-private training allows so many correct guesses only with a small probability; the greatest ε that this refutes
   is the bound (:func:`certify.audit.intervals.one_run_epsilon`).

For unlearning, all planted canaries are among the records to forget, and step 2 is done with the model after it: training and
unlearning together are the mechanism. A model retrained without them has ε = 0, and all its bounds but 5 % are 0.

    canaries = draw(subject.y, spare, count=200, seed=plan.seed)         # before training: plant canaries.learnt
    found = audit(replaced(subject, canaries), canaries, params, guesses=100)

The bound needs no independent records, but these limits remain: the coins must stay secret from the trainer until the model
is fixed; ``guesses`` must be fixed beforehand; the bound is about the planted records, here ones with wrong labels, which are
easier to find than natural ones; and no bound of 0 says that a model forgot.

>>> one_run(np.arange(40.0), np.arange(40) >= 20, guesses=20).correct
20
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import torch

from certify.audit.adapter import Params, Subject, Torch
from certify.audit.intervals import CONFIDENCE, one_run_epsilon, one_run_p_value
from certify.audit.seeds import generator
from certify.audit.shadows import confidences

AnySubject = TypeVar("AnySubject", bound=Torch)


@dataclass(frozen=True)
class Canaries:
    """Records with wrong labels, and for each the coin that decided whether it is learnt. All (m,)"""

    places: np.ndarray
    labels: np.ndarray
    included: np.ndarray

    @property
    def learnt(self) -> np.ndarray:
        """Places of those that training gets; the others are never learnt."""
        return np.asarray(self.places[self.included])


@dataclass(frozen=True)
class OneRun:
    """What the guesses of one training run show."""

    records: int
    guesses: int
    correct: int
    side: Literal["high", "low"]
    """Which end was guessed to be in, where the guess was better."""
    epsilon: float
    """The greatest ε that is refuted, 0 if none."""
    greatest: float
    """What guesses without a mistake would have refuted."""
    chance: float
    """The probability of as many correct guesses by luck alone, of both guesses where there are two."""
    delta: float
    confidence: float


def draw(y: torch.Tensor, spare: np.ndarray, *, count: int, seed: str) -> Canaries:
    """Canaries out of spare places in y, each with another label than its own and with a coin of its own."""
    if not 2 <= count <= len(spare):
        raise ValueError(f"expected between 2 and {len(spare)} canaries, got {count}")
    rng = generator(seed, "canaries")
    places = rng.permutation(spare)[:count]
    own = y.cpu().numpy()
    classes = int(own.max()) + 1
    labels = (own[places] + rng.integers(1, classes, count)) % classes
    return Canaries(places, labels, rng.random(count) < 0.5)


def replaced(subject: AnySubject, canaries: Canaries) -> AnySubject:
    """The same subject, in which the canaries have their wrong labels. The given one is left as it is."""
    changed = copy(subject)
    changed.y = subject.y.clone()
    changed.y[torch.from_numpy(canaries.places)] = torch.from_numpy(canaries.labels).to(changed.y)
    return changed


def scores(subject: Subject, canaries: Canaries, params: Params, references: Sequence[Params] = ()) -> np.ndarray:
    """Confidence in each canary's wrong label, less the mean of models that learnt no canary, if there are any. -> (m,)"""
    own = confidences(subject, {name: value.unsqueeze(0) for name, value in params.items()}, canaries.places)[0]
    if not references:
        return np.asarray(own)
    stacked = {name: torch.stack([one[name] for one in references]) for name in params}
    return np.asarray(own - confidences(subject, stacked, canaries.places).mean(0))


def one_run(
    values: np.ndarray,
    included: np.ndarray,
    *,
    guesses: int,
    two_sided: bool = True,
    delta: float = 0.0,
    confidence: float = CONFIDENCE,
) -> OneRun:
    """Steps 2 and 3: half of ``guesses`` on each end. Equal scores keep the order of the canaries, which knows no coin."""
    if len(values) != len(included) or not 2 <= guesses <= len(values) or guesses % 2:
        raise ValueError(f"expected a coin for each score, and an even number of guesses up to {len(values)}")
    if not np.isfinite(values).all():
        raise ValueError("expected finite scores: a model whose outputs are NaN or infinite cannot be attacked")
    order = np.argsort(values, kind="stable")
    correct = int(included[order[-guesses // 2 :]].sum() + (~included[order[: guesses // 2]]).sum())
    low = two_sided and guesses - correct > correct
    right, tries = guesses - correct if low else correct, 2 if two_sided else 1
    sure = {"delta": delta, "confidence": 1 - (1 - confidence) / tries}
    return OneRun(
        records=len(values),
        guesses=guesses,
        correct=right,
        side="low" if low else "high",
        epsilon=one_run_epsilon(right, guesses, len(values), **sure),
        greatest=one_run_epsilon(guesses, guesses, len(values), **sure),
        chance=min(1.0, tries * one_run_p_value(right, guesses, len(values), 0.0)),
        delta=delta,
        confidence=confidence,
    )


def audit(
    subject: Subject,
    canaries: Canaries,
    params: Params,
    *,
    guesses: int,
    two_sided: bool = True,
    delta: float = 1e-5,
    confidence: float = CONFIDENCE,
    references: Sequence[Params] = (),
) -> OneRun:
    """One model, of a subject in which the canaries are :func:`replaced`."""
    values = scores(subject, canaries, params, references)
    return one_run(values, canaries.included, guesses=guesses, two_sided=two_sided, delta=delta, confidence=confidence)
