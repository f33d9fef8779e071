"""Class-discriminative pruning (after Wang et al. 2022, arXiv 2110.11794): channels that speak of one class are set to zero.

    W' = M ∘ W        row k of W and of its bias is zero where M_k = 0, and as it was where M_k = 1

With F[c, k] the mean of max(0, output of channel k) over records of class c (and places, of a convolution), a channel is to a
class as a term to a document::

    TF[c, k]  = F[c, k] / Σ_j F[c, j]
    IDF[k]    = ln((1 + classes) / (1 + number of classes c with F[c, k] ≥ mean_j F[c, j]))
    M_k       = 0 where max over forgotten c of TF[c, k] · IDF[k] ≥ threshold, the threshold being the score of the
                ⌈share · channels⌉-th best of its layer

    certify.unlearn(model, Pruning(layers=("0",), share=0.25), ledger="ledger", request=request, task=task)   # scope "class"

It is theirs without federation and without the fine-tuning that follows it there: that is another step, of another name. What a
layer's own normalisation adds afterwards is not touched.
"""

from dataclasses import dataclass
from hashlib import sha256
from math import ceil
from typing import ClassVar

import torch
from torch import Tensor, nn

from circuits.steps.gradient import evaluating
from circuits.steps.layers import inputs_or_outputs, named, raw
from circuits.steps.step import Shown, Task


@dataclass(frozen=True)
class Pruning:
    """``layers``: names of modules (Linear, Conv1d to 3d) whose output channels are scored; ``share`` of each layer's go.

    ``reveal`` attaches the layers' weights from before, so that a verifier computes those after again: whoever gets the bundle
    gets them too.
    """

    name: ClassVar[str] = "pruning/v1"
    layers: tuple[str, ...]
    share: float = 0.1
    reveal: bool = False

    def run(self, model: nn.Module, task: Task) -> Shown:
        if not 0 < self.share <= 1:
            raise ValueError(f"expected a share above 0 and of at most 1, got {self.share:g}")
        x, y = torch.cat([task.forget[0], task.retain[0]]), torch.cat([task.forget[1], task.retain[1]])
        forgotten = task.forget[1].unique()
        pruned, attached = [], []
        modules = named(model, self.layers)
        with evaluating(model):
            outputs = inputs_or_outputs(model, modules, x, outputs=True)
        for layer, module in modules.items():
            scores = discrimination(outputs[layer], y)  # (classes, channels)
            best = scores[torch.isin(y.unique(), forgotten)].amax(0)  # (channels,)
            threshold = float(best.sort(descending=True).values[ceil(self.share * len(best)) - 1])
            mask = (best < threshold).to(torch.uint8)  # (channels,)
            said = {"layer": layer, "threshold": threshold}
            for name, tensor in (("scores", best), ("mask", mask)):
                attached.append(raw(tensor))
                said[name] = sha256(attached[-1]).hexdigest()
            for name in ("weight", "bias"):
                value = getattr(module, name)
                if value is None:
                    continue
                if self.reveal:
                    attached.append(raw(value))
                    said[f"{name}Before"] = sha256(attached[-1]).hexdigest()
                with torch.no_grad():
                    value.copy_(Masked()(value, mask))
            pruned.append(said)
        return Shown({"layers": pruned, "share": self.share}, tuple(attached))


def discrimination(outputs: Tensor, y: Tensor) -> Tensor:
    """TF · IDF of each channel for each class that y has. (n, channels, …), (n,) -> (classes, channels), float64"""
    active = outputs.double().clamp_min(0).flatten(2).mean(2) if outputs.dim() > 2 else outputs.double().clamp_min(0)
    f = torch.stack([active[y == label].mean(0) for label in y.unique()])  # (classes, channels)
    tf = f / f.sum(1, keepdim=True).clamp_min(torch.finfo(f.dtype).tiny)
    spoken = (f >= f.mean(1, keepdim=True)).sum(0)  # (channels,)
    return tf * torch.log((1 + len(f)) / (1 + spoken.double()))


class Masked(nn.Module):
    """M ∘ W."""

    def forward(self, w: Tensor, mask: Tensor) -> Tensor:
        """(channels, …), (channels,) -> (channels, …)"""
        return torch.where(mask.reshape(-1, *[1] * (w.dim() - 1)) > 0, w, torch.zeros_like(w))
