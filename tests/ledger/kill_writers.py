"""Writers that append to a log until they are killed. Run by test_kill.py, in a process of its own that forks quickly.

Arguments: log, watermark, key file, kills, seed. Each acknowledged append becomes one line of output: index, entry, checkpoint.
"""

import os
import random
import select
import signal
import sys
import time
from pathlib import Path

from ledger.log import Log
from ledger.log_key import LogKey

WRITERS = 3


def write(log_path: Path, mark: Path, key: LogKey, seed: int, out: int) -> None:
    """Append single entries, batches and repetitions, and say so after each; never returns."""
    pick = random.Random(seed)
    with Log.open(log_path, key, watermark=mark) as log:
        for step in range(1_000_000):
            count = pick.choice([1, 1, 1, 2, 5, 300])
            entries = [b"%d %d %d" % (seed, step, i) for i in range(count)]
            if step:
                entries.append(b"%d %d 0" % (seed, step - 1))
            for entry, done in list(zip(entries, log.append_many(entries), strict=True))[-3:]:
                line = f"{done.index} {entry.hex()} {done.checkpoint.hex()}\n"
                assert len(line) < select.PIPE_BUF  # written whole or not at all
                os.write(out, line.encode())


def read_for(source: int, seconds: float) -> bytes:
    data = b""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([source], [], [], left)[0]:
            data += os.read(source, 1 << 16)
    return data


def round_(log_path: Path, mark: Path, key: LogKey, seed: int, pick: random.Random) -> bytes:
    """Start writers, kill them one after the other at random moments, and return what they had acknowledged."""
    source, out = os.pipe()
    writers = []
    for number in range(WRITERS):
        pid = os.fork()
        if not pid:
            os.close(source)
            try:
                write(log_path, mark, key, seed * WRITERS + number, out)
            finally:
                os._exit(1)  # it should have been killed
        writers.append(pid)
    os.close(out)
    if seed % 2:  # killed while they write, also where a machine is slow to start them
        select.select([source], [], [], 5)
    data = read_for(source, pick.uniform(0.002, 0.03))
    for pid in writers:
        os.kill(pid, signal.SIGKILL)
        data += read_for(source, pick.uniform(0, 0.006))
    for pid in writers:
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status):
            raise SystemExit(f"a writer ended by itself: status {status}")
    while more := os.read(source, 1 << 16):
        data += more
    os.close(source)
    return data


def main(log_path: str, mark: str, key_file: str, kills: str, seed: str) -> None:
    key = LogKey.load(Path(key_file), "example.com/log", None)
    pick = random.Random(int(seed))
    Log.open(Path(log_path), key, watermark=Path(mark)).close()  # so that writers find everything imported and compiled
    for number in range((int(kills) + WRITERS - 1) // WRITERS):
        sys.stdout.buffer.write(round_(Path(log_path), Path(mark), key, number, pick))


if __name__ == "__main__":
    main(*sys.argv[1:])
