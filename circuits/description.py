"""A circuit by its description: the name of what it proves and integer parameters. ONNX, settings and keys follow from them.

::

    describe(Problem("ridge", rows=40, …))      # {"loss": "ridge", "rows": 40, …}
    parse("exclusion-optimum/v1", {…})          # the Problem again; other or missing fields are refused
    circuit = build(problem)                    # needs torch; the same ONNX and settings on every machine

Whoever trusts a verification key has to know what it stands for: they build the circuit from its description, make the key
anew, and compare. No torch before :func:`build`.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_type_hints

from circuits.chain_problem import ChainProblem
from circuits.errors import ProverError
from circuits.problem import Problem
from circuits.step_problem import StepProblem

if TYPE_CHECKING:
    from circuits.prover import Circuit

Parameters = Problem | ChainProblem | StepProblem
STATEMENTS: dict[str, type[Parameters]] = {kind.statement: kind for kind in (Problem, ChainProblem, StepProblem)}
_MODULES = {
    Problem: ("circuits.optimum", "module_of"),
    ChainProblem: ("circuits.steps.sgd", "MaskedSgd"),
    StepProblem: ("circuits.steps.step_circuit", "StepCircuit"),
}
"""What makes a circuit's module of its parameters; imported when it is needed, since it needs torch."""
Value = int | str | list[int]


def describe(parameters: Parameters) -> dict[str, Value]:
    """Every parameter by its name: integers, names, and lists of integers."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(parameters).items()}


def parse(statement: str, values: Mapping[str, Any]) -> Parameters:
    """Raises ProverError for anything that :func:`describe` would not give."""
    kind = STATEMENTS.get(statement)
    if kind is None:
        raise ProverError(f"expected a statement of {', '.join(sorted(STATEMENTS))}, got {statement[:80]!r}")
    expected = {field.name for field in fields(kind)}
    if set(values) != expected:
        raise ProverError(
            f"expected the parameters {', '.join(sorted(expected))}, got {', '.join(sorted(values))[:300]}"
        )
    hints = get_type_hints(kind)
    found: dict[str, Any] = {}
    for name, value in values.items():
        wanted = hints[name]
        if isinstance(value, list) and all(type(item) is int for item in value):
            value = tuple(value)
        fits = (
            type(value) is int
            if wanted is int
            else type(value) is tuple
            if wanted == tuple[int, ...]
            else type(value) is str
        )
        if not fits:
            raise ProverError(f"expected {name} to be {wanted}, got {str(value)[:80]!r}")
        found[name] = value
    return kind(**found)


def build(parameters: Parameters, onnx: bytes | None = None) -> "Circuit":
    """Export and compile. ``onnx``: of an operator's own step, which no parameters describe; of no other circuit is it looked at.

    Raises ProverError where EZKL cannot express it.
    """
    from circuits import export, prover

    if onnx is not None and isinstance(parameters, StepProblem) and parameters.is_own:
        return prover.compile(onnx, parameters.fixed_point)
    home, name = _MODULES[type(parameters)]
    module = getattr(import_module(home), name)(parameters)
    return prover.compile(
        export.to_onnx(module, [layout.shape for layout in parameters.layouts]), parameters.fixed_point
    )
