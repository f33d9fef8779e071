"""Gradient difference: up on what is to be forgotten, down on what is to be kept, in one step."""

from typing import Annotated

from msgspec import Meta

from certify.fields import Count
from certify.methods import checks
from certify.methods.detail import Case, Detail

Rate = Annotated[float, Meta(gt=0)]


class GradientDifference(Detail, frozen=True, tag="gradient-difference/v1"):
    """``steps`` steps of size ``rate`` on ``forgotten`` and ``retained`` records, these with ``weight``. Losses are means."""

    rate: Rate
    steps: Count
    weight: Annotated[float, Meta(ge=0)]
    forgotten: Count
    retained: Count
    tensors: checks.Tensors
    forget_loss_before: float
    forget_loss_after: float
    retain_loss_before: float
    retain_loss_after: float

    SHOWS = (
        "which tensors were moved, and that the operator says to have raised the loss of as many records as are removed while "
        "lowering that of as many as are retained"
    )
    DOES_NOT_SHOW = (
        "that the steps followed these gradients, or that a raised loss is a forgotten record: what was learnt may stay and only "
        "be answered wrongly"
    )

    def check(self, case: Case) -> list[str]:
        checks.told(case, rate=self.rate, steps=self.steps, weight=self.weight)
        return [
            checks.only_changed(case, self.tensors),
            *checks.records(case, forgotten=self.forgotten, retained=self.retained),
            *checks.figures(
                {
                    "the loss of removed records before was": self.forget_loss_before,
                    "after": self.forget_loss_after,
                    "of retained ones before": self.retain_loss_before,
                    "and after": self.retain_loss_after,
                }
            ),
        ]
