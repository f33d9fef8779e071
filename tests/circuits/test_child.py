"""What is left of a job when the process that asked for it is killed: nothing that runs, and no file."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from circuits import child

LINUX = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux's pidfd")
PARENT = """
from circuits import child
with child.folder() as work:
    (work / "input").write_text("private")
    calls = [child.Call("gen_srs", {"srs_path": "srs", "logrows": 22})]
    child.run(calls, work, seconds=600, error=ValueError, on_stage=lambda stage: print(stage, flush=True))
"""


def eventually(holds: Callable[[], object], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it never held"
        time.sleep(0.05)


def children_of(folder: Path) -> list[int]:
    """Processes that work in ``folder``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if b"child_main.py" in command and os.fsencode(folder) in command:
            found.append(int(process.name))
    return found


@LINUX
@pytest.mark.parametrize("victim", [signal.SIGKILL, signal.SIGTERM])
def test_a_parent_that_is_killed_leaves_neither_a_process_nor_a_file(tmp_path: Path, victim: signal.Signals) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"gen_srs\n"
        assert children_of(tmp_path)
        assert len(list(tmp_path.glob("*/input"))) == 1
        parent.send_signal(victim)
    eventually(lambda: not children_of(tmp_path))
    eventually(lambda: not list(tmp_path.iterdir()))


@LINUX
def test_a_child_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    def kill(stage: str) -> None:
        for process in children_of(tmp_path):
            if Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1] == str(os.getpid()):
                os.kill(process, signal.SIGKILL)

    call = child.Call("gen_srs", {"srs_path": "srs", "logrows": 20})
    with pytest.raises(ValueError, match="gen_srs was killed by the system"):
        child.run([call], tmp_path, seconds=60, error=ValueError, on_stage=kill)
    assert (tmp_path / "job.json").is_file()  # the folder is its parent's to remove
    eventually(lambda: not children_of(tmp_path))
    assert (tmp_path / "job.json").is_file()


def test_folders_of_a_machine_that_failed_go_at_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left, held, young, other = (tmp_path / name for name in ("circuits-job-1", "circuits-job-2", "circuits-job-3", "x"))
    for made in (left, held, young, other):
        made.mkdir()
        (made / "input").write_text("private")
        if made != young:
            os.utime(made, (0, 0))
    (tmp_path / "circuits-job-4").symlink_to(other)
    os.utime(tmp_path / "circuits-job-4", (0, 0), follow_symlinks=False)
    monkeypatch.setattr(child.tempfile, "tempdir", str(tmp_path))
    lock = os.open(held, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with child.folder() as work:
        assert sorted(tmp_path.iterdir()) == sorted({held, young, other, tmp_path / "circuits-job-4", work})
        os.utime(work, (0, 0))
        child._sweep.__wrapped__(str(tmp_path))
        assert work.is_dir()  # this process has a lock on it
    os.close(lock)
    assert (other / "input").read_text() == "private"
    assert not work.exists()
