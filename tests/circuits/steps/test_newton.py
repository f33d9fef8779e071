"""Newton removal against closed forms in numpy, torch's own Hessian, scikit-learn's optimum and ONNX Runtime."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from sklearn.datasets import load_breast_cancer, load_diabetes  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from circuits.export import run_onnx, to_onnx  # noqa: E402
from circuits.steps import newton  # noqa: E402
from circuits.steps.newton import LinearStep, Newton, SolveError, conjugate_gradients  # noqa: E402
from circuits.steps.step import Task  # noqa: E402

L2 = 0.05


def half_squares(z: Tensor, y: Tensor) -> Tensor:
    return (z.squeeze(-1) - y).square().mean() / 2


def log_loss(z: Tensor, y: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(z.squeeze(-1), y)


def diabetes() -> tuple[Tensor, Tensor]:
    x, y = load_diabetes(return_X_y=True)
    return torch.tensor(x) * 20, torch.tensor(y) / 100


def patients() -> tuple[Tensor, Tensor]:
    x, y = load_breast_cancer(return_X_y=True)
    return torch.tensor((x - x.mean(0)) / x.std(0))[:, :8] / 4, torch.tensor(y).double()


def ridge_optimum(x: Tensor, y: Tensor) -> np.ndarray[Any, Any]:
    a, b = x.numpy(), y.numpy()
    return np.linalg.solve(a.T @ a + len(a) * L2 * np.eye(a.shape[1]), a.T @ b)


def linear(weights: np.ndarray[Any, Any] | Tensor, dtype: torch.dtype = torch.float64) -> nn.Linear:
    model = nn.Linear(len(weights), 1, bias=False, dtype=dtype)
    with torch.no_grad():
        model.weight.copy_(torch.as_tensor(weights)[None])
    return model


def task(x: Tensor, y: Tensor, gone: int, loss: Any) -> Task:
    return Task(forget=(x[:gone], y[:gone]), retain=(x[gone:], y[gone:]), loss=loss)


@pytest.mark.parametrize("gradient", ["forgotten", "retained"])
def test_one_step_of_ridge_is_the_retrained_optimum(gradient: Any) -> None:
    x, y = diabetes()
    model = linear(ridge_optimum(x, y))
    step = Newton(l2=L2, gradient=gradient, tolerance=1e-8)
    shown = step.run(model, task(x, y, 40, half_squares))
    retrained = ridge_optimum(x[40:], y[40:])
    assert (
        np.abs(model.weight.detach().numpy()[0] - retrained).max()
        < 1e-10
        < np.abs(ridge_optimum(x, y) - retrained).max()
    )
    assert shown.fields["left"] < 1e-9  # type: ignore[operator]


def test_from_anywhere_a_step_of_ridge_ends_at_the_retrained_optimum_only_with_the_retained_gradient() -> None:
    x, y = diabetes()
    retrained = ridge_optimum(x[40:], y[40:])
    distances = []
    for gradient in ("retained", "forgotten"):
        model = linear(np.ones(10))
        Newton(l2=L2, gradient=gradient, tolerance=1e-8).run(model, task(x, y, 40, half_squares))  # type: ignore[arg-type]
        distances.append(np.abs(model.weight.detach().numpy()[0] - retrained).max())
    assert distances[0] < 1e-10 and distances[1] > 0.01


def optimum(x: Tensor, y: Tensor) -> np.ndarray[Any, Any]:
    """scikit-learn's, of the same objective."""
    judge = LogisticRegression(C=1 / (L2 * len(x)), fit_intercept=False, solver="newton-cholesky", tol=1e-12)
    found: np.ndarray[Any, Any] = judge.fit(x.numpy(), y.numpy()).coef_[0]
    return found


def test_a_logistic_step_is_what_torch_s_hessian_gives_and_lands_near_scikit_learn_s_optimum() -> None:
    x, y = patients()
    w = torch.tensor(optimum(x, y))
    kept = (x[30:], y[30:])

    def objective(v: Tensor) -> Tensor:
        return len(kept[0]) * (log_loss(kept[0] @ v, kept[1]) + L2 / 2 * (v @ v))

    hessian, gradient = torch.func.hessian(objective)(w), torch.func.grad(objective)(w)
    expected = w - torch.linalg.solve(hessian, gradient)
    model = linear(w)
    shown = Newton(l2=L2, tolerance=1e-9).run(model, task(x, y, 30, log_loss))
    assert torch.allclose(model.weight[0], expected, rtol=0, atol=1e-10)
    retrained = optimum(*kept)
    after = np.linalg.norm(model.weight.detach().numpy()[0] - retrained)
    assert after < 0.05 * np.linalg.norm(w.numpy() - retrained)
    left = shown.fields["left"]
    assert isinstance(left, float) and after <= left / (L2 * len(kept[0])) + 1e-9  # what the docstring says of `left`
    assert left == pytest.approx(float(torch.func.grad(objective)(model.weight[0].detach()).norm()), rel=1e-6)


def test_products_with_the_hessian_of_a_network_are_torch_s_hessian(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 3), nn.Tanh(), nn.Dropout(0.5), nn.Linear(3, 2)).double()
    x, y = patients()
    given = Task(forget=(x[:5], y[:5].long()), retain=(x[5:60], y[5:60].long()))
    monkeypatch.setattr(newton, "LARGEST_BATCH", 16)
    objective = newton.Objective(model, given, L2)
    w, v = objective.weights(), torch.randn(35, dtype=torch.float64)
    model.eval()
    hessian = torch.func.hessian(lambda u: objective.value(u, given.retain))(w)
    model.train()
    assert torch.allclose(objective.hessian(w, v), hessian @ v, rtol=1e-10, atol=1e-10)
    assert model.training


def test_the_residual_is_of_the_weights_as_stored() -> None:
    x, y = diabetes()
    residuals = []
    for dtype in (torch.float64, torch.float32):
        model = linear(ridge_optimum(x, y), dtype)
        before = model.weight.detach().double()[0].clone()
        shown = Newton(l2=L2, tolerance=1e-2).run(model, task(x, y, 40, half_squares))
        a = x[40:].numpy()
        hessian = a.T @ a + len(a) * L2 * np.eye(10)
        g = -(a.T @ (a @ before.numpy() - y[40:].numpy()) + len(a) * L2 * before.numpy())
        moved = (model.weight.detach().double()[0] - before).numpy()
        mine = np.linalg.norm(hessian @ moved - g) / np.linalg.norm(g)
        assert shown.fields["residual"] == pytest.approx(mine, rel=1e-3, abs=1e-13)
        residuals.append(mine)
    assert residuals[1] > 1e-8


def test_a_solution_that_is_not_good_enough_changes_nothing() -> None:
    x, y = diabetes()
    model = linear(np.ones(10))
    with pytest.raises(SolveError, match=r"the residual is .* after 1 iterations, expected 1e-08 or less"):
        Newton(l2=1e-6, tolerance=1e-8, iterations=1).run(model, task(x, y, 40, half_squares))
    assert torch.equal(model.weight, torch.ones(1, 10, dtype=torch.float64))


def test_a_hessian_that_is_not_positive_wants_damping() -> None:
    def concave(z: Tensor, y: Tensor) -> Tensor:
        return -half_squares(z, y)

    x, y = diabetes()
    with pytest.raises(SolveError, match="expected a larger damping"):
        Newton().run(linear(np.ones(10)), task(x, y, 40, concave))
    Newton(damping=10.0).run(linear(np.ones(10)), task(x, y, 40, concave))


def test_conjugate_gradients_solve_what_numpy_solves() -> None:
    generator = np.random.default_rng(3)
    a = generator.normal(size=(30, 12))
    h, g = torch.tensor(a.T @ a + np.eye(12)), torch.tensor(generator.normal(size=12))
    delta, used = conjugate_gradients(lambda v: h @ v, g, tolerance=1e-12, iterations=100)
    assert np.allclose(delta.numpy(), np.linalg.solve(h.numpy(), g.numpy()), rtol=1e-9)
    assert used <= 16


@pytest.mark.parametrize("loss", ["ridge", "logistic"])
def test_the_module_agrees_with_autograd_and_onnx_runtime(loss: Any) -> None:
    x, y = (diabetes if loss == "ridge" else patients)()
    x, y = x[:50], y[:50]
    wanted = half_squares if loss == "ridge" else log_loss
    w = torch.randn(x.shape[1], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    delta = 0.1 * torch.randn(x.shape[1], generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    objective = newton.Objective(linear(w), Task((x[:6], y[:6]), (x[6:], y[6:]), wanted), L2)
    by_autograd = objective.hessian(w, delta) + 44 * 0.5 * delta - objective.gradient(w, (x[:6], y[:6]))
    module = LinearStep(loss, l2=L2, damping=0.5)
    inputs = [x[6:], x[:6], y[:6, None], w[:, None], delta[:, None]]
    after, residual = module(*inputs)
    assert torch.equal(after[:, 0], w + delta)
    assert torch.allclose(residual[:, 0], by_autograd, rtol=1e-12, atol=1e-12)
    by_onnx = run_onnx(to_onnx(module, [tuple(tensor.shape) for tensor in inputs]), inputs)
    assert np.allclose(by_onnx, torch.cat([after, residual]).flatten().numpy(), rtol=1e-12, atol=1e-12)
