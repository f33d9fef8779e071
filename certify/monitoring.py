"""What a monitor checks of the statements in a log, without any opening: form, signatures, keys, order, answered requests.

Each entry is parsed strictly and its signatures are verified, in other processes where there are many. Then, in the log's
order: keys count as ``trust.toml`` and the log's own ``key/v1`` entries say, a certificate goes on from a model that is in
the log before it, and answers requests that are. What a statement says about data and weights takes a bundle to check:
:mod:`certify.verifier`.

Statements by issuers that ``trust.toml`` does not name are counted and mentioned: anybody may have a log of many issuers.
"""

import os
import sqlite3
from base64 import b64decode
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, wraps
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

from certify.deployments import later, unlearnings
from certify.envelope import Envelope
from certify.errors import EnvelopeSignatureError, KeyValidityError, StatementError, UntrustedKeyError, WorkspaceError
from certify.keyring import KeyRing, Signer, claimed_time
from certify.keys import PublicKey
from certify.statement import (
    Audit,
    AuditPlan,
    Circuit,
    Deployment,
    KeyChange,
    Model,
    Replay,
    Request,
    Statement,
    Training,
    Unlearning,
)
from certify.times import format_time, parse_time
from certify.trust import Trust
from ledger.monitor import Finding

POOL_FROM = 4096
"""Statements in one look from which on other processes help; starting them takes as long as a thousand statements or two."""
MAX_MENTIONS = 20
"""Findings of one sort that are told one by one in a look; then only their number."""
LOCK_TIMEOUT = 5.0
"""Seconds to wait for another monitor that has the same notes open."""

_SCHEMA = """
create table if not exists statement (
    digest blob primary key, "index" integer not null, kind text not null, issuer text,
    model text, time integer, due integer, training integer
) without rowid;
create index if not exists statement_index on statement ("index");
create table if not exists answer (request blob not null, "index" integer not null);
create index if not exists answer_request on answer (request);
create table if not exists key_change ("index" integer primary key, envelope blob not null);
create table if not exists way ("index" integer primary key, parent integer not null);
create table if not exists deployment (
    "index" integer primary key, issuer text not null, name text not null, model integer not null
);
create table if not exists began (size integer not null);
"""


@dataclass(frozen=True, slots=True)
class Examined:
    """What another process found: the statement, and the ids of the keys that signed, if it knew them; or what is wrong."""

    statement: Statement | None
    signers: tuple[str, ...] | None
    error: str | None = None
    enveloped: bool = False
    """It is a DSSE envelope, but holds no statement."""


@dataclass(frozen=True, slots=True)
class _Checked(Envelope):
    """An envelope whose signatures have been verified by the keys with these ids, so that this need not be done again."""

    signers: tuple[str, ...] | None = None

    def verify(self, keys: Iterable[PublicKey]) -> list[PublicKey]:
        known = {key.keyid: key for key in keys}
        if self.signers is not None and known.keys() >= set(self.signers):
            return [known[keyid] for keyid in self.signers]
        return Envelope.parse(self.data).verify(known.values())


@cache
def _key(spki: bytes) -> PublicKey:
    return PublicKey.from_spki(spki)


def examine(entries: Sequence[bytes], spkis: Sequence[bytes]) -> list[Examined]:
    """Parse entries, and verify their signatures by any of these keys (DER). Pure, so that it can be done anywhere."""
    keys = [_key(spki) for spki in spkis]
    return [_examine(entry, keys) for entry in entries]


def _examine(entry: bytes, keys: Sequence[PublicKey]) -> Examined:
    try:
        envelope = Envelope.parse(entry)
    except StatementError as error:
        return Examined(None, None, str(error))
    try:
        signers = tuple(key.keyid for key in envelope.verify(keys))
    except (UntrustedKeyError, EnvelopeSignatureError):
        signers = None  # who asks again gets the error, or has another key by then
    try:
        return Examined(Statement.parse(envelope.payload), signers)
    except StatementError as error:
        return Examined(None, signers, str(error), enveloped=True)


@dataclass(frozen=True, slots=True)
class Summary:
    """What the log holds, as far as it was looked at. ``kinds``: statements by trusted issuers, of each kind; ``unknown``: those
    by others; ``other``: entries that are no statements."""

    kinds: dict[str, int]
    unknown: int
    other: int
    unanswered: int
    overdue: int


P = ParamSpec("P")
R = TypeVar("R")


def _guarded(method: Callable[P, R]) -> Callable[P, R]:
    """Database errors as this package's own."""

    @wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except sqlite3.Error as error:
            raise WorkspaceError(
                f"the monitor's notes failed: {error}; if another monitor uses this folder, give this one its own"
            ) from error

    return guarded


class Statements:
    """Looks at the entries that a :class:`ledger.monitor.Monitor` reads. ``place`` is a database that remembers them; None for a
    temporary one. ``clock`` gives the time by which statements are in the future and requests overdue."""

    def __init__(
        self,
        trust: Trust,
        origin: str,
        *,
        place: Path | None = None,
        report: Callable[[Finding], None] = lambda finding: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        workers: int | None = None,
    ) -> None:
        self._trust = trust
        self._origin = origin
        self._report = report
        self._clock = clock
        self._workers = workers if workers is not None else os.cpu_count() or 1
        self._pool: ProcessPoolExecutor | None = None
        self._spkis = {issuer.key.spki for issuer in trust.issuers} | {person.key.spki for person in trust.outsiders}
        self._waiting: deque[tuple[int, Sequence[bytes], Future[list[Examined]] | None]] = deque()
        self._seen = 0
        self._mentions: Counter[str] = Counter()
        self._ring = KeyRing(trust, clock())
        try:
            self._db = sqlite3.connect(place if place is not None else "", LOCK_TIMEOUT, isolation_level=None)
            self._db.executescript("pragma journal_mode = wal; pragma synchronous = full;" + _SCHEMA)
        except sqlite3.Error as error:
            raise WorkspaceError(
                f"cannot open the monitor's notes {place}: {error}; move them away to start anew"
            ) from error

    def close(self) -> None:
        self._waiting.clear()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._db.close()

    def __enter__(self) -> "Statements":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- as the monitor calls it -------------------------------------------------------------------------------------

    @_guarded
    def begin(self, size: int) -> None:
        """See :class:`ledger.monitor.Looker`."""
        self._waiting.clear()
        self._seen = 0
        self._mentions.clear()
        if self._db.in_transaction:
            self._db.execute("rollback")
        self._db.execute("begin immediate")
        for table in ("statement", "answer", "key_change", "way", "deployment"):
            self._db.execute(f'delete from {table} where "index" >= ?', (size,))
        known = self._db.execute("select count(*) from statement").fetchone()[0]
        if not known:
            self._db.execute("delete from began")
            self._db.execute("insert into began values (?)", (size,))
        self._ring = KeyRing(self._trust, self._clock())
        for index, data in self._db.execute('select "index", envelope from key_change order by "index"').fetchall():
            envelope = Envelope.parse(data)
            statement = Statement.parse(envelope.payload)
            self._ring.admit(index, envelope, statement)
            self._learn(statement.predicate)

    @_guarded
    def look(self, first: int, entries: Sequence[bytes]) -> None:
        """See :class:`ledger.monitor.Looker`."""
        self._seen += len(entries)
        future: Future[list[Examined]] | None = None
        if self._workers > 1 and self._seen > POOL_FROM:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(self._workers, get_context("spawn"))
            future = self._pool.submit(examine, entries, tuple(self._spkis))
        self._waiting.append((first, entries, future))
        while len(self._waiting) > 4 * self._workers:
            self._settle()

    @_guarded
    def keep(self) -> None:
        """See :class:`ledger.monitor.Looker`."""
        while self._waiting:
            self._settle()
        self._db.execute("commit")
        self._db.execute("begin immediate")

    # -- statements in order -----------------------------------------------------------------------------------------

    def _settle(self) -> None:
        first, entries, future = self._waiting.popleft()
        found = future.result() if future is not None else examine(entries, tuple(self._spkis))
        for index, (entry, examined) in enumerate(zip(entries, found, strict=True), first):
            self._take(index, entry, examined)

    def _take(self, index: int, entry: bytes, examined: Examined) -> None:
        digest = sha256(entry).digest()
        before = self._db.execute('select "index" from statement where digest = ?', (digest,)).fetchone()
        if before is not None:
            self._tell("statement", "repeated", index, f"the same bytes as entry {before[0]}: a log takes them once")
            return
        statement = examined.statement
        if statement is None:
            by_issuer = examined.enveloped and examined.signers is not None
            sort = (
                ("statement", "a trusted issuer signed it, and it is no statement")
                if by_issuer
                else ("note", "no statement")
            )
            self._tell(sort[0], sort[1], index, f"{sort[1]}: {examined.error}")
            self._note(index, digest, "other")
            return
        envelope = _Checked(b"", (), entry, examined.signers)
        signer: Signer | None = None
        issuer: str | None = None
        try:
            if isinstance(statement.predicate, Circuit | AuditPlan | Audit | Replay):
                outsider = self._ring.replayer if isinstance(statement.predicate, Replay) else self._ring.auditor
                signer = outsider(index, envelope, statement)
                issuer = signer.issuer if signer is not None else None
            else:
                signer = self._ring.admit(index, envelope, statement)
                issuer = signer.issuer
        except UntrustedKeyError as error:
            self._tell("note", "unknown issuer", index, str(error))
        except (EnvelopeSignatureError, KeyValidityError) as error:
            self._tell("statement", "signature", index, str(error))
        if issuer is None:
            self._note(index, digest, statement.kind)
            return
        if statement.predicate.log != self._origin:
            self._tell(
                "statement", "log", index, f"it is made for log {statement.predicate.log!r}, this is {self._origin!r}"
            )
        self._remember(index, digest, entry, statement, issuer)

    def _note(self, index: int, digest: bytes, kind: str) -> None:
        self._db.execute('insert into statement (digest, "index", kind) values (?, ?, ?)', (digest, index, kind))

    def _remember(self, index: int, digest: bytes, entry: bytes, statement: Statement, issuer: str) -> None:
        model: str | None = None
        due: int | None = None
        training: int | None = None
        match statement.predicate:
            case Training(model=trained):
                model, training = _model(trained), index
            case Unlearning() as certificate:
                model, training = _model(certificate.post), self._check_certificate(index, certificate, issuer)
            case Request(due=when):
                due = _seconds(when)
            case Deployment() as deployment:
                self._check_deployment(index, deployment, issuer)
            case KeyChange() as change:
                what = "revoked" if change.action == "revoke" else "rotated"
                self._tell("note", "key", index, f"key {change.keyid[:16]} of {issuer} is {what}: {change.reason}")
                self._db.execute("insert into key_change values (?, ?)", (index, entry))
                self._learn(change)
        time = int(claimed_time(statement).timestamp())
        row = (digest, index, statement.kind, issuer, model, time, due, training)
        self._db.execute("insert into statement values (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def _learn(self, predicate: object) -> None:
        """Other processes should know a key that was handed over to."""
        if isinstance(predicate, KeyChange) and predicate.successor is not None:
            self._spkis.add(b64decode(predicate.successor.spki))

    def _check_certificate(self, index: int, certificate: Unlearning, issuer: str) -> int | None:
        """What order and chain can be told from the log alone; returns the index of the training it goes back to."""
        started = _seconds(certificate.run.started)
        training: int | None = None
        parent = self._find(certificate.parent)
        if parent is None or parent.kind not in ("training", "unlearning"):
            self._missing(index, "goes on from", certificate.parent, "no training or certificate by a trusted issuer")
        else:
            training = parent.training
            self._db.execute("insert into way values (?, ?)", (index, parent.index))
            if parent.model != _model(certificate.pre):
                self._tell(
                    "statement", "model", index, f"it starts from another model than entry {parent.index} ended with"
                )
            if started < parent.time:
                self._tell("statement", "time", index, f"it states a start before entry {parent.index} was finished")
            self._check_issuer(index, issuer, parent)
        for digest in certificate.requests:
            request = self._find(digest)
            if request is None or request.kind != "request":
                self._missing(index, "answers", digest, "no request by a trusted issuer")
                continue
            self._db.execute("insert into answer values (?, ?)", (bytes.fromhex(digest), index))
            self._check_issuer(index, issuer, request)
            if request.time > started:
                self._tell(
                    "statement", "time", index, f"it began before the request at entry {request.index} was received"
                )
            if training is not None and request.index < training:
                self._tell(
                    "statement",
                    "order",
                    index,
                    f"its request, entry {request.index}, is before its training, entry {training}",
                )
            if request.due is not None and request.due < _seconds(certificate.run.finished):
                due = format_time(datetime.fromtimestamp(request.due, UTC))
                self._tell(
                    "overdue",
                    "late",
                    index,
                    f"it answers the request at entry {request.index} after it was due on {due}",
                )
        return training

    def _check_deployment(self, index: int, deployment: Deployment, issuer: str) -> None:
        """The model is one that the log has, and whether it precedes an unlearning: stated as a rollback or not, it is told."""
        of = self._find(deployment.statement)
        if of is None or of.kind not in ("training", "unlearning"):
            self._missing(
                index, "deploys the model of", deployment.statement, "no training or certificate by a trusted issuer"
            )
            return
        self._check_issuer(index, issuer, of)
        if of.model != _model(deployment.model):
            self._tell(
                "statement", "model", index, f"it deploys another model than the one that entry {of.index} logged"
            )
            return
        row = (index, issuer, deployment.name, of.index)
        self._db.execute("insert into deployment values (?, ?, ?, ?)", row)
        missing = self._later(of.index)
        name = repr(deployment.name)
        if missing:
            said = f"stated as one: {deployment.rollback}" if deployment.rollback is not None else "NOT stated as one"
            what = f"{name} is given the model of entry {of.index}, which precedes {unlearnings(missing)}"
            self._tell("rollback", "rollback", index, f"{what}; {said}")
        elif deployment.rollback is not None:
            self._tell(
                "rollback", "rollback", index, f"{name} is given a model by a stated rollback: {deployment.rollback}"
            )

    def _later(self, entry: int) -> tuple[int, ...]:
        """The certificates so far that the model of an entry precedes."""
        query = (
            'select "index", model, way.parent from statement left join way using ("index") where issuer is not null and '
            "kind in ('training', 'unlearning') and training = (select training from statement where \"index\" = ?) "
            'order by "index"'
        )
        rows = self._db.execute(query, (entry,)).fetchall()
        models = {index: model for index, model, _ in rows}
        parents: dict[int, int] = {}
        for before, (index, _, parent) in zip([None, *models], rows, strict=False):
            if parent is None:  # remembered by a version that kept no parents: one after the other, then
                parent = before
            if parent is not None:
                parents[index] = parent
        return later(entry, parents, models)

    def _check_issuer(self, index: int, issuer: str, other: "_Row") -> None:
        if other.issuer != issuer:
            self._tell(
                "statement", "issuer", index, f"it is by {issuer}, and follows entry {other.index} by {other.issuer}"
            )

    def _missing(self, index: int, what: str, digest: str, expected: str) -> None:
        began = self._db.execute("select size from began").fetchone()[0]
        if began:
            self._tell(
                "note", "unseen", index, f"it {what} {digest[:16]}, which is not among the entries from {began} on"
            )
        else:
            self._tell("statement", "missing", index, f"it {what} {digest[:16]}: {expected} in the log before it")

    def _find(self, digest: str) -> "_Row | None":
        columns = '"index", kind, issuer, model, time, due, training'
        query = f"select {columns} from statement where digest = ? and issuer is not null"
        row = self._db.execute(query, (bytes.fromhex(digest),)).fetchone()
        return None if row is None else _Row(*row)

    def _tell(self, kind: str, sort: str, index: int, text: str) -> None:
        self._mentions[f"{kind} {sort}"] += 1
        count = self._mentions[f"{kind} {sort}"]
        if count <= MAX_MENTIONS:
            self._report(Finding(kind, text, index))
        elif count == MAX_MENTIONS + 1:
            self._report(
                Finding(kind, f"more like the {MAX_MENTIONS} before ({sort}): from here on only counted", index)
            )

    # -- what the log holds ------------------------------------------------------------------------------------------

    def overdue(self) -> Iterator[Finding]:
        """Requests by trusted issuers that are due, and that no certificate answers or no deployment followed."""
        query = (
            "select \"index\", due from statement where kind = 'request' and issuer is not null and due < ? "
            "and digest not in (select request from answer) order by due limit ?"
        )
        for index, due in self._db.execute(query, (int(self._clock().timestamp()), MAX_MENTIONS)).fetchall():
            when = format_time(datetime.fromtimestamp(due, UTC))
            yield Finding("overdue", f"the request was due on {when}, and no certificate in the log answers it", index)
        yield from self._outdated()

    def _outdated(self) -> Iterator[Finding]:
        """Names that were last given a model which precedes an unlearning for a request that is due."""
        query = 'select max("index"), issuer, name, model from deployment group by issuer, name order by 1 limit ?'
        for index, issuer, name, model in self._db.execute(query, (MAX_MENTIONS,)).fetchall():
            missing = self._later(model)
            due = [entry for entry in missing if entry > index and self._is_due(entry)]
            if due:
                what = (
                    f"{name!r} of {issuer} was last given the model of entry {model}, which precedes {unlearnings(due)}"
                )
                yield Finding("rollback", f"{what}: what was to be forgotten by now may serve there still", index)

    def _is_due(self, certificate: int) -> bool:
        """Whether a request that a certificate answers is due."""
        query = (
            'select count(*) from answer join statement on statement.digest = answer.request where answer."index" = ? '
            "and due < ?"
        )
        count: int = self._db.execute(query, (certificate, int(self._clock().timestamp()))).fetchone()[0]
        return bool(count)

    def summary(self) -> Summary:
        """Of all that was looked at and kept."""
        rows = self._db.execute("select kind, issuer is not null, count(*) from statement group by 1, 2").fetchall()
        kinds = {kind: count for kind, known, count in rows if known}
        unknown = sum(count for kind, known, count in rows if not known and kind != "other")
        other = sum(count for kind, known, count in rows if kind == "other")
        open_, late = self._db.execute(
            "select count(*), coalesce(sum(due < ?), 0) from statement where kind = 'request' and issuer is not null "
            "and digest not in (select request from answer)",
            (int(self._clock().timestamp()),),
        ).fetchone()
        return Summary(kinds, unknown, other, open_, late)


@dataclass(frozen=True, slots=True)
class _Row:
    index: int
    kind: str
    issuer: str
    model: str | None
    time: int
    due: int | None
    training: int | None


def _model(model: Model) -> str:
    return f"{model.tensor_root} {model.tensors} {model.bytes}"


def _seconds(time: str) -> int:
    return int(parse_time(time).timestamp())
