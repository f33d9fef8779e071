"""The challenge's score: known values, what retraining itself gets, and a method that does nothing."""

from math import log

import numpy as np
import pytest

from certify.audit.challenge import challenge, forgetting_quality, per_record_epsilon


def drawn(shift: float = 0.0, width: float = 1.0, records: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, width, size=(512, records))


def test_models_that_do_not_differ_still_have_a_large_epsilon() -> None:
    median = float(np.median(per_record_epsilon(drawn(seed=1), drawn(seed=2))))
    assert 1.4 < median < 1.8


def test_epsilon_is_the_best_threshold() -> None:
    own, others = np.array([[0.0], [2.0], [3.0], [4.0]]), np.array([[-2.0], [-1.0], [0.5], [2.5]])
    # score >= 2: 3 of 4 are right, 1 of 4 wrong: FNR = FPR = 1/4; score >= 0.5 the same with FPR = 1/2
    assert per_record_epsilon(own, others, delta=0.0)[0] >= log(0.75 / 0.25)
    assert per_record_epsilon(own, own)[0] < log(4)


def test_apart_for_certain_is_infinite_and_worth_nothing() -> None:
    apart = per_record_epsilon(drawn(100.0), drawn())
    assert np.isinf(apart).all()
    assert forgetting_quality(apart) == 0.0


@pytest.mark.parametrize(("value", "worth"), [(0.0, 1.0), (0.49, 1.0), (0.5, 0.5), (1.7, 0.125)])
def test_quality_halves_with_each_bin(value: float, worth: float) -> None:
    assert forgetting_quality(np.array([value])) == worth


def test_a_narrower_sample_is_told_from_a_wide_one() -> None:
    assert np.median(per_record_epsilon(drawn(width=0.2), drawn(seed=1))) > 3


def test_score_stands_beside_that_of_retraining() -> None:
    result = challenge(drawn(1.5), drawn(seed=1), drawn(seed=2), retain_ratio=0.9, test_ratio=0.8)
    assert result.unlearned.final == pytest.approx(result.unlearned.quality * 0.72)
    assert result.unlearned.quality < result.retrained.quality
    assert result.retrained.final == result.retrained.quality
    assert result.models == 512


def test_samples_of_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="as many"):
        challenge(drawn(), drawn()[:100], drawn(), retain_ratio=1, test_ratio=1)
