"""UNSIR: noise against autograd and ONNX Runtime, and what the authors report: the class goes, the others stay."""

import struct

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402

from circuits.steps.gradient import joined  # noqa: E402
from circuits.steps.step import Task  # noqa: E402
from circuits.steps.unsir import ImpairOfLinear, NoiseOfLinear, Unsir  # noqa: E402
from tests.circuits.steps import linear as case  # noqa: E402

EXACT = 1e-12
KEPT = case.Y != 2
TASK = Task(forget=(case.X[~KEPT], case.Y[~KEPT]), retain=(case.X[KEPT], case.Y[KEPT]))


def test_noise_step_is_autograds() -> None:
    model = case.fitted()
    noise = torch.randn(6, case.FEATURES, dtype=torch.float64, requires_grad=True)
    labels = torch.full((6,), 2)
    value = (nn.functional.cross_entropy(model(noise), labels, reduction="none") - 0.1 * (noise**2).sum(1)).sum()
    (up,) = torch.autograd.grad(value, noise)
    module = NoiseOfLinear(0.4, 0.1)
    y = nn.functional.one_hot(labels, 3).double()
    inputs = (model.weight.detach(), model.bias.detach(), noise.detach(), y)
    expected = (noise + 0.4 * up).detach().numpy()
    assert np.abs(module(*inputs).numpy() - expected).max() < EXACT
    assert np.abs(case.onnx_says(module, inputs) - expected).max() < EXACT


def test_impairing_and_repairing_are_plain_steps_on_noise_and_on_what_is_kept() -> None:
    """On full batches; the noise is the attachment, in float32."""
    model = case.fitted()
    w = joined(model).numpy()
    step = Unsir(noises=5, noise_steps=3, impair_rate=0.2, repair_epochs=2, repair_rate=0.1, batch=1000, seed=8)
    shown = step.run(model, TASK)
    (data,) = shown.attachments
    noise = np.array(struct.unpack(f"<{5 * 4}f", data)).reshape(5, 4)
    mixed = np.c_[np.r_[noise, case.X[KEPT].numpy()], np.ones(5 + int(KEPT.sum()))]
    y = np.eye(3)[[2] * 5 + case.Y[KEPT].tolist()]
    module = ImpairOfLinear(0.2)
    assert np.abs(case.onnx_says(module, (w, mixed, y)) - (w - 0.2 * case.slope(w, mixed, y))).max() < EXACT
    w = module(*map(torch.tensor, (w, mixed, y))).numpy()
    for _ in range(2):
        w = w - 0.1 * case.slope(w, mixed[5:], y[5:])
    assert np.abs(joined(model).numpy() - w).max() < 1e-7  # of float32
    assert shown.fields["steps"] == 3


def test_none_of_the_class_is_looked_at() -> None:
    one, two = case.fitted(), case.fitted()
    blind = Task((torch.full_like(TASK.forget[0], float("nan")), TASK.forget[1]), TASK.retain)
    assert Unsir(seed=3).run(one, TASK) == Unsir(seed=3).run(two, blind)
    assert torch.equal(joined(one), joined(two))


def test_class_goes_and_others_stay() -> None:
    """As the authors report: accuracy on the class falls to about nothing, on the others it is kept."""
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    data = datasets.load_digits()
    x, y = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    gone = y == 3

    def accuracy(of: torch.Tensor) -> float:
        return float((model(x[of]).argmax(1) == y[of]).float().mean())

    assert min(accuracy(gone), accuracy(~gone)) > 0.9
    task = Task((x[gone], y[gone]), (x[~gone], y[~gone]))
    shown = Unsir(noises=200, impair_rate=0.3, repair_rate=0.05, seed=1).run(model, task).fields
    assert accuracy(gone) < 0.2 and accuracy(~gone) > 0.9
    assert shown["noiseLossAfter"] > 2 * shown["noiseLossBefore"]  # type: ignore[operator]


def test_targets_that_are_no_classes_are_refused() -> None:
    task = Task((case.X[:2], torch.tensor([0.5, 1.0])), TASK.retain)
    with pytest.raises(ValueError, match="expected class indices as targets"):
        Unsir().run(case.linear(), task)
