"""Writers and servers killed under load, many times: nothing acknowledged is lost, and nothing forked is ever signed.

``LEDGER_POSTGRES_KILLS`` sets how many writers are killed (6), ``LEDGER_POSTGRES_RESTARTS`` how often the server (1).
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger import fsck
from ledger.checkpoint import Checkpoint
from ledger.errors import StorageError
from ledger.log import Log
from ledger.log_key import LogKey
from ledger.note import Note
from ledger.signed_checkpoint import open_checkpoint
from tests.postgres import USER, Server, server

KILLS = int(os.environ.get("LEDGER_POSTGRES_KILLS", "6"))
RESTARTS = int(os.environ.get("LEDGER_POSTGRES_RESTARTS", "1"))
WRITERS = 3
_LINE = 400
"""Bytes, roughly."""


class Writers:
    """Processes that append, and what they say."""

    def __init__(self, folder: Path, key: LogKey, url: str, mark: Path) -> None:
        self._folder = folder
        self._arguments = [url, str(mark), str(folder / "log.key")]
        key.save(folder / "log.key", None)
        self._running: list[subprocess.Popen[bytes]] = []
        self._outputs: list[Path] = []

    def start(self, count: int = 1) -> None:
        root = Path(__file__).parents[2]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
        for _ in range(count):
            number = len(self._outputs)
            self._outputs.append(self._folder / f"output-{number}")
            command = [sys.executable, str(Path(__file__).with_name("postgres_writers.py"))]
            with self._outputs[-1].open("wb") as output:
                process = subprocess.Popen(
                    [*command, *self._arguments, str(number)], stdout=output, stderr=output, env=environment
                )
                self._running.append(process)
        end = time.monotonic() + 60
        while not all(output.read_bytes().startswith(b"ready") for output in self._outputs[-count:]):
            assert time.monotonic() < end, [output.read_text()[-800:] for output in self._outputs]
            time.sleep(0.01)

    def _said(self) -> int:
        return sum(output.stat().st_size for output in self._outputs)

    def wait_for_more(self, lines: int) -> None:
        """Until about so many more appends are acknowledged."""
        end, target = time.monotonic() + 60, self._said() + lines * _LINE
        while self._said() < target:
            assert all(process.poll() is None for process in self._running), [
                output.read_text()[-800:] for output in self._outputs
            ]
            assert time.monotonic() < end, [output.read_text()[-500:] for output in self._outputs]
            time.sleep(0.01)

    def kill(self, one: int) -> None:
        process = self._running.pop(one)
        process.kill()
        assert process.wait(60) == -signal.SIGKILL, "it ended by itself"

    def kill_all(self) -> None:
        while self._running:
            self.kill(0)

    def acknowledged(self) -> list[tuple[int, bytes, bytes]]:
        found = []
        for output in self._outputs:
            for line in output.read_text().split("\n")[:-1]:  # the last one may be cut off
                if line.count(" ") == 2:
                    index, entry, note = line.split()
                    found.append((int(index), bytes.fromhex(entry), bytes.fromhex(note)))
        return found


@pytest.fixture(scope="module")
def postgres_of_its_own() -> Iterator[Server]:
    with server() as running:
        yield running


def check_history(log: Log, key: LogKey, acknowledged: list[tuple[int, bytes, bytes]]) -> None:
    """All is there, where it was said to be, and every checkpoint that was handed out is of this history."""
    assert list(fsck.check(log)) == []
    stored = dict(log.entries())
    assert len(set(stored.values())) == len(stored) == log.size()
    assert all(stored[index] == entry for index, entry, _ in acknowledged)
    trees: dict[int, Checkpoint] = {}
    for note in {note for *_, note in acknowledged}:
        signed = open_checkpoint(note, log_keys=key.verifier_keys).checkpoint
        assert trees.setdefault(signed.size, signed) == signed
    for tree in trees.values():
        log.prove_consistency(tree.size, tree.root)
    for index, entry, note in acknowledged[:: max(1, len(acknowledged) // 200)]:
        assert index < Checkpoint.parse(Note.parse(note).text).size
        log.prove(index).verify_inclusion(entry)


def test_acknowledged_entries_survive_killed_writers(tmp_path: Path, key: LogKey, postgres: Server) -> None:
    url, mark, pick = postgres.url(), tmp_path / "mark", random.Random(5)
    Log.create(url, key, watermark=mark).close()
    writers = Writers(tmp_path, key, url, mark)
    writers.start(WRITERS)
    for _ in range(KILLS):
        writers.wait_for_more(pick.randrange(1, 60))
        writers.kill(pick.randrange(WRITERS))
        writers.start()
    writers.wait_for_more(30)
    writers.kill_all()
    with Log.open(url, key, watermark=mark) as log:
        check_history(log, key, writers.acknowledged())
        size = log.size()
        assert log.append(b"and it goes on").index == size or log.size() > size + 1  # what the dead had asked for


@pytest.mark.parametrize("how", ["stopped at once", "killed"])
def test_acknowledged_entries_survive_a_server_that_dies(
    tmp_path: Path, key: LogKey, postgres_of_its_own: Server, how: str
) -> None:
    """Under load, again and again; the same writers go on with the same Log when it is back."""
    server_, mark = postgres_of_its_own, tmp_path / "mark"
    url, pick = server_.url(), random.Random(6)
    Log.create(url, key, watermark=mark).close()
    writers = Writers(tmp_path, key, url, mark)
    writers.start(WRITERS)
    with Log.open(url, key, watermark=mark) as own:
        for number in range(RESTARTS):
            writers.wait_for_more(pick.randrange(40, 200))
            server_.stop() if how == "stopped at once" else server_.kill()
            with pytest.raises(StorageError, match="failed"):
                own.append(b"while it is down %d" % number)
            server_.start()
            writers.wait_for_more(100)
            again = own.append(b"while it is down %d" % number)
            assert own.entry(again.index) == b"while it is down %d" % number
        writers.kill_all()
        acknowledged = writers.acknowledged()
        assert len(acknowledged) > 100
        check_history(own, key, acknowledged)


def test_first_append_after_a_restart_finds_a_new_connection(key: LogKey, postgres_of_its_own: Server) -> None:
    """Nobody has to hear of a restart that happened while nothing was going on."""
    server_ = postgres_of_its_own
    with Log.create(server_.url(), key) as log:
        log.append(b"before")
        log.append_many([b"many"] * 100)
        for how in (signal.SIGINT, signal.SIGQUIT):
            server_.stop(how)
            server_.start()
            assert log.append(b"after %d" % how).new and log.size() and log.append_many([b"%d" % how] * 70)
        assert log.size() == 6


def test_connection_ended_in_the_middle_of_an_append(
    key: LogKey, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading and committing: nothing is written, and the next append works."""
    import psycopg

    from ledger.storage import Transaction

    url = postgres.url()
    with Log.create(url, key) as log, Log.open(url, key) as other:
        log.append(b"first")
        add = Transaction.add

        def cut(self: Transaction, *arguments: object) -> None:
            with psycopg.connect(postgres.url(""), autocommit=True) as admin:
                admin.execute(
                    "select pg_terminate_backend(pid, 10000) from pg_stat_activity where pid <> pg_backend_pid() "
                    "and query like any (array['%gather%', '%advisory%', '%find%', '%leaf%'])"
                )
            add(self, *arguments)  # type: ignore[arg-type]

        for entries in ([b"lost"], [b"lost %d" % i for i in range(100)]):
            with monkeypatch.context() as patch:
                patch.setattr(Transaction, "add", cut)
                with pytest.raises(StorageError, match="failed"):
                    log.append_many(entries)
            assert other.size() == 1 or other.find(b"lost") is not None
            assert other.find(entries[-1]) is None
        assert log.append(b"second").new and log.append_many([b"many %d" % i for i in range(100)])[-1].new
        assert list(fsck.check(other)) == []


def test_disk_of_the_server_is_full(key: LogKey, tmp_path: Path) -> None:
    """Data on a small file system: appends fail, nothing acknowledged is lost, and they go on once there is room."""
    if os.getuid() != 0:
        pytest.skip("mounting a small file system needs root")
    with server() as running:
        small = running.folder / "small"
        small.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=777", "tmpfs", str(small)]).returncode:
            pytest.skip("no file system can be mounted here")
        try:
            _fill_up(running, small, key)
        finally:
            running.stop()
            subprocess.run(["umount", str(small)], check=True)


def _fill_up(running: Server, small: Path, key: LogKey) -> None:
    import psycopg

    url = running.url()
    with Log.create(url, key) as log:
        shutil.chown(small, USER)
        with psycopg.connect(running.url(""), autocommit=True) as admin:
            admin.execute(f"create tablespace small location '{small}'".encode())
            admin.execute(f"alter table {url.partition('#')[2]}.entries set tablespace small".encode())
        placed: dict[bytes, int] = {}
        failed = 0
        while failed < 3:
            entries = [os.urandom(4000) for _ in range(8)]
            try:
                placed |= {entry: done.index for entry, done in zip(entries, log.append_many(entries), strict=True)}
            except StorageError as error:
                assert "No space left" in str(error)
                failed += 1
        assert len(placed) > 100 and log.size() >= len(placed)
        subprocess.run(["mount", "-o", "remount,size=40m", str(small)], check=True)
        assert log.append(b"more").new
        stored = dict(log.entries())
        assert all(stored[index] == entry for entry, index in placed.items()) and list(fsck.check(log)) == []
