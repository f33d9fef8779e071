"""fsck names what is wrong, wherever it is, and finds nothing where nothing is wrong."""

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ledger import fsck
from ledger.errors import LedgerError
from ledger.log import Log
from ledger.log_key import LogKey

SIZE = 600  # two full tiles of level 0, a partial one of level 1


@pytest.fixture
def sql(log_of: Callable[[int], Log], path: Path) -> Callable[..., None]:
    """Runs a statement on the file of a closed log with 600 entries."""
    log_of(SIZE).close()

    def run(statement: str, *values: object) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            assert connection.execute(statement, values).rowcount != 0

    return run


def findings(path: Path, key: LogKey) -> list[str]:
    with Log.open(path, key, check=False) as log:
        return list(fsck.check(log))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 600, 65_536, 66_000])
def test_sound_log_has_no_findings(log_of: Callable[[int], Log], size: int) -> None:
    steps: list[tuple[int, int]] = []
    assert list(fsck.check(log_of(size), lambda done, total: steps.append((done, total)))) == []
    assert steps[-1] == (size, size)


def test_flipped_bytes_are_found_and_the_entry_named(sql: Callable[..., None], path: Path, key: LogKey) -> None:
    """Random places in entries, leaf hashes, tiles and the checkpoint, one at a time."""
    pick = random.Random(2)
    good = path.with_suffix(".good")
    shutil.copy(path, good)
    for _ in range(60):
        index, bit = pick.randrange(SIZE), 1 << pick.randrange(8)
        what = pick.choice(["data", "leaf", "tile", "checkpoint"])
        with closing(sqlite3.connect(path)) as connection, connection:

            def flip(select: str, update: str, *where: int, db: sqlite3.Connection = connection, b: int = bit) -> int:
                data = bytearray(db.execute(select, where).fetchone()[0])
                at = pick.randrange(len(data))
                data[at] ^= b
                assert db.execute(update, (bytes(data), *where)).rowcount == 1
                return at

            match what:
                case "data" | "leaf":
                    entry = ' from entries where "index" = ?'
                    flip(f"select {what}{entry}", f'update entries set {what} = ? where "index" = ?', index)
                    expected = f"entry {index}: "
                case "tile":
                    level, tile = pick.choice([(0, 0), (0, 1), (1, 0)])
                    where = 'where level = ? and "index" = ?'
                    at = flip(f"select hashes from tiles {where}", f"update tiles set hashes = ? {where}", level, tile)
                    expected = f"entry {tile * 256 + at // 32} " if level == 0 else f"hash {at // 32} "
                case _:
                    flip("select checkpoint from head where id = ?", "update head set checkpoint = ? where id = ?", 1)
                    expected = "checkpoint: "
        found = findings(path, key)
        assert any(expected in line for line in found), (what, expected, found)
        assert len(found) < 12
        shutil.copy(good, path)
    assert findings(path, key) == []


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("delete from entries where \"index\" = 0", "entry 0: missing"),
        ("delete from entries where \"index\" = 599", "entry 599: missing"),
        ("delete from entries where \"index\" between 5 and 300", "entries 5 to 300: missing"),
        ("delete from entries", "entries 0 to 599: missing"),
        ("update entries set \"index\" = 600 where \"index\" = 7", "entry 7: missing"),
        ("update entries set \"index\" = -1 where \"index\" = 7", "entry -1: stored"),
        ("update entries set \"index\" = 9223372036854775807 where \"index\" = 7", "entry 9223372036854775807: stored"),
        ("insert into entries values (600, zeroblob(32), x'00')", "entry 600: stored"),
        ("update entries set data = 'text' where \"index\" = 7", "entry 7: stored as str"),
        ("update entries set leaf = 7 where \"index\" = 7", "entry 7: stored as bytes and int"),
        ("update entries set data = zeroblob(70000) where \"index\" = 7", "entry 7: 70,000 bytes"),
        ("delete from tiles where level = 0 and \"index\" = 1", "tile/0/001: missing"),
        ("delete from tiles where level = 1", "tile/1/000.p/2: missing"),
        ("insert into tiles values (0, 2, zeroblob(8192))", "tile 0/2: stored"),
        ("update tiles set hashes = cast(hashes || zeroblob(32) as blob) where level = 1", "tile/1/000.p/2: 3 hashes"),
        ("update tiles set hashes = x'' where level = 1", "tile/1/000.p/2: 0 hashes"),
        ("update head set size = 599", "head: tree size 599"),
        ("update head set size = 4611686018427387904", "head: tree size 4611686018427387904"),
        ("update head set size = -1, checkpoint = x''", "checkpoint: "),
        ("update head set size = 4611686018427387904, checkpoint = x''", "checkpoint: "),
        ("update head set checkpoint = 'text'", "storage: "),
        ("update head set version = 2", "storage: "),
        ("delete from head", "storage: "),
        ("drop table tiles", "storage: "),
    ],
)  # fmt: skip
def test_row_edited(sql: Callable[..., None], path: Path, key: LogKey, statement: str, expected: str) -> None:
    sql(statement)
    found = findings(path, key)
    assert any(line.startswith(expected) for line in found), found
    assert len(found) < 12, "one cause, few lines"


def test_edited_deduplication_index_is_found(sql: Callable[..., None], path: Path, key: LogKey) -> None:
    """Bytes in the database's own index are in no table, but decide what counts as logged already."""
    with closing(sqlite3.connect(path)) as connection:
        (size,) = connection.execute("pragma page_size").fetchone()
        (leaf,) = connection.execute('select leaf from entries where "index" = 300').fetchone()
    data = bytearray(path.read_bytes())
    places = [at for at in range(len(data)) if data.startswith(leaf, at)]
    assert len(places) >= 3  # the row, the index and the tile
    edited = 0
    for at in places:
        kind = data[at // size * size + (100 if at < size else 0)]
        if kind in (2, 10):  # pages of indices
            data[at + 31] ^= 1
            edited += 1
    assert edited
    path.write_bytes(data)
    assert any("missing from index" in line for line in findings(path, key))


def test_bytes_flipped_in_the_file_are_found_or_did_no_harm(sql: Callable[..., None], path: Path, key: LogKey) -> None:
    """Anywhere in the file: either fsck says so, or every entry is still there and proven."""
    pick = random.Random(3)
    good = path.read_bytes()
    found_some = 0
    for _ in range(60):
        data = bytearray(good)
        data[pick.randrange(len(data))] ^= 1 << pick.randrange(8)
        path.write_bytes(data)
        for suffix in ("-wal", "-shm"):
            Path(str(path) + suffix).unlink(missing_ok=True)
        with Log.open(path, key, check=False) as log:
            found = list(fsck.check(log))
            if found:
                found_some += 1
                continue
            assert list(log.entries()) == [(i, b"entry %d" % i) for i in range(SIZE)]
            assert len(log.prove_all(range(0, SIZE, 50))) == 12
    assert found_some > 20


def test_fsck_raises_nothing_on_files_that_are_no_logs(path: Path, key: LogKey) -> None:
    for data in (b"", b"garbage" * 1000, b"SQLite format 3\0" + bytes(4080)):
        path.write_bytes(data)
        try:
            assert findings(path, key)
        except LedgerError:
            pytest.fail("fsck reports, it does not raise")
