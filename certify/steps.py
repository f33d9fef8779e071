"""Unlearning by a step, in one call: digests before and after, what the step shows of itself, a gate, and the certificate.

::

    run = certify.unlearn(
        model,
        GradientAscent(rate=1e-3, steps=20),
        ledger="ledger",
        request=request,
        task=Task(forget=(x[gone], y[gone]), retain=(x[rest], y[rest])),
        gate=Gate(lambda model: accuracy(model, x[rest], y[rest]), floor=0.9),
    )
    run.bundle("case.bundle")

Any :class:`circuits.steps.step.UpdateStep` will do, also one of your own. If the gate is not passed, nothing is issued.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from certify import methods
from certify.errors import GateError
from certify.hooks.torch import HookRun, Ledger, unlearning
from certify.statement import Utility
from certify.workspace import Logged
from circuits.steps.step import Task, UpdateStep, parameters_of, seeds_of


@dataclass(frozen=True, slots=True)
class Gate:
    """Against catastrophic forgetting: a figure that must not fall below ``floor``, or lose more than ``drop``."""

    measure: Callable[[nn.Module], float]
    floor: float | None = None
    drop: float | None = None
    metric: str = "retain accuracy"

    def least(self, before: float) -> float:
        """The floor for a model that had ``before``. Raises GateError without one."""
        floors = [
            value for value in (self.floor, None if self.drop is None else before - self.drop) if value is not None
        ]
        if not floors:
            raise GateError("expected a floor or a drop for the gate, got neither")
        return max(floors)


def unlearn(
    model: nn.Module,
    step: UpdateStep,
    *,
    ledger: Ledger,
    request: Logged | str | int | Sequence[Logged | str | int],
    task: Task,
    gate: Gate | None = None,
    metrics: Callable[[nn.Module], Mapping[str, float]] | None = None,
    recipe: str | Path | None = None,
) -> HookRun:
    """Let ``step`` change ``model`` and issue ``unlearning/v1`` for it.

    ``metrics`` measures the model after, for the certificate to state; ``recipe`` is a Python file that does it again.

    Raises GateError, with nothing issued, if the model lost what the gate measures; ``model`` stays as the step left it.
    """
    parameters, seeds = parameters_of(step), seeds_of(step)
    before = gate.measure(model) if gate is not None else 0.0
    least = gate.least(before) if gate is not None else 0.0
    with unlearning(
        model,
        ledger=ledger,
        request=request,
        method=step.name,
        parameters=parameters,
        seeds=seeds,
        recipe=recipe,
    ) as run:
        shown = step.run(model, task)
        if gate is not None:
            after = gate.measure(model)
            if not after >= least:
                raise GateError(
                    f"{gate.metric} fell from {before:.4g} to {after:.4g}, expected {least:.4g} or more: no certificate is issued"
                )
            run.utility = Utility(gate.metric, before, after, least)
        if metrics is not None:
            run.metrics.update(metrics(model))
        for data in shown.attachments:
            run.workspace.attachments.put("details", data)
        if shown.fields:
            run.detail = methods.made(step.name, shown.fields)
    return run
