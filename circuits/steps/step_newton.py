"""Newton removal for ridge, in integers (Guo et al., arXiv 1911.03030; Izzo et al., 2002.10077): no matrix is inverted.

    R = H (W' − W) − g        H = X̃ᵀ (m ∘ X̃) + P        g = X̃ᵀ ((1 − m) ∘ (X̃ W − Y))        m_i = 1 if x_i is to be kept

x̃ has a 1 for the bias, P is the penalty. H is that of the records kept, g the gradient of those to forget; m is made of
distances, as in :mod:`circuits.exclusion`, so that near-duplicates go too. H − P is positive semidefinite, so that
‖W' − (W + H⁻¹ g)‖ ≤ ‖R‖ / P, with R in the units of :mod:`circuits.vicinity`. W + H⁻¹ g is the optimum without the records if W
was that with them: of which this shows nothing. R is public, and as long as the weights.
"""

import torch
from torch import Tensor

from circuits.errors import ProverError
from circuits.exclusion import mask
from circuits.export import constant
from circuits.step_problem import StepProblem
from circuits.steps.step_circuit import Given


class Newton:
    def __init__(self, problem: StepProblem) -> None:
        self.problem = problem
        self.tau, self.penalty, self.one = (constant(v) for v in (problem.tau, problem.penalty, problem.scale_x))
        self.lift = constant(problem.scale_x * problem.scale_w)

    def _kept(self, given: Given) -> tuple[Tensor, Tensor, Tensor]:
        """x (n, d), y (n, o) and m (n, 1)."""
        if given.records is None:
            raise ProverError("expected all training records for a Newton step, got none")
        d = self.problem.features
        x, y = given.records[:, :d], given.records[:, d:]
        return x, y, mask(x, [part[:, :d] for part in given.forgotten], self.tau)

    def _outputs(self, x: Tensor, w: Tensor) -> Tensor:
        """X̃ w. x: (n, d), w: (P,) -> (n, o)"""
        weight, bias = self._tensors(w)
        return torch.einsum("nd,od->no", x, weight) + self.one * bias

    def _back(self, x: Tensor, r: Tensor) -> Tensor:
        """X̃ᵀ r. x: (n, d), r: (n, o) -> (P,)"""
        return torch.cat([torch.einsum("no,nd->od", r, x).reshape(-1), self.one * r.sum(dim=0)])

    def _tensors(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """(o, d) and (o,)."""
        o, d = self.problem.outputs, self.problem.features
        return w[: o * d].reshape(o, d), w[o * d :]

    def deficit(self, w: Tensor, after: Tensor, given: Given) -> Tensor:
        """R, times scale_x² scale_w: 0 is what nobody can ask for in integers. -> (P,)"""
        x, y, m = self._kept(given)
        moved = after - w  # (P,)
        wrong = self._outputs(x, w) - self.lift * y  # (n, o)
        r = m * self._outputs(x, moved) - (1 - m) * wrong  # (n, o): H without its penalty, less g, in one product
        return self._back(x, r) + self.penalty * moved

    def after(self, w: Tensor, given: Given) -> Tensor:
        """Integers near the Newton step."""
        from circuits.optimum import settle

        x, y, m = self._kept(given)
        p = self.problem
        wide = torch.cat([x, torch.full((len(x), 1), self.one, dtype=x.dtype)], 1)  # (n, d + 1)
        hessian = wide.T @ (m * wide) + self.penalty * torch.eye(p.features + 1, dtype=x.dtype)
        g = self._back(x, (1 - m) * (self._outputs(x, w) - self.lift * y))  # (P,)
        weight, bias = self._tensors(g)
        step = torch.linalg.solve(hessian, torch.cat([weight, bias[:, None]], 1).T)  # (d + 1, o)
        weight, bias = self._tensors(w)
        whole = torch.cat([weight, bias[:, None]], 1).T + step  # (d + 1, o)
        made = torch.stack([settle(whole[:, o], hessian) for o in range(p.outputs)], 1).double()  # (d + 1, o)
        return torch.cat([made[:-1].T.reshape(-1), made[-1]])
