"""A recipe: everything that anybody needs to train this example's model again and to make it forget again, in one file.

The model classifies by the nearest class mean. It keeps, for each class, the sum of its records and their number, so that a
record is forgotten by taking it out of both: W' = W − Σ x over the forgotten records of the class. Pixels are whole numbers, and
sums of them are exact in float64: what is left is to the bit what training without these records gives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from circuits.steps.step import Shown, Task

BATCH = 256


class ClassMeans(nn.Module):
    """Sums of records and their number, by class."""

    def __init__(self, classes: int, features: int) -> None:
        super().__init__()
        self.register_buffer("sums", torch.zeros(classes, features, dtype=torch.float64))  # (C, F)
        self.register_buffer("counts", torch.zeros(classes, dtype=torch.float64))  # (C,)

    def add(self, x: Tensor, y: Tensor, sign: float = 1.0) -> None:
        """Learn records, or with −1 forget them. x (n, F), y (n,)"""
        self.sums.index_add_(0, y, sign * x.double())
        self.counts.index_add_(0, y, torch.full((len(y),), sign, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Minus the squared distance to each mean. (n, C)"""
        means = self.sums / self.counts.clamp(min=1).unsqueeze(1)
        return -torch.cdist(x.double(), means).square()


@dataclass(frozen=True)
class TakeOut:
    """A method of one's own: ``certify.unlearn`` runs it like those of the library. ``strength`` is 1 but for mistakes."""

    name: ClassVar[str] = "take-out-of-sums"
    strength: float = 1.0

    def run(self, model: nn.Module, task: Task) -> Shown:
        assert isinstance(model, ClassMeans)
        model.add(*task.forget, sign=-self.strength)
        return Shown({"records taken out": len(task.forget[1]), "records left": int(model.counts.sum())})


def tensors(records: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor]:
    """Records as they were committed to. (n, 64), (n,)"""
    x = torch.tensor([record["pixels"] for record in records], dtype=torch.float64)
    return x, torch.tensor([int(record["digit"]) for record in records])


def fit(model: ClassMeans, x: Tensor, y: Tensor) -> None:
    for first in range(0, len(y), BATCH):
        model.add(x[first : first + BATCH], y[first : first + BATCH])


def train(records: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any], seeds: Sequence[int]) -> nn.Module:
    """What ``certify replay`` calls for the weights to start from."""
    model = ClassMeans(parameters["classes"], parameters["features"])
    fit(model, *tensors(records))
    return model


def unlearn(
    records: Sequence[Mapping[str, Any]],
    removed: Sequence[int],
    parameters: Mapping[str, Any],
    before: Mapping[str, Tensor],
) -> nn.Module:
    """What ``certify replay`` calls."""
    model = ClassMeans(*before["sums"].shape)
    model.load_state_dict(before)
    forget = tensors([records[position] for position in removed])
    TakeOut(parameters["strength"]).run(model, Task(forget=forget, retain=forget))
    return model
