"""UNSIR (Tarun et al. 2021, arXiv 2111.08947): noise that the model errs on most stands in for a class.

Nothing is known of the class but its label: not one of its records is looked at. With L the mean loss ::

    noise:   N_i ← N_i + ν ∇ (ℓ(N_i, label) − β ‖N_i‖²)                     N begins as standard normal, ``noise_steps`` times
    impair:  W ← W − η ∇L on shuffled batches of N and what is retained     one epoch or a few
    repair:  W ← W − ρ ∇L on shuffled batches of what is retained

Plain steps are taken, where theirs are Adam's. Noise is in the units of the inputs: standardise first, or inside the model::

    certify.unlearn(model, Unsir(noises=20), ledger="ledger", request=request, task=task)     # the request's scope is "class"
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar

import torch
from torch import Tensor, nn

from circuits.steps.gradient import (
    batches,
    evaluating,
    gradient,
    learning,
    linear_gradient,
    mean_loss,
    move,
    names_of,
)
from circuits.steps.step import Records, Shown, Task


@dataclass(frozen=True)
class Unsir:
    """``noises`` pieces of noise for each class among the labels to forget; rates ν, η, ρ and penalty β."""

    name: ClassVar[str] = "unsir/v1"
    noises: int = 32
    noise_steps: int = 40
    noise_rate: float = 0.1
    penalty: float = 0.1
    impair_epochs: int = 1
    impair_rate: float = 0.02
    repair_epochs: int = 1
    repair_rate: float = 0.01
    batch: int = 32
    seed: int = 0

    def run(self, model: nn.Module, task: Task) -> Shown:
        x, y = task.retain
        labels = task.forget[1].unique().repeat_interleave(self.noises)  # (classes * noises,)
        if labels.is_floating_point():
            raise ValueError("expected class indices as targets, got floating-point numbers")
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(len(labels), *x.shape[1:], generator=generator, dtype=x.dtype)  # (classes * noises, ...)
        with evaluating(model):
            first = mean_loss(model, task.loss, (noise, labels))
            for _ in range(self.noise_steps):
                noise = self._raise(model, task, noise, labels)
            last = mean_loss(model, task.loss, (noise, labels))
            task.progress(1 / 3)
            mixed = torch.cat([noise, x]), torch.cat([labels, y])
            steps = self._learn(model, task, mixed, self.impair_epochs, self.impair_rate, generator)
            task.progress(2 / 3)
            steps += self._learn(model, task, (x, y), self.repair_epochs, self.repair_rate, generator)
            task.progress(1.0)
        data = noise.to(torch.float32).contiguous().numpy().astype("<f4").tobytes()
        return Shown(
            {
                "noise": sha256(data).hexdigest(),
                "noises": len(labels),
                "shape": list(x.shape[1:]),
                "noiseSteps": self.noise_steps,
                "batch": self.batch,
                "impairEpochs": self.impair_epochs,
                "repairEpochs": self.repair_epochs,
                "steps": steps,
                "retained": len(x),
                "tensors": names_of(model, learning(model)),
                "noiseLossBefore": first,
                "noiseLossAfter": last,
            },
            (data,),
        )

    def _raise(self, model: nn.Module, task: Task, noise: Tensor, labels: Tensor) -> Tensor:
        noise = noise.detach().requires_grad_()
        value = len(noise) * task.loss(model(noise), labels) - self.penalty * noise.square().sum()
        (up,) = torch.autograd.grad(value, [noise])
        return (noise + self.noise_rate * up).detach()

    def _learn(
        self, model: nn.Module, task: Task, records: Records, epochs: int, rate: float, generator: torch.Generator
    ) -> int:
        """How many steps it took."""
        steps = 0
        for _ in range(epochs):
            for rows in batches(len(records[0]), self.batch, generator):
                move(model, gradient(model, task.loss, (records[0][rows], records[1][rows])), -rate)
                steps += 1
        return steps


class NoiseOfLinear(nn.Module):
    """One step of noise for a linear model: ∇ℓ = (softmax(NWᵀ + b) − y) W, and 2βN less."""

    def __init__(self, rate: float, penalty: float) -> None:
        super().__init__()
        self.rate, self.penalty = rate, penalty

    def forward(self, w: Tensor, b: Tensor, noise: Tensor, y: Tensor) -> Tensor:
        """(c, d), (c,), (n, d), (n, c) -> (n, d)"""
        r = torch.softmax(noise @ w.T + b, dim=-1) - y  # (n, c)
        return noise + self.rate * (r @ w - 2 * self.penalty * noise)


class ImpairOfLinear(nn.Module):
    """One step of learning for a linear model, on noise and retained records in one batch: W − η ∇L."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, w: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """(c, d), (n, d), (n, c) -> (c, d)"""
        return w - self.rate * linear_gradient(w, x, y)
