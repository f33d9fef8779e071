"""The privacy bound against others' accountants, and against the exact trade-off where that has a closed form."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import binom, norm

from certify.rdp import MAX_GROUP, ORDERS, best_test, divergence, epsilon

MECHANISMS = [(1.0, 0.1, 50), (4.0, 0.07, 150), (1.1, 0.01, 1000), (0.6, 0.004, 300), (2.0, 1.0, 3)]
DELTA = 1e-5


@pytest.mark.parametrize(("noise", "rate", "steps"), MECHANISMS)
def test_opacus_has_the_same_figures_at_the_same_orders(noise: float, rate: float, steps: int) -> None:
    theirs = pytest.importorskip("opacus.accountants.analysis.rdp", reason="opacus is not installed")
    some = [2, 3, 8, 40, 200, 256, 512]
    found = theirs.compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=some)
    assert np.allclose([divergence(order, noise, rate) for order in some], found, rtol=1e-9)
    orders = list(range(2, 80))  # the best is among them
    spent = theirs.compute_rdp(q=rate, noise_multiplier=noise, steps=steps, orders=orders)
    wanted, _ = theirs.get_privacy_spent(orders=orders, rdp=spent, delta=DELTA)
    assert epsilon(DELTA, noise=noise, rate=rate, steps=steps) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(("noise", "rate", "steps"), MECHANISMS[:3])
def test_whole_orders_cost_little_and_tighter_accountants_find_less(noise: float, rate: float, steps: int) -> None:
    """Opacus' own orders are fractions too; its other accountant composes whole privacy-loss distributions."""
    accountants = pytest.importorskip("opacus.accountants", reason="opacus is not installed")
    rdp, prv = accountants.RDPAccountant(), accountants.PRVAccountant()
    rdp.history = prv.history = [(noise, rate, steps)]
    ours = epsilon(DELTA, noise=noise, rate=rate, steps=steps)
    assert rdp.get_epsilon(DELTA) * 0.99 <= ours <= rdp.get_epsilon(DELTA) * 1.05
    assert prv.get_epsilon(DELTA, eps_error=0.05) <= ours


@pytest.mark.parametrize(("noise", "rate", "steps"), MECHANISMS)
def test_dp_accounting_has_the_same_figure(noise: float, rate: float, steps: int) -> None:
    accounting = pytest.importorskip("dp_accounting", reason="dp-accounting is not installed")
    accountant = accounting.rdp.RdpAccountant(orders=list(ORDERS))
    event = accounting.PoissonSampledDpEvent(rate, accounting.GaussianDpEvent(noise))
    accountant.compose(event, steps)
    wanted = accountant.get_epsilon(DELTA)
    assert epsilon(DELTA, noise=noise, rate=rate, steps=steps) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("group", [1, 2, 5, 40])
@pytest.mark.parametrize("steps", [1, 60])
def test_bound_for_a_group_holds_where_it_is_known_exactly(group: int, steps: int) -> None:
    """Without sampling, a group of k is a Gaussian of sensitivity k√T: Balle and Wang 2018 (arXiv 1805.06530), theorem 8."""
    noise = 8.0
    claimed = epsilon(DELTA, noise=noise, rate=1.0, steps=steps, group=group)
    mu = group * math.sqrt(steps) / noise
    exact = norm.cdf(-claimed / mu + mu / 2) - math.exp(claimed + norm.logcdf(-claimed / mu - mu / 2))
    assert exact <= DELTA


@pytest.mark.parametrize(("noise", "rate", "group"), [(1.0, 0.2, 2), (0.8, 0.05, 3), (2.0, 0.5, 4)])
def test_bound_for_a_group_holds_for_one_sampled_step(noise: float, rate: float, group: int) -> None:
    """The exact δ by quadrature: with the group, a mixture of Gaussians by how many of it were sampled; without, one."""
    claimed = epsilon(DELTA, noise=noise, rate=rate, steps=1, group=group)
    shares = binom.pmf(np.arange(group + 1), group, rate)

    def within(z: float) -> float:
        return float((shares * norm.pdf(z, np.arange(group + 1), noise)).sum())

    def without(z: float) -> float:
        return float(norm.pdf(z, 0, noise))

    def added(z: float) -> float:
        return max(within(z) - math.exp(claimed) * without(z), 0.0)

    def left_out(z: float) -> float:
        return max(without(z) - math.exp(claimed) * within(z), 0.0)

    for excess in (added, left_out):
        assert quad(excess, -30 * noise, 30 * noise + group, limit=500)[0] <= DELTA


def test_bound_grows_with_the_group_the_steps_and_the_rate_and_falls_with_noise_and_delta() -> None:
    base = epsilon(1e-5, noise=2.0, rate=0.05, steps=100)
    assert base < epsilon(1e-5, noise=2.0, rate=0.05, steps=200)
    assert base < epsilon(1e-5, noise=2.0, rate=0.1, steps=100)
    assert base < epsilon(1e-6, noise=2.0, rate=0.05, steps=100)
    assert base > epsilon(1e-5, noise=3.0, rate=0.05, steps=100)
    groups = [epsilon(1e-5, noise=2.0, rate=0.05, steps=100, group=k) for k in (1, 2, 3, 10, 300)]
    assert groups == sorted(groups) and groups[1] > 2 * groups[0]


def test_best_test_is_that_of_two_known_gaussians_or_better() -> None:
    """Of N(0, 1) and N(1, 1) the best test is a threshold; the (ε, δ) that they have promise no less than it."""
    for claimed in (0.5, 1.0, 3.0):
        delta = norm.cdf(-claimed + 0.5) - math.exp(claimed) * norm.cdf(-claimed - 0.5)
        for wrong in (0.001, 0.01, 0.2):
            assert norm.sf(norm.isf(wrong) - 1) <= best_test(claimed, delta, wrong) <= 1
    assert best_test(0.0, 1e-9) == pytest.approx(0.01)
    assert best_test(1e5, 1e-5) == 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"noise": 0.0},
        {"noise": math.nan},
        {"rate": 0.0},
        {"rate": 1.5},
        {"steps": 0},
        {"group": 0},
        {"group": MAX_GROUP + 1},
    ],
)
def test_what_is_no_mechanism_has_no_bound(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected δ in"):
        epsilon(1e-5, **{"noise": 1.0, "rate": 0.1, "steps": 10, **wrong})  # type: ignore[arg-type]
    for delta in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="expected δ in"):
            epsilon(delta, noise=1.0, rate=0.1, steps=10)


def test_nothing_is_lost_where_one_step_leaks_next_to_nothing() -> None:
    """Against 80 digits: ρ near 0, times many steps."""
    mpmath = pytest.importorskip("mpmath", reason="pip install mpmath to compute with more digits")
    with mpmath.workdps(80):
        for order in (2, 16, 256):
            q, sigma = mpmath.mpf("0.001"), mpmath.mpf(10**6)
            total = mpmath.fsum(
                mpmath.binomial(order, j) * (1 - q) ** (order - j) * q**j * mpmath.exp((j * j - j) / (2 * sigma**2))
                for j in range(order + 1)
            )
            exact = float(mpmath.log(total) / (order - 1))
            assert divergence(order, 1e6, 1e-3) == pytest.approx(exact, rel=1e-9)
