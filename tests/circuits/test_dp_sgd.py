"""DP-SGD: what was accounted for is what was run, and without noise a step is the one that autograd gives record by record."""

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("opacus", reason="opacus is not installed")

from circuits.steps.dp_sgd import train  # noqa: E402

torch.set_num_threads(1)
X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


def model() -> Any:
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))


def test_what_was_run_is_what_is_accounted_for() -> None:
    done: list[float] = []
    spent = train(model(), X, Y, noise=1.5, clipping=0.7, rate=0.5, batch=12, epochs=3, progress=done.append)
    assert (spent.noise_multiplier, spent.sampling_rate, spent.steps, spent.clipping) == (1.5, 1 / 5, 15, 0.7)
    assert done == pytest.approx([1 / 3, 2 / 3, 1])
    assert 0 < spent.reported(1e-5) < spent.reported(1e-6)


def test_without_noise_a_step_is_the_clipped_gradients_of_autograd() -> None:
    """Every record in the batch (rate 1): W − rate/n Σ g min(1, C/‖g‖)."""
    trained, clipping, rate = model(), 0.3, 0.5
    wanted = model()
    total = [torch.zeros_like(value) for value in wanted.parameters()]
    for row in range(len(X)):
        loss = torch.nn.functional.cross_entropy(wanted(X[row : row + 1]), Y[row : row + 1])
        grads = torch.autograd.grad(loss, list(wanted.parameters()))
        norm = torch.cat([grad.reshape(-1) for grad in grads]).norm()
        for sum_, grad in zip(total, grads, strict=True):
            sum_ += grad * torch.clamp(clipping / norm, max=1)
    train(trained, X, Y, noise=1e-12, clipping=clipping, rate=rate, batch=len(X), epochs=1)
    for found, before, sum_ in zip(trained.parameters(), wanted.parameters(), total, strict=True):
        assert torch.allclose(found, before - rate / len(X) * sum_, atol=1e-6)


def test_noise_is_another_each_time_and_the_model_is_left_as_plain_torch() -> None:
    first, second = model(), model()
    for one in (first, second):
        torch.manual_seed(5)
        train(one, X, Y, noise=1.0, clipping=1.0, rate=0.1, batch=20, epochs=1)
    assert not torch.equal(first[0].weight, second[0].weight)
    assert not any(hasattr(value, "grad_sample") for value in first.parameters())
    first(X).sum().backward()  # hooks are off


def test_model_that_mixes_records_is_refused() -> None:
    mixing = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.BatchNorm1d(2))
    with pytest.raises(ValueError, match="expected a model that Opacus takes"):
        train(mixing, X, Y, noise=1.0, clipping=1.0, rate=0.1, batch=20, epochs=1)
