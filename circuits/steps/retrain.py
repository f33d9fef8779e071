"""Full retraining: begin anew, and learn from what is retained only. W' = A(D \\ S), the yardstick of all other methods.

Weights are drawn anew by each layer's ``reset_parameters``, in the order of ``model.modules()``, then ::

    for each epoch: for each batch, in the order of a fresh permutation: one step of SGD or Adam on the mean loss

everything random being drawn from torch's generator, seeded once. So a plain loop that begins with
``torch.manual_seed(seed)`` gives the same bits, on the same machine::

    certify.unlearn(model, Retrain(epochs=20, rate=0.01, seed=7), ledger="ledger", request=request, task=task)

What it shows: SHA-256 of the initial weights (as a safetensors file) and of the order of records, for whoever runs it again.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar, Literal

import torch
from safetensors.torch import save
from torch import nn

from circuits.steps.sisa import Standardize
from circuits.steps.step import Shown, Task


@dataclass(frozen=True)
class Retrain:
    """Learn anew. ``rate`` is the step size, ``batch`` the number of records in one."""

    name: ClassVar[str] = "retrain/v1"
    epochs: int = 20
    rate: float = 0.01
    batch: int = 32
    optimizer: Literal["sgd", "adam"] = "adam"
    seed: int = 0

    def run(self, model: nn.Module, task: Task) -> Shown:
        x, y = task.retain
        order, steps = sha256(), 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            reset(model)
            initial = digest_of(model)
            for module in model.modules():
                if isinstance(module, Standardize):
                    module.fit(x)
            kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.SGD
            optimizer = kind(model.parameters(), lr=self.rate)
            model.train()
            for epoch in range(self.epochs):
                chosen = torch.randperm(len(x))
                order.update(chosen.numpy().astype("<i8").tobytes())
                for rows in chosen.split(self.batch):
                    optimizer.zero_grad()
                    task.loss(model(x[rows]), y[rows]).backward()
                    optimizer.step()
                    steps += 1
                task.progress((epoch + 1) / self.epochs)
            model.zero_grad()
        return Shown(
            {
                "records": len(x),
                "epochs": self.epochs,
                "batch": self.batch,
                "steps": steps,
                "initial": initial,
                "order": order.hexdigest(),
            }
        )


def reset(model: nn.Module) -> None:
    """Draw all weights anew. Raises ValueError for a layer that does not know how: its old weights would stay."""
    for name, module in model.named_modules():
        again = getattr(module, "reset_parameters", None)
        if callable(again):
            again()
        elif next(module.parameters(recurse=False), None) is not None:
            raise ValueError(
                f"expected a method reset_parameters of {name or 'the model'} ({type(module).__name__}), which has parameters "
                f"of its own: without it they would be learnt from where they are"
            )


def digest_of(model: nn.Module) -> str:
    """SHA-256 of a safetensors file with the model's weights, hex."""
    return sha256(save({name: value.clone().contiguous() for name, value in model.state_dict().items()})).hexdigest()
