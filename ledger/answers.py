"""Errors as HTTP answers: a status, and JSON that says what is wrong. No paths of the server's disk, no tracebacks.

::

    HTTP/1.1 403 Forbidden
    {"error": "AdmissionError", "message": "…"}
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ledger.errors import (
    AdmissionError,
    BusyError,
    ConflictError,
    EntryTooLargeError,
    LedgerError,
    MalformedError,
    MissingError,
    RateError,
    StorageError,
    TokenError,
    WitnessError,
)
from ledger.incoming import GoneError, MediaError, SlowError

if TYPE_CHECKING:
    from starlette.responses import JSONResponse

_logger = logging.getLogger("ledger.server")

_STATUS: tuple[tuple[type[LedgerError], int], ...] = (  # subclasses first
    (TokenError, 401),
    (AdmissionError, 403),
    (MissingError, 404),
    (SlowError, 408),
    (GoneError, 400),
    (ConflictError, 412),
    (EntryTooLargeError, 413),
    (MediaError, 415),
    (RateError, 429),
    (BusyError, 503),
    (WitnessError, 503),
    (StorageError, 503),
    (MalformedError, 400),
)
_PLAIN = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_BUSY, _BROKEN = {"Retry-After": "1"}, {"Retry-After": "5"}


def refusal(error: LedgerError, *, close: bool = False) -> "JSONResponse":
    """The answer to a request that failed. ``close``: the connection too, since its body is still being sent."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    message = str(error)
    headers: dict[str, str] = {}
    if isinstance(error, StorageError) or status == 500:
        _logger.error("%s: %s", type(error).__name__, error)
        message = "the log's storage failed, its operator has been told why"
    if status in (429, 503):
        headers = _BUSY if isinstance(error, BusyError) else _BROKEN
    if status == 401:
        headers = {"WWW-Authenticate": "Bearer"}
    if close:
        headers = headers | {"Connection": "close"}
    return answer(status, type(error).__name__, message, headers)


def answer(status: int, name: str, message: str, headers: Mapping[str, str] | None = None) -> "JSONResponse":
    """An error by its name."""
    from starlette.responses import JSONResponse

    return JSONResponse({"error": name, "message": message}, status, {**_PLAIN, **(headers or {})})
