"""Key figures: known truths, and values worked out by hand."""

import json
from dataclasses import asdict
from math import log2

import numpy as np
import pytest

from certify.audit import kpis
from certify.audit.kpis import Outputs


def outputs(seed: int, classes: int = 3) -> Outputs:
    rng = np.random.default_rng(seed)
    return Outputs(*(rng.dirichlet(np.ones(classes), n) for n in (60, 40, 20)))


def labels(of: Outputs) -> Outputs:
    return Outputs(of.retain.argmax(1), of.test.argmax(1), of.forget.argmax(1))


def test_zrf_of_equal_distributions_is_one_and_of_disjoint_ones_zero() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(4), 500)
    assert kpis.zrf(p, p) == pytest.approx(1, abs=1e-9)
    assert kpis.zrf(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])) == pytest.approx(0)


def test_divergence_is_the_mean_of_both_relative_entropies_to_the_middle() -> None:
    p, q = np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([[0.1, 0.9], [0.9, 0.1]])
    middle = [0.3, 0.7]
    first = sum(a * log2(a / m) for a, m in zip([0.5, 0.5], middle, strict=True))
    second = sum(b * log2(b / m) for b, m in zip([0.1, 0.9], middle, strict=True))
    assert kpis.divergence(p, q) == pytest.approx((first + second) / 4)  # the second record adds 0
    assert kpis.divergence(q, p) == pytest.approx(kpis.divergence(p, q))


def test_the_retrained_model_itself_is_as_complete_and_as_useful_as_can_be() -> None:
    first, second = outputs(1), outputs(1)
    found = kpis.kpis(first, [first, second], labels(first), untrained=outputs(2), seconds=(1.0, 4.0))
    assert found.completeness == kpis.Agreement(1.0, 1.0) and found.forget == kpis.Agreement(1.0, 1.0)
    assert found.retain_ratio == found.test_ratio == 1 and found.efficiency == 0.25
    assert found.divergence.unlearned == pytest.approx(1) and found.zrf is not None
    assert found.zrf.retrained_low <= found.zrf.unlearned <= found.zrf.retrained_high
    assert json.loads(json.dumps(asdict(found)))["efficiency"] == 0.25


def test_figures_worked_out_by_hand() -> None:
    def sure(*of: int) -> np.ndarray:
        return np.eye(2)[list(of)]

    own = Outputs(sure(0, 0, 1, 1), sure(0, 1), sure(1, 1))
    one = Outputs(sure(0, 0, 0, 1), sure(0, 0), sure(1, 0))
    two = Outputs(sure(0, 0, 1, 1), sure(0, 0), sure(0, 0))
    truth = Outputs(np.array([0, 0, 0, 1]), np.array([0, 0]), np.array([1, 1]))
    found = kpis.kpis(own, [one, two], truth)
    assert found.forget == kpis.Agreement(0.25, 0.5)  # 1 of 2 and 0 of 2; 1 of 2
    assert found.completeness.unlearned == pytest.approx(np.mean([(0.75 + 1) / 2, 0.5, 0.25]))
    assert found.completeness.usual == pytest.approx(np.mean([0.75, 1.0, 0.5]))
    assert found.retain_ratio == pytest.approx(0.75 / ((1 + 0.75) / 2)) and found.test_ratio == 0.5
    assert found.zrf is None and found.efficiency is None
    assert found.divergence == kpis.Agreement(pytest.approx(0.25), pytest.approx(0.5))


def test_a_model_that_answers_at_random_has_the_highest_zrf_and_is_apart_from_the_retrained() -> None:
    """Why ZRF is not a merit: over-forgetting raises it."""
    rng = np.random.default_rng(3)
    retrained = [Outputs(*(rng.dirichlet([20, 1, 1], n) for n in (60, 40, 20))) for _ in range(2)]
    flat = Outputs(*(np.full((n, 3), 1 / 3) for n in (60, 40, 20)))
    found = kpis.kpis(flat, retrained, labels(retrained[0]), untrained=flat)
    assert found.zrf is not None and found.zrf.unlearned == pytest.approx(1)
    assert found.zrf.retrained_high < 0.8
    assert found.divergence.unlearned < found.divergence.usual


def test_probabilities_of_one_logit_are_those_of_two() -> None:
    logits = np.array([[-2.0], [0.0], [700.0]])
    assert kpis.probabilities(logits) == pytest.approx(kpis.probabilities(np.hstack([0 * logits, logits])))
    assert kpis.probabilities(logits).sum(1) == pytest.approx(1)


@pytest.mark.parametrize("p", [np.array([[0.5, 0.6]]), np.array([[1.5, -0.5]]), np.array([[np.nan, 1.0]])])
def test_what_are_no_probabilities_is_refused(p: np.ndarray) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        kpis.divergence(p, np.array([[0.5, 0.5]]))


def test_one_retrained_model_or_no_time_is_refused() -> None:
    one = outputs(4)
    with pytest.raises(ValueError, match="at least 2"):
        kpis.kpis(one, [one], labels(one))
    with pytest.raises(ValueError, match="durations"):
        kpis.kpis(one, [one, one], labels(one), seconds=(1.0, 0.0))
