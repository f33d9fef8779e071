"""Layers by name: what goes into them and what comes out, and their numbers as bytes."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Those whose weight has a row for each output channel."""


def named(model: nn.Module, names: Sequence[str], kinds: tuple[type[nn.Module], ...] = LAYERS) -> dict[str, nn.Module]:
    """Modules by their names in ``model.named_modules()``. Raises ValueError for none, one twice, or another kind."""
    there = dict(model.named_modules())
    if not names or len(set(names)) != len(names):
        raise ValueError("expected the names of some layers, each once")
    for name in names:
        if not isinstance(there.get(name), kinds):
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise ValueError(f"expected {name!r} to be a {expected}, got {type(there.get(name)).__name__}")
    return {name: there[name] for name in names}


def inputs_or_outputs(
    model: nn.Module, modules: Mapping[str, nn.Module], x: Tensor, *, outputs: bool
) -> dict[str, Tensor]:
    """What comes out of each module for x, or what goes in. Raises ValueError for one that is not used, or more than once."""
    found: dict[str, list[Tensor]] = {name: [] for name in modules}
    hooks = [
        module.register_forward_hook(
            lambda _, given, said, name=name: found[name].append(said if outputs else given[0])
        )
        for name, module in modules.items()
    ]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    for name, tensors in found.items():
        if len(tensors) != 1:
            raise ValueError(f"expected the model to use the layer {name} once, it used it {len(tensors)} times")
    return {name: tensors[0] for name, tensors in found.items()}


def raw(tensor: Tensor) -> bytes:
    """Row-major, little-endian bytes, as the tensor root has them."""
    return tensor.detach().cpu().contiguous().numpy().tobytes()
