"""What DP-SGD's noise guarantees, recomputed with nothing but the standard library: the sampled Gaussian's Rényi DP.

A step takes each record with probability q, sums clipped gradients and adds Gaussian noise of σ times the clipping norm. Its
Rényi divergence of integer order α, whether a record is added or removed, is (Mironov et al. 2019, arXiv 1908.10530, 3.3)::

    ρ(α) = ln A / (α − 1),      A = Σ_{j=0..α} C(α, j) (1 − q)^{α−j} q^j exp((j² − j) / 2σ²)

T steps have T ρ(α). By Balle et al. 2020 (arXiv 1905.09982, theorem 21) that is (ε, δ)-DP for ::

    ε = T ρ(α) + ln((α − 1)/α) − (ln δ + ln α) / (α − 1)

and a group of k records has (kε, Σ_{i<k} e^{iε} δ), at most (kε, k e^{(k−1)ε} δ) (Vadhan 2017, The Complexity of Differential
Privacy, lemma 2.2 and its proof). Asked for what δ_k a group may have, the δ of a single record drops out, α > k::

    ε_k = k [(α − 1)(T ρ(α) + ln((α − 1)/α)) − ln α + ln(k/δ_k)] / (α − k)

>>> round(epsilon(1e-5, noise=1.1, rate=0.01, steps=1000), 3)
1.725
>>> round(epsilon(1e-5, noise=1.1, rate=0.01, steps=1000, group=2), 3)
4.056
"""

import math
from functools import lru_cache

ORDERS = (*range(2, 257), *(256 + 64 * step for step in range(1, 29)))
"""Integers up to 2,048: larger ones for larger groups."""
MAX_GROUP = 1024


def epsilon(delta: float, *, noise: float, rate: float, steps: int, group: int = 1) -> float:
    """The least ε that these orders give for ``group`` records at ``delta``. Raises ValueError for what is no mechanism.

    ``noise``: σ, in clipping norms. ``rate``: q, of Poisson sampling. Infinite where no order says anything.
    """
    _check(delta, noise, rate, steps, group)
    found = math.inf
    for order in ORDERS:
        if order > group:
            whole = (order - 1) * (steps * divergence(order, noise, rate) + math.log1p(-1 / order)) - math.log(order)
            found = min(found, group * (whole + math.log(group) - math.log(delta)) / (order - group))
    return max(found, 0.0)


@lru_cache(maxsize=4096)
def divergence(order: int, noise: float, rate: float) -> float:
    """ρ(α) of one step: ln(1 + Σ_{j≥2} …(e^{(j²−j)/2σ²} − 1)) / (α − 1). The binomials add up to 1, so that nothing is lost to
    cancellation where the sum is small."""
    if rate == 1:
        return order / (2 * noise**2)
    log_q, log_rest = math.log(rate), math.log1p(-rate)
    terms = [
        math.lgamma(order + 1) - math.lgamma(j + 1) - math.lgamma(order - j + 1)
        + (order - j) * log_rest + j * log_q + _log_expm1((j * j - j) / (2 * noise**2))
        for j in range(2, order + 1)
    ]  # fmt: skip
    top = max(terms)
    more = top + math.log(math.fsum(math.exp(term - top) for term in terms))
    return (more + math.log1p(math.exp(-more)) if more > 0 else math.log1p(math.exp(more))) / (order - 1)


def _log_expm1(x: float) -> float:
    """ln(e^x − 1), for x > 0."""
    return x + math.log1p(-math.exp(-x)) if x > 1 else math.log(math.expm1(x))


def best_test(epsilon: float, delta: float, wrong: float = 0.01) -> float:
    """How often, at most, a test notices the records where they are, that is wrong for a share ``wrong`` where they are not.

    min(e^ε·wrong + δ, 1 − e^{−ε}(1 − δ − wrong)): Kairouz et al. 2015 (arXiv 1311.0776).
    """
    above = math.exp(min(epsilon, 700.0)) * wrong + delta
    below = 1 - math.exp(-epsilon) * (1 - delta - wrong)
    return min(above, below, 1.0)


def _check(delta: float, noise: float, rate: float, steps: int, group: int) -> None:
    if not (0 < delta < 1 and 1e-3 <= noise <= 1e6 and 0 < rate <= 1 and steps >= 1 and 1 <= group <= MAX_GROUP):
        raise ValueError(
            f"expected δ in (0, 1), noise in 0.001 to 1e6, a rate in (0, 1], a step or more and a group of 1 to {MAX_GROUP}, "
            f"got {delta:g}, {noise:g}, {rate:g}, {steps} and {group}"
        )
