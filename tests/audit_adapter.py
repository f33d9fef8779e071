"""A model and data to audit: breast cancer (scikit-learn), some labels drawn at random: there is something to remember."""

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer

from certify.audit.adapter import Recipe, Torch, mlp
from certify.audit.arms import Records

network = "mlp 30-24-2"
untested = ["the model's copy on paper"]

_features, _labels = load_breast_cancer(return_X_y=True)
_drawn = np.random.default_rng(3)
_order = _drawn.permutation(len(_labels))[:220]
_features, _labels = _features[_order], _labels[_order]
_features = (_features - _features.mean(0)) / _features.std(0)
_labels[60:160] = _drawn.integers(0, 2, 100)
x, y = torch.tensor(_features, dtype=torch.float32), torch.tensor(_labels)


def subject() -> Torch:
    return mlp(x, y, Recipe(epochs=25, rate=0.02, batch=22, optimiser="adam"), hidden=24)


def records() -> Records:
    places = np.arange(220)
    return Records(retain=places[:60], forget=places[60:110], held_out=places[110:160], test=places[160:])


def record(place: int) -> list[float]:
    """As the operator committed to it: the features, then the label."""
    return [*x[place].tolist(), int(y[place])]
