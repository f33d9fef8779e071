"""How well scores tell members from others: the ROC curve, its area with an interval, and what it finds at few false alarms.

- AUC is P(member's score > other's) + ½ P(equal), Mann and Whitney's statistic.
- Its variance and its covariance between attacks on the same records are DeLong, DeLong and Clarke-Pearson's (1988), from
  midranks as Sun and Xu (2014) compute them. The interval is symmetric in the log odds, so that it stays within 0 and 1. At an
  area of exactly 0 or 1, where that variance vanishes, it is Clopper and Pearson's with the smaller number of records.
- Carlini et al. (2022): an attack matters if it is right at few false alarms, hence true positive rates at 0.1 % and 1 % of them.

>>> auc(np.array([2.0, 3.0]), np.array([1.0, 2.0])).value
0.875
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np
from scipy.stats import norm, rankdata
from scipy.stats import t as student

from certify.audit.intervals import CONFIDENCE, rate
from certify.audit.verdict import Estimate, TruePositives

Scores = np.ndarray


@dataclass(frozen=True)
class Curve:
    """A point for each threshold: the rates of ``score >= threshold``, from (0, 0) to (1, 1). All (t,)"""

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    thresholds: np.ndarray


def curve(members: Scores, others: Scores) -> Curve:
    """The whole ROC curve, one point for each distinct score and one, at threshold inf, before them."""
    _check(members, others)
    scores = np.concatenate([members, others])  # (m + n,)
    order = np.argsort(-scores, kind="stable")
    is_member = (order < len(members)).astype(np.int64)
    last = np.append(np.diff(scores[order]) != 0, True)  # of those with the same score
    hits, alarms = np.cumsum(is_member)[last], np.cumsum(1 - is_member)[last]
    return Curve(
        np.concatenate([[0.0], alarms / len(others)]),
        np.concatenate([[0.0], hits / len(members)]),
        np.concatenate([[np.inf], scores[order][last]]),
    )


def placements(members: Scores, others: Scores) -> tuple[np.ndarray, np.ndarray]:
    """The share of others that each member beats (m,), and the share of members that beats each other (n,); ties count half."""
    _check(members, others)
    m, n = len(members), len(others)
    together = rankdata(np.concatenate([members, others]))
    return (together[:m] - rankdata(members)) / n, 1 - (together[m:] - rankdata(others)) / m


def auc(members: Scores, others: Scores, confidence: float = CONFIDENCE) -> Estimate:
    """The area under the curve with its interval."""
    x, y = placements(members, others)
    value = float(x.mean())
    tail = (1 - confidence) / 2
    if value in (0.0, 1.0):
        smaller = min(len(members), len(others))
        return rate(smaller if value else 0, smaller, confidence)
    spread = sqrt(_variance(x) + _variance(y)) / (value * (1 - value))  # of the log odds
    middle, reach = log(value / (1 - value)), float(norm.ppf(1 - tail)) * spread
    return Estimate(value, _logistic(middle - reach), _logistic(middle + reach))


def contrast(
    arms: Sequence[tuple[Scores, Scores]],
    weights: Sequence[float],
    confidence: float = CONFIDENCE,
    *,
    spread: float = 0.0,
    trained: int = 0,
) -> Estimate:
    """Σ weight · AUC of attacks on the same records, such as one arm less the mean of others. DeLong's paired interval.

    Each arm is (scores of members, scores of others), records in the same order everywhere. DeLong's variance is of other
    records and the same models. For other models too, ``spread`` is the variance of AUC among ``trained`` models that differ
    by their seeds: of one model and the mean of those it adds spread · (1 + 1 / trained), with trained − 1 degrees of freedom.
    """
    pairs = [placements(members, others) for members, others in arms]
    # What each record adds to the sum: members (m,) and others (n,).
    x = np.sum([weight * of_members for weight, (of_members, _) in zip(weights, pairs, strict=True)], axis=0)
    y = np.sum([weight * of_others for weight, (_, of_others) in zip(weights, pairs, strict=True)], axis=0)
    value = float(x.mean())
    records, models = _variance(x) + _variance(y), spread * (1 + 1 / trained) if trained else 0.0
    total = records + models
    quantile = float(norm.ppf((1 + confidence) / 2))
    if models:
        freedom = total**2 / (models**2 / (trained - 1) + records**2 / (len(x) + len(y) - 2))
        quantile = float(student.ppf((1 + confidence) / 2, freedom))
    reach = quantile * sqrt(total)
    return Estimate(value, value - reach, value + reach)


def true_positives(
    members: Scores, others: Scores, false_positive_rate: float, confidence: float = CONFIDENCE
) -> TruePositives:
    """The best true positive rate with at most this share of false alarms among ``others``, with exact intervals of both rates.

    The threshold is an order statistic of the same others, so this describes and does not test; ``others`` fewer than
    1 / false_positive_rate allow no false alarm at all, and the upper end of ``false_positive_rate`` says how little that shows.
    """
    _check(members, others)
    allowed = int(false_positive_rate * len(others) + 1e-9)
    threshold = np.sort(others)[::-1][allowed] if allowed < len(others) else -np.inf  # above it: at most ``allowed``
    hits, alarms = int((members > threshold).sum()), int((others > threshold).sum())
    return TruePositives(
        at=false_positive_rate,
        rate=rate(hits, len(members), confidence),
        false_positive_rate=rate(alarms, len(others), confidence),
    )


def _variance(values: np.ndarray) -> float:
    return float(values.var(ddof=1)) / len(values)


def _logistic(value: float) -> float:
    return 1 / (1 + exp(-value)) if value > -700 else 0.0


def _check(members: Scores, others: Scores) -> None:
    if min(len(members), len(others)) < 2:
        raise ValueError(f"expected at least two members and two others, got {len(members)} and {len(others)}")
    if not (np.isfinite(members).all() and np.isfinite(others).all()):
        raise ValueError("expected finite scores: a model whose outputs are NaN or infinite cannot be attacked")
