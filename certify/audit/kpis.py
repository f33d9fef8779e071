"""Key figures of an unlearning, from outputs alone: forgetting, utility, efficiency, and how random it became.

- *Completeness* (Cao and Yang 2015): the share of records to which the unlearned model gives the same label as a retrained one.
  Two retrained models differ as well: their own agreement, ``usual``, stands beside it.
- *Utility*: RA_U / RA_R and TA_U / TA_R, accuracies on retained and test records over the retrained models' mean.
- *Efficiency*: seconds of unlearning over seconds of retraining; 1 saves nothing.
- *ZRF* (Chundawat, Tarun, Mandal and Kankanhalli 2023, "Can Bad Teaching Induce Forgetting?", equation 3)::

      ZRF = 1 − mean JS(M(x), T_d(x))        over forgotten records, T_d a model that learnt nothing

  JS is Jensen and Shannon's divergence with logarithms to base 2, so that ZRF is in [0, 1]; implementations that average over
  classes too, or use other logarithms, give other numbers. A high ZRF is no merit in itself: it is highest for a model that
  answers like one that learnt nothing. What counts is to be close to the retrained models' ZRF.

These are averages: they say how the model behaves, and not whether a record can be detected. That is the attacks' part.

>>> zrf(np.array([[0.5, 0.5]]), np.array([[0.5, 0.5]]))
1.0
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import jensenshannon
from scipy.special import expit, softmax

from certify.audit.verdict import Utility


@dataclass(frozen=True)
class Outputs:
    """What one model answers: probabilities of each class for every record of a set, (n, C) each."""

    retain: np.ndarray
    test: np.ndarray
    forget: np.ndarray


@dataclass(frozen=True)
class Agreement:
    """The share of records with the same label as the retrained models, on average; ``usual`` is theirs among themselves."""

    unlearned: float
    usual: float


@dataclass(frozen=True)
class Zrf:
    """Of the unlearned model, and the least and the most of the retrained ones."""

    unlearned: float
    retrained_low: float
    retrained_high: float


@dataclass(frozen=True)
class Kpis:
    """Ratios are of the retrained models' mean."""

    completeness: Agreement
    """On all records: retained, test and forgotten, each set with the same weight."""
    forget: Agreement
    retain_ratio: float
    test_ratio: float
    efficiency: float | None
    zrf: Zrf | None
    divergence: Agreement
    """1 − mean JS to the retrained models on the forgotten records: 1 if they answer alike."""


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Of classes, from C logits or from one: (n, C) or (n, 1) -> (n, C), or (n, 2)"""
    if logits.shape[1] == 1:
        one = expit(logits.astype(np.float64))
        return np.hstack([1 - one, one])
    return np.asarray(softmax(logits.astype(np.float64), axis=1))


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """The mean of Jensen and Shannon's divergence to base 2 over records, in [0, 1]. (n, C), (n, C)"""
    if p.shape != q.shape or p.ndim != 2 or not len(p):
        raise ValueError(f"expected two arrays of the same shape (n, C), got {p.shape} and {q.shape}")
    for side in (p, q):
        if not (side >= 0).all() or not np.allclose(side.sum(1), 1, atol=1e-4):
            raise ValueError("expected rows of probabilities that sum to 1")
    return float(np.clip(divergences(p, q).mean(), 0, 1))


def divergences(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Of each record. (n, C), (n, C) -> (n,)"""
    with np.errstate(invalid="ignore"):  # of equal rows, rounding may leave the root of −1e-17
        return np.asarray(np.nan_to_num(jensenshannon(p, q, axis=1, base=2)) ** 2)


def zrf(answers: np.ndarray, untrained: np.ndarray) -> float:
    """1 for a model that answers like the untrained one, 0 for one as far from it as can be. Probabilities (n, C)"""
    return 1 - divergence(answers, untrained)


def agreement(p: np.ndarray, q: np.ndarray) -> float:
    """The share of records with the same most likely label. (n, C), (n, C)"""
    return float((p.argmax(1) == q.argmax(1)).mean())


def kpis(
    unlearned: Outputs,
    retrained: Sequence[Outputs],
    labels: Outputs,
    *,
    untrained: Outputs | None = None,
    seconds: tuple[float, float] | None = None,
) -> Kpis:
    """All figures. ``labels`` holds labels (n,) instead of probabilities; ``seconds`` are of unlearning and of retraining."""
    if len(retrained) < 2:
        raise ValueError(f"expected at least 2 retrained models, got {len(retrained)}")
    if seconds is not None and not (seconds[0] >= 0 and seconds[1] > 0):
        raise ValueError(f"expected durations in seconds, got {seconds}")
    pairs = [(a, b) for i, a in enumerate(retrained) for b in retrained[:i]]

    def agree(name: str) -> Agreement:
        own = [agreement(getattr(unlearned, name), getattr(one, name)) for one in retrained]
        return Agreement(float(np.mean(own)), float(np.mean([agreement(*_both(pair, name)) for pair in pairs])))

    sets = [agree(name) for name in ("retain", "test", "forget")]
    chance = None
    if untrained is not None:
        theirs = [zrf(one.forget, untrained.forget) for one in retrained]
        chance = Zrf(zrf(unlearned.forget, untrained.forget), min(theirs), max(theirs))
    alike = [1 - divergence(unlearned.forget, one.forget) for one in retrained]
    return Kpis(
        completeness=Agreement(
            float(np.mean([one.unlearned for one in sets])), float(np.mean([one.usual for one in sets]))
        ),
        forget=sets[2],
        retain_ratio=_ratio(unlearned.retain, [one.retain for one in retrained], labels.retain),
        test_ratio=_ratio(unlearned.test, [one.test for one in retrained], labels.test),
        efficiency=None if seconds is None else seconds[0] / seconds[1],
        zrf=chance,
        divergence=Agreement(
            float(np.mean(alike)), float(np.mean([1 - divergence(*_both(pair, "forget")) for pair in pairs]))
        ),
    )


def ratios(unlearned: Utility, retrained: Sequence[Utility]) -> tuple[float, float]:
    """RA_U / RA_R and TA_U / TA_R from the arms of an audit."""
    return (
        unlearned.retain / float(np.mean([one.retain for one in retrained])),
        unlearned.test / float(np.mean([one.test for one in retrained])),
    )


def _both(pair: tuple[Outputs, Outputs], name: str) -> tuple[np.ndarray, np.ndarray]:
    return getattr(pair[0], name), getattr(pair[1], name)


def _ratio(own: np.ndarray, others: Sequence[np.ndarray], labels: np.ndarray) -> float:
    expected = float(np.mean([(one.argmax(1) == labels).mean() for one in others]))
    if not expected:
        raise ValueError("expected retrained models that label some record rightly, got an accuracy of 0")
    return float((own.argmax(1) == labels).mean()) / expected
