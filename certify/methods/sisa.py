"""SISA (Bourtoule et al. 2021): records are dealt to shards once and for all, and only shards that saw a forgotten one change.

The training commits to which record is in which shard and slice, and to the checkpoint before each slice. The certificate opens
the places of the removed records, names the shards that were retrained and lists the checkpoints anew. So the verifier sees
that the shards which held a removed record are the retrained ones, each from the first slice that held one, and that of the
others no tensor and no checkpoint changed.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from certify.digest import diff
from certify.errors import ChainError, DatasetError
from certify.fields import Count, Digest, Label, Record
from certify.methods.detail import Case, Detail, Trained, TrainingDetail
from certify.shard_map import Opened
from certify.wire import canonical, decode

MAX_SHARDS = 256
MAX_LIST = 8 << 20

Checkpoints = list[list[Digest]]
"""For each shard, the SHA-256 of the file with its state before each slice."""


class Retrained(Record, frozen=True):
    """A shard, and the first slice that it learnt again."""

    shard: Count
    slice: Count


class SisaTraining(TrainingDetail, frozen=True, tag="sisa/v1"):
    """``map`` is the root over the shard and slice of every record of the dataset, in its order, salted
    (:mod:`certify.shard_map`). Tensors of shard k have names that begin with ``prefix`` and k and a full stop.
    ``checkpoints``: an attachment, see :func:`to_json`."""

    shards: Annotated[int, Meta(ge=1, le=MAX_SHARDS)]
    slices: Annotated[int, Meta(ge=1, le=MAX_SHARDS)]
    map: Digest
    prefix: Label
    aggregation: Literal["mean", "majority"] = "mean"
    checkpoints: Digest | None = None

    SHOWS = "that records were dealt to shards and slices before anybody asked to be forgotten"
    DOES_NOT_SHOW = "that each shard was trained on its own records only"

    @property
    def attachments(self) -> tuple[str, ...]:
        return () if self.checkpoints is None else (self.checkpoints,)

    def check(self, trained: Trained) -> list[str]:
        shards = {self.shard_of(tensor.name) for tensor in trained.model.tensors}
        if shards != set(range(self.shards)):
            raise ChainError(
                f"entry {trained.index} states {self.shards} shards, its model has tensors of {sorted(map(str, shards))[:8]}"
            )
        lines = [
            f"its {self.shards} shards of {self.slices} slices were dealt out by the committed map {self.map[:16]}"
        ]
        if self.checkpoints is not None:
            self.read(trained.attached, self.checkpoints)
            lines.append(f"it committed to a checkpoint before each of its {self.shards * self.slices} slices")
        return lines

    def shard_of(self, name: str) -> int | None:
        """The shard that a tensor belongs to; None for a tensor of none."""
        if not name.startswith(self.prefix):
            return None
        number = name[len(self.prefix) :].split(".", 1)[0]
        return int(number) if number.isascii() and number.isdecimal() and str(int(number)) == number else None

    def read(self, attached: Mapping[str, bytes], digest: str) -> Checkpoints:
        """A list of checkpoints, one for each of the slices. Raises ChainError."""
        found = decode(attached[digest], Checkpoints, limit=MAX_LIST, what="the checkpoints", error=ChainError)
        if len(found) != self.shards or any(len(states) != self.slices for states in found):
            raise ChainError(f"the checkpoints are not those of {self.shards} shards of {self.slices} slices")
        return found


class Sisa(Detail, frozen=True, tag="sisa/v1"):
    """``retrained``: the shards that saw a forgotten record, each from the slice that first held one.

    ``places`` is an attachment: where the removed records are (:class:`certify.shard_map.Opened`), there unless the request is
    about something else than records. ``before`` and ``after``: the checkpoints, where the training committed to any.
    """

    retrained: Annotated[list[Retrained], Meta(min_length=1, max_length=MAX_SHARDS)]
    places: Digest | None = None
    before: Digest | None = None
    after: Digest | None = None

    SHOWS = (
        "that tensors changed in each of the shards that it names and in no other, and, where the request is about records, that "
        "these are the shards which held the removed ones, by the map that was committed to before the request"
    )
    DOES_NOT_SHOW = (
        "that the shards which changed learnt anew, and from retained records only, or that training followed the map and no "
        "other shard ever saw a removed record"
    )

    @property
    def attachments(self) -> tuple[str, ...]:
        return tuple(digest for digest in (self.places, self.before, self.after) if digest is not None)

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
        places = self._check_places(case, training)
        untouched = set(numbers) - {training.shard_of(name) for name in changes.changed}
        if untouched:
            raise ChainError(
                f"entry {case.index} says that shard {min(untouched)} was retrained, and no tensor of it changed"
            )
        same = training.shards - len(numbers)
        return [
            *places,
            f"{len(numbers)} of {training.shards} shards changed, all tensors of the {same} others are the same to the bit",
            "by the operator's word, those that changed were retrained",
            *self._check_checkpoints(case, training),
        ]

    def _check_places(self, case: Case, training: SisaTraining) -> list[str]:
        removed = case.certificate.removed
        if removed is None or self.places is None:
            if removed is not None or self.places is not None:
                raise ChainError(
                    f"entry {case.index} {'does not show' if removed else 'shows'} in which shards removed records are, "
                    f"expected {'it to' if removed else 'no removed records to do so'}"
                )
            return ["by the operator's word, no other shard holds what the request is about"]
        try:
            opened = Opened.parse(case.attached[self.places])
            opened.check(map_root=training.map, dataset=case.training.dataset, removed=removed)
        except DatasetError as error:
            raise ChainError(f"entry {case.index}: {error}") from error
        held, said = opened.first_slices(), {one.shard: one.slice for one in self.retrained}
        if held != said:
            raise ChainError(
                f"entry {case.index} removes records of {_named(held)}, and retrained {_named(said)}: expected those that held a "
                f"removed record, each from the first slice that did"
            )
        return [
            f"the {removed.count} removed records were in {_named(held)}, by the map that the training committed to"
        ]

    def _check_checkpoints(self, case: Case, training: SisaTraining) -> list[str]:
        last = next(
            (one.detail.after for one in reversed(case.earlier) if isinstance(one.detail, Sisa)), training.checkpoints
        )
        if self.before != last or (last is None) != (self.after is None):
            raise ChainError(f"entry {case.index} does not go on from the checkpoints that were last committed to")
        if self.before is None or self.after is None:
            return []
        old, new = training.read(case.attached, self.before), training.read(case.attached, self.after)
        first = {one.shard: one.slice for one in self.retrained}
        for shard, (was, now) in enumerate(zip(old, new, strict=True)):
            kept = (
                first.get(shard, training.slices - 1) + 1
            )  # that before the first slice is where retraining starts from
            if was[:kept] != now[:kept]:
                raise ChainError(f"entry {case.index} lists other checkpoints of shard {shard} than were committed to")
        return [
            "by the operator's word, they went on from checkpoints made before a removed record was seen; these were committed to"
        ]


def to_json(checkpoints: Checkpoints) -> bytes:
    """The attachment: ``[["<before slice 0 of shard 0>","<before slice 1>"],…]``, SHA-256 in hex, RFC 8785."""
    return canonical(msgspec.to_builtins(checkpoints), what="the checkpoints", error=ChainError)


def _named(slices: Mapping[int, int]) -> str:
    found = [f"shard {shard} (slice {first} on)" for shard, first in slices.items()]
    return ", ".join(found[:8]) + (", …" if len(found) > 8 else "")
