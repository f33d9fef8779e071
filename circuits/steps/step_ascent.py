"""Gradient ascent on the records to forget, in integers (Jang et al., arXiv 2210.01504, do it to language models):

    W' = W + ⌊rate · G / unit⌉,     G = Σ_{i in F} ∇ ℓ(z(x_i; W), y_i)

G is the gradient of :mod:`circuits.steps.sgd`, of a linear model or one hidden layer of ReLU with ½‖z − y‖², or of a linear model
with the logistic loss by its table. The circuit does not divide: with v = unit·(W − W') + rate·G + unit/2 it is to say that
0 ≤ v < unit. Its digits hold no number beyond unit − 1, and relu(v) − v adds up to 0 only if none is negative::

    Ascent(problem).after(w, Given([torch.tensor([[16.0, -8.0, 1.0]])]))      # x = (1, −½), y = 1 at scale 16
"""

import torch
from torch import Tensor

from circuits.errors import ProverError
from circuits.export import EXACT
from circuits.step_problem import StepProblem
from circuits.steps.sgd import MaskedSgd
from circuits.steps.step_circuit import Given


class Ascent:
    """SGD's step on the records to forget, the other way."""

    def __init__(self, problem: StepProblem) -> None:
        self.problem, self.sgd = problem, MaskedSgd(problem.chain)

    def gradient(self, w: Tensor, given: Given) -> Tensor:
        """G times the table's grain, in units of 1/gradient_scale. (P,) -> (P,)"""
        rows = torch.cat([*given.forgotten])  # (k, d + o)
        x, y = rows[:, : self.problem.features], rows[:, self.problem.features :]
        return self.sgd.gradient(x, y, torch.ones(len(rows), 1, dtype=rows.dtype), w)

    def after(self, w: Tensor, given: Given) -> Tensor:
        rows = torch.cat([*given.forgotten])
        if not (self.sgd.bound(rows, w) < EXACT and self.sgd.taken_apart(rows, w) < self.problem.unit):
            raise ProverError(
                "expected numbers that stay small, those of ascent are too large: fewer steps or a smaller rate will do"
            )
        wanted = (self.sgd.rate * self.gradient(w, given) / self.sgd.grain).to(torch.int64) + self.problem.unit // 2
        return w + torch.div(wanted, self.problem.unit, rounding_mode="floor")

    def deficit(self, w: Tensor, after: Tensor, given: Given) -> Tensor:
        sgd = self.sgd
        v = sgd.above * (sgd.base * (w - after) + sgd.centre) + sgd.rate * self.gradient(w, given)  # (P,)
        return (torch.relu(v) - v).sum(dim=0, keepdim=True)  # (1,)
