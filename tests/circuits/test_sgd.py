"""A step against autograd, the equation in Python integers, ONNX Runtime and the circuit; rounding has one answer."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits import chain, child, description, initial, prover
from circuits.chain_problem import MAX_STEPS, ChainProblem
from circuits.errors import ProverError, ZkProofError
from circuits.export import run_onnx, run_torch, to_onnx
from circuits.steps.sgd import MaskedSgd
from circuits.zk_proof import felt
from tests.chain_proofs import SEED, Chain, batches_for, check, honest, make, problem, record

NETWORKS = [
    ("relu", 2, (1,)),
    ("relu", 2, (2, 1)),
    ("relu", 1, (1,)),
    ("linear", 3, (1,)),
    ("linear", 1, (1, 1)),
    ("logistic", 1, (2,)),
    ("logistic", 3, (1, 1)),
]


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
        elif p.table_scale:
            da = [-y[i] * entry(-y[i] * argument(a[i], p), p) for i in range(o)]
        else:
            da = [a[i] - sx * sw * y[i] for i in range(o)]
        for i in range(first):
            gb1[i] += sx * da[i]
            for j in range(d):
                g1[i][j] += da[i] * x[j]
    found = [v for line in g1 for v in line] + gb1
    return (found + [v for line in g2 for v in line] + gb2 if h else found), kept


def argument(z: int, p: ChainProblem) -> int:
    return max(-p.table_limit, min(p.table_limit, (z + (1 << p.division >> 1)) >> p.division))


def entry(q: int, p: ChainProblem) -> int:
    """2^k σ(q/2^k), rounded."""
    return math.floor((1 << p.table_scale) / (1 + math.exp(-q / (1 << p.table_scale))) + 0.5)


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
    assert run_torch(module, inputs, p.output_scales) == values
    if not p.table_scale:  # ONNX has a sigmoid in the place of a table; the circuit's is below
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
    ours = MaskedSgd(p).gradient(batch[:, : p.features], y, m, flat) / p.gradient_scale
    assert (ours - theirs).abs().max() <= 1e-12 * theirs.abs().max() and theirs.abs().max() > 0.01


@pytest.mark.parametrize(("logrows", "table_scale", "scale_w"), [(11, 7, 512), (14, 10, 4096)])
def test_the_logistic_gradient_is_autograd_s(logrows: int, table_scale: int, scale_w: int) -> None:
    """Within what the table rounds off: its values by 2^-(k+1), its arguments by 2^-(k+1), and σ' is ¼ at most."""
    p = problem(network="logistic", outputs=2, logrows=logrows, table_scale=table_scale, scale_w=scale_w)
    batch = torch.tensor(batches_for(p)[0], dtype=torch.float64)
    x, y = batch[:, : p.features] / p.scale_x, batch[:, p.features :]
    flat = torch.tensor(initial.weights(SEED, p), dtype=torch.float64) + torch.arange(p.size)
    m = torch.tensor([1.0, 1, 0, 1, 0, 1], dtype=torch.float64)[:, None]
    weight = (flat[:8].reshape(2, 4) / scale_w).requires_grad_()
    bias = (flat[8:] / scale_w).requires_grad_()
    (torch.nn.functional.softplus(-y * (x @ weight.T + bias)) * m).sum().backward()
    assert weight.grad is not None and bias.grad is not None
    theirs = torch.cat([weight.grad.reshape(-1), bias.grad])
    ours = MaskedSgd(p).gradient(batch[:, : p.features], y, m, flat) * 2.0**table_scale / p.gradient_scale
    off = (2.0 ** -(table_scale + 1) + 2.0 ** -(table_scale + 3)) * (m * torch.cat([x, torch.ones(6, 1)], 1).abs()).sum(
        0
    )
    limit = torch.cat([off[:4].repeat(2), off[4:].repeat(2)])
    assert ((ours - theirs).abs() <= limit + 1e-12).all() and theirs.abs().max() > 10 * limit.max()


@pytest.mark.parametrize("network", ["relu", "linear", "logistic"])
def test_the_learning_rate_is_of_the_mean_over_a_batch(network: str) -> None:
    """torch's SGD with that learning rate is half a unit away, for each parameter."""
    p = problem(network=network)
    batch = torch.tensor(batches_for(p)[0], dtype=torch.float64)
    start = torch.tensor(initial.weights(SEED, p), dtype=torch.float64)
    x, y = batch[:, : p.features], batch[:, p.features :]
    kept = torch.ones(p.batch, 1, dtype=torch.float64)
    module = MaskedSgd(p)
    total = module.gradient(x, y, kept, start) / module.grain / p.gradient_scale  # autograd's, as above
    expected = start / p.scale_w - p.learning_rate * total / p.batch
    stepped = MaskedSgd(p).step(batch, start, []) / p.scale_w
    assert (stepped - expected).abs().max() <= 0.5 / p.scale_w + 1e-12
    assert (stepped - start / p.scale_w).abs().max() > 2 / p.scale_w


def v_of(p: ChainProblem, before: torch.Tensor, after: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    """What the digits are to hold, without forgotten records."""
    x, y = batch[:, : p.features], batch[:, p.features :]
    g = MaskedSgd(p).gradient(x, y, torch.ones(len(x), 1, dtype=x.dtype), before)
    return p.unit * (before - after) - p.rate * g * 2**p.table_scale + p.unit / 2


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), network=st.sampled_from(["relu", "linear", "logistic"]))
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


def test_the_circuit_of_a_logistic_loss_says_the_same() -> None:
    p = problem(network="logistic", outputs=1, steps=2)
    batches = batches_for(p)
    made = make(p, batches, [record(batches, p)], steps=2)
    assert check(made) == [5, 5]
    values = list(made.states[2])
    values[p.state_layout.places(0)[3]] += 1
    lie = replace(made, states=(*made.states[:2], tuple(values)))
    with pytest.raises(ZkProofError, match="after step 1 to be what SGD makes"):
        check(lie)


def mocked(circuit: prover.Circuit, inputs: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The public integers of a witness that every constraint holds for, without keys."""
    with child.folder() as work:
        (work / "compiled").write_bytes(circuit.compiled)
        (work / "input").write_text(json.dumps({"input_data": [[felt(v).hex() for v in values] for values in inputs]}))
        calls = [
            child.Call("gen_witness", {"model": "compiled", "data": "input", "output": "witness"}),
            child.Call("mock", {"model": "compiled", "witness": "witness"}),
        ]
        child.run(calls, work, seconds=120, error=ProverError)
        outputs = json.loads((work / "witness").read_bytes())["outputs"]
    return tuple(int.from_bytes(bytes.fromhex(value), "little") for output in outputs for value in output)


@pytest.mark.parametrize("logrows", [12, 13, 15])
def test_circuits_of_other_logrows(logrows: int) -> None:
    """Salts of 30 bits fit their digits, and the unit is a product where float32 does not hold it."""
    p = problem(logrows=logrows, rate={12: 8, 13: 64, 15: 64}[logrows])
    batches = batches_for(p)
    made = make(p, batches, [record(batches, p)], steps=1)
    assert made.states[0] != made.states[1]
    [group] = chain.plan(p, 1)
    values = mocked(description.build(p), group.inputs(made.batches, made.states, made.forgotten))
    assert values == run_torch(MaskedSgd(p), tensors(p, made)) == (0, 5)


@pytest.mark.parametrize("network", ["relu", "linear", "logistic"])
@pytest.mark.parametrize("logrows", [11, 12, 14, 15, 16])
def test_layouts_have_room_and_constants_are_exact(network: str, logrows: int) -> None:
    """Each constant of a circuit must be one that float32 holds; half a unit must be whole."""
    for steps in (1, 3):
        p = problem(network=network, steps=steps, logrows=logrows, forgotten=(2, 1))
        MaskedSgd(p)
        assert p.unit % 2 == 0 and p.unit == p.fixed_point.base**p.legs
        assert len(p.layouts) == 2 * steps + 3
        assert p.state_layout.rows * 32 >= p.size > (p.state_layout.rows - 1) * 32
        assert [layout.rows for layout in p.layouts[-2:]] == [2, 1]
        assert len(p.arranged({name: [0] * torch.Size(shape).numel() for name, shape in p.released.items()})[0]) == 32


@pytest.mark.parametrize("network", ["relu", "linear", "logistic"])
def test_a_description_and_back(network: str) -> None:
    p = problem(network=network, steps=2, forgotten=(1, 3))
    told = description.describe(p)
    assert told["forgotten"] == [1, 3] and description.parse("exclusion-chain/v1", told) == p
    for wrong in ({**told, "rate": 1.0}, {**told, "steps": True}, {**told, "forgotten": 1}, {**told, "bits": 4}):
        with pytest.raises(ProverError, match="expected"):
            description.parse("exclusion-chain/v1", wrong)
    with pytest.raises(ProverError, match="expected the parameters"):
        description.parse("exclusion-optimum/v1", told)
    with pytest.raises(ProverError, match="network of linear, logistic, relu"):
        description.parse("exclusion-chain/v1", {**told, "network": "tanh"})


def test_impossible_problems_are_refused() -> None:
    for changes, message in (
        ({"network": "tanh"}, "network of linear, logistic, relu"),
        ({"rate": 0}, "rate to be 1"),
        ({"batch": 0}, "batch to be 1"),
        ({"hidden": 0}, "hidden units for relu"),
        ({"network": "linear", "hidden": 3}, "none for the others"),
        ({"steps": 0}, f"1 to {MAX_STEPS} steps"),
        ({"steps": MAX_STEPS + 1}, f"1 to {MAX_STEPS} steps"),
        ({"forgotten": ()}, "one forgotten record"),
        ({"forgotten": (1, 0)}, "one forgotten record"),
        ({"tau": -1}, "tau"),
        ({"table_scale": 7}, "no table for relu"),
        ({"network": "logistic", "table_scale": 0}, "table_scale from 1 to 10"),
        ({"network": "logistic", "hidden": 3}, "none for the others"),
        ({"scale_w": 1 << 60}, "that the field holds"),
        ({"rate": 1 << 130}, "that the field holds"),
    ):
        with pytest.raises(ProverError, match=message):
            problem(**changes)
    with pytest.raises(ProverError, match="24 significant bits"):
        MaskedSgd(problem(rate=(1 << 24) + 1))
    with pytest.raises(ProverError, match="expected 23 parameters, got 22"):
        problem().matrix([0] * 22)
