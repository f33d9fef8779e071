"""The shapes and integer parameters of ``exclusion-optimum/v1``: what its ONNX, and so its verification key, is made from.

::

    p = Problem("squared-hinge", rows=569, features=30, outputs=1, forgotten=(1,), scale_x=128, scale_w=16384,
                penalty=16384, tau=128, bits=31)
    [layout.shape for layout in p.layouts]     # [(569, 32), (32, 2), (12, 30)]: records, weights, forgotten, with salt

No torch: a verifier reads public values by it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from circuits import table
from circuits.commitment import SALT_BITS
from circuits.errors import ProverError
from circuits.fixed_point import FixedPoint, fixed_point
from circuits.layout import Layout

Loss = Literal["ridge", "squared-hinge", "logistic"]
LOSSES: tuple[Loss, ...] = ("ridge", "squared-hinge", "logistic")


@dataclass(frozen=True, slots=True)
class Problem:
    """Shapes and integer parameters: x = X/scale_x, w = W/scale_w, y = Y/scale_y, Λ = penalty/scale_x², and tau, a
    squared distance, in units of 1/scale_x².

    ``forgotten``: rows of each committed tensor of forgotten records, one tensor a request. ``bits``: of the largest integer
    that the circuit takes apart, see :func:`bits_of`. ``record_proofs`` and ``forgotten_proofs``: proofs that the salt of
    these commitments outlasts. Raises ProverError for what cannot be.

    ``table_scale``: arguments and values of a logistic loss's sigmoid are integers over 2^table_scale, see
    :mod:`circuits.sigmoid`; 0 for the others.
    """

    statement: ClassVar[str] = "exclusion-optimum/v1"

    loss: Loss
    rows: int
    features: int
    outputs: int
    forgotten: tuple[int, ...]
    scale_x: int
    scale_w: int
    penalty: int
    tau: int
    bits: int
    scale_y: int = 1
    logrows: int = 11
    record_proofs: int = 4
    forgotten_proofs: int = 16
    table_scale: int = 0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ProverError(f"expected a loss of {', '.join(LOSSES)}, got {self.loss!r}")
        for name in ("rows", "features", "outputs", "scale_x", "scale_w", "penalty", "scale_y", "bits"):
            if getattr(self, name) < 1:
                raise ProverError(f"expected {name} to be 1 at least, got {getattr(self, name)}")
        if not self.forgotten or min(self.forgotten) < 1:
            raise ProverError(f"expected one forgotten record at least in each tensor, got {self.forgotten}")
        if self.tau < 0:
            raise ProverError(f"expected tau to be 0 at least, got {self.tau}")
        if self.scale_x * self.scale_w % self.scale_y:
            raise ProverError(f"expected scale_y to divide scale_x times scale_w, got {self.scale_y}")
        if self.loss != "ridge" and self.scale_y != 1:
            raise ProverError(f"expected scale_y 1 for labels of a {self.loss}, got {self.scale_y}")
        if self.loss != "logistic" and self.table_scale:
            raise ProverError(f"expected no table for a {self.loss}, got one of scale {self.table_scale}")
        if self.loss == "logistic":
            table.check(self.table_scale, self.scale_x * self.scale_w, self.logrows)

    @property
    def division(self) -> int:
        """Bits that a margin loses before it goes into the table."""
        return table.division(self.table_scale, self.scale_x * self.scale_w)

    @property
    def table_limit(self) -> int:
        """The largest argument of the table: its value, and that of all beyond, is 1 once it is rounded."""
        return table.limit(self.table_scale) if self.table_scale else 1

    @property
    def output_scales(self) -> tuple[int, int]:
        """The module's outputs, gradient and count, times 2 to the power of these are the public integers."""
        return self.table_scale, 0

    @property
    def released(self) -> dict[str, tuple[int, ...]]:
        """Tensors of the released model by name, with their shapes: integers over scale_w, as torch's Linear has them."""
        return {"weight": (self.outputs, self.features)}

    def arranged(self, tensors: Mapping[str, Sequence[int]]) -> list[list[int]]:
        """The committed matrix of weights from the released tensors' integers, row by row. -> (features, outputs)"""
        return [[tensors["weight"][o * self.features + i] for o in range(self.outputs)] for i in range(self.features)]

    @property
    def fixed_point(self) -> FixedPoint:
        if self.loss != "logistic":
            return fixed_point(1 << self.bits, self.logrows)
        return fixed_point(
            1 << self.bits,
            self.logrows,
            param_scale=self.table_scale,
            table=self.table_limit,
            division=self.division,
        )

    @property
    def layouts(self) -> list[Layout]:
        """Of the committed inputs: records (features, then targets), weights, then the forgotten records of each request."""
        return [
            Layout(self.rows, self.features + self.outputs, self.logrows, self.record_proofs),
            Layout(self.features, self.outputs, self.logrows),
            *(Layout(count, self.features, self.logrows, self.forgotten_proofs) for count in self.forgotten),
        ]


def bits_of(
    *,
    features: int,
    rows: int,
    scale_x: int,
    scale_w: int,
    penalty: int,
    tau: int,
    largest_x: int,
    largest_sum: float,
    largest_radius: float,
    table_scale: int = 0,
) -> int:
    """Bits of the integers that a circuit takes apart: inputs, distances, margins and the public gradient.

    largest_x: of |X|; largest_sum: of Σ|w| over the features of an output; largest_radius: beyond which there is no proof.
    """
    distance = features * (2 * largest_x) ** 2 + tau
    margin = scale_x * scale_w + int(largest_x * scale_w * largest_sum) + 1
    if table_scale:  # its ends are less than table_scale + 1 on either side
        margin += 2 * (table_scale + 1) * scale_x * scale_w
    gradient = int(largest_radius * scale_w * penalty) + 1
    return max(1 << SALT_BITS, largest_x, distance, margin, gradient, rows).bit_length()
