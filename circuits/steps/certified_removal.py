"""Certified removal by objective perturbation (Guo, Goldstein, Hannun & van der Maaten 2020, arXiv 1911.03030).

Logistic regression is trained with a random linear term b, drawn once and kept by nobody::

    L_b(w; D) = Σ_D (ℓ(x_i·w, y_i) + (λ/2)‖w‖²) + b·w,     b ~ N(0, σ²I),     ‖x_i‖ ≤ 1

A removal is a Newton step, W' = W + Δ with HΔ = Σ_S (∇ℓ + λw), H that of the retained records. The gradient of L_b for what is
retained grows with each removal by no more than (their corollaries 1 and 2, with a term for what the solution leaves)::

    β = γ ‖X‖₂ ‖Δ‖₂ ‖XΔ‖₂ + ‖HΔ − g‖₂,     γ = 1/4

As long as ‖∇L_b at the end of training‖ + Σβ ≤ σε / √(2 ln(1.5/δ)), their theorem 3 makes the weights (ε, δ)-indistinguishable
from those of retraining: that is the removal budget. A step that would exceed it is refused: retraining is due. ::

    model = nn.Linear(30, 1, bias=False, dtype=torch.float64)
    trained = Training(l2=1e-3, sigma=10.0, epsilon=1.0, delta=1e-4).fit(model, x, y)     # y: 0 or 1
    CertifiedRemoval.after(trained, spent=trained.gradient).run(model, Task(forget=…, retain=…))
"""

import math
import random
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from circuits.errors import CircuitError
from circuits.steps.newton import LinearStep
from circuits.steps.step import Records, Shown, Task

GAMMA = 0.25
"""The paper's; ℓ''' of the logistic loss stays below 1 / (6√3) = 0.0963."""


class RetrainingDue(CircuitError):
    """The removal budget does not suffice; the model is as it was. Train it anew, with a fresh b."""


def budget(*, sigma: float, epsilon: float, delta: float) -> float:
    """The largest gradient norm that b still hides: σε / √(2 ln(1.5/δ)), for 0 < ε ≤ 1 as in the Gaussian mechanism behind it."""
    if not (sigma > 0 and 0 < epsilon <= 1 and 0 < delta < 1):
        raise CircuitError(
            f"expected σ > 0, 0 < ε ≤ 1 and 0 < δ < 1, got σ = {sigma:g}, ε = {epsilon:g}, δ = {delta:g}"
        )
    return sigma * epsilon / math.sqrt(2 * math.log(1.5 / delta))


@dataclass(frozen=True)
class Trained:
    """What a training has to state. ``gradient``: ‖∇L_b(w; D)‖ of the weights as they were stored, the first of the budget."""

    l2: float
    sigma: float
    epsilon: float
    delta: float
    gradient: float


@dataclass(frozen=True)
class Training:
    """``l2``: λ, the share of the penalty that each record brings; ``sigma``: the standard deviation of each element of b."""

    l2: float
    sigma: float
    epsilon: float
    delta: float
    iterations: int = 100

    def fit(self, model: nn.Linear, x: Tensor, y: Tensor, *, seed: int | None = None) -> Trained:
        """Newton's method to the optimum of L_b. x: (n, d) with rows of norm 1 at most, y: (n,) of 0 and 1.

        ``seed`` is for tests: who knows it knows b, and without b nothing is certified. By default the system's randomness is
        drawn on, and b is forgotten on return. Raises CircuitError for another kind of model or data.
        """
        budget(sigma=self.sigma, epsilon=self.epsilon, delta=self.delta)
        _check(model, x, y)
        drawn = (
            random.SystemRandom() if seed is None else random.Random(seed)
        )  # torch's generators have 2**32 seeds to try
        b = torch.tensor([[drawn.gauss(0.0, self.sigma)] for _ in range(x.shape[1])], dtype=torch.float64)  # (d, 1)
        a, t = x.double(), y.double()[:, None]
        w = torch.zeros_like(b)
        last = math.inf
        for _ in range(self.iterations):
            g = gradient(w, a, t, self.l2) + b
            size = float(g.norm())
            if size < 1e-6 and size > last / 2:
                break  # as near as float64 gets
            step, last, rate = torch.linalg.solve(hessian(w, a, self.l2), -g), size, 1.0
            while (
                size >= 1e-6 and rate > 1e-6 and value(w + rate * step, a, t, self.l2, b) > value(w, a, t, self.l2, b)
            ):
                rate /= 2
            w = w + rate * step
        with torch.no_grad():
            model.weight.copy_(w.T)
        left = float((gradient(_weights(model), a, t, self.l2) + b).norm())
        return Trained(self.l2, self.sigma, self.epsilon, self.delta, left)


@dataclass(frozen=True)
class CertifiedRemoval:
    """``spent``: the budget that training and earlier removals took, see :mod:`certify.removal_budget`."""

    name: ClassVar[str] = "certified-removal/v1"
    l2: float
    sigma: float
    epsilon: float
    delta: float
    spent: float

    @classmethod
    def after(cls, trained: Trained, *, spent: float) -> "CertifiedRemoval":
        return cls(trained.l2, trained.sigma, trained.epsilon, trained.delta, spent)

    def run(self, model: nn.Module, task: Task) -> Shown:
        """Raises RetrainingDue, with nothing changed, if the step would exceed the budget."""
        for x, y in (task.forget, task.retain):
            _check(model, x, y)
        assert isinstance(model, nn.Linear)
        x, (xs, ys) = task.retain[0].double(), _doubled(task.forget)
        w = _weights(model)
        h, g = hessian(w, x, self.l2), gradient(w, xs, ys, self.l2)
        delta = torch.linalg.solve(h, g)
        stored = (w + delta).to(model.weight.dtype).double()  # as the model will have it
        _, residual, moved = RemovalStep(l2=self.l2)(x, xs, ys, w, stored - w)
        norms = {
            "data": math.sqrt(float(torch.linalg.eigvalsh(x.T @ x)[-1])),
            "step": float((stored - w).norm()),
            "moved": float(moved.norm()),
            "residual": float(residual.norm()),
        }
        bound = GAMMA * norms["data"] * norms["step"] * norms["moved"] + norms["residual"]
        limit = budget(sigma=self.sigma, epsilon=self.epsilon, delta=self.delta)
        if not self.spent + bound <= limit:
            raise RetrainingDue(
                f"retraining is due: this removal takes {bound:.4g} of the removal budget, {max(0.0, limit - self.spent):.4g} of "
                f"{limit:.4g} are left"
            )
        with torch.no_grad():
            model.weight.copy_(stored.T)
        told = {"delta": self.delta, "epsilon": self.epsilon, "l2": self.l2, "sigma": self.sigma, "spent": self.spent}
        return Shown({**told, **norms, "forgotten": len(xs), "retained": len(x)})


class RemovalStep(nn.Module):
    """The step and what its bound is made of, as equations to check."""

    def __init__(self, *, l2: float) -> None:
        super().__init__()
        self.step = LinearStep("logistic", l2=l2)

    def forward(self, x: Tensor, xs: Tensor, ys: Tensor, w: Tensor, delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x: (n, d), xs: (k, d), ys: (k, 1), w and delta: (d, 1) -> W' (d, 1), HΔ − g (d, 1), XΔ (n, 1)"""
        after, residual = self.step(x, xs, ys, w, delta)
        return after, residual, x @ delta


def value(w: Tensor, x: Tensor, y: Tensor, l2: float, b: Tensor) -> float:
    """L_b. w: (d, 1), x: (n, d), y: (n, 1), b: (d, 1)"""
    z = x @ w  # (n, 1)
    return float((nn.functional.softplus(z) - y * z).sum() + len(x) * l2 / 2 * (w * w).sum() + (b * w).sum())


def gradient(w: Tensor, x: Tensor, y: Tensor, l2: float) -> Tensor:
    """Σ (∇ℓ + λw), without b. w: (d, 1), x: (n, d), y: (n, 1) -> (d, 1)"""
    return x.T @ (torch.sigmoid(x @ w) - y) + len(x) * l2 * w


def hessian(w: Tensor, x: Tensor, l2: float) -> Tensor:
    """Σ (∇²ℓ + λI). w: (d, 1), x: (n, d) -> (d, d)"""
    p = torch.sigmoid(x @ w)  # (n, 1)
    return x.T @ (p * (1 - p) * x) + len(x) * l2 * torch.eye(x.shape[1], dtype=torch.float64)


def _weights(model: nn.Linear) -> Tensor:
    return model.weight.detach().double().T.clone()  # (d, 1)


def _doubled(records: Records) -> Records:
    return records[0].double(), records[1].double()[:, None]


def _check(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """What the paper's bound takes for granted."""
    if not isinstance(model, nn.Linear) or model.out_features != 1 or model.bias is not None:
        raise CircuitError(
            "expected nn.Linear with one output and no bias (give the data a column for it), got another model"
        )
    if not bool(((y == 0) | (y == 1)).all()):
        raise CircuitError("expected targets of 0 and 1, got others")
    longest = float(x.double().norm(dim=1).max())
    if longest > 1 + 1e-6:  # rounding of float32, for which γ has room
        raise CircuitError(
            f"expected records of norm 1 at most, which the bound needs, got {longest:.4g}: scale them down"
        )
