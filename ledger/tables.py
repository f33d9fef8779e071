"""The tables of a log, and the statements that are run often: SQLAlchemy Core, compiled once for each kind of database.

::

    entries  index, leaf (hash, unique: the same bytes are logged once), data
    tiles    level, index, hashes (full tiles, and partial ones from level 1 up, which grow once in 256 entries)
    head     one row: storage version, tree size, signed checkpoint
    kept     name, value: small things that change
"""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.interfaces import DBAPICursor

from ledger.tiles import TILE_WIDTH

FIND_CHUNKS = 8, 64, 512
"""So many leaf hashes are looked up at once: a statement each."""

metadata = sa.MetaData()
head = sa.Table(
    "head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("checkpoint", sa.LargeBinary, nullable=False),
)
entries = sa.Table(
    "entries",
    metadata,
    sa.Column("index", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("leaf", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
tiles = sa.Table(
    "tiles",
    metadata,
    sa.Column("level", sa.Integer, primary_key=True),
    sa.Column("index", sa.BigInteger, primary_key=True),
    sa.Column("hashes", sa.LargeBinary, nullable=False),
)
kept = sa.Table(
    "kept",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)


class Prepared:
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


class Statements:
    """Everything that is run often."""

    def __init__(self, dialect: Dialect) -> None:
        def prepare(statement: sa.sql.ClauseElement) -> Prepared:
            return Prepared(statement, dialect)

        one: sa.ColumnElement[int] = sa.literal_column("1")
        in_span = sa.and_(entries.c.index >= sa.bindparam("first"), entries.c.index < sa.bindparam("end"))
        at_tile = sa.and_(tiles.c.level == sa.bindparam("at_level"), tiles.c.index == sa.bindparam("at_index"))
        self.head = prepare(sa.select(head.c.version, head.c.size, head.c.checkpoint).where(head.c.id == one))
        self.set_head = prepare(
            sa.update(head)
            .where(head.c.id == one, head.c.size == sa.bindparam("old_size"))
            .values(size=sa.bindparam("new_size"), checkpoint=sa.bindparam("new_checkpoint"))
        )
        self.find = prepare(sa.select(entries.c.index).where(entries.c.leaf == sa.bindparam("at_leaf")))
        self.leaf_names = [f"leaf{i}" for i in range(FIND_CHUNKS[-1])]
        names: list[sa.BindParameter[bytes]] = [sa.bindparam(name) for name in self.leaf_names]
        found = sa.select(entries.c.leaf, entries.c.index)
        self.find_many = {size: prepare(found.where(entries.c.leaf.in_(names[:size]))) for size in FIND_CHUNKS}
        self.entries = prepare(sa.select(entries.c.index, entries.c.data).where(in_span).order_by(entries.c.index))
        self.rows = prepare(
            sa.select(entries.c.index, entries.c.leaf, entries.c.data)
            .where(entries.c.index >= sa.bindparam("first"))
            .order_by(entries.c.index)
            .limit(sa.literal_column(str(TILE_WIDTH)))
            .offset(sa.literal_column("0"))  # else SQLAlchemy binds a parameter of its own
        )
        self.tile_keys = prepare(sa.select(tiles.c.level, tiles.c.index).order_by(tiles.c.level, tiles.c.index))
        self.leaves = prepare(sa.select(entries.c.leaf).where(in_span).order_by(entries.c.index))
        self.tile = prepare(sa.select(tiles.c.hashes).where(at_tile))
        self.set_tile = prepare(sa.update(tiles).where(at_tile).values(hashes=sa.bindparam("new_hashes")))
        self.add_tile = prepare(sa.insert(tiles))
        self.add_entry = prepare(sa.insert(entries))
        self.integrity = "PRAGMA integrity_check" if dialect.name == "sqlite" else None
        self.kept = prepare(sa.select(kept.c.value).where(kept.c.name == sa.bindparam("at_name")))
        self.forget = prepare(sa.delete(kept).where(kept.c.name == sa.bindparam("at_name")))
        self.keep = prepare(sa.insert(kept))
        self.all_kept = prepare(sa.select(kept.c.name, kept.c.value).order_by(kept.c.name))
        self.set_version = prepare(sa.update(head).where(head.c.id == one).values(version=sa.bindparam("new_version")))
        self.count = prepare(sa.select(sa.func.count()).select_from(entries))


_compiled: dict[type[Dialect], Statements] = {}


def statements_of(dialect: Dialect) -> Statements:
    """Compiled once in a process: it takes longer than everything else that opening a log does."""
    kind = type(dialect)
    if kind not in _compiled:
        _compiled[kind] = Statements(dialect)
    return _compiled[kind]
