"""Class-discriminative pruning: channels with the highest scores for a class were set to zero, and nothing else was touched."""

from math import ceil
from typing import Annotated

from msgspec import Meta

from certify.errors import ChainError
from certify.fields import Digest, Label, Record
from certify.methods import checks, revealed
from certify.methods.detail import Case, Detail

MAX_LAYERS = 256


class Pruned(Record, frozen=True):
    """A layer: the tensors ``<layer>.weight`` and, if there is one, ``<layer>.bias``.

    Attachments: ``scores``, float64, and ``mask``, a byte each, 1 to keep and 0 to zero, of every output channel; what
    ``weight`` and ``bias`` were before, where that is revealed.
    """

    layer: Label
    threshold: float
    scores: Digest
    mask: Digest
    weight_before: Digest | None = None
    bias_before: Digest | None = None


class Pruning(Detail, frozen=True, tag="pruning/v1"):
    """``layers``, and the ``share`` of each one's channels that was to go."""

    layers: Annotated[list[Pruned], Meta(min_length=1, max_length=MAX_LAYERS)]
    share: Annotated[float, Meta(gt=0, le=1)]

    SHOWS = (
        "which channels of which layers were to be set to zero, by which scores and threshold, and that no tensor of any other "
        "layer changed; where the layers are revealed, that exactly these channels became zero"
    )
    DOES_NOT_SHOW = "that the scores are those of the class, or that the channels left hold nothing of it"

    @property
    def attachments(self) -> tuple[str, ...]:
        digests = (d for one in self.layers for d in (one.scores, one.mask, one.weight_before, one.bias_before))
        return tuple(digest for digest in digests if digest is not None)

    def check(self, case: Case) -> list[str]:
        checks.scope(case, "class")
        checks.told(case, share=self.share)
        there = {tensor.name for tensor in case.pre.tensors}
        layers = [one.layer for one in self.layers]
        if len(set(layers)) != len(layers):
            raise ChainError(f"entry {case.index} prunes a layer twice")
        names = [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]
        allowed = sorted(
            (name for name in names if name in there or name.endswith(".weight")), key=lambda name: name.encode()
        )
        return [checks.only_changed(case, allowed), *(line for one in self.layers for line in self._check(case, one))]

    def _check(self, case: Case, one: Pruned) -> list[str]:
        weight = checks.tensor(case, f"{one.layer}.weight")
        channels = weight.shape[0] if weight.shape else 0
        what = f"entry {case.index}'s {one.layer}:"
        if not channels:
            raise ChainError(f"{what} it has no channels")
        scores = checks.numbers(case.attached[one.scores], f"{what} scores", form="d", count=channels)
        mask = checks.numbers(case.attached[one.mask], f"{what} mask", form="B", count=channels)
        if any(kept != (score < one.threshold) for kept, score in zip(mask, scores, strict=True)):
            raise ChainError(f"{what} its mask is not that of its scores and its threshold of {one.threshold:g}")
        if one.threshold != sorted(scores, reverse=True)[ceil(self.share * channels) - 1]:
            raise ChainError(f"{what} its threshold is not the score of the last of a share of {self.share:g}")
        gone = int(channels - sum(mask))
        line = f"{gone} of {channels} channels of {one.layer} score {one.threshold:.4g} or more"
        if one.weight_before is None and one.bias_before is None:
            return [f"{line}; by the operator's word, these became zero"]
        before = {"weight": one.weight_before, "bias": one.bias_before}
        after = {tensor.name: tensor for tensor in case.post.tensors}
        for tensor in case.pre.tensors:
            layer, _, part = tensor.name.rpartition(".")
            if layer != one.layer or part not in before:
                continue
            digest = before[part]
            if digest is None:
                raise ChainError(f"{what} it reveals some of its tensors, and not its {part}")
            data = case.attached[digest]
            revealed.same(tensor, data, index=case.index, when="before")
            rows = revealed.rows(tensor, data)
            if len(rows) != len(mask):
                raise ChainError(
                    f"{what} {tensor.name} has {len(rows)} rows, expected one for each of {channels} channels"
                )
            pruned = b"".join(row if kept else bytes(len(row)) for row, kept in zip(rows, mask, strict=True))
            revealed.same(after[tensor.name], pruned, index=case.index, when="after")
        return [f"{line}, and became zero; the others are the same to the bit"]
