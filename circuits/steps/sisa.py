"""SISA: sharded, isolated, sliced, aggregated training (Bourtoule et al. 2021, arXiv 1912.03817).

The records are split into shards, each shard into slices. A constituent model sees one shard only, a slice at a time, and its
state before each slice is kept, in memory or in a folder. To forget a record, its shard alone goes back to the state before the
slice that held it and learns the rest again: the same weights, to the bit, as if the record had never been there.

::

    sisa = Sisa(lambda: nn.Linear(30, 2), plan(569, shards=5, slices=2, seed=7), seed=7)
    sisa.fit(X, y)                        # X: (569, 30), y: (569,)
    sisa.ensemble(X)                      # class probabilities, (569, 2)
    sisa.forget([3, 14, 159], X, y)       # {0: 1, 4: 0}: shard 0 from slice 1 on, shard 4 from slice 0 on
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from circuits.steps.checkpoints import Checkpoints

Aggregation = Literal["mean", "majority"]
Plan = tuple[tuple[tuple[int, ...], ...], ...]
"""Shard, slice, positions of records in the dataset."""


def plan(count: int, *, shards: int, slices: int = 1, seed: int = 0) -> Plan:
    """Deal ``count`` records out to shards and slices of almost equal size, in an order that ``seed`` decides."""
    if shards < 1 or slices < 1 or shards * slices > count:
        raise ValueError(f"{shards} shards of {slices} slices need at least as many records, {count} came")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    parts = [order[part :: shards * slices] for part in range(shards * slices)]
    return tuple(tuple(tuple(sorted(parts[s * slices + i])) for i in range(slices)) for s in range(shards))


def without(plan: Plan, forgotten: Iterable[int]) -> Plan:
    """The plan less some positions; the others stay where they are."""
    gone = set(forgotten)
    return tuple(tuple(tuple(p for p in part if p not in gone) for part in shard) for shard in plan)


class Standardize(nn.Module):
    """(x - mean) / std, with figures that :meth:`fit` takes from the data that a constituent may see."""

    mean: Tensor
    std: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))

    def fit(self, x: Tensor) -> None:
        self.mean.copy_(x.mean(0))
        self.std.copy_(x.std(0, correction=0).clamp_min(1e-6))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std  # (n, features)


class Ensemble(nn.Module):
    """Constituents that know nothing of each other; the answer is the mean of their class probabilities, or of their votes."""

    def __init__(self, constituents: Iterable[nn.Module], aggregation: Aggregation = "mean") -> None:
        super().__init__()
        self.constituents = nn.ModuleList(constituents)
        self.aggregation = aggregation

    def forward(self, x: Tensor) -> Tensor:
        said = [constituent(x).softmax(-1) for constituent in self.constituents]  # shards x (n, classes)
        if self.aggregation == "majority":  # one vote each, for the likeliest class; of several, for the first
            said = [nn.functional.one_hot(p.argmax(-1), p.shape[-1]).to(p.dtype) for p in said]
        return torch.stack(said).mean(0)  # (n, classes)


@dataclass
class Sisa:
    """An ensemble with what it takes to retrain a part of it. ``build`` makes one untrained constituent (logits out)."""

    build: Callable[[], nn.Module]
    plan: Plan
    seed: int
    epochs: int = 40
    rate: float = 0.01
    batch: int = 32
    aggregation: Aggregation = "mean"
    folder: Path | None = None
    """Where to keep states before slices; of another process too, which then need not train again to forget."""
    ensemble: Ensemble = field(init=False)
    checkpoints: Checkpoints = field(init=False)

    def __post_init__(self) -> None:
        self.ensemble = Ensemble((self._untrained(shard) for shard in range(len(self.plan))), self.aggregation)
        self.checkpoints = Checkpoints(self.folder)

    def parameters(self) -> dict[str, int | float | str]:
        """What a certificate should say of the recipe."""
        slices = len(self.plan[0])
        return {
            "shards": len(self.plan),
            "slices": slices,
            "epochs": self.epochs,
            "rate": self.rate,
            "batch": self.batch,
            "aggregation": self.aggregation,
        }

    def fit(self, x: Tensor, y: Tensor, progress: Callable[[int], None] = lambda shard: None) -> None:
        """Train every shard. x: (n, features), y: (n,) class indices, n the plan's number of records."""
        for shard in range(len(self.plan)):
            self._fit_shard(shard, 0, x, y)
            progress(shard)

    def forget(
        self, positions: Sequence[int], x: Tensor, y: Tensor, progress: Callable[[int], None] = lambda shard: None
    ) -> dict[int, int]:
        """Retrain what saw any of ``positions``; shard -> first slice that was learnt again.

        Rows of x and y at ``positions`` are never read.
        """
        gone = set(positions)
        affected = {
            shard: min(i for i, part in enumerate(parts) if gone & set(part))
            for shard, parts in enumerate(self.plan)
            if any(gone & set(part) for part in parts)
        }
        self.plan = without(self.plan, gone)
        for shard, first in affected.items():
            self._fit_shard(shard, first, x, y)
            progress(shard)
        return affected

    def _untrained(self, shard: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + shard)
            return self.build()

    def _fit_shard(self, shard: int, first: int, x: Tensor, y: Tensor) -> None:
        """Learn slices ``first`` and later, each together with those before it, from the state before ``first``."""
        constituent = self.ensemble.constituents[shard]
        if first == 0:
            constituent.load_state_dict(self._untrained(shard).state_dict())
        else:
            constituent.load_state_dict(self.checkpoints.get(shard, first))
        self.checkpoints.drop(shard, first + 1 if first else 0)
        for index in range(first, len(self.plan[shard])):
            if index > first or not first:  # the one that it starts from is there
                self.checkpoints.put(shard, index, constituent.state_dict())
            seen = [p for part in self.plan[shard][: index + 1] for p in part]
            if not seen:
                continue  # all forgotten
            if not any(self.plan[shard][:index]):
                for module in constituent.modules():
                    if isinstance(module, Standardize):
                        module.fit(x[seen])
            self._fit_slice(constituent, x[seen], y[seen], self.seed + 1000 * shard + index)

    def _fit_slice(self, constituent: nn.Module, x: Tensor, y: Tensor, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.Adam(constituent.parameters(), lr=self.rate)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(x), generator=generator).split(self.batch):
                optimizer.zero_grad()
                nn.functional.cross_entropy(constituent(x[rows]), y[rows]).backward()
                optimizer.step()
