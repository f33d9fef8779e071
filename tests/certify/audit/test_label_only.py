"""The label-only attack: it sees what a model learnt by heart although it gets labels alone, and nothing in a retrained one."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from certify.audit import label_only
from certify.audit.adapter import Params, Recipe, Torch, linear, mlp
from certify.audit.shadows import train, unstack

FORGET, HELD_OUT = np.arange(0, 150), np.arange(150, 300)


@pytest.fixture(scope="module")
def arms() -> tuple[Torch, Params, Params]:
    """Labels are 30 % noise, and inputs more than records: a model which fits them has learnt them by heart."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(500, 200))).float()
    y = ((x[:, 0] > 0) ^ torch.from_numpy(rng.random(500) < 0.3)).long()
    subject = mlp(x, y, Recipe(epochs=20, rate=0.01, batch=50, optimiser="adam"), hidden=32)
    retain = np.arange(300, 500)
    original = next(unstack(train(subject, [np.concatenate([retain, FORGET])], ["original"])))
    return subject, original, next(unstack(train(subject, [retain], ["retrained"])))


def test_what_was_learnt_by_heart_is_found_and_what_was_not_learnt_is_not(arms: tuple[Torch, Params, Params]) -> None:
    subject, original, retrained = arms
    disturb = label_only.noise(0.3)
    found = label_only.attack(subject, original, FORGET, HELD_OUT, disturb=disturb, copies=32, seed="a")
    lost = label_only.attack(subject, retrained, FORGET, HELD_OUT, disturb=disturb, copies=32, seed="a")
    assert found.auc.low > 0.65 and found.epsilon > 0.2
    assert lost.auc.low < 0.5 < lost.auc.high and lost.epsilon == 0
    assert json.loads(json.dumps(asdict(found)))["copies"] == 32


def test_masked_confidences_do_not_fool_it(arms: tuple[Torch, Params, Params]) -> None:
    """Scaling all outputs down hides confidence and keeps every label."""
    subject, original, _ = arms
    masked = {name: value * (1e-3 if name.startswith("2.") else 1) for name, value in original.items()}
    given = {"disturb": label_only.noise(0.3), "copies": 16, "seed": "a"}
    plain = label_only.robustness(subject, original, FORGET, **given)
    assert (label_only.robustness(subject, masked, FORGET, **given) == plain).all()


def test_robustness_of_a_linear_model_is_the_normal_probability_of_its_margin() -> None:
    """Independent oracle: for sign(w·x) with noise of scale s, the chance to keep the label is Φ(|w·x| / (s‖w‖))."""
    from scipy.stats import norm

    x = torch.tensor([[0.5, 0.0], [2.0, 1.0], [-1.0, 0.2]])
    y = torch.tensor([1, 1, 0])
    subject = linear(x, y, Recipe(epochs=1, rate=0.1))
    params = {"weight": torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), "bias": torch.zeros(2)}
    kept = label_only.robustness(subject, params, np.arange(3), disturb=label_only.noise(1.0), copies=4000, seed="b")
    assert kept == pytest.approx(norm.cdf([0.5, 2.0, 1.0]), abs=0.03)


def test_the_gap_is_the_difference_in_accuracy(arms: tuple[Torch, Params, Params]) -> None:
    subject, original, _ = arms
    found = label_only.attack(subject, original, FORGET, HELD_OUT, disturb=label_only.noise(0.3), copies=2, seed="c")
    right = subject.predict(subject.apply(original, subject.x)) == subject.y
    gap = float(right[:150].float().mean() - right[150:300].float().mean())
    assert found.gap.value == pytest.approx(0.5 + gap / 2, abs=1e-6)


def test_the_same_seed_disturbs_every_model_alike(arms: tuple[Torch, Params, Params]) -> None:
    subject, original, _ = arms
    given = {"disturb": label_only.noise(1.0), "copies": 8}
    first = label_only.robustness(subject, original, HELD_OUT, seed="a", **given)
    assert (label_only.robustness(subject, original, HELD_OUT, seed="a", **given) == first).all()
    assert (label_only.robustness(subject, original, HELD_OUT, seed="b", **given) != first).any()


def test_noise_without_a_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="positive scale"):
        label_only.noise(0.0)
