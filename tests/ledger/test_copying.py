"""A log moves between databases, is backed up and put back: the same entries, the same roots, never two histories."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger import fsck
from ledger.backup import backup, restore
from ledger.checkpoint import Checkpoint
from ledger.copying import Copy
from ledger.errors import LedgerError, RolledBackError, StorageError, TamperedError
from ledger.export import export
from ledger.log import Log
from ledger.log_key import LogKey
from ledger.migrate import migrate
from ledger.note import Note
from ledger.source import FolderSource
from ledger.storage import Place
from tests.postgres import Server

SIZE = 70_000
LogOf = Callable[[int], Log]


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "mark"


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return tmp_path / "copy.db"
    url: str = request.getfixturevalue("postgres").url()
    return url


def fill(log: Log, first: int, end: int) -> None:
    log.append_many([b"entry %d" % i for i in range(first, end)])


# -- moving ------------------------------------------------------------------------------------------------------------


def test_log_moves_to_postgresql_and_back(tmp_path: Path, key: LogKey, mark: Path, postgres: Server) -> None:
    path, url = tmp_path / "log.db", postgres.url()
    done: list[int] = []
    with Log.create(path, key, watermark=mark) as log:
        fill(log, 0, SIZE)
        with log.storage.transaction() as transaction:
            transaction.keep("small", b"kept with it")
        note, proof = log.checkpoint(), log.prove(4711).format()
        assert migrate(log, url, done.append).size == SIZE
        assert done == sorted(done) and done[-1] == SIZE
        with pytest.raises(StorageError, match=f"was moved to {url.split('?')[0]}.*an append here would fork it"):
            log.append(b"more")
        assert log.entry(7) == b"entry 7", "it can still be read"
    with Log.open(url, key, watermark=mark) as moved:
        assert (moved.checkpoint(), moved.prove(4711).format()) == (note, proof)
        assert list(fsck.check(moved)) == []
        with moved.snapshot() as (snapshot, _):
            assert snapshot.all_kept() == {"small": b"kept with it"}
        assert moved.append(b"more").index == SIZE
        assert migrate(moved, path).size == SIZE + 1, "into the file that it has left"
        with pytest.raises(StorageError, match="was moved to"):
            moved.append(b"and more")
    with Log.open(path, key, watermark=mark) as back:
        assert list(fsck.check(back)) == [] and back.append(b"and more").index == SIZE + 1


def test_old_database_refuses_processes_that_have_it_open(log_of: LogOf, path: Path, key: LogKey, place: Place) -> None:
    log = log_of(10)
    with Log.open(path, key) as other:
        other.append(b"before")
        migrate(log, place)
        for attempt in (lambda: other.append(b"after"), lambda: log.append_many([b"after"] * 3)):
            with pytest.raises(StorageError, match="was moved"):
                attempt()
    with Log.open(path, key) as late, pytest.raises(StorageError, match="was moved"):
        late.append(b"after")


def test_entries_appended_meanwhile_move_with_the_others(log_of: LogOf, path: Path, key: LogKey, place: Place) -> None:
    log = log_of(5000)

    def append() -> None:
        with Log.open(path, key) as other:
            other.append_many([b"meanwhile %d" % i for i in range(300)])

    assert migrate(log, place, before_lock=append).size == 5300
    with Log.open(place, key) as moved:
        assert moved.entry(5299) == b"meanwhile 299" and list(fsck.check(moved)) == []


@pytest.mark.parametrize("when", ["while copying", "before the mark", "after the mark"])
def test_move_that_was_cut_off_goes_on(
    log_of: LogOf, key: LogKey, place: Place, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each of its steps: never can both be appended to, and the same call finishes it."""
    log = log_of(20_000)

    class Cut(Exception):
        pass

    def cut(*_: object, **__: object) -> None:
        raise Cut

    def progress(done: int) -> None:
        if done > 8000 and when == "while copying":
            raise Cut

    with monkeypatch.context() as patch:
        if when == "after the mark":
            patch.setattr(Copy, "finish", cut)
        with pytest.raises(Cut):
            migrate(log, place, progress, before_lock=cut if when == "before the mark" else lambda: None)
    with pytest.raises(StorageError, match="copy that was not completed"):
        Log.open(place, key)
    if when == "after the mark":
        with pytest.raises(StorageError, match="was moved"):
            log.append(b"lost")
        with pytest.raises(StorageError, match=r"was moved to .* already"):
            migrate(log, Path("elsewhere.db"))
    else:
        log.append(b"in time")
    assert migrate(log, place).size == 20_000 + (when != "after the mark")
    with Log.open(place, key) as moved:
        assert list(fsck.check(moved)) == []


def test_damaged_log_is_not_moved(log_of: LogOf, path: Path, key: LogKey, place: Place) -> None:
    import sqlite3

    log = log_of(3000)
    with sqlite3.connect(path) as connection:
        connection.execute("update entries set data = 'x' || data where \"index\" = 2000")
        connection.execute("update entries set data = cast(data as blob)")
    connection.close()
    with pytest.raises(TamperedError, match="certify log fsck"):
        migrate(log, place)
    with pytest.raises(StorageError):
        Log.open(place, key)
    assert log.append(b"goes on here").index == 3000


def test_another_log_is_not_written_over(log_of: LogOf, key: LogKey, place: Place) -> None:
    with Log.create(place, key) as other:
        other.append(b"other")
    with pytest.raises(StorageError, match="holds a log already"):
        migrate(log_of(10), place)
    with Log.open(place, key) as other:
        assert other.append(b"still writable").index == 1


# -- backup and restore ------------------------------------------------------------------------------------------------


def test_backup_while_others_append(place: Place, tmp_path: Path, key: LogKey) -> None:
    """It is one moment of the log, complete, and nobody waits for it."""
    stop, failures = threading.Event(), list[BaseException]()
    with Log.create(place, key) as log:
        fill(log, 0, 20_000)

        def write() -> None:
            try:
                number = 0
                while not stop.is_set():
                    log.append(b"meanwhile %d" % number)
                    number += 1
            except BaseException as error:
                failures.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            signed = backup(log, tmp_path / "saved")
        finally:
            stop.set()
            writer.join(60)
        assert not failures and 20_000 <= signed.size <= log.size()
        assert log.prove_consistency(signed.size, signed.root)
    with Log.open(tmp_path / "saved", verifier_keys=key.verifier_keys) as saved:
        assert list(fsck.check(saved)) == [] and saved.size() == signed.size
    assert sorted(file.name for file in tmp_path.glob("*saved*")) == ["saved"]


def test_backup_replaces_nothing_and_leaves_nothing_behind(
    log_of: LogOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_of(100)
    (tmp_path / "saved").write_text("something else")
    with pytest.raises(StorageError, match="exists already"):
        backup(log, tmp_path / "saved")
    assert (tmp_path / "saved").read_text() == "something else"
    monkeypatch.setattr(fsck, "check", lambda log: iter(["entry 7: its bytes hash to something else"]))
    with pytest.raises(TamperedError, match="did not come back from disk"):
        backup(log, tmp_path / "other")
    assert not list(tmp_path.glob("*other*"))


def test_restored_log_goes_on(tmp_path: Path, key: LogKey, mark: Path, place: Place) -> None:
    with Log.create(tmp_path / "log.db", key, watermark=mark) as log:
        fill(log, 0, 3000)
        backup(log, tmp_path / "saved")
    (tmp_path / "log.db").unlink()
    assert restore(tmp_path / "saved", place, key.verifier_keys).size == 3000
    with Log.open(place, key, watermark=mark) as log:
        assert log.append(b"more").index == 3000 and list(fsck.check(log)) == []


def test_older_state_restored_is_not_signed_over(tmp_path: Path, key: LogKey, mark: Path, place: Place) -> None:
    """Without the watermark the log would give index 300 a second time: a fork."""
    with Log.create(tmp_path / "log.db", key, watermark=mark) as log:
        fill(log, 0, 300)
        backup(log, tmp_path / "saved")
        log.append(b"published since")
    restore(tmp_path / "saved", place, key.verifier_keys)
    with pytest.raises(RolledBackError, match="300 entries, but a checkpoint of 301 was signed"):
        Log.open(place, key, watermark=mark)
    with Log.open(place, key, watermark=mark, check=False) as log:
        for attempt in (lambda: log.append(b"another"), lambda: log.append_many([b"x"] * 100)):
            with pytest.raises(RolledBackError, match="restore"):
                attempt()
    with Log.open(place, key) as log:  # what the watermark prevents
        assert log.append(b"another").index == 300


def test_what_a_backup_lacks_is_taken_from_an_export(tmp_path: Path, key: LogKey, mark: Path, place: Place) -> None:
    with Log.create(tmp_path / "log.db", key, watermark=mark) as log:
        fill(log, 0, 700)
        backup(log, tmp_path / "saved")
        fill(log, 700, 1000)
        note = log.checkpoint()
        export(log, tmp_path / "web")
    bundle = tmp_path / "web" / "tile" / "entries" / "003.p" / "232"
    honest = bundle.read_bytes()
    bundle.write_bytes(honest.replace(b"entry 999", b"forged 99"))
    with pytest.raises(TamperedError):
        restore(
            tmp_path / "saved",
            tmp_path / "forged.db",
            key.verifier_keys,
            newest=note,
            rest=FolderSource(tmp_path / "web"),
        )
    with pytest.raises(StorageError, match="not completed"):
        Log.open(tmp_path / "forged.db", key)
    bundle.write_bytes(honest)
    restore(tmp_path / "saved", place, key.verifier_keys, newest=note, rest=FolderSource(tmp_path / "web"))
    with Log.open(place, key, watermark=mark) as log:
        assert log.checkpoint() == note and list(fsck.check(log)) == [] and log.append(b"more").index == 1000


def test_backup_of_another_log_or_altered_is_not_restored(log_of: LogOf, tmp_path: Path, key: LogKey) -> None:
    import sqlite3

    backup(log_of(600), tmp_path / "saved")
    other = LogKey.generate("example.com/other")
    with pytest.raises(LedgerError):
        restore(tmp_path / "saved", tmp_path / "a.db", other.verifier_keys)
    connection = sqlite3.connect(tmp_path / "saved")
    connection.execute("update entries set data = x'00' where \"index\" = 5")
    connection.commit()
    connection.close()
    with pytest.raises(TamperedError):
        restore(tmp_path / "saved", tmp_path / "b.db", key.verifier_keys)
    for name in ("a.db", "b.db"):
        with pytest.raises(StorageError):
            Log.open(tmp_path / name, key)


# -- disks and clocks --------------------------------------------------------------------------------------------------


def test_clock_set_back_signs_no_second_history(tmp_path: Path, mark: Path) -> None:
    """Times are in signatures (ML-DSA-44) only: order is by index."""
    key, now = LogKey.generate("example.com/log", post_quantum=True), [2_000_000_000.0]
    trees: list[Checkpoint] = []
    with Log.create(tmp_path / "log.db", key, watermark=mark, clock=lambda: now[0]) as log:
        for step in (0.0, -1e9, 5.0, -1e8, 1e9):
            now[0] += step
            trees.append(Checkpoint.parse(Note.parse(log.append(b"%f" % step).checkpoint).text))
        assert [tree.size for tree in trees] == [1, 2, 3, 4, 5]
        for tree in trees:
            log.prove_consistency(tree.size, tree.root)
        assert list(fsck.check(log)) == []


def test_full_disk_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """The largest file that the process may write is limited, as by a full disk: appends fail, and go on once there is room."""
    import subprocess
    import sys

    script = f"""
import resource, signal, sys
from pathlib import Path
from ledger import fsck
from ledger.errors import StorageError
from ledger.log import Log
from ledger.log_key import LogKey
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
key, path, mark = LogKey.generate("example.com/log"), Path({str(tmp_path / "log.db")!r}), Path({str(tmp_path / "mark")!r})
log = Log.create(path, key, watermark=mark)
placed, failed = {{}}, 0
for limit in (400_000, 700_000, resource.RLIM_INFINITY):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for number in range(200):
        entry = (b"%d %d " % (limit, number)) * 200
        try:
            placed[entry] = log.append(entry).index
        except StorageError as error:
            assert "full" in str(error) or "disk" in str(error), error
            failed += 1
            if failed % 5 == 0:
                break
assert failed >= 5 and len(placed) > 200, (failed, len(placed))
assert list(fsck.check(log)) == []
stored = dict(log.entries())
assert all(stored[index] == entry for entry, index in placed.items())
log.close()
Log.open(path, key, watermark=mark).close()
"""
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, env=os.environ | {"PYTHONPATH": root}, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
