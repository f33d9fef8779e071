"""A witness that is killed while it answers, and asked afterwards to cosign a fork. Run by test_witness_kill.py.

Arguments: database, witness's key file, log's key file, kills, seed. Each round proposes a continuation, kills the witness at a
random moment or exactly between its commit and its reply, and then asks for another continuation of the same tree. One line a
round: ``kept`` or ``lost``, for whether the first had reached the disk. Ends with an error if both were cosigned.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

from ledger.checkpoint import Checkpoint
from ledger.log_key import LogKey
from ledger.merkle import consistency_ranges, leaf_hash, range_root, root
from ledger.note import Note
from ledger.witness import Reply, Request, Witness
from ledger.witness_key import WitnessKey

Leaves = list[bytes]


def tree(key: LogKey, leaves: Leaves) -> Checkpoint:
    return Checkpoint(key.name, len(leaves), root(leaves))


def request(key: LogKey, old: int, leaves: Leaves) -> bytes:
    checkpoint = tree(key, leaves)
    ranges = consistency_ranges(old, len(leaves)) if old else []
    proof = tuple(range_root(leaves, lo, hi) for lo, hi in ranges)
    return Request(old, proof, Note.parse(key.sign(checkpoint, 1)), checkpoint).format()


def ask(path: Path, key: WitnessKey, body: bytes) -> Reply:
    with Witness.open(path, key) as witness:
        return witness.add_checkpoint(body)


def killed(path: Path, key: WitnessKey, body: bytes, pick: random.Random) -> bytes:
    """What a witness says that is killed while it answers ``body``."""
    source, out = os.pipe()
    before_reply = pick.random() < 0.3
    pid = os.fork()
    if not pid:
        try:
            with Witness.open(path, key) as witness:
                witness.followed()  # connected: what follows is the request alone
                os.write(out, b"ready")
                reply = witness.add_checkpoint(body)
                if before_reply:
                    os.kill(os.getpid(), signal.SIGKILL)
                os.write(out, b"%d" % reply.status)
                time.sleep(60)
        finally:
            os._exit(1)  # it should have been killed
    os.close(out)
    data = os.read(source, 5)
    if not before_reply:
        time.sleep(pick.uniform(0, 0.004))
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if data != b"ready" or not os.WIFSIGNALED(status):
        raise SystemExit(f"a witness ended by itself: status {status}, said {data!r}")
    said = os.read(source, 16)
    os.close(source)
    if before_reply and said:
        raise SystemExit("it replied before it was to die")
    return b"died" if before_reply else said


def check(condition: bool, what: str) -> None:
    if not condition:
        raise SystemExit(what)


def main(database: str, key_file: str, log_file: str, kills: str, seed: str) -> None:
    path = Path(database)
    key = WitnessKey.load(Path(key_file), "w.example", None)
    log = LogKey.load(Path(log_file), "example.com/log", None)
    pick = random.Random(int(seed))
    history: Leaves = []
    for number in range(int(kills)):
        size = pick.randint(1, 9)
        one, other = (
            [*history, *(leaf_hash(b"%d %d %d" % (number, branch, i)) for i in range(size))] for branch in (1, 2)
        )
        said = killed(path, key, request(log, len(history), one), pick)
        with Witness.open(path, key) as witness:
            state = witness.followed()[0].checkpoint
        kept = state == tree(log, one)
        check(kept or state == tree(log, history), f"round {number}: the witness is at neither tree, but {state}")
        check(kept or said == b"", f"round {number}: {said!r} was said, and then forgotten")
        winner, loser = (one, other) if kept else (other, one)
        if not kept:
            check(
                ask(path, key, request(log, len(history), winner)).status == 200, f"round {number}: no reply any more"
            )
        longer = [*loser, leaf_hash(b"more")]
        answers = [
            ask(path, key, request(log, len(history), loser)).status,
            ask(path, key, request(log, len(winner), loser)).status,
            ask(path, key, request(log, len(winner), longer)).status,
        ]
        check(answers == [409, 422, 422], f"round {number}: a fork was answered with {answers}")
        history = winner
        print("kept" if kept else "lost", said.decode() or "nothing", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
