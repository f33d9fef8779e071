"""``exclusion-optimum/v1``: the gradient of a convex objective, less the forgotten records, at the released weights.

    G = Xᵀ(m ∘ ℓ'(Xw, y)) + Λw          m_i = 1 if min_j ‖x_i − f_j‖² > tau, else 0

Ridge has ℓ = ½(z − y)², the squared hinge ℓ = ½ max(0, 1 − yz)², which with Λ = 1/(2C) is scikit-learn's
``LinearSVC`` without its intercept (a feature that is always 1 is one that is penalised), and the logistic loss ℓ =
ln(1 + exp(−yz)), with Λ = 1/C its ``LogisticRegression``, by a table of the sigmoid: see :class:`Logistic`. Data,
weights and the forgotten records are committed, G and the number of rows kept are public; :mod:`circuits.vicinity`
says how far the weights can be from the optimum. Everything is an integer::

    problem = Problem("squared-hinge", rows=569, features=30, outputs=1, forgotten=(1,), scale_x=128, scale_w=16384,
                      penalty=16384, tau=128, bits=31)
    module = module_of(problem)          # x = X/128, w = W/16384, Λ = 16384/128² = 1, tau = 128/128²
    W = solve(module, records, [f])      # integers near the optimum
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from circuits.errors import CommitmentError
from circuits.exclusion import mask, without_salt
from circuits.export import constant
from circuits.problem import Problem
from circuits.sigmoid import arguments, table

NEWTON_STEPS = 100
SWEEPS = 20
MOVES = 12  # powers of two


class Optimum(nn.Module):
    """What the losses share. Inputs as in :attr:`Problem.layouts`, integers."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.problem = problem
        self.tau = constant(problem.tau)
        self.penalty = constant(problem.penalty)
        self.unit = constant(problem.scale_x * problem.scale_w)
        self.lift = constant(problem.scale_x * problem.scale_w // problem.scale_y)

    def slope(self, z: Tensor, y: Tensor) -> Tensor:
        """ℓ'(z, y) times scale_x·scale_w. z: Xw times the same, y: Y; both (n, outputs) -> (n, outputs)"""
        raise NotImplementedError

    def smooth(self, z: Tensor, y: Tensor) -> Tensor:
        """ℓ'(z, y) times scale_x·scale_w as :func:`solve` takes it: the slope, unless that has steps. -> (n, outputs)"""
        return self.slope(z, y)

    def curvature(self, z: Tensor, y: Tensor) -> Tensor:
        """ℓ''(z, y) in units of 1; what :func:`solve` needs, not part of the circuit. -> (n, outputs)"""
        raise NotImplementedError

    def forward(self, records: Tensor, weights: Tensor, *forgotten: Tensor) -> tuple[Tensor, Tensor]:
        p = self.problem
        layouts = p.layouts
        rows = without_salt(records, layouts[0])
        x, y = rows[:, : p.features], rows[:, p.features :]  # (n, d), (n, o)
        w = without_salt(weights, layouts[1])  # (d, o)
        f = [without_salt(part, layout) for part, layout in zip(forgotten, layouts[2:], strict=True)]  # (k, d) each
        m = mask(x, f, self.tau)  # (n, 1)
        z = torch.einsum("id,do->io", x, w)  # (n, o)
        r = m * self.slope(z, y)  # (n, o)
        return self.total(torch.einsum("id,io->do", x, r), w), m.sum(dim=0)  # (d, o), (1,)

    def total(self, fitted: Tensor, w: Tensor) -> Tensor:
        """The gradient times scale_x²·scale_w, over 2^table_scale. fitted: Xᵀ(m ∘ slope), w: W; both (d, o) -> (d, o)"""
        return fitted + self.penalty * w  # (d, o)


class Ridge(Optimum):
    """ℓ(z, y) = ½(z − y)², so ℓ' = z − y."""

    def slope(self, z: Tensor, y: Tensor) -> Tensor:
        return z - self.lift * y  # (n, o)

    def curvature(self, z: Tensor, y: Tensor) -> Tensor:
        return torch.ones_like(z)  # (n, o)


class SquaredHinge(Optimum):
    """ℓ(z, y) = ½ max(0, 1 − yz)², so ℓ' = −y max(0, 1 − yz). Labels are −1 and 1, one output for each class against
    the rest.
    """

    def slope(self, z: Tensor, y: Tensor) -> Tensor:
        return -y * torch.relu(self.unit - y * z)  # (n, o)

    def curvature(self, z: Tensor, y: Tensor) -> Tensor:
        return y * y * (y * z < self.unit)  # (n, o)


class Logistic(Optimum):
    """ℓ' = −y s(−yz), s the table of :mod:`circuits.sigmoid`. Labels are −1 and 1, one output for each class against the rest.

    s is a step function that never falls, so ℓ' is one of z, and thus a derivative (at the steps: a subgradient) of a
    convex loss, the one that is minimised here, with a table in the place of σ. So the objective has one optimum
    w*, Λ-strong convexity gives ‖w − w*‖ ≤ ‖G‖/Λ as it does for the others, with no slack, and w* depends on the
    retained records and nothing else. It is next to the optimum of the logistic loss itself: s is off by ε =
    2^-(k+1) (its values) + 2^-(k+3) (its arguments, as σ' ≤ ¼) at most, so by the same inequality these two are
    within ε √n ‖X‖ / Λ, over the rows kept. The ends of the table add nothing: σ rounds to 0 and 1 there.
    """

    def slope(self, z: Tensor, y: Tensor) -> Tensor:
        """ℓ'(z, y), not times anything: a multiple of 2^-table_scale."""
        p = self.problem
        q = arguments(z, k=p.table_scale, d=p.division, limit=p.table_limit)  # (n, o)
        return -y * table(-y * q, k=p.table_scale)  # (n, o)

    def total(self, fitted: Tensor, w: Tensor) -> Tensor:
        p = self.problem
        return 2.0**p.division * fitted + self.penalty * 2.0**-p.table_scale * w  # (d, o)

    def smooth(self, z: Tensor, y: Tensor) -> Tensor:
        return -y * self.unit * torch.sigmoid(-y * z / self.unit)  # (n, o)

    def curvature(self, z: Tensor, y: Tensor) -> Tensor:
        s = torch.sigmoid(z / self.unit)
        return s * (1 - s)  # (n, o)


def module_of(problem: Problem) -> Optimum:
    """The circuit of a problem."""
    return {"ridge": Ridge, "squared-hinge": SquaredHinge, "logistic": Logistic}[problem.loss](problem)


def solve(module: Optimum, records: Tensor, forgotten: Sequence[Tensor]) -> Tensor:
    """Integer weights near the optimum of the retained records. records: (n, d + o), forgotten: (k, d) each, int64 -> (d,
    o) int64.

    Newton's method in float64 with halved steps (the squared hinge's curvature jumps), then :func:`settle`.
    """
    p = module.problem
    shapes = [tuple(part.shape) for part in forgotten]
    if records.shape != (p.rows, p.features + p.outputs) or shapes != [(count, p.features) for count in p.forgotten]:
        raise CommitmentError(f"expected shapes as in {p}, got {tuple(records.shape)} and {shapes}")
    x, y = records[:, : p.features].double(), records[:, p.features :].double()
    keep = mask(x, [part.double() for part in forgotten], p.tau)[:, 0].bool()
    x, y = x[keep], y[keep]  # (kept, d), (kept, o)
    return torch.stack([_newton(module, x, y[:, o]) for o in range(p.outputs)], dim=1)


def _gradient(module: Optimum, x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    return x.T @ module.smooth(x @ w, y) + module.penalty * w  # (d,)


def _newton(module: Optimum, x: Tensor, y: Tensor) -> Tensor:
    """One output. x: (kept, d), y: (kept,) -> (d,) int64"""
    penalty = module.penalty * torch.eye(x.shape[1], dtype=torch.float64)
    w = torch.zeros(x.shape[1], dtype=torch.float64)  # in units of 1/scale_w
    hessian = penalty
    for _ in range(NEWTON_STEPS):
        gradient = _gradient(module, x, y, w)
        hessian = x.T @ (module.curvature(x @ w, y)[:, None] * x) + penalty  # (d, d)
        step = torch.linalg.solve(hessian, gradient)
        if step.norm() < 1e-6:
            break
        rate = 1.0
        while rate > 1e-6 and _gradient(module, x, y, w - rate * step).norm() > (1 - rate / 4) * gradient.norm():
            rate /= 2
        w = w - rate * step
    settled = settle(w, hessian)
    return settle_on_steps(module, x, y, settled, hessian) if module.problem.table_scale else settled


def settle(w: Tensor, hessian: Tensor) -> Tensor:
    """Integers near ``w`` with a small gradient H(W − w): rounded, then one coordinate at a time while that helps.

    w: (d,), hessian: (d, d), float64 -> (d,) int64
    """
    settled = w.round()
    gradient = hessian @ (settled - w)  # (d,)
    norms = (hessian * hessian).sum(0)  # (d,)
    for _ in range(100 * len(w)):
        along = hessian @ gradient  # (d,)
        moves = -(along / norms).round()
        gains = -(2 * moves * along + moves * moves * norms)  # what ‖G‖² loses
        best = int(gains.argmax())
        if gains[best] <= 0:
            break
        settled[best] += moves[best]
        gradient = gradient + moves[best] * hessian[:, best]
    return settled.to(torch.int64)


def settle_on_steps(module: Optimum, x: Tensor, y: Tensor, w: Tensor, hessian: Tensor) -> Tensor:
    """Integers near ``w`` where a gradient that has steps is small: the best move along each coordinate and along what Newton's
    method would do about each part of the gradient, in turn, while that helps.

    x: (kept, d), y: (kept,), w: (d,) int64, hessian: (d, d) -> (d,) int64
    """
    newton = torch.linalg.inv(hessian)
    directions = torch.cat([torch.eye(len(w), dtype=torch.float64), newton / newton.abs().amax(0)], dim=1)  # (d, 2d)
    sizes = torch.tensor(
        [0.0] + [sign * 2.0**power for power in range(MOVES) for sign in (1, -1)], dtype=torch.float64
    )  # (c,)
    settled, z, best = w.double(), x @ w.double(), torch.inf
    for _ in range(SWEEPS):
        before = best
        for along in directions.T:
            moves = (along[:, None] * sizes).round()  # (d, c)
            margins, weights = z[:, None] + x @ moves, settled[:, None] + moves  # (kept, c), (d, c)
            norms = module.total(x.T @ module.slope(margins, y[:, None]), weights).norm(dim=0)  # (c,)
            chosen = int(norms.argmin())
            settled, z, best = weights[:, chosen], margins[:, chosen], float(norms[chosen])
        if best >= before:
            break
    return settled.to(torch.int64)
