"""Bounds of ε and rates against scipy, against another's implementation where it is installed, and against simulation."""

from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from certify.audit.intervals import (
    Counts,
    best_epsilon,
    epsilon,
    greatest_epsilon,
    one_run_epsilon,
    one_run_p_value,
    power,
    rate,
    rates_at,
    upper,
)


@st.composite
def counts(draw: st.DrawFn, most: int = 2000) -> Counts:
    members, others = draw(st.integers(1, most)), draw(st.integers(1, most))
    return Counts(draw(st.integers(0, members)), members, draw(st.integers(0, others)), others)


@given(
    st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.9, 0.95, 0.99])
)
def test_rates_have_the_interval_that_scipy_gives(shares: tuple[int, int], confidence: float) -> None:
    hits, trials = shares
    ours = rate(hits, trials, confidence)
    theirs = binomtest(hits, trials).proportion_ci(confidence_level=confidence, method="exact")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("records", "most"), [(20, 1.60), (50, 2.57), (100, 3.28), (500, 4.91), (1000, 5.60)])
def test_greatest_epsilon_is_the_known_one(records: int, most: float) -> None:
    assert round(greatest_epsilon(records, records), 2) == most


@given(counts(), st.sampled_from([0.0, 1e-5, 0.01]))
def test_epsilon_agrees_with_privacy_estimates(tested: Counts, delta: float) -> None:
    pytest.importorskip("privacy_estimates", reason="pip install privacy-estimates to compare with it")
    from privacy_estimates import AttackResults  # type: ignore[import-not-found,unused-ignore]
    from privacy_estimates.binomial_proportion import compute_eps_lo  # type: ignore[import-not-found,unused-ignore]

    missed, right = tested.members - tested.hits, tested.others - tested.false_alarms
    if tested.hits / tested.members < tested.false_alarms / tested.others:
        return  # it turns such a test round; the side is chosen beforehand here
    theirs = compute_eps_lo(
        AttackResults(FN=missed, FP=tested.false_alarms, TN=right, TP=tested.hits), delta, 0.05, "beta"
    )
    assert epsilon(tested, delta=delta) == pytest.approx(max(0.0, float(theirs)), abs=1e-9)


@given(counts())
def test_epsilon_agrees_with_tensorflow_privacy(tested: Counts) -> None:
    theirs = pytest.importorskip(
        "tensorflow_privacy.privacy.privacy_tests.epsilon_lower_bound",
        reason="pip install --no-deps tensorflow-empirical-privacy, and immutabledict and statsmodels, to compare with it",
        exc_type=ImportError,
    )

    def ratio(right: int, wrong: int, of: int, others: int) -> float:
        return float(
            theirs.RatioBound(right, wrong, of, others, 0.05).compute_bound(theirs.BoundMethod.CLOPPER_PEARSON)
        )

    missed, right = tested.members - tested.hits, tested.others - tested.false_alarms
    ratios = (
        ratio(tested.hits, tested.false_alarms, tested.members, tested.others),
        ratio(right, missed, tested.others, tested.members),
    )
    assert epsilon(tested) == pytest.approx(max(0.0, log(max(*ratios, 1e-300))), abs=1e-9)


@given(counts(), st.sampled_from([0.0, 1e-5]))
def test_epsilon_is_what_the_upper_bounds_of_both_rates_give(tested: Counts, delta: float) -> None:
    missed = tested.members - tested.hits
    fnr = binomtest(missed, tested.members).proportion_ci(0.95, method="exact").high
    fpr = binomtest(tested.false_alarms, tested.others).proportion_ci(0.95, method="exact").high
    options = [log(max(1 - delta - a, 1e-300) / b) for a, b in ((fnr, fpr), (fpr, fnr))]
    assert epsilon(tested, delta=delta) == pytest.approx(max(0.0, *options), abs=1e-9)


@given(counts(most=300))
def test_epsilon_is_between_nothing_and_the_greatest(tested: Counts) -> None:
    assert 0 <= epsilon(tested) <= greatest_epsilon(tested.members, tested.others)


@given(st.lists(counts(), min_size=1, max_size=6))
def test_the_best_of_several_tests_pays_for_the_choice(tests: list[Counts]) -> None:
    assert best_epsilon(tests) <= max(epsilon(tested) for tested in tests)
    assert best_epsilon(tests[:1]) == epsilon(tests[0])


@pytest.mark.parametrize("true_epsilon", [0.0, 0.5, 1.5])
def test_no_more_than_one_bound_in_twenty_is_above_the_truth(true_epsilon: float) -> None:
    rng = np.random.default_rng(1)
    tpr, fpr = rates_at(true_epsilon)
    wrong = sum(
        epsilon(Counts(int(rng.binomial(200, tpr)), 200, int(rng.binomial(200, fpr)), 200)) > true_epsilon
        for _ in range(2000)
    )
    assert wrong <= binom.isf(1e-6, 2000, 0.05)


@pytest.mark.parametrize(
    ("members", "others", "rates", "beyond"),
    [(50, 80, (0.7, 0.3), 0.0), (50, 80, (0.7, 0.3), 0.5), (30, 300, (0.9, 0.4), 0.5), (100, 100, (0.5, 0.1), 1.0)],
)
def test_power_is_the_share_of_simulated_tests_that_show_it(
    members: int, others: int, rates: tuple[float, float], beyond: float
) -> None:
    rng = np.random.default_rng(2)
    shown = [
        epsilon(Counts(int(rng.binomial(members, rates[0])), members, int(rng.binomial(others, rates[1])), others))
        > beyond
        for _ in range(1500)
    ]
    expected = power(members, others, *rates, beyond=beyond)
    assert abs(np.mean(shown) - expected) < 5 * np.sqrt(expected * (1 - expected) / len(shown)) + 1e-3


def test_power_rises_with_records_and_is_nothing_for_a_guess() -> None:
    several = [power(n, n, 0.6, 0.3) for n in (20, 50, 100, 200)]
    assert several == sorted(several)
    assert power(100, 100, 0.3, 0.3) < 0.05


def test_upper_bounds_end_at_one() -> None:
    assert upper(np.array([0, 5, 10]), 10, 0.025)[-1] == 1.0


def p_value_by_sums(correct: int, guesses: int, records: int, value: float, delta: float) -> float:
    """Theorem 5.2 as it is written, term by term."""
    share = exp(value) / (1 + exp(value))
    masses = [float(binom.pmf(k, guesses, share)) for k in range(guesses + 1)]
    moved = max((sum(masses[correct - i : correct]) / i for i in range(1, correct + 1)), default=0.0)
    return min(1.0, sum(masses[correct:]) + 2 * records * delta * moved)


@pytest.mark.parametrize(
    "tested", [(75, 100, 200, 0.5, 1e-5), (60, 60, 60, 2.0, 0.0), (10, 40, 100, 0.0, 1e-3), (0, 5, 5, 1, 0.1)]
)
def test_one_run_p_value_is_the_theorem(tested: tuple[int, int, int, float, float]) -> None:
    assert one_run_p_value(*tested) == pytest.approx(p_value_by_sums(*tested), rel=1e-9)


def test_one_run_bound_lies_where_the_p_value_crosses() -> None:
    bound = one_run_epsilon(90, 100, 1000, delta=1e-6)
    assert 1 < bound < log(9)
    assert one_run_p_value(90, 100, 1000, bound, 1e-6) == pytest.approx(0.05, abs=1e-6)
    assert one_run_epsilon(50, 100, 1000) == 0.0


def test_one_run_bound_is_rarely_above_a_randomised_response() -> None:
    rng = np.random.default_rng(3)
    share = 1 / (1 + exp(-1.0))
    wrong = sum(one_run_epsilon(int(rng.binomial(200, share)), 200, 200) > 1.0 for _ in range(400))
    assert wrong <= binom.isf(1e-6, 400, 0.05)


@pytest.mark.parametrize("counted", [(5, 4, 0, 4), (-1, 4, 0, 4), (0, 0, 0, 4), (1, 4, 5, 4)])
def test_impossible_counts_are_refused(counted: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Counts(*counted)
