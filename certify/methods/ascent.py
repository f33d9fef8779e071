"""Gradient ascent: the loss on what is to be forgotten was raised, step by step."""

from typing import Annotated

from msgspec import Meta

from certify.fields import Count
from certify.methods import checks
from certify.methods.detail import Case, Detail

Rate = Annotated[float, Meta(gt=0)]


class GradientAscent(Detail, frozen=True, tag="gradient-ascent/v1"):
    """``steps`` steps of size ``rate`` on ``forgotten`` records at once; nothing but ``tensors`` was moved. Losses are means over
    these records."""

    rate: Rate
    steps: Count
    forgotten: Count
    tensors: checks.Tensors
    loss_before: float
    loss_after: float

    SHOWS = (
        "which tensors were moved, and that the operator says to have raised the loss of as many records as are removed"
    )
    DOES_NOT_SHOW = (
        "that the steps followed these records' gradient (a proof of the step can), or that a raised loss is a forgotten record: "
        "what was learnt may stay and only be answered wrongly"
    )

    def check(self, case: Case) -> list[str]:
        checks.told(case, rate=self.rate, steps=self.steps)
        return [
            checks.only_changed(case, self.tensors),
            *checks.records(case, forgotten=self.forgotten),
            *checks.figures({"their loss before was": self.loss_before, "and after": self.loss_after}),
        ]
