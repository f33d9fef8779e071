"""Attacks on causal language models, from token log probabilities: loss, min-k %, min-k %++ and memorised tokens.

A model is any callable from token ids (B, T) to logits (B, T, V), the logits at t for the token at t + 1::

    model = lambda ids: transformer(ids).logits
    found = score(model, [tokenizer(text) for text in texts])

For a text of tokens x_1 … x_T, with L_t = ln p(x_t | x_<t):

- *loss*: −mean L_t (Yeom et al. 2018).
- *min-k %*: the mean of the k % smallest L_t. Shi et al., "Detecting Pretraining Data from Large Language Models" (2024, arXiv
  2310.16789): texts that were not learnt have some words that surprise the model.
- *min-k %++*: the same of (L_t − μ_t) / σ_t, with the mean and the standard deviation of ln p(·| x_<t) under p. Zhang et al.
  (2025, arXiv 2404.02936).
- *memorised*: the share of tokens that are the model's first choice (Carlini et al. 2023, with the true text as prompt).

The three-arm audit takes texts as well, by :class:`Language`, a subject made of any causal torch module: shadows learn texts,
and the confidence is the logit of the geometric mean of a text's token probabilities::

    subject = Language(lambda: Transformer(vocabulary=256), padded([tokenizer(text) for text in texts]), Recipe(…))

All are higher for members, but for loss. The limits: without reference models they confuse common with learnt text; members and
others must come from one distribution, for on texts of other dates or styles they tell the style (Duan et al. 2024). Compare
with a model that was retrained, or at least with the one before. Padding goes to the right, where causal models do not look.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from certify.audit import roc
from certify.audit.adapter import Params, Recipe, Torch
from certify.audit.intervals import CONFIDENCE
from certify.audit.verdict import Estimate
from certify.errors import InputError

Model = Callable[[Tensor], Tensor]
SHARE = 0.2
NOTHING = -1
"""Instead of a token, behind the end of a text."""


@dataclass(frozen=True)
class TextScores:
    """Scores of each text, (n,) float64 each."""

    loss: np.ndarray
    min_k: np.ndarray
    min_k_plus: np.ndarray
    memorised: np.ndarray


@dataclass(frozen=True)
class TextAttack:
    """AUC of each score, members against others; 0.5 tells nothing. For loss, low speaks for members."""

    texts: tuple[int, int]
    share: float
    loss: Estimate
    min_k: Estimate
    min_k_plus: Estimate
    memorised: Estimate


@dataclass(frozen=True)
class TextDifference:
    """AUC of each score, the unlearned model's less the mean of the others', on the same texts."""

    loss: Estimate
    min_k: Estimate
    min_k_plus: Estimate
    memorised: Estimate


Arm = tuple[TextScores, TextScores]
"""One model's scores of members and of others."""


class Language(Torch):
    """Texts and a causal language model, a module from ids (B, T) to logits (B, T, V), for the three-arm audit.

    Outputs are three numbers for each token but the first: its log probability, whether it is the model's first choice, and
    whether there is a token at all. The loss is the mean over the tokens of a text. There are no classes: a text counts as known
    (label 1, where all have 1) if the model's first choice is right for at least the share ``known`` of its tokens, which is
    what "accuracy" means in such an audit. Choose it so that texts which nobody learnt are on both sides of it.
    """

    def __init__(self, make: Callable[[], nn.Module], ids: Tensor, recipe: Recipe, *, known: float = 0.25) -> None:
        if ids.dim() != 2 or ids.is_floating_point() or ((ids >= 0).sum(1) < 2).any():
            raise InputError(
                f"expected token ids (N, T), two in each text at least, got {ids.dtype} {tuple(ids.shape)}"
            )
        if ((ids[:, 1:] >= 0) & (ids[:, :-1] < 0)).any():
            raise InputError(f"expected texts that are padded with {NOTHING} behind their ends and nowhere else")
        super().__init__(make, ids, torch.ones(len(ids), dtype=torch.int64, device=ids.device), recipe)
        self.known = known

    def logits(self, params: Params, ids: Tensor) -> Tensor:
        """Of one model, as :func:`score` takes it. (B, T) -> (B, T, V)"""
        self._base.train(False)
        outputs: Tensor = functional_call(self._base, params, (ids,))
        return outputs

    def apply(self, params: Params, x: Tensor, *, training: bool = False) -> Tensor:
        with _plain_attention():
            logits = super().apply(params, x.clamp_min(0), training=training)
        following, there = x[..., 1:].clamp_min(0).unsqueeze(-1), x[..., 1:] >= 0
        logs = logits[..., :-1, :].log_softmax(-1)
        own = logs.gather(-1, following).squeeze(-1)
        first = logs.argmax(-1) == following.squeeze(-1)
        return torch.stack([own, first.to(own.dtype), there.to(own.dtype)], -1)  # (…, T − 1, 3)

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        own, _, there = outputs.unbind(-1)
        return -(own * there).sum(-1) / there.sum(-1)

    def confidence(self, outputs: Tensor, y: Tensor) -> Tensor:
        mean = -self.loss(outputs.double(), y)  # ln of the geometric mean of the probabilities
        return mean - torch.log(-torch.expm1(mean.clamp_max(-1e-12)))

    def predict(self, outputs: Tensor) -> Tensor:
        _, first, there = outputs.unbind(-1)
        return ((first * there).sum(-1) >= self.known * there.sum(-1)).long()

    def texts(self, places: np.ndarray) -> list[list[int]]:
        """The token ids of these texts."""
        rows = self.x[torch.from_numpy(places).to(self.x.device)].cpu()
        return [row[row >= 0].tolist() for row in rows]


def padded(texts: Sequence[Sequence[int]]) -> Tensor:
    """Token ids of texts, (N, T) int64."""
    rows = [torch.as_tensor(text, dtype=torch.int64) for text in texts]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=NOTHING)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Without torch's fused layers, which cannot be stacked and whose last digits differ."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@torch.no_grad()
def score(
    model: Model, texts: Sequence[Sequence[int]], *, share: float = SHARE, batch: int = 8, device: str = "cpu"
) -> TextScores:
    """All scores of every text, given as token ids. Texts need two tokens at least: the first has no probability."""
    if not 0 < share <= 1:
        raise ValueError(f"expected a share of tokens in (0, 1], got {share}")
    rows: list[tuple[float, float, float, float]] = []
    for ids, lengths in _batches(texts, batch):
        logits = model(ids.to(device))
        if logits.dim() != 3 or logits.shape[:2] != ids.shape:
            raise ValueError(f"expected logits (B, T, V) for ids {tuple(ids.shape)}, got {tuple(logits.shape)}")
        logs = logits[:, :-1].double().log_softmax(-1)  # (B, T − 1, V)
        own = logs.gather(-1, ids[:, 1:, None].to(logs.device))[..., 0]  # (B, T − 1)
        p = logs.exp()
        mean = torch.special.xlogy(p, p).sum(-1)
        # Words that cannot come have p = 0 and ln p = −∞: they add nothing to either moment.
        square = (p * logs.masked_fill(p == 0, 0.0) ** 2).sum(-1)
        plus = (own - mean) / (square - mean**2).clamp_min(1e-12).sqrt()
        first = logs.argmax(-1) == ids[:, 1:].to(logs.device)
        for i, length in enumerate(lengths):
            mine = own[i, : length - 1]
            rows.append(
                (
                    -float(mine.mean()),
                    _smallest(mine, share),
                    _smallest(plus[i, : length - 1], share),
                    float(first[i, : length - 1].double().mean()),
                )
            )
    return TextScores(*np.array(rows, dtype=np.float64).T)


def attack(
    members: TextScores, others: TextScores, *, share: float = SHARE, confidence: float = CONFIDENCE
) -> TextAttack:
    """How well each score tells the texts apart, of one model."""
    return TextAttack(
        texts=(len(members.loss), len(others.loss)),
        share=share,
        loss=roc.auc(-members.loss, -others.loss, confidence),
        min_k=roc.auc(members.min_k, others.min_k, confidence),
        min_k_plus=roc.auc(members.min_k_plus, others.min_k_plus, confidence),
        memorised=roc.auc(members.memorised, others.memorised, confidence),
    )


def difference(unlearned: Arm, retrained: Sequence[Arm], *, confidence: float = CONFIDENCE) -> TextDifference:
    """What the unlearned model gives away beyond retrained ones. Texts are the same and in the same order everywhere."""
    if not retrained:
        raise ValueError("expected at least one retrained model to compare with")
    arms, weights = [unlearned, *retrained], [1.0] + [-1 / len(retrained)] * len(retrained)

    def contrast(name: str, sign: int = 1) -> Estimate:
        pairs = [(sign * getattr(members, name), sign * getattr(others, name)) for members, others in arms]
        return roc.contrast(pairs, weights, confidence)

    return TextDifference(contrast("loss", -1), contrast("min_k"), contrast("min_k_plus"), contrast("memorised"))


def _batches(texts: Sequence[Sequence[int]], size: int) -> Iterator[tuple[Tensor, list[int]]]:
    for begin in range(0, len(texts), size):
        rows = [torch.as_tensor(text, dtype=torch.int64) for text in texts[begin : begin + size]]
        lengths = [len(row) for row in rows]
        if min(lengths) < 2:
            raise ValueError("expected texts of at least two tokens")
        yield torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths


def _smallest(values: Tensor, share: float) -> float:
    """The mean of the smallest share of values, of one at least."""
    return float(values.sort().values[: max(1, int(share * len(values)))].mean())
