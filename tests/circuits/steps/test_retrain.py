"""Full retraining is a plain torch loop over what is retained, to the bit."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch import nn  # noqa: E402

from circuits.steps.retrain import Retrain, digest_of, reset  # noqa: E402
from circuits.steps.sisa import Standardize  # noqa: E402
from circuits.steps.step import Task  # noqa: E402

torch.set_num_threads(1)
X = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)) * 3 + 1
Y = (X[:, 1] > 1).long()
TASK = Task(forget=(X[:6], Y[:6]), retain=(X[6:], Y[6:]))


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


def same(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_it_is_a_plain_loop_over_the_retained_records_to_the_bit(optimizer: str) -> None:
    model = network()
    shown = Retrain(epochs=3, rate=0.05, batch=7, optimizer=optimizer, seed=9).run(model, TASK)  # type: ignore[arg-type]

    torch.manual_seed(9)
    plain = network()  # draws the same numbers in the same order
    x, y, positions, steps = X[6:], Y[6:], b"", 0
    optimise: Any = (torch.optim.Adam if optimizer == "adam" else torch.optim.SGD)(plain.parameters(), lr=0.05)
    plain.train()
    for _ in range(3):
        order = torch.randperm(24)
        positions += b"".join(int(p).to_bytes(8, "little") for p in order)
        for at in range(0, 24, 7):
            rows = order[at : at + 7]
            optimise.zero_grad()
            nn.functional.cross_entropy(plain(x[rows]), y[rows]).backward()
            optimise.step()
            steps += 1
    assert same(model, plain)
    assert shown.fields["steps"] == steps == 12 and shown.fields["records"] == 24
    assert shown.fields["order"] == sha256(positions).hexdigest()


def test_nothing_of_the_model_before_or_of_forgotten_records_is_left() -> None:
    first, second = network(), network()
    with torch.no_grad():
        for value in second.state_dict().values():
            value.fill_(7)
    poisoned = Task((torch.full((6, 5), float("nan")), TASK.forget[1]), TASK.retain)
    one, two = Retrain(epochs=2, seed=1).run(first, TASK), Retrain(epochs=2, seed=1).run(second, poisoned)
    assert same(first, second) and one == two


def test_initial_digest_is_that_of_a_safetensors_file(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = network()
    shown = Retrain(epochs=1, seed=5).run(model, TASK)
    torch.manual_seed(5)
    save_file(network().state_dict(), tmp_path / "initial.safetensors")
    assert shown.fields["initial"] == sha256((tmp_path / "initial.safetensors").read_bytes()).hexdigest()
    assert shown.fields["initial"] != digest_of(model)


def test_statistics_of_the_inputs_are_those_of_retained_ones() -> None:
    model = nn.Sequential(Standardize(5), nn.Linear(5, 2))
    model[0].fit(X)
    Retrain(epochs=1).run(model, TASK)
    assert torch.allclose(model[0].mean, X[6:].mean(0)) and not torch.allclose(model[0].mean, X.mean(0))


def test_layer_that_cannot_begin_anew_is_refused() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(2))

    with pytest.raises(ValueError, match=r"expected a method reset_parameters of 1 \(Scale\)"):
        reset(nn.Sequential(nn.Linear(2, 2), Scale()))


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Retrain(epochs=1, seed=3).run(network_of(5), TASK)
    assert torch.equal(torch.rand(3), expected)


def network_of(features: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        return nn.Linear(features, 2)
