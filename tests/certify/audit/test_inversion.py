"""Gradient inversion: one record's step gives the record away, retraining from another seed does not, exact optima do."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from certify.audit import inversion
from certify.audit.adapter import Params, Recipe, Torch, linear
from certify.audit.shadows import train, unstack

FORGET, HELD_OUT, RETAIN = np.arange(0, 4), np.arange(4, 100), np.arange(100, 400)


@pytest.fixture(scope="module")
def arms() -> tuple[Torch, Params]:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(400, 20))).float()
    y = (x[:, 0] + 0.5 * x[:, 1] > 0).long()
    subject = linear(x, y, Recipe(epochs=10, rate=0.1))
    return subject, next(unstack(train(subject, [np.concatenate([RETAIN, FORGET])], ["original"])))


def ascend(subject: Torch, params: Params, places: np.ndarray, rate: float = 0.1) -> Params:
    own = {name: value.clone().requires_grad_() for name, value in params.items()}
    at = torch.from_numpy(places)
    subject.loss(subject.apply(own, subject.x[at]), subject.y[at]).mean().backward()
    return {name: (value + rate * value.grad).detach() for name, value in own.items()}


def layer(params: Params) -> tuple[np.ndarray, np.ndarray]:
    return params["weight"].numpy(), params["bias"].numpy()


def test_one_step_of_ascent_gives_its_record_away(arms: tuple[Torch, Params]) -> None:
    subject, original = arms
    x = subject.x.numpy()
    unlearned = ascend(subject, original, FORGET[:1], rate=1.0)
    found = inversion.probe(layer(original), layer(unlearned), x[FORGET], x[HELD_OUT])
    first = found.records[0]
    assert first.record == 0 and first.similarity > 0.999 and first.closest == 0
    assert first.error is not None and first.error < 0.01
    assert found.records[1].similarity < 0.9 and found.control < 0.9
    assert json.loads(json.dumps(asdict(found)))["records"][0]["record"] == 0


def test_retraining_from_another_seed_gives_nothing_away(arms: tuple[Torch, Params]) -> None:
    subject, original = arms
    x = subject.x.numpy()
    retrained = next(unstack(train(subject, [RETAIN], ["retrained"])))
    found = inversion.probe(layer(original), layer(retrained), x[FORGET], x[HELD_OUT])
    assert all(one.closest > 0 for one in found.records)
    assert found.records[0].similarity < 0.95


def test_several_records_lie_in_the_span_and_are_mixed(arms: tuple[Torch, Params]) -> None:
    """With as many classes as records, each class moves by its own record."""
    rng = np.random.default_rng(1)
    x, errors = rng.normal(size=(3, 30)), np.eye(3) + 0.05 * rng.normal(size=(3, 3))
    found = inversion.probe(
        (errors.T @ x, errors.sum(0)), (np.zeros((3, 30)), np.zeros(3)), x, rng.normal(size=(200, 30))
    )
    assert all(one.similarity > 0.97 and one.closest == 0 for one in found.records)
    assert found.auc.value == 1


def test_the_exact_optimum_without_a_record_gives_it_away_with_the_curvature() -> None:
    """Bertran et al.: removing one record from least squares moves the solution by a multiple of H⁻¹ x."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(300, 8)) @ rng.normal(size=(8, 8))  # correlated, so that H matters
    y = x @ rng.normal(size=8) + rng.normal(size=300)
    before, after = (np.linalg.lstsq(x[keep:], y[keep:], rcond=None)[0][None] for keep in (0, 1))
    held_out = rng.normal(size=(100, 8)) @ np.linalg.cholesky(np.cov(x.T)).T
    public = x[150:].T @ x[150:]  # only an estimate
    with_it = inversion.probe((before, None), (after, None), x[:1].repeat(2, 0), held_out, curvature=public)
    without = inversion.probe((before, None), (after, None), x[:1].repeat(2, 0), held_out)
    assert with_it.records[0].similarity > 0.9 > without.records[0].similarity
    assert with_it.records[0].error is None


def test_equal_models_give_no_candidates(arms: tuple[Torch, Params]) -> None:
    subject, original = arms
    x = subject.x.numpy()
    found = inversion.probe(layer(original), layer(original), x[FORGET], x[HELD_OUT])
    assert found.candidates == 0 and found.auc.value == 0.5 and found.records[0].similarity == 0


def test_layers_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="expected W"):
        inversion.probe((np.ones((2, 3)), None), (np.zeros((2, 3)), None), np.ones((2, 4)), np.ones((2, 4)))
