"""Gradient difference (Liu, Liu and Stone 2022, arXiv 2203.12817; by this name in Maini et al. 2024, 2401.06121):

    W ← W + η (∇L_S(W) − λ ∇L_R(W))

up on the records to forget (S), down on those to keep (R), ``steps`` times; both losses are means. λ = 0 is gradient ascent::

    certify.unlearn(model, GradientDifference(rate=0.05, weight=2.0), ledger="ledger", request=request, task=task)
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from circuits.steps.gradient import evaluating, gradient, learning, linear_gradient, mean_loss, move, names_of
from circuits.steps.step import Shown, Task


@dataclass(frozen=True)
class GradientDifference:
    """``steps`` steps of size ``rate`` (η), each on all records; ``weight`` (λ) is that of the retained ones."""

    name: ClassVar[str] = "gradient-difference/v1"
    rate: float = 0.01
    steps: int = 10
    weight: float = 1.0

    def run(self, model: nn.Module, task: Task) -> Shown:
        with evaluating(model):
            before = mean_loss(model, task.loss, task.forget), mean_loss(model, task.loss, task.retain)
            for step in range(self.steps):
                up = gradient(model, task.loss, task.forget)
                down = gradient(model, task.loss, task.retain)
                move(model, tuple(u - self.weight * d for u, d in zip(up, down, strict=True)), self.rate)
                task.progress((step + 1) / self.steps)
            after = mean_loss(model, task.loss, task.forget), mean_loss(model, task.loss, task.retain)
        return Shown(
            {
                "rate": self.rate,
                "steps": self.steps,
                "weight": self.weight,
                "forgotten": len(task.forget[0]),
                "retained": len(task.retain[0]),
                "tensors": names_of(model, learning(model)),
                "forgetLossBefore": before[0],
                "forgetLossAfter": after[0],
                "retainLossBefore": before[1],
                "retainLossAfter": after[1],
            }
        )


class DifferenceOfLinear(nn.Module):
    """W + η (∇L_S(W) − λ ∇L_R(W)), ``steps`` times."""

    def __init__(self, rate: float, steps: int, weight: float) -> None:
        super().__init__()
        self.rate, self.weight = rate, weight
        self.steps = steps

    def forward(self, w: Tensor, x_s: Tensor, y_s: Tensor, x_r: Tensor, y_r: Tensor) -> Tensor:
        """(c, d), (n, d), (n, c), (m, d), (m, c) -> (c, d)"""
        for _ in range(self.steps):
            w = w + self.rate * (linear_gradient(w, x_s, y_s) - self.weight * linear_gradient(w, x_r, y_r))
        return w
