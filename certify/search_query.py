"""What an index for searching consists of, and what can be asked of it.

::

    entries   the kind of each entry, and the time that it states
    terms     a digest, what it is of (:data:`certify.search_terms.FIELDS`), and an entry that names it
    state     the log's origin, how many entries were read, and the right edge of the tree that they make

    Query(tensors="51c40e81", kind="unlearning")
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from certify.errors import SearchError
from certify.search_terms import DIGEST, FIELDS, Described

schema = sa.MetaData()
state = sa.Table(
    "state",
    schema,
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("edge", sa.LargeBinary, nullable=False),
)
entries = sa.Table(
    "entries",
    schema,
    sa.Column("entry", sa.Integer, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False, index=True),
    sa.Column("time", sa.Integer, index=True),
)
terms = sa.Table(
    "terms",
    schema,
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("field", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("entry", sa.Integer, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for; all that is given has to fit. Digests in hex, or their first 8 digits and more."""

    any: str | None = None
    """A digest, whatever it is of."""
    statement: str | None = None
    request: str | None = None
    """Of a request or its forget root: finds it, and the certificates that answer it."""
    file: str | None = None
    """A file's SHA-256: finds what names the file, or started from it."""
    tensors: str | None = None
    """A tensor root: of a model that was trained, and before or after an unlearning."""
    keys: tuple[str, ...] = ()
    """Key ids, one of which a signature has to name. Whether it is really by that key is not for an index to say."""
    kind: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    """Stated times; ``until`` is not part of the range."""

    def __post_init__(self) -> None:
        for _, starts in self.digests():
            for start in starts:
                if not DIGEST.fullmatch(start):
                    raise SearchError(f"not a digest: {start[:80]!r}, expected 8 to 64 hexadecimal digits")

    def digests(self) -> Iterator[tuple[str | None, tuple[str, ...]]]:
        """(field, how the digest starts, one of these) for each that is asked for."""
        for field, start in (
            (None, self.any),
            ("statement", self.statement),
            ("request", self.request),
            ("file", self.file),
            ("tensors", self.tensors),
        ):
            if start is not None:
                yield field, (start,)
        if self.keys:
            yield "key", self.keys

    def fits(self, described: Described) -> bool:
        time = described.time
        return (
            all(any(described.names(field, start) for start in starts) for field, starts in self.digests())
            and self.kind in (None, described.kind)
            and (self.since is None or (time is not None and time >= self.since.timestamp()))
            and (self.until is None or (time is not None and time < self.until.timestamp()))
        )

    def select(self) -> sa.Select[int]:
        """The numbers of the entries that the index says fit."""
        found = sa.select(entries.c.entry)
        for field, starts in self.digests():
            ranges = [
                terms.c.digest.between(bytes.fromhex(start.ljust(64, "0")), bytes.fromhex(start.ljust(64, "f")))
                for start in starts
            ]
            rows = sa.select(terms.c.entry).where(sa.or_(*ranges))
            if field is not None:
                rows = rows.where(terms.c.field == FIELDS[field])
            found = found.where(entries.c.entry.in_(rows))
        if self.kind is not None:
            found = found.where(entries.c.kind == self.kind)
        if self.since is not None:
            found = found.where(entries.c.time >= self.since.timestamp())
        if self.until is not None:
            found = found.where(entries.c.time < self.until.timestamp())
        return found
