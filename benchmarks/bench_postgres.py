"""How fast eight writers append to a log in PostgreSQL, against eight writers that insert the same rows plainly.

    python benchmarks/bench_postgres.py [--url postgresql://…] [--writers 8] [--rounds 5] [--each 400] [--threads] [--json]

Without ``--url`` a server of its own is started, from Debian's package, with its default settings. Each writer is a process (with
``--threads`` a thread of one process) that appends entries of 1 KB of random bytes, one at a time, each acknowledged when it is
durable. Plain inserts: the same rows, each in a transaction of its own, into a table with a running number. The two sides
alternate; the median of the ratios is given. Goal: 0.5.
"""

import argparse
import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urldefrag

import psycopg

sys.path.insert(0, str(Path(__file__).parents[1]))
from ledger.log import Log
from ledger.log_key import LogKey

ENTRY_SIZE = 1024
GOAL = 0.5
Work = Callable[[list[bytes]], None]


def insert_plainly(url: str) -> Work:
    connection = psycopg.connect(urldefrag(url)[0], autocommit=True)

    def work(entries: list[bytes]) -> None:
        for entry in entries:
            connection.execute("INSERT INTO plain_rows (data) VALUES (%s)", (entry,))

    return work


def append(url: str, key: LogKey) -> Work:
    log = Log.open(url, key)

    def work(entries: list[bytes]) -> None:
        for entry in entries:
            log.append(entry)

    return work


def appends_of_threads(log: Log) -> Work:
    return lambda entries: [log.append(entry) for entry in entries] and None


def run(make: Callable[[], Work], writers: int, each: int, threads: bool) -> float:
    """Seconds from when all writers are ready to when the last one is done."""
    context = multiprocessing.get_context("fork")
    barrier: Any = threading.Barrier(writers + 1) if threads else context.Barrier(writers + 1)

    def writer() -> None:
        work = make()
        entries = [os.urandom(ENTRY_SIZE) for _ in range(each + 20)]
        work(entries[:20])
        barrier.wait(60)
        work(entries[20:])

    started: list[Any] = [
        threading.Thread(target=writer) if threads else context.Process(target=writer) for _ in range(writers)
    ]
    for one in started:
        one.start()
    barrier.wait(60)
    began = time.perf_counter()
    for one in started:
        one.join()
        assert threads or one.exitcode == 0, "a writer failed"
    return time.perf_counter() - began


def measure(url: str, writers: int, rounds: int, each: int, threads: bool) -> dict[str, float]:
    place = urldefrag(url)[0]
    with psycopg.connect(place, autocommit=True) as connection:
        connection.execute("CREATE TABLE plain_rows (id bigserial PRIMARY KEY, data bytea NOT NULL)")
    key = LogKey.generate("example.com/bench")
    schema = f"{place}#bench_{os.getpid()}"
    Log.create(schema, key).close()
    log = Log.open(schema, key) if threads else None
    times: list[tuple[float, float]] = []
    for number in range(rounds):
        sides = [
            lambda: run(lambda: insert_plainly(place), writers, each, threads),
            lambda: run(lambda: appends_of_threads(log) if log else append(schema, key), writers, each, threads),
        ]
        if number % 2:
            second = sides[1]()
            times.append((sides[0](), second))
        else:
            times.append((sides[0](), sides[1]()))
    with psycopg.connect(place, autocommit=True) as connection:
        connection.execute("DROP TABLE plain_rows")
    ratios = sorted(plain / ours for plain, ours in times)
    count = writers * each
    return {
        "plain/s": count / median(plain for plain, _ in times),
        "log/s": count / median(ours for _, ours in times),
        "ratio": median(ratios),
        "ratio, lowest": ratios[0],
        "ratio, highest": ratios[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", help="a PostgreSQL database to measure in")
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--each", type=int, default=400, help="entries of each writer in a round")
    parser.add_argument("--threads", action="store_true", help="writers are threads of one process")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.url:
        running: Any = nullcontext(arguments.url)
    else:
        from tests.postgres import Server

        server = Server(["shared_buffers=128MB"]).start()
        running = nullcontext(server.url(""))
    with running as url:
        figures = measure(url, arguments.writers, arguments.rounds, arguments.each, arguments.threads)
    if arguments.json:
        print(json.dumps({"figures": figures, "goal": {"ratio": GOAL}}, indent=2))
        return
    for what, figure in figures.items():
        print(
            f"{what:20} {figure:12,.2f}"
            + (f"   goal {GOAL}: {'met' if figure >= GOAL else 'missed'}" if what == "ratio" else "")
        )


if __name__ == "__main__":
    main()
