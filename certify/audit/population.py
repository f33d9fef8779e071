"""Attacks that train no shadows: a threshold from records of the population, and the pairwise likelihood ratio of RMIA.

- *Population attack*: Ye, Maddi, Murakonda, Bindschaedler and Shokri, "Enhanced Membership Inference Attacks" (2022), attack P;
  the threshold of Yeom et al. (2018) chosen as a quantile. A record is called a member if the model is surer of it than of
  all but a share α of records that nobody learnt::

      member  <=>  φ(x) > the (1 − α) quantile of φ over the population

- *RMIA*: Zarifzadeh, Liu and Shokri, "Low-Cost High-Power Membership Inference Attacks" (2024), offline form. With reference
  models that learnt neither::

      score(x) = share of population records z with  [p(x|θ) / p(x)] / [p(z|θ) / p(z)] >= γ
      p(·) = ((1 + a) · mean of p(·|reference) + (1 − a)) / 2

The population serves for the threshold alone and is apart from the held-out records that are tested, so that the counts are of
a fixed test. Without calibration by shadows, records that are easy for any model look like members and hard members look like
strangers: the population attack is weak, and one that finds nothing proves little. It looks at high scores alone: records that
were pushed out pass it. Records are taken to be of one population.

>>> sure = np.linspace(0, 1, 100)
>>> int((sure > threshold(sure, 0.05)).sum())
4
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from certify.audit import intervals, roc
from certify.audit.intervals import CONFIDENCE, Counts
from certify.audit.verdict import Estimate

GAMMA = 2.0
OFFLINE_A = 0.3


@dataclass(frozen=True)
class Attack:
    """Scores of forgotten and held-out records against a threshold that neither of them chose."""

    score: Literal["confidence", "rmia"]
    at: float
    """The share of false alarms that the threshold was set for."""
    threshold: float
    auc: Estimate
    true_positive_rate: Estimate
    false_positive_rate: Estimate
    """As it came out: far from ``at``, the held-out records are not of the population."""
    epsilon: float
    greatest: float
    population: int


def threshold(population: np.ndarray, at: float) -> float:
    """The smallest score of the population that at most a share ``at`` of it exceeds."""
    if not 0 < at < 1 or not len(population):
        raise ValueError(f"expected a population and a share between 0 and 1, got {len(population)} records and {at}")
    return float(np.quantile(population, 1 - at, method="higher"))


def attack(
    members: np.ndarray,
    others: np.ndarray,
    population: np.ndarray,
    *,
    at: float = 0.05,
    delta: float = 0.0,
    confidence: float = CONFIDENCE,
    score: Literal["confidence", "rmia"] = "confidence",
) -> Attack:
    """The fixed test, on scores of one model: high ones speak for members. (f,), (h,), (p,)"""
    limit = threshold(population, at)
    hits, alarms = int((members > limit).sum()), int((others > limit).sum())
    counts = Counts(hits, len(members), alarms, len(others))
    return Attack(
        score=score,
        at=at,
        threshold=limit,
        auc=roc.auc(members, others, confidence),
        true_positive_rate=intervals.rate(hits, len(members), confidence),
        false_positive_rate=intervals.rate(alarms, len(others), confidence),
        epsilon=intervals.epsilon(counts, delta=delta, confidence=confidence),
        greatest=intervals.greatest_epsilon(len(members), len(others), delta=delta, confidence=confidence),
        population=len(population),
    )


def rmia(
    asked: np.ndarray,
    asked_references: np.ndarray,
    population: np.ndarray,
    population_references: np.ndarray,
    *,
    gamma: float = GAMMA,
    a: float = OFFLINE_A,
) -> np.ndarray:
    """The share of the population that each record beats, from log probabilities of the own labels. -> (n,) in [0, 1]

    asked (n,) and population (p,) are the attacked model's; asked_references (r, n) and population_references (r, p) are of
    models that learnt none of them. ``a`` = 1 takes the references as they are; smaller values correct for their not having
    learnt the records.
    """
    if not 0 <= a <= 1 or not gamma > 0:
        raise ValueError(f"expected a in [0, 1] and a positive gamma, got {a} and {gamma}")
    own, theirs = (
        logs - np.log(((1 + a) * np.exp(references).mean(0) + (1 - a)) / 2)
        for logs, references in ((asked, asked_references), (population, population_references))
    )  # (n,), (p,)
    beaten = np.searchsorted(np.sort(theirs), own - np.log(gamma), side="right")
    return np.asarray(beaten / len(population))
