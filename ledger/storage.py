"""Where a log's entries and hashes live: three tables, through SQLAlchemy Core, in one SQLite file.

``entries`` holds the bytes, ``hashes`` the hashes that tiles are made of (level L: one per 256**L leaves; level 0 has the
leaf hashes, found by value for deduplication), ``head`` one row with the tree size and the last signed checkpoint. Nothing
in here is trusted by :mod:`ledger.log`, which checks whatever it reads.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from ledger.errors import ConflictError, StorageError, TamperedError
from ledger.tiles import TILE_WIDTH, Tile

SCHEMA_VERSION = 1
BUSY_TIMEOUT = 60.0
"""Seconds that a writer waits for another one."""

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
    sa.Column("data", sa.LargeBinary, nullable=False),
)
_hashes = sa.Table(
    "hashes",
    _metadata,
    sa.Column("level", sa.Integer, primary_key=True),
    sa.Column("index", sa.BigInteger, primary_key=True),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
sa.Index("leaves", _hashes.c.hash, sqlite_where=_hashes.c.level == 0, postgresql_where=_hashes.c.level == 0)

_select_head = sa.select(_head.c.version, _head.c.size, _head.c.checkpoint).where(_head.c.id == 1)
_update_head = (
    sa.update(_head)
    .where(_head.c.id == 1, _head.c.size == sa.bindparam("old_size"))
    .values(size=sa.bindparam("new_size"), checkpoint=sa.bindparam("new_checkpoint"))
)
_select_leaf = sa.select(sa.func.min(_hashes.c.index)).where(
    _hashes.c.level == sa.literal_column("0"), _hashes.c.hash == sa.bindparam("leaf")
)
_select_hashes = (
    sa.select(_hashes.c.hash)
    .where(
        _hashes.c.level == sa.bindparam("level"),
        _hashes.c.index >= sa.bindparam("first"),
        _hashes.c.index < sa.bindparam("end"),
    )
    .order_by(_hashes.c.index)
)
_select_entries = (
    sa.select(_entries.c.index, _entries.c.data)
    .where(_entries.c.index >= sa.bindparam("first"), _entries.c.index < sa.bindparam("end"))
    .order_by(_entries.c.index)
)


@dataclass(frozen=True, slots=True)
class Head:
    """Tree size and signed checkpoint, as stored."""

    size: int
    checkpoint: bytes


class Snapshot:
    """Reads of one moment."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def head(self) -> Head:
        row = self._connection.execute(_select_head).one_or_none()
        if row is None:
            raise TamperedError("the log's head row is gone")
        if row.version != SCHEMA_VERSION:
            raise StorageError(f"the log has storage version {row.version}, expected {SCHEMA_VERSION}")
        return Head(_integer(row.size), _bytes(row.checkpoint))

    def find(self, leaf: bytes) -> int | None:
        """The first index that has this leaf hash."""
        index: int | None = self._connection.execute(_select_leaf, {"leaf": leaf}).scalar_one()
        return index

    def hashes(self, tile: Tile) -> list[bytes]:
        """The hashes of a tile."""
        first = tile.index * TILE_WIDTH
        span = {"level": tile.level, "first": first, "end": first + tile.width}
        hashes = [_bytes(hash_) for hash_ in self._connection.execute(_select_hashes, span).scalars()]
        if len(hashes) != tile.width:
            raise TamperedError(f"{tile.path()} has {len(hashes)} hashes in storage, expected {tile.width}")
        return hashes

    def entries(self, first: int, end: int) -> Iterator[bytes]:
        """Entries first..end."""
        expected = first
        for index, data in self._connection.execute(_select_entries, {"first": first, "end": end}):
            if index != expected:
                raise TamperedError(f"entry {expected} is missing from storage")
            expected += 1
            yield _bytes(data)
        if expected != end:
            raise TamperedError(f"entry {expected} is missing from storage")

    def count(self) -> tuple[int, int]:
        """How many rows of entries and of leaf hashes there are, for fsck."""
        rows = [
            self._connection.execute(sa.select(sa.func.count()).select_from(_entries)).scalar_one(),
            self._connection.execute(
                sa.select(sa.func.count()).select_from(_hashes).where(_hashes.c.level == 0)
            ).scalar_one(),
        ]
        return rows[0], rows[1]


class Transaction(Snapshot):
    """Reads and writes that happen together or not at all; one at a time for the whole log."""

    def add(
        self, first: int, entries: Sequence[bytes], leaves: Sequence[bytes], nodes: Sequence[tuple[int, int, bytes]]
    ) -> None:
        """New entries from index ``first`` on, their leaf hashes, and the tile hashes (level, index, hash) they completed."""
        execute = self._connection.execute
        execute(_insert_entries, [{"index": first + i, "data": data} for i, data in enumerate(entries)])
        rows = [{"level": 0, "index": first + i, "hash": leaf} for i, leaf in enumerate(leaves)]
        rows += ({"level": level, "index": index, "hash": hash_} for level, index, hash_ in nodes)
        execute(_insert_hashes, rows)

    def set_head(self, old_size: int, head: Head) -> None:
        """Compare-and-swap: ConflictError unless the size is still ``old_size``."""
        values = {"old_size": old_size, "new_size": head.size, "new_checkpoint": head.checkpoint}
        if self._connection.execute(_update_head, values).rowcount != 1:
            raise ConflictError(f"the tree is no longer at size {old_size}")


_insert_entries = sa.insert(_entries)
_insert_hashes = sa.insert(_hashes)


class Storage:
    """One log's database. Safe to share between threads; each process opens its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = _sqlite_engine(path)
        self._write_lock = threading.Lock()
        self._writer: Connection | None = None

    @classmethod
    def create(cls, path: Path, checkpoint: bytes) -> "Storage":
        """A new log with a signed checkpoint of the empty tree."""
        if path.exists():
            raise StorageError(f"{path} exists already: open it, or name another file")
        storage = cls(path)
        with _guarded(path), storage._engine.connect() as connection:
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
        with _guarded(self.path), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            yield Snapshot(connection)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """The log's write lock, from before the first read. Durable when the block ends, undone if it raises."""
        with self._write_lock, _guarded(self.path):
            if self._writer is None:
                self._writer = self._engine.connect()
            connection = self._writer
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield Transaction(connection)
                connection.commit()
            except BaseException:
                self._writer = None
                connection.invalidate()  # drops the connection: SQLite undoes what it had begun
                connection.close()
                raise


def _sqlite_engine(path: Path) -> Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False, "cached_statements": 64},
        poolclass=sa.pool.QueuePool,
    )

    @sa.event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin where this module says so
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a commit returns when it is on disk
        connection.execute("PRAGMA cache_size = -65536")

    return engine


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Database errors as this package's own."""
    try:
        yield
    except sa.exc.DatabaseError as error:
        raise StorageError(f"the log's database {path} failed: {error.orig}") from error


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TamperedError(f"storage holds a {type(value).__name__} where bytes are expected")
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int):
        raise TamperedError(f"storage holds a {type(value).__name__} where a number is expected")
    return value
