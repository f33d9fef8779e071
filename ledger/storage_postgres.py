"""A log in a PostgreSQL schema, for writers on several machines; psycopg 3. ``postgresql://user@host/database#schema``

*Durable*: a commit returns when the server's disk has it. A server that runs with ``fsync``, ``full_page_writes`` or
``synchronous_commit`` off is refused. *One at a time*: an advisory lock of the schema is held from before the first read of an
append to after its commit, so that two servers on one database cannot fork the log; a connection that ends gives it back.

*Together*: one commit an append, one after the other, would wait for the disk once each, where plain inserts by eight writers
share these waits. So a writer puts what it wants in ``waiting``, an unlogged table that nobody waits for, and asks for the lock.
Who gets it appends all that waits there in one transaction, with one signature, and puts an answer beside each; the others get
the lock's shared side, all at once, after the commit, and find theirs. Nobody is answered before that. If the one who appends
fails or dies, nothing was committed; the next one gets the lock, and meets an error of its own. What a writer that is gone has
left in ``waiting`` is appended by the next: it was asked for, though never acknowledged. :mod:`ledger.together` seals requests
and answers, so that only holders of the log's key can ask and answer.

Measured on two busy cores, eight processes, as parts of the same rows inserted plainly: one commit each under the lock 0.2, a
queue with LISTEN and NOTIFY 0.25, this 0.3; eight threads, whose appends :mod:`ledger.combining` brings together first, 0.5.
"""

import random
import re
import select
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urldefrag

import psycopg
import sqlalchemy as sa
from psycopg.pq import TransactionStatus
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.pool import PoolProxiedConnection

from ledger import postgres_turns as turns
from ledger import tables
from ledger.errors import StorageError
from ledger.storage import SCHEMA_VERSION, Snapshot, Storage, Transaction, Turn, name_of
from ledger.tables import Prepared, Statements

DEFAULT_SCHEMA = "ledger"
BUSY_TIMEOUT = 60
"""Seconds that a writer waits for another one, and that one may hold the lock without a word to the server."""
PATIENCE = 100e-6
"""Seconds that who gets the lock gives others to ask, if others did the last time: a commit costs more."""
HOLD_TIMEOUT = 300
"""The same for one who has many entries to append."""
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_SAFE = {
    "fsync": {"on"},
    "full_page_writes": {"on"},
    "synchronous_commit": {"on", "local", "remote_write", "remote_apply"},
}
_TAIL = 4096
"""Leaf hashes that are read ahead for a writer that has not seen the newest head."""
_CHUNK = 1000
_OLDEST = 140000


class PostgresStorage(Storage):
    """See the module."""

    groups = True
    _driver_error = psycopg.Error

    def __init__(self, url: str) -> None:
        place, schema = urldefrag(url)
        self._schema = schema or DEFAULT_SCHEMA
        if not _SCHEMA.fullmatch(self._schema):
            raise StorageError(f"expected a schema like 'ledger' after the '#', got {self._schema[:80]!r}")
        self._conninfo = place
        engine = sa.create_engine(
            "postgresql+psycopg://", creator=self._connect, poolclass=sa.pool.QueuePool, pool_size=16, max_overflow=-1
        )
        super().__init__(name_of(url), engine)
        self._writers: deque[psycopg.Connection[Any]] = deque()
        """Connections for turns: quicker to take and put back than the pool's."""
        self._company = 1
        """How many asked at the last turn."""

    @classmethod
    def create(cls, url: str, checkpoint: bytes, version: int = SCHEMA_VERSION) -> "PostgresStorage":
        """A new log with a signed checkpoint of the empty tree, in a schema of its own."""
        storage = cls(url)
        with storage._guarded(), storage._engine.connect() as connection:
            schema = storage._schema
            connection.exec_driver_sql("BEGIN")
            if not connection.exec_driver_sql("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).first():
                connection.exec_driver_sql(f'CREATE SCHEMA "{schema}"')
            if storage._has_log(connection):
                raise StorageError(f"{storage.name} holds a log already: open it, or name another schema after '#'")
            tables.metadata.create_all(connection)
            for statement in turns.SCHEMA:
                connection.exec_driver_sql(statement)
            connection.execute(
                sa.insert(tables.head), {"id": 1, "version": version, "size": 0, "checkpoint": checkpoint}
            )
            connection.commit()
        return storage

    @classmethod
    def open(cls, url: str) -> "PostgresStorage":
        storage = cls(url)
        with storage._guarded(), storage._engine.connect() as connection:
            if not storage._has_log(connection):
                raise StorageError(
                    f"no log in schema {storage._schema!r} of {storage.name}: 'certify log migrate' makes one"
                )
        return storage

    def _has_log(self, connection: sa.Connection) -> bool:
        query = "SELECT 1 FROM pg_tables WHERE schemaname = %s AND tablename = 'head'"
        return connection.exec_driver_sql(query, (self._schema,)).first() is not None

    def close(self) -> None:
        while self._writers:
            self._writers.pop().close()
        self._engine.dispose()

    def _connect(self) -> "psycopg.Connection[Any]":
        options: dict[str, Any] = {
            "connect_timeout": 10,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
        }
        given = psycopg.conninfo.conninfo_to_dict(self._conninfo)
        options = {"application_name": "unlearning-ledger"} | options | given
        connection = psycopg.connect(**options, autocommit=True, cursor_factory=_BinaryCursor, prepare_threshold=2)
        try:
            turns.register(connection)
            self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_up(self, connection: "psycopg.Connection[Any]") -> None:
        if connection.info.server_version < _OLDEST:
            raise StorageError(
                f"{self.name} runs PostgreSQL {connection.info.server_version // 10000}, expected 14 or later"
            )
        settings = {
            "search_path": self._schema,
            # Every query is by a key; a plan made while the tables were small must not read all of them when they are large.
            "enable_seqscan": "off",
            "plan_cache_mode": "force_generic_plan",
            "jit": "off",
            "lock_timeout": f"{BUSY_TIMEOUT}s",
            "idle_session_timeout": f"{BUSY_TIMEOUT}s",  # who stalls with the lock in hand loses it
            "tcp_keepalives_idle": "10",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
        }
        change = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())
        connection.execute(f"SELECT {change}")
        found = connection.execute("SELECT " + ", ".join(f"current_setting('{name}')" for name in _SAFE)).fetchone()
        assert found is not None
        for (name, safe), value in zip(_SAFE.items(), found, strict=True):
            if value not in safe:
                raise StorageError(
                    f"{self.name} runs with {name} = {value}: what it acknowledges could be lost; set {name} = on"
                )

    # -- connections -------------------------------------------------------------------------------------------------

    @contextmanager
    def _connection(self) -> Iterator["psycopg.Connection[Any]"]:
        """One from the pool, and back into it unless it is in the middle of something."""
        with self._guarded():
            pooled = self._checkout()
            connection: psycopg.Connection[Any] = pooled.driver_connection  # type: ignore[assignment]
            try:
                yield connection
            finally:
                if connection.info.transaction_status == TransactionStatus.IDLE:
                    pooled.close()
                else:
                    pooled.invalidate()  # closed: the server undoes what was begun, and gives its locks back

    def _checkout(self) -> PoolProxiedConnection:
        """A connection that the server has not ended meanwhile."""
        while True:
            pooled = self._engine.raw_connection()
            if _is_quiet(pooled.driver_connection):  # type: ignore[arg-type]
                return pooled
            pooled.invalidate()

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        with self._connection() as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield _Snapshot(_cursor(connection), self._statements)
            finally:
                if not connection.closed:
                    connection.execute("ROLLBACK")

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with self._connection() as connection:
            connection.execute("BEGIN")
            connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{HOLD_TIMEOUT}s'")
            connection.execute(f"SELECT pg_advisory_xact_lock({turns.KEY})")
            try:
                yield _Transaction(_cursor(connection), self._statements)
            except BaseException:
                with suppress(psycopg.Error):
                    connection.execute("ROLLBACK")  # now, so that others can write as soon as the caller knows
                raise
            connection.execute("COMMIT")

    @contextmanager
    def turn(self, request: bytes, leaves: Sequence[bytes], known: int) -> Iterator[Turn | bytes]:
        ticket = random.getrandbits(63)
        with self._guarded():
            connection = self._take_writer()
            try:
                took = connection.execute(turns.TAKE, (ticket, turns.ByteaArray(leaves), request)).fetchone()
                if took is not None and took[0] is not None:
                    yield took[0]
                else:
                    if self._company > 1:
                        time.sleep(PATIENCE)
                    gathered = connection.execute(turns.GATHER, (known, known + _TAIL)).fetchone()
                    assert gathered is not None
                    turn = _Turn(connection, self._statements, known, gathered)
                    self._company = len(turn.requests)
                    yield turn
                    turn.commit()
            except BaseException:
                connection.close()  # with all that it holds
                raise
            self._writers.append(connection)

    def _take_writer(self) -> "psycopg.Connection[Any]":
        while self._writers:
            with suppress(IndexError):  # another thread has taken the last
                if _is_quiet(connection := self._writers.pop()):
                    return connection
                connection.close()
        connection = self._connect()
        connection.execute(turns.CLEAN)
        return connection


def _is_quiet(connection: "psycopg.Connection[Any]") -> bool:
    """Nothing is expected from the server: whatever has come, most likely the connection's end, is a reason to take another."""
    if connection.closed:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)


class _BinaryCursor(psycopg.Cursor[Any]):
    """Results come as they are, not as text."""

    def __init__(self, connection: "psycopg.Connection[Any]", **options: Any) -> None:
        super().__init__(connection, **options)
        self.format = psycopg.pq.Format.BINARY


def _cursor(connection: "psycopg.Connection[Any]") -> DBAPICursor:
    return connection.cursor()  # type: ignore[return-value]


class _Snapshot(Snapshot):
    def damage(self) -> list[str]:
        """What the extension amcheck finds wrong with the indices, where it is installed; reads all of them."""
        self._cursor.execute(
            "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'"
        )
        found = self._cursor.fetchone()
        if found is None:
            return []
        try:
            for index in ("entries_pkey", "entries_leaf_key", "tiles_pkey"):
                self._cursor.execute(f"SELECT \"{found[0]}\".bt_index_check('{index}'::regclass, true)")
        except psycopg.DatabaseError as error:
            return [str(error).strip()]
        return []


class _Transaction(Transaction):
    def _insert(self, first: int, entries: Sequence[bytes], leaves: Sequence[bytes]) -> None:
        for start in range(0, len(entries), _CHUNK):
            data, hashes = entries[start : start + _CHUNK], leaves[start : start + _CHUNK]
            self._cursor.execute(turns.ADD, (first + start, turns.ByteaArray(hashes), turns.ByteaArray(data)))


class _Turn(_Transaction, Turn):
    """Reads under the lock, most of them in one go; writes are kept, and sent in one go with the commit when the turn ends."""

    def __init__(
        self, connection: "psycopg.Connection[Any]", statements: Statements, known: int, row: Sequence[Any]
    ) -> None:
        super().__init__(_cursor(connection), statements)
        self._connection = connection
        *self._row, tail, pids, tickets, requests, logged = row
        self._known, self._tail = known, tail or []
        self._found = turns.places(logged or b"")
        self.requests = list(zip(zip(pids, tickets, strict=True), requests, strict=True)) if pids else []
        self._new: tuple[int, Sequence[bytes], Sequence[bytes]] = 0, (), ()
        self._next: dict[str, Any] = {}
        self._writes: list[tuple[Prepared, dict[str, Any]]] = []
        self._answers: list[tuple[int, int, bytes]] = []

    def _head_row(self) -> Any:
        return self._row if self._row[0] is not None else None

    def leaves(self, first: int, end: int) -> list[bytes]:
        if self._known <= first and end <= self._known + _TAIL:
            return self._tail[first - self._known : end - self._known]
        return super().leaves(first, end)

    def find(self, leaves: Sequence[bytes]) -> dict[bytes, int]:
        """Of the leaves that were asked for, which were looked up with them."""
        return {leaf: self._found[leaf] for leaf in leaves if leaf in self._found}

    def _insert(self, first: int, entries: Sequence[bytes], leaves: Sequence[bytes]) -> None:
        self._new = first, leaves, entries

    def _write(self, statement: Prepared, **values: Any) -> int:
        if statement is self._do.set_head:
            self._next = values
        else:
            self._writes.append((statement, values))
        return 1  # nobody else writes while we have the lock; the commit makes sure

    def answer(self, whose: Any, answer: bytes) -> None:
        self._answers.append((*whose, answer))

    def commit(self) -> None:
        """Write everything, wait for the disk, and only then let the others see their answers."""
        connection = self._connection
        first, leaves, data = self._new
        pids, tickets, answers = zip(*self._answers, strict=True) if self._answers else ((), (), ())
        values = (
            *(first, turns.ByteaArray(leaves), turns.ByteaArray(data)),
            *(self._next.get(name) for name in ("old_size", "new_size", "new_checkpoint")),
            *(turns.BigintArray(pids), turns.BigintArray(tickets), turns.ByteaArray(answers)),
        )
        if not self._writes:
            connection.execute(turns.PUBLISH_AND_UNLOCK, values)
            return
        connection.execute("BEGIN")
        for statement, write in self._writes:  # once in 256 entries
            statement(self._cursor, **write)
        connection.execute(turns.PUBLISH, values)
        connection.execute("COMMIT")
        connection.execute(turns.UNLOCK)
