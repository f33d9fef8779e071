"""DeltaGrad against exact retraining, and its quasi-Newton product against SciPy's BFGS."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from scipy.optimize import BFGS  # noqa: E402
from sklearn.datasets import load_breast_cancer  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from circuits.errors import CircuitError  # noqa: E402
from circuits.steps import deltagrad  # noqa: E402
from circuits.steps.deltagrad import KIND, DeltaGrad, Descent, fit, product  # noqa: E402
from circuits.steps.step import Task  # noqa: E402
from circuits.steps.trail import Trail, TrailError  # noqa: E402

FULL = Descent(rate=1.0, steps=60, l2=0.01)
BATCHED = Descent(rate=0.5, steps=60, l2=0.01, batch=100, seed=4)


def patients(count: int = 300) -> tuple[Tensor, Tensor]:
    x, y = load_breast_cancer(return_X_y=True)
    return torch.tensor((x - x.mean(0)) / x.std(0))[:count, :10] / 3, torch.tensor(y)[:count].double()


def log_loss(z: Tensor, y: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(z.squeeze(-1), y)


def half_squares(z: Tensor, y: Tensor) -> Tensor:
    return (z.squeeze(-1) - y).square().mean() / 2


def new() -> nn.Linear:
    torch.manual_seed(6)
    return nn.Linear(10, 1, dtype=torch.float64)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([value.detach().reshape(-1) for value in model.parameters()])


def task(gone: list[int], absent: tuple[int, ...] = (), loss: Any = log_loss) -> Task:
    x, y = patients()
    rest = [i for i in range(len(x)) if i not in gone and i not in absent]
    return Task((x[gone], y[gone]), (x[rest], y[rest]), loss)


def retrained(recipe: Descent, gone: list[int], loss: Any = log_loss) -> Tensor:
    """A loop of its own, with autograd, over the same batches without the records."""
    x, y = patients()
    w = [value.detach().clone() for value in new().parameters()]
    for step in range(recipe.steps):
        rows = [row for row in recipe.rows(step, len(x)) if row not in gone]
        leaves = [value.requires_grad_() for value in w]
        objective = loss(x[rows] @ leaves[0].T + leaves[1], y[rows])
        objective = objective + recipe.l2 / 2 * sum((value * value).sum() for value in leaves)
        slopes = torch.autograd.grad(objective, leaves)
        w = [(value - recipe.rate * slope).detach() for value, slope in zip(leaves, slopes, strict=True)]
    return torch.cat([value.reshape(-1) for value in w])


def trained(recipe: Descent, folder: Path, loss: Any = log_loss) -> tuple[nn.Linear, Trail]:
    model, path = new(), Trail.create(folder / "path", kind=KIND)
    fit(model, *patients(), loss, recipe, path)
    return model, path


@pytest.mark.parametrize("recipe", [FULL, BATCHED], ids=["full", "batched"])
@pytest.mark.parametrize("loss", [log_loss, half_squares])
def test_where_every_gradient_is_computed_it_is_retraining(tmp_path: Path, recipe: Descent, loss: Any) -> None:
    model, path = trained(recipe, tmp_path, loss)
    assert torch.allclose(weights(model), retrained(recipe, [], loss), rtol=0, atol=1e-12)
    gone = [3, 50, 51]
    step = DeltaGrad.of(recipe, burn=60).along(path, forgotten=gone, into=Trail.create(tmp_path / "new", kind=KIND))
    shown = step.run(model, task(gone, loss=loss))
    assert torch.allclose(weights(model), retrained(recipe, gone, loss), rtol=0, atol=1e-12)
    assert shown.fields["computed"] == 60


@pytest.mark.parametrize(("recipe", "share"), [(FULL, 0.05), (BATCHED, 0.1)], ids=["full", "batched"])
def test_corrected_gradients_come_near_retraining(tmp_path: Path, recipe: Descent, share: float) -> None:
    """Two thirds of the gradients are never computed, and little of the way to retraining is left."""
    model, path = trained(recipe, tmp_path)
    before, gone = weights(model), list(range(12))
    step = DeltaGrad.of(recipe, period=5, burn=10).along(
        path, forgotten=gone, into=Trail.create(tmp_path / "new", kind=KIND)
    )
    shown = step.run(model, task(gone))
    wanted = retrained(recipe, gone)
    assert float((weights(model) - wanted).norm()) < share * float((before - wanted).norm())
    assert shown.fields["computed"] == 20
    assert shown.fields["moved"] == pytest.approx(float((weights(model) - before).norm()))


def test_without_the_correction_the_same_replay_stays_far_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, errors = list(range(12)), []
    for number, found in enumerate([product, lambda pairs, v: torch.zeros_like(v)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        model, path = trained(FULL, folder)
        monkeypatch.setattr(deltagrad, "product", found)
        step = DeltaGrad.of(FULL).along(path, forgotten=gone, into=Trail.create(folder / "new", kind=KIND))
        step.run(model, task(gone))
        errors.append(float((weights(model) - retrained(FULL, gone)).norm()))
    assert errors[0] < errors[1] / 20


def test_the_next_request_goes_along_the_path_that_was_left(tmp_path: Path) -> None:
    model, path = trained(FULL, tmp_path)
    first, second = list(range(5)), [20, 21]
    between = Trail.create(tmp_path / "new", kind=KIND)
    DeltaGrad.of(FULL).along(path, forgotten=first, into=between).run(model, task(first))
    last = Trail.create(tmp_path / "newer", kind=KIND)
    step = DeltaGrad.of(FULL).along(between, forgotten=second, absent=first, into=last)
    before = weights(model)
    step.run(model, task(second, absent=tuple(first)))
    wanted = retrained(FULL, [*first, *second])
    assert float((weights(model) - wanted).norm()) < 0.05 * float((before - wanted).norm())
    assert len(last) == FULL.steps


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_quasi_newton_product_is_that_of_scipy_s_bfgs_matrix(count: int) -> None:
    generator = np.random.default_rng(count)
    a = generator.normal(size=(8, 8))
    hessian = a @ a.T + np.eye(8)
    moves = [generator.normal(size=8) for _ in range(count)]
    pairs = [(s, hessian @ s + 0.01 * generator.normal(size=8)) for s in moves]
    s, y = pairs[-1]
    judge = BFGS(exception_strategy="skip_update", init_scale=float(s @ y) / float(s @ s))
    judge.initialize(8, "hess")
    for s, y in pairs:
        judge.update(s, y)
    v = generator.normal(size=8)
    ours = product([(torch.tensor(s), torch.tensor(y)) for s, y in pairs], torch.tensor(v))
    assert np.allclose(ours.numpy(), judge.get_matrix() @ v, rtol=1e-10, atol=1e-10)


def test_a_path_that_was_altered_or_is_of_another_length_is_refused(tmp_path: Path) -> None:
    model, path = trained(FULL, tmp_path)
    before = weights(model)
    refuse: Callable[[], DeltaGrad] = lambda: DeltaGrad.of(FULL).along(  # noqa: E731
        path, forgotten=[0], into=Trail.create(tmp_path / f"new-{len(list(tmp_path.iterdir()))}", kind=KIND)
    )
    step = DeltaGrad.of(Descent(rate=1.0, steps=59)).along(path, forgotten=[0], into=path)
    with pytest.raises(CircuitError, match="expected a path of 59 steps to go along, got 60"):
        step.run(model, task([0]))
    with pytest.raises(CircuitError, match="expected a position for each of 2 forgotten"):
        refuse().run(model, task([0, 1]))
    piece = tmp_path / "path" / "pieces" / "00000030.bin"
    piece.write_bytes(bytes(len(piece.read_bytes())))
    with pytest.raises(TrailError, match="path 30 was made up or altered"):
        refuse().run(model, task([0]))
    assert torch.equal(weights(model), before)
