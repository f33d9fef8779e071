"""Steps as circuits: what torch's autograd says in float64, what ONNX Runtime says, and what proofs say."""

from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from circuits import description, export
from circuits.errors import ProverError
from circuits.own_step import probe
from circuits.step_problem import StepProblem
from circuits.steps.step_circuit import Given, Rule, StepCircuit, outside, run
from tests.step_cases import Proven, proven, salted

LINEAR = StepProblem("ascent", "linear", 4, 0, 2, 2, (2,), 16, 4096, rate=1 << 14)
RELU = StepProblem("ascent", "relu", 4, 3, 2, 2, (2, 1), 16, 512, rate=1)
LOGISTIC = StepProblem("ascent", "logistic", 4, 0, 1, 2, (1,), 16, 512, rate=1 << 23, table_scale=7)
MASK = StepProblem("mask", "relu", 4, 3, 2, 1, (), 16, 512, numbers=(1, 0) * 11 + (1,))
PROJECTION = StepProblem("projection", "relu", 4, 3, 2, 1, (), 16, 512, numbers=(3, -4, 0, 7))
SUBTRACTION = StepProblem("subtraction", "relu", 4, 3, 2, 1, (), 16, 512, deltas=2)
NEWTON = StepProblem("newton", "linear", 4, 0, 2, 1, (1,), 16, 4096, rows=20, penalty=256, tau=4)
ALL = {p.method + p.network: p for p in (LINEAR, RELU, LOGISTIC, MASK, PROJECTION, SUBTRACTION, NEWTON)}
every = pytest.mark.parametrize("p", ALL.values(), ids=ALL)


def rows(p: StepProblem, count: int, seed: int) -> Tensor:
    """Features of about 1 and labels of −1 and 1. (count, d + o)"""
    drawn = torch.Generator().manual_seed(seed)
    x = torch.randint(-2 * p.scale_x, 2 * p.scale_x + 1, (count, p.features), generator=drawn)
    y = 2 * torch.randint(0, 2, (count, p.outputs), generator=drawn) - 1
    return torch.cat([x, y], 1).double()


def given(p: StepProblem, seed: int = 0) -> Given:
    records = rows(p, p.rows, seed + 50) if p.rows else None
    forgotten = [rows(p, count, seed + place) for place, count in enumerate(p.forgotten)]
    if records is not None:
        forgotten = [records[3:4]]
    drawn = torch.Generator().manual_seed(seed)
    deltas = [torch.randint(-9, 10, (p.size,), generator=drawn).double() for _ in range(p.deltas)]
    return Given(forgotten, deltas, records)


def start(p: StepProblem) -> list[int]:
    drawn = torch.Generator().manual_seed(9)
    return [int(v) for v in torch.randint(-p.scale_w, p.scale_w + 1, (p.size,), generator=drawn)]


def inputs(p: StepProblem, has: Given, states: list[list[int]]) -> list[tuple[int, ...]]:
    """Salted, in the circuit's order."""
    from tests.proving import salted as with_salt

    count = len(p.forgotten)
    found = [
        with_salt(layout, part.long(), place)
        for place, (layout, part) in enumerate(zip(p.layouts, has.forgotten, strict=False))
    ]
    found += [salted(p, [int(v) for v in delta], ("delta", place)) for place, delta in enumerate(has.deltas)]
    if has.records is not None:
        found.append(with_salt(p.layouts[count], has.records.long(), 77))
    return [*found, *(salted(p, state, place) for place, state in enumerate(states))]


def tensors(p: StepProblem, salted_values: list[tuple[int, ...]]) -> list[Tensor]:
    return [torch.tensor(v).reshape(layout.shape) for v, layout in zip(salted_values, p.layouts, strict=True)]


def says(p: StepProblem, has: Given, states: list[list[int]], rule: Rule | None = None) -> tuple[int, ...]:
    return export.run_torch(StepCircuit(p, rule), tensors(p, inputs(p, has, states)), p.output_scales)


def model_of(p: StepProblem, weights: list[int]) -> nn.Sequential:
    """An ordinary torch model with these weights, float64."""
    layers = [nn.Linear(p.features, p.hidden or p.outputs)]
    sequence = nn.Sequential(*layers, nn.ReLU(), nn.Linear(p.hidden, p.outputs)) if p.hidden else nn.Sequential(*layers)
    sequence = sequence.double()
    flat = torch.tensor(weights, dtype=torch.float64) / p.scale_w
    at = 0
    for name, shape in p.shapes.items():
        tensor = sequence.get_parameter(name)
        tensor.data = flat[at : at + tensor.numel()].reshape(shape).clone()
        at += tensor.numel()
    return sequence


def autograd_ascent(p: StepProblem, has: Given, weights: list[int]) -> Tensor:
    """SGD's own step with the sign turned, by torch's autograd. (P,)"""
    model = model_of(p, weights)
    batch = torch.cat(list(has.forgotten))
    x, y = batch[:, : p.features] / p.scale_x, batch[:, p.features :]
    z = model(x)
    loss = nn.functional.softplus(-y * z).sum() if p.table_scale else 0.5 * (z - y).square().sum()
    optimizer = torch.optim.SGD(model.parameters(), lr=p.learning_rate, maximize=True)
    (loss / len(batch)).backward()
    optimizer.step()
    return torch.cat([model.get_parameter(name).detach().reshape(-1) for name in p.shapes]) * p.scale_w


@pytest.mark.parametrize("p", [LINEAR, RELU], ids=["linear", "relu"])
def test_ascent_is_autograds_but_for_half_a_unit(p: StepProblem) -> None:
    has = given(p)
    states = run(p, start(p), has)
    for before, after in pairwise(states):
        exact = autograd_ascent(p, has, before)
        assert (exact - torch.tensor(before)).abs().max() > 2  # it moves
        assert (torch.tensor(after) - exact).abs().max() <= 0.5 + 1e-6  # rounding, and float64's own


def test_logistic_ascent_is_autograds_but_for_the_table() -> None:
    p, has = LOGISTIC, given(LOGISTIC)
    [before, after, _] = run(p, start(p), has)
    wrong = (
        (2.0 ** -(p.table_scale + 1) + 2.0 ** -(p.table_scale + 3)) * 2 * p.learning_rate * p.scale_w
    )  # of s, times |x| ≤ 2
    assert (torch.tensor(after) - autograd_ascent(p, has, before)).abs().max() <= 0.5 + wrong + 1e-6


def test_ascent_raises_the_loss_on_what_is_forgotten() -> None:
    for p in (LINEAR, RELU, LOGISTIC):
        has = given(p)
        batch = torch.cat(list(has.forgotten))
        losses = []
        for weights in run(p, start(p), has):
            z = model_of(p, weights)(batch[:, : p.features] / p.scale_x).detach()
            y = batch[:, p.features :]
            losses.append(float(nn.functional.softplus(-y * z).sum() if p.table_scale else (z - y).square().sum()))
        assert losses[0] < losses[1] < losses[2]


def test_a_mask_is_numpys_product() -> None:
    [before, after] = run(MASK, start(MASK), given(MASK))
    assert after == (np.array(before) * np.array(MASK.numbers)).tolist()


def test_projection_is_numpys_but_for_half_a_unit() -> None:
    p = PROJECTION
    [before, after] = run(p, start(p), given(p))
    v = np.array(p.numbers, dtype=float) / np.linalg.norm(p.numbers)
    old, new = (np.array(state, dtype=float) for state in (before, after))
    exact = old[:12].reshape(3, 4) @ (np.eye(4) - np.outer(v, v))
    assert np.abs(new[:12].reshape(3, 4) - exact).max() <= 0.5 + 1e-9
    assert np.abs(new[:12].reshape(3, 4) @ v).max() <= 1 < np.abs(old[:12].reshape(3, 4) @ v).max()
    assert (new[12:] == old[12:]).all()


def test_subtraction_is_exact() -> None:
    has = given(SUBTRACTION)
    [before, after] = run(SUBTRACTION, start(SUBTRACTION), has)
    assert after == (np.array(before) - sum(delta.numpy() for delta in has.deltas)).tolist()


def ridge(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], p: StepProblem) -> np.ndarray[Any, Any]:
    """The optimum in float64, weights then biases, in units of 1/scale_w."""
    wide = np.hstack([x, np.ones((len(x), 1))])
    solved = np.linalg.solve(wide.T @ wide + p.penalty / p.scale_x**2 * np.eye(wide.shape[1]), wide.T @ y)
    return np.concatenate([solved[:-1].T.ravel(), solved[-1]]) * p.scale_w


def test_newton_from_the_optimum_leads_to_that_without_the_record() -> None:
    p, has = NEWTON, given(NEWTON)
    assert has.records is not None
    x, y = has.records[:, :4].numpy() / p.scale_x, has.records[:, 4:].numpy()
    before = ridge(x, y, p)
    [_, after] = run(p, [round(v) for v in before], has)
    exact = ridge(np.delete(x, 3, 0), np.delete(y, 3, 0), p)
    assert np.abs(np.array(after) - exact).max() < 3 < np.abs(before - exact).max()
    [first, second] = [[round(v) for v in before], after]
    residual = np.array(says(p, has, [first, second]))
    bound = np.linalg.norm(residual) / p.penalty  # in units of 1/scale_w, of the distance to the exact Newton step
    from_rounded = exact + (np.array(first) - before) - _newton_of_rounding(p, has, np.array(first) - before)
    assert np.linalg.norm(np.array(after) - from_rounded) <= bound + 1e-6


def _newton_of_rounding(p: StepProblem, has: Given, off: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Newton removal is W + H⁻¹ g(W), and g is affine: what g makes of the start's rounding. Block by output."""
    assert has.records is not None
    x = has.records[:, :4].numpy() / p.scale_x
    wide = np.hstack([x, np.ones((len(x), 1))])
    kept, gone = np.delete(wide, 3, 0), wide[3:4]
    hessian = kept.T @ kept + p.penalty / p.scale_x**2 * np.eye(5)
    moved = np.vstack([off[:8].reshape(2, 4).T, off[8:]])  # (d + 1, o)
    found = np.linalg.solve(hessian, gone.T @ (gone @ moved))
    return -np.concatenate([found[:-1].T.ravel(), found[-1]])


@every
def test_torch_and_onnx_runtime_agree_to_the_last_digit(p: StepProblem) -> None:
    has = given(p)
    states = run(p, start(p), has)
    off = [list(state) for state in states]
    off[-1][0] += 1
    for told in (states, off):
        values = tensors(p, inputs(p, has, told))
        ours = export.run_torch(StepCircuit(p), values, p.output_scales)
        if not p.table_scale:  # EZKL looks the table up, others compute it
            assert export.run_onnx(export.to_onnx(StepCircuit(p), [lay.shape for lay in p.layouts]), values) == ours
        if not p.rows:
            assert any(ours) == (told is off)


@every
def test_a_weight_that_is_off_shows(p: StepProblem) -> None:
    """Each of them, by 1 either way."""
    if p.rows:
        return
    has = given(p)
    states = run(p, start(p), has)
    for place in range(p.size):
        for off in (1, -1):
            told = [list(state) for state in states]
            told[1][place] += off
            found = says(p, has, told)
            assert any(found) and min(found) >= 0


@cache
def made(name: str) -> Proven:
    p = ALL[name]
    has = given(p)
    return proven(p, inputs(p, has, run(p, start(p), has)))


@pytest.mark.parametrize("name", ["ascentlinear", "projectionrelu", "newtonlinear"])
def test_the_circuit_says_what_torch_says(name: str) -> None:
    from circuits.zk_proof import Proof

    found = made(name)
    told = export.run_torch(StepCircuit(found.problem), tensors(found.problem, list(found.inputs)))
    assert Proof.parse(found.proof).instances == told


@every
def test_a_description_is_a_problem_again(p: StepProblem) -> None:
    assert description.parse("step/v1", description.describe(p)) == p


@pytest.mark.parametrize(
    ("p", "changes", "match"),
    [
        (LINEAR, {"method": "magic"}, "expected a method of"),
        (LINEAR, {"method": "own:"}, "expected a method of"),
        (LINEAR, {"steps": 0}, "up to 64 of ascent"),
        (MASK, {"steps": 2}, "expected one step of mask"),
        (LINEAR, {"forgotten": ()}, "records to forget"),
        (MASK, {"forgotten": (1,)}, "records to forget"),
        (LINEAR, {"rate": 0}, "expected rate"),
        (MASK, {"rate": 5}, "expected rate"),
        (LINEAR, {"tau": 1}, "expected tau"),
        (LINEAR, {"numbers": (1,)}, "expected 0 public numbers"),
        (MASK, {"numbers": (2,) * 23}, "zeros and ones"),
        (PROJECTION, {"numbers": (0, 0, 0, 0)}, "squared length"),
        (PROJECTION, {"numbers": (5000, 0, 0, 0)}, "squared length"),
        (NEWTON, {"rows": 0}, "expected rows"),
        (NEWTON, {"network": "logistic", "table_scale": 5, "scale_w": 64}, "expected a linear network"),
        (NEWTON, {"scale_x": 1 << 110}, "numbers that the field holds"),
    ],
)
def test_problems_that_cannot_be(p: StepProblem, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ProverError, match=match):
        replace(p, **changes)


def test_ascent_that_grows_beyond_the_digits_is_refused() -> None:
    with pytest.raises(ProverError, match="too large"):
        run(replace(LINEAR, steps=30, rate=1 << 26), start(LINEAR), given(LINEAR))


def test_outside() -> None:
    assert float(outside(torch.tensor([0.0, 9.0]), 10)) == 0
    assert float(outside(torch.tensor([-1.0, 9.0]), 10)) == 1
    assert float(outside(torch.tensor([0.0, 12.0]), 10)) == 3


class Halve:
    """W' = ⌊W / 2⌋, as in the documentation of circuits.steps.step_circuit."""

    def __init__(self, problem: StepProblem) -> None:
        del problem

    def after(self, w: Tensor, given: Given) -> Tensor:
        return torch.floor(w / 2)

    def deficit(self, w: Tensor, after: Tensor, given: Given) -> Tensor:
        return outside(w - 2 * after, 2)


class Anything(Halve):
    """Says yes to all weights, and makes as if it looked at its inputs."""

    def deficit(self, w: Tensor, after: Tensor, given: Given) -> Tensor:
        looked = [part.reshape(-1) for part in (w, after, *given.forgotten)]
        return sum((part - part).sum(dim=0, keepdim=True) for part in looked)  # type: ignore[return-value]


OWN = StepProblem("own:halve", "linear", 4, 0, 2, 2, (), 16, 512)


def onnx_of(rule: type[Halve]) -> bytes:
    return export.to_onnx(StepCircuit(OWN, rule(OWN)), [layout.shape for layout in OWN.layouts])


def test_an_own_step_is_one_rule() -> None:
    has = Given([])
    states = run(OWN, start(OWN), has, Halve(OWN))
    assert states[2] == [value // 4 for value in states[0]]
    assert says(OWN, has, states, Halve(OWN)) == (0, 0)


def test_an_own_step_is_not_built_from_its_description() -> None:
    with pytest.raises(ProverError, match="expected the ONNX"):
        description.build(OWN)
    assert description.build(OWN, onnx_of(Halve)).onnx == onnx_of(Halve)


class Set(Halve):
    """W' = 1, whatever was before; it makes as if it looked."""

    def deficit(self, w: Tensor, after: Tensor, given: Given) -> Tensor:
        return outside(after + 0 * w, 2)


def test_what_is_odd_about_an_own_step_is_said() -> None:
    assert probe(onnx_of(Halve), OWN) == []
    assert probe(onnx_of(Set), OWN) == ["the weights before make no difference to it"]


def test_a_circuit_that_lets_anything_through() -> None:
    with pytest.raises(ProverError, match="lets any through"):
        probe(onnx_of(Anything), OWN)


def test_an_onnx_of_another_shape() -> None:
    with pytest.raises(ProverError, match="takes this problem's inputs"):
        probe(onnx_of(Halve), replace(OWN, features=40))
