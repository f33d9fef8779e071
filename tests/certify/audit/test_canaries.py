"""Planted canaries: found where they were learnt, not where they were not, and a bound that never exceeds a known ε."""

import json
from dataclasses import asdict
from math import comb, exp, log

import numpy as np
import pytest
import torch
from scipy.stats import binom

from certify.audit import canaries
from certify.audit.adapter import Recipe, Torch, linear
from certify.audit.shadows import train, unstack


def direct_epsilon(correct: int, guesses: int, confidence: float) -> float:
    """The greatest ε with P[Binomial(guesses, e^ε / (1 + e^ε)) >= correct] <= 1 − confidence, by halving. δ = 0"""
    low, high = 0.0, 60.0
    if binom.sf(correct - 1, guesses, 0.5) > 1 - confidence:
        return 0.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if binom.sf(correct - 1, guesses, 1 / (1 + exp(-middle))) < 1 - confidence else (low, middle)
        )
    return low


@pytest.mark.parametrize(("correct", "guesses"), [(20, 20), (60, 100), (90, 100), (99, 100), (50, 100), (130, 200)])
def test_the_bound_is_the_one_of_a_direct_binomial_computation(correct: int, guesses: int) -> None:
    values = np.arange(400.0)
    included = np.zeros(400, dtype=bool)
    included[-guesses // 2 :] = True  # all of the high guesses are right; of the low ones as many wrong as are missing
    included[: guesses - correct] = True
    found = canaries.one_run(values, included, guesses=guesses, two_sided=False, confidence=0.95)
    assert found.correct == correct
    assert found.epsilon == pytest.approx(direct_epsilon(correct, guesses, 0.95), abs=1e-6)
    assert found.chance == pytest.approx(sum(comb(guesses, k) for k in range(correct, guesses + 1)) / 2**guesses)


@pytest.mark.parametrize(("correct", "delta"), [(80, 1e-5), (95, 1e-3), (70, 1e-4)])
def test_at_the_bound_theorem_5_2_is_just_refuted(correct: int, delta: float) -> None:
    """The theorem summed term by term: P[W ≥ v] + 2 m δ max_i P[v − i ≤ W < v] / i is 5 % at the bound. δ > 0"""
    records, guesses = 300, 100
    included = np.arange(records) >= records - guesses // 2
    included[: guesses - correct] = True
    found = canaries.one_run(np.arange(float(records)), included, guesses=guesses, two_sided=False, delta=delta)
    share = 1 / (1 + exp(-found.epsilon))
    mass = [comb(guesses, k) * share**k * (1 - share) ** (guesses - k) for k in range(guesses + 1)]
    shifts = [sum(mass[correct - i : correct]) / i for i in range(1, correct + 1)]
    assert found.epsilon > 0
    assert sum(mass[correct:]) + 2 * records * delta * max(shifts) == pytest.approx(0.05, abs=1e-6)
    exact = canaries.one_run(np.arange(float(records)), included, guesses=guesses, two_sided=False)
    assert found.epsilon < exact.epsilon


def test_guesses_without_a_mistake_show_the_greatest_bound() -> None:
    included = np.arange(100) >= 50
    found = canaries.one_run(np.arange(100.0), included, guesses=100, two_sided=False)
    share = 0.05 ** (1 / 100)  # P[100 right of 100] = 5 %
    assert found.epsilon == found.greatest == pytest.approx(log(share / (1 - share)), abs=1e-6)


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 3.0])
def test_randomised_response_is_contradicted_no_more_often_than_stated(epsilon: float) -> None:
    rng, wrong = np.random.default_rng(7), 0
    for _ in range(100):
        coins = rng.random(200) < 0.5
        told = np.where(rng.random(200) < 1 / (1 + exp(-epsilon)), coins, ~coins)
        found = canaries.one_run(told + 1e-6 * rng.random(200), coins, guesses=100, confidence=0.95)
        wrong += found.epsilon > epsilon
    assert binom.sf(wrong - 1, 100, 0.05) > 1e-4  # the guesses of this mechanism are as good as its ε allows


def test_the_gaussian_mechanism_is_not_contradicted() -> None:
    # One coin changes one coordinate by 1: with σ = 1 this is (ε, δ)-private for 2 and 0.0207 (Balle and Wang 2018, theorem 8).
    from scipy.stats import norm

    epsilon = 2.0
    delta = float(norm.cdf(0.5 - epsilon) - exp(epsilon) * norm.cdf(-0.5 - epsilon))
    rng, wrong = np.random.default_rng(8), 0
    for _ in range(100):
        coins = rng.random(300) < 0.5
        found = canaries.one_run(coins + rng.normal(size=300), coins, guesses=60, delta=delta)
        wrong += found.epsilon > epsilon
    assert binom.sf(wrong - 1, 100, 0.05) > 1e-4


def test_a_wrong_claim_about_the_gaussian_mechanism_is_refuted() -> None:
    rng = np.random.default_rng(9)
    coins = rng.random(2000) < 0.5
    found = canaries.one_run(coins + 0.25 * rng.normal(size=2000), coins, guesses=1000, delta=1e-5)
    assert 2.0 < found.epsilon <= found.greatest


@pytest.fixture(scope="module")
def planted() -> tuple[Torch, canaries.Canaries, np.ndarray]:
    """With more inputs than records a linear model learns every record by heart."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(300, 300))).float()
    y = (x[:, 0] + x[:, 1] > 0).long()
    subject = linear(x, y, Recipe(epochs=8, rate=0.1, batch=20))
    retain, spare = np.arange(100), np.arange(100, 300)
    drawn = canaries.draw(y, spare, count=160, seed="s")
    return canaries.replaced(subject, drawn), drawn, retain


def test_canaries_are_found_in_an_overfitted_model_and_not_in_one_without_them(
    planted: tuple[Torch, canaries.Canaries, np.ndarray],
) -> None:
    subject, drawn, retain = planted
    learnt = np.concatenate([retain, drawn.learnt])
    with_them = next(unstack(train(subject, [learnt], ["with"])))
    without = next(unstack(train(subject, [retain], ["without"])))
    references = list(unstack(train(subject, [retain] * 2, ["r1", "r2"])))
    found = canaries.audit(subject, drawn, with_them, guesses=80, references=references)
    assert found.epsilon > 1 and found.chance < 1e-6
    lost = canaries.audit(subject, drawn, without, guesses=80, references=references)
    assert lost.epsilon < 0.6 < found.epsilon and lost.chance > 1e-3
    assert json.loads(json.dumps(asdict(found)))["correct"] == found.correct


def test_canaries_have_wrong_labels_fair_coins_and_leave_the_subject_alone() -> None:
    x, y = torch.zeros(3000, 2), torch.arange(3000) % 3
    subject = linear(x, y, Recipe(epochs=1, rate=0.1))
    drawn = canaries.draw(y, np.arange(500, 3000), count=2000, seed="7")
    assert (drawn.labels != y.numpy()[drawn.places]).all() and set(drawn.labels) == {0, 1, 2}
    assert len(set(drawn.places)) == 2000 and drawn.places.min() >= 500
    assert 900 < drawn.included.sum() < 1100
    assert (canaries.draw(y, np.arange(500, 3000), count=2000, seed="7").included == drawn.included).all()
    changed = canaries.replaced(subject, drawn)
    assert (changed.y != subject.y).sum() == 2000 and (subject.y == torch.arange(3000) % 3).all()


def test_canaries_that_were_pushed_out_are_found_by_the_opposite_guess() -> None:
    rng = np.random.default_rng(10)
    coins = rng.random(200) < 0.5
    away = rng.normal(size=200) - 3.0 * coins
    found = canaries.one_run(away, coins, guesses=100)
    assert found.side == "low" and found.epsilon > 2
    assert canaries.one_run(away, coins, guesses=100, two_sided=False).epsilon == 0


def test_two_guesses_share_what_may_go_wrong() -> None:
    included = np.arange(100) >= 50
    both = canaries.one_run(np.arange(100.0), included, guesses=60, confidence=0.95)
    one = canaries.one_run(np.arange(100.0), included, guesses=60, two_sided=False, confidence=0.975)
    assert both.epsilon == one.epsilon and both.chance == 2 * one.chance


def test_equal_scores_give_no_hint_of_the_coins() -> None:
    coins = np.random.default_rng(1).random(1000) < 0.5
    assert canaries.one_run(np.zeros(1000), coins, guesses=500).epsilon < 0.3


@pytest.mark.parametrize("guesses", [0, 3, 12])
def test_guesses_that_cannot_be_halved_are_refused(guesses: int) -> None:
    with pytest.raises(ValueError, match="even number of guesses"):
        canaries.one_run(np.arange(10.0), np.zeros(10, dtype=bool), guesses=guesses)


def test_a_model_with_infinite_outputs_is_refused() -> None:
    with pytest.raises(ValueError, match="finite scores"):
        canaries.one_run(np.array([1.0, np.nan]), np.array([True, False]), guesses=2)
