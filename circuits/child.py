"""EZKL calls in a process of their own, so that a panic, a hang or the out-of-memory killer ends that process and not
its caller.

The parent writes a job, starts ``child_main.py`` as a script, and reads one JSON line for each stage::

    with folder() as work:
        usage = run([Call("setup", {"model": "c.bin", "vk_path": "vk", …})], work, seconds=60, error=ProverError)
        vk = (work / "vk").read_bytes()

Paths in a call are relative to the folder, which the parent deletes. A parent that was killed cannot: then the child ends too
and deletes it, and what a machine that failed left behind goes at the next start. Nothing here imports torch or numpy.
"""

import contextlib
import functools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REASON = 600  # characters of a reason kept
PREFIX = "circuits-job-"
AWAKE = 0.3  # seconds: how often a parent that waits looks up
YOUNG = 60.0  # seconds that a folder may exist without being locked


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
    _sweep(tempfile.gettempdir())
    with (
        tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name,
        contextlib.ExitStack() as stack,
    ):
        with contextlib.suppress(OSError):  # a file system without locks: then nobody sweeps it either
            stack.enter_context(_locked(name))
        yield Path(name)


@functools.cache
def _sweep(place: str) -> None:
    """Remove the folders there that processes of this user left when they were killed: those that nobody holds a lock on."""
    for left in Path(place).glob(PREFIX + "*"):
        with contextlib.suppress(OSError):
            found = left.lstat()
            if found.st_uid == os.getuid() and time.time() - found.st_mtime > YOUNG:
                with _locked(left):
                    shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _locked(name: str | Path) -> Iterator[None]:
    """A lock on the folder itself, which the system takes away when this process ends. Raises OSError where another has it."""
    import fcntl

    held = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(held)


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
    content = {"parent": os.getpid(), "memory": memory, "calls": [[call.name, call.arguments] for call in calls]}
    job.write_text(json.dumps(content))
    until = time.monotonic() + seconds
    with (work / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).resolve().with_name("child_main.py")), str(job.resolve())],
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
            env={**os.environ, "EZKL_REPO_PATH": str(work), "RUST_BACKTRACE": "0"},
        )
    messages: list[dict[str, Any]] = []
    late = True
    try:
        for line in _lines(process, until):
            message = json.loads(line)
            messages.append(message)
            if "stage" in message:
                on_stage(message["stage"])
        process.wait(max(0.0, until - time.monotonic()))
        late = False
    except subprocess.TimeoutExpired:
        pass
    finally:
        _kill(process)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    last = messages[-1] if messages else {}
    stage = next((message["stage"] for message in reversed(messages) if "stage" in message), "start")
    if process.returncode == 0 and "done" in last:
        return Usage(last["done"], last["rss"])
    if late:
        raise error(f"{stage} took longer than the limit of {seconds:g} seconds")
    if process.returncode == -signal.SIGKILL:
        raise error(f"{stage} was killed by the system, as happens when memory runs out")
    reason = last.get("error") or (work / "stderr").read_bytes()[-REASON:].decode(errors="replace").strip()
    raise error(f"{stage} failed: {reason or f'the process ended with status {process.returncode}'}")


def _lines(process: "subprocess.Popen[bytes]", until: float) -> Iterator[bytes]:
    """Its whole lines as they come. Raises TimeoutExpired at ``until``.

    Reading never blocks for long: an interrupt that is no signal, as Ray's are, is only seen between two system calls.
    """
    assert process.stdout is not None
    source, read = process.stdout.fileno(), b""
    while True:
        left = until - time.monotonic()
        if left <= 0:
            raise subprocess.TimeoutExpired(process.args, left)
        if select.select([source], [], [], min(AWAKE, left))[0]:
            new = os.read(source, 1 << 16)
            if not new:
                return  # what has no end of line was cut off when the process was killed
            *lines, read = (read + new).split(b"\n")
            yield from lines


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
