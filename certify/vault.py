"""The vault: what must never enter the log. Salts, record ids and notes, encrypted; leaf hashes and manifests beside them.

The log holds commitments; their openings live here, each sealed by itself with AES-256-GCM under the vault's key, bound to
the place it belongs to. Record ids are found by a keyed hash. Destroying an opening leaves its log entry as noise that still
verifies. A vault's key file is a random key, itself sealed under a password (scrypt).
"""

import hmac
import json
import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from certify import dataset
from certify.errors import DatasetError, WorkspaceError
from certify.records import Records
from certify.statement import Tree
from ledger.errors import KeyFileError
from ledger.keyfile import read_private, write_private

Progress = Callable[[int], object]

_NONCE = 12
_BATCH = 10_000
_SCRYPT = {"n": 1 << 15, "r": 8, "p": 1}

_metadata = sa.MetaData()
_openings = sa.Table(
    "openings",
    _metadata,
    sa.Column("root", sa.String(64), primary_key=True),
    sa.Column("position", sa.BigInteger, primary_key=True),
    sa.Column("key", sa.LargeBinary, nullable=False, index=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
)
_trees = sa.Table(
    "trees",
    _metadata,
    sa.Column("root", sa.String(64), primary_key=True),
    sa.Column("leaves", sa.LargeBinary, nullable=False),
)
_notes = sa.Table(
    "notes",
    _metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Opening:
    """The record id and salt behind one leaf."""

    record_id: str
    salt: bytes
    position: int


@dataclass(frozen=True, slots=True)
class Committed:
    """Records that were committed to, each with a fresh salt; nothing is kept yet."""

    tree: Tree
    ids: tuple[str, ...]
    commitments: dataset.Commitments


def commit_records(records: Records) -> Committed:
    """Raises DatasetError if two ids are equal."""
    ids = tuple(record_id for record_id, _ in records)
    if len(set(ids)) != len(ids):
        raise DatasetError("two records have the same id")
    commitments = dataset.commit(record for _, record in records)
    return Committed(Tree(commitments.root().hex(), commitments.count), ids, commitments)


def create_key(path: Path, password: bytes | None) -> bytes:
    """A new vault key file; without a password it holds the bare key, protected by its mode alone."""
    key = AESGCM.generate_key(256)
    if password is None:
        fields: dict[str, Any] = {"key": b64encode(key).decode()}
    else:
        salt, nonce = os.urandom(16), os.urandom(_NONCE)
        sealed = AESGCM(_stretch(password, salt)).encrypt(nonce, key, b"unlearning-ledger/vault-key/v1")
        fields = {name: b64encode(v).decode() for name, v in (("salt", salt), ("nonce", nonce), ("sealed", sealed))}
    write_private(path, json.dumps(fields).encode())
    return key


def load_key(path: Path, password: bytes | None) -> bytes:
    try:
        fields = {name: b64decode(value, validate=True) for name, value in json.loads(read_private(path)).items()}
        if "key" in fields:
            AESGCM(fields["key"])  # refuses another length
            return fields["key"]
        if password is None:
            raise KeyFileError(f"{path} is encrypted: a password is needed")
        key = _stretch(password, fields["salt"])
        return AESGCM(key).decrypt(fields["nonce"], fields["sealed"], b"unlearning-ledger/vault-key/v1")
    except (ValueError, TypeError, KeyError, AttributeError, InvalidTag) as error:
        raise KeyFileError(f"cannot open {path}: wrong password or damaged file") from error


def is_encrypted(path: Path) -> bool:
    """Whether the key file needs a password."""
    return b'"sealed"' in read_private(path)


def _stretch(password: bytes, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, **_SCRYPT).derive(password)


class Vault:
    """A vault's database, open with its key."""

    def __init__(self, path: Path, key: bytes) -> None:
        self.path = path
        self._aead = AESGCM(key)
        self._index_key = hmac.digest(key, b"record-index", "sha256")
        self._engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), connect_args={"timeout": 60})

        @sa.event.listens_for(self._engine, "connect")
        def configure(connection: Any, _record: Any) -> None:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")  # what is destroyed is overwritten

        if not path.is_file():
            raise WorkspaceError(f"no vault at {path}: restore it; without it openings and record ids are lost")

    @classmethod
    def create(cls, path: Path, key: bytes) -> "Vault":
        """A new, empty vault that only its owner can read."""
        write_private(path, b"")  # an empty file is an empty database
        vault = cls(path, key)
        with vault._guarded():
            _metadata.create_all(vault._engine)
        return vault

    def close(self) -> None:
        self._engine.dispose()

    # -- records -----------------------------------------------------------------------------------------------------

    def put_records(self, records: Records, progress: Progress = lambda done: None) -> Tree:
        """Commit to records and keep their openings at once; see :func:`commit_records` and :meth:`keep`."""
        committed = commit_records(records)
        self.keep(committed, progress)
        return committed.tree

    def keep(self, committed: Committed, progress: Progress = lambda done: None) -> None:
        """Keep the openings of records, before the log speaks of them. ``progress`` hears how many are kept so far."""
        tree, ids, commitments = committed.tree, committed.ids, committed.commitments
        salts = dataset.split(commitments.salts)
        with self._guarded(), self._engine.begin() as connection:
            connection.execute(sa.insert(_trees), {"root": tree.root, "leaves": commitments.leaves})
            for first in range(0, len(ids), _BATCH):
                rows = [self._row(tree.root, i, ids[i], salts[i]) for i in range(first, min(first + _BATCH, len(ids)))]
                connection.execute(sa.insert(_openings), rows)
                progress(first + len(rows))

    def _row(self, root: str, position: int, record_id: str, salt: bytes) -> dict[str, Any]:
        sealed = self._seal(f"{root}/{position}", salt + record_id.encode())
        return {"root": root, "position": position, "key": self._lookup(record_id), "sealed": sealed}

    def leaves(self, root: str) -> bytes:
        """The leaf hashes under ``root``, n x 32 bytes."""
        with self._guarded(), self._engine.connect() as connection:
            leaves: bytes | None = connection.execute(sa.select(_trees.c.leaves).where(_trees.c.root == root)).scalar()
        if leaves is None:
            raise WorkspaceError(f"the vault {self.path} has no records under root {root}")
        if dataset.retained(leaves, ())[0].hex() != root:
            raise WorkspaceError(f"the vault {self.path} was altered: the leaves under root {root} lead to another")
        return leaves

    def find(self, root: str, record_id: str) -> Opening | None:
        """The opening of a record under ``root``, if it is there and has not been destroyed."""
        query = sa.select(_openings.c.position, _openings.c.sealed).where(
            _openings.c.root == root, _openings.c.key == self._lookup(record_id)
        )
        with self._guarded(), self._engine.connect() as connection:
            rows = connection.execute(query).all()
        for position, sealed in rows:
            opening = self._open(root, position, sealed)
            if opening.record_id == record_id:
                return opening
        return None

    def openings(self, root: str) -> list[Opening]:
        """All openings under ``root`` that have not been destroyed, in order."""
        query = sa.select(_openings.c.position, _openings.c.sealed).where(_openings.c.root == root)
        with self._guarded(), self._engine.connect() as connection:
            rows = connection.execute(query.order_by(_openings.c.position)).all()
        return [self._open(root, position, sealed) for position, sealed in rows]

    def shred(self, root: str, positions: Sequence[int] | None = None) -> int:
        """Destroy the openings under ``root`` (all of them, or those at ``positions``); how many there were.

        Rows are overwritten in the database. Backups, file-system snapshots and flash translation layers are beyond it.
        """
        where = _openings.c.root == root
        if positions is not None:
            where = sa.and_(where, _openings.c.position.in_(list(positions)))
        with self._guarded(), self._engine.begin() as connection:
            return connection.execute(sa.delete(_openings).where(where)).rowcount

    # -- notes -------------------------------------------------------------------------------------------------------

    def put_note(self, name: str, value: Any) -> None:
        """Keep a JSON value, sealed, under ``name``; replaces what was there."""
        self.put_notes({name: value})

    def put_notes(self, values: Mapping[str, Any]) -> None:
        """Keep several values, all of them or none."""
        if not values:
            return
        rows = [
            {"name": name, "sealed": self._seal(name, json.dumps(value).encode())} for name, value in values.items()
        ]
        with self._guarded(), self._engine.begin() as connection:
            connection.execute(
                sa.delete(_notes).where(_notes.c.name == sa.bindparam("old")), [{"old": n} for n in values]
            )
            connection.execute(sa.insert(_notes), rows)

    def drop_note(self, name: str) -> None:
        """Destroy a note, if it is there."""
        with self._guarded(), self._engine.begin() as connection:
            connection.execute(sa.delete(_notes).where(_notes.c.name == name))

    def note(self, name: str) -> Any:
        """The value under ``name``, or None."""
        with self._guarded(), self._engine.connect() as connection:
            sealed = connection.execute(sa.select(_notes.c.sealed).where(_notes.c.name == name)).scalar()
        return None if sealed is None else json.loads(self._unseal(name, sealed))

    def notes(self, prefix: str) -> Iterator[tuple[str, Any]]:
        """(name, value) of all notes whose name starts with ``prefix``."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)  # the names that start with prefix are a range
        query = sa.select(_notes.c.name, _notes.c.sealed).where(_notes.c.name >= prefix, _notes.c.name < end)
        with self._guarded(), self._engine.connect() as connection:
            rows = connection.execute(query.order_by(_notes.c.name)).all()
        for name, sealed in rows:
            yield name, json.loads(self._unseal(name, sealed))

    # -- sealing -----------------------------------------------------------------------------------------------------

    def _lookup(self, record_id: str) -> bytes:
        return hmac.digest(self._index_key, record_id.encode(), sha256)

    def _seal(self, place: str, data: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        return nonce + self._aead.encrypt(nonce, data, place.encode())

    def _unseal(self, place: str, sealed: bytes) -> bytes:
        try:
            return self._aead.decrypt(sealed[:_NONCE], sealed[_NONCE:], place.encode())
        except (InvalidTag, ValueError) as error:
            raise WorkspaceError(
                f"the vault {self.path} was altered, or this is not its key: cannot open {place}"
            ) from error

    def _open(self, root: str, position: int, sealed: bytes) -> Opening:
        data = self._unseal(f"{root}/{position}", sealed)
        return Opening(data[32:].decode(), data[:32], position)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DatabaseError as error:
            raise WorkspaceError(f"the vault {self.path} failed: {error.orig}") from error
