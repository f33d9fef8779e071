"""Newton removal: one step towards the optimum of what is retained (Koh & Liang 2017, 1703.04730; Guo et al. 2020, 1911.03030).

Training minimises Σ_i ℓ_i(W) + (λ/2)‖W‖², each record bringing its share of the penalty, as weight decay of a mean loss does.
With R retained records and S forgotten ones::

    W' = W + Δ,     (H + R·damping·I) Δ = g,     H = Σ_R (∇²ℓ_i(W) + λI)

    g = Σ_S (∇ℓ_i(W) + λW)        gradient="forgotten": the influence of S, where W is an optimum of the training set
    g = −Σ_R (∇ℓ_i(W) + λW)       gradient="retained": the same there, and a Newton step from anywhere else

Δ is found by conjugate gradients with Hessian-vector products: no matrix is formed. Then both sides are computed once more, from
the weights as they were stored: ``residual`` is ‖HΔ − g‖ / ‖g‖, and what conjugate gradients believe plays no part. For ridge
regression, whose loss is quadratic, W' is the retrained optimum. All of it is in float64. ::

    shown = Newton(l2=0.01).run(model, Task(forget=(x[:3], y[:3]), retain=(x[3:], y[3:])))
    shown.fields["residual"]        # 3e-11
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp

from circuits.errors import CircuitError
from circuits.steps.step import Records, Shown, Task

LARGEST_BATCH = 4096
"""Records whose Hessian-vector product is taken at once; sums over these are in order."""


class SolveError(CircuitError):
    """No solution that is good enough was found; the model is as it was."""


@dataclass(frozen=True)
class Newton:
    """``l2``: λ above, 0 for none. ``tolerance``: the largest residual that is accepted, of the weights as stored."""

    name: ClassVar[str] = "newton/v1"
    l2: float = 0.0
    damping: float = 0.0
    gradient: Literal["forgotten", "retained"] = "retained"
    tolerance: float = 1e-3
    iterations: int = 1000

    def run(self, model: nn.Module, task: Task) -> Shown:
        """Raises SolveError, with nothing changed, if H is not positive or the residual stays above ``tolerance``."""
        objective = Objective(model, task, self.l2)
        w = objective.weights()  # (P,)
        g = objective.gradient(w, task.forget) if self.gradient == "forgotten" else -objective.gradient(w, task.retain)
        count = len(task.retain[0])

        def product(v: Tensor) -> Tensor:
            return objective.hessian(w, v) + count * self.damping * v  # (P,)

        delta, used = conjugate_gradients(
            product, g, tolerance=self.tolerance * 1e-3, iterations=self.iterations, progress=task.progress
        )
        stored = objective.rounded(w + delta)  # as the model will have it
        size = float(g.norm())
        residual = float((product(stored - w) - g).norm()) / size if size else 0.0
        if not residual <= self.tolerance:
            raise SolveError(
                f"the residual is {residual:.3g} after {used} iterations, expected {self.tolerance:g} or less: allow more "
                f"iterations or damping, or use float64 weights"
            )
        left = float(objective.gradient(stored, task.retain).norm())
        objective.store(stored)
        return Shown(
            {
                "damping": self.damping,
                "forgotten": len(task.forget[0]),
                "gradient": size,
                "iterations": used,
                "left": left,
                "residual": residual,
                "retained": count,
                "tolerance": self.tolerance,
            }
        )


class Objective:
    """Σ_i ℓ_i(W) + (λ/2)‖W‖² of some records, as a function of all trainable parameters in a row, in float64.

    The model is evaluated in its evaluation mode: no dropout, and normalisation with the figures that it has.
    """

    def __init__(self, model: nn.Module, task: Task, l2: float) -> None:
        self.model, self.task, self.l2 = model, task, l2
        self.parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self.fixed = {
            name: value.detach().double() if value.is_floating_point() else value.detach()
            for name, value in (*model.named_parameters(), *model.named_buffers())
            if name not in self.parameters
        }

    def weights(self) -> Tensor:
        """(P,), float64"""
        return torch.cat([value.detach().reshape(-1).double() for value in self.parameters.values()])

    def rounded(self, w: Tensor) -> Tensor:
        """What is left of weights once they are stored in the model's own type. (P,) -> (P,)"""
        return torch.cat([part.to(value.dtype).reshape(-1).double() for part, value in self._parts(w)])

    def store(self, w: Tensor) -> None:
        with torch.no_grad():
            for part, value in self._parts(w):
                value.copy_(part)

    def value(self, w: Tensor, records: Records) -> Tensor:
        """w: (P,) -> ()"""
        x, y = records
        named = dict(zip(self.parameters, (part for part, _ in self._parts(w)), strict=True))
        inputs = x.double() if x.is_floating_point() else x
        targets = y.double() if y.is_floating_point() else y
        outputs = functional_call(self.model, {**self.fixed, **named}, (inputs,))
        return len(x) * (self.task.loss(outputs, targets) + self.l2 / 2 * (w @ w))

    def gradient(self, w: Tensor, records: Records) -> Tensor:
        """Σ (∇ℓ_i + λW). w: (P,) -> (P,)"""

        def term(part: Records) -> Tensor:
            found: Tensor = self._slope(part)(w)
            return found

        return self._sum(records, term)

    def hessian(self, w: Tensor, v: Tensor) -> Tensor:
        """Σ_R (∇²ℓ_i + λI) v, forward over reverse. w: (P,), v: (P,) -> (P,)"""

        def term(part: Records) -> Tensor:
            found: Tensor = jvp(self._slope(part), (w,), (v,))[1]
            return found

        return self._sum(self.task.retain, term)

    def _slope(self, records: Records) -> Callable[[Tensor], Tensor]:
        def value(w: Tensor) -> Tensor:
            return self.value(w, records)

        slope: Callable[[Tensor], Tensor] = grad(value)
        return slope

    def _sum(self, records: Records, term: Callable[[Records], Tensor]) -> Tensor:
        training = self.model.training
        self.model.eval()
        try:
            total = torch.zeros(sum(value.numel() for value in self.parameters.values()), dtype=torch.float64)
            x, y = records
            for rows in torch.arange(len(x)).split(LARGEST_BATCH):
                total = total + term((x[rows], y[rows])).detach()
            return total  # (P,)
        finally:
            self.model.train(training)

    def _parts(self, w: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        at = 0
        for value in self.parameters.values():
            yield w[at : at + value.numel()].reshape(value.shape), value
            at += value.numel()


def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    g: Tensor,
    *,
    tolerance: float,
    iterations: int,
    progress: Callable[[float], None] = lambda done: None,
) -> tuple[Tensor, int]:
    """Δ with ‖HΔ − g‖ ≤ tolerance·‖g‖ as far as they know, and how many products it took (Hestenes & Stiefel 1952).

    product: (P,) -> (P,), of a symmetric positive matrix; g: (P,) -> (P,). Raises SolveError where it is not positive.
    """
    delta, r = torch.zeros_like(g), g.clone()
    p, squared = r.clone(), float(r @ r)
    wanted = tolerance**2 * squared
    for used in range(iterations):
        if squared <= wanted:
            return delta, used
        hp = product(p)
        curvature = float(p @ hp)
        if not curvature > 0:
            raise SolveError(
                f"the Hessian is not positive (curvature {curvature:.3g} along a direction): expected a larger damping"
            )
        step = squared / curvature
        delta, r = delta + step * p, r - step * hp
        before, squared = squared, float(r @ r)
        p = r + squared / before * p
        progress((used + 1) / iterations)
    return delta, iterations


class LinearStep(nn.Module):
    """A removal from a linear model as equations to check, not to solve: what a proof of one step would state.

    ::

        W' = W + Δ,     residual = (H + R·damping·I) Δ − Σ_S (∇ℓ_i + λW)

        ridge:    ℓ = ½(z − y)²             ℓ' = z − y              ℓ'' = 1             z = x·W
        logistic: ℓ = ln(1 + exp(z)) − yz   ℓ' = s(z) − y           ℓ'' = s(z)(1 − s(z))
    """

    def __init__(self, loss: Literal["ridge", "logistic"], *, l2: float, damping: float = 0.0) -> None:
        super().__init__()
        self.loss, self.l2, self.damping = loss, l2, damping

    def forward(self, x: Tensor, xs: Tensor, ys: Tensor, w: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        """x: (n, d) retained, xs: (k, d) and ys: (k, 1) forgotten, w and delta: (d, 1) -> W' (d, 1), residual (d, 1)"""
        g = xs.T @ (self.slope(xs @ w) - ys) + len(xs) * self.l2 * w  # (d, 1)
        product = x.T @ (self.curvature(x @ w) * (x @ delta)) + len(x) * (self.l2 + self.damping) * delta  # (d, 1)
        return w + delta, product - g

    def slope(self, z: Tensor) -> Tensor:
        """ℓ' + y. (n, 1) -> (n, 1)"""
        return z if self.loss == "ridge" else torch.sigmoid(z)

    def curvature(self, z: Tensor) -> Tensor:
        """ℓ''. (n, 1) -> (n, 1)"""
        return torch.ones_like(z) if self.loss == "ridge" else torch.sigmoid(z) * (1 - torch.sigmoid(z))
