"""The child of :mod:`circuits.child`: a script that does the calls of a job, and imports nothing of this package.

::

    python -P child_main.py job.json        # {"parent": 4711, "memory": null, "calls": [["gen_srs", {…}]]}
    {"stage": "gen_srs"}
    {"done": {"gen_srs": 0.4}, "rss": 41000000}

A parent that is killed can neither stop this process, which has a session of its own, nor remove the job's folder and the
private inputs in it. A second process, the watch, does both. It needs Linux's pidfd; elsewhere the calls go on to their end, and
the folder goes when :func:`circuits.child.folder` is next used.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

REASON = 600  # characters of a reason kept


def _watch(parent: int, work: Path) -> int | None:
    """Start the process that outlives ``parent`` and this process; its id, or None where the system cannot have one."""
    try:
        end = os.pidfd_open(parent)
    except (AttributeError, OSError):
        if os.getppid() != parent:  # it ended before we looked
            shutil.rmtree(work, ignore_errors=True)
            os._exit(1)
        return None
    calls = os.getpid()
    watch = os.fork()
    if watch:
        os.close(end)
        return watch
    os.close(1)  # or the parent waits for more lines
    while True:
        done = os.getppid() != calls
        if select.select([end], [], [], 0.0 if done else 1.0)[0]:
            break
        if done:
            os._exit(0)  # the parent is alive, and the folder is its own
    while os.getppid() == calls:
        os.kill(calls, signal.SIGKILL)
        time.sleep(0.02)
    shutil.rmtree(work, ignore_errors=True)
    os._exit(0)


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
    watch = _watch(job["parent"], Path(path).parent)
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
        _end(watch, 1)
    print(json.dumps({"done": seconds, "rss": _peak()}), file=answers, flush=True)
    _end(watch, 0)


def _end(watch: int | None, status: int) -> None:
    """At once: after a panic there is nothing to tidy up."""
    if watch is not None:
        os.kill(watch, signal.SIGKILL)
        os.waitpid(watch, 0)
    os._exit(status)


def _peak() -> int:
    """Bytes. Linux carries ru_maxrss from the parent over exec, and counts this process alone in VmHWM."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main(sys.argv[1])
