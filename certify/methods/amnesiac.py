"""Amnesiac unlearning (Graves et al. 2021): what batches with a forgotten record changed is subtracted, W' = W − Σ Δ_b.

The training commits to each delta as it is made, and, record by record, to the batches that held it. A certificate opens the
latter for the records that it removes. So the verifier sees that the batches taken back are all that held one of them, and each
only once in the chain; whoever is given the deltas gets the very weights (:func:`certify.deltas.recompute`).

Attachments: commitments to deltas, 32 bytes each (:mod:`circuits.steps.trail`); places, RFC 8785, see :class:`Opened`; and the
batches taken back so far of each recording, the training's first and then each repair's, rising: ``[[3,17,40],[2]]``.

A record's batches are committed to by an entry of an RFC 6962 tree in the dataset's order, integers big-endian::

    SHA-256("unlearning-ledger/amnesiac-batches/v1" 0x00 || salt || u32 for each batch)
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Annotated

import msgspec
from msgspec import Meta

from certify.errors import ChainError
from certify.fields import Count, Digest, Record, Tree
from certify.methods import checks
from certify.methods.detail import Case, Detail, Trained, TrainingDetail
from certify.wire import canonical, decode
from ledger.errors import ProofError
from ledger.merkle import leaf_hash, root, root_from_inclusion

PREFIX = b"unlearning-ledger/amnesiac-batches/v1\x00"
MAX_BATCHES = 1 << 18
MAX_ATTACHMENT = 8 << 20

Hashes = Annotated[list[Digest], Meta(max_length=64)]
Batch = Annotated[int, Meta(ge=0, lt=MAX_BATCHES)]
Batches = list[list[Batch]]
"""For each recording, some of its batches."""


class Recorded(Record, frozen=True):
    """A recording: its number of batches, the SHA-256 of their deltas' commitments, and the root over all records' batches."""

    batches: Annotated[int, Meta(ge=1, le=MAX_BATCHES)]
    deltas: Digest
    map: Digest

    def check(self, index: int, attached: Mapping[str, bytes]) -> str:
        """There is a commitment for each batch. Raises ChainError."""
        size = len(attached[self.deltas])
        if size != 32 * self.batches:
            raise ChainError(
                f"entry {index} recorded {self.batches} batches, their deltas' commitments have {size} bytes, expected 32 each"
            )
        return f"the change that each of its {self.batches} batches made was committed to"


class Held(Record, frozen=True):
    """The batches of one recording that held a record, opened: see the module's docstring."""

    batches: list[Batch]
    salt: Digest
    path: Hashes

    def root(self, position: int, size: int) -> bytes:
        return root_from_inclusion(position, size, leaf_of(bytes.fromhex(self.salt), self.batches), _bytes(self.path))


class Removed(Record, frozen=True):
    """A removed record: its leaf in the training's dataset, and the batches that held it, for each recording."""

    position: Count
    leaf: Digest
    path: Hashes
    held: list[Held]


class Opened(Record, frozen=True):
    """All removed records, by rising position."""

    records: Annotated[list[Removed], Meta(min_length=1)]

    def check(self, *, dataset: Tree, removed: Tree, recordings: Sequence[Recorded]) -> Batches:
        """These are the removed records, and these their batches: all together, for each recording. Raises ChainError."""
        positions = [one.position for one in self.records]
        if positions != sorted(set(positions)):
            raise ChainError("removed records are not shown once each in their order")
        if Tree(root([bytes.fromhex(one.leaf) for one in self.records]).hex(), len(positions)) != removed:
            raise ChainError(f"the batches shown are not those of the {removed.count} removed records")
        found: list[set[int]] = [set() for _ in recordings]
        for one in self.records:
            if len(one.held) != len(recordings):
                raise ChainError(
                    f"record {one.position} is shown in {len(one.held)} recordings, expected {len(recordings)}"
                )
            try:
                at = root_from_inclusion(one.position, dataset.count, bytes.fromhex(one.leaf), _bytes(one.path))
                roots = [held.root(one.position, dataset.count) for held in one.held]
            except ProofError as error:
                raise ChainError(f"record {one.position}: {error}") from None
            if at.hex() != dataset.root:
                raise ChainError(f"record {one.position} is not shown to be of the training's dataset")
            for number, (recording, held) in enumerate(zip(recordings, one.held, strict=True)):
                if roots[number].hex() != recording.map:
                    raise ChainError(
                        f"the batches shown for record {one.position} are not those that were committed to"
                    )
                found[number].update(held.batches)
        return [sorted(batches) for batches in found]


class AmnesiacTraining(TrainingDetail, frozen=True, tag="amnesiac/v1"):
    """What was recorded."""

    recorded: Recorded

    SHOWS = "that changes of the weights, and which record was in which batch, were committed to before anybody asked"
    DOES_NOT_SHOW = "that these are the changes which training made, or that the batches held no other record"

    @property
    def attachments(self) -> tuple[str, ...]:
        return (self.recorded.deltas,)

    def check(self, trained: Trained) -> list[str]:
        return [self.recorded.check(trained.index, trained.attached)]


class Amnesiac(Detail, frozen=True, tag="amnesiac/v1"):
    """``places``, ``before`` and ``after`` are attachments: see the module's docstring. ``weights`` is the SHA-256 of all numbers
    right after the subtraction (:func:`circuits.steps.amnesiac.digest`), and ``repair`` what was learnt again after it."""

    places: Digest
    after: Digest
    weights: Digest
    before: Digest | None = None
    repair: Recorded | None = None

    SHOWS = (
        "that the batches named are all that held a removed record, by what was committed to in training, and that none of "
        "them is taken back twice"
    )
    DOES_NOT_SHOW = (
        "that the weights are those that training without the records gives, since later batches built on earlier ones; that "
        "these deltas and no others were subtracted shows when an auditor is given them"
    )

    @property
    def attachments(self) -> tuple[str, ...]:
        named = (self.places, self.after, self.before, self.repair.deltas if self.repair else None)
        return tuple(digest for digest in named if digest is not None)

    def check(self, case: Case) -> list[str]:
        checks.same_shapes(case)
        recordings = recordings_of(case)
        last = case.earlier[-1].detail if case.earlier else None
        if self.before != (last.after if isinstance(last, Amnesiac) else None):
            raise ChainError(f"entry {case.index} does not go on from the batches that were taken back before it")
        gone = read(case.attached[self.before], recordings) if self.before else []
        gone += [[] for _ in recordings[len(gone) :]]
        after = read(case.attached[self.after], recordings)
        removed = case.certificate.removed
        if removed is None:
            raise ChainError(f"entry {case.index} is by amnesiac/v1, which forgets records, and removes none")
        opened = decode(
            case.attached[self.places], Opened, limit=MAX_ATTACHMENT, what="places of records", error=ChainError
        )
        shown = [*recordings, self.repair] if self.repair is not None else recordings
        held = opened.check(dataset=case.training.dataset, removed=removed, recordings=shown)
        if self.repair is not None and (again := held.pop()):
            raise ChainError(
                f"entry {case.index} repaired with removed records: batch {again[0]} of the repair held one"
            )
        expected = [sorted({*a, *b}) for a, b in zip(gone, held, strict=True)]
        if after != expected:
            number, missing = next(
                (i, sorted({*a} ^ {*b})) for i, (a, b) in enumerate(zip(after, expected, strict=True)) if a != b
            )
            raise ChainError(
                f"entry {case.index} does not take back the batches that held a removed record: it differs in batch "
                f"{missing[0]} of recording {number}"
            )
        new = sum(map(len, after)) - sum(map(len, gone))
        if new and self.repair is None and case.pre.root() == case.post.root():
            raise ChainError(f"entry {case.index} takes back {new} batches, its weights are the same before and after")
        lines = [
            f"the {removed.count} removed records were in {new} batches not taken back before, by what training committed to",
            "by the operator's word, the changes that these made were subtracted",
        ]
        if self.repair is not None:
            lines.append(
                "by what it committed to, its repair held no removed record, and "
                + self.repair.check(case.index, case.attached)
            )
        return lines


def recordings_of(case: Case) -> list[Recorded]:
    """All that the model learnt in: its training, then each repair. Raises ChainError where something was not recorded."""
    training = case.training.detail
    if not isinstance(training, AmnesiacTraining):
        raise ChainError(f"entry {case.index} is by amnesiac/v1, its training recorded no deltas")
    found = [training.recorded]
    for number, earlier in enumerate(case.earlier):
        if not isinstance(earlier.detail, Amnesiac):
            raise ChainError(
                f"entry {case.index}: certificate {number + 1} of its chain is by {earlier.method.name}, which records no changes"
            )
        if earlier.detail.repair is not None:
            found.append(earlier.detail.repair)
    return found


def read(data: bytes, recordings: Sequence[Recorded]) -> Batches:
    """Batches taken back, of each recording. Raises ChainError."""
    found = decode(data, Batches, limit=MAX_ATTACHMENT, what="the batches taken back", error=ChainError)
    if len(found) > len(recordings) or any(
        batches != sorted(set(batches)) or (batches and batches[-1] >= recording.batches)
        for batches, recording in zip(found, recordings, strict=False)
    ):
        raise ChainError("the batches taken back are not some of each recording's, rising")
    return found


def to_json(value: object) -> bytes:
    """An attachment: RFC 8785."""
    return canonical(msgspec.to_builtins(value), what="an attachment", error=ChainError)


def leaf_of(salt: bytes, batches: Sequence[int]) -> bytes:
    """The leaf hash of a record's batches."""
    return leaf_hash(sha256(PREFIX + salt + b"".join(batch.to_bytes(4, "big") for batch in batches)).digest())


def _bytes(hashes: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(one) for one in hashes]
