"""A circuit module as ONNX: opset pinned, shapes fixed, the same bytes for the same module.

::

    onnx = to_onnx(module, [(44, 7), (9, 2), (7, 6)])      # a float64 input of each shape
    run_onnx(onnx, inputs) == run_torch(module, inputs)    # integers; exact, tolerance 0 (but see circuits.sigmoid)

Circuit modules compute with integers that float64 holds exactly, and every constant in them is one that float32 holds
exactly, since EZKL reads constants as float32. So torch, ONNX Runtime and the circuit agree to the last digit or one
of them is wrong.
"""

import io
import struct
import warnings
from collections.abc import Sequence
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from circuits.errors import ProverError

OPSET = 17
IR_VERSION = 8
EXACT = 2**53
"""Integers below are exact in float64."""

Shape = tuple[int, ...]


def constant(value: int) -> float:
    """``value`` as a constant of a circuit; refuses one that float32 would round."""
    if struct.unpack("<f", struct.pack("<f", value))[0] != value:
        raise ProverError(f"expected a constant with 24 significant bits at most, got {value}")
    return float(value)


def to_onnx(module: nn.Module, shapes: Sequence[Shape]) -> bytes:
    """ONNX of ``module`` for float64 inputs of ``shapes``: opset 17, no names of programs, versions or source files."""
    stream: Any = io.BytesIO()
    inputs = tuple(torch.zeros(shape, dtype=torch.float64) for shape in shapes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is called legacy, and is the deterministic one
        torch.onnx.export(
            module.eval(),
            inputs,
            stream,
            dynamo=False,
            opset_version=OPSET,
            input_names=[f"input_{i}" for i in range(len(shapes))],
        )
    model = onnx.load_model_from_string(stream.getvalue())
    model.producer_name = model.producer_version = model.doc_string = model.graph.doc_string = ""
    model.ir_version = IR_VERSION
    for node in model.graph.node:
        node.doc_string = ""
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def run_torch(module: nn.Module, inputs: Sequence[Tensor], scales: Sequence[int] | None = None) -> tuple[int, ...]:
    """What ``module`` says, all outputs flattened one after another, each times 2 to the power of its scale (0 where None).

    inputs: integers, of any dtype
    """
    with torch.no_grad():
        outputs = module(*(tensor.to(torch.float64) for tensor in inputs))
    values = _flat(outputs if isinstance(outputs, tuple) else (outputs,), scales)
    if any(value != int(value) or abs(value) >= EXACT for value in values):
        raise ProverError("expected integers below 2^53 from a circuit module, got something else")
    return tuple(map(int, values))


def run_onnx(model: bytes, inputs: Sequence[Tensor], scales: Sequence[int] | None = None) -> tuple[float, ...]:
    """What ONNX Runtime says, in the same form; integers too, but for what EZKL looks up in a table and others compute."""
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    named = {f"input_{i}": tensor.to(torch.float64).numpy() for i, tensor in enumerate(inputs)}
    return _flat(tuple(torch.from_numpy(output) for output in session.run(None, named)), scales)


def _flat(outputs: Sequence[Tensor], scales: Sequence[int] | None) -> tuple[float, ...]:
    pairs = zip(outputs, scales or [0] * len(outputs), strict=True)
    return tuple(value for output, scale in pairs for value in (output * 2**scale).flatten().tolist())
