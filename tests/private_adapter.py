"""A linear model of one full step from zero, whose weights one record moves by RATE / 2 / batch exactly: see private_models."""

import numpy as np
import torch
from torch import nn

from certify.audit.adapter import Recipe, Torch
from certify.audit.arms import Records

network = "linear 1024-1, one step"
FORGET, RETAINED, TEST, DIMENSIONS, RATE = 80, 20, 10, 1024, 200.0

_drawn = np.random.default_rng(8)
_count = RETAINED + 2 * FORGET + TEST
_features = _drawn.normal(size=(_count, DIMENSIONS))
_features /= np.linalg.norm(_features, axis=1, keepdims=True)
x, y = torch.tensor(_features, dtype=torch.float32), torch.tensor(_drawn.integers(0, 2, _count))
MOVED = RATE / 2 / (RETAINED + FORGET)
"""How far one record more moves the weights of a model of that many records."""


def _zero() -> nn.Module:
    made = nn.Linear(DIMENSIONS, 1, bias=False)
    nn.init.zeros_(made.weight)
    return made


def subject() -> Torch:
    return Torch(_zero, x, y, Recipe(epochs=1, rate=RATE, batch=_count))


def records() -> Records:
    retain, forget, held_out, test = np.split(np.arange(_count), np.cumsum([RETAINED, FORGET, FORGET]))
    return Records(retain=retain, forget=forget, held_out=held_out, test=test)


def record(place: int) -> dict[str, list[int]]:
    """As the operator committed to it, in short."""
    return {"row": [int(place), int(y[place])]}
