"""An operator's own step: what others can find out about a circuit that only its ONNX describes.

::

    onnx = to_onnx(StepCircuit(problem, MyRule(problem)), [layout.shape for layout in problem.layouts])
    probe(onnx, problem)                    # refuses a circuit that takes any weights for right

Inputs are those of :attr:`StepProblem.layouts`; every output is 0 exactly where the weights after are what the step makes of
those before. The parameters say shapes and scales, and what the step is called; *what it computes is in the ONNX and nowhere
else*. Whoever accepts such a circuit has to read it. :func:`probe` saves nobody from that: it draws random weights, and a circuit
that was made to deceive would tell them from those that it is to let through.
"""

import random

import torch

from circuits.errors import ProverError
from circuits.export import run_onnx
from circuits.layout import Layout
from circuits.step_problem import StepProblem

DRAWS = 8


def probe(onnx: bytes, problem: StepProblem, *, seed: int = 0) -> list[str]:
    """What is odd about a circuit, a line each. Raises ProverError if it lets random weights through, or salt matters to it."""
    drawn = random.Random(seed)
    states = len(problem.layouts) - problem.steps - 1
    remarks: set[str] = set()
    for _ in range(DRAWS):
        inputs = [_draw(layout, problem, drawn, place >= states) for place, layout in enumerate(problem.layouts)]
        found = _run(onnx, inputs)
        if not any(found):
            raise ProverError(
                f"expected a circuit of {problem.method[:80]} that refuses random weights, this one lets any through"
            )
        salted = [_salted_anew(part, layout, drawn) for part, layout in zip(inputs, problem.layouts, strict=True)]
        if _run(onnx, salted) != found:
            raise ProverError(f"expected a circuit of {problem.method[:80]} to cut salt off, its outputs depend on it")
        for name, places in (
            ("the records to forget", range(states)),
            ("the weights before", range(states, states + 1)),
        ):
            other = list(inputs)
            if not places:
                continue
            for place in places:
                other[place] = _draw(problem.layouts[place], problem, drawn, place >= states)
            if _run(onnx, other) == found:
                remarks.add(f"{name} make no difference to it")
    return sorted(remarks)


def _draw(layout: Layout, problem: StepProblem, drawn: random.Random, weights: bool) -> torch.Tensor:
    """Numbers of about 1, labels among them."""
    scale = problem.scale_w if weights else problem.scale_x
    values = [[drawn.randint(-2 * scale, 2 * scale) for _ in range(layout.columns)] for _ in range(layout.rows)]
    return torch.tensor(layout.salted(values), dtype=torch.float64).reshape(layout.shape)


def _salted_anew(values: torch.Tensor, layout: Layout, drawn: random.Random) -> torch.Tensor:
    fresh = torch.tensor([drawn.getrandbits(16) for _ in range(layout.count)], dtype=torch.float64).reshape(
        layout.shape
    )
    fresh[: layout.rows, : layout.columns] = values[: layout.rows, : layout.columns]
    return fresh


def _run(onnx: bytes, inputs: list[torch.Tensor]) -> tuple[float, ...]:
    try:
        return run_onnx(onnx, inputs)
    except Exception as error:  # onnxruntime's own are many
        raise ProverError(f"expected an ONNX that takes this problem's inputs, got: {error}"[:300]) from None
