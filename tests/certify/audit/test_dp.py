"""Claims of differential privacy: models whose exact ε is known are never contradicted, those without the noise are.

More draws than the suite takes: ``CERTIFY_DP_DRAWS=50 pytest tests/certify/audit/test_dp.py``, each ten of other data too.
"""

import os
from functools import cache
from itertools import product
from math import exp, log

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import hypergeom, norm

from certify.audit.intervals import Counts, epsilon, one_run_epsilon
from certify.audit.verdict import FAIL, Claim, Plan, judge
from tests.certify.audit.private_models import Kind, World, delta_of, epsilon_of

DRAWS = int(os.environ.get("CERTIFY_DP_DRAWS", "5"))
DELTA = 1e-5
MU: dict[Kind, float] = {"optimum": 0.25, "step": 0.5}
"""Of the mechanisms that are claimed: ε = 0.93 and 1.99 at δ = 1e-5, which the audit's records could contradict."""


def plan_of(kind: Kind, seed: int = 0) -> Plan:
    claim = Claim("original", epsilon_of(DELTA, MU[kind]), DELTA)
    return Plan(f"dp {seed}", retrained=2, shadows=16, delta=DELTA, claim=claim)


@cache
def world(kind: Kind, seed: int) -> World:
    return World(kind, seed, plan_of(kind, seed))


def worlds(kind: Kind) -> list[World]:
    return [world(kind, seed) for seed in range(1 + DRAWS // 10)]


@pytest.mark.parametrize("mu", [0.1, 0.5, 1.0, 3.0])
def test_delta_of_the_gaussian_mechanism_is_the_integral_that_defines_it(mu: float) -> None:
    """δ(ε) = ∫ max(0, p − e^ε q), of normals μ apart."""
    for value in (0.0, 0.3, 1.0, 4.0):
        defined, _ = quad(lambda z, e=value: max(0.0, norm.pdf(z, mu) - exp(e) * norm.pdf(z)), -12, 15, limit=400)
        assert delta_of(value, mu) == pytest.approx(defined, abs=1e-7)
        assert epsilon_of(delta_of(1.0, mu), mu) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("mu", [0.1, 0.5, 1.0, 3.0])
def test_epsilon_of_the_gaussian_mechanism_agrees_with_dp_accounting(mu: float) -> None:
    theirs = pytest.importorskip("dp_accounting", reason="pip install dp-accounting to compare with it")
    for delta in (1e-8, 1e-5, 1e-2):
        assert epsilon_of(delta, mu) == pytest.approx(theirs.get_epsilon_gaussian(1 / mu, delta), abs=1e-8)


@pytest.mark.parametrize("kind", ["optimum", "step"])
def test_claim_that_is_exactly_true_is_never_contradicted(kind: Kind) -> None:
    for made, draw in product(worlds(kind), range(DRAWS)):
        figures = made.figures(1 / MU[kind], draw)
        found = judge(made.plan, figures)
        assert made.plan.claim is not None
        assert figures.original.epsilon.lower <= made.plan.claim.epsilon < figures.original.epsilon.greatest
        assert not any("was claimed" in reason for reason in found.reasons)
        assert any("not contradicted, which does not prove it" in reason for reason in found.reasons)


def test_bound_is_below_the_truth_where_the_attack_sees_much() -> None:
    """At μ = 3 the audit shows ε of 1.5 to 2.1; at δ = 0.01 the truth is 10.7."""
    for made, draw in product(worlds("step"), range(DRAWS)):
        lower = made.figures(1 / 3, draw).original.epsilon.lower
        assert 0.5 < lower < epsilon_of(DELTA, 3)


@pytest.mark.parametrize("kind", ["optimum", "step"])
def test_claim_without_its_noise_is_contradicted(kind: Kind) -> None:
    for made in worlds(kind):
        found = judge(made.plan, made.figures(0.0, 0))
        assert found.outcome == FAIL
        assert "the original model's ε is at least" in found.reasons[0] and "was claimed" in found.reasons[0]


def test_claim_with_a_sixteenth_of_its_noise_is_contradicted() -> None:
    """The claim is of noise twice what one record moves. About one bound in fifteen does not see it."""
    found = [judge(made.plan, made.figures(1 / 8, draw)) for made, draw in product(worlds("step"), range(DRAWS))]
    assert np.mean(["was claimed" in verdict.reasons[0] for verdict in found]) >= 0.8


def every_count(records: int) -> list[Counts]:
    both = product(range(records + 1), repeat=2)
    return [counts for hits, alarms in both if epsilon(counts := Counts(hits, records, alarms, records)) > 0]


def test_bound_needs_no_independent_records() -> None:
    """One training says something of all records at once. Steinke et al.'s bound allows for that, and is never below ours, with
    half of what may go wrong for either side of the test."""
    for counts in every_count(20):
        hits, alarms, missed, right = (
            counts.hits,
            counts.false_alarms,
            counts.members - counts.hits,
            counts.others - counts.false_alarms,
        )
        guesses = [(hits, hits + alarms), (right, right + missed)]
        steinke = max(one_run_epsilon(correct, of, 40, confidence=0.975) for correct, of in guesses if of)
        assert epsilon(counts) <= steinke + 1e-9


def test_bound_holds_for_removal_of_all_records_at_once() -> None:
    """Were the unlearned model within (ε, δ) of retrained ones, which know nothing that tells forgotten from held-out records, it
    would show such counts with a chance of e^ε p + δ at most, p being Fisher's. The bound is never above what that refutes."""
    for counts in every_count(20):
        p = hypergeom.sf(counts.hits - 1, 40, 20, counts.hits + counts.false_alarms)
        other = hypergeom.cdf(counts.hits, 40, 20, counts.hits + counts.false_alarms)
        assert epsilon(counts, delta=DELTA) <= log((0.025 - DELTA) / min(p, other, 1.0))


def test_claims_that_a_bound_says_nothing_of_are_refused() -> None:
    for wrong in ((-1.0, 0.0), (float("nan"), 0.0), (float("inf"), 0.0), (1.0, 1.0), (1.0, -0.1)):
        with pytest.raises(ValueError, match="expected a claimed ε"):
            Claim("original", *wrong)
    with pytest.raises(ValueError, match="says nothing of ε at"):
        Plan("1", delta=1e-5, claim=Claim("original", 1.0, 1e-3))
    with pytest.raises(ValueError, match="by chance"):
        Plan("1", delta=0.03, claim=Claim("original", 1.0, 0.03))


def test_larger_delta_of_the_bound_shows_less() -> None:
    """So that a bound at a δ above the claim's contradicts the claim all the more."""
    bounds = [epsilon(Counts(80, 100, 20, 100), delta=delta) for delta in (0.0, 1e-5, 1e-2, 0.2)]
    assert bounds == sorted(bounds, reverse=True) and np.unique(bounds).size == 4
