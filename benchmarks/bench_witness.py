"""What witnesses cost: the log waits for three of them, each a process of its own with its own database on this machine.

    python benchmarks/bench_witness.py [--dir FOLDER] [--rounds 5] [--quorum 2] [--json]

- one append after the other: each is a round of cosigning
- many threads: they share rounds, so that witnesses cost them little
- one batch: 1,000 entries, one round
- a witness alone: add-checkpoint requests with proofs, checked, stored durably and cosigned, without HTTP
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from ledger import witness_folder
from ledger.checkpoint import Checkpoint
from ledger.log import Log
from ledger.log_key import LogKey
from ledger.merkle import consistency_ranges, leaf_hash, range_root, root
from ledger.note import Note
from ledger.policy import Policy
from ledger.witness import Request, Witness
from ledger.witness_key import WitnessKey
from ledger.witnessing import Witnessing

ENTRY_SIZE = 1024
SINGLES, THREADS, EACH, BATCH, ALONE = 200, 32, 30, 1000, 400


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A witness in a process of its own; its URL."""
    command = [sys.executable, "-m", "certify", "witness", "serve", str(folder), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://[0-9.:]+", process.stdout.readline())
        assert found is not None
        yield found[0]
    finally:
        process.terminate()
        process.wait()


def rate(count: int, work: object) -> float:
    began = time.perf_counter()
    work()  # type: ignore[operator]
    return count / (time.perf_counter() - began)


def append_each(log: Log, count: int) -> None:
    for _ in range(count):
        log.append(os.urandom(ENTRY_SIZE))


def threads(log: Log) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(append_each, log, EACH) for _ in range(THREADS)]:
            done.result()


def requests(log_key: LogKey) -> list[bytes]:
    leaves = [leaf_hash(b"%d" % i) for i in range(ALONE)]
    made = []
    for size in range(1, ALONE + 1):
        ranges = consistency_ranges(size - 1, size) if size > 1 else []
        tree = Checkpoint(log_key.name, size, root(leaves[:size]))
        proof = tuple(range_root(leaves, lo, hi) for lo, hi in ranges)
        made.append(Request(size - 1, proof, Note.parse(log_key.sign(tree, 1)), tree).format())
    return made


def alone(folder: Path, log_key: LogKey, *, post_quantum: bool) -> float:
    bodies = requests(log_key)
    key = WitnessKey.generate("w.example", post_quantum=post_quantum)
    with tempfile.TemporaryDirectory(dir=folder) as place, Witness.create(Path(place) / "w.db", key) as witness:
        witness.follow(log_key.verifier_keys)

        def ask() -> None:
            for body in bodies:
                assert witness.add_checkpoint(body).status == 200

        return rate(ALONE, ask)


def measure(folder: Path, rounds: int, quorum: int) -> dict[str, float]:
    key = LogKey.generate("example.com/log")
    with ExitStack() as stack:
        lines: list[str] = []
        for name in "abc":
            place = folder / name
            [public] = witness_folder.create(place, f"{name}.example", password=None)
            with Witness.open(place / witness_folder.DATABASE) as witness:
                witness.follow(key.verifier_keys)
            lines.append(f"witness {name} {public.format()} {stack.enter_context(served(place))}")
        policy = Policy.parse("\n".join([*lines, f"group q {quorum} a b c", "quorum q", ""]).encode())
        for name in ("plain.db", "witnessed.db"):
            Log.create(folder / name, key).close()
        plain = stack.enter_context(Log.open(folder / "plain.db", key))
        log = stack.enter_context(Log.open(folder / "witnessed.db", key, witnessing=Witnessing(policy)))
        append_each(log, 20)
        append_each(plain, 20)
        found: dict[str, list[float]] = {}
        for _ in range(rounds):
            batch = [os.urandom(ENTRY_SIZE) for _ in range(BATCH)]
            for what, value in (
                ("one after the other, no witness, appends/s", rate(SINGLES, lambda: append_each(plain, SINGLES))),
                ("one after the other, appends/s", rate(SINGLES, lambda: append_each(log, SINGLES))),
                (f"{THREADS} threads, no witness, appends/s", rate(THREADS * EACH, lambda: threads(plain))),
                (f"{THREADS} threads, appends/s", rate(THREADS * EACH, lambda: threads(log))),
                (f"batch of {BATCH}, entries/s", rate(BATCH, lambda batch=batch: log.append_many(batch))),  # type: ignore[misc]
                ("witness alone, Ed25519, requests/s", alone(folder, key, post_quantum=False)),
                ("witness alone, with ML-DSA-44, requests/s", alone(folder, key, post_quantum=True)),
            ):
                found.setdefault(what, []).append(value)
    return {what: round(median(values)) for what, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, help="where to write; default: a temporary folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quorum", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        found = measure(Path(folder), options.rounds, options.quorum)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        for what, value in found.items():
            print(f"{what:55} {value:8,}")


if __name__ == "__main__":
    main()
