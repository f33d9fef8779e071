"""Monitoring a log: entries/s hashed again from a folder and over HTTP on loopback, and statements/s with their signatures.

Run: ``python benchmarks/bench_monitor.py [--json] [--entries N] [--size BYTES]``. The peer is the same entries' leaf hashes
alone, by hashlib, in memory. The web server of the loopback figure is uvicorn with Starlette's static files, in a process of
its own: it shares the machine's cores with the monitor.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from statistics import median

from certify.envelope import sign
from certify.keys import SigningKey
from certify.monitoring import Statements
from certify.statement import FORGET_ROOT, Request, Statement, Tree, subject
from certify.trust import Trust, TrustedIssuer, TrustedLog
from ledger.checkpoint import Checkpoint
from ledger.log_key import LogKey
from ledger.merkle import Frontier, leaf_hash
from ledger.monitor import Looker, Monitor
from ledger.rebuild import Rebuilt
from ledger.source import FolderSource, HttpSource, Source
from ledger.tiles import TILE_WIDTH, Tile, format_bundle

KEY = LogKey.generate("bench.example/log")
ROUNDS = 5


def publish(folder: Path, count: int, entry: Callable[[int], bytes]) -> None:
    """The static layout of a log of ``count`` entries."""

    def write(path: str, data: bytes) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)

    tree = Rebuilt(Frontier())
    for first in range(0, count, TILE_WIDTH):
        entries = [entry(index) for index in range(first, min(first + TILE_WIDTH, count))]
        leaves = [leaf_hash(data) for data in entries]
        tile = Tile(0, first // TILE_WIDTH, len(entries))
        write(tile.path(), b"".join(leaves))
        write(tile.bundle_path(), format_bundle(entries))
        for above, data in tree.add(leaves):
            write(above.path(), data)
    for above, data in tree.partial():
        write(above.path(), data)
    write("checkpoint", KEY.sign(Checkpoint(KEY.name, count, tree.frontier.root()), int(time.time())))


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """uvicorn with static files, in another process."""
    code = (
        "import socket, sys, uvicorn; from starlette.staticfiles import StaticFiles\n"
        "s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)\n"
        "config = uvicorn.Config(StaticFiles(directory=sys.argv[1]), log_level='error', access_log=False)\n"
        "uvicorn.Server(config).run([s])"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        try:
            deadline = time.monotonic() + 10
            while True:
                try:
                    urllib.request.urlopen(f"{url}/checkpoint").close()
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
            yield url
        finally:
            process.terminate()


@dataclass(frozen=True)
class Rate:
    """Entries a second in each round, by the clock and by this process's processor time."""

    wall: list[float]
    cpu: list[float]


def measure(count: int, work: Callable[[], object]) -> Rate:
    wall, cpu = [], []
    for _ in range(ROUNDS):
        began, busy = time.perf_counter(), time.process_time()
        work()
        wall.append(count / (time.perf_counter() - began))
        cpu.append(count / (time.process_time() - busy))
    return Rate(wall, cpu)


def rate(source: Callable[[], Source], count: int, looker: Callable[[], Looker] | None = None) -> Rate:
    """Of a whole look at a log."""

    def look() -> None:
        with closing(source()) as opened:
            findings: list[object] = []
            looking = looker() if looker else None
            outcome = Monitor(opened, KEY.verifier_keys, looker=looking, report=findings.append).once()
            assert outcome.looked == count and not findings, findings

    return measure(count, look)


def bare(count: int, size: int) -> Rate:
    """Leaf hashes of entries in memory."""
    entries = [index.to_bytes(8, "big") * (size // 8) for index in range(1000)]

    def work() -> None:
        for _ in range(count // len(entries)):
            for entry in entries:
                sha256(b"\x00" + entry).digest()

    return measure(count // len(entries) * len(entries), work)


def statements(folder: Path, count: int) -> dict[str, Rate]:
    """Statements a second: parsed, signatures verified, order checked; in one process and in as many as there are cores."""
    issuer = SigningKey.generate()
    trust = Trust((TrustedLog(KEY.name, KEY.verifier_keys),), (TrustedIssuer("Bench", issuer.public),))

    def request(index: int) -> bytes:
        forget = Tree(sha256(index.to_bytes(8, "big")).hexdigest(), 1)
        said = Request(KEY.name, "records", forget, "gdpr-17", "2026-01-01T00:00:00Z", "2999-01-01T00:00:00Z")
        return sign(Statement((subject(FORGET_ROOT, forget.root),), said).payload(), [issuer]).data

    publish(folder, count, request)
    found: dict[str, Rate] = {}
    for workers in (1, os.cpu_count() or 1):
        looker = partial(Statements, trust, KEY.name, workers=workers)
        found[f"statements, {workers} process{'es' if workers > 1 else ''}"] = rate(
            lambda: FolderSource(folder), count, looker
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=300_000)
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--statements", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    count, size = arguments.entries, arguments.size
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        publish(folder / "log", count, lambda index: index.to_bytes(8, "big") * (size // 8))
        found = {"leaf hashes alone, in memory": bare(count, size)}
        found["monitor, folder"] = rate(lambda: FolderSource(folder / "log"), count)
        with web_server(folder / "log") as url:
            found["monitor, HTTP on loopback"] = rate(lambda: HttpSource(url), count)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        found |= statements(folder / "statements", arguments.statements)
    if arguments.json:
        print(json.dumps({"entries/s": {n: asdict(r) for n, r in found.items()}, "peak memory MB": memory}, indent=2))
        return
    print(f"{count:,} entries of {size} bytes; {arguments.statements:,} statements; {ROUNDS} rounds")
    for name, rates in found.items():
        wall = f"{median(rates.wall):>10,.0f}/s   ({min(rates.wall):,.0f} to {max(rates.wall):,.0f})"
        print(f"{name:<34}{wall:<38}{median(rates.cpu):>10,.0f} a processor second")
    print(f"{'peak memory while hashing':<34}{memory:>10.0f} MB")


if __name__ == "__main__":
    main()
