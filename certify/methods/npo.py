"""Negative preference optimisation (Zhang et al. 2024): texts were made less likely than the model before had them."""

from typing import Annotated

from msgspec import Meta

from certify.fields import Count
from certify.methods import checks
from certify.methods.detail import Case, Detail


class Npo(Detail, frozen=True, tag="npo/v1"):
    """``steps`` steps against the model before, with ``beta``; ``retain`` weighs the loss on texts to keep. Losses are means over
    the tokens of the ``forgotten`` texts."""

    beta: Annotated[float, Meta(gt=0)]
    steps: Count
    retain: Annotated[float, Meta(ge=0)]
    forgotten: Count
    tensors: checks.Tensors
    loss_before: float
    loss_after: float

    SHOWS = "which tensors were moved, and that the operator says to have made as many texts as are removed less likely"
    DOES_NOT_SHOW = (
        "that these texts were used, that the model cannot be brought to say them again by a few steps of training, or "
        "that the tokenizer, which may have been learnt from them, knows nothing of them"
    )

    def check(self, case: Case) -> list[str]:
        checks.told(case, beta=self.beta, steps=self.steps, retain=self.retain)
        return [
            checks.only_changed(case, self.tensors),
            *checks.records(case, forgotten=self.forgotten),
            *checks.figures({"the loss of a token of them before was": self.loss_before, "and after": self.loss_after}),
        ]
