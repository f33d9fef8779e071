"""Full retraining: everything learnt anew, from the retained records."""

from typing import Annotated

from msgspec import Meta

from certify.errors import ChainError
from certify.fields import MAX_INTEGER, Count, Digest
from certify.methods import checks
from certify.methods.detail import Case, Detail

Some = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]


class Retrain(Detail, frozen=True, tag="retrain/v1"):
    """``records`` were learnt from, ``epochs`` times, ``batch`` at a time: ``steps`` in all. ``initial`` is the SHA-256 of a
    safetensors file with the weights at the start, ``order`` that of the positions as int64, little-endian."""

    records: Count
    epochs: Some
    batch: Some
    steps: Some
    initial: Digest
    order: Digest

    SHOWS = "that the operator learnt anew from as many records as are retained, from which initial weights and in which order"
    DOES_NOT_SHOW = (
        "that it was these records, or that training began from these weights; a replay can, or a proof of exclusion"
    )

    def check(self, case: Case) -> list[str]:
        checks.same_shapes(case)
        checks.told(case, epochs=self.epochs, batch=self.batch)
        if self.steps != (expected := self.epochs * -(-self.records // self.batch)):
            raise ChainError(
                f"entry {case.index} took {self.steps} steps, {self.epochs} epochs of {self.records} records, {self.batch} at a "
                f"time, are {expected}"
            )
        return [
            *checks.records(case, retained=self.records),
            f"by the operator's word, training began anew from weights {self.initial[:16]}: {self.epochs} epochs, "
            f"{self.steps} steps",
        ]
