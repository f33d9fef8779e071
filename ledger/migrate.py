"""Move a log from one database to another: SQLite to PostgreSQL and back. Its entries, roots and checkpoint stay what they are.

Entries are copied while others still append; then, with the old database locked, the rest, and the old one is marked as left, so
that an append there is refused (it would fork the log); then the new one becomes the log. Cut off at any point, the same call
goes on where it was: there is a moment when neither can be appended to, and none when both can::

    migrate(Log.open(Path("ledger/log.db"), verifier_keys=keys), "postgresql://db.example.com/certificates#log")
"""

from collections.abc import Callable

from ledger.checkpoint import Checkpoint
from ledger.copying import Copy, Progress
from ledger.errors import StorageError
from ledger.log import Log
from ledger.storage import MOVED, MOVED_TO, Place, Snapshot, name_of

_CLOSE = 10_000
"""So few entries are copied with the old database locked."""


def migrate(
    source: Log, place: Place, progress: Progress = lambda done: None, *, before_lock: Callable[[], None] = lambda: None
) -> Checkpoint:
    """The checkpoint that the log has in both places. ``source`` needs no key. Raises StorageError, TamperedError."""
    name = name_of(place)
    left = _left_for(source)
    if left not in (None, name):
        raise StorageError(f"the log was moved to {left} already: migrate it from there")
    with Copy(place, progress) as copy:
        while left is None:
            with source.snapshot() as (snapshot, head):
                copy.take(snapshot, head.size)
            if source.size() - copy.size <= _CLOSE:
                break
        before_lock()
        if left is None:
            with source.storage.transaction() as transaction:
                note = _complete(copy, transaction, source)
                transaction.keep(MOVED_TO, name.encode())
                transaction.set_version(MOVED)
        with source.snapshot() as (snapshot, _):
            note = _complete(copy, snapshot, source)
            return copy.finish(note, source.verifier_keys, snapshot.all_kept())


def _left_for(source: Log) -> str | None:
    with source.storage.snapshot() as snapshot:
        version, _ = snapshot.state()
        return (snapshot.moved_to() or "another place") if version == MOVED else None


def _complete(copy: Copy, snapshot: Snapshot, source: Log) -> bytes:
    head = snapshot.head()
    copy.take(snapshot, head.size)
    copy.check(head.checkpoint, source.verifier_keys)
    return head.checkpoint
