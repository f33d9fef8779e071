"""U-LiRA: a method that does nothing is found out, retraining is not, and shadows are trained once for each method."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from certify.audit import roc, ulira
from certify.audit.adapter import Params, Recipe, Torch, linear
from certify.audit.arms import Records
from certify.audit.shadows import confidences, train, unstack
from certify.errors import InputError

RECORDS = Records(
    retain=np.arange(100, 160), forget=np.arange(0, 40), held_out=np.arange(40, 80), test=np.arange(80, 100)
)


@pytest.fixture(scope="module")
def arms() -> tuple[Torch, Params, list[Params]]:
    """Fewer records than inputs and labels at random: a linear model learns every one by heart."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(160, 200))).float()
    subject = linear(x, torch.from_numpy(rng.integers(0, 2, 160)), Recipe(epochs=20, rate=0.2, batch=20))
    original = next(unstack(train(subject, [np.concatenate([RECORDS.retain, RECORDS.forget])], ["original"])))
    return subject, original, list(unstack(train(subject, [RECORDS.retain] * 2, ["r1", "r2"])))


def stack(params: Params) -> Params:
    return {name: value.unsqueeze(0) for name, value in params.items()}


def nothing(params: Params, forget: np.ndarray, retain: np.ndarray) -> Params:
    return params


def ascent(subject: Torch, steps: int) -> ulira.Method:
    def unlearn(params: Params, forget: np.ndarray, retain: np.ndarray) -> Params:
        at = torch.from_numpy(forget)
        for _ in range(steps):
            own = {name: value.clone().requires_grad_() for name, value in params.items()}
            (-subject.loss(subject.apply(own, subject.x[at]), subject.y[at]).mean()).backward()
            params = {name: (value - 0.5 * value.grad).detach() for name, value in own.items()}
        return params

    return unlearn


def retraining(subject: Torch) -> ulira.Method:
    def unlearn(params: Params, forget: np.ndarray, retain: np.ndarray) -> Params:
        return next(unstack(train(subject, [retain], [f"again/{forget.sum()}"])))

    return unlearn


def attack(arms: tuple[Torch, Params, list[Params]], method: ulira.Method, name: str, **more: object) -> ulira.ULira:
    subject, original, retrained = arms
    unlearned = method({k: v.clone() for k, v in original.items()}, RECORDS.forget, RECORDS.retain)
    given = {"count": 32, "seed": "s", **more}
    return ulira.attack(subject, RECORDS, method, name, unlearned=unlearned, retrained=retrained, **given)


def test_a_method_that_does_nothing_is_found_out(arms: tuple[Torch, Params, list[Params]]) -> None:
    found = attack(arms, nothing, "nothing")
    assert found.unlearned.low > 0.85 and found.difference.low > 0.2 and found.epsilon > 0.5
    assert all(one.low < 0.5 < one.high for one in found.retrained)
    assert json.loads(json.dumps(asdict(found)))["method"] == "nothing"


def test_ascent_that_pushes_away_is_found_out_too(arms: tuple[Torch, Params, list[Params]]) -> None:
    """Where confidence in forgotten records is no higher than in held-out ones, a plain attack calls the model clean."""
    subject, original, _ = arms
    method = ascent(subject, 12)
    asked = confidences(subject, stack(method(original, RECORDS.forget, RECORDS.retain)), RECORDS.candidates)[0]
    assert roc.auc(asked[:40], asked[40:]).value < 0.55
    found = attack(arms, method, "ascent, 12 steps")
    assert found.unlearned.low > 0.6 and found.difference.low > 0


def test_retraining_is_not_found_out(arms: tuple[Torch, Params, list[Params]]) -> None:
    found = attack(arms, retraining(arms[0]), "retraining", count=16)
    assert found.unlearned.low < 0.55 and found.epsilon < 0.5
    nothing_done = attack(arms, nothing, "nothing", count=16)
    assert found.separation < 0.3 * nothing_done.separation


def test_worst_records_come_first_and_every_one_is_there(arms: tuple[Torch, Params, list[Params]]) -> None:
    examples = attack(arms, nothing, "nothing", count=8).examples
    assert sorted(one.record for one in examples) == list(range(40))
    apart = [one.unlearned - one.retrained for one in examples]
    assert apart == sorted(apart, reverse=True)


def test_stored_shadows_of_another_method_are_refused(arms: tuple[Torch, Params, list[Params]], tmp_path: Path) -> None:
    calls = []

    def counted(params: Params, forget: np.ndarray, retain: np.ndarray) -> Params:
        calls.append(len(forget))
        return params

    given = {"count": 4, "seed": "s", "folder": tmp_path}
    first = ulira.shadows(arms[0], RECORDS, counted, "counted", **given)
    assert calls == [40] * 4  # each shadow forgets the half of the candidates that it learnt
    again = ulira.shadows(arms[0], RECORDS, counted, "counted", **given)
    assert len(calls) == 4 and (again.confidences == first.confidences).all()
    with pytest.raises(InputError, match="expected shadows of this plan"):
        ulira.shadows(arms[0], RECORDS, nothing, "nothing", **given)


def test_one_retrained_model_is_too_few(arms: tuple[Torch, Params, list[Params]]) -> None:
    subject, original, retrained = arms
    with pytest.raises(InputError, match="at least 2 retrained"):
        ulira.attack(subject, RECORDS, nothing, "nothing", unlearned=original, retrained=retrained[:1], seed="s")
