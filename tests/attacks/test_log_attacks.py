"""Attacks on a log by somebody who can write to its database, or to what lies beside it.

The attacker has no signing key. What must hold: nothing altered is handed out as logged, nothing is signed over it, and
after each refusal the file stands as the attacker left it.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from ledger import fsck
from ledger.checkpoint import Checkpoint
from ledger.errors import LedgerError, ProofError, RolledBackError, SignatureError, StorageError, TamperedError
from ledger.log import Log
from ledger.log_key import LogKey
from ledger.merkle import Frontier, leaf_hash, root
from ledger.note import Note
from ledger.proof import TlogProof
from ledger.signed_checkpoint import open_checkpoint
from ledger.tiles import Tile

SIZE = 600  # entries 0 to 511 in two full tiles, 512 to 599 in a partial one
AT = 'where "index" = ?'


@pytest.fixture(scope="module")
def key() -> LogKey:
    return LogKey.generate("example.com/log")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """Beside the key, out of the attacker's reach."""
    (tmp_path / "keys").mkdir()
    return tmp_path / "keys" / "log.watermark"


@pytest.fixture
def log(path: Path, key: LogKey, mark: Path) -> Iterator[Log]:
    """A process that has appended and goes on running."""
    with Log.create(path, key, watermark=mark) as log:
        log.append_many([b"entry %d" % i for i in range(SIZE)])
        yield log


def sql(path: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


@contextmanager
def nothing_signed(path: Path, mark: Path | None = None) -> Iterator[None]:
    """The head, the entries and the watermark are the same after the block."""

    def state() -> tuple[object, ...]:
        head = sql(path, "select size, checkpoint from head")
        return head, sql(path, 'select "index", data from entries'), mark.read_bytes() if mark else None

    before = state()
    yield
    assert state() == before


def refuses(path: Path, key: LogKey, mark: Path, error: type[LedgerError] = TamperedError) -> None:
    """A new process opens it neither to write nor to read, and signs nothing."""
    with nothing_signed(path, mark):
        with pytest.raises(error):
            Log.open(path, key, watermark=mark)
        with pytest.raises(error):
            Log.open(path, verifier_keys=key.verifier_keys, watermark=mark)
        with Log.open(path, key, watermark=mark, check=False) as unchecked:
            for attempt in (lambda: unchecked.append(b"more"), unchecked.checkpoint, lambda: unchecked.prove(0)):
                with pytest.raises(error):
                    attempt()


def found(path: Path, key: LogKey, mark: Path) -> str:
    with Log.open(path, key, watermark=mark, check=False) as log:
        return "\n".join(fsck.check(log))


# -- contents ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [5, 300, 599])
def test_edited_entry_is_neither_handed_out_nor_proven(
    log: Log, path: Path, key: LogKey, mark: Path, index: int
) -> None:
    sql(path, f"update entries set data = cast('forged' as blob) {AT}", index)
    assert sql(path, f"select data from entries {AT}", index) == [(b"forged",)]  # what trusting the file would yield
    with Log.open(path, key, watermark=mark) as fresh:
        for reader in (log, fresh):
            for attempt in (
                lambda reader=reader: reader.entry(index),
                lambda reader=reader: reader.prove(index),
                lambda reader=reader: list(reader.entries()),
                lambda reader=reader: reader.bundle(Tile(0, index // 256, 88)),
            ):
                with pytest.raises(TamperedError):
                    attempt()
            assert reader.find(b"forged") is None
            assert reader.prove(index ^ 1).verify(b"entry %d" % (index ^ 1), log_keys=key.verifier_keys)
    assert f"entry {index}: " in found(path, key, mark)


def test_edited_entry_with_its_leaf_hash_is_neither_handed_out_nor_proven(
    log: Log, path: Path, key: LogKey, mark: Path
) -> None:
    """Entry and leaf column agree with each other, not with the tree."""
    sql(path, f"update entries set data = ?, leaf = ? {AT}", b"forged", leaf_hash(b"forged"), 5)
    with nothing_signed(path, mark):
        for attempt in (lambda: log.entry(5), lambda: log.prove(5), lambda: log.find(b"forged")):
            with pytest.raises(TamperedError):
                attempt()
    assert "tile/0/000: the hash of entry 5 " in found(path, key, mark)


def test_edited_entry_hash_and_tile_are_refused(log: Log, path: Path, key: LogKey, mark: Path) -> None:
    """Whoever recomputes the whole tile still lacks a signature on the root that it leads to."""
    (data,) = sql(path, "select hashes from tiles where level = 0 and \"index\" = 0")[0]  # fmt: skip
    assert isinstance(data, bytes)
    forged = data[: 5 * 32] + leaf_hash(b"forged") + data[6 * 32 :]
    leaves = [forged[i : i + 32] for i in range(0, 8192, 32)]
    sql(path, f"update entries set data = ?, leaf = ? {AT}", b"forged", leaf_hash(b"forged"), 5)
    sql(path, "update tiles set hashes = ? where level = 0 and \"index\" = 0", forged)  # fmt: skip
    for attempt in (
        lambda: log.entry(5),
        lambda: log.prove(5),
        lambda: log.prove(6),
        lambda: log.bundle(Tile(0, 0, 9)),
    ):
        with pytest.raises(TamperedError):
            attempt()
    (upper,) = sql(path, "select hashes from tiles where level = 1")[0]
    assert isinstance(upper, bytes)
    sql(path, "update tiles set hashes = ? where level = 1", root(leaves) + upper[32:])
    refuses(path, key, mark)  # now the right edge leads elsewhere as well
    assert "root: " in found(path, key, mark)


@pytest.mark.parametrize("index", [512, 599])
def test_edited_leaf_at_the_right_edge_is_not_signed_over(
    log: Log, path: Path, key: LogKey, mark: Path, index: int
) -> None:
    """An append builds on it, so a new process looks at it first; a running one has the edge in memory, and signs the truth."""
    sql(path, f"update entries set leaf = zeroblob(32) {AT}", index)
    refuses(path, key, mark)
    assert f"entry {index}: its bytes hash to" in found(path, key, mark)
    appended = log.append(b"more")
    truth = [leaf_hash(b"entry %d" % i) for i in range(SIZE)] + [leaf_hash(b"more")]
    assert open_checkpoint(appended.checkpoint, log_keys=key.verifier_keys).checkpoint.root == root(truth)


@pytest.mark.parametrize(("level", "index"), [(0, 0), (0, 1), (1, 0)])
def test_edited_tile_is_refused(log: Log, path: Path, key: LogKey, mark: Path, level: int, index: int) -> None:
    where = 'level = ? and "index" = ?'
    (data,) = sql(path, f"select hashes from tiles where {where}", level, index)[0]
    assert isinstance(data, bytes)
    sql(path, f"update tiles set hashes = ? where {where}", bytes([data[0] ^ 1]) + data[1:], level, index)
    if level == 1:
        refuses(path, key, mark)
    else:
        with pytest.raises(TamperedError):
            log.prove(index * 256 + 9)
    assert f"tile/{level}/00{index}" in found(path, key, mark)


def test_edited_deduplication_row_does_not_make_an_unlogged_entry_look_logged(
    log: Log, path: Path, key: LogKey, mark: Path
) -> None:
    """The answer "logged already, at 7" would let a certificate be dropped without a trace."""
    for index in (7, 599):
        sql(path, f"update entries set leaf = ? {AT}", leaf_hash(b"unlogged %d" % index), index)
        (row,) = sql(path, 'select "index" from entries where leaf = ?', leaf_hash(b"unlogged %d" % index))
        assert row == (index,)  # what a lookup that is believed would answer
        with nothing_signed(path, mark):
            for attempt in (log.append, log.find, lambda entry: log.append_many([b"new", entry])):
                with pytest.raises(TamperedError, match=f"entry {index} is not what was logged"):
                    attempt(b"unlogged %d" % index)


def test_inserted_row_does_not_make_an_unlogged_entry_look_logged(
    log: Log, path: Path, key: LogKey, mark: Path
) -> None:
    for index in (-3, 600, 10**15):
        entry = b"unlogged %d" % index
        sql(path, "insert into entries values (?, ?, ?)", index, leaf_hash(entry), entry)
        with nothing_signed(path, mark):
            with pytest.raises(TamperedError):
                log.append(entry)
            with pytest.raises(TamperedError):
                log.find(entry)
            with pytest.raises(StorageError):
                log.entry(index)
        assert f"{index}: stored" in found(path, key, mark) or f"to {index}: stored" in found(path, key, mark)
    with nothing_signed(path, mark), pytest.raises(StorageError):
        log.append(b"honest")  # index 600 is taken: refused rather than mixed with what was inserted


def test_deleted_row_is_refused(log: Log, path: Path, key: LogKey, mark: Path) -> None:
    sql(path, f"delete from entries {AT}", 7)
    for attempt in (
        lambda: log.entry(7),
        lambda: log.prove(7),
        lambda: list(log.entries()),
        lambda: log.bundle(Tile(0, 0, 9)),
    ):
        with pytest.raises(TamperedError, match="entry 7 is missing"):
            attempt()
    assert "entry 7: missing" in found(path, key, mark)
    sql(path, f"delete from entries {AT}", 599)
    refuses(path, key, mark)
    assert "entry 599: missing" in found(path, key, mark)


def test_tile_prepared_for_the_future_is_not_built_upon(log: Log, path: Path, mark: Path, key: LogKey) -> None:
    more = [b"more %d" % i for i in range(200)]
    sql(path, "insert into tiles values (0, 2, zeroblob(8192))")
    with nothing_signed(path, mark), pytest.raises(StorageError):
        log.append_many(more)
    sql(path, "delete from tiles where level = 0 and \"index\" = 2")  # fmt: skip
    sql(path, "update tiles set hashes = cast(hashes || zeroblob(32) as blob) where level = 1")
    with nothing_signed(path, mark), pytest.raises(TamperedError, match=r"tile/1/000\.p/3 is next"):
        log.append_many(more)


# -- head --------------------------------------------------------------------------------------------------------------


def test_edited_checkpoint_is_refused(log: Log, path: Path, key: LogKey, mark: Path) -> None:
    note = log.checkpoint()
    for forged in (note.replace(b"\n600\n", b"\n601\n"), note[:-9] + b"AAAAAAA=\n", note[:40], b"", note + b"x"):
        sql(path, "update head set checkpoint = ?", forged)
        refuses(path, key, mark)
        with nothing_signed(path, mark), pytest.raises(TamperedError):
            log.append(b"more")


def test_checkpoint_signed_by_another_key_is_refused(log: Log, path: Path, key: LogKey, mark: Path) -> None:
    """Of the same name, over the same tree, and over one with a forged entry."""
    other = LogKey.generate(key.name)
    tree = Checkpoint.parse(Note.parse(log.checkpoint()).text)
    for checkpoint in (tree, Checkpoint(tree.origin, tree.size, leaf_hash(b"forged"))):
        sql(path, "update head set checkpoint = ?", other.sign(checkpoint, 0))
        refuses(path, key, mark)
        with nothing_signed(path, mark), pytest.raises(TamperedError, match="no signature of a known key"):
            log.append(b"more")


def test_older_checkpoint_replayed_within_the_database_is_refused(path: Path, key: LogKey, mark: Path) -> None:
    """A genuine old signature over fewer entries would make the log sign another entry at index 3: a fork."""
    with Log.create(path, key, watermark=mark) as log:
        old = log.append_many([b"0", b"1", b"2"])[0].checkpoint
        log.append_many([b"3", b"4"])
        sql(path, "update head set checkpoint = ?", old)
        refuses(path, key, mark)  # size and checkpoint disagree
        sql(path, "update head set size = 3")
        refuses(path, key, mark, RolledBackError)
        sql(path, 'delete from entries where "index" >= 3')
        refuses(path, key, mark, RolledBackError)
        with nothing_signed(path, mark), pytest.raises(RolledBackError):
            log.append(b"another third")
        assert "rolled back" in found(path, key, mark)
    mark.unlink()  # why the watermark has to be out of the attacker's reach: nothing else remembers
    with Log.open(path, key) as log:
        assert log.append(b"another third").index == 3


@pytest.mark.parametrize("size", [-1, 0, 599, 601, 2**62])
def test_edited_tree_size_is_refused(log: Log, path: Path, key: LogKey, mark: Path, size: int) -> None:
    sql(path, "update head set size = ?", size)
    refuses(path, key, mark)
    with nothing_signed(path, mark):
        for attempt in (
            lambda: log.append(b"more"),
            log.checkpoint,
            log.size,
        ):  # not ConflictError: a retry would not help
            with pytest.raises(TamperedError):
                attempt()


# -- rollback and forks ------------------------------------------------------------------------------------------------


def copy(source: Path, target: Path) -> None:
    """The database as it lies on disk, write-ahead log and all."""
    for suffix in ("", "-wal", "-shm"):
        old, new = Path(str(source) + suffix), Path(str(target) + suffix)
        new.unlink(missing_ok=True)
        if old.exists():
            shutil.copy(old, new)


def test_rolled_back_file_is_refused(path: Path, key: LogKey, mark: Path) -> None:
    backup = path.with_name("backup.db")
    with Log.create(path, key, watermark=mark) as log:
        log.append_many([b"%d" % i for i in range(300)])
    copy(path, backup)
    with Log.open(path, key, watermark=mark) as log:
        log.append(b"to be forgotten")
    copy(backup, path)
    with Log.open(path, verifier_keys=key.verifier_keys) as log:
        assert log.size() == 300  # by itself, the old file is beyond reproach
    refuses(path, key, mark, RolledBackError)


def test_file_rolled_back_under_a_running_process_is_refused(path: Path, key: LogKey, mark: Path) -> None:
    """Also without a watermark: the process remembers."""
    backup = path.with_name("backup.db")
    for watermark in (mark, None):
        for old in (path, backup):
            for suffix in ("", "-wal", "-shm"):
                Path(str(old) + suffix).unlink(missing_ok=True)
        with Log.create(path, key, watermark=watermark) as log:
            log.append_many([b"%d" % i for i in range(300)])
            with closing(sqlite3.connect(path)) as one, closing(sqlite3.connect(backup)) as two:
                one.backup(two)
            log.append(b"to be forgotten")
            with closing(sqlite3.connect(path)) as one, closing(sqlite3.connect(backup)) as two:
                two.backup(one)  # the running process sees the restored pages
            with nothing_signed(path):
                for attempt in (log.checkpoint, lambda log=log: log.append(b"more"), lambda log=log: log.prove(0)):
                    with pytest.raises(RolledBackError, match="300 entries, but a checkpoint of 301 was signed"):
                        attempt()
        mark.unlink(missing_ok=True)


@pytest.mark.parametrize("more", [1, 2, 7])
def test_rolled_back_file_that_grew_past_the_watermark_is_refused(
    path: Path, key: LogKey, mark: Path, more: int
) -> None:
    """Restored, then appended to by a machine that lacked the watermark: as large or larger, and another history."""
    backup = path.with_name("backup.db")
    with Log.create(path, key, watermark=mark) as log:
        log.append_many([b"%d" % i for i in range(300)])
    copy(path, backup)
    with Log.open(path, key, watermark=mark) as log:
        log.append(b"to be forgotten")
    copy(backup, path)
    with Log.open(path, key) as log:
        log.append_many([b"fork %d" % i for i in range(more)])
    refuses(path, key, mark, RolledBackError)


def test_fork_is_not_proven_consistent(path: Path, key: LogKey, mark: Path) -> None:
    with Log.create(path, key, watermark=mark) as log:
        old = Checkpoint.parse(Note.parse(log.append_many([b"a", b"b"])[0].checkpoint).text)
        log.append(b"c")
        with pytest.raises(RolledBackError):
            log.prove_consistency(2, leaf_hash(b"another root"))
        assert log.prove_consistency(2, old.root)


@pytest.mark.parametrize("data", [b"garbage", b"\0", b"\xff" * 300, b"example.com/log\n3\n"])
def test_damaged_watermark_is_refused(log: Log, path: Path, key: LogKey, mark: Path, data: bytes) -> None:
    """Not taken for an absent one, which would let a rollback through."""
    mark.write_bytes(data)
    with nothing_signed(path, mark):
        with pytest.raises(TamperedError, match="watermark"):
            Log.open(path, key, watermark=mark)
        with pytest.raises(TamperedError, match="watermark"):
            log.append(b"more")


def test_watermark_of_another_log_is_refused(log: Log, path: Path, key: LogKey, mark: Path) -> None:
    other = LogKey.generate("example.com/other")
    mark.write_bytes(other.sign(Checkpoint(other.name, 1, leaf_hash(b"")), 0))
    with pytest.raises(RolledBackError, match=r"watermark is of log example\.com/other"):
        Log.open(path, key, watermark=mark)


def test_new_log_beside_an_old_watermark_is_refused(log: Log, path: Path, key: LogKey, mark: Path) -> None:
    """Deleting the database and starting afresh would sign a second history."""
    with pytest.raises(RolledBackError, match="has signed a log already"):
        Log.create(path.with_name("new.db"), key, watermark=mark)
    assert not path.with_name("new.db").exists()


def test_log_of_another_key_is_refused(log: Log, path: Path, key: LogKey) -> None:
    for name in (key.name, "example.com/other"):
        with nothing_signed(path), pytest.raises(TamperedError):
            Log.open(path, LogKey.generate(name))


def test_log_without_its_ml_dsa_signature_is_refused(path: Path) -> None:
    key = LogKey.generate("example.com/both", post_quantum=True)
    with Log.create(path, key) as log:
        note = Note.parse(log.append(b"entry").checkpoint)
        sql(path, "update head set checkpoint = ?", Note(note.text, note.signatures[:1]).format())
        with nothing_signed(path), pytest.raises(TamperedError, match="no ML-DSA-44 signature"):
            log.append(b"more")


# -- the file ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 1e-5, 1e-3, 0.1, 0.5, 0.9, 0.99])
def test_truncated_database_is_refused(log: Log, path: Path, key: LogKey, mark: Path, keep: float) -> None:
    before = list(log.entries())
    log.close()
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with Log.open(path, key, watermark=mark, check=False) as cut:
        assert list(fsck.check(cut))
    with suppress(StorageError), Log.open(path, key, watermark=mark) as cut:  # all that is read may be there still
        assert list(cut.entries()) == before and len(before) == SIZE
    with pytest.raises(StorageError), Log.open(path, key, watermark=mark) as cut:
        for index, entry in before:
            cut.append(entry)
            cut.prove(index)


@pytest.mark.parametrize("kind", ["empty", "garbage", "folder", "other database"])
def test_file_that_is_no_log_is_refused(path: Path, key: LogKey, mark: Path, kind: str) -> None:
    match kind:
        case "empty":
            path.touch()
        case "garbage":
            path.write_bytes(b"garbage" * 3000)
        case "folder":
            path.mkdir()
        case _:
            sql(path, "create table head (id integer)")
    with pytest.raises(StorageError):
        Log.open(path, key, watermark=mark)
    with pytest.raises(StorageError):
        Log.create(path, key)


def test_edited_write_ahead_log_loses_nothing_unnoticed(path: Path, key: LogKey, mark: Path) -> None:
    """SQLite drops frames whose checksum is wrong, and all after them: a rollback by other means."""
    with Log.create(path, key, watermark=mark) as log:
        for i in range(40):
            log.append(b"%d" % i)
        wal = Path(f"{path}-wal").read_bytes()
        database = path.read_bytes()
    target = path.with_name("copy.db")
    refused = 0
    for at in range(40, len(wal), len(wal) // 40):
        for suffix in ("-wal", "-shm"):
            Path(str(target) + suffix).unlink(missing_ok=True)
        target.write_bytes(database)
        Path(f"{target}-wal").write_bytes(wal[:at] + bytes([wal[at] ^ 1]) + wal[at + 1 :])
        try:
            with Log.open(target, key, watermark=mark) as edited:
                assert list(edited.entries()) == [(i, b"%d" % i) for i in range(40)]
        except StorageError:
            refused += 1
    assert refused > 10


# -- what is handed to others ------------------------------------------------------------------------------------------


def test_proof_does_not_open_another_entry(log: Log, key: LogKey) -> None:
    proof = log.prove(5)
    assert proof.verify(b"entry 5", log_keys=key.verifier_keys).checkpoint.size == SIZE
    for entry in (b"entry 6", b"", b"entry 5\0"):
        with pytest.raises(ProofError):
            proof.verify(entry, log_keys=key.verifier_keys)


def test_proof_under_a_self_signed_checkpoint_is_refused(key: LogKey) -> None:
    """A complete and sound log of the attacker's own, under the same name."""
    frontier = Frontier()
    frontier.append(leaf_hash(b"forged"))
    mine = LogKey.generate(key.name)
    proof = TlogProof(0, (), mine.sign(Checkpoint(key.name, 1, frontier.root()), 0))
    assert proof.verify(b"forged", log_keys=mine.verifier_keys)
    with pytest.raises(SignatureError, match="no signature of a known key"):
        proof.verify(b"forged", log_keys=key.verifier_keys)
