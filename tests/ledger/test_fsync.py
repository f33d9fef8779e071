"""A disk whose fsync fails: the append fails, too; nothing acknowledged is lost, and nothing forked is signed."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import Server, server

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def library() -> Iterator[Path]:
    """Preloaded, it lets fsync fail when told so. In a folder that PostgreSQL's user can read."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("a C compiler (cc) on Linux is needed to let fsync fail")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        built = Path(name) / "failing_fsync.so"
        source = str(HERE / "failing_fsync.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(built), source, "-ldl"], check=True)
        yield built


def run(place: str, mark: Path, flag: Path, running: Server | None = None, **environment: str) -> None:
    command = [sys.executable, str(HERE / "fsync_writer.py"), place, str(mark), str(flag)]
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1])} | environment
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) as writer:
        while writer.poll() is None:
            if running is not None and not running.is_up() and not flag.exists():
                running.start()  # as whatever looks after a service would
            time.sleep(0.05)
        assert writer.stderr is not None
        assert writer.returncode == 0, writer.stderr.read().decode()[-3000:]


def test_fsync_that_fails_under_sqlite(library: Path, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    run(str(tmp_path / "log.db"), tmp_path / "mark", flag, LD_PRELOAD=str(library), FAILING_FSYNC=str(flag))


def test_fsync_that_fails_under_postgresql(library: Path, tmp_path: Path) -> None:
    """The server gives up, loses its memory, and reads what the disk has; sometimes it has to be started again for that."""
    with server(environment={"LD_PRELOAD": str(library), "FAILING_FSYNC": "flag"}) as running:
        run(running.url(), tmp_path / "mark", running.data / "flag", running)
