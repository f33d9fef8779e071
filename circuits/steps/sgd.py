"""Stochastic gradient descent with records left out, in integers: the steps of ``exclusion-chain/v1``.

    W' = W − ⌊rate · G / unit⌉,     G = Σ_i m_i ∇ ½‖z(x_i; W) − y_i‖²,     m_i = 1 if min_j ‖x_i − f_j‖² > tau, else 0

W and W' are both committed to, so that the circuit need not divide. With v = unit·(W − W') − rate·G + unit/2, it is to say
that 0 ≤ v < unit. Its digits hold no number beyond unit − 1, and relu(v) − v adds up to 0 only if none is negative: so
rounding is unique, and nobody chooses anything. The gradient is written out, as backpropagation would have it::

    A = X W1ᵀ + b1      H = max(0, A)      Z = H W2ᵀ + b2      R = m ∘ (Z − Y)
    ∂W2 = Rᵀ H          ∂b2 = Σ R          ∂A = (R W2) ∘ (A > 0)             ∂W1 = ∂Aᵀ X      ∂b1 = Σ ∂A

A linear model is the first line without its max. The logistic loss has R = m ∘ −Y s(−YZ), s the table of
:mod:`circuits.sigmoid`, and everything that it is compared with in the table's units. Every quantity is an integer in units of
its own, and ∂b is brought to those of ∂W.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from circuits.chain_problem import ChainProblem
from circuits.exclusion import mask, without_salt
from circuits.export import constant
from circuits.sigmoid import arguments, table


class MaskedSgd(nn.Module):
    """Some steps, one after the other. Inputs as in :attr:`ChainProblem.layouts`, integers."""

    def __init__(self, problem: ChainProblem) -> None:
        super().__init__()
        self.problem = problem
        self.tau = constant(problem.tau)
        self.rate = constant(problem.rate)
        self.grain = 2.0**-problem.table_scale  # of a gradient, where a table gives its values
        base = problem.fixed_point.base
        self.base, self.centre = constant(base) * self.grain, constant(base // 2) * self.grain
        self.above = constant(base ** (problem.legs - 1))  # unit = base · above, which float32 may not hold
        self.lift = constant(problem.scale_x * problem.scale_w * (problem.scale_w if problem.hidden else 1))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        p = self.problem
        batches = [without_salt(batch, p.batch_layout) for batch in inputs[: p.steps]]  # (b, d + o) each
        states = [self.flat(state) for state in inputs[p.steps : 2 * p.steps + 1]]  # (P,) each
        layouts = p.layouts[2 * p.steps + 1 :]
        f = [without_salt(part, layout) for part, layout in zip(inputs[2 * p.steps + 1 :], layouts, strict=True)]
        deficits, kept = [], []
        for batch, before, after in zip(batches, states, states[1:], strict=False):
            x, y = batch[:, : p.features], batch[:, p.features :]  # (b, d), (b, o)
            m = mask(x, f, self.tau)  # (b, 1)
            v = self.above * (self.base * (before - after) + self.centre) - self.rate * self.gradient(
                x, y, m, before
            )  # (P,)
            deficits.append((torch.relu(v) - v).sum(dim=0, keepdim=True))  # (1,)
            kept.append(m.sum(dim=0))  # (1,)
        return *deficits, *kept

    def flat(self, state: Tensor) -> Tensor:
        """All parameters of a committed state. -> (P,)"""
        return without_salt(state, self.problem.state_layout).reshape(-1)[: self.problem.size]

    def gradient(self, x: Tensor, y: Tensor, m: Tensor, w: Tensor) -> Tensor:
        """G times ``grain``, flat, in units of 1/gradient_scale. x: (b, d), y: (b, o), m: (b, 1), w: (P,) -> (P,)"""
        return self._relu(x, y, m, w) if self.problem.hidden else self._linear(x, y, m, w)

    def _linear(self, x: Tensor, y: Tensor, m: Tensor, w: Tensor) -> Tensor:
        weight, bias = self._tensors(w)  # (o, d), (o,)
        z = torch.einsum("bd,od->bo", x, weight) + self.problem.scale_x * bias  # (b, o)
        r = m * (self._logistic(z, y) if self.problem.table_scale else z - self.lift * y)  # (b, o)
        return torch.cat([torch.einsum("bo,bd->od", r, x).reshape(-1), self.problem.scale_x * r.sum(dim=0)])

    def _logistic(self, z: Tensor, y: Tensor) -> Tensor:
        """The slope of ln(1 + exp(−yz)), a multiple of ``grain``. Both (b, o) -> (b, o)"""
        p = self.problem
        q = arguments(z, k=p.table_scale, d=p.division, limit=p.table_limit)  # (b, o)
        return -y * table(-y * q, k=p.table_scale)  # (b, o)

    def _relu(self, x: Tensor, y: Tensor, m: Tensor, w: Tensor) -> Tensor:
        p = self.problem
        w1, b1, w2, b2 = self._tensors(w)  # (h, d), (h,), (o, h), (o,)
        a = torch.einsum("bd,hd->bh", x, w1) + p.scale_x * b1  # (b, h)
        active = (a > 0).to(a.dtype)  # (b, h)
        h = a * active  # (b, h): max(0, A), and the comparison is made once
        z = torch.einsum("bh,oh->bo", h, w2) + p.scale_x * p.scale_w * b2  # (b, o)
        r = m * (z - self.lift * y)  # (b, o)
        da = torch.einsum("bo,oh->bh", r, w2) * active  # (b, h)
        return torch.cat(
            [
                torch.einsum("bh,bd->hd", da, x).reshape(-1),
                p.scale_x * da.sum(dim=0),
                torch.einsum("bo,bh->oh", r, h).reshape(-1),
                p.scale_x * p.scale_w * r.sum(dim=0),
            ]
        )  # (P,)

    def _tensors(self, w: Tensor) -> list[Tensor]:
        """The model's tensors in flat parameters."""
        found, at = [], 0
        for shape in self.problem.shapes.values():
            count = shape[0] * (shape[1] if len(shape) > 1 else 1)
            found.append(w[at : at + count].reshape(shape))
            at += count
        return found

    def step(self, batch: Tensor, w: Tensor, forgotten: Sequence[Tensor]) -> Tensor:
        """The weights after a step, exactly. batch: (b, d + o), w: (P,), forgotten: (k, d) each, float64 -> (P,)"""
        p = self.problem
        x, y = batch[:, : p.features], batch[:, p.features :]
        m = mask(x, forgotten, self.tau) if forgotten else torch.ones(len(x), 1, dtype=x.dtype)
        wanted = (self.rate * self.gradient(x, y, m, w) / self.grain).to(torch.int64) - p.unit // 2
        return w + torch.div(-wanted, p.unit, rounding_mode="floor")  # w - ceil(wanted / unit)

    def bound(self, batch: Tensor, w: Tensor) -> float:
        """No number in :meth:`step` is larger, but for distances, nor a sum on the way to one. batch: (b, d + o), w: (P,)"""
        p = self.problem
        x, y = batch[:, : p.features].abs(), -batch[:, p.features :].abs()  # so that nothing cancels out
        total = self.rate * self.gradient(x, y, torch.ones(len(x), 1, dtype=x.dtype), w.abs()).abs() / self.grain
        return float((total + p.unit).max())

    def taken_apart(self, batch: Tensor, w: Tensor) -> float:
        """No number that the circuit compares or looks up is larger, but for distances. Shapes as in :meth:`bound`"""
        p = self.problem
        weight, bias, *_ = self._tensors(w.abs())
        z = torch.einsum("bd,hd->bh", batch[:, : p.features].abs(), weight) + p.scale_x * bias  # (b, h) or (b, o)
        return float(z.max()) + (2 * p.table_limit << p.division if p.table_scale else 0)
