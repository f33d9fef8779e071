"""EZKL calls in a process of their own, so that a panic, a hang or the out-of-memory killer ends that process and not
its caller.

The parent writes a job, starts this file as a script, and reads one JSON line for each stage::

    with folder() as work:
        usage = run([Call("setup", {"model": "c.bin", "vk_path": "vk", …})], work, seconds=60, error=ProverError)
        vk = (work / "vk").read_bytes()

Paths in a call are relative to the folder, which the parent deletes. Nothing here imports torch or numpy.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REASON = 600  # characters of a reason kept


@dataclass(frozen=True, slots=True)
class Call:
    """A function of ezkl by its name, and its arguments. ``run_args``, where there are any, become a ``PyRunArgs``."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds of each stage, and the process's largest resident set in bytes."""

    seconds: dict[str, float]
    rss: int


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder that only this user can read; gone afterwards in every case."""
    with tempfile.TemporaryDirectory(prefix="circuits-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def run(
    calls: Sequence[Call],
    work: Path,
    *,
    seconds: float,
    error: Callable[[str], Exception],
    memory: int | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Usage:
    """Do ``calls`` in order, in a new process, within ``seconds`` and ``memory`` bytes of address space.

    Raises ``error(reason)`` when one of them fails, panics, answers anything but success, takes too long or is killed.
    """
    job = work / "job.json"
    job.write_text(json.dumps({"memory": memory, "calls": [[call.name, call.arguments] for call in calls]}))
    late = threading.Event()
    with (work / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).resolve()), str(job)],
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
            env={**os.environ, "EZKL_REPO_PATH": str(work), "RUST_BACKTRACE": "0"},
        )

    def stop() -> None:
        late.set()
        _kill(process)

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    messages: list[dict[str, Any]] = []
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if not line.endswith(b"\n"):
                break  # killed while it wrote
            message = json.loads(line)
            messages.append(message)
            if "stage" in message:
                on_stage(message["stage"])
        process.wait()
    finally:
        timer.cancel()
        _kill(process)
        process.wait()
        process.stdout.close()
    last = messages[-1] if messages else {}
    stage = next((message["stage"] for message in reversed(messages) if "stage" in message), "start")
    if process.returncode == 0 and "done" in last:
        return Usage(last["done"], last["rss"])
    if late.is_set():
        raise error(f"{stage} took longer than the limit of {seconds:g} seconds")
    if process.returncode == -signal.SIGKILL:
        raise error(f"{stage} was killed by the system, as happens when memory runs out")
    reason = last.get("error") or (work / "stderr").read_bytes()[-REASON:].decode(errors="replace").strip()
    raise error(f"{stage} failed: {reason or f'the process ended with status {process.returncode}'}")


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def _limit(memory: int | None) -> None:
    """This process's address space, and its place in the queue when the system runs out of memory: first."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _call(ezkl: Any, name: str, arguments: dict[str, Any]) -> None:
    if "run_args" in arguments:
        values = ezkl.PyRunArgs()
        for key, value in arguments["run_args"].items():
            setattr(values, key, tuple(value) if key == "lookup_range" else value)
        arguments = {**arguments, "run_args": values}
        arguments["py_run_args"] = arguments.pop("run_args")
    answer = getattr(ezkl, name)(**arguments)
    if answer is not True and (name in ("verify", "mock") or answer is False):
        raise RuntimeError(f"ezkl answered {answer!r}")


def main(path: str) -> None:
    """The child: the job at ``path``; one JSON line for each stage, and a last one."""
    job = json.loads(Path(path).read_text())
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever ezkl prints is not an answer
    _limit(job["memory"])
    seconds: dict[str, float] = {}
    try:
        import ezkl

        for name, arguments in job["calls"]:
            print(json.dumps({"stage": name}), file=answers)
            began = time.perf_counter()
            _call(ezkl, name, arguments)
            seconds[name] = time.perf_counter() - began
    except BaseException as caught:  # a Rust panic is not an Exception
        print(json.dumps({"error": f"{type(caught).__name__}: {caught}"[:REASON]}), file=answers, flush=True)
        os._exit(1)
    print(json.dumps({"done": seconds, "rss": _peak()}), file=answers, flush=True)
    os._exit(0)


def _peak() -> int:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main(sys.argv[1])
