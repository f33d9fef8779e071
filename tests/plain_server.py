"""A log over HTTP, as small as can be, for tests of the client: the standard library's server around a log.

``server.faults`` maps the beginning of a path to what happens instead of the answer.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from ledger.errors import ConflictError, LedgerError
from ledger.log import Log
from ledger.merkle import leaf_hash
from ledger.tiles import parse_path


@dataclass
class Answer:
    """What goes back. ``cut``: the connection is closed instead. ``length``: a Content-Length other than the body's."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    length: int | None = None


@dataclass
class Seen:
    """A request that came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


Fault = Callable[[Seen], Answer]


@dataclass
class PlainServer:
    """``seen``: all requests. ``appends``: how many POSTs got as far as the log."""

    log: Log
    url: str = ""
    token: str = "secret"
    faults: dict[str, Fault] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    appends: int = 0

    def good(self, request: Seen) -> Answer:
        url = urlsplit(request.path)
        path = url.path.lstrip("/")
        try:
            if request.method == "POST":
                return self._append(request) if path == "append" else Answer(404)
            if path == "checkpoint":
                return Answer(200, self.log.checkpoint())
            if path == "find":
                return self._find(bytes.fromhex(parse_qs(url.query)["leaf"][0]))
            tile, is_bundle = parse_path(path)
            return Answer(200, self.log.bundle(tile) if is_bundle else self.log.tile(tile))
        except ConflictError as error:
            return Answer(412, json.dumps({"error": "ConflictError", "message": str(error)}).encode())
        except LedgerError as error:
            return Answer(404, json.dumps({"error": type(error).__name__, "message": str(error)}).encode())

    def _append(self, request: Seen) -> Answer:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return Answer(401, b'{"error": "AdmissionError", "message": "expected a token"}')
        wanted = request.headers.get("if-match")
        self.appends += 1
        appended = self.log.append(request.body, expected_size=int(wanted.strip('"')) if wanted else None)
        return Answer(200, self.log.prove(appended.index).format())

    def _find(self, leaf: bytes) -> Answer:
        for index, entry in self.log.entries():
            if leaf_hash(entry) == leaf:
                return Answer(200, json.dumps({"index": index}).encode())
        return Answer(200, b'{"index": null}')

    def answer(self, request: Seen) -> Answer:
        self.seen.append(request)
        for prefix, fault in list(self.faults.items()):
            if urlsplit(request.path).path.startswith(f"/{prefix}"):
                return fault(request)
        return self.good(request)


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is no news."""


@contextmanager
def serving(log: Log) -> Iterator[PlainServer]:
    """A server on a free port of this machine."""
    plain = PlainServer(log)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body in one packet

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = plain.answer(Seen(self.command, self.path, headers, body))
            if answer.cut:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
            self.end_headers()
            self.wfile.write(answer.body)
            if answer.length is not None:
                self.close_connection = True

        do_GET = do_POST = _do

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = _Quiet(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    plain.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield plain
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
