"""Concept ablation by projection, in integers: W1' = W1 (I − v vᵀ / ‖v‖²), of the weights that take the input (nullspace
projection, Ravfogel et al., arXiv 2004.07667, along one direction; Belrose et al., 2306.03819, say when that erases a concept).

v is public, a part of the circuit's description. Division by N = ‖v‖² is rounded to the nearest integer, and is not done in the
circuit: with u = N (W1 − W1') − (W1 v) vᵀ + ⌊N/2⌋ it is to say that 0 ≤ u < N. All other weights stay as they are. ::

    Projection(2 features, numbers (3, 4)).after([[50, 0]]) == [[32, -24]]      # 50 − 50·9/25, 0 − 50·12/25
"""

import torch
from torch import Tensor

from circuits.export import constant
from circuits.step_problem import StepProblem
from circuits.steps.step_circuit import Given, outside, unequal


class Projection:
    def __init__(self, problem: StepProblem) -> None:
        self.problem = problem
        self.v = torch.tensor(problem.numbers, dtype=torch.float64)  # (d,)
        self.length = constant(problem.length)
        rows, columns = problem.shapes["0.weight"]
        self.shape, self.first = (rows, columns), rows * columns

    def _taken(self, w: Tensor) -> Tensor:
        """(W1 v) vᵀ. (P,) -> (o, d)"""
        weight = w[: self.first].reshape(self.shape)  # (o, d)
        return torch.einsum("od,d->o", weight, self.v)[:, None] * self.v[None, :]

    def after(self, w: Tensor, given: Given) -> Tensor:
        length = self.problem.length
        gone = torch.div(
            length // 2 - self._taken(w).to(torch.int64), length, rounding_mode="floor"
        )  # −⌈(t − N/2) / N⌉
        return torch.cat([w[: self.first] + gone.reshape(-1), w[self.first :]])

    def deficit(self, w: Tensor, after: Tensor, given: Given) -> Tensor:
        moved = (w - after)[: self.first].reshape(self.shape)
        u = self.length * moved - self._taken(w) + float(self.problem.length // 2)  # (o, d)
        return outside(u.reshape(-1), self.length) + unequal(w[self.first :], after[self.first :])
