"""The gradient against the equation in Python integers, and the radius against optima that others find."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from circuits.errors import CommitmentError, ProverError
from circuits.export import run_onnx, run_torch, to_onnx
from circuits.optimum import Optimum, module_of, solve
from circuits.problem import Loss, Problem
from circuits.vicinity import radius
from tests.proving import FORGOTTEN, JITTERED, Inputs, problem, records_for

LOSSES: list[Loss] = ["ridge", "squared-hinge", "logistic"]
CASES = [(loss, outputs, forgotten) for loss in LOSSES for outputs in (1, 3) for forgotten in ((1,), (2,), (1, 1))]


def instance(
    loss: Loss, outputs: int = 1, forgotten: tuple[int, ...] = (1,)
) -> tuple[Optimum, torch.Tensor, list[torch.Tensor]]:
    p = problem(loss, outputs=outputs, forgotten=forgotten, scale_y=4 if loss == "ridge" else 1)
    records = records_for(p, seed=outputs)
    return module_of(p), records, list(records[[FORGOTTEN, 20][: sum(forgotten)], : p.features].split(list(forgotten)))


def argument(z: int, p: Problem) -> int:
    return max(-p.table_limit, min(p.table_limit, (z + (1 << p.division >> 1)) >> p.division))


def entry(q: int, p: Problem) -> int:
    """2^k σ(q/2^k), rounded."""
    return math.floor((1 << p.table_scale) / (1 + math.exp(-q / (1 << p.table_scale))) + 0.5)


def by_hand(p: Problem, records: list[list[int]], w: list[list[int]], f: list[list[int]]) -> list[int]:
    """G and the count kept, in Python's integers, a record at a time."""
    kept = [
        row
        for row in records
        if all(sum((a - b) ** 2 for a, b in zip(row[: p.features], g, strict=True)) > p.tau for g in f)
    ]
    unit = p.scale_x * p.scale_w
    gradient = [[p.penalty * value for value in row] for row in w]
    for row in kept:
        x, y = row[: p.features], row[p.features :]
        for o in range(p.outputs):
            z = sum(x[i] * w[i][o] for i in range(p.features))
            slope = {
                "ridge": z - unit // p.scale_y * y[o],
                "squared-hinge": -y[o] * max(0, unit - y[o] * z),
                "logistic": -y[o] * entry(-y[o] * argument(z, p), p) << p.division,
            }[p.loss]
            for i in range(p.features):
                gradient[i][o] += x[i] * slope
    return [*(value for row in gradient for value in row), len(kept)]


@pytest.mark.parametrize(("loss", "outputs", "forgotten"), CASES)
def test_the_module_computes_the_equation_exactly(loss: Loss, outputs: int, forgotten: tuple[int, ...]) -> None:
    module, records, f = instance(loss, outputs, forgotten)
    weights = torch.randint(-30000, 30000, (5, outputs))
    tensors = Inputs.of(module.problem, records, weights, *f).tensors(module.problem)
    expected = by_hand(module.problem, records.tolist(), weights.tolist(), torch.cat(f).tolist())
    assert list(run_torch(module, tensors, module.problem.output_scales)) == expected
    if loss != "logistic":  # its table is in test_export
        assert list(run_onnx(to_onnx(module, [layout.shape for layout in module.problem.layouts]), tensors)) == expected


def kept_floats(p: Problem, records: torch.Tensor, f: list[torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    x = records[:, : p.features].double().numpy() / p.scale_x
    distance = ((x[:, None] - torch.cat(f).double().numpy()[None] / p.scale_x) ** 2).sum(-1)
    keep = (distance > p.tau / p.scale_x**2).all(1)
    return x[keep], records[:, p.features :].double().numpy()[keep] / p.scale_y


def optimum_by_scipy(p: Problem, records: torch.Tensor, f: list[torch.Tensor]) -> np.ndarray:
    x, y = kept_floats(p, records, f)
    penalty = p.penalty / p.scale_x**2

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(p.features, p.outputs)
        z = x @ w
        if p.loss == "logistic":
            loss, slope = np.logaddexp(0, -y * z).sum(), -y * expit(-y * z)
        else:
            slack = z - y if p.loss == "ridge" else np.maximum(0, 1 - y * z)
            loss, slope = (slack**2).sum() / 2, slack if p.loss == "ridge" else -y * slack
        return loss + penalty * (w**2).sum() / 2, (x.T @ slope + penalty * w).ravel()

    start = np.zeros(p.features * p.outputs)
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 0, "gtol": 1e-11})
    assert abs(objective(found.x)[1]).max() < 1e-6
    return found.x.reshape(p.features, p.outputs)


@pytest.mark.parametrize(("loss", "outputs", "forgotten"), CASES)
def test_the_optimum_is_never_further_than_the_radius(loss: Loss, outputs: int, forgotten: tuple[int, ...]) -> None:
    module, records, f = instance(loss, outputs, forgotten)
    p = module.problem
    best = optimum_by_scipy(p, records, f)
    solved = solve(module, records, f)
    off = table_gap(p, kept_floats(p, records, f)[0]) * math.sqrt(outputs) if loss == "logistic" else 1e-7
    nearest = 0.0
    for noise in (0, 1, 100, 10_000):  # the solution, and weights ever further from it
        weights = solved + torch.randint(-noise, noise + 1, solved.shape)
        *gradient, kept = run_torch(module, Inputs.of(p, records, weights, *f).tensors(p), p.output_scales)
        distance = np.linalg.norm(weights.double().numpy() / p.scale_w - best)
        stated = radius(gradient, scale_w=p.scale_w, penalty=p.penalty)
        assert distance <= stated + off  # what the table's optimum, or scipy's own, is off by
        between = float((weights - solved).double().norm()) / p.scale_w
        nearest = stated if noise == 0 else nearest
        assert between <= stated + nearest  # both are that near to one and the same optimum: no slack
        assert kept == p.rows - 1 - sum(forgotten)  # the duplicate goes as well
        if noise == 0:
            assert stated < 0.03


def table_gap(p: Problem, x: np.ndarray) -> float:
    """How far the optimum with a table can be from the one with σ, for an output."""
    off = 2.0 ** -(p.table_scale + 1) + 2.0 ** -(p.table_scale + 3)
    return off * math.sqrt(len(x)) * float(np.linalg.norm(x)) / (p.penalty / p.scale_x**2)


def test_logistic_weights_are_those_of_scikit_learn() -> None:
    module, records, f = instance("logistic")
    p = module.problem
    x, y = kept_floats(p, records, f)
    theirs = LogisticRegression(C=p.scale_x**2 / p.penalty, fit_intercept=False, tol=1e-12, max_iter=10_000).fit(
        x, y[:, 0]
    )
    ours = solve(module, records, f).double().numpy()[:, 0] / p.scale_w
    assert np.linalg.norm(theirs.coef_[0] - ours) < 0.01 < table_gap(p, x) < 1


def test_weights_are_those_of_scikit_learn() -> None:
    module, records, f = instance("squared-hinge")
    p = module.problem
    x, y = kept_floats(p, records, f)
    theirs = LinearSVC(C=p.scale_x**2 / p.penalty / 2, fit_intercept=False, tol=1e-10, max_iter=100_000).fit(x, y[:, 0])
    ours = solve(module, records, f).double().numpy()[:, 0] / p.scale_w
    assert np.abs(theirs.coef_[0] - ours).max() < 1e-3


def test_a_jittered_duplicate_within_tau_is_excluded_and_one_beyond_is_not() -> None:
    for jitter, kept in ((4, 38), (6, 39)):  # 5 * 4² <= 128 < 5 * 6²
        p = problem()
        records = records_for(p)
        records[JITTERED, : p.features] = records[FORGOTTEN, : p.features] + jitter
        tensors = Inputs.of(p, records, torch.zeros(5, 1).long(), records[FORGOTTEN : FORGOTTEN + 1, :5]).tensors(p)
        assert run_torch(module_of(p), tensors)[-1] == kept


def test_settling_on_integers_beats_rounding() -> None:
    module, records, f = instance("ridge")
    p = module.problem
    best = optimum_by_scipy(p, records, f)
    rounded = torch.from_numpy(best * p.scale_w).round().long()

    def norm(weights: torch.Tensor) -> float:
        gradient = run_torch(module, Inputs.of(p, records, weights, *f).tensors(p))[:-1]
        return radius(gradient, scale_w=p.scale_w, penalty=p.penalty)

    assert norm(solve(module, records, f)) <= norm(rounded)


def test_impossible_problems_are_refused() -> None:
    for changes, message in (
        ({"rows": 0}, "rows to be 1"),
        ({"penalty": 0}, "penalty to be 1"),
        ({"tau": -1}, "tau"),
        ({"loss": "hinge"}, "expected a loss of"),
        ({"forgotten": ()}, "one forgotten record"),
        ({"forgotten": (1, 0)}, "one forgotten record"),
        ({"loss": "ridge", "scale_y": 3}, "divide"),
        ({"scale_y": 2}, "labels"),
        ({"table_scale": 9}, "no table for a squared-hinge"),
        ({"loss": "logistic", "table_scale": 0}, "table_scale from 1 to 10"),
        ({"loss": "logistic", "table_scale": 11}, "table_scale from 1 to 10"),
        ({"loss": "logistic", "table_scale": 9, "scale_w": 3000}, "power of two from 1024 to 262144"),
        ({"loss": "logistic", "table_scale": 9, "scale_w": 4096}, "power of two from 1024 to 262144"),
        ({"loss": "logistic", "table_scale": 9, "scale_w": 4}, "power of two from 1024 to 262144"),
    ):
        with pytest.raises(ProverError, match=message):
            problem(**changes)
    with pytest.raises(ProverError, match="24 significant bits"):
        module_of(problem(penalty=(1 << 24) + 1))
    with pytest.raises(CommitmentError, match="expected shapes"):
        solve(module_of(problem()), torch.zeros(3, 6).long(), [torch.zeros(1, 5).long()])
