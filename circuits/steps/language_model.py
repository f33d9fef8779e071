"""A small causal transformer (GPT-2's architecture, Radford et al. 2019), and what is measured on texts.

    h = E[x] + P          h += attend(norm(h))        h += W2 gelu(W1 norm(h))          logits = norm(h) Eᵀ

::

    model = Gpt(vocabulary=1024, context=64)
    x, y = sequences([[5, 17, 3], [8, 2]], end=0)      # inputs (n, t); what comes next, (n, t), PAD where nothing does
    token_loss(model(x), y)                            # mean over tokens
    log_probabilities(model(x), y)                     # Σ ln π(y_t | x_≤t), (n,)
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PAD = -100
"""A target that counts for nothing."""


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, h: Tensor) -> Tensor:
        parts = self.qkv(self.norm1(h)).chunk(3, dim=-1)  # 3 x (n, t, d)
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)  # (n, heads, t, d/heads)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.out(attended.transpose(1, 2).flatten(2))  # (n, t, d)
        fed: Tensor = self.down(F.gelu(self.up(self.norm2(h))))  # (n, t, d)
        return h + fed


class Gpt(nn.Module):
    """Token numbers (n, t), t at most ``context``, -> logits of what comes next (n, t, vocabulary)."""

    def __init__(self, vocabulary: int, context: int, width: int = 64, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        for embedding in (self.tokens, self.places):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens(x) + self.places.weight[: x.shape[1]]  # (n, t, d)
        logits: Tensor = self.norm(self.blocks(h)) @ self.tokens.weight.T  # (n, t, vocabulary)
        return logits


def sequences(texts: Sequence[Sequence[int]], *, end: int, context: int | None = None) -> tuple[Tensor, Tensor]:
    """Texts as tokens, between two ``end`` tokens, cut to ``context``. -> inputs (n, t), targets (n, t)"""
    most = None if context is None else context + 1
    whole = [[end, *text, end][:most] for text in texts]
    longest = max(len(text) for text in whole)
    x = torch.tensor([text[:-1] + [end] * (longest - len(text)) for text in whole])  # (n, t)
    y = torch.tensor([text[1:] + [PAD] * (longest - len(text)) for text in whole])  # (n, t)
    return x, y


def token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy, mean over the tokens that are there. (n, t, v), (n, t) -> ()"""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD)


def log_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    """ln π of each whole sequence. (n, t, v), (n, t) -> (n,)"""
    lost = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction="none")
    return -lost.reshape(targets.shape).sum(1)


def perplexity(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """exp of the mean loss of a token."""
    with torch.no_grad():
        return math.exp(float(token_loss(model(x), y)))


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of tokens that the model would have come up with."""
    with torch.no_grad():
        there = y != PAD
        return float((model(x).argmax(-1) == y)[there].double().mean())
