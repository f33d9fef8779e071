"""Concept ablation: one direction of what goes into a layer was projected out, and nothing else was touched."""

from math import fsum, sqrt
from typing import Annotated

from msgspec import Meta

from certify.errors import ChainError
from certify.fields import Count, Digest, Label, Record
from certify.methods import checks, revealed
from certify.methods.detail import Case, Detail

MAX_LAYERS = 256
UNIT = 1e-6
"""How far from 1 a direction's norm may be."""
ROUNDING = {"F32": 2e-6, "F64": 1e-12}
"""How far a number may be from the projection, as a share of what it is the difference of."""
_LEAST = {"F32": 2e-45, "F64": 1e-323}
"""Below this, numbers have no digits left to be right in."""


class Ablated(Record, frozen=True):
    """A layer, whose tensor is ``<layer>.weight``. Attachments: ``direction``, float64; the tensor where it is revealed."""

    layer: Label
    direction: Digest
    before: Digest | None = None
    after: Digest | None = None


class Ablation(Detail, frozen=True, tag="ablation/v1"):
    """``probes``: how many records with the concept and without the directions were found with."""

    layers: Annotated[list[Ablated], Meta(min_length=1, max_length=MAX_LAYERS)]
    probes: tuple[Count, Count]

    SHOWS = (
        "which direction was to be projected out of which layers' inputs, and that no other tensor changed; where the layers are "
        "revealed, that they are the projected ones"
    )
    DOES_NOT_SHOW = (
        "that the direction is the concept's or all there is of it, or that other layers do not see the concept"
    )

    @property
    def attachments(self) -> tuple[str, ...]:
        digests = (digest for one in self.layers for digest in (one.direction, one.before, one.after))
        return tuple(digest for digest in digests if digest is not None)

    def check(self, case: Case) -> list[str]:
        checks.scope(case, "concept")
        names = [f"{one.layer}.weight" for one in self.layers]
        lines = [checks.only_changed(case, sorted(names, key=str.encode))]
        for one in self.layers:
            lines.append(self._check(case, one))
        with_it, without = self.probes
        return [
            *lines,
            f"by the operator's word, the directions were found with {with_it} records that show the concept and {without} "
            f"that do not",
        ]

    def _check(self, case: Case, one: Ablated) -> str:
        weight = checks.tensor(case, f"{one.layer}.weight")
        if len(weight.shape) != 2:
            raise ChainError(f"entry {case.index} ablates {weight.name}, expected a matrix")
        what = f"entry {case.index}'s direction for {one.layer}"
        v = checks.numbers(case.attached[one.direction], what, form="d", count=weight.shape[1])
        norm = sqrt(fsum(number * number for number in v))
        if abs(norm - 1) > UNIT:
            raise ChainError(f"{what} has norm {norm:.6g}, expected 1")
        said = f"the direction for {one.layer} has {len(v)} numbers and norm 1"
        if one.before is None or one.after is None:
            if one.before is not None or one.after is not None:
                raise ChainError(f"entry {case.index} reveals {weight.name} before or after only, expected both")
            return f"{said}; by the operator's word, it was projected out"
        before, after = case.attached[one.before], case.attached[one.after]
        stated = next(tensor for tensor in case.post.tensors if tensor.name == weight.name)
        revealed.same(weight, before, index=case.index, when="before")
        revealed.same(stated, after, index=case.index, when="after")
        was, now = (
            revealed.values(weight, before, index=case.index),
            revealed.values(stated, after, index=case.index),
        )
        share, least = ROUNDING[weight.dtype], _LEAST[weight.dtype]
        for row, found in zip(was, now, strict=True):
            parts = [a * b for a, b in zip(row, v, strict=True)]
            along, sizes = fsum(parts), fsum(map(abs, parts))
            for a, b, c in zip(row, v, found, strict=True):
                if not abs(a - along * b - c) <= share * (abs(a) + sizes * abs(b)) + least:
                    raise ChainError(
                        f"entry {case.index}: {weight.name} is not what it was with the direction projected out: expected "
                        f"{a - along * b:.9g} in the place of {a:.9g}, got {c:.9g}"
                    )
        return f"{said}, and {weight.name} is what it was with that projected out, to {ROUNDING[weight.dtype]:g}"
