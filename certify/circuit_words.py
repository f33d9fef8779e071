"""What a circuit proves, in plain words: from its description alone, and so no truer than that.

::

    explain(description)
    # [("proves", "that the released weights are next to the one optimum …"), ("loss", "squared-hinge, penalty 1"), …]

``certify circuit rebuild`` shows that a verification key is the one of such a description. No torch.
"""

import math
from collections.abc import Callable

from certify.zk import CircuitDescription
from circuits import description
from circuits.errors import CircuitError
from circuits.problem import Problem
from circuits.srs import CEREMONY

Lines = list[tuple[str, str]]

_TARGET = {
    "ridge": "a number, by the squared error",
    "squared-hinge": "a class, by the squared hinge (a linear SVM)",
    "logistic": "a class, by the logistic loss",
}


def explain(circuit: CircuitDescription) -> Lines:
    """Names and what to say of them. A description that this version does not know is shown as it is."""
    try:
        parameters = description.parse(circuit.statement, circuit.parameters)
        words = _WORDS.get(circuit.statement)
        lines = words(parameters) if words is not None else _as_stated(circuit)
    except CircuitError as error:
        lines = [("unknown", f"this version cannot tell what it proves: {error}"), *_as_stated(circuit)]
    return [("statement", circuit.statement), *lines, ("reference string", _string(circuit)), *_digests(circuit)]


def _optimum(problem: Problem) -> Lines:
    requests = len(problem.forgotten)
    asked = " + ".join(map(str, problem.forgotten[:8])) + (" + …" if requests > 8 else "")
    many = (
        f"what {requests} requests name: {asked} records"
        if requests > 1
        else f"what one request names: {_records(*problem.forgotten)}"
    )
    near = math.sqrt(problem.tau) / problem.scale_x
    outputs = f", {problem.outputs} outputs" if problem.outputs > 1 else ""
    return [
        (
            "proves",
            "that the weights of the certificate are next to the one optimum of a convex objective over the committed records, "
            "less those near a forgotten one; it makes public how far the gradient is from zero, and how many records count",
        ),
        ("model", f"linear, predicts {_TARGET[problem.loss]}{outputs}"),
        ("objective", f"{problem.loss}, penalty {problem.penalty / problem.scale_x**2:g}"),
        ("records", f"{problem.rows:,} of {problem.features} features"),
        ("forgets", many),
        (
            "left out",
            f"each record within distance {near:.3g} of a forgotten one, in scaled features (tau {near * near:.3g})",
        ),
        ("integers", f"data over {problem.scale_x:,}, weights over {problem.scale_w:,}: nothing is rounded in between"),
        *([("table", f"the sigmoid in steps of 1/{1 << problem.table_scale:,}")] if problem.table_scale else []),
        ("size", f"2^{problem.logrows} rows, integers of {problem.bits} bits"),
    ]


_WORDS: dict[str, Callable[..., Lines]] = {Problem.statement: _optimum}


def _records(count: int) -> str:
    return f"{count} record" if count == 1 else f"{count:,} records"


def _as_stated(circuit: CircuitDescription) -> Lines:
    return [(name, str(value)) for name, value in sorted(circuit.parameters.items())]


def _string(circuit: CircuitDescription) -> str:
    if circuit.srs == CEREMONY[1]:
        return "the perpetual powers of tau, whose secret nobody knows"
    return f"DEVELOPMENT, {circuit.srs}: whoever made it can forge proofs"


def _digests(circuit: CircuitDescription) -> Lines:
    return [("onnx", circuit.onnx), ("settings", circuit.settings), ("verification key", circuit.vk)]
