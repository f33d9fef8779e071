"""Many proofs, on this machine and on a real Ray cluster of two cores: the same proofs, the same errors, nothing left behind."""

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from circuits import child, engine_ray, prover, zk_verifier
from circuits import engine as engines
from circuits.engine import Engine, Job
from circuits.errors import ProverError, ResourceError
from circuits.problem import Loss
from circuits.srs import load, reduced
from tests import proving
from tests.circuits.test_child import children_of, eventually

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def string(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ceremony's file, or where there is none one for development."""
    if os.environ.get(proving.SRS_VARIABLE):
        return proving.srs(proving.LOGROWS)
    folder = tmp_path_factory.mktemp("srs")
    call = child.Call("gen_srs", {"srs_path": "srs", "logrows": proving.LOGROWS})
    child.run([call], folder, seconds=60, error=ValueError)
    return folder / "srs"


def job(string: Path, loss: Loss = "squared-hinge") -> Job:
    p = proving.problem(loss)
    return Job(proving.circuit_of(p), tuple(proving.honest(loss)[3].all), string)


def values(string: Path, made: Job, proved: prover.Proved, vk: bytes) -> tuple[int, ...]:
    """What the proof says, by a verifier that knows the key and the commitments."""
    srs_1 = reduced(load(string))
    trusted = {"accepted": {zk_verifier.sha256(vk)}, "accepted_srs": {zk_verifier.sha256(srs_1)}}
    given = {"settings": made.circuit.settings, "commitments": proved.commitments}
    return zk_verifier.verify(proved.proof, vk=vk, srs_1=srs_1, **given, **trusted)


@dataclass
class Cluster:
    """``folder`` is where the workers put files."""

    folder: Path
    cache: Path

    def engine(self, *, cpus: float | None = None, retries: int = 3, **rest: object) -> Engine:
        return engines.ray(cpus=cpus, retries=retries, **({"cache": self.cache} | rest))  # type: ignore[arg-type]

    def nothing_left(self) -> bool:
        return not children_of(self.folder) and not list(self.folder.iterdir()) and not list(self.cache.glob("new-*"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("workers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setenv("RAY_TMPDIR", "/tmp")  # a socket's path is short
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_health_check_failure_threshold", engine_ray.PATIENCE)
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield Cluster(folder, tmp_path_factory.mktemp("keys"))
    ray.shutdown()


@pytest.mark.parametrize("name", ["local", "ray"])
def test_the_same_proofs_wherever_they_are_made(name: str, string: Path, tmp_path: Path) -> None:
    """Here Ray is started for the proofs, and ends with them."""
    jobs: dict[object, Job] = {"a": job(string), "b": job(string, "ridge"), "c": job(string)}
    counts: list[int] = []
    engine = engines.engine(name, cache=tmp_path, on_done=counts.append)  # type: ignore[arg-type]
    made = {key: (proved, vk) for key, proved, vk in engine.prove(jobs.items())}
    assert made.keys() == jobs.keys()
    assert counts == [1, 2, 3]
    found = {key: values(string, jobs[key], *made[key]) for key in made}
    assert found["a"] == found["c"] != found["b"]
    assert found["a"][-1] == found["b"][-1] == 38
    assert made["a"][1] == prover.setup(jobs["a"].circuit, string, cache=proving.cache()).vk
    assert made["a"][0].commitments == made["c"][0].commitments
    assert not ray.is_initialized()


@pytest.mark.parametrize("wrong", [1 << 40, 1 << 30])
def test_an_error_is_the_local_one_and_nothing_more_is_started(wrong: int, string: Path, cluster: Cluster) -> None:
    """One is refused by us before EZKL sees it, the other by EZKL."""
    good = job(string)
    bad = replace(good, inputs=((wrong, *good.inputs[0][1:]), *good.inputs[1:]))
    reasons, asked = [], []

    def jobs() -> Iterator[tuple[int, Job]]:
        for index in range(9):
            asked.append(index)
            yield index, bad

    for engine in (engines.local(cache=proving.cache()), cluster.engine()):
        asked.clear()
        with pytest.raises(ProverError) as caught:
            list(engine.prove(jobs()))
        reasons.append((type(caught.value), str(caught.value)))
        assert len(asked) <= 2
    assert reasons[0] == reasons[1]
    eventually(cluster.nothing_left)


def test_jobs_are_taken_as_they_are_needed_and_inputs_do_not_stay(string: Path, cluster: Cluster) -> None:
    asked = 0

    def jobs() -> Iterator[tuple[int, Job]]:
        nonlocal asked
        for index in range(5):
            asked += 1
            yield index, job(string)

    core = ray._private.worker.global_worker.core_worker
    before = core.get_all_reference_counts().keys()
    for done, (name, _, _) in enumerate(cluster.engine().prove(jobs())):
        assert asked <= done + 2, "one that is proven and one that waits"
        assert name in range(5)
    assert asked == 5
    eventually(lambda: core.get_all_reference_counts().keys() <= before)
    eventually(cluster.nothing_left)


class Recorder:
    """In Ray's place: what would be sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def options(self, **_: object) -> "Recorder":
        return self

    def remote(self, *arguments: object) -> None:
        self.sent.append(arguments)


def test_what_ray_is_given_to_store_does_not_show_the_inputs(
    string: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what is small enough for the task's message opens it."""
    good, task = job(string), Recorder()
    marker = 0x5EC2E75EC2E75E
    secret = replace(good, inputs=((marker,) * 200, *good.inputs[1:]))
    monkeypatch.setattr(engine_ray.ray, "remote", lambda function: task)
    send = engine_ray._sender(1, 0, None, b"flag")
    send(secret)
    send(secret)
    (sealed, key, *rest), (again, other, *_) = task.sent
    assert marker.to_bytes(7, "little") in pickle.dumps(secret.inputs)
    assert marker.to_bytes(7, "little") not in sealed
    assert key != other
    assert sealed != again
    assert len(key) == 32
    assert AESGCM(key).decrypt(engine_ray.NONCE, sealed, None) == pickle.dumps(secret.inputs)
    assert [type(value).__name__ for value in rest] == ["ObjectRef", "str", "list", "int", "NoneType", "bytes"]


def kill_its_worker(cluster: Cluster) -> threading.Thread:
    """Once a worker has private inputs on disk, kill it."""

    def kill() -> None:
        eventually(lambda: children_of(cluster.folder))
        for child_id in children_of(cluster.folder):
            parent = int(Path(f"/proc/{child_id}/stat").read_text().rsplit(")", 1)[1].split()[1])
            if Path(f"/proc/{parent}/cmdline").read_bytes().startswith(b"ray::"):
                os.kill(parent, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def test_a_task_whose_worker_was_killed_is_tried_again(string: Path, cluster: Cluster) -> None:
    made = job(string)
    killer = kill_its_worker(cluster)
    [(name, proved, vk)] = cluster.engine().prove([("x", made)])
    killer.join()
    assert name == "x"
    assert values(string, made, proved, vk)[-1] == 38
    eventually(cluster.nothing_left)


def test_workers_that_keep_dying_are_an_error(string: Path, cluster: Cluster) -> None:
    killer = kill_its_worker(cluster)
    with pytest.raises(ProverError, match="expected a worker that lives until its zk proof is done"):
        list(cluster.engine(retries=0).prove([("x", job(string))]))
    killer.join()
    eventually(cluster.nothing_left)


def test_whoever_stops_listening_stops_the_proofs(string: Path, cluster: Cluster) -> None:
    proofs = cluster.engine().prove((index, job(string)) for index in range(100))
    next(proofs)
    eventually(lambda: children_of(cluster.folder))
    proofs.close()  # type: ignore[attr-defined]
    assert cluster.nothing_left()
    assert ray.is_initialized(), "a cluster that others started is left as it is"


def test_two_proofs_at_a_time_and_keys_made_once_by_node(string: Path, cluster: Cluster, tmp_path: Path) -> None:
    most, stop = 0, threading.Event()

    def count() -> None:
        nonlocal most
        while not stop.wait(0.02):
            most = max(most, len(list(tmp_path.glob("new-*"))))

    thread = threading.Thread(target=count)
    thread.start()
    made = list(cluster.engine(cpus=1, cache=tmp_path).prove((index, job(string)) for index in range(3)))
    stop.set()
    thread.join()
    assert sorted(name for name, _, _ in made) == [0, 1, 2]
    assert most == 1


def test_keys_that_several_tasks_want_are_made_once(string: Path, tmp_path: Path) -> None:
    circuit, data = job(string).circuit, string.read_bytes()
    digest = load(string).digest
    fetched: list[int] = []
    found: list[prover.Keys] = []

    def prepare(fetch: Callable[[], bytes]) -> None:
        found.append(engine_ray._prepare(tmp_path, circuit, digest, fetch)[1])

    threads = [threading.Thread(target=prepare, args=(lambda: fetched.append(1) or data,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetched) == 1
    assert sorted(keys.usage is None for keys in found) == [False, True, True]
    (tmp_path / f"{digest}.srs").write_bytes(data[:-1])
    assert engine_ray._prepare(tmp_path, circuit, digest, lambda: data)[0].read_bytes() == data


def test_what_no_node_could_take_is_refused(string: Path, cluster: Cluster) -> None:
    good = job(string)
    settings = good.circuit.settings.replace(b'"total_assignments":', b'"total_assignments":99999999')
    huge = replace(good, circuit=replace(good.circuit, settings=settings))
    with pytest.raises(ResourceError, match=r"the cluster's largest node has"):
        list(cluster.engine().prove([(0, huge)]))


def test_no_cluster_and_no_such_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProverError, match="expected the engine local, or ray"):
        engines.engine("local", address="10.0.0.1:6379")
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "circuits.engine_ray")
    with pytest.raises(ProverError, match="expected Ray for proving on a cluster"):
        engines.engine("ray")


def test_inputs_are_in_no_message(string: Path) -> None:
    assert "5544332211" not in repr(replace(job(string), inputs=((5544332211,),)))
