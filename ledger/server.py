"""A log over HTTP: C2SP tlog-tiles for whoever reads, and an endpoint to append. A Starlette application around a Log.

::

    GET  /checkpoint                             the newest signed checkpoint
    GET  /tile/<level>/<number>[.p/<width>]      hashes          GET /tile/entries/…      entries
    POST /append                                 an entry; answered by its tlog-proof once it is durable and included
    GET  /find?leaf=<hex>                        {"index": 7}, or null
    GET  /health    /metrics    /openapi.json

Who may append is for ``admit`` to say: given a request's token, it returns what entries have to pass, or raises TokenError.
Errors are JSON, ``{"error": "AdmissionError", "message": "…"}``. To send an append again is safe: the same bytes are logged
once. ``If-Match: "42"`` appends only to a tree of that size.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ledger import incoming
from ledger.answers import answer, refusal
from ledger.errors import LedgerError, MalformedError, MissingError, MissingExtraError, RateError, TamperedError
from ledger.group_commit import MAX_WAITING, GroupCommit
from ledger.log import Log
from ledger.merkle import leaf_hash
from ledger.metrics import CONTENT_TYPE, Metrics
from ledger.openapi import BYTES_TYPE, NOTE_TYPE, PROOF_TYPE, document
from ledger.tile_cache import TileCache
from ledger.tiles import TILE_WIDTH, parse_path

try:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Receive, Scope, Send
except ModuleNotFoundError as missing:
    raise MissingExtraError(f"expected the package {missing.name}: pip install 'unlearning-ledger[serve]'") from missing

T = TypeVar("T")

READERS = 8
"""Threads that read the database."""
HEALTH_KEPT = 1.0
"""Seconds for which a finding about the log's health is given again."""
_LEAF = re.compile("[0-9a-f]{64}")
_IMMUTABLE = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
_FRESH = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Holder(Protocol):
    """Whose token came with a request. ``name`` tells holders apart."""

    @property
    def name(self) -> str: ...

    def check(self, entry: bytes) -> None:
        """Raise AdmissionError unless this holder may append ``entry``."""


Admit = Callable[[str | None], Holder]
"""From a request's token to its holder. Raises TokenError. Called in the event loop, like ``check`` for small entries."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``body_time`` in seconds; ``checked_inline`` and ``cache`` in bytes; the others count appends that wait."""

    waiting: int = MAX_WAITING
    waiting_each: int = MAX_WAITING // 4
    body_time: float = 20.0
    checked_inline: int = 8192
    cache: int = 64 << 20


def app(log: Log, *, admit: Admit | None = None, limits: Limits | None = None) -> Starlette:
    """The ASGI application. ``log`` stays the caller's to close. Without ``admit`` there is no way to append."""
    server = _Server(log, admit, limits or Limits())
    routes = [
        Route("/tile/{path:path}", server.tile),
        Route("/checkpoint", server.checkpoint),
        Route("/find", server.find),
        Route("/health", server.health),
        Route("/metrics", server.figures),
        Route("/openapi.json", server.openapi),
    ]
    if admit is not None:
        routes.insert(0, Route("/append", server.append, methods=["POST"]))
    made = Starlette(
        routes=routes,
        middleware=[Middleware(_Front, server=server)],
        exception_handlers={LedgerError: _refused, HTTPException: _unrouted, Exception: _failed},
        lifespan=server.lifespan,
    )
    made.router.redirect_slashes = False
    return made


class _Front:
    """What comes most often, before anything is routed: tiles in memory, and appends. Paths with escapes lead nowhere."""

    def __init__(self, app: ASGIApp, server: "_Server") -> None:
        self._app = app
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif b"%" in (scope.get("raw_path") or b""):
            await answer(404, "MissingError", "no such path")(scope, receive, send)
        elif scope["method"] == "GET" and (known := self._server.cache.get(scope["path"])) is not None:
            self._server.metrics.cached_read.inc()
            await known(scope, receive, send)
        elif scope["method"] == "POST" and scope["path"] == "/append" and self._server.takes_entries:
            reply = await self._server.append(Request(scope, receive, send))
            await reply(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class _Server:
    def __init__(self, log: Log, admit: Admit | None, limits: Limits) -> None:
        self._log = log
        self._admit = admit
        self.takes_entries = admit is not None
        self._limits = limits
        self.metrics = Metrics()
        self.cache = TileCache(limits.cache)
        self._start()
        self._in_hand: Counter[str] = Counter()
        self._description = document(log.origin, appends=admit is not None)
        self._found: tuple[float, Response] | None = None
        self._looking = asyncio.Lock()

    def _start(self) -> None:
        """Threads start when there is work for them."""
        self._group = GroupCommit(self._log, max_waiting=self._limits.waiting, observe=self.metrics.committed)
        self._readers = ThreadPoolExecutor(READERS, "reader")

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(self._group.close)
        self._readers.shutdown()
        self._start()  # an application may be run again

    async def _read(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, work)
        except LedgerError as error:
            self.metrics.failed(error)
            raise

    # -- reading -----------------------------------------------------------------------------------------------------

    async def checkpoint(self, _: Request) -> Response:
        return Response(await self._read(self._log.checkpoint), 200, _FRESH, NOTE_TYPE)

    async def tile(self, request: Request) -> Response:
        path = request.url.path
        try:
            tile, is_bundle = parse_path(path.removeprefix("/"))
            data = await self._read(lambda: self._log.bundle(tile) if is_bundle else self._log.tile(tile))
        except MalformedError as error:
            raise MissingError(str(error)) from error
        self.metrics.other_read.inc()
        reply = Response(data, 200, _IMMUTABLE, BYTES_TYPE)
        if tile.width == TILE_WIDTH:
            self.cache.put(path, reply)
        return reply

    async def find(self, request: Request) -> Response:
        values = request.query_params.multi_items()
        if len(values) != 1 or values[0][0] != "leaf" or not _LEAF.fullmatch(values[0][1]):
            raise MalformedError("expected one parameter 'leaf', the SHA-256 leaf hash as 64 lower-case hex digits")
        leaf = bytes.fromhex(values[0][1])
        return JSONResponse({"index": await self._read(lambda: self._find(leaf))}, 200, _FRESH)

    def _find(self, leaf: bytes) -> int | None:
        with self._log.snapshot() as (snapshot, _):
            index = snapshot.find([leaf]).get(leaf)
        if index is None or index >= self._log.size():
            return None
        if leaf_hash(self._log.entry(index)) != leaf:
            raise TamperedError(f"storage has leaf hash {leaf.hex()} at entry {index}, which is another")
        return index

    async def health(self, _: Request) -> Response:
        async with self._looking:
            now = time.monotonic()
            if self._found is None or now - self._found[0] > HEALTH_KEPT:
                self._found = now, await self._look()
            return self._found[1]

    async def _look(self) -> Response:
        try:
            size = await self._read(self._verified_size)
        except LedgerError as error:
            return refusal(error)
        return JSONResponse({"status": "ok", "origin": self._log.origin, "size": size}, 200, _FRESH)

    def _verified_size(self) -> int:
        """The tree's size, once its newest entry has been proved under its checkpoint."""
        size = self._log.size()
        if size:
            self._log.prove(size - 1)
        self.metrics.size.set(size)
        return size

    async def figures(self, _: Request) -> Response:
        with suppress(LedgerError):
            self.metrics.size.set(await self._read(self._log.size))
        self.metrics.waiting.set(self._group.waiting)
        return Response(self.metrics.text(), 200, _FRESH, CONTENT_TYPE)

    async def openapi(self, _: Request) -> Response:
        return JSONResponse(self._description)

    # -- appending ---------------------------------------------------------------------------------------------------

    async def append(self, request: Request) -> Response:
        began = time.perf_counter()
        body = incoming.Body(request, self._limits.body_time)
        try:
            proof = await self._append(request, body)
        except LedgerError as error:
            self.metrics.refusals.labels(type(error).__name__).inc()
            slow = isinstance(error, incoming.SlowError)
            return refusal(error, close=slow or not await body.drain())
        self.metrics.seconds.observe(time.perf_counter() - began)
        return Response(proof, 200, {**_FRESH, "Content-Type": PROOF_TYPE})

    async def _append(self, request: Request, body: incoming.Body) -> bytes:
        assert self._admit is not None
        holder = self._admit(incoming.token(request))
        incoming.check_type(request)
        size = incoming.expected_size(request)
        if self._in_hand[holder.name] >= self._limits.waiting_each:
            raise RateError(f"{self._limits.waiting_each} appends with this token wait already: try again later")
        self._in_hand[holder.name] += 1
        try:
            entry = await body.entry()
            if len(entry) <= self._limits.checked_inline:
                holder.check(entry)
            else:
                await self._read(lambda: holder.check(entry))
            receipt = await self._group.append(entry, expected_size=size)
        finally:
            self._in_hand[holder.name] -= 1
            if not self._in_hand[holder.name]:
                del self._in_hand[holder.name]
        return receipt.proof


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, LedgerError)
    return refusal(error)


async def _unrouted(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return answer(405, "MethodError", "this path has other methods, see Allow", error.headers)
    return answer(error.status_code, "MissingError", "no such path: see /openapi.json", error.headers)


async def _failed(_: Request, error: Exception) -> Response:
    return answer(500, "InternalError", "this is a defect of the server", {"Connection": "close"})
