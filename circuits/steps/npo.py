"""Negative preference optimisation (Zhang, Lin, Bai, Mei 2024, arXiv 2404.05868): texts become less likely than they were.

    L = 2/β E ln(1 + (π(y|x) / π_ref(y|x))^β)  [+ λ E_retain −ln π],        ∇L = E w ∇ln π,   w = 2 π^β / (π^β + π_ref^β)

π_ref is the model before. w is 1 at the start and falls as a text becomes unlikely, so that, unlike ascent, the loss is bounded
from below; with β → 0 it is gradient ascent: L − (2/β) ln 2 → E ln(π/π_ref) (their proposition 1)::

    Npo(beta=0.1, steps=40).run(model, Task(forget=sequences(…), retain=sequences(…), loss=token_loss))
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from circuits.steps.gradient import learning, names_of
from circuits.steps.language_model import PAD, log_probabilities
from circuits.steps.step import Shown, Task


def npo_loss(now: Tensor, before: Tensor, beta: float) -> Tensor:
    """ln π and ln π_ref of each text, (n,) each -> ()"""
    return 2 / beta * F.softplus(beta * (now - before)).mean()


@dataclass(frozen=True)
class Npo:
    """``retain`` is λ, of the loss on as many texts to keep. ``rate`` is Adam's; texts come ``batch`` at a time."""

    name: ClassVar[str] = "npo/v1"
    beta: float = 0.1
    rate: float = 1e-3
    steps: int = 40
    batch: int = 16
    retain: float = 1.0
    seed: int = 0

    def run(self, model: nn.Module, task: Task) -> Shown:
        if not self.beta > 0:
            raise ValueError(f"expected a beta above 0, got {self.beta:g}: gradient ascent is a method of its own")
        x, y = task.forget
        before = whole(model, x, y)  # (n,)
        generator = torch.Generator().manual_seed(self.seed)
        optimizer = torch.optim.Adam(learning(model).values(), lr=self.rate)
        for step in range(self.steps):
            rows = torch.randperm(len(x), generator=generator)[: self.batch]
            loss = npo_loss(log_probabilities(model(x[rows]), y[rows]), before[rows], self.beta)
            if self.retain:
                kept = torch.randperm(len(task.retain[0]), generator=generator)[: self.batch]
                loss = loss + self.retain * task.loss(model(task.retain[0][kept]), task.retain[1][kept])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            task.progress((step + 1) / self.steps)
        tokens = int((y != PAD).sum())
        after = whole(model, x, y)
        return Shown(
            {
                "beta": self.beta,
                "steps": self.steps,
                "retain": self.retain,
                "forgotten": len(x),
                "tensors": names_of(model, learning(model)),
                "lossBefore": -before.sum().item() / tokens,
                "lossAfter": -after.sum().item() / tokens,
            }
        )


def whole(model: nn.Module, x: Tensor, y: Tensor, batch: int = 64) -> Tensor:
    """ln π of each text, without a gradient. -> (n,)"""
    with torch.no_grad():
        parts = zip(x.split(batch), y.split(batch), strict=True)
        return torch.cat([log_probabilities(model(some), wanted) for some, wanted in parts])
