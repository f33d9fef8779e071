"""Certified removal: the paper's bound against true gradients, SciPy's optimum and autograd, over many deletions."""

import math
import random
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from scipy.optimize import minimize  # noqa: E402
from sklearn.datasets import load_breast_cancer  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from circuits.errors import CircuitError  # noqa: E402
from circuits.export import run_onnx, to_onnx  # noqa: E402
from circuits.steps.certified_removal import (  # noqa: E402
    CertifiedRemoval,
    RemovalStep,
    RetrainingDue,
    Trained,
    Training,
    budget,
)
from circuits.steps.step import Task  # noqa: E402

RECIPE = Training(l2=1e-2, sigma=4.0, epsilon=1.0, delta=1e-4)


def patients() -> tuple[Tensor, Tensor]:
    x, y = load_breast_cancer(return_X_y=True)
    x = torch.tensor((x - x.mean(0)) / x.std(0))
    x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    return x / x.norm(dim=1, keepdim=True), torch.tensor(y)


def new(dtype: torch.dtype = torch.float64) -> nn.Linear:
    return nn.Linear(31, 1, bias=False, dtype=dtype)


def noise(seed: int) -> Tensor:
    drawn = random.Random(seed)
    return torch.tensor([[drawn.gauss(0.0, RECIPE.sigma)] for _ in range(31)], dtype=torch.float64)


def true_gradient(w: Tensor, x: Tensor, y: Tensor, b: Tensor) -> float:
    """By autograd, of the objective as the paper writes it, with labels of 1 and −1."""
    v = w.detach().double().clone().requires_grad_()
    signs = 2.0 * y - 1
    total = -nn.functional.logsigmoid(signs * (x @ v)).sum() + RECIPE.l2 * len(x) / 2 * (v @ v) + b[:, 0] @ v
    (found,) = torch.autograd.grad(total, v)
    return float(found.norm())


def bound_of(fields: Any) -> float:
    bound: float = 0.25 * fields["data"] * fields["step"] * fields["moved"] + fields["residual"]
    return bound


def test_training_ends_at_scipy_s_optimum_of_the_perturbed_objective() -> None:
    x, y = patients()
    model = new()
    trained = RECIPE.fit(model, x, y, seed=3)
    b, a, signs = noise(3).numpy()[:, 0], x.numpy(), 2.0 * y.numpy() - 1

    def objective(w: Any) -> Any:
        return np.logaddexp(0, -signs * (a @ w)).sum() + RECIPE.l2 * len(a) / 2 * (w @ w) + b @ w

    found = minimize(objective, np.zeros(31), method="BFGS", options={"gtol": 1e-6})
    assert np.allclose(model.weight.detach().numpy()[0], found.x, atol=1e-4)
    assert trained.gradient < 1e-10
    assert trained.gradient == pytest.approx(true_gradient(model.weight[0], x, y, noise(3)), abs=1e-11)


@pytest.mark.parametrize(("dtype", "at_once"), [(torch.float64, 1), (torch.float64, 2), (torch.float32, 1)])
def test_the_true_gradient_stays_below_the_stated_bounds_until_retraining_is_due(dtype: Any, at_once: int) -> None:
    x, y = patients()
    model = new(dtype)
    trained = RECIPE.fit(model, x, y, seed=5)
    spent, gone = trained.gradient, 0
    limit = budget(sigma=4.0, epsilon=1.0, delta=1e-4)
    assert limit == pytest.approx(4 / math.sqrt(2 * math.log(15000)), rel=1e-12)
    with pytest.raises(RetrainingDue, match=r"retraining is due: this removal takes .* of 0\.9121 are left"):
        while True:
            before = model.weight.detach().clone()
            cut = gone + at_once
            task = Task((x[gone:cut], y[gone:cut]), (x[cut:], y[cut:]))
            shown = CertifiedRemoval.after(trained, spent=spent).run(model, task)
            spent, gone = spent + bound_of(shown.fields), cut
            true = true_gradient(model.weight[0], x[gone:], y[gone:], noise(5))
            assert 0 < true <= spent <= limit
    assert gone > 10
    assert torch.equal(model.weight, before)


def test_without_the_step_the_gradient_is_far_above_the_bound() -> None:
    x, y = patients()
    model = new()
    trained = RECIPE.fit(model, x, y, seed=5)
    stayed = true_gradient(model.weight[0], x[6:], y[6:], noise(5))
    shown = CertifiedRemoval.after(trained, spent=0.0).run(model, Task((x[:6], y[:6]), (x[6:], y[6:])))
    moved = true_gradient(model.weight[0], x[6:], y[6:], noise(5))
    assert moved <= bound_of(shown.fields) < stayed / 2


def test_the_module_agrees_with_autograd_and_onnx_runtime() -> None:
    x, y = patients()
    x, xs, ys = x[6:40], x[:6], y[:6, None].double()
    w, delta = noise(1) / 10, noise(2) / 100
    module = RemovalStep(l2=RECIPE.l2)
    after, residual, moved = module(x, xs, ys, w, delta)

    def objective(v: Tensor, a: Tensor) -> Tensor:
        return nn.functional.softplus(a @ v).sum() + RECIPE.l2 * len(a) / 2 * (v @ v)

    hessian = torch.func.hessian(lambda v: objective(v, x))(w[:, 0])
    g = torch.func.grad(lambda v: objective(v, xs) - ys[:, 0] @ (xs @ v))(w[:, 0])
    assert torch.allclose(residual[:, 0], hessian @ delta[:, 0] - g, rtol=1e-11, atol=1e-12)
    assert torch.equal(after, w + delta) and torch.equal(moved, x @ delta)
    inputs = [x, xs, ys, w, delta]
    by_onnx = run_onnx(to_onnx(module, [tuple(tensor.shape) for tensor in inputs]), inputs)
    assert np.allclose(by_onnx, torch.cat([after, residual, moved]).flatten().numpy(), rtol=1e-12, atol=1e-12)


def test_noise_is_fresh_for_every_training_and_not_of_a_generator_with_few_seeds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "randn", None)
    monkeypatch.setattr(torch, "Generator", None)
    x, y = patients()
    first, second = new(), new()
    RECIPE.fit(first, x, y)
    RECIPE.fit(second, x, y)
    assert not torch.allclose(first.weight, second.weight, atol=1e-3)


def test_what_the_bound_takes_for_granted_is_checked() -> None:
    x, y = patients()
    with pytest.raises(CircuitError, match=r"expected records of norm 1 at most, which the bound needs, got 2"):
        RECIPE.fit(new(), 2 * x, y)
    with pytest.raises(CircuitError, match="expected targets of 0 and 1"):
        RECIPE.fit(new(), x, 2 * y - 1)
    with pytest.raises(CircuitError, match="no bias"):
        RECIPE.fit(nn.Linear(31, 1), x, y)
    with pytest.raises(CircuitError, match="0 < ε ≤ 1"):
        Training(l2=1e-2, sigma=4.0, epsilon=3.0, delta=1e-4).fit(new(), x, y)
    step = CertifiedRemoval.after(Trained(1e-2, 4.0, 1.0, 1e-4, 0.0), spent=0.0)
    with pytest.raises(CircuitError, match="norm 1 at most"):
        step.run(new(), Task((x[:1], y[:1]), (3 * x[1:], y[1:])))
