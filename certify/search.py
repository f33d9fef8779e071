"""Finding statements in a log: an index that can be rebuilt from the log, and proves nothing by itself.

::

    with Index.open(Path("ledger/search.db"), log) as index:     # a log, here or far away
        index.update()                                            # reads what is new
        for hit in index.find(Query(tensors="51c40e81")):
            print(hit.index, hit.statement.kind)

What it says is only where to look: every hit is read from the log again, checked there against the signed root, and compared with
what was asked, so an index that was tampered with can hide a statement and never invent one. :meth:`Index.check` finds what it
hides. It holds what the log holds, digests of statements, files, tensors and keys, and nothing about anybody.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from certify.envelope import Envelope
from certify.errors import SearchError, StatementError
from certify.search_query import Query, entries, schema, state, terms
from certify.search_terms import Described, describe
from certify.statement import Statement
from ledger.errors import ProofError, RolledBackError
from ledger.merkle import HASH_SIZE, Frontier, leaf_hash

if TYPE_CHECKING:
    from ledger.reader import LogReader

Progress = Callable[[int], None]
VERSION = 1
BATCH = 10_000
"""Entries a transaction, and what memory holds at a time."""
_WAIT = 60_000
"""Milliseconds to wait for another process that brings the index up to date."""
_CACHE = 64_000
"""KB of the database that are kept in memory: digests go to places all over it."""
_ANEW = "'certify search --rebuild' makes it anew"
_ALTERED = f"the index was altered, {_ANEW}"
_EITHER = f"either the index was altered or the log was. Compare the log with what others have of it; {_ANEW}"


def quiet(_: int) -> None:
    """Tells nobody how many entries are done."""


@dataclass(frozen=True, slots=True)
class Hit:
    """An entry that fits, read from the log and checked there. ``statement`` is None if it isn't a well-formed one."""

    index: int
    data: bytes
    described: Described
    envelope: Envelope | None
    statement: Statement | None

    @property
    def digest(self) -> str:
        """SHA-256 of the entry, hex: what statements name each other by."""
        return sha256(self.data).hexdigest()


class Index:
    """See the module."""

    def __init__(self, path: Path, log: "LogReader", engine: sa.Engine) -> None:
        self.path = path
        self._log = log
        self._engine = engine

    @classmethod
    def open(cls, path: Path, log: "LogReader") -> "Index":
        """The index at ``path``, made if it isn't there. Raises SearchError if it is of another log, or no index."""
        engine = sa.create_engine(f"sqlite:///{path}", connect_args={"isolation_level": None})
        sa.event.listen(engine, "connect", _configure)
        index = cls(path, log, engine)
        try:
            index._prepare()
        except BaseException:
            index.close()
            raise
        return index

    @classmethod
    def rebuild(cls, path: Path, log: "LogReader", progress: Progress = quiet) -> "Index":
        """The index at ``path``, made anew from the log: the old one stays until the new one is whole."""
        _refuse_others(path)
        with _beside(path) as made:
            with cls.open(made, log) as index:
                index.update(progress)
            path.with_name(f"{path.name}-journal").unlink(missing_ok=True)  # of the old one, should it have been killed
            made.replace(path)
        return cls.open(path, log)

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def size(self) -> int:
        """The number of entries that the index was built from."""
        with self._transaction() as connection:
            return self._edge(connection).size

    # -- from the log ------------------------------------------------------------------------------------------------

    def update(self, progress: Progress = quiet) -> int:
        """Read what is new in the log; returns the number of entries that the index was built from now.

        Raises SearchError if the log is not the continuation of the one that was read before.
        """
        size = self._log.size()
        self._check_continues(size)
        while (first := self.size()) < size:
            end = min(first + BATCH, size)
            described: list[tuple[int, Described]] = []
            leaves: list[bytes] = []
            for index, data in self._log.entries(first, end):
                described.append((index, describe(data)))
                leaves.append(leaf_hash(data))
            if len(leaves) != end - first:
                raise SearchError(f"the log gave {len(leaves)} entries from {first} on, expected {end - first}")
            with self._transaction(write=True) as connection:
                edge = self._edge(connection)
                if edge.size == first:  # no other process was faster
                    edge.extend(leaves)
                    _insert(connection, described)
                    connection.execute(state.update().values(size=edge.size, edge=b"".join(edge.nodes)))
            progress(end)
        return first

    def _check_continues(self, size: int) -> None:
        with self._transaction() as connection:
            edge = self._edge(connection)
        if edge.size > size:
            raise SearchError(f"the index was built from {edge.size} entries, the log has {size}: {_EITHER}")
        if not edge.size:
            return
        try:
            self._log.prove_consistency(edge.size, edge.root())
        except (ProofError, RolledBackError) as error:
            raise SearchError(
                f"the log is not the continuation of the one that the index was built from ({error}): {_EITHER}"
            ) from error

    def check(self, progress: Progress = quiet) -> list[str]:
        """Build the index again, beside, and name what differs: entries that this one hides, moves or makes up."""
        self.update()
        with _beside(self.path) as path:
            with Index.open(path, self._log) as again:
                again.update(progress)
            return list(_differences(self._engine, path))

    # -- look up -----------------------------------------------------------------------------------------------------

    def count(self, query: Query) -> int:
        """How many entries the index says fit; none of them is read."""
        with self._transaction() as connection:
            counted = sa.select(sa.func.count()).select_from(query.select().subquery())
            return connection.execute(counted).scalar_one()

    def find(self, query: Query, *, limit: int | None = None, newest: bool = False) -> Iterator[Hit]:
        """The entries that fit, in the log's order or the newest first, each read from the log again.

        Raises SearchError if the index leads to an entry that does not fit, and whatever the log raises on reading.
        """
        order = entries.c.entry.desc() if newest else entries.c.entry
        with self._transaction() as connection:
            found = connection.execute(query.select().order_by(order).limit(limit)).scalars().all()
        size = self._log.size()
        for index in found:
            if not 0 <= index < size:
                raise SearchError(f"the index names entry {index}, the log has {size}: {_ALTERED}")
            data = self._log.entry(index)
            described = describe(data)
            if not query.fits(described):
                raise SearchError(f"the index names entry {index}, which is not what was asked for: {_ALTERED}")
            yield _hit(index, data, described)

    # -- database ----------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        with self._transaction(write=True) as connection:
            tables = _tables(connection)
            if not tables:
                schema.create_all(connection)
                connection.execute(state.insert().values(version=VERSION, origin=self._log.origin, size=0, edge=b""))
            elif not set(schema.tables) <= tables:
                raise SearchError(_other(self.path))
            version, origin = connection.execute(sa.select(state.c.version, state.c.origin)).one()
        if version != VERSION:
            raise SearchError(f"{self.path} has version {version}, expected {VERSION}: {_ANEW}")
        if origin != self._log.origin:
            raise SearchError(f"{self.path} is an index of log {origin!r}, this one is {self._log.origin!r}: {_ANEW}")

    @contextmanager
    def _transaction(self, *, write: bool = False) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
                yield connection
                connection.exec_driver_sql("COMMIT")  # without it, closing rolls back
        except sa.exc.SQLAlchemyError as error:
            reason = getattr(error, "orig", None) or error
            raise SearchError(f"the index {self.path} cannot be used ({reason}): {_ANEW}") from error

    def _edge(self, connection: sa.Connection) -> Frontier:
        size, edge = connection.execute(sa.select(state.c.size, state.c.edge)).one()
        try:
            if size < 0:
                raise ValueError(f"{size} entries")
            return Frontier(size, [edge[at : at + HASH_SIZE] for at in range(0, len(edge), HASH_SIZE)])
        except (ValueError, TypeError, AttributeError) as error:
            raise SearchError(f"{self.path} contradicts itself ({error}): {_ALTERED}") from error


def _tables(connection: sa.Connection) -> set[str]:
    return set(connection.execute(sa.text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars())


def _other(path: Path) -> str:
    return f"{path} is something else, expected an index for searching: give another file"


def _refuse_others(path: Path) -> None:
    """Raise SearchError for a file that was never an index; a damaged one may be replaced."""
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("rb") as file:
        if file.read(16) != b"SQLite format 3\0":
            raise SearchError(_other(path))
    engine = sa.create_engine(f"sqlite:///{path}")
    try:
        with engine.connect() as connection:
            if (tables := _tables(connection)) and not set(schema.tables) <= tables:
                raise SearchError(_other(path))
    except sa.exc.DatabaseError:
        pass
    finally:
        engine.dispose()


def _configure(connection: Any, _: object) -> None:
    connection.execute(f"PRAGMA busy_timeout = {_WAIT}")
    connection.execute(f"PRAGMA cache_size = {-_CACHE}")
    connection.execute("PRAGMA synchronous = NORMAL")  # what a power cut takes away is read from the log again


def _insert(connection: sa.Connection, described: Sequence[tuple[int, Described]]) -> None:
    rows = [(digest, field, index) for index, item in described for field, digest in item.terms]
    for table, values in (
        (entries, [(index, item.kind, item.time) for index, item in described]),
        (terms, sorted(rows)),  # in the order of the tree that they go into
    ):
        connection.exec_driver_sql(str(table.insert().compile(connection)), values)


def _hit(index: int, data: bytes, described: Described) -> Hit:
    try:
        envelope = Envelope.parse(data)
        return Hit(index, data, described, envelope, Statement.parse(envelope.payload))
    except StatementError:
        return Hit(index, data, described, None, None)


def _differences(engine: sa.Engine, path: Path) -> Iterator[str]:
    """What an index has that the one at ``path`` hasn't, and the other way round."""
    with engine.connect() as connection:
        connection.exec_driver_sql("ATTACH ? AS again", (str(path),))
        try:
            for table in (entries, terms):
                columns = ", ".join(column.name for column in table.columns)
                mine, again = f"SELECT {columns} FROM main.{table.name}", f"SELECT {columns} FROM again.{table.name}"
                for what, sql in (("made up", f"{mine} EXCEPT {again}"), ("missing", f"{again} EXCEPT {mine}")):
                    for row in connection.exec_driver_sql(f"SELECT * FROM ({sql}) ORDER BY entry").mappings():
                        told = ", ".join(
                            f"{name} {value.hex() if isinstance(value, bytes) else value}"
                            for name, value in row.items()
                            if name != "entry"
                        )
                        yield f"entry {row['entry']}: {what} in the index: {told}"
        finally:
            connection.exec_driver_sql("DETACH again")


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A place for another index on the same disk."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        yield Path(folder) / "index.db"
