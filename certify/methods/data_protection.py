"""Data that was changed before training, so that models learn less from it (as Fawkes does): recorded as *preventive*.

Not an unlearning method: a training says what became of its data, by salted roots over the records as they were and as they were
trained on. Whoever holds openings of both can compare a record with what was made of it.
"""

from typing import Annotated, Literal

from msgspec import Meta

from certify.errors import ChainError
from certify.fields import Label, Tree
from certify.methods.detail import Trained, TrainingDetail

Bound = Annotated[float, Meta(ge=0, le=1)]


class DataProtection(TrainingDetail, frozen=True, tag="data-protection/v1"):
    """``originals`` and ``transformed`` are trees over the same records in the same order. Bounds of a record's change, and the
    largest found: ``limit`` for any number in it (of a range of 1), ``budget`` for its structural dissimilarity."""

    label: Literal["preventive"]
    tool: Label
    originals: Tree
    transformed: Tree
    limit: Bound
    limit_found: Bound
    budget: Bound
    budget_found: Bound

    SHOWS = "that records were transformed before training, into what, and by how much at most"
    DOES_NOT_SHOW = (
        "that any model forgets or fails to learn from them: it is preventive, and a model that is not fooled stays so"
    )

    def check(self, trained: Trained) -> list[str]:
        where = f"entry {trained.index}"
        if self.originals.count != self.transformed.count or not self.originals.count:
            raise ChainError(
                f"{where} transformed {self.originals.count} records into {self.transformed.count}, expected one each"
            )
        if self.transformed.count > trained.training.dataset.count:
            raise ChainError(
                f"{where} transformed {self.transformed.count} records, it was trained on {trained.training.dataset.count}"
            )
        if self.originals.root == self.transformed.root:
            raise ChainError(f"{where} states the same root for records before and after they were transformed")
        for name, found, bound in (("limit", self.limit_found, self.limit), ("budget", self.budget_found, self.budget)):
            if found > bound:
                raise ChainError(f"{where} found {found:.6g}, more than its {name} of {bound:.6g}")
        return [
            f"{self.transformed.count} of {trained.training.dataset.count} records were transformed by {self.tool} before "
            f"training, by the operator's word; this is preventive, and shows nothing about forgetting"
        ]
