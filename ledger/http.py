"""Requests to one server, over HTTP: retried where that is safe, and never more than was asked for.

- A request is sent again after a broken connection, a time-out, 408, 429 and 500, 502, 503, 504, ever later (``Retry-After``
  counts), until ``patience`` is used up. So whatever is sent must be safe to send twice.
- A reply is read up to a limit and within a time; it may not be compressed.
- Redirects are not followed: a token never goes to another host, nor unencrypted over a network. Certificates are always
  checked; a private authority is added by the environment (``SSL_CERT_FILE``).

::

    server = Server("https://log.example/ledger")
    server.get("checkpoint", limit=1 << 20).body
"""

import email.utils
import random
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ledger.errors import LedgerError, MissingExtraError, RemoteError

if TYPE_CHECKING:
    import httpx

TIMEOUT = 10.0
"""Seconds to connect, and to wait for the next bytes."""
REPLY_TIME = 120.0
"""Seconds that one reply may take as a whole."""
PATIENCE = 30.0
"""Seconds over which a request is tried again."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_RETRIED = (408, 429, 500, 502, 503, 504)
_MAX_MESSAGE = 300
_MAX_ERROR_BODY = 1 << 16


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, headers (names in lower case) and body, and how many tries it took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    tries: int = 1

    def message(self) -> str:
        """What the server says is wrong, in one printable line."""
        text = self.body[:_MAX_ERROR_BODY].decode(errors="replace")
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            import json

            text = str(json.loads(text)["message"])
        return "".join(c if c.isprintable() else " " for c in text)[:_MAX_MESSAGE].strip()


def is_url(place: object) -> bool:
    """Whether a place is a server's URL and not a path."""
    return isinstance(place, str) and place.lower().startswith(("http://", "https://"))


def checked_url(url: str) -> str:
    """An http or https URL without user, query and fragment, and without a slash at its end. Raises LedgerError."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError as error:
        raise LedgerError(f"not a URL: {url[:120]!r} ({error})") from error
    if not usable or parts.username is not None or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise LedgerError(f"not the URL of a log: {url[:120]!r}, expected like 'https://log.example/ledger'")
    return url.rstrip("/")


def is_local(url: str) -> bool:
    """Whether a URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class Server:
    """See the module. ``token`` goes with what is posted, as a bearer token. Threads may share a server."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float = TIMEOUT,
        patience: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        try:
            import httpx
        except ModuleNotFoundError as error:
            raise MissingExtraError("expected the package httpx: pip install 'unlearning-ledger[remote]'") from error
        self.url = checked_url(url)
        try:
            httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise LedgerError(f"not a URL: {url[:120]!r} ({error})") from error
        local = is_local(self.url)
        if token is not None and not local and not self.url.startswith("https://"):
            raise LedgerError(
                f"expected an https:// URL, got {self.url}: a token is not sent unencrypted over a network"
            )
        if token is not None and not (token.isascii() and token.isprintable() and token == token.strip() and token):
            raise LedgerError("expected a token of printable ASCII characters without spaces around it")
        self._authorization = {"Authorization": f"Bearer {token}"} if token is not None else {}
        self._patience = PATIENCE if patience is None else patience
        self._clock = clock
        self._sleep = sleep
        self._broken = httpx.RequestError
        self._client = httpx.Client(
            headers={"Accept-Encoding": "identity", "User-Agent": "unlearning-ledger"},
            timeout=timeout,
            follow_redirects=False,
            trust_env=not local,  # no proxy between this machine and itself
            verify=httpx.create_ssl_context(trust_env=True),
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=64, keepalive_expiry=10),
        )

    def close(self) -> None:
        self._client.close()

    def get(
        self,
        path: str,
        *,
        limit: int,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """A reply of any status that is not worth a retry; its body has at most ``limit`` bytes. Raises RemoteError."""
        return self._request("GET", path, limit, params=params, headers=headers)

    def post(self, path: str, body: bytes, *, limit: int, headers: Mapping[str, str] | None = None) -> Reply:
        """As :meth:`get`. The body may reach the server more than once."""
        return self._request("POST", path, limit, content=body, headers={**(headers or {}), **self._authorization})

    def _request(self, method: str, path: str, limit: int, **more: Any) -> Reply:
        end = self._clock() + self._patience
        request = self._client.build_request(method, f"{self.url}/{path}", **more)
        tries, pause = 0, _FIRST_PAUSE
        while True:
            tries += 1
            wait = 0.0
            try:
                reply = self._once(request, limit, tries)
                if reply.status not in _RETRIED:
                    return reply
                wait = _retry_after(reply.headers.get("retry-after"))
                problem = f"status {reply.status}: {reply.message() or 'no reason given'}"
            except self._broken as error:
                problem = f"{type(error).__name__}: {error}"[:_MAX_MESSAGE]
                if _is_certificate(error):
                    raise RemoteError(
                        f"{self.url} is not who it says, or its authority is not known here: {problem}"
                    ) from error
            wait = max(wait, pause * random.uniform(0.5, 1))  # so that clients do not come back all at once
            if self._clock() + wait > end:
                raise RemoteError(f"{self.url} did not answer {method} {path} in {tries} tries: {problem}")
            self._sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _once(self, request: "httpx.Request", limit: int, tries: int) -> Reply:
        """One try, within :data:`REPLY_TIME` however slowly the bytes come."""
        late = self._clock() + REPLY_TIME
        response = self._client.send(request, stream=True)
        try:
            headers = {name.lower(): value for name, value in response.headers.items()}
            if 300 <= response.status_code < 400:
                where = "".join(c for c in headers.get("location", "elsewhere") if c.isprintable())[:_MAX_MESSAGE]
                raise RemoteError(f"{self.url} redirects to {where}: redirects are not followed, give the URL to use")
            if headers.get("content-encoding", "identity") != "identity":
                raise RemoteError(f"{self.url} sent a compressed reply, which was not asked for")
            allowed = limit if response.status_code == 200 else _MAX_ERROR_BODY
            chunks, size = [], 0
            for chunk in response.iter_raw():
                size += len(chunk)
                if size > allowed:
                    raise RemoteError(f"{self.url} sent more than {allowed:,} bytes for {request.url.path}")
                if self._clock() > late:
                    raise RemoteError(f"{self.url} took more than {REPLY_TIME:.0f} s for {request.url.path}")
                chunks.append(chunk)
            return Reply(response.status_code, headers, b"".join(chunks), tries)
        finally:
            response.close()


def _is_certificate(error: BaseException | None) -> bool:
    """Whether a connection failed because of the server's certificate: trying again does not help."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _retry_after(value: str | None) -> float:
    """Seconds that a server asks to wait: RFC 9110, section 10.2.3. 0 for what cannot be read."""
    if value is None:
        return 0.0
    if value.isascii() and value.isdigit():
        return float(value[:9])
    with suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return 0.0
