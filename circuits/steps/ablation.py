"""Concept ablation by projection: a layer no longer sees one direction of what goes into it.

    W' = W (I − v vᵀ),  ‖v‖ = 1:      W' x = W (x − (vᵀx) v)

v is the difference of mean inputs to the layer, of records with the concept and of records without::

    v = (mean_S a − mean_R a) / ‖mean_S a − mean_R a‖          a: what goes into the layer, (n, …, d)

as in Ravfogel et al. 2020 (arXiv 2004.07667, who project on what a linear classifier cannot use, again and again) with the
direction of Arditi et al. 2024 (2406.11717, who take it out of what layers write). Afterwards mean inputs differ in nothing that
the layer can see::

    certify.unlearn(model, Ablation(layers=("2",)), ledger="ledger", request=request, task=task)     # scope "concept"

``task.forget`` are records that show the concept, ``task.retain`` those that do not. Layers are ablated at once, each with what
went into it before.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar

import torch
from torch import Tensor, nn

from circuits.steps.gradient import evaluating
from circuits.steps.layers import inputs_or_outputs, named, raw
from circuits.steps.step import Shown, Task


@dataclass(frozen=True)
class Ablation:
    """``layers``: names of Linear modules. ``reveal`` attaches their weights before and after, so that a verifier computes the
    projection again: whoever gets the bundle gets them too."""

    name: ClassVar[str] = "ablation/v1"
    layers: tuple[str, ...]
    reveal: bool = False

    def run(self, model: nn.Module, task: Task) -> Shown:
        modules = named(model, self.layers, (nn.Linear,))
        with evaluating(model):
            with_it = inputs_or_outputs(model, modules, task.forget[0], outputs=False)
            without = inputs_or_outputs(model, modules, task.retain[0], outputs=False)
        ablated, attached = [], []
        for layer, module in modules.items():
            weight = module.weight
            assert isinstance(weight, Tensor)
            v = direction(with_it[layer], without[layer])  # (d,)
            attached.append(raw(v))
            said = {"layer": layer, "direction": sha256(attached[-1]).hexdigest()}
            before = raw(weight)
            with torch.no_grad():
                weight.copy_(Projected()(weight.double(), v))
            if self.reveal:
                for name, data in (("before", before), ("after", raw(weight))):
                    attached.append(data)
                    said[name] = sha256(data).hexdigest()
            ablated.append(said)
        return Shown({"layers": ablated, "probes": [len(task.forget[0]), len(task.retain[0])]}, tuple(attached))


def direction(a: Tensor, b: Tensor) -> Tensor:
    """The unit vector from the mean of b to that of a. (n, …, d), (m, …, d) -> (d,), float64. Raises ValueError if they agree."""
    difference = a.double().flatten(0, -2).mean(0) - b.double().flatten(0, -2).mean(0)
    length = float(difference.norm())
    if not length > 0:
        raise ValueError("expected inputs that differ in their means where the concept is shown, they do not")
    return difference / length


class Projected(nn.Module):
    """W (I − v vᵀ) = W − (W v) vᵀ."""

    def forward(self, w: Tensor, v: Tensor) -> Tensor:
        """(o, d), (d,) -> (o, d)"""
        return w - (w @ v)[:, None] * v[None, :]
