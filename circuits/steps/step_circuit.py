"""``step/v1`` as a circuit: weights before and after are both committed to, and a *rule* says whether one follows from the other.

    deficit_t = rule(W_t, W_{t+1}, F)      public, and 0 exactly if W_{t+1} is what the step makes of W_t and the records F

A rule is two small functions on integers: ``after`` computes the weights, for the prover; ``deficit`` compares them, for the
circuit, without a division. One of your own::

    class Halve:                                                      # W' = ⌊W / 2⌋
        def after(self, w: Tensor, given: Given) -> Tensor:           # (P,) -> (P,)
            return torch.floor(w / 2)

        def deficit(self, w: Tensor, after: Tensor, given: Given) -> Tensor:      # (P,), (P,) -> (1,)
            return outside(w - 2 * after, 2)                          # 0 <= w - 2 w' < 2 for each

    module = StepCircuit(StepProblem("own:halve", …), Halve())        # ONNX from it is what others build and accept

Rules make nothing of salt: the circuit cuts it off. Every constant is an integer that float32 holds, and every input is used:
EZKL leaves others out, and a verifier wants a commitment for each. A step that makes nothing of the records has no ``forgotten``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn

from circuits.errors import ProverError
from circuits.exclusion import without_salt
from circuits.export import EXACT
from circuits.step_problem import StepProblem

_RULES = {
    "ascent": ("circuits.steps.step_ascent", "Ascent"),
    "mask": ("circuits.steps.step_mask", "Mask"),
    "projection": ("circuits.steps.step_projection", "Projection"),
    "subtraction": ("circuits.steps.step_subtraction", "Subtraction"),
    "newton": ("circuits.steps.step_newton", "Newton"),
}


@dataclass(frozen=True, slots=True)
class Given:
    """What a step works with besides weights, integers in float64: the records of each request (k, d + o), changes to take off
    (P,) each, and all training records (n, d + o) where the method takes them.
    """

    forgotten: Sequence[Tensor]
    deltas: Sequence[Tensor] = ()
    records: Tensor | None = None


class Rule(Protocol):
    """A step on integer weights, and how a circuit sees that it was taken."""

    def after(self, w: Tensor, given: Given) -> Tensor:
        """The weights after it, integers. (P,) -> (P,)"""
        ...

    def deficit(self, w: Tensor, after: Tensor, given: Given) -> Tensor:
        """0 in all places if and only if ``after`` is right, and never negative: sums do not cancel. (P,), (P,) -> (m,)"""
        ...


def outside(v: Tensor, below: float) -> Tensor:
    """0 if every integer in v is from 0 to below − 1, else more. EZKL's digits give |v| no second form. (n,) -> (1,)"""
    above = below - 1 - v  # (n,)
    return (torch.relu(v) - v + torch.relu(above) - above).sum(dim=0, keepdim=True)


def unequal(left: Tensor, right: Tensor) -> Tensor:
    """0 if two tensors of integers are the same, else more. Both (n,) -> (1,)"""
    apart = left - right  # (n,)
    return torch.einsum("i,i->", apart, apart).reshape(1)


def rule_of(problem: StepProblem) -> Rule:
    """Raises ProverError for an own step, whose rule only its owner has."""
    if problem.method not in _RULES:
        raise ProverError(
            f"{problem.method} is an operator's own step: expected the ONNX that says what it does, give it with --onnx"
        )
    home, name = _RULES[problem.method]
    rule: Rule = getattr(import_module(home), name)(problem)
    return rule


class StepCircuit(nn.Module):
    """Inputs as in :attr:`StepProblem.layouts`, integers; outputs the deficit of each step."""

    def __init__(self, problem: StepProblem, rule: Rule | None = None) -> None:
        super().__init__()
        self.problem = problem
        self.rule = rule or rule_of(problem)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        p = self.problem
        bare = [without_salt(part, layout) for part, layout in zip(inputs, p.layouts, strict=True)]
        requests, rest = len(p.forgotten), len(bare) - p.steps - 1
        deltas = [self._flat(part) for part in bare[requests : requests + p.deltas]]
        given = Given(bare[:requests], deltas, bare[rest - 1] if p.rows else None)
        states = [self._flat(part) for part in bare[rest:]]  # (P,) each
        return tuple(self.rule.deficit(before, after, given) for before, after in pairwise(states))

    def _flat(self, state: Tensor) -> Tensor:
        return state.reshape(-1)[: self.problem.size]


def run(problem: StepProblem, start: Sequence[int], given: Given, rule: Rule | None = None) -> list[list[int]]:
    """All parameters before the first step and after each: steps + 1 lists. Raises ProverError where numbers grow too large."""
    rule = rule or rule_of(problem)
    w = torch.tensor(start, dtype=torch.float64)
    states = [list(start)]
    for step in range(problem.steps):
        w = rule.after(w, given)
        if not bool((w.abs() < min(problem.unit, EXACT)).all()) or not torch.equal(
            w, w.round()
        ):  # nor where they are no numbers
            raise ProverError(f"expected integer weights below {problem.unit} after step {step}, others came")
        states.append([int(value) for value in w.tolist()])
    return states
