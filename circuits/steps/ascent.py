"""Gradient ascent on what is to be forgotten (Jang et al. 2022, arXiv 2210.01504; "NegGrad" in Golatkar et al. 2020, 1911.04933):

    W ← W + η ∇L_S(W),     L_S the mean loss on the records to forget, ``steps`` times

It undoes by raising the loss, not by what training did: few small steps, and a gate on what must not be lost::

    certify.unlearn(model, GradientAscent(rate=0.05, steps=10), ledger="ledger", request=request, task=task, gate=gate)

:class:`AscentOfLinear` is the same for a linear model, as a module that can be exported.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from circuits.steps.gradient import evaluating, gradient, learning, linear_gradient, mean_loss, move, names_of
from circuits.steps.step import Shown, Task


@dataclass(frozen=True)
class GradientAscent:
    """``steps`` steps of size ``rate``, each on all records to forget."""

    name: ClassVar[str] = "gradient-ascent/v1"
    rate: float = 0.01
    steps: int = 10

    def run(self, model: nn.Module, task: Task) -> Shown:
        with evaluating(model):
            before = mean_loss(model, task.loss, task.forget)
            for step in range(self.steps):
                move(model, gradient(model, task.loss, task.forget), self.rate)
                task.progress((step + 1) / self.steps)
            after = mean_loss(model, task.loss, task.forget)
        return Shown(
            {
                "rate": self.rate,
                "steps": self.steps,
                "forgotten": len(task.forget[0]),
                "tensors": names_of(model, learning(model)),
                "lossBefore": before,
                "lossAfter": after,
            }
        )


class AscentOfLinear(nn.Module):
    """W + η ∇L_S(W), ``steps`` times."""

    def __init__(self, rate: float, steps: int) -> None:
        super().__init__()
        self.rate = rate
        self.steps = steps

    def forward(self, w: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """(c, d), (n, d), (n, c) -> (c, d)"""
        for _ in range(self.steps):
            w = w + self.rate * linear_gradient(w, x, y)
        return w
