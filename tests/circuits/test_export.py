"""ONNX bytes and parity of torch and ONNX Runtime; the circuit's own parity is in test_prover."""

import platform

import onnx
import pytest
import torch
from torch import Tensor, nn

from circuits.errors import ProverError
from circuits.export import OPSET, constant, run_onnx, run_torch, to_onnx
from circuits.optimum import Optimum, Ridge, SquaredHinge
from tests.proving import honest, problem

LOSSES = [Ridge, SquaredHinge]


@pytest.mark.parametrize("loss", LOSSES)
def test_the_same_module_gives_the_same_bytes(loss: type[Optimum]) -> None:
    p = problem()
    assert to_onnx(loss(p), p.shapes) == to_onnx(loss(p), p.shapes)


def test_another_parameter_gives_other_bytes() -> None:
    p, q = problem(), problem(tau=129)
    assert to_onnx(Ridge(p), p.shapes) != to_onnx(Ridge(q), q.shapes)


def test_opset_and_shapes_are_fixed_and_nothing_of_the_machine_is_in_it() -> None:
    p = problem()
    raw = to_onnx(Ridge(p), p.shapes)
    model = onnx.load_model_from_string(raw)
    assert [opset.version for opset in model.opset_import] == [OPSET]
    shapes = [tuple(d.dim_value for d in i.type.tensor_type.shape.dim) for i in model.graph.input]
    assert shapes == p.shapes
    for word in (torch.__version__, platform.node(), __file__.rsplit("/", 3)[0], "optimum.py"):
        assert word.encode() not in raw


@pytest.mark.parametrize("loss", LOSSES)
def test_torch_and_onnx_runtime_agree_to_the_last_digit(loss: type[Optimum]) -> None:
    module, _, _, inputs = honest(loss)
    tensors = inputs.tensors(module.problem)
    assert run_onnx(to_onnx(module, module.problem.shapes), tensors) == run_torch(module, tensors)


def test_a_constant_that_float32_would_round_is_refused() -> None:
    assert constant(1 << 40) == float(1 << 40)
    with pytest.raises(ProverError, match="24 significant bits"):
        constant((1 << 24) + 1)


def test_outputs_that_are_no_integers_are_refused() -> None:
    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / 2

    with pytest.raises(ProverError, match="expected integers"):
        run_torch(Half(), [torch.ones(1)])
