"""Gradient ascent against numpy's closed form, autograd and ONNX Runtime."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402

from circuits.steps.ascent import AscentOfLinear, GradientAscent  # noqa: E402
from circuits.steps.gradient import gradient, joined, learning, linear_gradient, names_of, with_ones  # noqa: E402
from circuits.steps.step import Task  # noqa: E402
from tests.circuits.steps import linear as case  # noqa: E402

EXACT = 1e-12
"""float64, a few dozen operations: numpy, torch and ONNX Runtime round differently in the last digits."""


def test_linear_gradient_is_autograds() -> None:
    w = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    x, y = with_ones(case.X), case.Y
    (expected,) = torch.autograd.grad(nn.functional.cross_entropy(x @ w.T, y), w)
    assert torch.allclose(linear_gradient(w, x, nn.functional.one_hot(y).double()), expected, rtol=0, atol=EXACT)


def test_steps_are_the_closed_forms() -> None:
    model = case.fitted()
    w = joined(model).numpy()
    x, y = case.arrays(case.GONE)
    shown = GradientAscent(rate=0.3, steps=4).run(model, case.task())
    start = w.copy()
    for _ in range(4):
        w = w + 0.3 * case.slope(w, x, y)
    assert np.abs(joined(model).numpy() - w).max() < EXACT
    module = AscentOfLinear(0.3, 4)
    assert np.abs(module(*map(torch.tensor, (start, x, y))).numpy() - w).max() < EXACT
    assert np.abs(case.onnx_says(module, (start, x, y)) - w).max() < EXACT

    def loss(v: np.ndarray) -> float:
        return float(-np.log(case.softmax(x @ v.T)[y > 0]).mean())

    assert shown.fields["lossBefore"] == pytest.approx(loss(start), abs=EXACT)
    assert shown.fields["lossAfter"] == pytest.approx(loss(w), abs=EXACT)
    assert loss(w) > loss(start)  # the loss is convex in W, so that no step up can lower it


def test_only_parameters_that_learn_are_moved_and_named() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3)).double()
    model[0].requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    shown = GradientAscent(rate=0.1, steps=2).run(model, case.task())
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert shown.fields["tensors"] == ["1.bias", "1.weight", "3.bias", "3.weight"] == sorted(changed)
    assert model.training and model[2].training  # as it was


def test_tied_weights_are_moved_once_and_named_twice() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 4, bias=False)
            self.b = nn.Linear(4, 4, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x).relu())

    torch.manual_seed(1)
    model = Tied().double()
    weight = model.a.weight.detach().clone().requires_grad_()
    x, y = case.task().forget
    (expected,) = torch.autograd.grad(nn.functional.cross_entropy((x @ weight.T).relu() @ weight.T, y), weight)
    assert names_of(model, learning(model)) == ["a.weight", "b.weight"]
    GradientAscent(rate=0.1, steps=1).run(model, case.task())
    assert torch.allclose(model.a.weight, weight + 0.1 * expected, rtol=0, atol=EXACT)


def test_parameter_that_the_loss_does_not_depend_on_stays() -> None:
    model = nn.ModuleDict({"used": nn.Linear(4, 3), "spare": nn.Linear(4, 3)}).double()
    model.forward = lambda x: model["used"](x)  # type: ignore[method-assign]
    found = gradient(model, nn.functional.cross_entropy, case.task().forget)
    assert [bool(one.any()) for one in found] == [True, True, False, False]


def test_model_without_parameters_is_refused() -> None:
    task = Task((case.X, case.Y), (case.X, case.Y))
    with pytest.raises(ValueError, match="parameters that require gradients, got none"):
        GradientAscent().run(case.linear().requires_grad_(False), task)


def test_progress_is_heard() -> None:
    done: list[float] = []
    GradientAscent(steps=4).run(case.linear(), case.task(progress=done.append))
    assert done == [0.25, 0.5, 0.75, 1.0]
