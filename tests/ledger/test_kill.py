"""Writers killed in the middle of whatever they do, hundreds of times: what was acknowledged stays.

``LEDGER_KILLS`` sets how many (450). A kill shows that the order of writes is right; what a power failure does to writes that
the disk has promised is SQLite's and the disk's part (``synchronous = FULL``).
"""

import os
import subprocess
import sys
from pathlib import Path

from ledger import fsck
from ledger.checkpoint import Checkpoint
from ledger.log import Log
from ledger.log_key import LogKey
from ledger.note import Note
from ledger.signed_checkpoint import open_checkpoint

KILLS = int(os.environ.get("LEDGER_KILLS", "450"))


def test_acknowledged_entries_survive_kills(tmp_path: Path, key: LogKey) -> None:
    path, mark, key_file = tmp_path / "log.db", tmp_path / "mark", tmp_path / "log.key"
    key.save(key_file, None)
    Log.create(path, key, watermark=mark).close()
    script = Path(__file__).with_name("kill_writers.py")
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(script), str(path), str(mark), str(key_file), str(KILLS), "1"]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    acknowledged = [line.split() for line in done.stdout.decode().splitlines()]
    assert len(acknowledged) > KILLS, "the writers were killed before they had written anything worth testing"

    with Log.open(path, key, watermark=mark) as log:
        assert list(fsck.check(log)) == []
        stored = dict(log.entries())
        size = log.size()
        assert sorted(stored) == list(range(size)) and len(set(stored.values())) == size
        by_index: dict[int, bytes] = {}
        for index, entry, _ in acknowledged:
            assert by_index.setdefault(int(index), bytes.fromhex(entry)) == bytes.fromhex(entry) == stored[int(index)]
        for proof in log.prove_all(sorted(by_index)):
            proof.verify_inclusion(by_index[proof.index])
        trees: dict[int, Checkpoint] = {}
        for note in {note for *_, note in acknowledged}:
            signed = open_checkpoint(bytes.fromhex(note), log_keys=key.verifier_keys).checkpoint
            assert trees.setdefault(signed.size, signed) == signed
        for old in trees.values():
            log.prove_consistency(old.size, old.root)  # RolledBackError if it is not a prefix
        assert log.append(b"and it goes on").index == size
        assert Checkpoint.parse(Note.parse(log.checkpoint()).text).size == size + 1
