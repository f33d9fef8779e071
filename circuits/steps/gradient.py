"""Gradients, of any model by autograd and of a linear one in closed form: the same numbers.

The loss of a linear model W with softmax and cross-entropy, a column of ones in x standing for the bias::

    p = softmax(x Wᵀ)        ∇L(W) = (p − y)ᵀ x / n        x: (n, d), y: (n, c) one-hot or probabilities, W: (c, d)

:func:`linear_gradient` is that line; the modules of methods (``…OfLinear``) are made of it, and can be exported.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from circuits.steps.step import Records

Loss = Callable[[Tensor, Tensor], Tensor]


def linear_gradient(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """∇L(W). (c, d), (n, d), (n, c) -> (c, d)"""
    return (torch.softmax(x @ w.T, dim=-1) - y).T @ x / x.shape[0]


def with_ones(x: Tensor) -> Tensor:
    """A last column of ones, for the bias. (n, d) -> (n, d + 1)"""
    return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)


def joined(layer: nn.Linear) -> Tensor:
    """Weight and bias of a layer in one. -> (c, d + 1)"""
    return torch.cat([layer.weight, layer.bias[:, None]], dim=1).detach()


def learning(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that are to be learnt, by name; tied ones once. Raises ValueError if there is none."""
    found = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not found:
        raise ValueError("expected a model with parameters that require gradients, got none")
    return found


def names_of(model: nn.Module, parameters: dict[str, nn.Parameter]) -> list[str]:
    """Names of these parameters in the state dict, tied ones under each of theirs, in the order of their bytes."""
    ids = {id(parameter) for parameter in parameters.values()}
    named = (name for name, value in model.state_dict(keep_vars=True).items() if id(value) in ids)
    return sorted(named, key=str.encode)


def gradient(model: nn.Module, loss: Loss, records: Records) -> tuple[Tensor, ...]:
    """∇ of the loss on ``records``, one tensor for each of :func:`learning`; zero where it does not depend on it."""
    x, y = records
    return derivative(loss(model(x), y), model)


def derivative(value: Tensor, model: nn.Module) -> tuple[Tensor, ...]:
    """∇ of a number. -> as many tensors as :func:`learning` has"""
    parameters = list(learning(model).values())
    return tuple(torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True))


def move(model: nn.Module, direction: tuple[Tensor, ...], rate: float) -> None:
    """W ← W + rate · direction."""
    with torch.no_grad():
        for parameter, change in zip(learning(model).values(), direction, strict=True):
            parameter.add_(rate * change)


def mean_loss(model: nn.Module, loss: Loss, records: Records) -> float:
    with torch.no_grad():
        return float(loss(model(records[0]), records[1]))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No dropout, and statistics of batches stay as they are."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def batches(count: int, size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Positions 0 to count − 1 in random order, ``size`` at a time."""
    dealt: tuple[Tensor, ...] = torch.randperm(count, generator=generator).split(size)
    return dealt
