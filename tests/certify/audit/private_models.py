"""Linear classifiers whose exact privacy is known: trained, then released with Gaussian noise on all weights.

    optimum   w = argmin Σ ln(1 + e^(−s ⟨w, x⟩)) + Λ/2 ‖w‖²         one record more moves w by at most 1/Λ
    step      w = Σ s x, twice the first step of that from zero      one record more moves w by 1, exactly

where |x| = 1 and s = ±1. The optimum moves by no more since the gradient of one record is shorter than 1 and all the rest is
Λ-strongly convex. Noise of σ times that is a Gaussian mechanism with μ = 1/σ. Balle and Wang (2018, theorem 8) give its least
ε for each δ, without slack::

    δ(ε) = Φ(μ/2 − ε/μ) − e^ε Φ(−μ/2 − ε/μ)

Random labels, and more dimensions than a record needs: what a record does to w is seen on that record and next to nowhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import exp
from typing import Literal

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm
from torch import nn

from certify.audit import arms
from certify.audit.adapter import Params, Recipe, Torch
from certify.audit.arms import Records
from certify.audit.shadows import Shadows, halves
from certify.audit.verdict import Figures, Plan

SIZES = {"optimum": 120, "step": 200}
"""Records to forget, and as many that are held out."""
OTHERS = {"retain": 10, "test": 20}
REGULARISATION = 0.02
DIMENSIONS = {"optimum": 192, "step": 1536}
MOVES = {"optimum": 1 / REGULARISATION, "step": 1.0}
"""How far one record more moves the weights, at most."""
Kind = Literal["optimum", "step"]


def delta_of(epsilon: float, mu: float) -> float:
    return float(norm.cdf(mu / 2 - epsilon / mu) - exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu))


def epsilon_of(delta: float, mu: float) -> float:
    """The least ε for this δ, 0 if none is needed."""
    if delta_of(0.0, mu) <= delta:
        return 0.0
    return float(brentq(lambda epsilon: delta_of(epsilon, mu) - delta, 0.0, 60.0, xtol=1e-12))


def optimum(z: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Newton's method for all models at once. z: records times signs (n, d), members: (S, n) bool -> (S, d)"""
    w = np.zeros((len(members), z.shape[1]))
    for _ in range(60):
        share = expit(-w @ z.T) * members  # (S, n)
        gradient = REGULARISATION * w - share @ z
        if np.abs(gradient).max() < 1e-10:
            break
        curvature = share * (1 - share)
        hessian = np.stack([(row[:, None] * z).T @ z for row in curvature])
        hessian += REGULARISATION * np.eye(z.shape[1])
        w = w - np.linalg.solve(hessian, gradient[..., None])[..., 0]
    assert np.abs(gradient).max() < 1e-7
    return w


@dataclass(frozen=True)
class World:
    """Data, and the weights of everything that an audit of them trains; noise is drawn as often as one likes."""

    kind: Kind
    seed: int
    plan: Plan

    @cached_property
    def subject(self) -> Torch:
        rng = np.random.default_rng([self.seed, 0])
        count = 2 * SIZES[self.kind] + sum(OTHERS.values())
        x = rng.normal(size=(count, self.dimensions))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        data = torch.tensor(x), torch.tensor(rng.integers(0, 2, count))
        return Torch(lambda: nn.Linear(self.dimensions, 1, bias=False).double(), *data, Recipe(epochs=1, rate=1.0))

    @property
    def dimensions(self) -> int:
        return DIMENSIONS[self.kind]

    @cached_property
    def signed(self) -> np.ndarray:
        """Records times their signs. (n, d)"""
        return np.asarray(self.subject.x.numpy() * (2 * self.subject.y.numpy() - 1)[:, None])

    @cached_property
    def records(self) -> Records:
        size = SIZES[self.kind]
        return arms.split(len(self.subject.y), str(self.seed), forget=size, held_out=size, test=OTHERS["test"])

    @cached_property
    def halves(self) -> np.ndarray:
        return halves(len(self.records.candidates), self.plan.shadows, self.plan.seed)

    @cached_property
    def weights(self) -> np.ndarray:
        """Of the original, of a retrained model, then of the shadows. (2 + S, d)"""
        records, count = self.records, len(self.subject.y)
        members = np.zeros((2 + len(self.halves), count), dtype=bool)
        members[:, records.retain] = True
        members[0, records.forget] = True
        members[2:, records.candidates] = self.halves
        return optimum(self.signed, members) if self.kind == "optimum" else members @ self.signed

    def figures(self, noise: float, draw: int) -> Figures:
        """An audit of the original, and of a retrained model as unlearned, each released with noise: as many times the most
        that one record moves."""
        rng, sigma = np.random.default_rng([self.seed, 1, draw]), noise * MOVES[self.kind]

        def released(row: int) -> Params:
            return {"weight": torch.tensor(self.weights[row] + sigma * rng.normal(size=self.dimensions))[None]}

        own = self.weights[2:] + sigma * rng.normal(size=self.weights[2:].shape)
        retrained: Sequence[Params] = [released(1) for _ in range(self.plan.retrained)]
        return arms.audit(
            self.plan,
            self.subject,
            self.records,
            original=released(0),
            unlearned=released(1),
            retrained=retrained,
            shadows=Shadows(own @ self.signed[self.records.candidates].T, self.halves),
        )
