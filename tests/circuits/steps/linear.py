"""A small problem that the tests of methods share: linear softmax models in float64, numpy beside torch, ONNX Runtime."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from circuits.export import to_onnx
from circuits.steps.gradient import with_ones
from circuits.steps.step import Task

torch.set_num_threads(1)
CLASSES, FEATURES = 3, 4
_generator = torch.Generator().manual_seed(11)
X = torch.randn(40, FEATURES, generator=_generator, dtype=torch.float64)
Y = torch.randint(CLASSES, (40,), generator=_generator)
GONE, REST = slice(0, 7), slice(7, 40)


def task(**more: object) -> Task:
    return Task(forget=(X[GONE], Y[GONE]), retain=(X[REST], Y[REST]), **more)  # type: ignore[arg-type]


def linear() -> nn.Linear:
    torch.manual_seed(3)
    return nn.Linear(FEATURES, CLASSES).double()


def fitted(steps: int = 300) -> nn.Linear:
    """A linear model at (almost) its optimum on all of X."""
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(X), Y).backward()
        optimizer.step()
    return model


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def slope(w: np.ndarray, x: np.ndarray, p: np.ndarray) -> np.ndarray:
    """The gradient of the mean cross-entropy with targets p, written out in numpy. (c, d + 1), (n, d + 1), (n, c)"""
    return (softmax(x @ w.T) - p).T @ x / len(x)


def arrays(rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """x with a column of ones, y one-hot."""
    return with_ones(X[rows]).numpy(), np.eye(CLASSES)[Y[rows].numpy()]


def onnx_says(module: nn.Module, inputs: Sequence[Tensor | np.ndarray]) -> np.ndarray:
    """What ONNX Runtime computes with the exported module."""
    import onnxruntime

    tensors = [torch.as_tensor(value, dtype=torch.float64) for value in inputs]
    options = onnxruntime.SessionOptions()  # optimising, it merges scale factors into products as float32
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = to_onnx(module, [tuple(t.shape) for t in tensors])
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    named = {given.name: t.numpy() for given, t in zip(session.get_inputs(), tensors, strict=True)}
    return np.asarray(session.run(None, named)[0])
