"""The whole audit on models whose truth is known, what it refuses, and that a private mechanism is never contradicted.

The models are linear with more inputs than records: they learn one common feature, and every record by heart.
"""

import json
from dataclasses import asdict, replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm

from certify.audit import arms, shadows
from certify.audit.adapter import Params, Recipe, Torch, linear
from certify.audit.arms import Records, audit, compare
from certify.audit.verdict import (
    FAIL,
    INCONCLUSIVE,
    OVER_FORGOTTEN,
    PASS,
    Claim,
    Estimate,
    Figures,
    Plan,
    Utility,
    judge,
)
from certify.errors import InputError

PLAN = Plan("7", shadows=32, retrained=4)
RECORDS = Records(
    retain=np.arange(0, 150), forget=np.arange(150, 230), held_out=np.arange(230, 310), test=np.arange(310, 400)
)
LEARNT = np.concatenate([RECORDS.retain, RECORDS.forget])


@cache
def subject() -> Torch:
    """Every record has a direction of its own; the label is a common feature's sign, flipped now and then."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 300))
    y = (3 * x[:, 0] + rng.normal(size=400) > 0).astype(np.int64)
    return linear(torch.from_numpy(x).float(), torch.from_numpy(y), Recipe(epochs=40, rate=0.1, batch=20))


@cache
def reference() -> tuple[Params, tuple[Params, ...], shadows.Shadows]:
    original = next(shadows.unstack(shadows.train(subject(), [LEARNT], ["original"])))
    made = shadows.run(subject(), RECORDS.retain, RECORDS.candidates, shadows=PLAN.shadows, seed=PLAN.seed)
    return original, tuple(arms.retrain(subject(), RECORDS, PLAN)), made


def attacked(unlearned: Params, plan: Plan = PLAN) -> Figures:
    original, retrained, made = reference()
    return audit(plan, subject(), RECORDS, original=original, unlearned=unlearned, retrained=retrained, shadows=made)


def moved(places: np.ndarray, *, steps: int, rate: float) -> Params:
    """The original after gradient steps on these records; a negative rate ascends."""
    params = reference()[0]
    at = torch.from_numpy(places)
    for _ in range(steps):
        leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
        subject().loss(subject().apply(leaves, subject().x[at]), subject().y[at]).mean().backward()
        params = {
            name: (value - rate * value.grad).detach() for name, value in leaves.items() if value.grad is not None
        }
    return params


def fresh() -> Params:
    return next(shadows.unstack(shadows.train(subject(), [RECORDS.retain], ["fresh"])))


def test_a_retrained_model_passes() -> None:
    figures = attacked(fresh())
    assert judge(PLAN, figures).outcome == PASS
    assert figures.original.auc.low > 0.7 > figures.unlearned.auc.high


def test_the_original_fails() -> None:
    figures = attacked(reference()[0])
    assert judge(PLAN, figures).outcome == FAIL
    assert figures.difference == figures.control
    assert figures.original.epsilon.lower > 0
    assert figures.power > 0.99


def test_a_little_fine_tuning_fails() -> None:
    assert judge(PLAN, attacked(moved(RECORDS.retain, steps=5, rate=0.01))).outcome == FAIL


def test_strong_ascent_is_over_forgotten() -> None:
    figures = attacked(moved(RECORDS.forget, steps=20, rate=-3.0))
    verdict = judge(PLAN, figures)
    assert verdict.outcome == OVER_FORGOTTEN
    assert figures.unlearned.auc.high < 0.5
    assert figures.unlearned.epsilon.side == "low"


def test_a_model_that_forgot_all_but_some_records_fails_and_names_them() -> None:
    kept = RECORDS.forget[:24]
    partly = next(shadows.unstack(shadows.train(subject(), [np.concatenate([RECORDS.retain, kept])], ["partly"])))
    figures = attacked(partly)
    assert judge(PLAN, figures).outcome == FAIL
    assert {example.record for example in figures.examples} == set(range(80))
    assert len({example.record for example in figures.examples[:24]} & set(range(24))) >= 15


def test_without_anything_learnt_the_audit_is_inconclusive() -> None:
    _, retrained, made = reference()
    figures = audit(PLAN, subject(), RECORDS, original=fresh(), unlearned=fresh(), retrained=retrained, shadows=made)
    assert judge(PLAN, figures).outcome == INCONCLUSIVE


def test_an_epsilon_below_what_is_shown_is_refuted() -> None:
    claiming = replace(PLAN, claim=Claim("original", 0.1))
    assert judge(claiming, attacked(fresh(), claiming)).outcome == FAIL


def test_offline_attack_finds_the_original() -> None:
    plan = replace(PLAN, attack="lira-offline")
    assert judge(plan, attacked(reference()[0], plan)).outcome == FAIL


def test_figures_are_the_same_again_and_become_json() -> None:
    model = fresh()
    figures = attacked(model)
    assert attacked(model) == figures
    assert json.loads(json.dumps(asdict(figures), allow_nan=False))["attack"] == "lira-online"


def test_another_seed_halves_otherwise() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(4, 120)) + np.array([[1.5], [0], [0], [0]]) * (np.arange(120) < 60)
    tests = {compare(replace(PLAN, seed=str(i)), scores, 60, [USE] * 4).original.epsilon.threshold for i in range(6)}
    assert len(tests) > 1


def test_thresholds_do_not_depend_on_what_they_are_tested_on() -> None:
    """Scores of half B may be anything: side and threshold stay."""
    rng = np.random.default_rng(2)
    scores = rng.normal(size=(4, 120)) + np.array([[1.0], [0], [0], [0]]) * (np.arange(120) < 60)
    before = compare(PLAN, scores, 60, [USE] * 4)
    second = arms._halves(60, PLAN.seed, "forget")[1]
    changed = scores.copy()
    changed[:, second] += 50
    after = compare(PLAN, changed, 60, [USE] * 4)
    for one, other in ((before.original, after.original), (before.unlearned, after.unlearned)):
        assert (one.epsilon.side, one.epsilon.threshold) == (other.epsilon.side, other.epsilon.threshold)


def refused(records: Records = RECORDS, retrained: int = 4, plan: Plan = PLAN, unlearned: Params | None = None) -> str:
    original, reference_, made = reference()
    with pytest.raises(InputError) as caught:
        audit(
            plan,
            subject(),
            records,
            original=original,
            unlearned=unlearned or original,
            retrained=reference_[:retrained],
            shadows=made,
        )
    return str(caught.value)


def test_hold_out_that_was_learnt_is_refused() -> None:
    assert "at most one of" in refused(replace(RECORDS, held_out=RECORDS.forget[:60]))
    assert "at most one of" in refused(replace(RECORDS, held_out=np.append(RECORDS.held_out, 3)))


def test_hold_out_with_copies_of_learnt_records_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = subject().x.clone()
    copied[RECORDS.held_out[5]] = copied[RECORDS.retain[3]]
    labels = subject().y.clone()
    labels[RECORDS.held_out[5]] = labels[RECORDS.retain[3]]
    monkeypatch.setattr(subject(), "x", copied)
    monkeypatch.setattr(subject(), "y", labels)
    assert "got 1 equal to learnt ones" in refused()


def test_records_that_do_not_exist_or_too_few_are_refused() -> None:
    assert "at most one of" in refused(replace(RECORDS, test=np.array([400])))
    assert "at least 8 records" in refused(replace(RECORDS, forget=RECORDS.forget[:7]))


def test_fewer_retrained_models_than_planned_are_refused() -> None:
    assert "expected at least 4 retrained models, as the plan says, got 3" in refused(retrained=3)


def test_shadows_of_another_plan_are_refused() -> None:
    assert "expected 64 shadows" in refused(plan=replace(PLAN, shadows=64))


def test_a_model_without_finite_outputs_is_refused() -> None:
    broken = {name: value * float("nan") for name, value in reference()[0].items()}
    assert "finite outputs" in refused(unlearned=broken)


USE = Utility(0.9, 0.9, Estimate(0.9, 0.8, 1.0), 0.9)


def gaussian_epsilon(distance: float, delta: float) -> float:
    """The exact ε of a Gaussian mechanism whose neighbours are so many deviations apart (Balle and Wang 2018, theorem 8)."""

    def excess(epsilon: float) -> float:
        near, far = distance / 2 - epsilon / distance, -distance / 2 - epsilon / distance
        return float(norm.cdf(near) - np.exp(epsilon) * norm.cdf(far)) - delta

    return float(brentq(excess, 0, 200)) if excess(0) > 0 else 0.0


@pytest.mark.parametrize("distance", [0.1, 0.5, 1.0, 2.0])
def test_a_gaussian_mechanism_is_never_contradicted(distance: float) -> None:
    """Scores from its exact privacy loss, the strongest attack that there is; shown is something, and never too much."""
    claim = Claim("original", gaussian_epsilon(distance, PLAN.delta), PLAN.delta)
    rng = np.random.default_rng(3)
    shown = []
    for number in range(25):
        scores = rng.normal(size=(4, 2000))
        scores[0, :1000] += distance
        plan = replace(PLAN, seed=str(number), claim=claim)
        figures = compare(plan, scores, 1000, [USE] * 4)
        assert not any("was claimed" in reason for reason in judge(plan, figures).reasons)
        shown.append(figures.original.epsilon.lower)
    assert max(shown) <= claim.epsilon
    assert distance < 1 or np.mean(shown) > 0.1 * claim.epsilon


def test_a_private_ridge_regression_is_never_contradicted() -> None:
    """Weights with Gaussian noise, trained with and without one record; the attack projects onto their exact difference."""
    rng = np.random.default_rng(4)
    x, y, penalty, noise = rng.normal(size=(60, 5)), rng.normal(size=60), 5.0, 0.05

    def fitted(rows: slice) -> np.ndarray:
        return np.asarray(np.linalg.solve(x[rows].T @ x[rows] + penalty * np.eye(5), x[rows].T @ y[rows]))

    with_it, without = fitted(slice(0, 60)), fitted(slice(1, 60))
    apart = with_it - without
    exact = gaussian_epsilon(float(np.linalg.norm(apart)) / noise, PLAN.delta)
    for number in range(25):
        scores = rng.normal(size=(4, 600))
        for row, means in enumerate(((with_it, without), *[(without, without)] * 3)):
            released = np.concatenate([mean + noise * rng.normal(size=(300, 5)) for mean in means])
            scores[row] = released @ apart / np.linalg.norm(apart)
        plan = replace(PLAN, seed=str(number))
        assert compare(plan, scores, 300, [USE] * 4).original.epsilon.lower <= exact
