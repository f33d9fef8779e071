"""A step against autograd, the equation in Python integers, ONNX Runtime and the circuit; rounding has one answer."""

from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits import chain, description, initial
from circuits.chain_problem import MAX_STEPS, ChainProblem
from circuits.errors import ProverError
from circuits.export import run_onnx, run_torch, to_onnx
from circuits.steps.sgd import MaskedSgd
from tests.chain_proofs import SEED, Chain, batches_for, honest, make, problem, record

NETWORKS = [("relu", 2, (1,)), ("relu", 2, (2, 1)), ("relu", 1, (1,)), ("linear", 3, (1,)), ("linear", 1, (1, 1))]


def case(network: str, outputs: int, forgotten: tuple[int, ...], steps: int = 2) -> tuple[ChainProblem, Chain]:
    """Two steps in a proof; what is forgotten is spread over tensors as ``forgotten`` says."""
    p = problem(network=network, outputs=outputs, forgotten=forgotten, steps=steps)
    batches = batches_for(p)
    gone = [record(batches, p)[0], record(batches, p, 1, 5)[0], record(batches, p, 2, 0)[0]]
    parts = [gone[sum(forgotten[:i]) : sum(forgotten[: i + 1])] for i in range(len(forgotten))]
    return p, make(p, batches, parts, steps=steps)


def tensors(p: ChainProblem, made: Chain) -> list[torch.Tensor]:
    [group] = chain.plan(p, p.steps)
    inputs = group.inputs(made.batches, made.states, made.forgotten)
    return [torch.tensor(values).reshape(layout.shape) for values, layout in zip(inputs, p.layouts, strict=True)]


def gradient_by_hand(
    p: ChainProblem, batch: list[list[int]], w: list[int], gone: list[list[int]]
) -> tuple[list[int], int]:
    """G and the count kept, in Python's integers, a record at a time: backpropagation as the module's docstring has it."""
    d, h, o, sx, sw = p.features, p.hidden, p.outputs, p.scale_x, p.scale_w
    first = h or o
    w1 = [w[i * d : (i + 1) * d] for i in range(first)]
    b1 = w[first * d : first * d + first]
    rest = w[first * d + first :]
    w2, b2 = [rest[i * h : (i + 1) * h] for i in range(o)], rest[o * h :]
    g1, gb1 = [[0] * d for _ in range(first)], [0] * first
    g2, gb2 = [[0] * h for _ in range(o)], [0] * o
    kept = 0
    for row in batch:
        x, y = row[:d], row[d:]
        if any(sum((a - b) ** 2 for a, b in zip(x, f, strict=True)) <= p.tau for f in gone):
            continue
        kept += 1
        a = [sum(u * v for u, v in zip(line, x, strict=True)) + sx * b for line, b in zip(w1, b1, strict=True)]
        if h:
            active = [max(0, value) for value in a]
            z = [sum(u * v for u, v in zip(w2[i], active, strict=True)) + sx * sw * b2[i] for i in range(o)]
            r = [z[i] - sx * sw * sw * y[i] for i in range(o)]
            da = [sum(r[i] * w2[i][j] for i in range(o)) if a[j] > 0 else 0 for j in range(h)]
            for i in range(o):
                gb2[i] += sx * sw * r[i]
                for j in range(h):
                    g2[i][j] += r[i] * active[j]
        else:
            da = [a[i] - sx * sw * y[i] for i in range(o)]
        for i in range(first):
            gb1[i] += sx * da[i]
            for j in range(d):
                g1[i][j] += da[i] * x[j]
    found = [v for line in g1 for v in line] + gb1
    return (found + [v for line in g2 for v in line] + gb2 if h else found), kept


def nearest(value: Fraction) -> int:
    """Half goes down."""
    return -((Fraction(1, 2) - value) // 1)


@pytest.mark.parametrize(("network", "outputs", "forgotten"), NETWORKS)
def test_a_step_is_the_equation_in_integers(network: str, outputs: int, forgotten: tuple[int, ...]) -> None:
    p, made = case(network, outputs, forgotten)
    parts = [row for layout, values in zip(p.layouts[5:], made.forgotten, strict=True) for row in layout.matrix(values)]
    expected = []
    for batch, (before, after) in zip(made.batches, pairwise(made.states), strict=False):
        w = [v for row in p.state_layout.matrix(before) for v in row][: p.size]
        gradient, kept = gradient_by_hand(p, p.batch_layout.matrix(batch), w, parts)
        expected.append(kept)
        stepped = [old - nearest(Fraction(p.rate * g, p.unit)) for old, g in zip(w, gradient, strict=True)]
        assert [v for row in p.state_layout.matrix(after) for v in row][: p.size] == stepped
        assert stepped != w  # else it would show nothing
    assert expected[0] < p.batch
    values = (0, 0, *expected)
    inputs = tensors(p, made)
    module = MaskedSgd(p)
    assert run_torch(module, inputs) == values
    assert run_onnx(to_onnx(module, [layout.shape for layout in p.layouts]), inputs) == values


@pytest.mark.parametrize(("network", "outputs"), [("relu", 2), ("relu", 1), ("linear", 3), ("linear", 1)])
def test_the_gradient_is_autograd_s(network: str, outputs: int) -> None:
    """In float64, within 1e-12 of the largest: the module's is exact, and autograd's is of ½‖z − y‖² over what is kept."""
    p = problem(network=network, outputs=outputs)
    batch = torch.tensor(batches_for(p)[0], dtype=torch.float64)
    x, y = batch[:, : p.features] / p.scale_x, batch[:, p.features :]
    flat = torch.tensor(initial.weights(SEED, p), dtype=torch.float64)
    flat += torch.arange(p.size)  # biases that are not 0
    m = torch.tensor([1.0, 1, 0, 1, 0, 1], dtype=torch.float64)[:, None]
    sizes = [torch.Size(shape).numel() for shape in p.shapes.values()]
    state = dict(zip(p.shapes, (flat / p.scale_w).split(sizes), strict=True))
    layers = [
        torch.nn.Linear(p.features, p.hidden or p.outputs),
        torch.nn.ReLU(),
        torch.nn.Linear(p.hidden or 1, outputs),
    ]
    model = torch.nn.Sequential(*(layers if p.hidden else layers[:1])).double()
    model.load_state_dict({name: state[name].reshape(shape) for name, shape in p.shapes.items()})
    loss = ((model(x) - y).square() * m).sum() / 2
    loss.backward()
    grads = dict(model.named_parameters())
    theirs = torch.cat([grads[name].grad.reshape(-1) for name in p.shapes])  # type: ignore[union-attr]
    ours = MaskedSgd(p).gradient(batch[:, : p.features], y, m, flat) / (p.square * p.scale_w)
    assert (ours - theirs).abs().max() <= 1e-12 * theirs.abs().max() and theirs.abs().max() > 0.01


@pytest.mark.parametrize("network", ["relu", "linear"])
def test_the_learning_rate_is_of_the_mean_over_a_batch(network: str) -> None:
    """torch's SGD with that learning rate is half a unit away, for each parameter."""
    p = problem(network=network)
    batch = torch.tensor(batches_for(p)[0], dtype=torch.float64)
    start = torch.tensor(initial.weights(SEED, p), dtype=torch.float64)
    x, y = batch[:, : p.features], batch[:, p.features :]
    kept = torch.ones(p.batch, 1, dtype=torch.float64)
    total = MaskedSgd(p).gradient(x, y, kept, start) / (p.square * p.scale_w)  # autograd's, as above
    expected = start / p.scale_w - p.learning_rate * total / p.batch
    stepped = MaskedSgd(p).step(batch, start, []) / p.scale_w
    assert (stepped - expected).abs().max() <= 0.5 / p.scale_w + 1e-12
    assert (stepped - start / p.scale_w).abs().max() > 2 / p.scale_w


def v_of(p: ChainProblem, before: torch.Tensor, after: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    """What the digits are to hold, without forgotten records."""
    x, y = batch[:, : p.features], batch[:, p.features :]
    g = MaskedSgd(p).gradient(x, y, torch.ones(len(x), 1, dtype=x.dtype), before)
    return p.unit * (before - after) - p.rate * g + p.unit / 2


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), network=st.sampled_from(["relu", "linear"]))
def test_what_is_rounded_off_fits_the_digits_and_nothing_else_does(seed: int, network: str) -> None:
    p = problem(network=network)
    [batch] = torch.tensor(batches_for(p, 1, seed=seed), dtype=torch.float64)
    before = torch.tensor(initial.weights(str(seed), p), dtype=torch.float64)
    v = v_of(p, before, MaskedSgd(p).step(batch, before, []), batch)
    assert ((v >= 0) & (v < p.unit)).all()
    assert not ((v + p.unit < p.unit) | (v - p.unit >= 0)).any()  # one more, one less


@pytest.mark.parametrize("place", [0, 11, 22])
def test_other_weights_have_a_deficit(place: int) -> None:
    """A parameter of the next weights moved by one. Where v is too large, its digits end; where it is negative, it shows."""
    p, made = case("relu", 2, (1,), 1)
    assert p.size == 23
    inputs = tensors(p, made)
    for off, shows in ((1, True), (-1, False)):
        moved = [*inputs[:2], inputs[2].clone(), *inputs[3:]]
        moved[2].view(-1)[p.state_layout.places(place // 32)[place % 32]] += off
        deficit, _ = run_torch(MaskedSgd(p), moved)
        assert (deficit > 0) == shows
        if not shows:  # v is beyond what base^legs holds: no witness, see the attacks
            batch = torch.tensor(p.batch_layout.matrix(made.batches[0]), dtype=torch.float64)
            batch = torch.cat([batch[:2], batch[3:]])  # without who is forgotten
            before, after = (tensor[: p.state_layout.rows, :32].reshape(-1)[: p.size].double() for tensor in moved[1:3])
            assert v_of(p, before, after, batch).max() >= p.unit == p.fixed_point.base**p.fixed_point.legs


def test_weights_of_several_kzg_columns() -> None:
    """Salt stands between them: the circuit cuts it off, that of the public first weights as well."""
    p = problem(hidden=300)
    assert p.state_layout.points == 2 and p.state_layout.salt_columns
    batches = batches_for(p)
    made = make(p, batches, [record(batches, p)], steps=1)
    assert run_torch(MaskedSgd(p), tensors(p, made)) == (0, 5)


def test_the_circuit_says_the_same() -> None:
    made = honest(2)
    assert [each.instances for each in made.groups] == [(0, 0, 5, 5), (0, 5)]


@pytest.mark.parametrize("network", ["relu", "linear"])
@pytest.mark.parametrize("logrows", [11, 14])
def test_layouts_have_room_and_constants_are_exact(network: str, logrows: int) -> None:
    """Each constant of a circuit must be one that float32 holds; half a unit must be whole."""
    for steps in (1, 3):
        p = problem(network=network, steps=steps, logrows=logrows, legs=3 if logrows == 11 else 2, forgotten=(2, 1))
        MaskedSgd(p)
        assert p.unit % 2 == 0 and p.unit == p.fixed_point.base**p.legs
        assert len(p.layouts) == 2 * steps + 3
        assert p.state_layout.rows * 32 >= p.size > (p.state_layout.rows - 1) * 32
        assert [layout.rows for layout in p.layouts[-2:]] == [2, 1]
        assert len(p.arranged({name: [0] * torch.Size(shape).numel() for name, shape in p.released.items()})[0]) == 32


@pytest.mark.parametrize("network", ["relu", "linear"])
def test_a_description_and_back(network: str) -> None:
    p = problem(network=network, steps=2, forgotten=(1, 3))
    told = description.describe(p)
    assert told["forgotten"] == [1, 3] and description.parse("exclusion-chain/v1", told) == p
    for wrong in ({**told, "rate": 1.0}, {**told, "steps": True}, {**told, "forgotten": 1}, {**told, "bits": 4}):
        with pytest.raises(ProverError, match="expected"):
            description.parse("exclusion-chain/v1", wrong)
    with pytest.raises(ProverError, match="expected the parameters"):
        description.parse("exclusion-optimum/v1", told)
    with pytest.raises(ProverError, match="network of linear, relu"):
        description.parse("exclusion-chain/v1", {**told, "network": "tanh"})


def test_impossible_problems_are_refused() -> None:
    for changes, message in (
        ({"network": "tanh"}, "network of linear, relu"),
        ({"rate": 0}, "rate to be 1"),
        ({"batch": 0}, "batch to be 1"),
        ({"hidden": 0}, "hidden units for relu"),
        ({"network": "linear", "hidden": 3}, "none for linear"),
        ({"steps": 0}, f"1 to {MAX_STEPS} steps"),
        ({"steps": MAX_STEPS + 1}, f"1 to {MAX_STEPS} steps"),
        ({"forgotten": ()}, "one forgotten record"),
        ({"forgotten": (1, 0)}, "one forgotten record"),
        ({"tau": -1}, "tau"),
        ({"legs": 4}, "2 or 3 legs"),
        ({"logrows": 23}, "that the field holds"),
        ({"rate": 1 << 130}, "that the field holds"),
    ):
        with pytest.raises(ProverError, match=message):
            problem(**changes)
    with pytest.raises(ProverError, match="24 significant bits"):
        MaskedSgd(problem(rate=(1 << 24) + 1))
    with pytest.raises(ProverError, match="expected 23 parameters, got 22"):
        problem().matrix([0] * 22)
