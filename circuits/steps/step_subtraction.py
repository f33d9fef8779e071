"""Amnesiac subtraction, in integers (Graves et al., arXiv 2010.10981): W' = W − Σ_b Δ_b over the batches that held a record.

Each Δ_b was committed to as training ended, before anybody asked. Which of them go follows from where the records stand in the
training data, which a verifier works out; the circuit takes off those that it is given::

    Subtraction(problem).after([7, 8], Given([], [[1, 2], [0, 3]])) == [6, 3]
"""

from torch import Tensor

from circuits.step_problem import StepProblem
from circuits.steps.step_circuit import Given, unequal


class Subtraction:
    def __init__(self, problem: StepProblem) -> None:
        del problem

    def after(self, w: Tensor, given: Given) -> Tensor:
        for delta in given.deltas:
            w = w - delta
        return w

    def deficit(self, w: Tensor, after: Tensor, given: Given) -> Tensor:
        return unequal(after, self.after(w, given))
