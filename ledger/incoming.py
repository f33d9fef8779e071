"""What comes with a request, within limits: headers that parse in one way only, and a body of bounded size and time.

::

    Authorization: Bearer 4fzyo82m…
    Content-Type: application/vnd.dsse.envelope.v1+json
    If-Match: "42"
"""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from ledger.errors import EntryTooLargeError, LedgerError, MalformedError, TokenError
from ledger.openapi import BYTES_TYPE, ENVELOPE_TYPE
from ledger.tiles import MAX_ENTRY_SIZE

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_DRAINED = 1 << 20
"""Bytes of an unwanted body that are read, so that the client gets to read why it is unwanted."""
DRAIN_TIME = 3.0
_TOKEN = re.compile(r"bearer +([A-Za-z0-9._~+/=-]{1,512})", re.IGNORECASE)
_SIZE = re.compile(r'"(0|[1-9][0-9]{0,17})"')


class SlowError(LedgerError):
    """A body took too long to arrive."""


class GoneError(LedgerError):
    """The client hung up before it had sent everything."""


class MediaError(LedgerError):
    """A body of another type than bytes or a DSSE envelope, or one that is compressed."""


def token(request: "Request") -> str | None:
    """The bearer token (RFC 6750), or None. Raises TokenError for more than one, and for other schemes."""
    values = request.headers.getlist("authorization")
    if not values:
        return None
    match = _TOKEN.fullmatch(values[0]) if len(values) == 1 else None
    if match is None:
        raise TokenError("expected one header 'Authorization: Bearer TOKEN'")
    return match[1]


def expected_size(request: "Request") -> int | None:
    """The tree size that If-Match names, or None without the header. Raises MalformedError."""
    values = request.headers.getlist("if-match")
    if not values:
        return None
    match = _SIZE.fullmatch(values[0]) if len(values) == 1 else None
    if match is None:
        raise MalformedError(f"If-Match is {', '.join(values)[:80]!r}, expected one tree size like '\"42\"'")
    return int(match[1])


def check_type(request: "Request") -> None:
    """Raise MediaError unless the body is said to be bytes or an envelope; nothing said is fine."""
    kinds = [value.partition(";")[0].strip().lower() for value in request.headers.getlist("content-type")]
    if len(kinds) > 1 or any(kind not in (BYTES_TYPE, ENVELOPE_TYPE) for kind in kinds):
        raise MediaError(f"the body's type is {', '.join(kinds)[:80]!r}, expected {BYTES_TYPE} or {ENVELOPE_TYPE}")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise MediaError("expected a body that is not compressed")


class Body:
    """A request's body, read once: as an entry, or to be rid of it. ``seconds``: how long it may take to arrive."""

    def __init__(self, request: "Request", seconds: float) -> None:
        self._request = request
        self._seconds = seconds
        self._complete = False
        declared = request.headers.get("content-length", "")
        self._declared = int(declared[:19]) if declared.isdecimal() else 0

    async def _parts(self) -> AsyncIterator[bytes]:
        while not self._complete:
            message = await self._request.receive()
            if message["type"] == "http.disconnect":
                raise GoneError("the client hung up")
            self._complete = not message.get("more_body", False)
            yield message.get("body", b"")

    async def entry(self) -> bytes:
        """All of it, if it is no larger than an entry can be. Raises EntryTooLargeError, SlowError and GoneError."""
        if self._declared > MAX_ENTRY_SIZE:
            raise _too_large()
        received = bytearray()
        try:
            async with asyncio.timeout(self._seconds):
                async for part in self._parts():
                    received += part
                    if len(received) > MAX_ENTRY_SIZE:
                        raise _too_large()
        except TimeoutError as error:
            raise SlowError(f"the body took longer than {self._seconds:g} s to arrive") from error
        return bytes(received)

    async def drain(self) -> bool:
        """Read what is left, unwanted; False if it is too much, or too slow: then close the connection."""
        size = 0
        if self._declared > MAX_DRAINED:
            return False
        try:
            async with asyncio.timeout(min(self._seconds, DRAIN_TIME)):
                async for part in self._parts():
                    size += len(part)
                    if size > MAX_DRAINED:
                        return False
        except (TimeoutError, GoneError):
            return False
        return True


def _too_large() -> EntryTooLargeError:
    return EntryTooLargeError(f"expected an entry of at most {MAX_ENTRY_SIZE:,} bytes (C2SP tlog-tiles)")
