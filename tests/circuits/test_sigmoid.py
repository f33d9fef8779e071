"""The table of the sigmoid: ours against Python's integers, and EZKL's against ours, entry by entry."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from circuits import child, prover
from circuits.errors import ProverError
from circuits.export import to_onnx
from circuits.fixed_point import fixed_point
from circuits.sigmoid import arguments, table
from circuits.zk_proof import felt, signed
from tests.proving import problem


def limit_of(k: int) -> int:
    return problem("logistic", table_scale=k, scale_w=2 << k >> 6, logrows=20).table_limit


@pytest.mark.parametrize("k", range(6, 15))
def test_the_table_never_falls_and_has_reached_0_and_1_at_its_ends(k: int) -> None:
    limit = limit_of(k)
    entries = (table(torch.arange(-limit, limit + 1).double() / 2**k, k=k) * 2**k).long()
    assert entries.diff().min() == 0 and entries.diff().max() == 1
    assert (entries[0], entries[limit], entries[-1]) == (0, 2**k // 2, 2**k)
    exact = [math.floor(2**k / (1 + math.exp(-q / 2**k)) + 0.5) for q in range(-limit, limit + 1)]
    assert entries.tolist() == exact
    assert table(torch.tensor([(limit - 64) / 2**k]).double(), k=k) < 1  # and not long before


@given(z=st.integers(-(1 << 40), 1 << 40) | st.integers(-(1 << 22), 1 << 22), d=st.integers(1, 10))
def test_arguments_are_rounded_halves_upwards_and_held(z: int, d: int) -> None:
    expected = max(-7808, min(7808, (z + (1 << d >> 1)) >> d))
    for value, q in ((z, expected), ((z >> d << d) + (1 << d >> 1), max(-7808, min(7808, (z >> d) + 1)))):
        assert arguments(torch.tensor([float(value)]).double(), k=10, d=d, limit=7808).item() * 1024 == q


class Both(nn.Module):
    """What a circuit does with a margin, for labels of 1."""

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return table(y * arguments(z, k=7, d=3, limit=limit_of(7)), k=7)


def test_ezkls_table_and_rounding_are_ours_to_the_last_digit() -> None:
    """Every entry, every remainder at some of them, and margins beyond the ends."""
    limit = limit_of(7)
    z = (
        [q << 3 for q in range(-limit, limit + 1)]
        + list(range(-40, 41))
        + [1 << 20, -(1 << 20), (limit << 3) + 5, -(limit << 3) - 5]
    )
    shape = (len(z), 1)
    parameters = fixed_point(1 << 24, 11, param_scale=7, table=limit, division=3)
    circuit = prover.compile(to_onnx(Both(), [shape, shape]), parameters)
    with child.folder() as work:
        (work / "compiled").write_bytes(circuit.compiled)
        (work / "input").write_text(
            json.dumps({"input_data": [[felt(v).hex() for v in part] for part in (z, [1] * len(z))]})
        )
        arguments_ = {"model": "compiled", "data": "input", "output": "witness"}
        child.run([child.Call("gen_witness", arguments_)], work, seconds=60, error=ProverError)
        [theirs] = json.loads((work / "witness").read_bytes())["outputs"]
    ours = (Both()(torch.tensor(z).double(), torch.ones(len(z)).double()) * 128).long().tolist()
    assert [signed(bytes.fromhex(value)) for value in theirs] == ours
