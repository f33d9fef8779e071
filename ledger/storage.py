"""Where a log's entries and hashes live: four tables, through SQLAlchemy Core, in a SQLite file or in PostgreSQL.

``entries`` holds the bytes and their leaf hashes (unique: the same bytes are logged once), ``tiles`` the hashes of full tiles,
and of partial ones from level 1 up, which grow once in 256 entries; the partial tile of level 0 is read off ``entries``.
``head`` has one row with the tree size and the last signed checkpoint, ``kept`` small things that change. Nothing in here is
trusted by :mod:`ledger.log`, which checks whatever it reads.

This module has what both databases share, :mod:`ledger.storage_sqlite` and :mod:`ledger.storage_postgres` how each connects,
locks and commits. A log's place is a path or a URL::

    open(Path("ledger/log.db"))
    open("postgresql://ledger@db.example.com/certificates#log")     # schema "log" of that database
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.engine.interfaces import DBAPICursor

from ledger.errors import ConflictError, MissingExtraError, StorageError, TamperedError
from ledger.merkle import HASH_SIZE
from ledger.tables import FIND_CHUNKS, Prepared, Statements, statements_of
from ledger.tiles import TILE_WIDTH, Tile

if TYPE_CHECKING:
    from ledger.storage_postgres import PostgresStorage

Place = Path | str
POSTGRES = ("postgresql://", "postgres://")
SCHEMA_VERSION = 1
MOVED = -1
"""In the place of the version: the log goes on elsewhere (:mod:`ledger.migrate`), here it can only be read."""
MOVED_TO = "moved"
"""What its place there is kept under."""
COPYING = -2
"""The same: a copy that is not complete."""


@dataclass(frozen=True, slots=True)
class Head:
    """Tree size and signed checkpoint, as stored."""

    size: int
    checkpoint: bytes


class Snapshot:
    """Reads of one moment."""

    def __init__(self, cursor: DBAPICursor, statements: Statements) -> None:
        self._cursor = cursor
        self._do = statements

    def head(self) -> Head:
        row = self._head_row()
        if row is None:
            raise TamperedError("the log's head row is gone")
        version, size, checkpoint = row
        self._check_version(version)
        return Head(_integer(size), _bytes(checkpoint))

    def state(self) -> tuple[int, Head]:
        """The version, which may be MOVED or COPYING, and the head as it is stored: for copying."""
        version, size, checkpoint = self._head_row() or (0, 0, b"")
        return _integer(version), Head(_integer(size), _bytes(checkpoint))

    def _head_row(self) -> Any:
        return self._do.head(self._cursor).fetchone()

    def _check_version(self, version: Any) -> None:
        if version == COPYING:
            raise StorageError("the log is a copy that was not completed: run the same 'certify log migrate' again")
        if version not in (SCHEMA_VERSION, MOVED):
            raise StorageError(f"the log has storage version {version}, expected {SCHEMA_VERSION}")

    def leaves(self, first: int, end: int) -> list[bytes]:
        """The leaf hashes first..end."""
        return [_bytes(leaf) for (leaf,) in self._do.leaves(self._cursor, first=first, end=end).fetchall()]

    def find(self, leaves: Sequence[bytes]) -> dict[bytes, int]:
        """The indices of those leaf hashes that are there."""
        if len(leaves) == 1:
            row = self._do.find(self._cursor, at_leaf=leaves[0]).fetchone()
            return {leaves[0]: _integer(row[0])} if row is not None else {}
        found: dict[bytes, int] = {}
        for start in range(0, len(leaves), FIND_CHUNKS[-1]):
            chunk = [*leaves[start : start + FIND_CHUNKS[-1]]]
            size = next(size for size in FIND_CHUNKS if size >= len(chunk))
            chunk += chunk[-1:] * (size - len(chunk))
            padded = dict(zip(self._do.leaf_names, chunk, strict=False))
            rows = self._do.find_many[size](self._cursor, **padded).fetchall()
            found |= ((_bytes(leaf), _integer(index)) for leaf, index in rows)
        return found

    def hashes(self, tile: Tile) -> list[bytes]:
        """The hashes of a tile, by one read."""
        first = tile.index * TILE_WIDTH
        if tile.level == 0 and tile.width < TILE_WIDTH:
            hashes = self.leaves(first, first + tile.width)
        else:
            data = self.stored_tile(tile.level, tile.index) or b""
            hashes = [data[i : i + HASH_SIZE] for i in range(0, tile.width * HASH_SIZE, HASH_SIZE)]
        if len(hashes) != tile.width or any(len(hash_) != HASH_SIZE for hash_ in hashes):
            raise TamperedError(f"{tile.path()} is damaged or missing in storage")
        return hashes

    def stored_tile(self, level: int, index: int) -> bytes | None:
        """A tile's bytes as they are stored, unchecked."""
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

    def stored_rows(self) -> Iterator[list[tuple[int, Any, Any]]]:
        """(index, leaf hash, bytes) of every row, in order and unchecked, up to 256 at a time, for fsck."""
        first, last = -(2**63), 2**63 - 1  # whoever inserts rows may choose any index
        while first <= last and (rows := self._do.rows(self._cursor, first=first).fetchall()):
            yield list(rows)
            first = _integer(rows[-1][0]) + 1

    def tile_places(self) -> list[tuple[Any, Any]]:
        """(level, index) of every stored tile, for fsck."""
        return [(level, index) for level, index in self._do.tile_keys(self._cursor).fetchall()]

    def damage(self) -> list[str]:
        """What the database itself finds wrong with its pages and indices; reads all of them."""
        if self._do.integrity is None:
            return []
        self._cursor.execute(self._do.integrity)
        return [str(line) for (line,) in self._cursor.fetchall() if line != "ok"]

    def kept(self, name: str) -> bytes | None:
        """A small thing that changes, by its name; None if there is none. As unchecked as everything in here."""
        row = self._do.kept(self._cursor, at_name=name).fetchone()
        return None if row is None else _bytes(row[0])

    def moved_to(self) -> str | None:
        """Where the log goes on, if it was moved."""
        name = self.kept(MOVED_TO)
        return None if name is None else name.decode(errors="replace")

    def all_kept(self) -> dict[str, bytes]:
        """Everything of :meth:`kept`."""
        return {str(name): _bytes(value) for name, value in self._do.all_kept(self._cursor).fetchall()}

    def count(self) -> int:
        """How many entries are stored."""
        return _integer(self._do.count(self._cursor).fetchall()[0][0])


class Transaction(Snapshot):
    """Reads and writes that happen together or not at all; one at a time for the whole log."""

    def _check_version(self, version: Any) -> None:
        super()._check_version(version)
        if version == MOVED:
            raise StorageError(
                f"the log was moved to {self.moved_to() or 'another place'}: append there; an append here would fork it"
            )

    def add(
        self,
        first: int,
        entries: Sequence[bytes],
        leaves: Sequence[bytes],
        runs: Iterable[tuple[int, int, Sequence[bytes]]],
    ) -> None:
        """New entries from ``first`` on, their leaf hashes, and the hashes they completed for tiles above level 0, as runs
        (tile level, index of the first, hashes)."""
        self._insert(first, entries, leaves)
        self._add_full_tiles(first, leaves)
        for level, start, hashes in runs:
            end = start + len(hashes)
            for number in range(start // TILE_WIDTH, (end - 1) // TILE_WIDTH + 1):
                lo, hi = max(start, number * TILE_WIDTH), min(end, (number + 1) * TILE_WIDTH)
                self._grow_tile(Tile(level, number, lo % TILE_WIDTH + 1), b"".join(hashes[lo - start : hi - start]))

    def _insert(self, first: int, entries: Sequence[bytes], leaves: Sequence[bytes]) -> None:
        if len(entries) == 1:
            self._write(self._do.add_entry, index=first, leaf=leaves[0], data=entries[0])
        else:
            indices = range(first, first + len(entries))
            self._do.add_entry.many(self._cursor, index=indices, leaf=leaves, data=entries)

    def _write(self, statement: Prepared, **values: Any) -> int:
        """The number of rows changed."""
        return statement(self._cursor, **values).rowcount

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
        for number, hashes in zip(numbers, tiles, strict=True):
            self._write(self._do.add_tile, level=0, index=number, hashes=hashes)

    def _grow_tile(self, next_: Tile, hashes: bytes) -> None:
        """Append to a tile which, with the first of ``hashes``, becomes ``next_``."""
        stored = self.stored_tile(next_.level, next_.index)
        if len(stored or b"") != (next_.width - 1) * HASH_SIZE:
            raise TamperedError(f"{next_.path()} is next, but storage holds {len(stored or b'')} bytes of that tile")
        if stored is None:
            self._write(self._do.add_tile, level=next_.level, index=next_.index, hashes=hashes)
        else:
            self._write(self._do.set_tile, at_level=next_.level, at_index=next_.index, new_hashes=stored + hashes)

    def keep(self, name: str, value: bytes) -> None:
        """Put ``value`` in the place of what was kept under ``name``."""
        self._write(self._do.forget, at_name=name)
        self._write(self._do.keep, name=name, value=value)

    def set_version(self, version: int) -> None:
        """MOVED, COPYING or, for a log that can be appended to, SCHEMA_VERSION."""
        self._write(self._do.set_version, new_version=version)

    def forget(self, name: str) -> None:
        """Take away what was kept under ``name``."""
        self._write(self._do.forget, at_name=name)

    def set_head(self, old_size: int, head: Head) -> None:
        """Compare-and-swap: ConflictError unless the size is still ``old_size``."""
        values = {"old_size": old_size, "new_size": head.size, "new_checkpoint": head.checkpoint}
        if self._write(self._do.set_head, **values) != 1:
            raise ConflictError(f"the tree is no longer at size {old_size}")


class Turn(Transaction):
    """A transaction for many: what other writers, of this process or of others, asked for in the meantime is appended with it."""

    requests: Sequence[tuple[Any, bytes]]
    """What was asked for, as ``(whose, request)``, the own request among them."""

    def answer(self, whose: Any, answer: bytes) -> None:
        """Let a writer know, once this turn's transaction is durable."""
        raise NotImplementedError


class Storage(ABC):
    """One log's database. Safe to share between threads; each process opens its own."""

    groups = False
    """Whether :meth:`turn` brings the appends of several writers together."""
    _driver_error: type[Exception]

    def __init__(self, name: str, engine: Engine) -> None:
        self.name = name
        self._engine = engine
        self._statements = statements_of(engine.dialect)

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """Consistent reads; writers go on meanwhile."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Transaction]:
        """The log's write lock, from before the first read. Durable when the block ends, undone if it raises."""

    def turn(self, request: bytes, leaves: Sequence[bytes], known: int) -> AbstractContextManager[Turn | bytes]:
        """Ask for an append: the answer, if another writer has done it, or a turn to do it for all who asked.

        ``leaves`` are the leaf hashes in ``request``, ``known`` the tree size up to which the caller needs no leaves read.
        """
        raise NotImplementedError

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Database errors as this package's own."""
        try:
            yield
        except (sa.exc.SQLAlchemyError, self._driver_error) as error:
            reason = getattr(error, "orig", None) or error
            raise StorageError(f"the log's database {self.name} failed: {str(reason).strip()}") from error


def name_of(place: Place) -> str:
    """A place as others find it, and as messages may show it: without a password."""
    if isinstance(place, Path):
        return str(place.absolute())
    parts = urlsplit(place)
    user, at, host = parts.netloc.rpartition("@")
    query = "&".join(pair for pair in parts.query.split("&") if "password" not in pair.partition("=")[0])
    return urlunsplit(parts._replace(netloc=user.partition(":")[0] + at + host, query=query))


def open(place: Place) -> Storage:
    """The database of an existing log."""
    if isinstance(place, Path):
        from ledger.storage_sqlite import SqliteStorage

        return SqliteStorage.open(place)
    return _postgres(place).open(place)


def create(place: Place, checkpoint: bytes, version: int = SCHEMA_VERSION) -> Storage:
    """The database of a new log, with a signed checkpoint of the empty tree."""
    if isinstance(place, Path):
        from ledger.storage_sqlite import SqliteStorage

        return SqliteStorage.create(place, checkpoint, version)
    return _postgres(place).create(place, checkpoint, version)


def _postgres(place: str) -> "type[PostgresStorage]":
    if not place.startswith(POSTGRES):
        raise StorageError(f"expected a path or {POSTGRES[0]}…, got {place[:80]!r}")
    try:
        from ledger.storage_postgres import PostgresStorage
    except ImportError as error:
        raise MissingExtraError(
            f"expected the package psycopg ({error}): pip install 'unlearning-ledger[postgres]'"
        ) from error
    return PostgresStorage


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TamperedError(f"storage holds a {type(value).__name__} where bytes are expected")
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int):
        raise TamperedError(f"storage holds a {type(value).__name__} where a number is expected")
    return value
