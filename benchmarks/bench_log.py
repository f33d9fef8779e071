"""How fast the log appends and proves, against raw SQLite on the same disk.

    python benchmarks/bench_log.py [--dir FOLDER] [--rounds 7] [--large 1000000] [--json]

Ratios are taken between measurements that alternate within a round, and the median over the rounds is given: disks and shared
processors drift. Both sides write rows of 1 KB of random bytes with write-ahead log and ``synchronous = FULL``. Goals:

- one entry durably appended, signed and included: 0.4 of raw one-row commits
- many entries in one call under one checkpoint: 0.35 of raw rows in one transaction, each into a fresh file
- an append at a million entries: at most 1.2 of the time that it takes at a thousand
- an inclusion proof at a million entries: under 2 ms
"""

import argparse
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median

from ledger.log import Log
from ledger.log_key import LogKey

ENTRY_SIZE = 1024
SINGLES = 400
BULK = 50_000
PROOFS = 200
SMALL = 1_000
WARM_UP = 1_500
GOALS = {"single ratio": 0.4, "bulk ratio": 0.35, "large / small": 1.2, "proof ms": 2.0}


def random_entries(count: int) -> list[bytes]:
    return [os.urandom(ENTRY_SIZE) for _ in range(count)]


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def raw_database(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, data BLOB NOT NULL)")
    return connection


def raw_singles(connection: sqlite3.Connection, entries: list[bytes]) -> None:
    for entry in entries:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO rows (data) VALUES (?)", (entry,))
        connection.execute("COMMIT")


def raw_bulk(connection: sqlite3.Connection, entries: list[bytes]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO rows (id, data) VALUES (?, ?)", enumerate(entries))
    connection.execute("COMMIT")


def singles(log: Log, entries: list[bytes]) -> None:
    for entry in entries:
        log.append(entry)


def measure_singles(folder: Path, key: LogKey, rounds: int) -> dict[str, float]:
    """Appends a second, beside one-row commits a second."""
    times: list[tuple[float, float]] = []
    with closing(raw_database(folder / "raw.db")) as raw, Log.create(folder / "log.db", key) as log:
        for number in range(rounds):
            entries = random_entries(SINGLES)
            sides = [lambda: raw_singles(raw, entries), lambda: singles(log, entries)]  # noqa: B023
            times.append(alternate(sides, number))
    return rates("single", times, SINGLES)


def measure_bulk(folder: Path, key: LogKey, rounds: int) -> dict[str, float]:
    """Entries a second in one call, beside rows a second in one transaction; a fresh file for each."""
    times: list[tuple[float, float]] = []
    for number in range(rounds):
        entries = random_entries(BULK)
        raw_path, log_path = folder / f"raw-{number}.db", folder / f"log-{number}.db"
        with closing(raw_database(raw_path)) as raw, Log.create(log_path, key) as log:
            sides = [lambda: raw_bulk(raw, entries), lambda: log.append_many(entries)]  # noqa: B023
            times.append(alternate(sides, number))
        raw_path.unlink()
        log_path.unlink()
    return rates("bulk", times, BULK)


def alternate(sides: Sequence[Callable[[], object]], number: int) -> tuple[float, float]:
    """Seconds of each of two sides; which comes first changes with the round."""
    os.sync()
    if number % 2:
        second = seconds(sides[1])
        return seconds(sides[0]), second
    return seconds(sides[0]), seconds(sides[1])


def rates(name: str, times: list[tuple[float, float]], count: int) -> dict[str, float]:
    ratios = sorted(raw / ours for raw, ours in times)
    return {
        f"{name} raw/s": count / median(raw for raw, _ in times),
        f"{name} log/s": count / median(ours for _, ours in times),
        f"{name} ratio": median(ratios),
        f"{name} ratio, lowest": ratios[0],
        f"{name} ratio, highest": ratios[-1],
    }


def fill(log: Log, size: int) -> None:
    while (here := log.size()) < size:
        log.append_many(random_entries(min(BULK, size - here)))


def measure_large(folder: Path, key: LogKey, size: int, rounds: int) -> dict[str, float]:
    """Single appends and proofs at ``size`` entries, beside appends at a thousand."""
    with Log.create(folder / "small.db", key) as small, Log.create(folder / "large.db", key) as large:
        fill(small, SMALL)
        took = seconds(lambda: fill(large, size))
        for log in (small, large):  # until both write into a write-ahead log that is as long as it gets
            singles(log, random_entries(WARM_UP))
        times: list[tuple[float, float]] = []
        for number in range(rounds):
            entries = random_entries(SINGLES)
            sides = [lambda: singles(small, entries), lambda: singles(large, entries)]  # noqa: B023
            times.append(alternate(sides, number))
        small_time, large_time = map(sum, zip(*times, strict=True))  # sums: pages are written back once in a while
        indices = [i * (size // PROOFS) + i for i in range(PROOFS)]
        proofs = sorted(seconds(lambda: large.prove(index)) for index in indices)  # noqa: B023
    began = time.perf_counter()
    with Log.open(folder / "large.db", key):
        opened = time.perf_counter() - began
    return {
        "fill/s": size / took,
        "large / small": large_time / small_time,
        "append ms, small": 1e3 * small_time / (SINGLES * rounds),
        "append ms, large": 1e3 * large_time / (SINGLES * rounds),
        "proof ms": 1e3 * median(proofs),
        "proof ms, slowest": 1e3 * proofs[-1],
        "open and check ms": 1e3 * opened,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dir", type=Path, default=Path(), help="folder on the disk to measure (here)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--large", type=int, default=1_000_000, help="entries of the large log; 0 leaves it out")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    key = LogKey.generate("example.com/log")
    with tempfile.TemporaryDirectory(dir=arguments.dir, prefix="bench-log-") as name:
        folder = Path(name)
        figures = measure_singles(folder, key, arguments.rounds) | measure_bulk(folder, key, arguments.rounds)
        if arguments.large:
            figures |= measure_large(folder, key, arguments.large, arguments.rounds)
    if arguments.json:
        print(json.dumps({"figures": figures, "goals": GOALS}, indent=2))
        return
    for what, figure in figures.items():
        goal = GOALS.get(what)
        met = (
            "" if goal is None else f"   goal {goal:g}: {'met' if (figure >= goal) == ('ratio' in what) else 'missed'}"
        )
        print(f"{what:24} {figure:12,.2f}{met}")


if __name__ == "__main__":
    main()
