"""First weights: the same on every machine, within bounds, and all as likely."""

import math
from collections import Counter
from hashlib import sha256, shake_256

import pytest

from circuits import initial
from circuits.chain_problem import ChainProblem
from circuits.commitment import SALT_BITS
from circuits.layout import Layout
from tests.chain_proofs import problem

WIDE = ChainProblem("relu", 64, 16, 10, 32, 1, (1,), 16, 512, 1, 64)


def test_known_weights() -> None:
    """Whoever changes how they are drawn breaks every certificate."""
    found = initial.weights("s", problem())
    assert found[:5] == [239, -673, -64, 834, 682]
    assert sha256(repr(initial.salted("s", WIDE)).encode()).hexdigest() == KNOWN


KNOWN = "1fb830844f5b85bb42cb82c4f95e0348bcd7247e52c3eefdb2eb60e634fd6e46"


def test_by_the_definition() -> None:
    """The first tensor by hand: 8 bytes a draw, big-endian, none of them among the few that are skipped."""
    p = problem()
    bound = math.floor(p.scale_w * math.sqrt(6 / (p.features + p.hidden)))
    label = b"unlearning-ledger/initial-weights/v1\x00"
    stream = shake_256(label + (3).to_bytes(4, "big") + "né".encode() + b"0.weight\x00" + bytes(8)).digest(1024)
    draws = [int.from_bytes(stream[8 * i : 8 * i + 8], "big") for i in range(12)]
    assert initial.weights("né", p)[:12] == [draw % (2 * bound + 1) - bound for draw in draws]


@pytest.mark.parametrize("network", ["relu", "linear"])
def test_weights_are_within_bounds_and_biases_are_zero(network: str) -> None:
    p = problem(network=network)
    found, at = initial.weights("s", p), 0
    for name, shape in p.shapes.items():
        part = found[at : at + math.prod(shape)]
        at += len(part)
        if name.endswith("bias"):
            assert not any(part)
        else:
            assert any(part) and max(map(abs, part)) ** 2 * sum(shape) <= 6 * p.scale_w**2
    assert at == len(found) == p.size


def test_integers_are_equally_likely() -> None:
    """Chi-squared of 15 degrees of freedom: beyond 50 once in 100,000 seeds, and this seed is fixed."""
    draws = initial._integers("s", "x", 16)
    counts = Counter(next(draws) for _ in range(16_000))
    assert set(counts) == {*range(16)}
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 50


def test_draws_that_would_favour_some_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """2^64 = 3·k + 1: the one draw too many counts for nothing."""

    class Stream:
        def __init__(self, _: bytes) -> None: ...

        def digest(self, length: int) -> bytes:
            return (b"\xff" * 8 + (7).to_bytes(8, "big")) * (length // 16)

    monkeypatch.setattr(initial, "shake_256", Stream)
    draws = initial._integers("s", "x", 3)
    assert [next(draws) for _ in range(200)] == [1] * 200  # and goes on beyond the first block


def test_seeds_and_tensors_differ() -> None:
    p = problem()
    assert initial.salted("a", p) == initial.salted("a", p) != initial.salted("b", p)
    assert initial.weights("a", p)[:6] != initial.weights("a", p)[15:21]
    assert initial.weights("", p) != initial.weights("\x00", p)


def test_the_commitment_is_laid_out_and_salted_as_that_of_every_state() -> None:
    for p in (problem(), WIDE, ChainProblem("linear", 3000, 0, 1, 2, 1, (1,), 16, 512, 1, 64)):
        layout, values = p.state_layout, initial.salted("s", p)
        matrix = layout.matrix(values)
        assert len(values) == layout.count
        assert [v for row in matrix for v in row] == [*initial.weights("s", p), *[0] * (layout.rows * 32 - p.size)]
        salt = list(values)
        for row in range(layout.rows):
            for place in layout.places(row):
                salt[place] = -1
        salt = [value for value in salt if value >= 0]
        assert len(salt) == len(set(salt)) == layout.count - layout.rows * layout.columns
        assert max(salt) < 1 << SALT_BITS
        assert isinstance(layout, Layout)
