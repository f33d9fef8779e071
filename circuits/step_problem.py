"""The shapes and integer parameters of ``step/v1``: what its ONNX, and so its verification key, is made from.

::

    p = StepProblem("ascent", "linear", features=30, hidden=0, outputs=1, steps=5, forgotten=(1,), scale_x=16, scale_w=4096,
                    rate=1 << 20)
    p.learning_rate                            # of W' = W + η ∇L(W), L the mean over the records to forget
    [layout.shape for layout in p.layouts]     # the records to forget, then the weights before and after each step, with salt

What each method computes is in circuits/steps: ``ascent``, ``mask``, ``projection``, ``subtraction``, ``newton``, or
``own:NAME`` for an operator's own, of which the ONNX alone says what it does. No torch: a verifier reads public values by it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from circuits.bn254 import R
from circuits.chain_problem import ChainProblem, Network
from circuits.errors import ProverError
from circuits.fixed_point import FixedPoint
from circuits.layout import Layout

METHODS = ("ascent", "mask", "projection", "subtraction", "newton")
OWN = "own:"
MAX_STEPS = 64
STATE_PROOFS = 4
"""Proofs that a commitment to weights outlasts."""
CONSTANT = 1 << 24
"""Constants of a circuit are below it, see :func:`circuits.export.constant`."""


@dataclass(frozen=True, slots=True)
class StepProblem:
    """``steps`` steps of one method in one proof: x = X/scale_x, w = W/scale_w; networks and ``table_scale`` are those of
    :class:`circuits.chain_problem.ChainProblem`.

    ``forgotten``: rows of each committed tensor of records to forget, features and targets, one tensor a request.
    ``rate``, of ascent, sets :attr:`learning_rate`. ``numbers`` are those that a method makes public: a mask's zeros and ones,
    in the order of :attr:`shapes`, a direction, or what an own step likes to state. ``deltas``: changes to take off, of
    subtraction. Newton's: ``rows`` of the training data, ``penalty`` (Λ = penalty/scale_x²), ``tau`` in units of 1/scale_x².
    Raises ProverError for what cannot be.
    """

    statement: ClassVar[str] = "step/v1"

    method: str
    network: Network
    features: int
    hidden: int
    outputs: int
    steps: int
    forgotten: tuple[int, ...]
    scale_x: int
    scale_w: int
    rate: int = 0
    numbers: tuple[int, ...] = ()
    deltas: int = 0
    rows: int = 0
    penalty: int = 0
    tau: int = 0
    logrows: int = 11
    record_proofs: int = 4
    forgotten_proofs: int = 16
    table_scale: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS and not (self.is_own and len(self.method) > len(OWN)):
            raise ProverError(f"expected a method of {', '.join(METHODS)} or {OWN}NAME, got {self.method[:80]!r}")
        if not 1 <= self.steps <= (MAX_STEPS if self.method == "ascent" or self.is_own else 1):
            raise ProverError(f"expected one step of {self.method}, or up to {MAX_STEPS} of ascent, got {self.steps}")
        if any(count < 1 for count in self.forgotten) or bool(self.forgotten) != self.takes_records:
            raise ProverError(f"expected records to forget for {self.method} where it takes any, got {self.forgotten}")
        for name in ("rate", "deltas", "rows", "penalty"):
            if (getattr(self, name) > 0) != (_NEEDS.get(name) == self.method) or getattr(self, name) < 0:
                raise ProverError(f"expected {name} for {_NEEDS[name]} alone, got {getattr(self, name)}")
        if self.tau < 0 or (self.tau and not self.rows):
            raise ProverError(f"expected tau to be 0 at least, and 0 but for newton, got {self.tau}")
        self._check_numbers()
        if self.rows and (self.network != "linear" or 2 * self.newton_largest >= R):
            raise ProverError("expected a linear network with the squared error, and numbers that the field holds")

    def _check_numbers(self) -> None:
        wanted = {"mask": self.size, "projection": self.features}.get(self.method, 0)
        if not self.is_own and len(self.numbers) != wanted:
            raise ProverError(f"expected {wanted} public numbers for {self.method}, got {len(self.numbers)}")
        if self.method == "mask" and set(self.numbers) - {0, 1}:
            raise ProverError("expected a mask of zeros and ones, got other numbers")
        if self.method == "projection" and not 0 < self.length < CONSTANT:
            raise ProverError(f"expected a direction of squared length 1 to {CONSTANT - 1}, got {self.length}")

    @property
    def is_own(self) -> bool:
        return self.method.startswith(OWN)

    @property
    def takes_records(self) -> bool:
        """Whether what the requests committed to goes into the circuit; what the others remove is in their public numbers, or
        follows from the records' places. An own step takes them or not."""
        if self.is_own:
            return bool(self.forgotten)
        return self.method not in ("mask", "projection", "subtraction")

    @property
    def length(self) -> int:
        """Of a direction, squared."""
        return sum(value * value for value in self.numbers)

    @property
    def chain(self) -> ChainProblem:
        """One step of SGD on the records to forget: the same network, scales and digits."""
        return ChainProblem(
            self.network,
            features=self.features,
            hidden=self.hidden,
            outputs=self.outputs,
            batch=max(1, sum(self.forgotten)),
            steps=1,
            forgotten=(1,),
            scale_x=self.scale_x,
            scale_w=self.scale_w,
            rate=max(1, self.rate),
            tau=0,
            logrows=self.logrows,
            table_scale=self.table_scale,
        )

    @property
    def unit(self) -> int:
        """What a gradient is divided by; what the circuit takes apart lies within it."""
        return self.chain.unit

    @property
    def learning_rate(self) -> float:
        """η of w + η ∇, ∇ the mean over all records to forget."""
        return self.chain.learning_rate

    @property
    def newton_largest(self) -> int:
        """No number in Newton's circuit is beyond it: inputs lie within ±unit, or have no witness."""
        unit = self.unit
        z = unit * (self.features * unit + self.scale_x)  # X̃ w
        r = 2 * z + z + self.scale_x * self.scale_w * unit
        return (
            self.rows * max(unit, self.scale_x) * r + 2 * self.penalty * unit + 4 * self.features * unit**2 + self.tau
        )

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Tensors of the model in the order that they are committed in."""
        return self.chain.shapes

    @property
    def released(self) -> dict[str, tuple[int, ...]]:
        return self.shapes

    @property
    def size(self) -> int:
        """Parameters in all."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def arranged(self, tensors: Mapping[str, Sequence[int]]) -> list[list[int]]:
        """The committed matrix of weights from the released tensors' integers."""
        return self.chain.arranged(tensors)

    @property
    def output_scales(self) -> tuple[int, ...]:
        """The module's outputs times 2 to the power of these are the public integers: a deficit for each step; Newton's
        residual."""
        return (self.table_scale if self.method == "ascent" else 0,) * self.steps

    @property
    def public_values(self) -> int | None:
        """How many numbers a proof makes public; None where an own step's ONNX says so."""
        if self.is_own:
            return None
        return self.size if self.method == "newton" else self.steps

    @property
    def fixed_point(self) -> FixedPoint:
        plain = self.method != "ascent" and self.table_scale > 0  # nothing is looked up
        return (replace(self.chain, network="linear", table_scale=0) if plain else self.chain).fixed_point

    @property
    def state_layout(self) -> Layout:
        """Of weights: a proof takes those after, another those before, and each may have to be made anew after a crash."""
        plain = self.chain.state_layout
        return Layout(plain.rows, plain.columns, self.logrows, STATE_PROOFS)

    @property
    def records_layout(self) -> Layout:
        """Of all training data: features, then targets."""
        return Layout(self.rows, self.features + self.outputs, self.logrows, self.record_proofs)

    @property
    def forgotten_layouts(self) -> list[Layout]:
        return [
            Layout(count, self.features + self.outputs, self.logrows, self.forgotten_proofs) for count in self.forgotten
        ]

    @property
    def layouts(self) -> list[Layout]:
        """Of the committed inputs: what each request forgets, changes to take off, all records where there is need of them,
        then the weights before the first step and after each.
        """
        return [
            *self.forgotten_layouts,
            *[self.state_layout] * self.deltas,
            *([self.records_layout] if self.rows else []),
            *[self.state_layout] * (self.steps + 1),
        ]


_NEEDS = {"rate": "ascent", "deltas": "subtraction", "rows": "newton", "penalty": "newton"}
"""Parameters that are above 0 for one method, and 0 for the others."""
