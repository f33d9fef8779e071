"""UNSIR: noise in the place of a class was learnt in its stead, and the damage mended with what is kept."""

from math import prod
from typing import Annotated

from msgspec import Meta

from certify.errors import ChainError
from certify.fields import MAX_INTEGER, Count, Digest
from certify.methods import checks
from certify.methods.detail import Case, Detail

Some = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]


class Unsir(Detail, frozen=True, tag="unsir/v1"):
    """``noise`` is an attachment: ``noises`` pieces of ``shape`` as float32, little-endian, in the order of classes."""

    noise: Digest
    noises: Some
    shape: Annotated[list[Some], Meta(max_length=8)]
    noise_steps: Count
    batch: Some
    impair_epochs: Count
    repair_epochs: Count
    steps: Count
    retained: Count
    tensors: checks.Tensors
    noise_loss_before: float
    noise_loss_after: float

    SHOWS = (
        "the noise that the operator says to have put in the place of a class, which tensors were moved, and that the steps "
        "are as many as these epochs come to"
    )
    DOES_NOT_SHOW = (
        "that this noise and nothing of the class was learnt from, or that the class is forgotten, not mistaken"
    )

    @property
    def attachments(self) -> tuple[str, ...]:
        return (self.noise,)

    def check(self, case: Case) -> list[str]:
        checks.scope(case, "class")
        checks.told(
            case,
            noise_steps=self.noise_steps,
            batch=self.batch,
            impair_epochs=self.impair_epochs,
            repair_epochs=self.repair_epochs,
        )
        checks.numbers(
            case.attached[self.noise], f"entry {case.index}'s noise", form="f", count=self.noises * prod(self.shape)
        )
        impair, repair = (-(-count // self.batch) for count in (self.noises + self.retained, self.retained))
        if self.steps != (expected := self.impair_epochs * impair + self.repair_epochs * repair):
            raise ChainError(
                f"entry {case.index} took {self.steps} steps, its epochs with {self.noises} pieces of noise and {self.retained} "
                f"records come to {expected}"
            )
        return [
            checks.only_changed(case, self.tensors),
            f"the noise is {self.noises} pieces of {prod(self.shape)} finite numbers; by the operator's word, it was learnt, and "
            f"none of the class's records was looked at",
            *checks.records(case, retained=self.retained),
            *checks.figures(
                {"the loss on noise before was": self.noise_loss_before, "and after": self.noise_loss_after}
            ),
        ]
