"""Weights from a public seed: nothing that anybody chose, and nothing of anybody's data.

SHAKE-256 of a label, the seed and a number gives integers from −b to b for each tensor, each as likely as any other: 8 bytes
are a draw, and those that would favour some are skipped. b is scale_w·√(6 / (inputs + outputs)), rounded down (Glorot and
Bengio, 2010); biases start at 0. The salt of their commitment is public as well, so that a verifier knows every value of it::

    column(seed="2026-01-01 drawing of the state lottery", problem)
"""

import math
from collections.abc import Iterator
from hashlib import shake_256

from circuits.chain_problem import ChainProblem
from circuits.commitment import SALT_BITS

_LABEL = b"unlearning-ledger/initial-weights/v1\x00"
_DRAW = 8


def weights(seed: str, problem: ChainProblem) -> list[int]:
    """All parameters, flat, in the order of :attr:`ChainProblem.shapes`."""
    found: list[int] = []
    for name, shape in problem.shapes.items():
        count = math.prod(shape)
        if len(shape) == 1:
            found += [0] * count
            continue
        bound = math.isqrt(6 * problem.scale_w**2 // sum(shape))
        draws = _integers(seed, name, 2 * bound + 1)
        found += [next(draws) - bound for _ in range(count)]
    return found


def salted(seed: str, problem: ChainProblem) -> list[int]:
    """The committed values of these weights: the matrix of :attr:`ChainProblem.state_layout` with public salt."""
    layout = problem.state_layout
    draws = _integers(seed, "salt", 1 << SALT_BITS)
    values: list[int] = []
    for row in problem.matrix(weights(seed, problem)):
        values += [*row, *(next(draws) for _ in range(layout.salt_columns))]
    return values + [next(draws) for _ in range(layout.count - len(values))]


def _integers(seed: str, name: str, below: int) -> Iterator[int]:
    """Integers from 0 to below − 1, as many as are asked for."""
    text, most, block = seed.encode(), (1 << 8 * _DRAW) // below * below, 0
    while True:
        parts = [_LABEL, len(text).to_bytes(4, "big"), text, name.encode(), b"\x00", block.to_bytes(8, "big")]
        data = shake_256(b"".join(parts)).digest(_DRAW * 128)
        for at in range(0, len(data), _DRAW):
            value = int.from_bytes(data[at : at + _DRAW], "big")
            if value < most:
                yield value % below
        block += 1
