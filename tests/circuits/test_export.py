"""ONNX bytes and parity of torch and ONNX Runtime; the circuit's own parity is in test_prover."""

import platform

import onnx
import pytest
import torch
from torch import Tensor, nn

from circuits.errors import ProverError
from circuits.export import OPSET, constant, run_onnx, run_torch, to_onnx
from circuits.optimum import module_of
from circuits.problem import Loss, Problem
from tests.proving import honest, problem

LOSSES: list[Loss] = ["ridge", "squared-hinge", "logistic"]


def onnx_of(p: Problem) -> bytes:
    return to_onnx(module_of(p), [layout.shape for layout in p.layouts])


@pytest.mark.parametrize("loss", LOSSES)
def test_the_same_module_gives_the_same_bytes(loss: Loss) -> None:
    assert onnx_of(problem(loss)) == onnx_of(problem(loss))


def test_another_parameter_gives_other_bytes() -> None:
    assert onnx_of(problem("ridge")) != onnx_of(problem("ridge", tau=129))


def test_opset_and_shapes_are_fixed_and_nothing_of_the_machine_is_in_it() -> None:
    p = problem()
    raw = onnx_of(p)
    model = onnx.load_model_from_string(raw)
    assert [opset.version for opset in model.opset_import] == [OPSET]
    shapes = [tuple(d.dim_value for d in i.type.tensor_type.shape.dim) for i in model.graph.input]
    assert shapes == [layout.shape for layout in p.layouts]
    for word in (torch.__version__, platform.node(), __file__.rsplit("/", 3)[0], "optimum.py"):
        assert word.encode() not in raw


@pytest.mark.parametrize("loss", LOSSES)
def test_torch_and_onnx_runtime_agree_to_the_last_digit_but_for_the_table(loss: Loss) -> None:
    module, _, _, inputs = honest(loss)
    tensors = inputs.tensors(module.problem)
    p = module.problem
    ours, theirs = run_torch(module, tensors, p.output_scales), run_onnx(onnx_of(p), tensors, p.output_scales)
    if loss != "logistic":
        assert ours == theirs
        return
    x = tensors[0][: p.rows, : p.features]
    half_a_unit = [
        *(x.abs().sum(0) << (p.division - 1)).tolist(),
        0,
    ]  # for each record: ONNX Runtime's sigmoid is not rounded
    assert any(a != b for a, b in zip(ours, theirs, strict=True))
    assert all(abs(a - b) <= bound for a, b, bound in zip(ours, theirs, half_a_unit, strict=True))


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
