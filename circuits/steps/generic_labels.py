"""Fine-tuning on generic labels ("Who's Harry Potter?", Eldan and Russinovich 2023, arXiv 2310.02238).

A copy of the model, the reinforced one, learns the texts to be forgotten even better. Where it then likes a token more than the
model does, the token is about them; the labels are what the model would say without that liking, and the model learns these::

    v = v_base − α max(0, v_reinforced − v_base)        labels = argmax v

Their second ingredient, a dictionary of names with generic ones in their place, is made by somebody else's language model; it is
not part of this. The label file tells much of the texts, so it stays with the operator, who finds it in ``kept``: 32 random bytes
and then each label as a little-endian uint32. The certificate has its SHA-256::

    step = GenericLabels(alpha=5.0)
    certify.unlearn(model, step, task=Task(forget=sequences(…), retain=sequences(…), loss=token_loss), …)
    Path("labels.bin").write_bytes(step.kept["labels"])
"""

import copy
import os
from dataclasses import dataclass, field
from hashlib import sha256
from typing import ClassVar

import torch
from torch import Tensor, nn

from circuits.steps.gradient import learning, mean_loss, names_of
from circuits.steps.language_model import PAD
from circuits.steps.step import Records, Shown, Task


@dataclass(frozen=True)
class GenericLabels:
    """``reinforced`` steps of the copy on what is to be forgotten, then ``steps`` of the model on the labels and, weighted by
    ``retain``, on as many texts to keep. ``rate`` is Adam's, ``alpha`` α."""

    name: ClassVar[str] = "generic-labels/v1"
    alpha: float = 5.0
    rate: float = 1e-3
    reinforced: int = 30
    steps: int = 40
    batch: int = 16
    retain: float = 1.0
    seed: int = 0
    kept: dict[str, bytes] = field(default_factory=dict, init=False, compare=False, repr=False)

    def run(self, model: nn.Module, task: Task) -> Shown:
        x, y = task.forget
        before = mean_loss(model, task.loss, task.forget)
        better = copy.deepcopy(model)
        self._learn(better, task, task.forget, self.reinforced, retain=0.0)
        labels = generic(model, better, x, y, self.alpha)  # (n, t)
        self._learn(model, task, (x, labels), self.steps, retain=self.retain)
        there = y != PAD
        file = os.urandom(32) + labels[there].to(torch.int32).numpy().astype("<u4").tobytes()
        self.kept["labels"] = file
        return Shown(
            {
                "alpha": self.alpha,
                "reinforced": self.reinforced,
                "steps": self.steps,
                "retain": self.retain,
                "forgotten": len(x),
                "labels": sha256(file).hexdigest(),
                "tokens": int(there.sum()),
                "replaced": int((labels != y)[there].sum()),
                "tensors": names_of(model, learning(model)),
                "lossBefore": before,
                "lossAfter": mean_loss(model, task.loss, task.forget),
            }
        )

    def _learn(self, model: nn.Module, task: Task, records: Records, steps: int, *, retain: float) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        optimizer = torch.optim.Adam(learning(model).values(), lr=self.rate)
        for step in range(steps):
            rows = torch.randperm(len(records[0]), generator=generator)[: self.batch]
            loss = task.loss(model(records[0][rows]), records[1][rows])
            if retain:
                others = torch.randperm(len(task.retain[0]), generator=generator)[: self.batch]
                loss = loss + retain * task.loss(model(task.retain[0][others]), task.retain[1][others])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            task.progress((step + 1) / steps)


def generic(model: nn.Module, better: nn.Module, x: Tensor, y: Tensor, alpha: float, batch: int = 64) -> Tensor:
    """The labels, PAD where y is. (n, t), (n, t) -> (n, t)"""
    found = []
    with torch.no_grad():
        for part in x.split(batch):
            base = model(part)  # (b, t, vocabulary)
            found.append((base - alpha * torch.relu(better(part) - base)).argmax(-1))  # (b, t)
    return torch.where(y == PAD, PAD, torch.cat(found))
