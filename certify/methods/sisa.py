"""SISA (Bourtoule et al. 2021): records are dealt to shards once and for all, and only shards that saw a forgotten one change.

The training commits to which record is in which shard and slice. The certificate names the shards that were retrained; the
verifier sees from the two models' manifests that no tensor of any other shard changed.
"""

from typing import Annotated, Literal

from msgspec import Meta

from certify.digest import diff
from certify.errors import ChainError
from certify.fields import Count, Digest, Label, Record
from certify.methods.detail import Case, Detail, Trained, TrainingDetail

MAX_SHARDS = 256


class Retrained(Record, frozen=True):
    """A shard, and the first slice that it learnt again."""

    shard: Count
    slice: Count


class SisaTraining(TrainingDetail, frozen=True, tag="sisa/v1"):
    """``map`` is the root over the shard and slice of every record of the dataset, in its order, salted
    (:mod:`certify.provenance`). Tensors of shard k have names that begin with ``prefix`` and k and a full stop."""

    shards: Annotated[int, Meta(ge=1, le=MAX_SHARDS)]
    slices: Annotated[int, Meta(ge=1, le=MAX_SHARDS)]
    map: Digest
    prefix: Label
    aggregation: Literal["mean", "majority"] = "mean"

    SHOWS = "that records were dealt to shards and slices before anybody asked to be forgotten"
    DOES_NOT_SHOW = "that each shard was trained on its own records only"

    def check(self, trained: Trained) -> list[str]:
        shards = {self.shard_of(tensor.name) for tensor in trained.model.tensors}
        if shards != set(range(self.shards)):
            raise ChainError(
                f"entry {trained.index} states {self.shards} shards, its model has tensors of {sorted(map(str, shards))[:8]}"
            )
        return [f"its {self.shards} shards of {self.slices} slices were dealt out by the committed map {self.map[:16]}"]

    def shard_of(self, name: str) -> int | None:
        """The shard that a tensor belongs to; None for a tensor of none."""
        if not name.startswith(self.prefix):
            return None
        number = name[len(self.prefix) :].split(".", 1)[0]
        return int(number) if number.isascii() and number.isdecimal() and str(int(number)) == number else None


class Sisa(Detail, frozen=True, tag="sisa/v1"):
    """``retrained``: the shards that saw a forgotten record, each from the slice that first held one."""

    retrained: Annotated[list[Retrained], Meta(min_length=1, max_length=MAX_SHARDS)]

    SHOWS = "that no tensor of a shard changed that is not among the retrained ones"
    DOES_NOT_SHOW = (
        "that the retrained shards learnt from retained records only, or that the others never saw a forgotten one"
    )

    def check(self, case: Case) -> list[str]:
        training = case.training.detail
        if not isinstance(training, SisaTraining):
            raise ChainError(f"entry {case.index} is by sisa/v1, its training committed to no shards")
        numbers = [one.shard for one in self.retrained]
        if numbers != sorted(set(numbers)) or numbers[-1] >= training.shards:
            raise ChainError(
                f"entry {case.index} names shards {numbers[:8]}, expected some of {training.shards}, in order"
            )
        if any(one.slice >= training.slices for one in self.retrained):
            raise ChainError(f"entry {case.index} goes back to a slice that is not among {training.slices}")
        changes = diff(case.pre, case.post)
        if changes.added or changes.removed:
            raise ChainError(f"entry {case.index} adds or removes tensors, which retraining of shards does not")
        for name in changes.changed:
            if training.shard_of(name) not in numbers:
                raise ChainError(f"entry {case.index} changed {name}, which is of none of the shards {numbers}")
        same = training.shards - len(numbers)
        return [
            f"{len(numbers)} of {training.shards} shards were retrained, all tensors of the {same} others are the same to the bit"
        ]
