"""Relearn time: none for the original, most for the retrained, and in between for what was only hidden."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from certify.audit import relearn
from certify.audit.adapter import Params, Recipe, Torch, linear, mlp
from certify.audit.shadows import train, unstack

FORGET = np.arange(60)


@pytest.fixture(scope="module")
def arms() -> tuple[Torch, Params, list[Params]]:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(260, 16))).float()
    y = torch.from_numpy(rng.integers(0, 3, 260))  # labels at random: only who learnt a record knows it
    subject = mlp(x, y, Recipe(epochs=25, rate=0.01, batch=32, optimiser="adam"), hidden=64)
    retain = np.arange(60, 260)
    original = next(unstack(train(subject, [np.arange(260)], ["original"])))
    return subject, original, list(unstack(train(subject, [retain] * 2, ["r1", "r2"])))


def hidden(params: Params) -> Params:
    """The last layer pushed aside: the labels change, the features stay."""
    rng = torch.Generator().manual_seed(0)
    return {
        name: value + 0.6 * value.std() * torch.randn(value.shape, generator=rng) if name.startswith("2.") else value
        for name, value in params.items()
    }


def test_the_original_needs_none_the_retrained_most_and_the_hidden_few(
    arms: tuple[Torch, Params, list[Params]],
) -> None:
    subject, original, retrained = arms
    found = relearn.compare(subject, FORGET, original=original, unlearned=hidden(original), retrained=retrained)
    assert found.original.steps == 0 and found.original.losses == (found.target,)
    assert found.usual is not None and found.unlearned.steps is not None and found.index is not None
    assert 0 < found.unlearned.steps < found.usual[0]
    assert found.index == pytest.approx(found.unlearned.steps / np.mean([arm.steps for arm in found.retrained]))
    assert json.loads(json.dumps(asdict(found)))["target"] == found.target


def test_a_model_that_was_retrained_has_an_index_near_one(arms: tuple[Torch, Params, list[Params]]) -> None:
    subject, original, retrained = arms
    third = next(unstack(train(subject, [np.arange(60, 260)], ["r3"])))
    found = relearn.compare(subject, FORGET, original=original, unlearned=third, retrained=retrained)
    assert found.index == pytest.approx(1, abs=0.4)


def test_a_pushed_away_model_takes_longer_than_a_retrained_one(arms: tuple[Torch, Params, list[Params]]) -> None:
    subject, original, retrained = arms
    away = {name: -3 * value if name.startswith("2.") else value for name, value in original.items()}
    found = relearn.compare(subject, FORGET, original=original, unlearned=away, retrained=retrained)
    assert found.index is not None and found.index > 1


def test_steps_are_those_of_gradient_descent_by_hand() -> None:
    x, y = torch.tensor([[1.0], [2.0]]), torch.tensor([1, 1])
    subject = linear(x, y, Recipe(epochs=1, rate=0.5))
    params = {"weight": torch.zeros(2, 1), "bias": torch.zeros(2)}
    found = relearn.relearn(subject, params, np.array([0, 1]), 0.1, limit=50)
    w, b, losses = np.zeros(2), np.zeros(2), []
    for _ in range(51):
        z = np.outer([1.0, 2.0], w) + b
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        losses.append(-np.log(p[:, 1]).mean())
        if losses[-1] <= 0.1:
            break
        g = (p - [0.0, 1.0]) / 2
        w, b = w - 0.5 * (g * [[1.0], [2.0]]).sum(0), b - 0.5 * g.sum(0)
    assert found.steps == len(losses) - 1
    assert found.losses == pytest.approx(losses, abs=1e-5)


def test_the_limit_ends_what_does_not_come_back_and_models_are_left_alone(
    arms: tuple[Torch, Params, list[Params]],
) -> None:
    subject, original, retrained = arms
    before = {name: value.clone() for name, value in retrained[0].items()}
    found = relearn.compare(subject, FORGET, original=original, unlearned=original, retrained=retrained, limit=1)
    assert found.retrained[0].steps is None and found.usual is None and found.index is None
    assert all((retrained[0][name] == value).all() for name, value in before.items())


def test_a_target_that_is_not_a_number_is_refused(arms: tuple[Torch, Params, list[Params]]) -> None:
    subject, original, _ = arms
    with pytest.raises(ValueError, match="finite target"):
        relearn.relearn(subject, original, FORGET, float("nan"), limit=5)
