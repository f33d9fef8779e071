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
from circuits.chain_problem import ChainProblem
from circuits.errors import CircuitError
from circuits.problem import Problem
from circuits.srs import CEREMONY
from circuits.step_problem import StepProblem

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


def _forgotten(problem: Problem | ChainProblem) -> Lines:
    requests = len(problem.forgotten)
    asked = " + ".join(map(str, problem.forgotten[:8])) + (" + …" if requests > 8 else "")
    one = f"what one request names: {_records(*problem.forgotten[:1])}"
    near = math.sqrt(problem.tau) / problem.scale_x
    return [
        ("forgets", f"what {requests} requests name: {asked} records" if requests > 1 else one),
        (
            "left out",
            f"each record within distance {near:.3g} of a forgotten one, in scaled features (tau {near * near:.3g})",
        ),
    ]


def _optimum(problem: Problem) -> Lines:
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
        *_forgotten(problem),
        ("integers", f"data over {problem.scale_x:,}, weights over {problem.scale_w:,}: nothing is rounded in between"),
        *([("table", f"the sigmoid in steps of 1/{1 << problem.table_scale:,}")] if problem.table_scale else []),
        ("size", f"2^{problem.logrows} rows, integers of {problem.bits} bits"),
    ]


def _chain(problem: ChainProblem) -> Lines:
    layers = [problem.features, *([problem.hidden] if problem.hidden else []), problem.outputs]
    shape = " → ".join(map(str, layers))
    kind = f"one hidden layer of ReLU, {shape}" if problem.hidden else f"linear, {shape}"
    loss = "the logistic loss" if problem.network == "logistic" else "the squared error"
    steps = f"{problem.steps} step{'s' if problem.steps > 1 else ''} of SGD"
    return [
        (
            "proves",
            f"that {steps} lead from the committed weights before to those after, on committed batches of records, those near a "
            "forgotten one left out; proofs in a row, each from where the last one ended, lead from public first weights to the "
            "certificate's",
        ),
        ("network", f"{kind}, by {loss}"),
        ("training", f"batches of {problem.batch} records, learning rate {problem.learning_rate:.3g}"),
        *_forgotten(problem),
        (
            "integers",
            f"data over {problem.scale_x:,}, weights over {problem.scale_w:,}, rounded in the circuit at each step",
        ),
        ("size", f"2^{problem.logrows} rows"),
    ]


def _step(problem: StepProblem) -> Lines:
    layers = " → ".join(map(str, [problem.features, *([problem.hidden] if problem.hidden else []), problem.outputs]))
    lines = [
        (
            "proves",
            "that the weights of the certificate are what a step makes of committed weights from before; not that these, or "
            "those after, hold nothing of what is forgotten",
        ),
        ("step", _STEPS.get(problem.method, _OWN)),
        ("network", f"{problem.network}, {layers}: {problem.size} weights"),
    ]
    if problem.rate:
        lines.append(("rate", f"{problem.steps} in a row, learning rate {problem.learning_rate:.3g} of the mean loss"))
    if problem.numbers:
        shown = ", ".join(map(str, problem.numbers[:32])) + (", …" if len(problem.numbers) > 32 else "")
        lines.append(("public numbers", shown))
    if problem.rows:
        near = math.sqrt(problem.tau) / problem.scale_x
        lines.append(("records", f"{problem.rows:,}; those within {near:.3g} of a forgotten one do not count"))
        lines.append(("penalty", f"{problem.penalty / problem.scale_x**2:g}"))
    if problem.forgotten:
        requests = len(problem.forgotten)
        lines.append(
            (
                "forgets",
                f"what {requests} request{'s name' if requests > 1 else ' names'}: {_records(sum(problem.forgotten))}",
            )
        )
    return [
        *lines,
        ("integers", f"data over {problem.scale_x:,}, weights over {problem.scale_w:,}"),
        ("size", f"2^{problem.logrows} rows"),
    ]


_STEPS = {
    "ascent": "gradient ascent on the records to forget, rounded in the only way there is",
    "mask": "weights are set to zero where the public numbers, one for each weight, are 0, and kept elsewhere",
    "projection": "the direction of the public numbers is taken out of the first layer, rounded to the nearest integer",
    "subtraction": "what some batches of training changed, as committed to at that time, is taken off",
    "newton": "Newton's, to the optimum of ridge without the records, by its public residual: no matrix is inverted",
}
_OWN = "an operator's own: only its ONNX says what it computes. Ask for the file, and read it"
_WORDS: dict[str, Callable[..., Lines]] = {
    Problem.statement: _optimum,
    ChainProblem.statement: _chain,
    StepProblem.statement: _step,
}


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
