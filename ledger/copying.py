"""Copy a log into another database: every entry in order, every hash and tile computed again, under the checkpoint it has.

The copy is complete when its root is the one that was signed; until then its database says that it is a copy in the making, and
nobody can open it as a log. A copy that was cut off goes on where it was, after what is there has been hashed again::

    with Copy(Path("copy.db")) as copy:
        with log.storage.snapshot() as snapshot:
            copy.take(snapshot, log.size())
            copy.finish(log.checkpoint(), log.verifier_keys, {})
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

from ledger import storage
from ledger.checkpoint import Checkpoint
from ledger.errors import StorageError, TamperedError
from ledger.merkle import Frontier, leaf_hash
from ledger.note import VerifierKey
from ledger.signed_checkpoint import open_checkpoint
from ledger.storage import COPYING, MOVED, MOVED_TO, SCHEMA_VERSION, Head, Place, Snapshot
from ledger.tiles import TILE_HEIGHT

Progress = Callable[[int], None]
"""Hears how many entries are done."""
_BATCH = 4096


class Copy:
    """A database that is to become a copy: a new one, one in the making, or one that its log has left (it may come back)."""

    def __init__(self, place: Place, progress: Progress = lambda done: None) -> None:
        try:
            self.storage = storage.create(place, b"", COPYING)
        except StorageError:
            self.storage = storage.open(place)
        self._progress = progress
        self.frontier = Frontier()
        try:
            self._resume()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.storage.close()

    def __enter__(self) -> "Copy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _resume(self) -> None:
        with self.storage.snapshot() as snapshot:
            version, head = snapshot.state()
            if version not in (COPYING, MOVED):
                raise StorageError(f"{self.storage.name} holds a log already: name another place")
            for _ in self._hashed(snapshot.entries(0, head.size)):
                self._progress(self.frontier.size)
        if version == MOVED:
            with self.storage.transaction() as transaction:
                transaction.set_version(COPYING)

    @property
    def size(self) -> int:
        """Entries copied so far."""
        return self.frontier.size

    def _hashed(
        self, entries: Iterable[bytes]
    ) -> Iterable[tuple[list[bytes], list[bytes], list[tuple[int, int, list[bytes]]]]]:
        """Batches with leaf hashes and the tile hashes that they complete."""
        source = iter(entries)
        while batch := list(islice(source, _BATCH)):
            leaves = [leaf_hash(entry) for entry in batch]
            runs = [(level // TILE_HEIGHT, first, hashes) for level, first, hashes in self.frontier.extend(leaves)]
            yield batch, leaves, runs

    def add(self, entries: Iterable[bytes]) -> None:
        """Append these, durably, a few thousand at a time."""
        first = self.size
        for batch, leaves, runs in self._hashed(entries):
            with self.storage.transaction() as transaction:
                transaction.add(first, batch, leaves, runs)
                transaction.set_head(first, Head(self.size, b""))
            first = self.size
            self._progress(first)

    def take(self, source: Snapshot, end: int) -> None:
        """All entries of a log up to ``end`` that are not here yet."""
        if self.size < end:
            self.add(source.entries(self.size, end))

    def finish(self, note: bytes, log_keys: Sequence[VerifierKey], kept: Mapping[str, bytes]) -> Checkpoint:
        """Make it a log, with the checkpoint ``note`` and what its log has ``kept``. Raises TamperedError: another root."""
        signed = self.check(note, log_keys)
        with self.storage.transaction() as transaction:
            transaction.set_head(signed.size, Head(signed.size, note))
            transaction.forget(MOVED_TO)
            for name, value in kept.items():
                if name != MOVED_TO:
                    transaction.keep(name, value)
            transaction.set_version(SCHEMA_VERSION)
        return signed

    def check(self, note: bytes, log_keys: Sequence[VerifierKey]) -> Checkpoint:
        """What ``note`` says, if it is signed and of the entries that are here."""
        signed = open_checkpoint(note, log_keys=log_keys).checkpoint
        if (signed.size, signed.root) != (self.size, self.frontier.root()):
            raise TamperedError(
                f"{self.size} entries lead to root {self.frontier.root().hex()}, signed is {signed.root.hex()} of {signed.size}: "
                f"'certify log fsck' finds what was altered; if {self.storage.name} was begun as a copy of another log, remove it"
            )
        return signed
