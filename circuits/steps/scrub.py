"""SCRUB (Kurmanji et al. 2023, arXiv 2302.09880): a student that obeys its teacher on what is kept, and contradicts it elsewhere.

The teacher is the model before, and d(x; W) = KL(p(x; teacher) ‖ p(x; W)) how far the student is from it. Rounds alternate ::

    up:    W ← W + η ∇ mean_S d(x; W)                                     on the records to forget, the first ``up`` rounds only
    down:  W ← W − η ∇ mean_R (α d(x; W) + γ ℓ(x, y; W))                  on the records to keep, every round

over shuffled batches. After its last step up the student goes on with what is kept alone, which mends what the steps up broke::

    certify.unlearn(model, Scrub(rate=0.05, rounds=6, up=3), ledger="ledger", request=request, task=task)

The student begins as the teacher, where ∇d is zero: the first round's first step up moves nothing. Plain gradient steps are
taken, where theirs are Adam's or SGD's with momentum; and "rewinding", which picks a round by a held-out loss, is left out.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from circuits.steps.gradient import batches, derivative, evaluating, learning, linear_gradient, move, names_of
from circuits.steps.step import Records, Shown, Task


@dataclass(frozen=True)
class Scrub:
    """``rounds`` rounds of which ``up`` begin with steps up; ``rate`` is η, ``alpha`` and ``gamma`` are α and γ."""

    name: ClassVar[str] = "scrub/v1"
    rate: float = 0.01
    rounds: int = 5
    up: int = 3
    alpha: float = 0.5
    gamma: float = 1.0
    batch: int = 64
    seed: int = 0

    def run(self, model: nn.Module, task: Task) -> Shown:
        if not 0 <= self.up <= self.rounds:
            raise ValueError(f"expected at most {self.rounds} rounds up, got {self.up}")
        teacher = deepcopy(model).eval().requires_grad_(False)
        generator = torch.Generator().manual_seed(self.seed)
        steps = 0

        def rounds(records: Records) -> Iterator[tuple[Tensor, Tensor]]:
            nonlocal steps
            for rows in batches(len(records[0]), self.batch, generator):
                steps += 1
                yield records[0][rows], records[1][rows]

        with evaluating(model):
            for number in range(self.rounds):
                for x, _ in rounds(task.forget) if number < self.up else ():
                    move(model, derivative(divergence(teacher(x), model(x)), model), self.rate)
                for x, y in rounds(task.retain):
                    said = model(x)
                    value = self.alpha * divergence(teacher(x), said) + self.gamma * task.loss(said, y)
                    move(model, derivative(value, model), -self.rate)
                task.progress((number + 1) / self.rounds)
            with torch.no_grad():
                far, near = (float(divergence(teacher(x), model(x))) for x, _ in (task.forget, task.retain))
        return Shown(
            {
                "rate": self.rate,
                "rounds": self.rounds,
                "up": self.up,
                "alpha": self.alpha,
                "gamma": self.gamma,
                "batch": self.batch,
                "steps": steps,
                "forgotten": len(task.forget[0]),
                "retained": len(task.retain[0]),
                "tensors": names_of(model, learning(model)),
                "forgetDivergence": far,
                "retainDivergence": near,
            }
        )


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean over records of KL(softmax(teacher) ‖ softmax(student)), nats. Both (n, …, classes) logits -> ()"""
    p, q = teacher.log_softmax(-1), student.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).mean()


class ScrubOfLinear(nn.Module):
    """One step up and one step down, on all records. ∇d(x; W) = (softmax(xWᵀ) − softmax(xVᵀ))ᵀ x / n for a teacher V."""

    def __init__(self, rate: float, alpha: float, gamma: float) -> None:
        super().__init__()
        self.rate, self.alpha, self.gamma = rate, alpha, gamma

    def forward(self, w: Tensor, v: Tensor, x_s: Tensor, x_r: Tensor, y_r: Tensor) -> Tensor:
        """(c, d), (c, d), (n, d), (m, d), (m, c) -> (c, d)"""
        w = w + self.rate * linear_gradient(w, x_s, torch.softmax(x_s @ v.T, dim=-1))
        near = linear_gradient(w, x_r, torch.softmax(x_r @ v.T, dim=-1))
        return w - self.rate * (self.alpha * near + self.gamma * linear_gradient(w, x_r, y_r))
