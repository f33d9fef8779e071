"""A log that is really served, on a free port of this machine, and raw requests to it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from ledger.errors import AdmissionError, TokenError
from ledger.log import Log
from ledger.server import Admit, Limits, app
from ledger.serving import ConnectionLimits, listen, server

TOKEN = "let-me-in"
DEADLINE = 30.0


@dataclass
class Holder:
    """Anything may be logged but what begins with ``refused``."""

    name: str = "tests"

    def check(self, entry: bytes) -> None:
        if entry.startswith(b"refused"):
            raise AdmissionError("expected something else")


def admit(token: str | None) -> Holder:
    if token != TOKEN:
        raise TokenError("expected the token of the tests")
    return Holder()


@dataclass
class Answer:
    """An HTTP answer, headers in lower case."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def read(cls, connection: socket.socket, *, method: str = "GET") -> "Answer | None":
        """The next answer on a connection; None if it ends before one is complete."""
        data = b""
        with suppress(ConnectionResetError):
            while b"\r\n\r\n" not in data:
                if not (more := connection.recv(1 << 16)):
                    return None
                data += more
            head, _, body = data.partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            length = 0 if method == "HEAD" else int(headers.get("content-length", "0"))
            while len(body) < length:
                if not (more := connection.recv(1 << 16)):
                    return None
                body += more
            return cls(int(first.split()[1]), headers, body)
        return None


@dataclass
class Served:
    """``url``, and a connection to it with :meth:`connect`."""

    url: str
    log: Log

    def connect(self) -> socket.socket:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return socket.create_connection((host, int(port)), timeout=DEADLINE)

    def raw(self, data: bytes, *, method: str = "GET") -> Answer | None:
        """The answer to some bytes."""
        with self.connect() as connection:
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(data)
            return Answer.read(connection, method=method)

    def get(self, path: str, *, method: str = "GET", headers: str = "") -> Answer:
        answer = self.raw(f"{method} /{path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode(), method=method)
        assert answer is not None
        return answer

    def append(self, entry: bytes, *, token: str | None = TOKEN, headers: str = "") -> Answer:
        answer = self.raw(append_request(entry, token=token, headers=headers))
        assert answer is not None
        return answer


def append_request(entry: bytes, *, token: str | None = TOKEN, headers: str = "", length: int | None = None) -> bytes:
    authorization = f"Authorization: Bearer {token}\r\n" if token is not None else ""
    size = len(entry) if length is None else length
    head = f"POST /append HTTP/1.1\r\nHost: x\r\n{authorization}Content-Length: {size}\r\n{headers}\r\n"
    return head.encode() + entry


@contextmanager
def serving(
    log: Log,
    *,
    admit: Admit | None = admit,
    limits: Limits | None = None,
    connections: ConnectionLimits | None = None,
) -> Iterator[Served]:
    listener, url = listen("127.0.0.1", 0)
    ready = threading.Event()
    running = server(app(log, admit=admit, limits=limits), ready.set, connections)
    thread = threading.Thread(target=lambda: running.run(sockets=[listener]), daemon=True)
    thread.start()
    assert ready.wait(DEADLINE)
    try:
        yield Served(url, log)
    finally:
        running.should_exit = True
        thread.join(DEADLINE)
        assert not thread.is_alive()
