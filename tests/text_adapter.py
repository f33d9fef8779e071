"""A small causal language model to audit: a transformer, and texts of random tokens, which are learnt by heart or not at all."""

import numpy as np
import torch
from torch import Tensor, nn

from certify.audit.adapter import Recipe
from certify.audit.arms import Records
from certify.audit.text import Language, padded

network = "transformer, 1 layer of 32"
WORDS, LENGTH = 24, 12

_rng = np.random.default_rng(7)
texts_ = [_rng.integers(1, WORDS, _rng.integers(4, LENGTH + 1)).tolist() for _ in range(70)]


class Transformer(nn.Module):
    """Embeddings, one layer of attention that looks back alone, logits. (B, T) -> (B, T, V)"""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(WORDS, 32), nn.Parameter(0.02 * torch.randn(LENGTH, 32))
        layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.out = nn.Linear(32, WORDS)

    def forward(self, ids: Tensor) -> Tensor:
        size = ids.shape[-1]
        mask = torch.full((size, size), -torch.inf, device=ids.device).triu(1)
        return self.out(self.encoder(self.embed(ids) + self.place[:size], mask=mask, is_causal=True))


def subject() -> Language:
    return Language(Transformer, padded(texts_), Recipe(epochs=40, rate=0.01, batch=18, optimiser="adam"), known=0.1)


def records() -> Records:
    places = np.arange(len(texts_))
    return Records(retain=places[:20], forget=places[20:36], held_out=places[36:52], test=places[52:])


def record(place: int) -> list[int]:
    """As the operator committed to it: the tokens."""
    return texts_[place]
