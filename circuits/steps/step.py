"""An unlearning method: something that changes a model in place, and says what it did. Yours may be one.

::

    @dataclass(frozen=True)
    class Noise:
        name = "noise"                                      # of your own; those of this library end in a version: "sisa/v1"
        scale: float = 0.01
        seed: int = 0

        def run(self, model: nn.Module, task: Task) -> Shown:
            generator = torch.Generator().manual_seed(self.seed)
            with torch.no_grad():
                for weight in model.parameters():
                    weight += self.scale * torch.randn(weight.shape, generator=generator)
            return Shown({"scale": self.scale})

What a step was told are its dataclass fields; a certificate states them. ``certify.unlearn(model, Noise(), …)`` digests the
weights before and after, runs it, and issues the certificate.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

Scalar = bool | int | float | str | None
Records = tuple[Tensor, Tensor]
"""Inputs (n, …) and targets (n,) or (n, …)."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a step works with: records to forget and records to keep, and the loss that the model was trained with.

    ``loss(outputs, targets)`` is the mean over records. ``progress`` hears the share that is done, 0 to 1.
    """

    forget: Records
    retain: Records
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy
    progress: Callable[[float], None] = lambda done: None


@dataclass(frozen=True, slots=True)
class Shown:
    """What a step can show of its run beside the weights: the fields of its detail (certify/methods), of an own method names and
    values, and bytes that these refer to by SHA-256."""

    fields: Mapping[str, object] = field(default_factory=dict)
    attachments: tuple[bytes, ...] = ()


class UpdateStep(Protocol):
    """A frozen dataclass whose fields are numbers, names and flags. A field ``seed`` is stated as the run's seed."""

    name: ClassVar[str]

    def run(self, model: nn.Module, task: Task) -> Shown:
        """Change ``model`` in place. Deterministic: what is random comes from ``seed``."""
        ...


def parameters_of(step: object) -> dict[str, Scalar | list[Scalar]]:
    """What a step was told, but for its seed. Raises TypeError for what a certificate cannot state."""
    if not is_dataclass(step):
        raise TypeError(f"expected a dataclass with the step's parameters as fields, got {type(step).__name__}")
    told: dict[str, Scalar | list[Scalar]] = {}
    for one in fields(step):
        value = getattr(step, one.name)
        if one.name == "seed" or not one.init:
            continue
        if isinstance(value, tuple | list) and all(isinstance(item, Scalar) for item in value):
            told[one.name] = list(value)
        elif isinstance(value, Scalar):
            told[one.name] = value
        else:
            raise TypeError(
                f"expected the parameter {one.name} to be a number, name or flag, got {type(value).__name__}"
            )
    return told


def seeds_of(step: object) -> list[int]:
    """The seed of a step that has one."""
    seed = getattr(step, "seed", None)
    return [seed] if isinstance(seed, int) else []


def flat(tensors: Mapping[str, Tensor] | list[Tensor]) -> Tensor:
    """All elements in a row, float64. (P,)"""
    values = list(tensors.values()) if isinstance(tensors, Mapping) else tensors
    return torch.cat([value.detach().reshape(-1).double() for value in values])
