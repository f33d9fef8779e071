"""Influence functions and Newton removal (Koh & Liang 2017; Guo et al. 2020): W' = W + H⁻¹ Σ_S ∇ℓ, and how well that was solved.

``residual`` is ‖HΔ − g‖ / ‖g‖ for the weights as they were stored, in float64; ``gradient`` is ‖g‖ and ``left`` the norm of the
retained records' gradient at the new weights. Where the loss is strongly convex with λ for each of R retained records, the
retrained optimum is no further away than left / (λR).
"""

from typing import Annotated

from msgspec import Meta

from certify.errors import ChainError
from certify.fields import Count
from certify.methods import checks
from certify.methods.detail import Case, Detail

NotNegative = Annotated[float, Meta(ge=0)]


class Newton(Detail, frozen=True, tag="newton/v1"):
    """Numbers of records, the damping, and norms as in the module's docstring."""

    damping: NotNegative
    forgotten: Annotated[int, Meta(ge=1)]
    gradient: NotNegative
    iterations: Count
    left: NotNegative
    residual: NotNegative
    retained: Annotated[int, Meta(ge=1)]
    tolerance: Annotated[float, Meta(gt=0, lt=1)]

    SHOWS = "with what damping and to what residual, by the operator's word, the equation of the step was solved"
    DOES_NOT_SHOW = (
        "that the new weights are those of a retrained model: one step gets there where the loss is quadratic, near it where "
        "it is convex, and nobody knows how near for a deep network"
    )

    def check(self, case: Case) -> list[str]:
        if not self.residual <= self.tolerance:
            raise ChainError(
                f"entry {case.index} states a residual of {self.residual:g}, expected at most its tolerance of {self.tolerance:g}"
            )
        checks.told(case, damping=self.damping, tolerance=self.tolerance)
        checks.same_shapes(case)
        if self.gradient and case.pre.root() == case.post.root():
            raise ChainError(f"entry {case.index} states a step, its weights are the same before and after")
        return [
            *checks.records(case, forgotten=self.forgotten, retained=self.retained),
            f"by the operator's word, ‖HΔ − g‖ is {self.residual:.3g} of ‖g‖ = {self.gradient:.3g}, damping {self.damping:g}",
            f"by the operator's word, the retained records' gradient is {self.left:.3g} at the new weights",
        ]
