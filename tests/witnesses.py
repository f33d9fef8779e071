"""Witnesses to test with: real ones behind HTTP on this machine, and the tools to make others that lie.

::

    with Village(tmp_path, log_keys, "a.example", "b.example") as village:
        policy = village.policy("group q 2 a b", "quorum q")      # names up to the first dot
        village["a"].stop()
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn

from ledger.note import VerifierKey
from ledger.policy import Policy
from ledger.witness import Witness
from ledger.witness_key import WitnessKey
from ledger.witness_server import app


class Server:
    """An ASGI application on a port of its own, which it keeps when it is stopped and started again."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        listener = socket.create_server(("127.0.0.1", self._port))
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._application, log_level="critical", lifespan="off", timeout_graceful_shutdown=1, timeout_keep_alive=60
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()
        wait_for(lambda: self._server.started)
        self._listener = listener

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()


@contextmanager
def serving(application: Any) -> Iterator[str]:
    """Its URL."""
    server = Server(application)
    try:
        yield server.url
    finally:
        server.stop()


class Villager:
    """One witness, its database and its server."""

    def __init__(self, folder: Path, name: str, log_keys: Sequence[VerifierKey], *, post_quantum: bool) -> None:
        self.key = WitnessKey.generate(name, post_quantum=post_quantum)
        self.now: float | None = None
        self.witness = Witness.create(folder / f"{name}.db", self.key, lambda: self.now or time.time())
        self.witness.follow(log_keys)
        self.requests: list[bytes] = []
        self.before: Callable[[bytes], None] = lambda body: None
        asked = self.witness.add_checkpoint

        def add_checkpoint(body: bytes) -> Any:
            self.before(body)
            self.requests.append(body)
            return asked(body)

        self.witness.add_checkpoint = add_checkpoint  # type: ignore[method-assign]
        self._server = Server(app(self.witness))
        self.url, self.stop, self.start = self._server.url, self._server.stop, self._server.start
        self.is_up = True

    def close(self) -> None:
        self._server.stop()
        self.witness.close()


class Village:
    """Witnesses by the first part of their names."""

    def __init__(self, folder: Path, log_keys: Sequence[VerifierKey], *names: str, post_quantum: bool = False) -> None:
        self._all = {name.split(".")[0]: Villager(folder, name, log_keys, post_quantum=post_quantum) for name in names}

    def __getitem__(self, name: str) -> Villager:
        return self._all[name]

    def policy(self, *lines: str) -> Policy:
        """Each witness by its first key, then ``lines``."""
        known = [f"witness {name} {one.key.verifier_keys[0].format()} {one.url}" for name, one in self._all.items()]
        return Policy.parse(("\n".join([*known, *lines]) + "\n").encode())

    def __enter__(self) -> "Village":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for villager in self._all.values():
            villager.close()


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Poll until ``condition`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"it did not come true within {seconds} s")
        time.sleep(0.005)
