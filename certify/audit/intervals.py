"""How sure counts make us: intervals of rates, lower bounds of ε, what n records could have shown at best, and power.

- Clopper and Pearson (1934): the exact interval of a rate. k of n has the bounds of two beta distributions.
- A mechanism is (ε, δ)-private only if every attack has 1 − δ − FNR ≤ e^ε FPR and the same with the rates exchanged (Kairouz,
  Oh, Viswanath 2015). With upper bounds of both rates, 2.5 % each, both inequalities hold together at 95 %::

      ε ≥ max(ln((1 − δ − FNR_up) / FPR_up), ln((1 − δ − FPR_up) / FNR_up))

- The interval takes records to be independent. A single trained model does not promise that: Steinke, Nasr and Jagielski
  (2023, theorem 5.2) bound ε from guesses about records that were included by coin flips, in one model, without it.

>>> round(greatest_epsilon(100, 100), 2)        # 100 members and 100 others, and not one mistake
3.28
>>> rate(0, 20).high < 0.17
True
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp

import numpy as np
from scipy.optimize import brentq
from scipy.stats import beta, binom

from certify.audit.verdict import Estimate

CONFIDENCE = 0.95
_MOST = 50.0  # an ε beyond anybody's interest, where searches end


@dataclass(frozen=True)
class Counts:
    """What a fixed test said: of ``members`` it called ``hits`` members, of ``others`` it called ``false_alarms``."""

    hits: int
    members: int
    false_alarms: int
    others: int

    def __post_init__(self) -> None:
        if not (0 <= self.hits <= self.members and 0 <= self.false_alarms <= self.others):
            raise ValueError(f"expected counts within their totals, got {self}")
        if not (self.members and self.others):
            raise ValueError(f"expected members and others to test on, got {self}")


def rate(hits: int, trials: int, confidence: float = CONFIDENCE) -> Estimate:
    """A share with its Clopper-Pearson interval."""
    if not 0 <= hits <= trials or not trials:
        raise ValueError(f"expected 0 <= hits <= trials and at least one trial, got {hits} of {trials}")
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, hits, trials - hits + 1)) if hits else 0.0
    return Estimate(hits / trials, low, float(upper(hits, trials, tail)))


def upper(hits: int | np.ndarray, trials: int, tail: float) -> np.ndarray:
    """One-sided Clopper-Pearson upper bounds, each wrong with probability ``tail`` at most. -> as ``hits``"""
    hits = np.asarray(hits)
    return np.where(hits < trials, beta.ppf(1 - tail, hits + 1, np.maximum(trials - hits, 1)), 1.0)


def epsilon(counts: Counts, *, delta: float = 0.0, confidence: float = CONFIDENCE) -> float:
    """The greatest ε that the counts refute, 0 if none: each rate's bound takes half of what may go wrong.

    The test must be fixed before its records are seen; else use :func:`best_epsilon`.
    """
    tail = (1 - confidence) / 2
    fnr = float(upper(counts.members - counts.hits, counts.members, tail))
    fpr = float(upper(counts.false_alarms, counts.others, tail))
    return max(0.0, float(refuted(fnr, fpr, delta)))


def refuted(fnr: np.ndarray | float, fpr: np.ndarray | float, delta: float) -> np.ndarray:
    """The ε that rates no greater than these refute, below 0 where they refute none."""
    least = 1e-300  # a logarithm of nothing is no error here
    forth = np.log(np.maximum(1 - delta - np.asarray(fnr), least) / fpr)
    return np.maximum(forth, np.log(np.maximum(1 - delta - np.asarray(fpr), least) / fnr))


def best_epsilon(tests: Iterable[Counts], *, delta: float = 0.0, confidence: float = CONFIDENCE) -> float:
    """The best of several tests that were all fixed before: Bonferroni's correction divides what may go wrong among them."""
    listed = list(tests)
    if not listed:
        raise ValueError("expected at least one test")
    corrected = 1 - (1 - confidence) / len(listed)
    return max(epsilon(counts, delta=delta, confidence=corrected) for counts in listed)


def greatest_epsilon(members: int, others: int, *, delta: float = 0.0, confidence: float = CONFIDENCE) -> float:
    """What an attack without a mistake would have shown with this many records: nobody can conclude more from so few."""
    return epsilon(Counts(members, members, 0, others), delta=delta, confidence=confidence)


def rates_at(epsilon: float, delta: float = 0.0) -> tuple[float, float]:
    """True and false positive rate of the best balanced attack on a mechanism that is (ε, δ)-private and no better."""
    wrong = (1 - delta) / (1 + exp(epsilon))
    return 1 - wrong, wrong


def power(
    members: int,
    others: int,
    true_positive_rate: float,
    false_positive_rate: float,
    *,
    beyond: float = 0.0,
    delta: float = 0.0,
    confidence: float = CONFIDENCE,
) -> float:
    """The chance that an attack with these rates shows an ε greater than ``beyond`` with this many records. In [0, 1]"""
    tail = (1 - confidence) / 2
    missed, alarms = np.arange(members + 1), np.arange(others + 1)
    fnr = upper(missed, members, tail)
    fpr = upper(
        alarms, others, tail
    )  # rising, so that for each number of misses the alarms that still show it are the first
    most = np.maximum((1 - delta - fnr) * exp(-beyond), 1 - delta - fnr * exp(beyond))
    allowed = np.searchsorted(fpr, most, side="left")
    chance = binom.cdf(allowed - 1, others, false_positive_rate)
    return float(min(1.0, (binom.pmf(missed, members, 1 - true_positive_rate) * chance).sum()))


def one_run_p_value(correct: int, guesses: int, records: int, epsilon: float, delta: float = 0.0) -> float:
    """How likely so many correct guesses are, if training is (ε, δ)-private. Steinke et al. 2023, theorem 5.2.

    Of ``records`` that were each included by a fair coin, the auditor guessed ``guesses`` and abstained on the others.
    """
    if not 0 <= correct <= guesses <= records:
        raise ValueError(f"expected correct <= guesses <= records, got {correct}, {guesses}, {records}")
    share = 1 / (1 + exp(-epsilon))
    tail = float(binom.sf(correct - 1, guesses, share))
    if not delta or not correct:
        return min(1.0, tail)
    # δ may move a guess's mass from just below: at most 2 m δ max_i P[correct − i ≤ W < correct] / i
    steps = np.arange(1, correct + 1)
    below = np.cumsum(binom.pmf(correct - steps, guesses, share))
    return min(1.0, tail + 2 * records * delta * float((below / steps).max()))


def one_run_epsilon(
    correct: int, guesses: int, records: int, *, delta: float = 0.0, confidence: float = CONFIDENCE
) -> float:
    """The greatest ε that this many correct guesses in one training run refute, 0 if none."""

    def excess(value: float) -> float:
        return one_run_p_value(correct, guesses, records, value, delta) - (1 - confidence)

    if excess(0.0) > 0:
        return 0.0
    return _MOST if excess(_MOST) < 0 else float(brentq(excess, 0.0, _MOST, xtol=1e-9))
