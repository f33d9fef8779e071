"""Curves and areas against scikit-learn, DeLong's variance against pairs and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from certify.audit import roc

few = st.lists(st.integers(-3, 3), min_size=2, max_size=40).map(lambda values: np.array(values, dtype=float))


@given(few, few)
def test_auc_and_curve_are_scikit_learns(members: np.ndarray, others: np.ndarray) -> None:
    scores, labels = np.concatenate([members, others]), np.repeat([1, 0], [len(members), len(others)])
    assert roc.auc(members, others).value == pytest.approx(roc_auc_score(labels, scores))
    fpr, tpr, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    found = roc.curve(members, others)
    np.testing.assert_allclose(found.false_positive_rate, fpr)
    np.testing.assert_allclose(found.true_positive_rate, tpr)
    np.testing.assert_allclose(found.thresholds, thresholds)


@pytest.mark.parametrize("at", [0.001, 0.01, 0.1])
def test_true_positives_agree_with_the_adversarial_robustness_toolbox(at: float) -> None:
    theirs = pytest.importorskip(
        "art.metrics.privacy.worst_case_mia_score",
        reason="pip install --no-deps adversarial-robustness-toolbox, and six, to compare with it",
        exc_type=ImportError,
    )
    rng = np.random.default_rng(5)
    for _ in range(20):
        members, others = rng.normal(1, size=150), rng.normal(size=250)
        labels = np.repeat([1, 0], [len(members), len(others)])
        [(fpr, tpr, _)] = theirs.get_roc_for_fpr(np.concatenate([members, others]), labels, targeted_fpr=at)
        found = roc.true_positives(members, others, at)
        assert found.rate.value == pytest.approx(tpr)
        assert found.false_positive_rate.value >= fpr - 1e-12  # it stops at the first threshold with as many hits


@given(few, few)
def test_intervals_hold_their_value_and_stay_in_range(members: np.ndarray, others: np.ndarray) -> None:
    found = roc.auc(members, others)
    assert 0 <= found.low <= found.value <= found.high <= 1


@given(few, few)
def test_placements_are_shares_of_pairs(members: np.ndarray, others: np.ndarray) -> None:
    wins = (members[:, None] > others) + 0.5 * (members[:, None] == others)
    x, y = roc.placements(members, others)
    np.testing.assert_allclose(x, wins.mean(1))
    np.testing.assert_allclose(y, wins.mean(0))


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5])
def test_auc_intervals_cover_the_truth(shift: float) -> None:
    rng = np.random.default_rng(1)
    truth = float(norm.cdf(shift / np.sqrt(2)))
    found = [roc.auc(rng.normal(shift, size=60), rng.normal(size=80)) for _ in range(600)]
    assert np.mean([one.low <= truth <= one.high for one in found]) > 0.92


def test_perfect_and_hopeless_scores_keep_an_interval() -> None:
    perfect, hopeless = roc.auc(np.arange(20.0) + 30, np.arange(30.0)), roc.auc(np.arange(20.0) - 30, np.arange(30.0))
    assert perfect.value == perfect.high == 1
    assert perfect.low == pytest.approx(0.025 ** (1 / 20))
    assert (hopeless.value, hopeless.high) == (0, pytest.approx(1 - 0.025 ** (1 / 20)))


def test_contrast_of_paired_attacks_covers_and_is_narrower_than_unpaired() -> None:
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(400):
        members, others = rng.normal(0.7, size=60), rng.normal(size=60)
        noisy = [(members + rng.normal(size=60) * 0.3, others + rng.normal(size=60) * 0.3) for _ in range(3)]
        paired = roc.contrast(noisy, [1, -0.5, -0.5])
        covered.append(paired.low <= 0 <= paired.high)
        alone = roc.auc(*noisy[0])
        assert paired.high - paired.low < alone.high - alone.low
    assert np.mean(covered) > 0.92


def test_contrast_of_one_arm_is_its_auc_and_of_equal_arms_nothing() -> None:
    rng = np.random.default_rng(3)
    pair = (rng.normal(1, size=30), rng.normal(size=30))
    assert roc.contrast([pair], [1]).value == pytest.approx(roc.auc(*pair).value)
    assert roc.contrast([pair, pair, pair], [1, -0.5, -0.5]) == roc.Estimate(0.0, 0.0, 0.0)


def test_the_luck_of_a_training_widens_a_contrast_most_with_few_models() -> None:
    rng = np.random.default_rng(4)
    pairs = [(rng.normal(size=30), rng.normal(size=30)) for _ in range(3)]
    widths = [
        (found := roc.contrast(pairs, [1, -0.5, -0.5], spread=spread, trained=trained)).high - found.low
        for spread, trained in ((0.0, 0), (0.01, 20), (0.01, 2))
    ]
    assert widths == sorted(widths)
    assert widths[0] < widths[1]


@given(few, few, st.sampled_from([0.001, 0.01, 0.1, 0.5]))
def test_true_positive_rates_keep_to_the_false_alarms_allowed(
    members: np.ndarray, others: np.ndarray, at: float
) -> None:
    found = roc.true_positives(members, others, at)
    labels = np.repeat([1, 0], [len(members), len(others)])
    fpr, tpr, _ = roc_curve(labels, np.concatenate([members, others]), drop_intermediate=False)
    assert found.rate.value == pytest.approx(tpr[fpr <= at + 1e-9].max())
    assert found.false_positive_rate.value <= at + 1e-9


def test_scores_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        roc.auc(np.array([1.0, np.nan]), np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="at least two"):
        roc.auc(np.array([1.0]), np.array([0.0, 1.0]))
