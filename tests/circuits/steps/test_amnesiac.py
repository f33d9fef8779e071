"""Amnesiac subtraction against exact arithmetic, training with batches skipped, autograd and ONNX Runtime."""

import math
import stat
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch import Tensor, nn  # noqa: E402

from circuits.errors import CircuitError  # noqa: E402
from circuits.export import run_onnx, to_onnx  # noqa: E402
from circuits.steps import trail  # noqa: E402
from circuits.steps.amnesiac import Amnesiac, Recording, Subtraction, Taken, digest, row, subtracted  # noqa: E402
from circuits.steps.step import Task  # noqa: E402
from circuits.steps.trail import Trail, TrailError  # noqa: E402

X = torch.randn(12, 4, generator=torch.Generator().manual_seed(1))
Y = torch.arange(12) % 3
BATCHES = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]] * 4


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))


def fit(model: nn.Module, recording: Recording, loss: Any = None) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for rows in BATCHES:
        with recording.batch(model, rows):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(X[rows]), Y[rows]).backward()
            optimizer.step()


def copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_subtracting_every_delta_gives_the_initial_weights(tmp_path: Path) -> None:
    model, recording = network(), Recording.create(tmp_path / "deltas")
    before = copied(model)
    fit(model, recording)
    after = subtracted(model.state_dict(), (recording.delta(i) for i in range(12)))
    for name, value in before.items():
        if value.is_floating_point():
            assert torch.equal(after[name], value), name
    assert int(after["1.num_batches_tracked"]) == 12  # a count, not a weight


def test_sums_are_those_of_exact_arithmetic_rounded(tmp_path: Path) -> None:
    model, recording = network(), Recording.create(tmp_path / "deltas")
    fit(model, recording)
    taken = recording.touched([5])
    assert taken == [1, 4, 7, 10]
    after = row(subtracted(model.state_dict(), (recording.delta(i) for i in taken)))
    w, deltas = row(model.state_dict()), [recording.delta(i) for i in taken]
    exact = torch.tensor([math.fsum([v, *(-float(d[i]) for d in deltas)]) for i, v in enumerate(w.tolist())])
    assert torch.equal(after.float(), exact)


def test_last_batch_taken_back_is_the_last_batch_skipped(tmp_path: Path) -> None:
    model, recording = network(), Recording.create(tmp_path / "deltas")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    states = []
    for rows in BATCHES:
        states.append(copied(model))
        with recording.batch(model, rows):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(X[rows]), Y[rows]).backward()
            optimizer.step()
    assert digest(subtracted(model.state_dict(), [recording.delta(11)])) == digest(states[-1])


def test_it_is_training_without_the_batches_where_changes_do_not_depend_on_the_weights(tmp_path: Path) -> None:
    """A loss that is linear in the weights."""

    def train(batches: list[list[int]], recording: Recording) -> nn.Linear:
        torch.manual_seed(2)
        model = nn.Linear(4, 3, dtype=torch.float64)
        for rows in batches:
            with recording.batch(model, rows):
                loss = model(X[rows].double()).gather(1, Y[rows, None]).mean()
                for weight, slope in zip(
                    model.parameters(), torch.autograd.grad(loss, model.parameters()), strict=True
                ):
                    weight.data -= 0.1 * slope
        return model

    recording = Recording.create(tmp_path / "deltas")
    model = train(BATCHES, recording)
    taken = recording.touched([0, 9])
    found = subtracted(model.state_dict(), (recording.delta(i) for i in taken))
    without = train([rows for i, rows in enumerate(BATCHES) if i not in taken], Recording.create(tmp_path / "other"))
    assert torch.allclose(row(found), row(without.state_dict()), rtol=0, atol=1e-15)


def test_the_step_changes_the_model_and_repairs_it_only_where_that_is_recorded(tmp_path: Path) -> None:
    model, recording = network(), Recording.create(tmp_path / "deltas")
    fit(model, recording)
    expected = subtracted(model.state_dict(), (recording.delta(i) for i in (1, 4)))
    task = Task((X[4:8], Y[4:8]), (X[:4], Y[:4]))
    shown = Amnesiac().of([Taken(recording, (1, 4))], {}).run(model, task)
    assert shown.fields["weights"] == digest(model.state_dict()) == digest(expected)
    with pytest.raises(CircuitError, match="expected a recording for the repair"):
        Amnesiac(epochs=1).of([Taken(recording, (7,))], {}).run(model, task)
    with pytest.raises(CircuitError, match="expected to be told which batches"):
        Amnesiac().run(model, task)
    assert digest(model.state_dict()) == digest(expected)


def test_the_module_agrees_with_autograd_and_onnx_runtime() -> None:
    w, deltas = torch.randn(7, dtype=torch.float64), torch.randn(3, 7, dtype=torch.float64)
    module = Subtraction()
    dw, dd = torch.autograd.functional.jacobian(module, (w, deltas))
    assert torch.equal(dw, torch.eye(7, dtype=torch.float64))
    assert torch.equal(dd, -torch.eye(7, dtype=torch.float64)[:, None].expand(7, 3, 7))
    assert run_onnx(to_onnx(module, [(7,), (3, 7)]), [w, deltas]) == pytest.approx(
        module(w, deltas).tolist(), abs=1e-15
    )


def test_a_trail_refuses_what_it_did_not_commit_to(tmp_path: Path) -> None:
    made = Trail.create(tmp_path / "trail", kind="delta")
    assert [made.append(piece) for piece in (b"one", b"two")] == [0, 1]
    assert made.read(1) == b"two" and len(made) == 2
    assert stat.S_IMODE((tmp_path / "trail").stat().st_mode) == 0o700
    salt, piece = made.opening(0)
    trail.check(made.commitments(), 0, kind="delta", salt=salt, piece=piece)
    for other in ({"kind": "path"}, {"salt": bytes(32)}, {"piece": b"One"}):
        with pytest.raises(TrailError, match="was made up or altered"):
            trail.check(made.commitments(), 0, **{"kind": "delta", "salt": salt, "piece": piece, **other})  # type: ignore[arg-type]
    for index in (1, 2):
        with pytest.raises(TrailError, match="was made up or altered"):
            trail.check(made.commitments(), index, kind="delta", salt=salt, piece=piece)
    (tmp_path / "trail" / "pieces" / "00000000.bin").write_bytes(b"ONE")
    with pytest.raises(TrailError, match="delta 0 was made up or altered"):
        made.read(0)
    with pytest.raises(TrailError, match="holds a trail already"):
        Trail.create(tmp_path / "trail", kind="delta")


def test_a_destroyed_piece_is_gone_and_the_others_stay(tmp_path: Path) -> None:
    made = Trail.create(tmp_path / "trail", kind="delta")
    for piece in (b"one", b"two"):
        made.append(piece)
    before = made.commitments()
    made.shred(0)
    with pytest.raises(TrailError, match=r"piece 0 of the trail .* is missing"):
        made.read(0)
    assert made.read(1) == b"two" and made.commitments() == before
    assert (tmp_path / "trail" / "salts.bin").read_bytes()[:32] == bytes(32)
