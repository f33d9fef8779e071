"""Pruning by a public mask, in integers: W' = M ∘ W, for class-discriminative pruning (Wang et al., arXiv 2110.11794) and others.

M is part of the circuit's description: which weights are zero is no secret, since the released weights show it. What is proven
is that all others are those from before; why these were chosen is not. ::

    Mask(problem with numbers (1, 0, 1)).after([7, 8, 9]) == [7, 0, 9]
"""

import torch
from torch import Tensor

from circuits.step_problem import StepProblem
from circuits.steps.step_circuit import Given, unequal


class Mask:
    def __init__(self, problem: StepProblem) -> None:
        self.mask = torch.tensor(problem.numbers, dtype=torch.float64)  # (P,)

    def after(self, w: Tensor, given: Given) -> Tensor:
        return self.mask * w

    def deficit(self, w: Tensor, after: Tensor, given: Given) -> Tensor:
        return unequal(after, self.mask * w)
