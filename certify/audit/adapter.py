"""What an audit needs of a model and its data: a :class:`Subject`. Any torch module becomes one with :class:`Torch`.

A subject is functional: parameters go in and outputs come out, so that many models can be trained as one stacked tensor
(``torch.func.functional_call`` under ``torch.vmap``; linear layers as batched products). For a network of one's own::

    subject = Torch(lambda: nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 2)), x, y, Recipe(epochs=60, rate=0.05))

The recipe has to be the one by which the audited model was trained, as far as it is known: shadows that learn otherwise make a
weaker attack.

Confidence is Carlini et al.'s (2022, section IV-C) logit, ln p_y − ln(1 − p_y) of the record's own label, computed from the
outputs as z_y − ln Σ_{j≠y} e^{z_j}, which does not overflow and is close to normal over retrainings.
"""

from collections.abc import Callable, Mapping
from copy import copy, deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call

from certify.errors import InputError

Params = dict[str, Tensor]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: ``epochs`` over shuffled records in batches, the mean loss of each, one optimiser."""

    epochs: int
    rate: float
    batch: int = 32
    optimiser: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.0
    """Of sgd alone."""
    decay: float = 0.0
    """L2, as torch.optim's weight_decay."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or not self.rate > 0 or self.momentum < 0 or self.decay < 0:
            raise ValueError(f"expected positive epochs, batch and rate, and no negative momentum or decay, got {self}")

    def optimise(self, leaves: list[Tensor]) -> torch.optim.Optimizer:
        """All of these work element by element, so that stacking models changes nothing for any of them."""
        if self.optimiser == "adam":
            return torch.optim.Adam(leaves, self.rate, weight_decay=self.decay, fused=True)
        return torch.optim.SGD(leaves, self.rate, momentum=self.momentum, weight_decay=self.decay, fused=True)


class Subject(Protocol):
    """A model to audit, as a function of its parameters, and all records that there are: N of them.

    A stack of S models has parameters with a first axis more, and every model of it sees its own batch of B records. Loss,
    confidence and prediction take the outputs of one model or of a stack.
    """

    @property
    def x(self) -> Tensor:
        """Inputs, (N, …)."""

    @property
    def y(self) -> Tensor:
        """Labels, (N,) of whole numbers."""

    @property
    def recipe(self) -> Recipe: ...

    def initial(self, seed: int) -> Params:
        """One model's parameters as training begins with them."""

    def apply(self, params: Params, x: Tensor, *, training: bool = False) -> Tensor:
        """Outputs of one model. (B, …) -> (B, …)"""

    def stacked(self, params: Params, x: Tensor, *, training: bool = False) -> Tensor:
        """Outputs of a stack. (S, B, …) -> (S, B, …)"""

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """What training minimises the mean of. -> as y"""

    def confidence(self, outputs: Tensor, y: Tensor) -> Tensor:
        """How sure a model is of each record's own label, close to normal over retrainings. -> as y, float64"""

    def predict(self, outputs: Tensor) -> Tensor:
        """The label that the model gives. -> as y"""


class Torch:
    """A classifier made of any torch module: outputs are C logits, or one logit for labels 0 and 1.

    Parameters that need no gradient, and all buffers, are those of one base model that every shadow shares: an adapter on
    public weights, for instance. ``make`` must draw from torch's global generator, as modules do. Raises InputError for
    modules whose batches influence each other's statistics.
    """

    def __init__(self, make: Callable[[], nn.Module], x: Tensor, y: Tensor, recipe: Recipe) -> None:
        if len(x) != len(y) or y.dim() != 1 or y.is_floating_point():
            raise InputError(
                f"expected as many whole-number labels as inputs, got {tuple(x.shape)} and {y.dtype} {tuple(y.shape)}"
            )
        self.x, self.y, self.recipe = x, y, recipe
        self._make = make
        self._base = self._draw(0).to(x.device)
        for name, module in self._base.named_modules():
            if getattr(module, "track_running_stats", False):
                raise InputError(
                    f"expected no running statistics, got {type(module).__name__} at '{name}': use GroupNorm or LayerNorm"
                )
        self._names = [name for name, value in self._base.named_parameters() if value.requires_grad]

    def to(self, device: torch.device | str) -> Self:
        """The same on another device: data and base there, and every model made from now on."""
        moved = copy(self)
        moved.x, moved.y, moved._base = self.x.to(device), self.y.to(device), deepcopy(self._base).to(device)
        return moved

    def initial(self, seed: int) -> Params:
        return self.params(self._draw(seed).state_dict(keep_vars=True))

    def params(self, state: Mapping[str, Tensor]) -> Params:
        """The trained parameters out of a state dict. Raises InputError where they are another model's."""
        shapes = {name: value.shape for name, value in self._base.named_parameters()}
        for name in self._names:
            if name not in state or state[name].shape != shapes[name]:
                got = tuple(state[name].shape) if name in state else "none"
                raise InputError(f"expected a tensor '{name}' of shape {tuple(shapes[name])}, got {got}")
        return {name: state[name].detach().to(self.x.device) for name in self._names}

    def apply(self, params: Params, x: Tensor, *, training: bool = False) -> Tensor:
        self._base.train(training)
        outputs: Tensor = functional_call(self._base, params, (x,))
        return outputs

    def stacked(self, params: Params, x: Tensor, *, training: bool = False) -> Tensor:
        return torch.vmap(partial(self.apply, training=training), randomness="different")(params, x)

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        if outputs.shape[-1] == 1:
            return nn.functional.binary_cross_entropy_with_logits(
                outputs[..., 0], y.to(outputs.dtype), reduction="none"
            )
        return nn.functional.cross_entropy(outputs.movedim(-1, 1), y, reduction="none")

    def confidence(self, outputs: Tensor, y: Tensor) -> Tensor:
        return logit_confidence(outputs, y)

    def predict(self, outputs: Tensor) -> Tensor:
        return (outputs[..., 0] > 0).long() if outputs.shape[-1] == 1 else outputs.argmax(-1)

    def _draw(self, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._make()


class Layers(Torch):
    """Linear layers with rectified units between them, by the names of their modules, without vmap: half the time."""

    def __init__(
        self, make: Callable[[], nn.Module], x: Tensor, y: Tensor, recipe: Recipe, names: tuple[str, ...]
    ) -> None:
        super().__init__(make, x, y, recipe)
        self._layers = names

    def stacked(self, params: Params, x: Tensor, *, training: bool = False) -> Tensor:
        h = x.mT  # (S, d, B): W xᵀ needs no copy of W in its derivative, where x Wᵀ does
        for i, name in enumerate(self._layers):
            h = torch.baddbmm(params[f"{name}bias"].unsqueeze(2), params[f"{name}weight"], h.relu() if i else h)
        return h.mT  # (S, B, C)


def linear(x: Tensor, y: Tensor, recipe: Recipe) -> Layers:
    """Logistic regression, ``nn.Linear``: one logit for each class."""
    return Layers(lambda: nn.Linear(x.shape[1], _classes(y)), x, y, recipe, ("",))


def mlp(x: Tensor, y: Tensor, recipe: Recipe, hidden: int = 64) -> Layers:
    """One hidden layer of rectified units, ``nn.Sequential(nn.Linear, nn.ReLU, nn.Linear)``."""

    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(x.shape[1], hidden), nn.ReLU(), nn.Linear(hidden, _classes(y)))

    return Layers(make, x, y, recipe, ("0.", "2."))


def logit_confidence(outputs: Tensor, y: Tensor) -> Tensor:
    """ln p_y − ln(1 − p_y). outputs: (…, C) or (…, 1), y: (…) -> (…) float64"""
    z = outputs.double()
    if z.shape[-1] == 1:
        return z[..., 0] * (2 * y - 1)
    own = y.unsqueeze(-1)
    others = z.scatter(-1, own, -torch.inf).logsumexp(-1)
    return z.gather(-1, own).squeeze(-1) - others


def _classes(y: Tensor) -> int:
    return int(y.max()) + 1
