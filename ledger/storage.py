"""Where a log's entries and hashes live: three tables, through SQLAlchemy Core, in one SQLite file.

``entries`` holds the bytes and their leaf hashes (unique: the same bytes are logged once), ``tiles`` the hashes of full tiles,
and of partial ones from level 1 up, which grow once in 256 entries; the partial tile of level 0 is read off ``entries``.
``head`` has one row with the tree size and the last signed checkpoint. Nothing in here is trusted by :mod:`ledger.log`,
which checks whatever it reads.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect, Engine
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.pool import PoolProxiedConnection

from ledger.errors import ConflictError, StorageError, TamperedError
from ledger.merkle import HASH_SIZE
from ledger.tiles import TILE_WIDTH, Tile

SCHEMA_VERSION = 1
BUSY_TIMEOUT = 60.0
"""Seconds that a writer waits for another one."""
_FIND_CHUNK = 500

_metadata = sa.MetaData()
_head = sa.Table(
    "head",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("checkpoint", sa.LargeBinary, nullable=False),
)
_entries = sa.Table(
    "entries",
    _metadata,
    sa.Column("index", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("leaf", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
_tiles = sa.Table(
    "tiles",
    _metadata,
    sa.Column("level", sa.Integer, primary_key=True),
    sa.Column("index", sa.BigInteger, primary_key=True),
    sa.Column("hashes", sa.LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Head:
    """Tree size and signed checkpoint, as stored."""

    size: int
    checkpoint: bytes


class _Prepared:
    """A Core statement, compiled once and then handed straight to the driver: a sixth of the time per execution."""

    def __init__(self, statement: sa.sql.ClauseElement, dialect: Dialect) -> None:
        compiled: Any = statement.compile(dialect=dialect)
        self._sql = str(compiled)
        self._order: list[str] | None = compiled.positiontup

    def _row(self, values: dict[str, Any]) -> Any:
        return values if self._order is None else tuple([values[name] for name in self._order])

    def __call__(self, cursor: DBAPICursor, **values: Any) -> DBAPICursor:
        cursor.execute(self._sql, self._row(values))
        return cursor

    def many(self, cursor: DBAPICursor, **columns: Iterable[Any]) -> None:
        """Execute for each row of ``columns``, which are equally long."""
        rows: Any
        if self._order is None:
            rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        else:
            rows = zip(*(columns[name] for name in self._order), strict=True)
        cursor.executemany(self._sql, rows)


class _Statements:
    """Everything that is run often."""

    def __init__(self, dialect: Dialect) -> None:
        def prepare(statement: sa.sql.ClauseElement) -> _Prepared:
            return _Prepared(statement, dialect)

        one: sa.ColumnElement[int] = sa.literal_column("1")
        in_span = sa.and_(_entries.c.index >= sa.bindparam("first"), _entries.c.index < sa.bindparam("end"))
        at_tile = sa.and_(_tiles.c.level == sa.bindparam("at_level"), _tiles.c.index == sa.bindparam("at_index"))
        self.head = prepare(sa.select(_head.c.version, _head.c.size, _head.c.checkpoint).where(_head.c.id == one))
        self.set_head = prepare(
            sa.update(_head)
            .where(_head.c.id == one, _head.c.size == sa.bindparam("old_size"))
            .values(size=sa.bindparam("new_size"), checkpoint=sa.bindparam("new_checkpoint"))
        )
        self.find = prepare(sa.select(_entries.c.index).where(_entries.c.leaf == sa.bindparam("at_leaf")))
        self.leaf_names = [f"leaf{i}" for i in range(_FIND_CHUNK)]
        names: list[sa.BindParameter[bytes]] = [sa.bindparam(name) for name in self.leaf_names]
        self.find_many = prepare(sa.select(_entries.c.leaf, _entries.c.index).where(_entries.c.leaf.in_(names)))
        self.entries = prepare(sa.select(_entries.c.index, _entries.c.data).where(in_span).order_by(_entries.c.index))
        self.rows = prepare(
            sa.select(_entries.c.index, _entries.c.leaf, _entries.c.data)
            .where(_entries.c.index >= sa.bindparam("first"))
            .order_by(_entries.c.index)
            .limit(sa.literal_column(str(TILE_WIDTH)))
            .offset(sa.literal_column("0"))  # else SQLite gets a parameter for it
            .offset(sa.literal_column("0"))  # else SQLAlchemy binds a parameter of its own
        )
        self.tile_keys = prepare(sa.select(_tiles.c.level, _tiles.c.index).order_by(_tiles.c.level, _tiles.c.index))
        self.leaves = prepare(sa.select(_entries.c.leaf).where(in_span).order_by(_entries.c.index))
        self.tile = prepare(sa.select(_tiles.c.hashes).where(at_tile))
        self.set_tile = prepare(sa.update(_tiles).where(at_tile).values(hashes=sa.bindparam("new_hashes")))
        self.add_tile = prepare(sa.insert(_tiles))
        self.add_entry = prepare(sa.insert(_entries))
        self.integrity = "PRAGMA integrity_check" if dialect.name == "sqlite" else None
        self.count = prepare(sa.select(sa.func.count()).select_from(_entries))


_compiled: dict[type[Dialect], _Statements] = {}


def _statements(dialect: Dialect) -> _Statements:
    """Compiled once in a process: it takes longer than everything else that opening a log does."""
    kind = type(dialect)
    if kind not in _compiled:
        _compiled[kind] = _Statements(dialect)
    return _compiled[kind]


class Snapshot:
    """Reads of one moment."""

    def __init__(self, cursor: DBAPICursor, statements: _Statements) -> None:
        self._cursor = cursor
        self._do = statements

    def head(self) -> Head:
        row = self._do.head(self._cursor).fetchone()
        if row is None:
            raise TamperedError("the log's head row is gone")
        version, size, checkpoint = row
        if version != SCHEMA_VERSION:
            raise StorageError(f"the log has storage version {version}, expected {SCHEMA_VERSION}")
        return Head(_integer(size), _bytes(checkpoint))

    def find(self, leaves: Sequence[bytes]) -> dict[bytes, int]:
        """The indices of those leaf hashes that are there."""
        if len(leaves) == 1:
            row = self._do.find(self._cursor, at_leaf=leaves[0]).fetchone()
            return {leaves[0]: _integer(row[0])} if row is not None else {}
        found: dict[bytes, int] = {}
        for start in range(0, len(leaves), _FIND_CHUNK):
            chunk = [*leaves[start : start + _FIND_CHUNK]]
            chunk += chunk[-1:] * (_FIND_CHUNK - len(chunk))
            padded = dict(zip(self._do.leaf_names, chunk, strict=True))
            rows = self._do.find_many(self._cursor, **padded).fetchall()
            found |= ((_bytes(leaf), _integer(index)) for leaf, index in rows)
        return found

    def hashes(self, tile: Tile) -> list[bytes]:
        """The hashes of a tile, by one read."""
        first = tile.index * TILE_WIDTH
        if tile.level == 0 and tile.width < TILE_WIDTH:
            rows = self._do.leaves(self._cursor, first=first, end=first + tile.width).fetchall()
            hashes = [_bytes(leaf) for (leaf,) in rows]
        else:
            data = self._stored_tile(tile.level, tile.index) or b""
            hashes = [data[i : i + HASH_SIZE] for i in range(0, tile.width * HASH_SIZE, HASH_SIZE)]
        if len(hashes) != tile.width or any(len(hash_) != HASH_SIZE for hash_ in hashes):
            raise TamperedError(f"{tile.path()} is damaged or missing in storage")
        return hashes

    def _stored_tile(self, level: int, index: int) -> bytes | None:
        row = self._do.tile(self._cursor, at_level=level, at_index=index).fetchone()
        return None if row is None else _bytes(row[0])

    def entries(self, first: int, end: int) -> Iterator[bytes]:
        """Entries first..end."""
        for start in range(first, end, TILE_WIDTH):  # piece by piece: the caller may read other things in between
            indices = range(start, min(start + TILE_WIDTH, end))
            rows = self._do.entries(self._cursor, first=start, end=indices.stop).fetchall()
            for expected, (index, data) in zip_longest(indices, rows, fillvalue=(None, None)):
                if index != expected:
                    raise TamperedError(f"entry {expected} is missing from storage")
                yield _bytes(data)

    def stored_entries(self) -> Iterator[tuple[int, Any, Any]]:
        """(index, leaf hash, bytes) of every row, in order and unchecked, for fsck."""
        first, last = -(2**63), 2**63 - 1  # whoever inserts rows may choose any index
        while first <= last and (rows := self._do.rows(self._cursor, first=first).fetchall()):
            yield from rows
            first = _integer(rows[-1][0]) + 1

    def stored_tiles(self) -> Iterator[tuple[Any, Any, bytes]]:
        """(level, index, bytes) of every row, unchecked, for fsck."""
        for level, index in self._do.tile_keys(self._cursor).fetchall():
            yield level, index, self._stored_tile(level, index) or b""

    def damage(self) -> list[str]:
        """What the database itself finds wrong with its pages and indices; reads all of them."""
        if self._do.integrity is None:
            return []
        self._cursor.execute(self._do.integrity)
        return [str(line) for (line,) in self._cursor.fetchall() if line != "ok"]

    def count(self) -> int:
        """How many entries are stored."""
        return _integer(self._do.count(self._cursor).fetchall()[0][0])


class Transaction(Snapshot):
    """Reads and writes that happen together or not at all; one at a time for the whole log."""

    def add(
        self,
        first: int,
        entries: Sequence[bytes],
        leaves: Sequence[bytes],
        runs: Iterable[tuple[int, int, Sequence[bytes]]],
    ) -> None:
        """New entries from ``first`` on, their leaf hashes, and the hashes they completed for tiles above level 0, as runs
        (tile level, index of the first, hashes)."""
        if len(entries) == 1:
            self._do.add_entry(self._cursor, index=first, leaf=leaves[0], data=entries[0])
        else:
            indices = range(first, first + len(entries))
            self._do.add_entry.many(self._cursor, index=indices, leaf=leaves, data=entries)
        self._add_full_tiles(first, leaves)
        for level, start, hashes in runs:
            end = start + len(hashes)
            for number in range(start // TILE_WIDTH, (end - 1) // TILE_WIDTH + 1):
                lo, hi = max(start, number * TILE_WIDTH), min(end, (number + 1) * TILE_WIDTH)
                self._grow_tile(Tile(level, number, lo % TILE_WIDTH + 1), b"".join(hashes[lo - start : hi - start]))

    def _add_full_tiles(self, first: int, leaves: Sequence[bytes]) -> None:
        """Store the level-0 tiles that became full."""
        start = first - first % TILE_WIDTH
        full = (first + len(leaves) - start) // TILE_WIDTH
        if not full:
            return
        before = self.hashes(Tile(0, start // TILE_WIDTH, first - start)) if first > start else []
        known = [*before, *leaves]
        numbers = range(start // TILE_WIDTH, start // TILE_WIDTH + full)
        tiles = [b"".join(known[i * TILE_WIDTH : (i + 1) * TILE_WIDTH]) for i in range(full)]
        self._do.add_tile.many(self._cursor, level=[0] * full, index=numbers, hashes=tiles)

    def _grow_tile(self, next_: Tile, hashes: bytes) -> None:
        """Append to a tile which, with the first of ``hashes``, becomes ``next_``."""
        stored = self._stored_tile(next_.level, next_.index)
        if len(stored or b"") != (next_.width - 1) * HASH_SIZE:
            raise TamperedError(f"{next_.path()} is next, but storage holds {len(stored or b'')} bytes of that tile")
        if stored is None:
            self._do.add_tile(self._cursor, level=next_.level, index=next_.index, hashes=hashes)
        else:
            self._do.set_tile(self._cursor, at_level=next_.level, at_index=next_.index, new_hashes=stored + hashes)

    def set_head(self, old_size: int, head: Head) -> None:
        """Compare-and-swap: ConflictError unless the size is still ``old_size``."""
        values = {"old_size": old_size, "new_size": head.size, "new_checkpoint": head.checkpoint}
        if self._do.set_head(self._cursor, **values).rowcount != 1:
            raise ConflictError(f"the tree is no longer at size {old_size}")


class Storage:
    """One log's database. Safe to share between threads; each process opens its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = _sqlite_engine(path)
        self._statements = _statements(self._engine.dialect)
        self._write_lock = threading.Lock()
        self._writer: PoolProxiedConnection | None = None

    @classmethod
    def create(cls, path: Path, checkpoint: bytes) -> "Storage":
        """A new log with a signed checkpoint of the empty tree."""
        if path.exists():
            raise StorageError(f"{path} exists already: open it, or name another file")
        storage = cls(path)
        with storage._guarded(), storage._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            _metadata.create_all(connection)
            row = {"id": 1, "version": SCHEMA_VERSION, "size": 0, "checkpoint": checkpoint}
            connection.execute(sa.insert(_head), row)
            connection.commit()
        return storage

    @classmethod
    def open(cls, path: Path) -> "Storage":
        if not path.is_file():
            raise StorageError(f"no log at {path}: create one with 'certify init'")
        return cls(path)

    def close(self) -> None:
        with self._write_lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        self._engine.dispose()

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Consistent reads; writers go on meanwhile."""
        with self._guarded():
            connection = self._engine.raw_connection()
            try:
                cursor = connection.cursor()
                cursor.execute("BEGIN")
                yield Snapshot(cursor, self._statements)
            finally:
                connection.close()  # back to the pool, which ends the transaction

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """The log's write lock, from before the first read. Durable when the block ends, undone if it raises."""
        with self._write_lock, self._guarded():
            connection = self._writer or self._engine.raw_connection()
            self._writer = None
            try:
                cursor = connection.cursor()
                cursor.execute("BEGIN IMMEDIATE")
                yield Transaction(cursor, self._statements)
                connection.commit()
            except BaseException:
                with suppress(sqlite3.Error, sa.exc.SQLAlchemyError):
                    connection.rollback()  # now: a closed connection lives, and locks, as long as somebody has its cursor
                connection.invalidate()
                raise
            self._writer = connection

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Database errors as this package's own."""
        try:
            yield
        except (sa.exc.DatabaseError, sqlite3.Error) as error:
            reason = error.orig if isinstance(error, sa.exc.DatabaseError) else error
            raise StorageError(f"the log's database {self.path} failed: {reason}") from error


def _sqlite_engine(path: Path) -> Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False, "cached_statements": 64},
        poolclass=sa.pool.QueuePool,
        max_overflow=-1,  # as many snapshots at once as are asked for
    )

    @sa.event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin where this module says so
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a commit returns when it is on disk
        connection.execute("PRAGMA cache_size = -65536")
        # Leaf hashes are random, so each append dirties another page of their index: write these back 16 MB at a time.
        connection.execute("PRAGMA wal_autocheckpoint = 4000")

    return engine


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TamperedError(f"storage holds a {type(value).__name__} where bytes are expected")
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int):
        raise TamperedError(f"storage holds a {type(value).__name__} where a number is expected")
    return value
