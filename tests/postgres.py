"""A PostgreSQL server of the tests' own: Debian's program, in a temporary folder, on a Unix socket only, stopped at the end."""

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

USER = "postgres"
"""PostgreSQL does not run as root: then it runs as this one."""
_schemas = count()


def programs() -> Path | None:
    """The folder with the newest ``initdb`` and ``postgres``, or None."""
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int("0" + folder.parent.name.split(".")[0])
    )
    found = [folder for folder in folders if (folder / "initdb").exists()]
    if not found and (path := shutil.which("initdb")):
        found = [Path(path).parent]
    return found[-1] if found else None


class Server:
    """``settings`` go to the command line: ``["fsync=off"]``; the environment is the server's."""

    def __init__(self, settings: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
        self._programs = programs()
        assert self._programs is not None, "install postgresql first"
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))  # sockets need short names
        self.data = self.folder / "data"
        self._settings = list(settings)
        self._environment = os.environ | dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        if os.getuid() == 0:
            shutil.chown(self.folder, USER)
        self.folder.chmod(0o755)
        self._run(
            "initdb", "-D", str(self.data), "-U", "ledger", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"
        )
        atexit.register(self.remove)

    def _command(self, program: str, *arguments: str) -> list[str]:
        assert self._programs is not None
        command = [str(self._programs / program), *arguments]
        if os.getuid() == 0:
            command = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "--pdeathsig=KILL", *command]
        return command

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(self._command(program, *arguments), capture_output=True, cwd="/", check=False)
        assert done.returncode == 0, done.stderr.decode()

    def start(self) -> "Server":
        settings = ["listen_addresses=", "shared_buffers=16MB", "max_connections=60", *self._settings]
        options = [part for setting in settings for part in ("-c", setting)]
        with (self.folder / "log").open("ab") as log:
            command = self._command("postgres", "-D", str(self.data), "-k", str(self.folder), *options)
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd="/", start_new_session=True, env=self._environment
            )
        end = time.monotonic() + 30
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < end, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.02)
        return self

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url(""), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def is_up(self) -> bool:
        """Whether it runs; it may not answer yet."""
        return self._process is not None and self._process.poll() is None

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """SIGQUIT: at once, without writing anything back, as if the machine had stopped; SIGINT: in order."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def kill(self) -> None:
        """SIGKILL for the server and all of its processes."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(30)
            self._process = None
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def remove(self) -> None:
        atexit.unregister(self.remove)
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, schema: str | None = None) -> str:
        """Where a log can be; a new schema each time, unless one is named."""
        name = f"log{next(_schemas)}" if schema is None else schema
        return f"postgresql://ledger@/postgres?host={self.folder}" + (f"#{name}" if name else "")


@contextmanager
def server(settings: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A running server; skips the test where PostgreSQL or its driver is not installed."""
    import pytest

    pytest.importorskip("psycopg", reason="the PostgreSQL driver is not installed: pip install 'psycopg[binary]'")
    if programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    if os.getuid() == 0 and USER not in (entry.pw_name for entry in pwd.getpwall()):
        pytest.skip(f"PostgreSQL does not run as root, and there is no user {USER}")
    made = Server(settings, environment)
    try:
        yield made.start()
    finally:
        made.remove()
