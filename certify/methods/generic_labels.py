"""Fine-tuning on generic labels (Eldan and Russinovich 2023): a language model learnt to say something else instead."""

from typing import Annotated

from msgspec import Meta

from certify.errors import ChainError
from certify.fields import Count, Digest
from certify.methods import checks
from certify.methods.detail import Case, Detail


class GenericLabels(Detail, frozen=True, tag="generic-labels/v1"):
    """``labels`` is the SHA-256 of the label file, which begins with 32 random bytes and stays with the operator: ``tokens``
    labels, of which ``replaced`` are not what the ``forgotten`` texts say. Losses are means over these texts."""

    alpha: Annotated[float, Meta(gt=0)]
    reinforced: Count
    steps: Count
    retain: Annotated[float, Meta(ge=0)]
    forgotten: Count
    labels: Digest
    tokens: Count
    replaced: Count
    tensors: checks.Tensors
    loss_before: float
    loss_after: float

    SHOWS = (
        "which tensors were moved, and which label file the operator has to produce when asked what was learnt instead"
    )
    DOES_NOT_SHOW = (
        "that the labels were learnt, that they say nothing of the texts (most are what any text would say), or that other "
        "texts about the same matter do not bring it back"
    )

    def check(self, case: Case) -> list[str]:
        if not 0 < self.replaced <= self.tokens:
            raise ChainError(
                f"entry {case.index} replaced {self.replaced} of {self.tokens} tokens, expected at least one and at most all"
            )
        checks.told(case, alpha=self.alpha, reinforced=self.reinforced, steps=self.steps, retain=self.retain)
        return [
            checks.only_changed(case, self.tensors),
            *checks.records(case, forgotten=self.forgotten),
            f"by the operator's word, {self.replaced} of {self.tokens} tokens got another label; file {self.labels[:16]}",
            *checks.figures({"the loss of a token of them before was": self.loss_before, "and after": self.loss_after}),
        ]
