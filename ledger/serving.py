"""Run an ASGI application on uvicorn, with limits on what one client may hold on to: connections, time, headers.

uvicorn leaves these to a proxy in front. Here a connection is closed when

- nothing comes over it for ``idle`` seconds, or something else than a request does;
- a request is not complete, headers and body, ``request`` seconds after its first byte, however steadily it trickles;
- its headers have more than ``head`` bytes;
- a reply is not taken within ``reply`` seconds;
- there are ``connections`` others.

::

    serve(app, host="127.0.0.1", port=8080, announce=print)     # http://127.0.0.1:8080, until SIGTERM or SIGINT

On the first signal no more is accepted, and what has begun is answered.
"""

import json
import signal
import socket
import threading
from asyncio import AbstractEventLoop, TimerHandle, Transport
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ledger.errors import LedgerError, MissingExtraError

try:
    import uvicorn
    from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
except ModuleNotFoundError as missing:
    raise MissingExtraError(f"expected the package {missing.name}: pip install 'unlearning-ledger[serve]'") from missing

if TYPE_CHECKING:
    from starlette.types import ASGIApp

STOP_TIME = 30
"""Seconds that requests get to finish when the server is stopped."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Seconds, bytes and numbers: see the module."""

    idle: float = 15.0
    request: float = 30.0
    reply: float = 120.0
    head: int = 16 << 10
    connections: int = 512


def serve(
    app: "ASGIApp",
    *,
    host: str,
    port: int,
    announce: Callable[[str], None] = lambda url: None,
    limits: ConnectionLimits | None = None,
) -> None:
    """Serve until a signal comes. ``port`` 0 is any free one; ``announce`` is given the URL once requests are accepted."""
    listener, url = listen(host, port)
    with _signals_end_it_well():
        server(app, lambda: announce(url), limits).run(sockets=[listener])


def server(
    app: "ASGIApp", started: Callable[[], None] = lambda: None, limits: ConnectionLimits | None = None
) -> uvicorn.Server:
    """A server for :func:`listen`'s socket: ``server(app).run(sockets=[listener])`` returns after ``should_exit`` is set."""
    chosen = limits or ConnectionLimits()

    def protocol(**more: Any) -> HttpToolsProtocol:
        return _LimitedProtocol(chosen, **more)

    config = uvicorn.Config(
        app,
        http=protocol,  # type: ignore[arg-type]
        loop="auto",  # uvloop, where there is one
        ws="none",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=max(1, int(chosen.idle)),
        timeout_graceful_shutdown=STOP_TIME,
    )
    return _Server(config, started)


def listen(host: str, port: int) -> tuple[socket.socket, str]:
    """A socket that listens, and its URL. Raises LedgerError."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        raise LedgerError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
    return listener, f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()


@contextmanager
def _signals_end_it_well() -> Iterator[None]:
    """uvicorn raises the signal that stopped it once more, at the end: without this, the process would die of it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _LimitedProtocol(HttpToolsProtocol):
    """One connection. A timer is only set for what does not come at once, so that the usual request costs nothing more."""

    def __init__(
        self,
        limits: ConnectionLimits,
        config: uvicorn.Config,
        server_state: Any,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._timer: TimerHandle | None = None
        self._reply_timer: TimerHandle | None = None
        self._running: RequestResponseCycle | None = None
        self._in_request = self._in_head = self._began = False
        self._head = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self._refuse(503, "BusyError", "too many connections: try again later", b"retry-after: 1\r\n")
        else:
            self._set_timer(self._limits.idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self.resume_writing()
        for cycle, _ in self.pipeline:
            cycle.disconnected = True
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True  # uvicorn tells the last request only
            self._running.message_event.set()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        before = self._in_request
        self._began = False
        super().data_received(data)
        if self._in_request:
            if not before or self._timer is None:
                self._set_timer(self._limits.request)
            if self._in_head:
                self._head += len(data)
                if self._head > self._limits.head:
                    self._refuse(431, "MalformedError", f"expected headers of at most {self._limits.head:,} bytes")
        elif self.cycle is not None and not self.cycle.response_complete:
            self._stop_timer()  # it is the server's turn
        elif before or self._began:
            self._set_timer(self._limits.idle)  # the end of a body that nobody waited for
        else:
            self.transport.close()  # neither a request nor a part of one

    def on_message_begin(self) -> None:
        self._in_request = self._in_head = self._began = True
        self._head = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_request = False
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._reply_timer is None:
            self._reply_timer = self.loop.call_later(self._limits.reply, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reply_timer is not None:
            self._reply_timer.cancel()
            self._reply_timer = None

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "MalformedError", "expected an HTTP request")

    def _refuse(self, status: int, name: str, message: str, more: bytes = b"") -> None:
        body = json.dumps({"error": name, "message": message}).encode()
        self.transport.write(
            STATUS_LINE[status] + b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
            + more + b"connection: close\r\n\r\n" + body
        )  # fmt: skip
        self.transport.close()

    def _set_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
