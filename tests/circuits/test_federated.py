"""Federated averaging against training in one place, and leaving against training without the client, in numpy's closed form."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch.nn import functional as F  # noqa: E402

from circuits.steps.federated import Update, average, distil, local_update, move, removal, state_of  # noqa: E402

torch.set_num_threads(1)
GENERATOR = torch.Generator().manual_seed(1)
SIZES = (5, 9, 14)
X = [torch.randn(size, 3, generator=GENERATOR, dtype=torch.float64) for size in SIZES]
Y = [torch.randn(size, 2, generator=GENERATOR, dtype=torch.float64) for size in SIZES]
RATE = 0.3


def linear() -> torch.nn.Module:
    torch.manual_seed(4)
    return torch.nn.Linear(3, 2).double()


def sent_by(model: torch.nn.Module, clients: list[int]) -> list[Update]:
    return [Update(one, SIZES[one], local_update(model, X[one], Y[one], rate=RATE, loss=F.mse_loss)) for one in clients]


def centrally(clients: list[int], steps: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Gradient descent on all these clients' records in one place: W − rate · 2/(n·o) (XWᵀ + b − Y)ᵀ X."""
    model = linear()
    w, b = model.weight.detach().numpy().copy(), model.bias.detach().numpy().copy()
    x, y = (np.concatenate([part[one].numpy() for one in clients]) for part in (X, Y))
    for _ in range(steps):
        r = 2 * (x @ w.T + b - y) / y.size
        w, b = w - RATE * r.T @ x, b - RATE * r.sum(0)
    return w, b


def same(model: torch.nn.Module, wanted: tuple[np.ndarray, np.ndarray]) -> bool:
    return all(
        np.allclose(found.detach().numpy(), one, rtol=0, atol=1e-12)
        for found, one in zip((model.weight, model.bias), wanted, strict=True)
    )


@pytest.mark.parametrize("rounds", [1, 4])
def test_one_local_step_a_round_is_gradient_descent_in_one_place(rounds: int) -> None:
    """McMahan et al. 2017, section 2: FederatedSGD."""
    model = linear()
    for _ in range(rounds):
        move(model, average(sent_by(model, [0, 1, 2])))
    assert same(model, centrally([0, 1, 2], rounds))


@pytest.mark.parametrize("gone", [{0}, {2}, {0, 1}])
def test_leaving_one_round_is_training_without_the_client(gone: set[int]) -> None:
    model = linear()
    sent = sent_by(model, [0, 1, 2])
    move(model, average(sent))
    move(model, removal([sent], gone), scale=-1)
    assert same(model, centrally([one for one in range(3) if one not in gone]))


def test_leaving_several_rounds_is_not_and_repair_with_the_others_brings_it_nearer() -> None:
    """Later updates started from weights that the client had a part in: Wu et al. 2022."""
    model, history = linear(), []
    for _ in range(3):
        history.append(sent_by(model, [0, 1, 2]))
        move(model, average(history[-1]))
    move(model, removal(history, {2}), scale=-1)
    wanted = centrally([0, 1], 200)
    assert not same(model, centrally([0, 1], 3))
    far = float(np.abs(model.weight.detach().numpy() - wanted[0]).max())
    for _ in range(60):
        move(model, average(sent_by(model, [0, 1])))
    assert float(np.abs(model.weight.detach().numpy() - wanted[0]).max()) < far / 10


def test_zero_weighting_takes_back_the_clients_share_and_no_more() -> None:
    model = linear()
    start = state_of(model)
    sent = sent_by(model, [0, 1, 2])
    move(model, average(sent))
    move(model, removal([sent], {2}, "zero"), scale=-1)
    wanted = start["weight"] + sum(SIZES[one] / sum(SIZES) * sent[one].delta["weight"] for one in (0, 1))
    assert torch.allclose(model.weight.detach(), wanted, rtol=0, atol=1e-12)


def test_client_that_was_alone_in_a_round_takes_the_round_with_it() -> None:
    model = linear()
    before = state_of(model)
    sent = sent_by(model, [1])
    move(model, average(sent))
    move(model, removal([sent], {1}), scale=-1)
    assert torch.allclose(model.weight.detach(), before["weight"], rtol=0, atol=1e-15)


def test_distillation_moves_the_student_to_the_teacher() -> None:
    teacher, student = linear(), torch.nn.Linear(3, 2).double()
    inputs = torch.cat(X)
    first = distil(student, teacher, inputs, steps=1, rate=0.1)
    last = distil(student, teacher, inputs, steps=300, rate=0.1)
    assert last < first / 50
    agree = (student(inputs).argmax(1) == teacher(inputs).argmax(1)).double().mean()
    assert agree > 0.95


def test_clients_that_sent_nothing_cannot_leave() -> None:
    sent = sent_by(linear(), [0, 1])
    with pytest.raises(ValueError, match=r"got none of \[2\]"):
        removal([sent], {2})
    with pytest.raises(ValueError, match="one record or more"):
        average([])


def test_local_training_leaves_the_global_model_alone() -> None:
    model = linear()
    before = state_of(model)
    local_update(model, X[0], Y[0], rate=RATE, epochs=3, batch=2, loss=F.mse_loss)
    assert all(torch.equal(before[name], value) for name, value in state_of(model).items())
