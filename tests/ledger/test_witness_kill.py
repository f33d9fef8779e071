"""kill -9 of a witness, at any moment of its answer: afterwards it never cosigns a fork."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from ledger.log_key import LogKey
from ledger.witness import Witness
from ledger.witness_key import WitnessKey

KILLS = int(os.environ.get("LEDGER_WITNESS_KILLS", "60"))
ROOT = Path(__file__).parents[2]


def test_witness_killed_before_its_reply_never_cosigns_a_fork(tmp_path: Path) -> None:
    log, key = LogKey.generate("example.com/log"), WitnessKey.generate("w.example")
    log.save(tmp_path / "log.pem", None)
    key.save(tmp_path / "w.pem", None)
    with Witness.create(tmp_path / "w.db", key) as witness:
        witness.follow(log.verifier_keys)
    script = Path(__file__).with_name("kill_witness.py")
    arguments = [str(tmp_path / name) for name in ("w.db", "w.pem", "log.pem")]
    done = subprocess.run(
        [sys.executable, script, *arguments, str(KILLS), "1"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    rounds = Counter(done.stdout.splitlines())
    assert rounds.total() == KILLS
    assert rounds["kept died"] and not rounds["lost died"]  # on disk before each reply
    assert rounds["lost nothing"] or KILLS < 60  # and killed before that, too
