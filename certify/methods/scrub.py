"""SCRUB: the model before was teacher to the one after, contradicted on what is forgotten and obeyed on what is kept."""

from typing import Annotated

from msgspec import Meta

from certify.errors import ChainError
from certify.fields import MAX_INTEGER, Count
from certify.methods import checks
from certify.methods.detail import Case, Detail

Rate = Annotated[float, Meta(gt=0)]
Weight = Annotated[float, Meta(ge=0)]
Some = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]


class Scrub(Detail, frozen=True, tag="scrub/v1"):
    """``rounds`` rounds, the first ``up`` of them with steps up. Divergences are from the model before, in nats."""

    rate: Rate
    rounds: Some
    up: Count
    alpha: Weight
    gamma: Weight
    batch: Some
    steps: Count
    forgotten: Count
    retained: Count
    tensors: checks.Tensors
    forget_divergence: float
    retain_divergence: float

    SHOWS = (
        "which tensors were moved, and that the operator says to have taken as many steps away from the model before on removed "
        "records, and towards it on retained ones, as their numbers come to"
    )
    DOES_NOT_SHOW = (
        "that the steps followed these records, or that a student who contradicts has forgotten: how far is too far is nowhere "
        "defined, and an attacker may tell removed records by it"
    )

    def check(self, case: Case) -> list[str]:
        told = {"rate": self.rate, "rounds": self.rounds, "up": self.up, "alpha": self.alpha, "gamma": self.gamma}
        checks.told(case, **told, batch=self.batch)
        down, up = (-(-count // self.batch) for count in (self.retained, self.forgotten))
        if self.up > self.rounds or self.steps != self.rounds * down + self.up * up:
            raise ChainError(
                f"entry {case.index} took {self.steps} steps, {self.rounds} rounds of {down} and {self.up} of {up} are "
                f"{self.rounds * down + self.up * up}"
            )
        return [
            checks.only_changed(case, self.tensors),
            *checks.records(case, forgotten=self.forgotten, retained=self.retained),
            *checks.figures(
                {
                    "the divergence from the model before is, on removed records,": self.forget_divergence,
                    "and on retained ones": self.retain_divergence,
                }
            ),
        ]
