"""A witness over HTTP: C2SP tlog-witness on Starlette, submission and monitoring prefix alike.

::

    POST /add-checkpoint                               ask for a cosignature
    GET  /<hex SHA-256 of the origin>/checkpoint       what was cosigned last
    GET  /health                                       200 if the database answers

Nobody is authenticated but by the log's signature, so a request costs little before that is checked: its size and the time to
send it are limited, and what has no signature of a log that is followed is only read, never written.
"""

import asyncio
import re
import socket

from ledger.errors import LedgerError, MissingExtraError
from ledger.witness import MAX_REQUEST_SIZE, PLAIN, Reply, Witness

try:
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import Response
    from starlette.routing import Route
except ModuleNotFoundError as missing:
    raise MissingExtraError(f"expected the package {missing.name}: pip install 'unlearning-ledger[serve]'") from missing

BODY_TIME = 20.0
"""Seconds that a request's body may take to arrive."""
_HASH = re.compile(r"[0-9a-f]{64}")


def app(witness: Witness, *, body_time: float = BODY_TIME) -> Starlette:
    """The ASGI application. ``witness`` stays the caller's to close."""

    async def add_checkpoint(request: Request) -> Response:
        try:
            async with asyncio.timeout(body_time):
                body = await _body(request)
        except TimeoutError:
            return _response(Reply(408, b"the request took too long to arrive\n"))
        except ClientDisconnect:
            return _response(Reply(400, b"the request ended early\n"))
        if body is None:
            return _response(Reply(413, b"expected at most %d bytes\n" % MAX_REQUEST_SIZE))
        return _response(await run_in_threadpool(witness.add_checkpoint, body))

    async def checkpoint(request: Request) -> Response:
        hash_ = request.path_params["hash"]
        try:
            note = await run_in_threadpool(witness.checkpoint, hash_) if _HASH.fullmatch(hash_) else None
        except LedgerError as error:
            return _response(Reply(503, f"{error}\n".encode()))
        if note is None:
            return _response(Reply(404, b"no checkpoint of such a log was cosigned here\n"))
        return _response(Reply(200, note))

    async def health(_: Request) -> Response:
        try:
            logs = await run_in_threadpool(witness.followed)
        except LedgerError as error:
            return _response(Reply(503, f"{error}\n".encode()))
        return _response(Reply(200, b"following %d logs\n" % len(logs)))

    return Starlette(
        routes=[
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/{hash}/checkpoint", checkpoint, methods=["GET"]),
            Route("/health", health, methods=["GET"]),
        ]
    )


async def _body(request: Request) -> bytes | None:
    """The request's body; None if it is too long."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_REQUEST_SIZE:
            return None
        parts.append(part)
    return b"".join(parts)


def _response(reply: Reply) -> Response:
    headers = {"Content-Type": reply.type, "Cache-Control": "no-store"}
    if reply.type == PLAIN:
        headers["X-Content-Type-Options"] = "nosniff"
    return Response(reply.body, reply.status, headers)


def run(application: Starlette, listener: socket.socket) -> None:
    """Serve on an open socket until the process is told to stop."""
    import uvicorn

    config = uvicorn.Config(
        application,
        log_level="warning",
        limit_concurrency=256,
        timeout_keep_alive=65,  # logs come back: tlog-witness asks for keep-alive
        h11_max_incomplete_event_size=1 << 14,
        timeout_graceful_shutdown=5,
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[listener])
