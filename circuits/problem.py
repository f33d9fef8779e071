"""The shapes and integer parameters of ``exclusion-optimum/v1``: what its ONNX, and so its verification key, is made from.

::

    p = Problem(rows=569, features=30, outputs=1, forgotten=1, scale_x=128, scale_w=16384, penalty=16384, tau=128)
    p.shapes                             # [(571, 32), (47, 2), (3, 31)]: records, weights, forgotten, with salt
    p.bound(largest_x=2048, largest_sum=20, largest_radius=1)

No torch: a verifier reads public values by it.
"""

from dataclasses import dataclass

from circuits.commitment import SALT_BITS
from circuits.errors import ProverError
from circuits.layout import committed_shape


@dataclass(frozen=True, slots=True)
class Problem:
    """Shapes and integer parameters: x = X/scale_x, w = W/scale_w, y = Y/scale_y, Λ = penalty/scale_x², and tau, a
    squared distance, in units of 1/scale_x². Raises ProverError for what cannot be."""

    rows: int
    features: int
    outputs: int
    forgotten: int
    scale_x: int
    scale_w: int
    penalty: int
    tau: int
    scale_y: int = 1
    logrows: int = 11

    def __post_init__(self) -> None:
        for name in ("rows", "features", "outputs", "forgotten", "scale_x", "scale_w", "penalty", "scale_y"):
            if getattr(self, name) < 1:
                raise ProverError(f"expected {name} to be 1 at least, got {getattr(self, name)}")
        if self.tau < 0:
            raise ProverError(f"expected tau to be 0 at least, got {self.tau}")
        if self.scale_x * self.scale_w % self.scale_y:
            raise ProverError(f"expected scale_y to divide scale_x times scale_w, got {self.scale_y}")

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Of the committed inputs: records (features, then targets), weights, forgotten records; each with its salt."""
        return [
            committed_shape(self.rows, self.features + self.outputs, self.logrows),
            committed_shape(self.features, self.outputs, self.logrows),
            committed_shape(self.forgotten, self.features, self.logrows),
        ]

    def bound(self, *, largest_x: int, largest_sum: float, largest_radius: float) -> int:
        """A bound on the integers that a circuit takes apart: inputs, distances, margins and the public gradient.

        largest_x: of |X|; largest_sum: of Σ|w| over the features of an output; largest_radius: beyond which there is
        no proof.
        """
        distance = self.features * (2 * largest_x) ** 2 + self.tau
        margin = self.scale_x * self.scale_w + int(largest_x * self.scale_w * largest_sum) + 1
        gradient = int(largest_radius * self.scale_w * self.penalty) + 1
        return max(1 << SALT_BITS, largest_x, distance, margin, gradient, self.rows)
