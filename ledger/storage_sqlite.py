"""A log in one SQLite file: no server, one writer at a time, readers beside it (write-ahead log, ``synchronous = FULL``).

A commit returns when the disk has it. Writers of several threads and processes wait for one another, one commit an append:
whoever has many entries brings them together in one :meth:`ledger.log.Log.append_many`, as the log's server does.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.pool import PoolProxiedConnection

from ledger import tables
from ledger.errors import StorageError
from ledger.storage import SCHEMA_VERSION, Snapshot, Storage, Transaction

BUSY_TIMEOUT = 60.0
"""Seconds that a writer waits for another one."""


class SqliteStorage(Storage):
    """See the module."""

    _driver_error = sqlite3.Error

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _engine(path))
        self._write_lock = threading.Lock()
        self._writer: PoolProxiedConnection | None = None

    @classmethod
    def create(cls, path: Path, checkpoint: bytes, version: int = SCHEMA_VERSION) -> "SqliteStorage":
        """A new log with a signed checkpoint of the empty tree."""
        if path.exists():
            raise StorageError(f"{path} exists already: open it, or name another file")
        storage = cls(path)
        with storage._guarded(), storage._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            tables.metadata.create_all(connection)
            connection.execute(
                sa.insert(tables.head), {"id": 1, "version": version, "size": 0, "checkpoint": checkpoint}
            )
            connection.commit()
        return storage

    @classmethod
    def open(cls, path: Path) -> "SqliteStorage":
        if not path.is_file():
            raise StorageError(f"no log at {path}: create one with 'certify init'")
        storage = cls(path)
        with suppress(StorageError):  # a damaged file is for fsck to report on
            storage._add_missing_tables()
        return storage

    def _add_missing_tables(self) -> None:
        """A log of an older release has no ``kept``."""
        with self._guarded(), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            names = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE name IN ('head', 'kept')")
            if [name for (name,) in names] == ["head"]:
                connection.rollback()
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                tables.kept.create(connection, checkfirst=True)
                connection.commit()

    def close(self) -> None:
        with self._write_lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        self._engine.dispose()

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
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


def _engine(path: Path) -> Engine:
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
