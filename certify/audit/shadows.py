"""Shadow models, trained together: S models are one stacked tensor, and one backward pass moves them all.

Each shadow learns the retained records and a random half of the candidates, those to forget and those held out. Shadows come in
pairs with opposite halves, so that every candidate is in half of them and all train on equally many (Carlini et al. 2022).

The models are independent all the same: each has its own seed, start, order of records and place in the stack, the loss is the
sum of theirs, and the optimiser works element by element. They are trained chunk by chunk, so that memory does not grow with
their number, and each chunk's confidences are stored as they are done: a run that was cut off goes on after the last one.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from certify.audit.adapter import Params, Subject
from certify.audit.seeds import generator, seed_of
from certify.errors import InputError
from certify.inputs import write_file

CHUNK = 64
"""Models in one stack: enough that what torch spends on each call is shared by many, few enough for small memory."""

Progress = Callable[[int, int], object]
"""Called with what is done and what there is to do, in epochs of one model."""

After = Callable[[Params, np.ndarray], Params]
"""Something done to every shadow once it is trained, such as unlearning. Stacked parameters, members (S, m) -> parameters"""


@dataclass(frozen=True)
class Shadows:
    """What the shadows say of the candidates: confidences (S, m) float64, and which were theirs: members (S, m) bool."""

    confidences: np.ndarray
    members: np.ndarray


def halves(candidates: int, shadows: int, seed: str) -> np.ndarray:
    """Which candidates each shadow learns, (S, m) bool: pairs of opposite halves; an odd one out is in neither of a pair."""
    if shadows < 2 or shadows % 2:
        raise ValueError(f"expected an even number of shadows, got {shadows}")
    drawn = np.zeros((shadows, candidates), dtype=bool)
    half = candidates // 2
    for pair in range(shadows // 2):
        order = generator(seed, f"half/{pair}").permutation(candidates)
        drawn[2 * pair, order[:half]] = True
        drawn[2 * pair + 1, order[half : 2 * half]] = True
    return drawn


def run(
    subject: Subject,
    retain: np.ndarray,
    candidates: np.ndarray,
    *,
    shadows: int,
    seed: str,
    folder: Path | None = None,
    chunk: int = CHUNK,
    after: After | None = None,
    progress: Progress | None = None,
    threads: int = 1,
) -> Shadows:
    """Train the shadows and ask each for its confidence in every candidate. ``retain`` and ``candidates`` are places in x and y.

    With a folder, chunks that lie there are not trained again. Raises InputError if they are of other data or another plan.
    One thread is best for small models on a processor, and makes the result independent of how many there are.
    """
    members = halves(len(candidates), shadows, seed)
    identity = _identity(subject, retain, candidates, shadows, seed, chunk, after)
    total = shadows * subject.recipe.epochs
    parts = []
    for first in range(0, shadows, chunk):
        own = members[first : first + chunk]
        path = None if folder is None else folder / f"shadows-{first:05d}.npz"
        if path is not None and path.exists():
            parts.append(_load(path, identity, own.shape))
        else:
            done = first * subject.recipe.epochs
            params = train(
                subject,
                [np.concatenate([retain, candidates[row]]) for row in own],
                [f"{seed}/shadow/{first + i}" for i in range(len(own))],
                progress and partial(_report, progress, done, total),
                threads=threads,
            )
            if after is not None:
                params = after(params, own)
            parts.append(confidences(subject, params, candidates))
            if path is not None:
                _store(path, identity, parts[-1])
        if progress is not None:
            progress(min(first + chunk, shadows) * subject.recipe.epochs, total)
    return Shadows(np.concatenate(parts), members)


def train(
    subject: Subject,
    records: Sequence[np.ndarray],
    seeds: Sequence[str],
    progress: Callable[[int], object] | None = None,
    *,
    threads: int = 1,
) -> Params:
    """Models trained together, one for each array of places in x and y, all equally long. -> stacked parameters (S, …)

    ``progress`` is called with the epochs done, of all models together. ``threads`` as in :func:`run`.
    """
    sizes = {len(own) for own in records}
    if len(sizes) != 1 or len(records) != len(seeds):
        raise ValueError(f"expected as many records for every model and a seed for each, got sizes {sorted(sizes)}")
    size, device = sizes.pop(), subject.x.device
    starts = [subject.initial(seed_of(seed, "initial")) for seed in seeds]
    params = {name: torch.stack([start[name] for start in starts]).requires_grad_() for name in starts[0]}  # (S, …)
    optimiser = subject.recipe.optimise(list(params.values()))
    orders = [generator(seed, "order") for seed in seeds]

    with on_threads(threads), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed_of(seeds[0], "dropout"))
        for epoch in range(subject.recipe.epochs):
            order = np.stack([rng.permutation(own) for rng, own in zip(orders, records, strict=True)])
            places = torch.from_numpy(order).to(device)  # (S, n)
            for begin in range(0, size, subject.recipe.batch):
                batch = places[:, begin : begin + subject.recipe.batch]  # (S, B)
                optimiser.zero_grad(set_to_none=True)
                outputs = subject.stacked(params, subject.x[batch], training=True)
                subject.loss(outputs, subject.y[batch]).mean(1).sum().backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            if progress is not None:
                progress((epoch + 1) * len(records))
    return {name: value.detach() for name, value in params.items()}


@torch.no_grad()
def confidences(subject: Subject, params: Params, candidates: np.ndarray, block: int = 512) -> np.ndarray:
    """What stacked models say of each candidate. -> (S, m) float64"""

    count = len(next(iter(params.values())))
    parts = []
    for part in torch.split(torch.from_numpy(candidates).to(subject.x.device), block):
        x, y = subject.x[part].expand(count, *[-1] * subject.x.dim()), subject.y[part].expand(count, -1)
        parts.append(subject.confidence(subject.stacked(params, x), y).cpu())
    return torch.cat(parts, dim=1).double().numpy()


def unstack(params: Params) -> Iterator[Params]:
    """The models of a stack, one by one."""
    for index in range(len(next(iter(params.values())))):
        yield {name: value[index] for name, value in params.items()}


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """torch works on so many threads meanwhile. On a busy processor, two of them slow small models down many times."""
    if count < 1:
        raise ValueError(f"expected at least one thread, got {count}")
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _report(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _identity(
    subject: Subject,
    retain: np.ndarray,
    candidates: np.ndarray,
    shadows: int,
    seed: str,
    chunk: int,
    after: After | None,
) -> str:
    """A digest of everything that the confidences depend on, but for the code of the model."""
    start = {name: tuple(value.shape) for name, value in sorted(subject.initial(0).items())}
    done = getattr(after, "__qualname__", "")
    hash_ = sha256(repr((seed, shadows, chunk, subject.recipe, start, done, len(retain), len(candidates))).encode())
    for array in (subject.x.cpu().numpy(), subject.y.cpu().numpy(), retain, candidates):
        hash_.update(str((array.shape, array.dtype)).encode() + np.ascontiguousarray(array).tobytes())
    return hash_.hexdigest()


def _store(path: Path, identity: str, confidences: np.ndarray) -> None:
    file = io.BytesIO()
    np.savez(file, confidences=confidences, identity=np.array(identity))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, file.getvalue())


def _load(path: Path, identity: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as file:
            confidences, found = file["confidences"], str(file["identity"])
    except (OSError, ValueError, KeyError, BadZipFile):
        raise InputError(f"{path} cannot be read: delete it to train these shadows again") from None
    if found != identity or confidences.shape != shape:
        raise InputError(f"expected shadows of this plan and these data in {path}, got others: give another folder")
    return np.asarray(confidences, dtype=np.float64)
