"""How fast weights are hashed, against the same bytes in memory on two hashlib threads.

    python benchmarks/bench_digest.py [--size GB] [--json]

Two models of the same size: four safetensors files, and one file that is one tensor. Each is measured beside the
reference, in turns, best of three. Goals: 0.9 of the reference or better, and less than 200 MB of memory of our own.
model_signing, when it is installed, hashes the same files for comparison. Files are made in a temporary folder.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from certify.safetensors import digest_weights

GOAL_RATIO = 0.9
GOAL_MEMORY = 200_000_000
THREADS = 2
MIB = 1 << 20


def write_model(path: Path, tensors: int, nbytes: int) -> None:
    """A safetensors file of that many U8 tensors, nbytes in all, of pseudo-random bytes; names begin as the file's."""
    each = nbytes // tensors
    header = {
        f"{path.stem}.{i}": {"dtype": "U8", "shape": [each], "data_offsets": [i * each, (i + 1) * each]}
        for i in range(tensors)
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    block = os.urandom(MIB)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        left = each * tensors
        while left:
            left -= file.write(block[: min(left, MIB)])


def hash_in_memory(data: memoryview) -> None:
    """The reference: plain SHA-256 over one half on each of two threads."""
    half = len(data) // THREADS

    def work(number: int) -> None:
        sha256(data[number * half : (number + 1) * half]).digest()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def own_memory() -> int:
    """Bytes of memory that are this process's own, without mapped files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def with_memory(work: Callable[[], object]) -> int:
    """The most memory that ``work`` held at once, beyond what was held before, in bytes."""
    before, most, done = own_memory(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.002):
            most = max(most, own_memory() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return most


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def model_signing_hasher(path: Path) -> Callable[[], object] | None:
    try:
        from model_signing import hashing
    except ImportError:
        return None
    return lambda: hashing.Config().use_file_serialization(hashing_algorithm="sha256").hash(path)  # type: ignore[no-untyped-call]


def measure(folder: Path, nbytes: int, rounds: int = 3) -> dict[str, object]:
    """One model folder: GB/s of each contestant, the ratio to the reference and our own memory."""
    files = sorted(folder.glob("*.safetensors"))
    memory = with_memory(lambda: digest_weights(files, threads=THREADS))
    data = memoryview(bytearray(os.urandom(MIB) * (nbytes // MIB)))
    contestants: dict[str, Callable[[], object]] = {
        "reference": lambda: hash_in_memory(data),
        "mapped": lambda: digest_weights(files, threads=THREADS),
        "read": lambda: digest_weights(files, threads=THREADS, mapped=False),
    }
    signing = model_signing_hasher(folder)
    if signing is not None:
        contestants["model_signing"] = signing
    best = dict.fromkeys(contestants, float("inf"))
    for _ in range(rounds):
        for name, work in contestants.items():
            best[name] = min(best[name], seconds(work))
    ratio = best["reference"] / best["mapped"]
    return {
        "files": len(files),
        "gb_per_second": {name: round(nbytes / took / 1e9, 2) for name, took in best.items()},
        "ratio": round(ratio, 3),
        "own_memory_mb": round(memory / 1e6, 1),
        "goals_met": ratio >= GOAL_RATIO and memory < GOAL_MEMORY,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=float, default=1.0, help="of each model, in GB (2**30 bytes)")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    arguments = parser.parse_args()
    nbytes = int(arguments.size * 1024) // 4 * 4 * MIB
    results: dict[str, object] = {}
    for title, files, tensors in (("four files", 4, 16), ("one file, one tensor", 1, 1)):
        with tempfile.TemporaryDirectory() as name:
            for number in range(files):
                write_model(Path(name) / f"model-{number}.safetensors", tensors, nbytes // files)
            results[title] = measure(Path(name), nbytes)
    if arguments.json:
        print(json.dumps({"bytes": nbytes, "goal_ratio": GOAL_RATIO, "goal_memory_mb": 200, "models": results}))
        return
    print(f"{nbytes / 1e9:.2f} GB, {THREADS} threads, best of 3; GB/s")
    for title, found in results.items():
        assert isinstance(found, dict)
        print(f"\n{title}")
        for contestant, speed in found["gb_per_second"].items():
            print(f"  {contestant:15} {speed:6.2f}")
        print(f"  mapped/reference {found['ratio']:.3f} (goal {GOAL_RATIO} or more)")
        print(f"  own memory       {found['own_memory_mb']:.1f} MB (goal less than 200)")


if __name__ == "__main__":
    main()
