"""The score of the NeurIPS 2023 unlearning challenge, with the score that retraining itself gets beside it.

Triantafillou et al., "Are we making progress in unlearning?" (2024). For each forgotten record, the outputs of n unlearned and
n retrained models are two samples, and every threshold, either way round, is an attack that tells one from the other: on the
outputs themselves, and on the ratio of two normal densities, which finds a sample that is narrower or wider than the other::

    ε = max over attacks of  max(ln((1 − δ − FPR) / FNR), ln((1 − δ − FNR) / FPR))        δ = 1e-5
    H(ε) = 2^−⌊ε / 0.5⌋                                    1 for ε < 0.5, and half as much for each bin of 0.5 further
    score = mean H · RA_U / RA_R · TA_U / TA_R

An attack with only one of FPR and FNR at 0 is dropped, one with both at 0 is ε = ∞. The largest of many noisy estimates is far
from 0 where there is nothing to find: two samples of 512 from one distribution have a median ε of about 1.6 (the tests measure
it). So no score means anything without that of retrained models against other retrained models, which needs n more of them.

>>> forgetting_quality(np.array([0.4, 0.6, np.inf]))
0.5
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

DELTA = 1e-5
BIN = 0.5


@dataclass(frozen=True)
class Score:
    """One comparison. ``quality`` is the mean H, ``median`` the median ε over the records, infinite ones included."""

    quality: float
    median: float
    retain_ratio: float
    test_ratio: float

    @property
    def final(self) -> float:
        return self.quality * self.retain_ratio * self.test_ratio


@dataclass(frozen=True)
class Challenge:
    """The unlearned models' score, and what retrained models reach against others: the most that can be asked for."""

    models: int
    unlearned: Score
    retrained: Score


def challenge(
    unlearned: np.ndarray,
    retrained: np.ndarray,
    again: np.ndarray,
    *,
    retain_ratio: float,
    test_ratio: float,
    delta: float = DELTA,
) -> Challenge:
    """Confidences in the forgotten records of n unlearned, n retrained and n more retrained models, (n, f) each.

    The ratios are the accuracies on retained and on test records of the unlearned models over those of the retrained ones.
    """
    if not (unlearned.shape == retrained.shape == again.shape and unlearned.ndim == 2 and len(unlearned) >= 2):
        raise ValueError(
            f"expected as many unlearned, retrained and further models, got {unlearned.shape}, {retrained.shape}, {again.shape}"
        )
    if not all(np.isfinite(values).all() for values in (unlearned, retrained, again)):
        raise ValueError("expected finite confidences")
    scores = [
        _score(per_record_epsilon(sample, retrained, delta), *ratios)
        for sample, ratios in ((unlearned, (retain_ratio, test_ratio)), (again, (1.0, 1.0)))
    ]
    return Challenge(len(unlearned), *scores)


def per_record_epsilon(unlearned: np.ndarray, retrained: np.ndarray, delta: float = DELTA) -> np.ndarray:
    """The largest ε of any threshold for each record, 0 if none says anything. (n, f), (n, f) -> (f,)"""
    return np.array([_epsilon(own, others, delta) for own, others in zip(unlearned.T, retrained.T, strict=True)])


def forgetting_quality(epsilons: np.ndarray) -> float:
    """The mean of H over the records; an infinite ε counts 0."""
    return float(np.mean(np.where(np.isfinite(epsilons), 2.0 ** -np.floor(epsilons / BIN), 0.0)))


def _epsilon(own: np.ndarray, others: np.ndarray, delta: float) -> float:
    densities = [norm(values.mean(), max(values.std(), 1e-9)) for values in (own, others)]
    ratios = [densities[0].logpdf(values) - densities[1].logpdf(values) for values in (own, others)]
    return max(_by_threshold(own, others, delta), _by_threshold(ratios[0], ratios[1], delta))


def _by_threshold(own: np.ndarray, others: np.ndarray, delta: float) -> float:
    thresholds = np.unique(np.concatenate([own, others]))
    above = 1 - np.searchsorted(np.sort(own), thresholds) / len(own)  # the share that score >= t calls unlearned
    alarms = 1 - np.searchsorted(np.sort(others), thresholds) / len(others)
    best = 0.0
    for fpr, fnr in ((alarms, 1 - above), (1 - alarms, above)):
        if ((fpr == 0) & (fnr == 0)).any():
            return float("inf")
        kept = (fpr > 0) & (fnr > 0)
        for one, other in ((fpr[kept], fnr[kept]), (fnr[kept], fpr[kept])):
            best = max(best, float(np.log(np.maximum(1 - delta - one, 1e-300) / other).max(initial=0.0)))
    return best


def _score(epsilons: np.ndarray, retain_ratio: float, test_ratio: float) -> Score:
    return Score(forgetting_quality(epsilons), float(np.median(epsilons)), retain_ratio, test_ratio)
