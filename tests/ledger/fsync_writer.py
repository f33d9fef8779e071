"""Appends to a log whose disk goes bad and is well again, and checks that what was acknowledged is there. Run by test_fsync.py.

Arguments: place (path or URL), watermark, flag: while that file exists, every fsync fails.
"""

import sys
import time
from pathlib import Path

from ledger import fsck
from ledger.checkpoint import Checkpoint
from ledger.errors import StorageError
from ledger.log import Log
from ledger.log_key import LogKey
from ledger.note import Note
from ledger.storage import Place


def main(name: str, mark: Path, flag: Path) -> None:
    place: Place = name if name.startswith("postgresql:") else Path(name)
    key = LogKey.generate("example.com/log")
    placed: dict[bytes, int] = {}
    trees: list[Checkpoint] = []
    failed = 0
    log = Log.create(place, key, watermark=mark)

    def append(entry: bytes) -> bool:
        try:
            done = log.append(entry)
        except StorageError:
            return False
        placed[entry] = done.index
        trees.append(Checkpoint.parse(Note.parse(done.checkpoint).text))
        return True

    for round_ in range(3):
        assert all(append(b"good %d %d" % (round_, i)) for i in range(20))
        flag.touch()
        failed += sum(not append(b"bad %d %d" % (round_, i)) for i in range(5))
        flag.unlink()
        end = time.monotonic() + 30
        while not append(b"good again %d" % round_):  # a server that gave up has to start anew
            assert time.monotonic() < end, "it does not recover"
            time.sleep(0.02)
    assert failed >= 3, "appends were acknowledged that the disk did not have"
    log.close()
    with Log.open(place, key, watermark=mark) as again:
        assert list(fsck.check(again)) == []
        assert all(again.entry(index) == entry for entry, index in placed.items())
        for tree in trees:
            again.prove_consistency(tree.size, tree.root)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
