"""How fast a served log takes entries and gives tiles, over HTTP on this machine, client and server on the same processors.

    python benchmarks/bench_http.py [--rounds 5] [--clients 32] [--appends 4000] [--reads 10000] [--json]

Appends: signed statements of 1.3 KB, each with its own connection's turn, each checked by the real admission (token, form,
signature) and answered by the proof of an entry that is durable and included; at the end all of them are read back from the
log. Tiles: full ones, against a bare Starlette handler that returns 8 KB, in turns. Goals:

- 2,000 appends/s with 32 clients on two cores, the client included, and p99 under 100 ms
- tile reads at 0.5 of the bare handler
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

TILES = 64
GOALS = {"appends/s": 2000.0, "p99 ms": 100.0, "tile ratio": 0.5}
ORIGIN = "example.com/bench"


# -- servers, each in a process of its own -------------------------------------------------------------------------------


def serve_log(folder: Path) -> None:
    from certify.admission import Admission
    from ledger.log import Log
    from ledger.log_key import LogKey
    from ledger.server import app
    from ledger.serving import serve

    key = LogKey.load(folder / "log.pem", ORIGIN, None)
    admit = Admission(folder / "tokens.toml", folder / "trust.toml", ORIGIN)
    with Log.open(folder / "log.db", key, watermark=folder / "log.seen") as log:
        serve(app(log, admit=admit), host="127.0.0.1", port=0, announce=lambda url: print(url, flush=True))


def serve_bare() -> None:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from ledger.serving import serve

    data = bytes(8192)

    async def tile(request: Request) -> Response:
        return Response(data, media_type="application/octet-stream")

    made = Starlette(routes=[Route("/tile/{path:path}", tile)])
    serve(made, host="127.0.0.1", port=0, announce=lambda url: print(url, flush=True))


@contextmanager
def running(*arguments: str) -> Iterator[tuple[int, int]]:
    """A server's port and process."""
    process = subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline().rsplit(":", 1)[1]), process.pid
    finally:
        process.terminate()
        process.wait()


def processor_seconds(process: int) -> float:
    """What a process has used so far, all its threads."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- a client that costs little -------------------------------------------------------------------------------------------


class Client(asyncio.Protocol):
    """One connection: a request, its answer, the next request, until ``following`` gives no more."""

    def __init__(self, following: Callable[[], bytes | None], took: list[float], done: "asyncio.Future[None]") -> None:
        self._following = following
        self._took = took
        self._done = done
        self._received = b""
        self._began = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._next()

    def _next(self) -> None:
        request = self._following()
        if request is None:
            self._transport.close()
            if not self._done.done():
                self._done.set_result(None)
            return
        self._began = time.perf_counter()
        self._transport.write(request)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(error or ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._received = received = self._received + data if self._received else data
        head, blank, body = received.partition(b"\r\n\r\n")
        if not blank or len(body) < int(head[head.index(b"content-length: ") + 16 :].split(b"\r\n", 1)[0]):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self._done.set_exception(RuntimeError(received[:500].decode(errors="replace")))
            return
        self._took.append(time.perf_counter() - self._began)
        self._received = b""
        self._next()


async def _drive(port: int, clients: int, requests: list[bytes]) -> tuple[float, list[float]]:
    loop = asyncio.get_running_loop()
    left = iter(requests)
    took: list[float] = []
    ends = [loop.create_future() for _ in range(clients)]
    began = time.perf_counter()
    for end in ends:
        await loop.create_connection(lambda end=end: Client(lambda: next(left, None), took, end), "127.0.0.1", port)
    await asyncio.gather(*ends)
    return time.perf_counter() - began, took


def drive(port: int, clients: int, requests: list[bytes]) -> tuple[float, list[float]]:
    """Seconds for all requests, and for each."""
    return uvloop.run(_drive(port, clients, requests))


# -- measuring --------------------------------------------------------------------------------------------------------------


def prepare(folder: Path, count: int) -> tuple[str, list[bytes]]:
    """A log with full tiles; a token for it, and signed statements to append."""
    from certify import tokens
    from certify.envelope import sign
    from certify.keys import SigningKey
    from certify.statement import TENSOR_ROOT, Environment, Method, Model, Run, Statement, Training, Tree, subject
    from certify.trust import TrustedIssuer, TrustedLog, format_trust
    from ledger.log import Log
    from ledger.log_key import LogKey

    log_key, key = LogKey.generate(ORIGIN), SigningKey.generate()
    log_key.save(folder / "log.pem", None)
    with Log.create(folder / "log.db", log_key, watermark=folder / "log.seen") as log:
        log.append_many([random.randbytes(1024) for _ in range(TILES * 256)])
    trust = format_trust([TrustedLog(ORIGIN, log_key.verifier_keys)], [TrustedIssuer("Bench", key.public)])
    (folder / "trust.toml").write_text(trust)
    environment = Environment("3.11", "Linux x86_64", {"torch": "2.8"}, 2, "cpu", {})
    statements = []
    for number in range(count):
        root, moment = random.randbytes(32).hex(), "2026-01-01T00:00:00Z"
        training = Training(
            ORIGIN, Run(f"{number:032x}", moment, moment), Tree(root, 8), Model(root, 2, "24"),
            Method("sisa", {"shards": 2}, ["7"]), environment,
        )  # fmt: skip
        statements.append(sign(Statement((subject(TENSOR_ROOT, root),), training).payload(), [key]).data)
    return tokens.add(folder / "tokens.toml", "bench", issuers=["Bench"]), statements


def post(token: str, entry: bytes) -> bytes:
    head = f"POST /append HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(entry)}\r\n\r\n"
    return head.encode() + entry


def get(path: str) -> bytes:
    return f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def measure(folder: Path, rounds: int, clients: int, appends: int, reads: int) -> dict[str, Any]:
    from ledger.log import Log
    from ledger.log_key import LogKey

    token, statements = prepare(folder, rounds * appends)
    rates: list[float] = []
    worst: list[float] = []
    middle: list[float] = []
    ratios: list[float] = []
    tiles: list[float] = []
    bare: list[float] = []
    used: list[float] = []
    with running("--serve", str(folder)) as (port, process), running("--bare") as (bare_port, _):
        paths = [get(f"tile/0/{number:03d}") for number in range(TILES)]
        wanted = [random.choice(paths) for _ in range(reads)]
        for number in range(rounds):
            entries = statements[number * appends : (number + 1) * appends]
            before = processor_seconds(process)
            seconds, took = drive(port, clients, [post(token, entry) for entry in entries])
            used.append((processor_seconds(process) - before) / appends * 1e6)
            rates.append(appends / seconds)
            took.sort()
            middle.append(took[len(took) // 2] * 1000)
            worst.append(took[len(took) * 99 // 100] * 1000)
            plain, _ = drive(bare_port, clients, wanted)
            seconds, _ = drive(port, clients, wanted)
            tiles.append(reads / seconds)
            bare.append(reads / plain)
            ratios.append(plain / seconds)
    key = LogKey.load(folder / "log.pem", ORIGIN, None)
    with Log.open(folder / "log.db", key, watermark=folder / "log.seen") as log:
        stored = {entry for _, entry in log.entries(TILES * 256)}
    assert stored == set(statements), "the log lacks what was acknowledged"
    return {
        "appends/s": median(rates),
        "p50 ms": median(middle),
        "p99 ms": median(worst),
        "server us each": median(used),
        "tiles/s": median(tiles),
        "bare/s": median(bare),
        "tile ratio": median(ratios),
        "all appends/s": [round(rate) for rate in rates],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--appends", type=int, default=4000, help="in a round")
    parser.add_argument("--reads", type=int, default=10_000, help="in a round")
    parser.add_argument("--dir", type=Path, help="where to make the log")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve_log(options.serve)
    elif options.bare:
        serve_bare()
    else:
        with tempfile.TemporaryDirectory(dir=options.dir) as folder:
            figures = measure(Path(folder), options.rounds, options.clients, options.appends, options.reads)
        if options.json:
            print(json.dumps(figures, indent=2))
            return
        for name, figure in figures.items():
            shown = f"{figure:.3g}" if isinstance(figure, float) and figure < 100 else figure
            shown = round(figure) if isinstance(figure, float) and figure >= 100 else shown
            print(f"{name:14} {shown}" + (f"  (goal {GOALS[name]:g})" if name in GOALS else ""))


if __name__ == "__main__":
    main()
