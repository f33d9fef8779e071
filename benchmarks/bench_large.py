"""What a large log costs: appends, start-up, proofs and fsck at ``LEDGER_LARGE`` entries, and its size on disk.

    LEDGER_LARGE=10000000 python benchmarks/bench_large.py [--dir FOLDER] [--entry 64] [--rounds 9] [--json]

Entries are of random bytes. Single appends alternate between the large log and one that was empty at the start; sums over all
rounds are compared, as pages are written back only once in a while. Start-up is :meth:`Log.open`, checked, in a fresh process,
without imports. Goals at ten million: append within 1.3 of an empty log, start-up under 0.5 s, proof under 3 ms, fsck 100,000/s.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))
from ledger import fsck
from ledger.log import Log
from ledger.log_key import LogKey

SIZE = int(os.environ.get("LEDGER_LARGE", "300000"))
BATCH = 20_000
SINGLES = 400
WARM_UP = 1_500
PROOFS = 300
GOALS = {"large / empty": 1.3, "start-up s": 0.5, "proof ms": 3.0, "fsck/s": 100_000.0}
_OPEN = """
import sys, time
from pathlib import Path
from ledger.log import Log
from ledger.log_key import LogKey
key = LogKey.load(Path(sys.argv[2]), "example.com/log", None)
began = time.perf_counter()
log = Log.open(Path(sys.argv[1]), key)
print(time.perf_counter() - began)
"""


def entries(count: int, size: int) -> list[bytes]:
    data = os.urandom(count * size)
    return [data[i * size : (i + 1) * size] for i in range(count)]


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def singles(log: Log, size: int, count: int = SINGLES) -> float:
    new = entries(count, size)
    return seconds(lambda: [log.append(entry) for entry in new])


def measure(folder: Path, size: int, rounds: int) -> dict[str, float]:
    key, large_path = LogKey.generate("example.com/log"), folder / "large.db"
    key.save(folder / "key", None)
    with Log.create(folder / "empty.db", key) as empty, Log.create(large_path, key) as large:
        began = time.perf_counter()
        while (here := large.size()) < SIZE:
            large.append_many(entries(min(BATCH, SIZE - here), size))
            if sys.stderr.isatty():
                print(f"\r{here + BATCH:,}", end="", file=sys.stderr)
        filled = time.perf_counter() - began
        for log in (empty, large):  # until both write into a write-ahead log that is as long as it gets
            singles(log, size, WARM_UP)
        times = [0.0, 0.0]
        for number in range(rounds):
            for which in (0, 1) if number % 2 else (1, 0):
                times[which] += singles((empty, large)[which], size)
        indices = [i * (SIZE // PROOFS) + i % 256 for i in range(PROOFS)]
        proofs = sorted(seconds(lambda: large.prove(index)) for index in indices)  # noqa: B023
    command = [sys.executable, "-c", _OPEN, str(large_path), str(folder / "key")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    opened = [float(subprocess.run(command, capture_output=True, check=True, env=environment).stdout) for _ in range(5)]
    with Log.open(large_path, key) as large:
        count = large.size()
        took = seconds(lambda: [print(line) for line in fsck.check(large)])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    on_disk = sum(file.stat().st_size for file in folder.glob("large.db*"))
    return {
        "entries": count,
        "fill/s": SIZE / filled,
        "large / empty": times[1] / times[0],
        "append ms, empty": 1e3 * times[0] / (SINGLES * rounds),
        "append ms, large": 1e3 * times[1] / (SINGLES * rounds),
        "start-up s": median(opened),
        "proof ms": 1e3 * median(proofs),
        "proof ms, slowest": 1e3 * proofs[-1],
        "fsck/s": count / took,
        "peak memory MB": memory,
        "bytes on disk an entry": on_disk / count,
        "of these besides the entry": on_disk / count - size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dir", type=Path, default=Path(), help="folder on the disk to measure (here)")
    parser.add_argument("--entry", type=int, default=64, help="bytes of an entry")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.dir, prefix="bench-large-") as name:
        figures = measure(Path(name), arguments.entry, arguments.rounds)
    if arguments.json:
        print(json.dumps({"figures": figures, "goals": GOALS}, indent=2))
        return
    for what, figure in figures.items():
        goal = GOALS.get(what)
        met = "" if goal is None else f"   goal {goal:g}: {'met' if (figure >= goal) == ('/s' in what) else 'missed'}"
        print(f"{what:28} {figure:14,.3f}{met}")


if __name__ == "__main__":
    main()
