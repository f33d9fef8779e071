"""``exclusion-chain/v1``, the prover's side: train in integers, and plan the proofs of every step.

::

    states = train(problem, batches, initial.weights(seed, problem), steps=20, forgotten=[f])      # 21 lists of parameters
    for number, group in enumerate(plan(problem, 20)):                                            # which steps each proof is of
        job = Job(circuit_of(group.problem), group.inputs(batches, states, forgotten), srs)

Step t takes batch t modulo their number. Proofs are made of ``problem.steps`` steps each, the last of as many as are left.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from circuits.chain_problem import ChainProblem
from circuits.errors import ProverError
from circuits.export import EXACT
from circuits.steps.sgd import MaskedSgd

Values = Sequence[int]


@dataclass(frozen=True, slots=True)
class Group:
    """The steps of one proof: ``first`` and those after it."""

    problem: ChainProblem
    first: int

    def batches(self, count: int) -> list[int]:
        """Which of ``count`` batches each step takes."""
        return [step % count for step in range(self.first, self.first + self.problem.steps)]

    def inputs(
        self, batches: Sequence[Values], states: Sequence[Values], forgotten: Sequence[Values]
    ) -> tuple[tuple[int, ...], ...]:
        """The circuit's inputs from salted values: all batches, all states from before its first step on, all requests'."""
        taken = [batches[place] for place in self.batches(len(batches))]
        return tuple(map(tuple, [*taken, *states[self.first : self.first + self.problem.steps + 1], *forgotten]))


def plan(problem: ChainProblem, steps: int) -> Iterator[Group]:
    """The proofs of a chain of so many steps."""
    if steps < 1:
        raise ProverError(f"expected a chain of 1 step at least, got {steps}")
    for first in range(0, steps, problem.steps):
        count = min(problem.steps, steps - first)
        yield Group(problem if count == problem.steps else replace(problem, steps=count), first)


def train(
    problem: ChainProblem,
    batches: Sequence[Sequence[Values]],
    start: Values,
    *,
    steps: int,
    forgotten: Sequence[Sequence[Values]] = (),
) -> list[list[int]]:
    """All parameters before the first step and after each: steps + 1 lists.

    batches: rows of features and targets, without salt; forgotten: rows of features, a list for each request, none to leave
    nobody out. Raises ProverError where numbers grow beyond what float64 holds exactly.
    """
    if not batches or steps < 0:
        raise ProverError(f"expected a batch at least and 0 steps or more, got {len(batches)} and {steps}")
    module = MaskedSgd(problem)
    rows = [torch.tensor(batch, dtype=torch.float64) for batch in batches]
    gone = [torch.tensor(part, dtype=torch.float64) for part in forgotten]
    longest = max(float(part[:, : problem.features].square().sum(dim=1).max()) for part in [*rows, *gone])
    if not 4 * longest < problem.unit:  # twice the length, squared
        raise ProverError(
            f"expected features whose squared distances are below {problem.unit}, got up to {4 * longest:.3g}"
        )
    weights = torch.tensor(start, dtype=torch.float64)
    states = [list(start)]
    for step in range(steps):
        batch = rows[step % len(rows)]
        small = module.bound(batch, weights) < EXACT and module.taken_apart(batch, weights) < problem.unit
        if not small:  # nor where they are not numbers
            raise ProverError(
                f"expected numbers that stay small, those of step {step} are too large: a smaller rate will do"
            )
        weights = module.step(batch, weights, gone)
        states.append([int(value) for value in weights.tolist()])
    return states
