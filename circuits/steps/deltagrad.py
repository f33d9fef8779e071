"""DeltaGrad: training again along the path that was cached, most gradients corrected instead of computed (Wu, Dobriban & Davidson
2020, arXiv 2006.14755, algorithm 1; successive requests as in their algorithm 3).

Training caches weights w_t and gradients g_t, the mean over batch B_t of ∇ℓ_i + λw. Without the records R the path is ::

    w'_{t+1} = w'_t − η (|B_t| ĝ_t − Σ_{B_t ∩ R} (∇ℓ_i(w'_t) + λw'_t)) / |B_t \\ R|,     w'_0 = w_0

    ĝ_t = the mean over B_t at w'_t            for t < burn, and each period-th step after it
    ĝ_t = g_t + B (w'_t − w_t)                 otherwise: only the gradients of R are computed

B is a quasi-Newton Hessian of the last ``history`` pairs s = w'_t − w_t, y = ĝ_t − g_t of computed steps, in the compact form of
Byrd, Nocedal & Schnabel (1994, theorem 2.3)::

    B = σI − [σS Y] [[σSᵀS, L], [Lᵀ, −D]]⁻¹ [σSᵀ; Yᵀ],     σ = sᵀy / sᵀs of the last pair

All in float64. The path is a trail (:mod:`circuits.steps.trail`) with one piece a step, w_t and g_t as little-endian float64: two
models a step on disk, one step in memory. For linear and logistic models; the paper has its bounds for strongly convex losses. ::

    recipe = Descent(rate=0.5, steps=300)
    path = Trail.create("path", kind=KIND)
    fit(model, x, y, loss, recipe, path)
    DeltaGrad.of(recipe).along(path, forgotten=[17], into=Trail.create("path-1", kind=KIND)).run(model, task)
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from circuits.errors import CircuitError
from circuits.steps.newton import Objective
from circuits.steps.step import Records, Shown, Task
from circuits.steps.trail import Trail

KIND = "path"


@dataclass(frozen=True)
class Descent:
    """Gradient descent. ``batch``: records a step, 0 for all of them; ``l2``: λ, each record's share of the penalty."""

    rate: float
    steps: int
    l2: float = 0.0
    batch: int = 0
    seed: int = 0

    def rows(self, step: int, count: int) -> list[int]:
        """Positions in the batch of a step, in a training of ``count`` records: reshuffled each epoch."""
        if not self.batch or self.batch >= count:
            return list(range(count))
        per = -(-count // self.batch)
        epoch, number = divmod(step, per)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(self.seed * 1_000_003 + epoch))
        return sorted(order[number * self.batch : (number + 1) * self.batch].tolist())


def fit(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    recipe: Descent,
    path: Trail | None = None,
    *,
    without: Sequence[int] = (),
) -> None:
    """Train ``model`` from the weights that it has, and cache its path. ``without``: positions to leave out of their batches."""
    objective = Objective(model, Task((x, y), (x, y), loss), recipe.l2)
    w, absent = objective.weights(), set(without)
    for step in range(recipe.steps):
        rows = [row for row in recipe.rows(step, len(x)) if row not in absent]
        g = objective.gradient(w, (x[rows], y[rows])) / len(rows) if rows else torch.zeros_like(w)
        if path is not None:
            path.append(_piece(w, g))
        w = w - recipe.rate * g
    objective.store(w)


@dataclass(frozen=True)
class DeltaGrad:
    """``period``, ``burn`` and ``history`` are the paper's T0, j0 and m; the rest is the training's :class:`Descent`."""

    name: ClassVar[str] = "deltagrad/v1"
    rate: float
    steps: int
    l2: float
    batch: int
    seed: int
    period: int = 5
    burn: int = 10
    history: int = 2
    path: Trail | None = field(init=False, default=None, repr=False)
    into: Trail | None = field(init=False, default=None, repr=False)
    forgotten: tuple[int, ...] = field(init=False, default=(), repr=False)
    absent: frozenset[int] = field(init=False, default=frozenset(), repr=False)
    shown: dict[str, object] = field(init=False, default_factory=dict, repr=False)
    seal: Callable[[Trail], str] | None = field(init=False, default=None, repr=False)

    @classmethod
    def of(cls, recipe: Descent, *, period: int = 5, burn: int = 10, history: int = 2) -> "DeltaGrad":
        return cls(**asdict(recipe), period=period, burn=burn, history=history)

    def along(
        self,
        path: Trail,
        *,
        forgotten: Sequence[int],
        into: Trail,
        absent: Sequence[int] = (),
        shown: dict[str, object] | None = None,
        seal: Callable[[Trail], str] | None = None,
    ) -> "DeltaGrad":
        """This step along a path. ``forgotten``: positions of ``task.forget``'s rows in the training set; ``absent``: of those
        forgotten earlier; ``task.retain`` has the others, rising. ``into``: where the new path goes, for the next request;
        ``seal`` commits to it and ``shown`` are fields of the detail that are known already (:func:`certify.paths.step`)."""
        told = {name: getattr(self, name) for name in (*Descent.__dataclass_fields__, "period", "burn", "history")}
        step = DeltaGrad(**told)
        values = {"path": path, "into": into, "forgotten": tuple(forgotten), "absent": frozenset(absent)}
        for name, value in {**values, "shown": dict(shown or {}), "seal": seal}.items():
            object.__setattr__(step, name, value)
        return step

    def exact(self, step: int) -> bool:
        """Whether a step's gradient is computed."""
        return step < self.burn or (step - self.burn) % self.period == 0

    def run(self, model: nn.Module, task: Task) -> Shown:
        """Raises CircuitError without a path, or if it has another length than the training."""
        if self.path is None or self.into is None or len(self.path) != self.steps:
            raise CircuitError(
                f"expected a path of {self.steps} steps to go along, got {'none' if self.path is None else len(self.path)}"
            )
        records, count = self._records(task)
        recipe = Descent(self.rate, self.steps, self.l2, self.batch, self.seed)
        objective, gone = Objective(model, task, self.l2), set(self.forgotten)
        pairs: list[tuple[Tensor, Tensor]] = []
        w, computed, left_out = read(self.path, 0)[0], 0, 0
        for step in range(self.steps):
            cached, g = read(self.path, step)  # (P,), (P,)
            rows = [row for row in recipe.rows(step, count) if row not in self.absent]
            out = [row for row in rows if row in gone]
            if self.exact(step):
                computed += 1
                if rows:
                    exact = objective.gradient(w, records(rows)) / len(rows)
                    s, y = w - cached, exact - g
                    if float(s @ y) > 1e-12 * float(s @ s) > 0:
                        pairs = [*pairs, (s, y)][-self.history :]
                    elif step:
                        left_out += 1
                    g = exact
            elif pairs:
                g = g + product(pairs, w - cached)
            if len(out) < len(rows):
                taken = objective.gradient(w, records(out)) if out else torch.zeros_like(w)
                g = (len(rows) * g - taken) / (len(rows) - len(out))
            else:
                g = torch.zeros_like(w)  # training without them takes no step
            self.into.append(_piece(w, g))
            w = w - self.rate * g
            task.progress((step + 1) / self.steps)
        moved = float((objective.rounded(w) - objective.weights()).norm())
        objective.store(w)
        after = {} if self.seal is None else {"after": self.seal(self.into)}
        return Shown(
            {
                **self.shown,
                **after,
                "burn": self.burn,
                "computed": computed,
                "forgotten": len(self.forgotten),
                "history": self.history,
                "leftOut": left_out,
                "moved": moved,
                "period": self.period,
                "retained": len(task.retain[0]),
            }
        )

    def _records(self, task: Task) -> tuple[Callable[[Sequence[int]], Records], int]:
        """What gives the records at positions of the training set, and how many it has."""
        count = len(task.forget[0]) + len(task.retain[0]) + len(self.absent)
        gone = sorted(self.forgotten)
        rest = [position for position in range(count) if position not in self.absent and position not in set(gone)]
        if list(self.forgotten) != gone or (len(gone), len(rest)) != (len(task.forget[0]), len(task.retain[0])):
            raise CircuitError(
                f"expected a position for each of {len(task.forget[0])} forgotten and {len(task.retain[0])} retained records, "
                f"rising, got {len(gone)} and {len(rest)}"
            )
        place = {position: number for number, position in enumerate([*gone, *rest])}
        x, y = (torch.cat([task.forget[i], task.retain[i]]) for i in (0, 1))

        def records(positions: Sequence[int]) -> Records:
            rows = [place[position] for position in positions]
            return x[rows], y[rows]

        return records, count


def product(pairs: Sequence[tuple[Tensor, Tensor]], v: Tensor) -> Tensor:
    """B v. pairs: of s and y, (P,) each, oldest first, with sᵀy > 0; v: (P,) -> (P,)"""
    s = torch.stack([pair[0] for pair in pairs], dim=1)  # (P, m)
    y = torch.stack([pair[1] for pair in pairs], dim=1)  # (P, m)
    sigma = float(s[:, -1] @ y[:, -1]) / float(s[:, -1] @ s[:, -1])
    inner = s.T @ y  # (m, m)
    lower, diagonal = inner.tril(-1), torch.diag(inner.diagonal())
    middle = torch.cat([torch.cat([sigma * s.T @ s, lower], 1), torch.cat([lower.T, -diagonal], 1)])  # (2m, 2m)
    right = torch.cat([sigma * s.T @ v, y.T @ v])  # (2m,)
    found: Tensor = sigma * v - torch.cat([sigma * s, y], dim=1) @ torch.linalg.solve(middle, right)
    return found


def read(path: Trail, step: int) -> tuple[Tensor, Tensor]:
    """w_t and g_t, (P,) each. Raises TrailError if they are not what was committed to."""
    values = torch.from_numpy(np.frombuffer(path.read(step), dtype="<f8").astype(np.float64))
    w, g = values.reshape(2, -1)
    return w, g


def _piece(w: Tensor, g: Tensor) -> bytes:
    return torch.cat([w, g]).numpy().astype("<f8").tobytes()
