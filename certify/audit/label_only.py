"""Attacks that see only the label which a model gives: how much noise does it stand before it changes its mind?

Choquette-Choo, Tramèr, Carlini and Papernot, "Label-Only Membership Inference Attacks" (2021), the attacks by data augmentation
and by random noise. Training pushes the decision boundary away from the records that it learns, so that::

    score(x) = share of disturbed copies x' of x to which the model still gives x's own label

The gap attack of Yeom et al. (2018) is the same with the single copy x' = x: a record that is labelled rightly is a member.

Hiding confidences is therefore no forgetting, and masking them after unlearning does not fool this attack. Its limits: it needs
many copies, its scores are coarse, and a record deep within its class is robust in any model, learnt or not; without a
difference to retrained models a high AUC says nothing. Noise suits continuous inputs alone; give a ``disturb`` of one's own for
others, such as shifted pictures. Records that were pushed out lower the AUC, and only a comparison shows it. Several scales are
several attacks: fix one, or correct for choosing among them.

    found = attack(subject, params, forget, held_out, disturb=noise(0.5), copies=64, seed=plan.seed)
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from certify.audit import intervals, roc
from certify.audit.adapter import Params, Subject
from certify.audit.intervals import CONFIDENCE, Counts
from certify.audit.seeds import generator, seed_of
from certify.audit.verdict import Estimate

Disturb = Callable[[Tensor, torch.Generator], Tensor]
"""Another copy of a batch of inputs, each changed at random. (B, …) -> (B, …)"""


@dataclass(frozen=True)
class LabelOnly:
    """The attack by robustness, and the gap attack beside it: it is worth its queries if it says more."""

    copies: int
    auc: Estimate
    gap: Estimate
    """The AUC of the labels of the undisturbed records alone."""
    threshold: float
    """Fixed on one half of the records, for the best advantage; the bound is of the other half."""
    epsilon: float
    greatest: float


def noise(scale: float) -> Disturb:
    """Normal noise, of a standard deviation of ``scale`` in units of the inputs."""
    if not scale > 0:
        raise ValueError(f"expected a positive scale, got {scale}")

    def disturb(x: Tensor, rng: torch.Generator) -> Tensor:
        return x + scale * torch.randn(x.shape, generator=rng, dtype=x.dtype).to(x.device)

    return disturb


@torch.no_grad()
def robustness(
    subject: Subject, params: Params, places: np.ndarray, *, disturb: Disturb, copies: int, seed: str
) -> np.ndarray:
    """The share of copies with the right label, for records at these places in x and y. -> (n,) in [0, 1]

    The disturbances follow from the seed and are the same for every model.
    """
    if copies < 1:
        raise ValueError(f"expected at least one copy, got {copies}")
    rng = torch.Generator().manual_seed(seed_of(seed, "label-only"))
    at = torch.from_numpy(places).to(subject.x.device)
    x, y = subject.x[at], subject.y[at]
    kept = torch.zeros(len(places), dtype=torch.int64, device=x.device)
    for _ in range(copies):
        kept += subject.predict(subject.apply(params, disturb(x, rng))) == y
    return np.asarray(kept.cpu().numpy() / copies)


def attack(
    subject: Subject,
    params: Params,
    forget: np.ndarray,
    held_out: np.ndarray,
    *,
    disturb: Disturb,
    copies: int = 64,
    seed: str,
    delta: float = 0.0,
    confidence: float = CONFIDENCE,
) -> LabelOnly:
    """One model against records that it may have learnt and ones that it did not."""
    both = np.concatenate([forget, held_out])
    robust = np.split(robustness(subject, params, both, disturb=disturb, copies=copies, seed=seed), [len(forget)])
    right = np.split(
        robustness(subject, params, both, disturb=lambda x, _: x, copies=1, seed=seed).astype(float), [len(forget)]
    )
    halves = [np.array_split(generator(seed, f"label-only/{i}").permutation(side), 2) for i, side in enumerate(robust)]
    seen = roc.curve(halves[0][0], halves[1][0])
    limit = float(seen.thresholds[1:][np.argmax((seen.true_positive_rate - seen.false_positive_rate)[1:])])
    members, others = halves[0][1], halves[1][1]
    counts = Counts(int((members >= limit).sum()), len(members), int((others >= limit).sum()), len(others))
    return LabelOnly(
        copies=copies,
        auc=roc.auc(robust[0], robust[1], confidence),
        gap=roc.auc(right[0], right[1], confidence),
        threshold=limit,
        epsilon=intervals.epsilon(counts, delta=delta, confidence=confidence),
        greatest=intervals.greatest_epsilon(len(members), len(others), delta=delta, confidence=confidence),
    )
