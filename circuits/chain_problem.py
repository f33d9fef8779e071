"""The shapes and integer parameters of ``exclusion-chain/v1``: what its ONNX, and so its verification key, is made from.

::

    p = ChainProblem("relu", features=64, hidden=16, outputs=10, batch=32, steps=2, forgotten=(1,), scale_x=16, scale_w=512,
                     rate=1, tau=64)
    p.unit                          # 2040**3: gradients are divided by it, and the rest is rounded
    p.learning_rate                 # of the mean over a batch
    p.released                      # {"0.bias": (16,), "0.weight": (16, 64), "2.bias": (10,), "2.weight": (10, 16)}

No torch: a verifier reads public values by it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from circuits import table
from circuits.bn254 import R
from circuits.errors import ProverError
from circuits.fixed_point import FixedPoint
from circuits.layout import Layout

Network = Literal["linear", "logistic", "relu"]
NETWORKS: tuple[Network, ...] = ("linear", "logistic", "relu")
WIDTH = 32
"""Weights are committed to as a matrix of this many columns."""
MAX_STEPS = 64


@dataclass(frozen=True, slots=True)
class ChainProblem:
    """``steps`` steps of SGD in one proof: x = X/scale_x, y = Y, w = W/scale_w, and tau, a squared distance, in units of
    1/scale_x².

    ``linear`` is xW + b, ``relu`` has ``hidden`` units in between; their loss is ½‖z − y‖². ``logistic`` is linear too, its loss
    Σ ln(1 + exp(−yz)) for labels −1 and 1, by a table of the sigmoid: ``table_scale`` is as in :mod:`circuits.table`, 0 for the
    others. ``rate`` sets the learning rate, see :attr:`learning_rate`. ``forgotten``: rows of each committed tensor of forgotten
    records, one tensor a request. The proofs are how many the salt of a commitment outlasts. Raises ProverError for what cannot
    be.
    """

    statement: ClassVar[str] = "exclusion-chain/v1"

    network: Network
    features: int
    hidden: int
    outputs: int
    batch: int
    steps: int
    forgotten: tuple[int, ...]
    scale_x: int
    scale_w: int
    rate: int
    tau: int
    logrows: int = 11
    record_proofs: int = 8
    forgotten_proofs: int = 64
    table_scale: int = 0

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise ProverError(f"expected a network of {', '.join(NETWORKS)}, got {self.network!r}")
        for name in ("features", "outputs", "batch", "scale_x", "scale_w", "rate"):
            if getattr(self, name) < 1:
                raise ProverError(f"expected {name} to be 1 at least, got {getattr(self, name)}")
        if (self.hidden > 0) != (self.network == "relu") or self.hidden < 0:
            raise ProverError(
                f"expected hidden units for relu and none for the others, got {self.hidden} for {self.network}"
            )
        if not 1 <= self.steps <= MAX_STEPS:
            raise ProverError(f"expected 1 to {MAX_STEPS} steps in a proof, got {self.steps}")
        if not self.forgotten or min(self.forgotten) < 1:
            raise ProverError(f"expected one forgotten record at least in each tensor, got {self.forgotten}")
        if self.tau < 0:
            raise ProverError(f"expected tau to be 0 at least, got {self.tau}")
        if self.network == "logistic":
            table.check(self.table_scale, self.scale_x * self.scale_w, self.logrows)
        elif self.table_scale:
            raise ProverError(f"expected no table for {self.network}, got one of scale {self.table_scale}")
        if 2 * self.largest >= R:  # what wraps around could be rounded to anything
            raise ProverError(f"expected numbers that the field holds, got up to {self.largest.bit_length()} bits")

    @property
    def legs(self) -> int:
        """Digits of what the circuit takes apart: 30 bits of salt are to fit, and float64 is to hold ``unit`` times a step."""
        return 3 if self.logrows <= 15 else 2

    @property
    def unit(self) -> int:
        """What a gradient is divided by. A number from 0 to below it is just what the circuit's digits can hold."""
        return int(self.fixed_point.base**self.legs)

    @property
    def division(self) -> int:
        """Bits that a margin loses before it goes into the table."""
        return table.division(self.table_scale, self.scale_x * self.scale_w)

    @property
    def table_limit(self) -> int:
        return table.limit(self.table_scale) if self.table_scale else 1

    @property
    def largest(self) -> int:
        """No number in the circuit is beyond it: inputs and what is compared lie within ±unit, or have no witness."""
        unit, lift = self.unit, self.scale_x * self.scale_w
        z = (self.hidden or self.features) * unit**2 + lift * unit
        r = z + lift * (self.scale_w if self.hidden else 1) * unit
        slope = self.outputs * r * unit if self.hidden else r
        gradient = self.batch * max(slope, r) * max(unit, lift)
        return self.rate * gradient + 3 * unit**2 + 4 * self.features * unit**2

    @property
    def gradient_scale(self) -> int:
        """A gradient summed over a batch comes in units of 1/gradient_scale."""
        if self.network == "logistic":
            return self.scale_x << self.table_scale
        return self.scale_x**2 * self.scale_w * (self.scale_w**2 if self.hidden else 1)

    @property
    def learning_rate(self) -> float:
        """η of w − η ∇, ∇ the mean over all rows of a batch, those that are left out counted as zero."""
        return self.batch * self.rate * self.gradient_scale / (self.unit * self.scale_w)

    @property
    def output_scales(self) -> tuple[int, ...]:
        """The module's outputs times 2 to the power of these are the public integers: a deficit, then a count for each step."""
        return (self.table_scale,) * self.steps + (0,) * self.steps

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Tensors of the model in the order that they are committed in, as torch's ``nn.Sequential`` has them."""
        if not self.hidden:
            return {"0.weight": (self.outputs, self.features), "0.bias": (self.outputs,)}
        return {
            "0.weight": (self.hidden, self.features),
            "0.bias": (self.hidden,),
            "2.weight": (self.outputs, self.hidden),
            "2.bias": (self.outputs,),
        }

    @property
    def released(self) -> dict[str, tuple[int, ...]]:
        return self.shapes

    @property
    def size(self) -> int:
        """Parameters in all."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def arranged(self, tensors: Mapping[str, Sequence[int]]) -> list[list[int]]:
        """The committed matrix of weights from the released tensors' integers, row by row, filled up with zeros."""
        return self.matrix([value for name in self.shapes for value in tensors[name]])

    def matrix(self, flat: Sequence[int]) -> list[list[int]]:
        """The committed matrix of all parameters, one after the other."""
        if len(flat) != self.size:
            raise ProverError(f"expected {self.size} parameters, got {len(flat)}")
        filled = [*flat, *[0] * (-self.size % WIDTH)]
        return [filled[at : at + WIDTH] for at in range(0, len(filled), WIDTH)]

    @property
    def fixed_point(self) -> FixedPoint:
        return FixedPoint(
            self.logrows,
            (1 << self.logrows) - 8,
            self.legs,
            columns=3 if self.table_scale else 2,
            param_scale=self.table_scale,
            table=self.table_limit,
        )

    @property
    def batch_layout(self) -> Layout:
        """Of a batch: features, then targets."""
        return Layout(self.batch, self.features + self.outputs, self.logrows, self.record_proofs)

    @property
    def state_layout(self) -> Layout:
        """Of the weights before and after a step: each is in two proofs."""
        return Layout(-(-self.size // WIDTH), WIDTH, self.logrows, 2)

    @property
    def layouts(self) -> list[Layout]:
        """Of the committed inputs: a batch for each step, the weights before the first and after each, the forgotten records."""
        return [
            *[self.batch_layout] * self.steps,
            *[self.state_layout] * (self.steps + 1),
            *(Layout(count, self.features, self.logrows, self.forgotten_proofs) for count in self.forgotten),
        ]
