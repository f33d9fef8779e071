"""The population attack and RMIA: thresholds that hold, members found where they stand out, nothing where they do not."""

import json
from dataclasses import asdict
from math import exp, log

import numpy as np
import pytest

from certify.audit import population, roc


def test_the_threshold_holds_its_false_positive_rate_on_fresh_records() -> None:
    rng = np.random.default_rng(0)
    limit = population.threshold(rng.normal(size=20000), 0.05)
    assert (rng.normal(size=20000) > limit).mean() == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("at", [0.01, 0.1, 0.5])
def test_at_most_the_share_of_the_population_is_above_the_threshold(at: float) -> None:
    values = np.repeat(np.arange(10.0), 7)  # with many equal scores
    assert (values > population.threshold(values, at)).mean() <= at


def test_members_who_stand_out_are_found_and_strangers_are_not() -> None:
    rng = np.random.default_rng(1)
    others, crowd = rng.normal(size=500), rng.normal(size=2000)
    found = population.attack(rng.normal(2, 1, 500), others, crowd)
    assert found.epsilon > 1.5 and found.true_positive_rate.value > 0.5
    assert found.false_positive_rate.low < 0.05 < found.false_positive_rate.high
    lost = population.attack(rng.normal(size=500), others, crowd)
    assert lost.epsilon == 0 and lost.auc.low < 0.5 < lost.auc.high
    assert json.loads(json.dumps(asdict(found)))["population"] == 2000


def test_the_bound_does_not_exceed_what_gaussian_scores_allow() -> None:
    # Members shifted by 1 at a threshold of 5 %: the true ln(TPR / FPR) is 1.65. The bound is below it but for 5 % of runs.
    from scipy.stats import norm

    rng = np.random.default_rng(2)
    limit = norm.ppf(0.95)
    truth = log(norm.sf(limit - 1) / 0.05)
    bounds = [
        population.attack(rng.normal(1, 1, 300), rng.normal(size=300), rng.normal(size=50000)).epsilon
        for _ in range(200)
    ]
    assert np.mean(np.array(bounds) > truth + 0.05) <= 0.05


def direct_rmia(x: float, x_r: list[float], zs: list[float], zs_r: list[list[float]], gamma: float, a: float) -> float:
    """Straight from the definition, one pair at a time. Probabilities in, not logarithms."""

    def prior(references: list[float]) -> float:
        return ((1 + a) * sum(references) / len(references) + 1 - a) / 2

    ratios = [(x / prior(x_r)) / (z / prior(z_r)) for z, z_r in zip(zs, zs_r, strict=True)]
    return sum(ratio >= gamma for ratio in ratios) / len(zs)


@pytest.mark.parametrize("gamma", [0.8, 1.3, 2.0])
def test_rmia_equals_its_definition_pair_by_pair(gamma: float) -> None:
    rng = np.random.default_rng(3)
    x, x_r, z, z_r = rng.random(20), rng.random((3, 20)), rng.random(50), rng.random((3, 50))
    found = population.rmia(np.log(x), np.log(x_r), np.log(z), np.log(z_r), gamma=gamma, a=0.3)
    expected = [direct_rmia(x[i], list(x_r[:, i]), list(z), z_r.T.tolist(), gamma, 0.3) for i in range(20)]
    assert found.tolist() == expected


def test_references_make_rmia_see_hard_members_that_a_threshold_misses() -> None:
    rng = np.random.default_rng(4)
    hardness = rng.uniform(0.5, 6, 900)  # −ln p in models that did not learn the record
    references = -(hardness + rng.normal(0, 0.1, (4, 900)))
    asked = -(hardness + rng.normal(0, 0.1, 900))
    asked[:300] += 0.6  # members: e^0.6 times more likely
    members, others, crowd = slice(0, 300), slice(300, 600), slice(600, 900)
    scores = population.rmia(
        asked[:600], references[:, :600], asked[crowd], references[:, crowd], gamma=exp(0.1), a=1.0
    )
    assert roc.auc(scores[members], scores[others]).value > 0.9
    assert roc.auc(asked[members], asked[others]).value < 0.7


@pytest.mark.parametrize("at", [0.0, 1.0])
def test_a_share_that_is_none_is_refused(at: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        population.threshold(np.arange(5.0), at)
