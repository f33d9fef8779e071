"""A witness: cosigns checkpoints of the logs it follows, each only if it continues the last one. C2SP tlog-witness.

::

    POST add-checkpoint          old 3                         200  the cosignatures, one a line
                                 <base64, proof>               400  malformed, or the old size is above the new one
                                                               403  no signature of the log, or a wrong one
                                 example.com/log               404  a log that is not followed
                                 5                             409  the old size is another: "3\\n", text/x.tlog.size
                                 <base64, root>                422  not the continuation of what was cosigned last
                                                               503  the clock or the disk fails: nothing is signed
                                 — example.com/log <base64>

What was cosigned last stands in an SQLite file, one row a log. Reading it, checking, signing and writing happen in one
transaction with the file's write lock, and the reply follows once that is on disk: processes that share the file, or die at any
moment, never cosign two histories. *An old copy of that file must never be put back*: a witness that lost it starts anew under
another name.

Times of a log's cosignatures never go back. If the clock is up to a minute behind the last of them, that one's time is used
again; if it is further behind, nothing is signed until somebody has looked at the clock.

Stricter than the specification: checkpoints with extension lines are refused (400), since nobody could audit these.
"""

import sqlite3
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ledger.checkpoint import Checkpoint, parse_decimal, parse_hash
from ledger.cosignature import MAX_NAME_SIZE, verify_cosignature
from ledger.errors import LedgerError, MalformedError, ProofError, SignatureError, StorageError, TamperedError
from ledger.fork import ForkProof
from ledger.merkle import EMPTY_ROOT, consistency_ranges, node_hash, verify_consistency
from ledger.note import COSIGNATURE_ED25519, ED25519, Note, VerifierKey, verify_ed25519, verify_note
from ledger.signed_checkpoint import open_checkpoint
from ledger.witness_key import WitnessKey

MAX_REQUEST_SIZE = 1 << 18
MAX_PROOF_LINES = 63
MAX_CLOCK_STEP = 60
"""Seconds that the clock may be behind the last cosignature."""
BUSY_TIMEOUT = 60.0
PLAIN = "text/plain; charset=utf-8"
SIZE_TYPE = "text/x.tlog.size"

_metadata = sa.MetaData()
_logs = sa.Table(
    "logs",
    _metadata,
    sa.Column("origin", sa.Text, primary_key=True),
    sa.Column("hash", sa.Text, nullable=False, unique=True),
    sa.Column("keys", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("root", sa.LargeBinary, nullable=False),
    sa.Column("note", sa.LargeBinary),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("fork", sa.LargeBinary),
)


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP reply."""

    status: int
    body: bytes
    type: str = PLAIN


@dataclass(frozen=True, slots=True)
class Followed:
    """A log, and what of it was cosigned last: ``note`` has the log's and this witness's signatures; None if there is none yet.

    ``fork`` is the first proof seen that the log signed two histories (:mod:`ledger.fork`).
    """

    origin: str
    keys: tuple[VerifierKey, ...]
    checkpoint: Checkpoint
    note: bytes | None
    time: int
    fork: bytes | None


@dataclass(frozen=True, slots=True)
class Request:
    """What ``add-checkpoint`` takes."""

    old_size: int
    proof: tuple[bytes, ...]
    note: Note
    checkpoint: Checkpoint

    @classmethod
    def parse(cls, body: bytes) -> "Request":
        """Raises MalformedError. The checkpoint may be one that no tree has (:attr:`Checkpoint.possible`)."""
        if len(body) > MAX_REQUEST_SIZE:
            raise MalformedError(f"the request has {len(body):,} bytes, expected at most {MAX_REQUEST_SIZE:,}")
        head, blank, note = body.partition(b"\n\n")
        try:
            old, *lines = head.decode().split("\n")
        except UnicodeDecodeError as error:
            raise MalformedError("the request is not valid UTF-8") from error
        if not blank or not old.startswith("old "):
            raise MalformedError("expected a line 'old SIZE', proof lines, an empty line and a checkpoint")
        if len(lines) > MAX_PROOF_LINES:
            raise MalformedError(f"the request has {len(lines)} proof lines, expected at most {MAX_PROOF_LINES}")
        proof = tuple(parse_hash(line, "proof line") for line in lines)
        parsed = Note.parse(note)
        return cls(
            parse_decimal(old.removeprefix("old "), "old size"), proof, parsed, Checkpoint.parse_lines(parsed.text)
        )

    def format(self) -> bytes:
        lines = [f"old {self.old_size}", *(b64encode(hash_).decode() for hash_ in self.proof)]
        return ("\n".join(lines) + "\n\n").encode() + self.note.format()


class Witness:
    """See the module. Threads and processes may share the file; each process opens its own."""

    def __init__(self, path: Path, key: WitnessKey | None = None, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self.key = key
        self._clock = clock
        self._engine = _engine(path)

    @classmethod
    def create(cls, path: Path, key: WitnessKey | None = None, clock: Callable[[], float] = time.time) -> "Witness":
        """A witness that follows no log yet."""
        if path.exists():
            raise StorageError(f"{path} exists already: open it, or name another file")
        witness = cls(path, key, clock)
        with witness._transaction() as connection:
            _metadata.create_all(connection)
        return witness

    @classmethod
    def open(cls, path: Path, key: WitnessKey | None = None, clock: Callable[[], float] = time.time) -> "Witness":
        """Without ``key``, to look and to add logs."""
        if not path.is_file():
            raise StorageError(f"no witness at {path}: create one with 'certify witness init'")
        return cls(path, key, clock)

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> "Witness":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def follow(self, keys: Sequence[VerifierKey]) -> Followed:
        """Cosign for the log with these keys from now on; any one of them has to have signed a checkpoint.

        A log that is followed already keeps what was cosigned, and its keys become these. Raises MalformedError.
        """
        names = {key.name for key in keys}
        if len(names) != 1 or len(set(keys)) != len(keys):
            raise MalformedError(f"a log has one name and different keys, got {len(keys)} keys of {sorted(names)}")
        if any(key.type == COSIGNATURE_ED25519 for key in keys):
            raise MalformedError("a log's key has type 01 or 06, got a witness's (04)")
        origin = names.pop()
        if len(origin.encode()) > MAX_NAME_SIZE:
            raise MalformedError(f"an origin of {len(origin.encode())} bytes, expected at most {MAX_NAME_SIZE}")
        text = "\n".join(key.format() for key in keys)
        with self._transaction() as connection:
            if _row(connection, _logs.c.origin == origin) is None:
                row = {"origin": origin, "hash": origin_hash(origin), "keys": text, "size": 0, "root": EMPTY_ROOT}
                connection.execute(sa.insert(_logs), row | {"time": 0})
            else:
                connection.execute(sa.update(_logs).where(_logs.c.origin == origin).values(keys=text))
            found = _row(connection, _logs.c.origin == origin)
        assert found is not None
        return found

    def followed(self) -> list[Followed]:
        """All logs, by origin."""
        with self._guarded(), self._engine.connect() as connection:
            return [_followed(row) for row in connection.execute(sa.select(_logs).order_by(_logs.c.origin))]

    def checkpoint(self, hash_: str) -> bytes | None:
        """The checkpoint that was cosigned last, of the log whose origin has this SHA-256 (hex); None if there is none."""
        with self._guarded(), self._engine.connect() as connection:
            found = _row(connection, _logs.c.hash == hash_)
        return found.note if found is not None else None

    def add_checkpoint(self, body: bytes) -> Reply:
        """The reply to ``add-checkpoint``. When it is 200, what it cosigns is on disk."""
        try:
            request = Request.parse(body)
        except MalformedError as error:
            return _refusal(400, error)
        try:
            with self._guarded(), self._engine.connect() as connection:
                known = _row(connection, _logs.c.origin == request.checkpoint.origin)
            if known is None:
                return _refusal(404, f"the log {request.checkpoint.origin[:120]!r} is not followed here")
            try:
                signed = _signed_by_log(request, known.keys)
            except SignatureError as error:
                return _refusal(403, error)
            with self._transaction() as connection:  # only now: strangers do not get at the write lock
                return self._decide(connection, request, signed)
        except LedgerError as error:
            return _refusal(503, error)

    def _decide(self, connection: sa.Connection, request: Request, signed: Note) -> Reply:
        """``signed``: the checkpoint with the log's own signatures, checked."""
        new = request.checkpoint
        last = _row(connection, _logs.c.origin == new.origin)
        if last is None:
            raise LedgerError(f"the log {new.origin[:120]!r} is no longer followed here")
        if request.old_size > new.size:
            return _refusal(400, f"the old size is {request.old_size}, above the checkpoint's {new.size}")
        if request.old_size != last.checkpoint.size:
            return Reply(409, b"%d\n" % last.checkpoint.size, SIZE_TYPE)
        try:
            _check_continues(last.checkpoint, new, request.proof)
        except ProofError as error:
            self._remember_fork(connection, last, signed, request)
            return _refusal(422, error)
        if self.key is None:
            raise LedgerError("this witness is open without its key: it cosigns nothing")
        _check_own(last, self.key)
        moment = self._time(last)
        lines = self.key.cosign(new, moment)
        note = Note(signed.text, (*signed.signatures, *lines)).format()
        values = {"size": new.size, "root": new.root, "note": note, "time": moment}
        connection.execute(sa.update(_logs).where(_logs.c.origin == new.origin).values(values))
        return Reply(200, "".join(line.format() for line in lines).encode())

    def _time(self, last: Followed) -> int:
        """POSIX seconds for the next cosignature of a log: never before the last one's."""
        now = int(self._clock())
        if now < last.time - MAX_CLOCK_STEP or now <= 0:
            raise LedgerError(
                f"this witness's clock is at {now}, {last.time - now} s before its last cosignature for {last.origin}: "
                f"nothing is signed until it is right"
            )
        return max(now, last.time)

    def _remember_fork(self, connection: sa.Connection, last: Followed, signed: Note, request: Request) -> None:
        """Keep the first request that proves, whoever sent it, that the log signed two histories."""
        if last.fork is not None or last.note is None:
            return
        other = other_old_root(last.checkpoint.size, request.checkpoint, request.proof)
        proof = ForkProof(other, request.proof, last.note, signed.format())
        try:
            proof.verify(last.keys)
        except (MalformedError, SignatureError, ProofError):
            return
        values = {"fork": proof.format()}
        connection.execute(sa.update(_logs).where(_logs.c.origin == last.origin).values(values))

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        """The file's write lock from before the first read; durable when the block ends, undone if it raises."""
        with self._guarded(), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.DatabaseError, sqlite3.Error) as error:
            reason = error.orig if isinstance(error, sa.exc.DatabaseError) else error
            raise StorageError(f"the witness's database {self.path} failed: {reason}") from error


def origin_hash(origin: str) -> str:
    """How a log goes by in a witness's URLs: SHA-256 of its origin, hex."""
    return sha256(origin.encode()).hexdigest()


def other_old_root(old_size: int, new: Checkpoint, proof: Sequence[bytes]) -> bytes:
    """The root at ``old_size`` that a consistency proof speaks of, if it does; the new root where the sizes are equal."""
    if old_size in (0, new.size) or not proof or len(proof) != len(consistency_ranges(old_size, new.size)):
        return new.root
    hashes = list(proof)
    hash_ = hashes.pop(0)
    ranges = consistency_ranges(old_size, new.size)[1:]
    for (lo, _), sibling in zip(ranges, hashes, strict=True):
        if lo < old_size:
            hash_ = node_hash(sibling, hash_)
    return hash_


def _check_own(last: Followed, key: WitnessKey) -> None:
    """What is on disk is what this witness signed. Raises TamperedError."""
    if last.note is None and last.checkpoint == Checkpoint(last.origin, 0, EMPTY_ROOT):
        return
    try:
        keys = list(key.verifier_keys)
        own = open_checkpoint(last.note or b"", log_keys=keys, origin=last.origin).checkpoint
    except (MalformedError, SignatureError) as error:
        raise TamperedError(
            f"what this witness has on disk of log {last.origin} is not what it signed: {error}"
        ) from error
    if own != last.checkpoint:
        raise TamperedError(f"this witness has size {last.checkpoint.size} on disk, but signed {own.size} last")


def _check_continues(old: Checkpoint, new: Checkpoint, proof: Sequence[bytes]) -> None:
    """Raise ProofError unless ``proof`` shows that the tree ``old`` begins ``new``."""
    if not new.possible:
        raise ProofError(f"no tree of {new.size} entries has the root {new.root.hex()}")
    if old.size:
        verify_consistency(old_size=old.size, old_root=old.root, size=new.size, root=new.root, path=proof)
    elif proof:
        raise ProofError(f"a proof of {len(proof)} hashes, expected none: every tree continues the empty one")


def _signed_by_log(request: Request, keys: Sequence[VerifierKey]) -> Note:
    """The checkpoint with those signatures that are the log's, checked. Raises SignatureError."""

    def verify(key: VerifierKey, text: bytes, payload: bytes) -> None:
        if key.type == ED25519:
            verify_ed25519(key, text, payload)
        else:
            verify_cosignature(key, request.checkpoint, payload)

    signed = {(key.name, key.key_id) for key in verify_note(request.note, keys, verify)}
    lines = tuple(line for line in request.note.signatures if (line.name, line.key_id) in signed)
    return Note(request.note.text, lines)


def _row(connection: sa.Connection, where: sa.ColumnElement[bool]) -> Followed | None:
    row = connection.execute(sa.select(_logs).where(where)).one_or_none()
    return _followed(row) if row is not None else None


def _followed(row: Any) -> Followed:
    keys = tuple(VerifierKey.parse(line) for line in row.keys.split("\n"))
    return Followed(row.origin, keys, Checkpoint(row.origin, row.size, row.root), row.note, row.time, row.fork)


def _refusal(status: int, reason: object) -> Reply:
    return Reply(status, f"{reason}\n".encode(errors="replace"))


def _engine(path: Path) -> sa.Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False},
        poolclass=sa.pool.QueuePool,
        max_overflow=-1,
    )

    @sa.event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin where this module says so
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a commit returns when it is on disk

    return engine
