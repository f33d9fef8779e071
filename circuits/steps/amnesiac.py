"""Amnesiac unlearning (Graves, Nagisetty & Ganesh 2021, arXiv 2010.10981): take back what the batches with a record changed.

While training, the change that each batch made to the weights is kept; to forget a record, those of its batches are subtracted::

    W' = W − Σ_{b touched S} Δ_b,     Δ_b = W_after b − W_before b

Arithmetic: all in float64 and rounded to nearest; Σ from 0 over the recordings in order and within each by rising index; W' is
rounded once to the type of each tensor. A delta is its elements as little-endian float64, tensors in the order of their names'
UTF-8 bytes, floating-point ones only. So an auditor with W and the deltas gets W' to the bit. ::

    recording = Recording.create("deltas")
    for rows in batches:
        with recording.batch(model, rows):          # positions in the dataset
            ...                                     # one step of the optimiser
    subtracted(model.state_dict(), [recording.delta(b) for b in recording.touched([17])])

Later batches started from weights that the forgotten records had already moved: this is not what training without them gives.
It would be if a batch's change did not depend on the weights that it started from.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from circuits.errors import CircuitError
from circuits.steps.step import Shown, Task
from circuits.steps.trail import Trail

KIND = "delta"
State = Mapping[str, Tensor]


class Recording:
    """Deltas of a training, and which positions each batch held. All of it is private; on disk but for one delta."""

    def __init__(self, folder: str | Path) -> None:
        self.trail = Trail(folder, KIND)
        self._batches = self.trail.folder / "batches.jsonl"

    @classmethod
    def create(cls, folder: str | Path) -> "Recording":
        """Raises TrailError if the folder holds one already."""
        Trail.create(folder, KIND)
        recording = cls(folder)
        recording._batches.write_bytes(b"")
        return recording

    @contextmanager
    def batch(self, model: nn.Module, positions: Iterable[int]) -> Iterator[None]:
        """Record what the block does to the weights as the delta of a batch with the records at ``positions``."""
        held = sorted({int(position) for position in positions})
        before = row(model.state_dict())
        yield
        self.trail.append((row(model.state_dict()) - before).numpy().astype("<f8").tobytes())
        with self._batches.open("a") as file:
            file.write(json.dumps(held) + "\n")

    def batches(self) -> Iterator[list[int]]:
        """The positions in each batch, in order."""
        with self._batches.open() as file:
            yield from map(json.loads, file)

    def touched(self, positions: Iterable[int]) -> list[int]:
        """The batches that held any of these."""
        wanted = set(positions)
        return [index for index, held in enumerate(self.batches()) if not wanted.isdisjoint(held)]

    def delta(self, index: int) -> Tensor:
        """(P,), float64. Raises TrailError if it is not what was committed to."""
        return from_bytes(self.trail.read(index))


def row(state: State) -> Tensor:
    """All floating-point numbers of a state in a row, float64. (P,)"""
    return torch.cat([state[name].detach().reshape(-1).double().cpu() for name in _names(state)])


def from_bytes(data: bytes) -> Tensor:
    """A delta. (P,)"""
    return torch.from_numpy(np.frombuffer(data, dtype="<f8").astype(np.float64))


def subtracted(state: State, deltas: Iterable[Tensor]) -> dict[str, Tensor]:
    """``state`` less the sum of deltas, (P,) each, taken one at a time; tensors of other types as they are."""
    w = row(state)
    total = torch.zeros_like(w)
    for delta in deltas:
        if delta.shape != w.shape:
            raise CircuitError(f"expected deltas of {len(w)} numbers, as the model has, got one of {len(delta)}")
        total += delta
    after, at = dict(state), 0
    left = Subtraction()(w, total[None])
    for name in _names(state):
        size = state[name].numel()
        after[name] = left[at : at + size].reshape(state[name].shape).to(state[name].dtype)
        at += size
    return after


def digest(state: State) -> str:
    """SHA-256 of all floating-point tensors' bytes, in order of their names: hex."""
    hasher = sha256()
    for name in _names(state):
        hasher.update(state[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()


def _names(state: State) -> list[str]:
    names = [name for name, value in state.items() if value.is_floating_point()]
    return sorted(names, key=str.encode)


class Subtraction(nn.Module):
    """W' = W − Σ_b Δ_b"""

    def forward(self, w: Tensor, deltas: Tensor) -> Tensor:
        """w: (P,), deltas: (k, P) -> (P,)"""
        return w - deltas.sum(0)


@dataclass(frozen=True)
class Taken:
    """Batches to take back from one recording."""

    recording: Recording
    batches: tuple[int, ...]


@dataclass(frozen=True)
class Repair:
    """Where a repair is recorded: it may have to be taken back for others one day. ``positions``: of the rows of ``task.retain``
    in the dataset; ``seal`` commits to the recording: more fields of the detail."""

    recording: Recording
    positions: Sequence[int]
    seal: Callable[[Recording], Mapping[str, object]]


@dataclass(frozen=True)
class Amnesiac:
    """``epochs`` of plain SGD on the retained records repair what subtraction broke; 0 leaves it at that.

    :func:`certify.deltas.step` makes one with what it has to take back.
    """

    name: ClassVar[str] = "amnesiac/v1"
    epochs: int = 0
    rate: float = 0.01
    batch: int = 32
    seed: int = 0
    taken: tuple[Taken, ...] = field(init=False, default=(), repr=False)
    shown: Mapping[str, object] = field(init=False, default_factory=dict, repr=False)
    repair: Repair | None = field(init=False, default=None, repr=False)

    def of(self, taken: Sequence[Taken], shown: Mapping[str, object], repair: Repair | None = None) -> "Amnesiac":
        """This step, for those batches. ``shown``: fields of the detail that are known already."""
        step = Amnesiac(self.epochs, self.rate, self.batch, self.seed)
        for name, value in (("taken", tuple(taken)), ("shown", dict(shown)), ("repair", repair)):
            object.__setattr__(step, name, value)
        return step

    def run(self, model: nn.Module, task: Task) -> Shown:
        """Raises CircuitError where nobody said what to take back, or for a repair that is not recorded."""
        if not self.taken:
            raise CircuitError(
                "expected to be told which batches to take back, was not (certify.deltas.step finds them)"
            )
        if self.epochs and self.repair is None:
            raise CircuitError("expected a recording for the repair, got none: others may have to be forgotten later")
        deltas = (one.recording.delta(index) for one in self.taken for index in one.batches)
        after = subtracted(model.state_dict(), deltas)
        with torch.no_grad():
            for name, value in model.state_dict().items():
                value.copy_(after[name])
        fields: dict[str, object] = {**self.shown, "weights": digest(model.state_dict())}
        if self.epochs and self.repair is not None:
            self._repair(model, task, self.repair)
            fields |= self.repair.seal(self.repair.recording)
        task.progress(1.0)
        return Shown(fields)

    def _repair(self, model: nn.Module, task: Task, repair: Repair) -> None:
        x, y = task.retain
        if len(repair.positions) != len(x):
            raise CircuitError(f"expected the positions of {len(x)} retained records, got {len(repair.positions)}")
        generator = torch.Generator().manual_seed(self.seed)
        optimizer = torch.optim.SGD(model.parameters(), lr=self.rate)
        for epoch in range(self.epochs):
            for rows in torch.randperm(len(x), generator=generator).split(self.batch):
                with repair.recording.batch(model, [repair.positions[i] for i in rows.tolist()]):
                    optimizer.zero_grad()
                    task.loss(model(x[rows]), y[rows]).backward()
                    optimizer.step()
            task.progress((epoch + 1) / self.epochs)
