"""Doubles of forgotten records among the retained, and features that still tell records apart."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from certify.audit import neighbours


def test_copies_and_near_copies_are_found_with_their_places() -> None:
    rng = np.random.default_rng(0)
    retain, forget = rng.normal(size=(700, 6)), rng.normal(size=(20, 6))
    retain[600] = forget[3]
    retain[5] = forget[7] + 1e-3
    labels = np.zeros(700, dtype=int)
    labels[5] = 1
    found = neighbours.neighbours(forget, np.zeros(20, dtype=int), retain, labels)
    assert [(one.record, one.retained, one.same_label) for one in found.records[:2]] == [(3, 600, True), (7, 5, False)]
    assert found.copies == 1 and 2 <= found.near <= 5 and found.records[0].distance == 0
    assert json.loads(json.dumps(asdict(found)))["copies"] == 1


def test_distances_are_scipys() -> None:
    from scipy.spatial import KDTree

    rng = np.random.default_rng(1)
    retain, forget = rng.normal(size=(1200, 4)), rng.normal(size=(600, 4))
    scale = retain.std(0, ddof=1)
    expected, places = KDTree(retain / scale).query(forget / scale)
    found = sorted(
        neighbours.neighbours(forget, np.zeros(600), retain, np.zeros(1200)).records, key=lambda one: one.record
    )
    assert [one.distance for one in found] == pytest.approx(expected)
    assert [one.retained for one in found] == places.tolist()
    usual, _ = KDTree(retain / scale).query(retain / scale, k=2)
    assert neighbours.neighbours(forget, np.zeros(600), retain, np.zeros(1200), share=0.2).limit == pytest.approx(
        np.quantile(usual[:, 1], 0.2)
    )


def test_scales_of_inputs_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    retain, forget = rng.normal(size=(50, 3)), rng.normal(size=(5, 3))
    units = np.array([1.0, 1000.0, 0.01])
    plain = neighbours.neighbours(forget, np.zeros(5), retain, np.zeros(50))
    other = neighbours.neighbours(forget * units, np.zeros(5), retain * units, np.zeros(50))
    assert [one.retained for one in plain.records] == [one.retained for one in other.records]


def test_copies_count_as_near_even_where_the_retained_have_copies_themselves() -> None:
    retain = np.repeat(np.arange(10.0)[:, None], 2, axis=0)
    found = neighbours.neighbours(np.array([[4.0], [4.5]]), np.zeros(2), retain, np.zeros(20))
    assert found.limit == 0 and found.near == found.copies == 1


def test_features_that_hold_the_records_are_found_and_others_are_not() -> None:
    rng = np.random.default_rng(3)
    members, others = rng.normal(size=(200, 10)), rng.normal(size=(200, 10))
    marked = members + 0.8 * np.eye(10)[4]
    plain = [(rng.normal(size=(200, 10)), rng.normal(size=(200, 10))) for _ in range(2)]
    found = neighbours.feature_leakage((marked, others), plain, seed="s")
    assert found.unlearned.low > 0.6 and found.difference.low > 0.05
    lost = neighbours.feature_leakage((members, others), plain, seed="s")
    assert lost.difference.low < 0 < lost.difference.high
    assert all(one.low < 0.5 < one.high for one in found.retrained)
    assert json.loads(json.dumps(asdict(found)))["folds"] == 5


def test_the_probe_is_asked_about_records_that_it_did_not_learn() -> None:
    """With more features than records a probe separates its own records perfectly: out of fold, noise stays noise."""
    rng = np.random.default_rng(4)
    noise = [(rng.normal(size=(60, 150)), rng.normal(size=(60, 150))) for _ in range(3)]
    found = neighbours.feature_leakage(noise[0], noise[1:], seed="s", ridge=1e-3)
    assert 0.3 < found.unlearned.value < 0.7


def test_unequal_numbers_do_not_make_a_difference() -> None:
    rng = np.random.default_rng(5)
    arm = (rng.normal(size=(40, 5)), rng.normal(size=(400, 5)))
    found = neighbours.feature_leakage(arm, [arm], seed="s")
    assert found.unlearned.low < 0.5 < found.unlearned.high
    assert found.difference.value == pytest.approx(0)


@pytest.mark.parametrize("folds", [1, 11])
def test_folds_that_cannot_be_made_are_refused(folds: int) -> None:
    arm = (np.ones((10, 2)), np.ones((10, 2)))
    with pytest.raises(ValueError, match="folds"):
        neighbours.feature_leakage(arm, [arm], seed="s", folds=folds)
