"""Proving on a Ray cluster: each job a task that reserves the cores and the memory that its circuit is thought to take.

::

    RayEngine(address=None, cpus=None, retries=3, cache=None, on_done=unheard).prove(jobs)

A node makes a circuit's keys once and keeps them: it is sent the reference string where it has none of that digest. A task
returns what went wrong as a value, so Ray tries again only what a dead worker took with it, and the caller sees the same
error as on one machine. Tasks are stopped by a flag that they look at, not by ``ray.cancel``: where a task ends just then, that
aborts the process that asked.

*Private inputs.* Ray keeps large arguments in shared memory, which it does not wipe, and writes them to disk when that is full.
So the inputs go there encrypted, under a key made for the job which travels in the task's message; Ray neither stores nor spills
those. Anybody who can join the cluster or, without Ray's TLS (``RAY_USE_TLS``), listens on its network can read both.
"""

import _thread
import contextlib
import functools
import hashlib
import logging
import os
import pickle
import secrets
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from ray.experimental import internal_kv

from circuits import prover
from circuits.engine import Job, OnDone
from circuits.errors import ProverError, ResourceError

QUEUED = 2  # jobs for each proof that can run at a time: the one that runs, and one that is ready
GRACE = 10.0  # seconds for stopped tasks to remove their folders
LOOK = 0.5  # seconds after which a task looks at the flag again
PATIENCE = "60"  # health checks that a machine may miss: all its cores prove. Ray's 5 would end the process that asked
NONCE = bytes(12)  # a key seals one message
Answer = tuple[prover.Proved, bytes] | Exception


@dataclass(frozen=True, slots=True)
class RayEngine:
    """An :class:`circuits.engine.Engine`. The fields are the arguments of :func:`circuits.engine.ray`."""

    address: str | None
    cpus: float | None
    retries: int
    cache: Path | None
    on_done: OnDone

    def prove(self, jobs: Iterable[tuple[Hashable, Job]]) -> Iterator[tuple[Hashable, prover.Proved, bytes]]:
        with _connected(self.address):
            yield from self._prove(iter(jobs))

    def _prove(self, jobs: Iterator[tuple[Hashable, Job]]) -> Iterator[tuple[Hashable, prover.Proved, bytes]]:
        cpus = self.cpus or min(map(_cpus, _nodes()))
        flag = secrets.token_bytes(16)
        send = _sender(cpus, self.retries, self.cache, flag)
        running: dict[Any, Hashable] = {}
        count, more = 0, True
        try:
            while more or running:
                while more and len(running) < QUEUED * max(1, sum(int(_cpus(node) // cpus) for node in _nodes())):
                    name, job = next(jobs, (None, None))
                    if job is None:
                        more = False
                    else:
                        running[send(job)] = name
                    del job
                for done in ray.wait(list(running), num_returns=1)[0] if running else []:
                    proved, vk = _answer(done)
                    name = running.pop(done)
                    del done  # Ray forgets the task and its arguments with the last reference
                    count += 1
                    self.on_done(count)
                    yield name, proved, vk
        finally:
            _stop(flag, list(running))


def _sender(cpus: float, retries: int, cache: Path | None, flag: bytes) -> Callable[[Job], Any]:
    """A function that starts a job's task and returns the reference to its answer. Circuits and strings are sent once."""

    @functools.lru_cache(maxsize=4)
    def string(path: Path) -> tuple[str, Any]:
        data = path.read_bytes()
        return hashlib.sha256(data).hexdigest(), ray.put(data)

    put = functools.lru_cache(maxsize=4)(ray.put)
    remote = ray.remote(_task)  # here, so that workers import the function instead of being sent its code

    def send(job: Job) -> Any:
        memory = job.circuit.estimate().memory
        _fits(job.circuit, memory)
        digest, data = string(job.srs)
        key = secrets.token_bytes(32)
        sealed = AESGCM(key).encrypt(NONCE, pickle.dumps(job.inputs), None)
        task = remote.options(num_cpus=cpus, memory=memory, max_retries=retries)
        # in a list, the string is fetched only by a node that wants it
        return task.remote(sealed, key, put(job.circuit), digest, [data], cpus, cache, flag)

    return send


def _answer(done: Any) -> tuple[prover.Proved, bytes]:
    try:
        answer: Answer = ray.get(done)
    except ray.exceptions.RayTaskError as error:  # before our own code had begun
        raise ProverError(f"a worker failed: {type(error.cause).__name__}: {error.cause}") from None
    except ray.exceptions.RayError as error:
        raise ProverError(f"expected a worker that lives until its zk proof is done, got: {error}") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _stop(flag: bytes, running: list[Any]) -> None:
    """Interrupt the tasks, and let them stop their processes and remove their files."""
    if running:
        internal_kv._internal_kv_put(flag, b"1")
        ray.wait(running, num_returns=len(running), timeout=GRACE)


@contextlib.contextmanager
def _until(flag: bytes) -> Iterator[None]:
    """On a worker: KeyboardInterrupt in here once the flag is up."""
    inside, lock, over = True, threading.Lock(), threading.Event()

    def watch() -> None:
        while not internal_kv._internal_kv_exists(flag):
            if over.wait(LOOK):
                return
        with lock:
            if inside:
                _thread.interrupt_main()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        with lock:
            inside = False
        over.set()
        time.sleep(0)  # an interrupt that came at the last moment is raised now


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it reports to its makers otherwise
    os.environ.setdefault("RAY_health_check_failure_threshold", PATIENCE)
    dashboard = False if address is None else None  # a cluster that runs already takes no such argument
    try:
        ray.init(address or "local", include_dashboard=dashboard, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ray.exceptions.RayError) as error:
        raise ProverError(f"expected a Ray cluster at {address}, got: {error}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _nodes() -> list[dict[str, float]]:
    """The resources of each node that lives and has cores."""
    found = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    if not found:
        raise ProverError("expected a Ray cluster with cores, got none")
    return found


def _cpus(node: dict[str, float]) -> float:
    return node["CPU"]


def _fits(circuit: prover.Circuit, memory: int) -> None:
    """Ray waits for ever for a node that could take the task."""
    largest = max(node.get("memory", 0.0) for node in _nodes())
    if memory > largest:
        raise ResourceError(
            f"expected about {memory / 1e9:.1f} GB for {circuit.estimate().cells} cells at logrows {circuit.logrows},"
            f" the cluster's largest node has {largest / 1e9:.1f} GB; fewer rows or features, or a smaller bound, take less"
        )


def _task(
    sealed: bytes,
    key: bytes,
    circuit: prover.Circuit,
    digest: str,
    srs: list[Any],
    cpus: float,
    cache: Path | None,
    flag: bytes,
) -> Answer:
    """On a worker."""
    os.environ["RAYON_NUM_THREADS"] = str(max(1, int(cpus)))  # EZKL's threads
    try:
        with _until(flag):
            return _proved(sealed, key, circuit, digest, srs, cache)
    except KeyboardInterrupt:
        return ProverError("the proof was stopped: nobody waits for it any more")


def _proved(
    sealed: bytes, key: bytes, circuit: prover.Circuit, digest: str, srs: list[Any], cache: Path | None
) -> Answer:
    try:
        path, keys = _prepare(cache or prover.cache_folder(), circuit, digest, lambda: ray.get(srs[0]))
        inputs = pickle.loads(AESGCM(key).decrypt(NONCE, sealed, None))
        return prover.prove(circuit, inputs, path, keys), keys.vk
    except Exception as error:
        return error


def _prepare(cache: Path, circuit: prover.Circuit, digest: str, fetch: Callable[[], bytes]) -> tuple[Path, prover.Keys]:
    """The reference string's file and the keys on this node; whoever else wants them at the same time waits."""
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = cache / f"{digest}.srs"
    with _locked(cache / f"{digest}.lock"):
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            new = path.with_suffix(".new")
            new.write_bytes(fetch())
            new.replace(path)
    name = hashlib.sha256(circuit.settings + circuit.onnx).hexdigest()
    with _locked(cache / f"{name}.lock"):
        return path, prover.setup(circuit, path, cache=cache)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """A lock that the system takes away from a worker that dies. Waiting can be interrupted."""
    import fcntl

    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.1)
        yield
