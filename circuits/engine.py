"""Many zk proofs: one after another on this machine, or on all machines of a Ray cluster.

::

    jobs = ((step, Job(circuit, inputs, srs)) for step, inputs in enumerate(batches))    # made as they are asked for
    for step, proved, vk in engine("ray", address="10.0.0.1:6379").prove(jobs):
        proved.proof, proved.commitments

Jobs are taken as they are needed and proofs are handed on as they are done: memory does not grow with the number of steps.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from circuits import prover
from circuits.errors import ProverError

OnDone = Callable[[int], None]
"""Called with the number of proofs that are done, after each."""


def unheard(count: int) -> None:
    """An :data:`OnDone` that does nothing."""


def _unseen(stage: str, left: float) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Job:
    """One proof to make."""

    circuit: prover.Circuit
    inputs: tuple[tuple[int, ...], ...] = field(repr=False)
    """The flattened committed tensors. Private: in no message."""
    srs: Path
    """The reference string's file on this machine."""


class Engine(Protocol):
    """Where proofs are made."""

    def prove(self, jobs: Iterable[tuple[Hashable, Job]]) -> Iterator[tuple[Hashable, prover.Proved, bytes]]:
        """(name, zk proof, verification key) of each job as it is done, in any order.

        Raises :class:`ProverError` for the first that fails, after which nothing more is started. Whoever stops iterating
        stops the proofs that are under way.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Local:
    cache: Path | None
    memory: int | None
    progress: prover.Progress
    on_done: OnDone

    def prove(self, jobs: Iterable[tuple[Hashable, Job]]) -> Iterator[tuple[Hashable, prover.Proved, bytes]]:
        for count, (name, job) in enumerate(jobs, 1):
            circuit, srs = job.circuit, job.srs
            keys = prover.setup(circuit, srs, cache=self.cache, memory=self.memory, progress=self.progress)
            proved = prover.prove(circuit, job.inputs, srs, keys, memory=self.memory, progress=self.progress)
            self.on_done(count)
            yield name, proved, keys.vk


def local(
    *,
    cache: Path | None = None,
    memory: int | None = None,
    progress: prover.Progress = _unseen,
    on_done: OnDone = unheard,
) -> Engine:
    """One after another, each with all cores of this machine. ``cache`` and ``memory`` are those of :func:`prover.setup`."""
    return _Local(cache, memory, progress, on_done)


def ray(
    address: str | None = None,
    *,
    cpus: float | None = None,
    retries: int = 3,
    cache: Path | None = None,
    on_done: OnDone = unheard,
) -> Engine:
    """On a Ray cluster, or without an ``address`` on processes of this machine that end with the last proof.

    Where this process is connected to a cluster already, that one is used and left as it is. ``cpus``: cores for one proof, as
    many as the smallest node has where None. ``retries``: how often a proof is tried anew whose worker died. ``cache``: the
    folder for keys on each node.

    Raises ProverError where Ray is not installed.
    """
    try:
        from circuits.engine_ray import RayEngine
    except ModuleNotFoundError as missing:
        if missing.name != "ray":
            raise
        raise ProverError(
            'expected Ray for proving on a cluster, got none: pip install "unlearning-ledger[ray]"'
        ) from None
    return RayEngine(address, cpus, retries, cache, on_done)


def engine(
    name: Literal["local", "ray"],
    *,
    address: str | None = None,
    cache: Path | None = None,
    on_done: OnDone = unheard,
) -> Engine:
    """By name, as a command line has it. ``address`` is Ray's. Raises ProverError for another name."""
    if name == "ray":
        return ray(address, cache=cache, on_done=on_done)
    if name != "local" or address is not None:
        raise ProverError(f"expected the engine local, or ray for a cluster's address, got {name!r} and {address!r}")
    return local(cache=cache, on_done=on_done)
