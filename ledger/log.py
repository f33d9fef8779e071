"""The log: append, publish, prove.

Appends are durable and included under a signed checkpoint before they are acknowledged, the same bytes are logged once, and
whatever comes back from storage is checked before it is signed over or handed out.

The check costs little: the right edge of the tree (a hash for each set bit of its size) has to lead to the root of the last
checkpoint, which has to carry our own signature. A process that made or checked that very checkpoint keeps its edge in memory.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from ledger.checkpoint import Checkpoint
from ledger.errors import (
    ConflictError,
    LedgerError,
    MalformedError,
    ProofError,
    RolledBackError,
    SignatureError,
    StorageError,
    TamperedError,
)
from ledger.log_key import LogKey
from ledger.merkle import (
    Frontier,
    Range,
    consistency_ranges,
    inclusion_ranges,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from ledger.note import VerifierKey
from ledger.proof import TlogProof
from ledger.signed_checkpoint import open_checkpoint
from ledger.storage import Head, Snapshot, Storage, Transaction
from ledger.tiles import TILE_HEIGHT, TILE_WIDTH, Tile, TileReader, check_entry, format_bundle
from ledger.watermark import Watermark

_CHECKS_A_READER = 4096
"""After so many checks the tiles read for them are forgotten, to bound memory."""


@dataclass(frozen=True, slots=True)
class Appended:
    """Where an entry stands, and a signed checkpoint of a tree that includes it. ``new`` is False if it was there before."""

    index: int
    checkpoint: bytes
    new: bool


@dataclass(frozen=True, slots=True)
class _Verified:
    """A stored head whose signature and right edge this process has checked."""

    note: bytes
    checkpoint: Checkpoint
    frontier: Frontier


class Log:
    """A log in a database file. Without a key it can be read and its proofs made, but nothing appended."""

    def __init__(
        self,
        storage: Storage,
        verifier_keys: Sequence[VerifierKey],
        key: LogKey | None,
        watermark: Watermark | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.origin = verifier_keys[0].name
        self.verifier_keys = list(verifier_keys)
        self._storage = storage
        self._key = key
        self._watermark = watermark
        self._clock = clock
        self._verified: _Verified | None = None
        self._lock = threading.Lock()

    @classmethod
    def create(
        cls, path: Path, key: LogKey, *, watermark: Path | None = None, clock: Callable[[], float] = time.time
    ) -> "Log":
        """A new, empty log at ``path``, with its first checkpoint."""
        mark = Watermark(watermark) if watermark else None
        if mark is not None and mark.read() is not None:
            raise RolledBackError(f"the watermark {watermark} says that this key has signed a log already")
        empty = Checkpoint(key.name, 0, Frontier().root())
        note = key.sign(empty, int(clock()))
        storage = Storage.create(path, note)
        if mark is not None:
            mark.advance(note, empty)
        return cls(storage, key.verifier_keys, key, mark, clock)

    @classmethod
    def open(
        cls,
        path: Path,
        key: LogKey | None = None,
        *,
        verifier_keys: Sequence[VerifierKey] | None = None,
        watermark: Path | None = None,
        clock: Callable[[], float] = time.time,
        check: bool = True,
    ) -> "Log":
        """An existing log, checked. Give the key to append, or the verifier keys to read.

        ``check=False`` defers the checks to the first use, so that fsck can report on a log that would not open.
        """
        keys = key.verifier_keys if key is not None else verifier_keys
        if not keys:
            raise LedgerError("to open a log, give its key or its verifier keys")
        log = cls(Storage.open(path), keys, key, Watermark(watermark) if watermark else None, clock)
        try:
            if check:
                log.checkpoint()
        except BaseException:
            log.close()
            raise
        return log

    def close(self) -> None:
        self._storage.close()
        if self._watermark is not None:
            self._watermark.close()

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- append ------------------------------------------------------------------------------------------------------

    def append(self, entry: bytes, *, expected_size: int | None = None) -> Appended:
        """Log one entry. ``expected_size`` makes it a compare-and-swap: ConflictError if the tree has another size."""
        return self.append_many([entry], expected_size=expected_size)[0]

    def append_many(self, entries: Sequence[bytes], *, expected_size: int | None = None) -> list[Appended]:
        """Log entries in order, in one transaction, under one checkpoint: all of them or, on any error, none.

        Raises EntryTooLargeError, ConflictError, TamperedError (storage isn't what was signed) and StorageError.
        """
        if self._key is None:
            raise LedgerError(f"the log {self.origin} is open for reading: appending needs its key")
        for entry in entries:
            check_entry(entry)
        leaves = [leaf_hash(entry) for entry in entries]
        with self._storage.transaction() as transaction:
            head = self._head(transaction)
            if expected_size is not None and head.checkpoint.size != expected_size:
                raise ConflictError(f"the tree has {head.checkpoint.size} entries, expected {expected_size}")
            indices, fresh = self._place(transaction, head, leaves)
            if fresh:
                head = self._extend(
                    transaction, head, [entries[i] for i in fresh], [leaves[i] for i in fresh], self._key
                )
        if fresh:
            self._remember(head)
            if self._watermark is not None:
                with suppress(OSError):  # the entry is durable all the same, and a watermark may lag behind
                    self._watermark.advance(head.note, head.checkpoint)
        new = set(fresh)
        return [Appended(index, head.note, i in new) for i, index in enumerate(indices)]

    def _place(self, transaction: Transaction, head: _Verified, leaves: Sequence[bytes]) -> tuple[list[int], list[int]]:
        """The index that each entry has or will have, and the positions of those that are new."""
        known = transaction.find(leaves)
        reader = self._reader(transaction, head)
        for count, (leaf, index) in enumerate(sorted(known.items(), key=itemgetter(1)), 1):
            self._check_included(head, index, leaf, reader)  # believe storage only as far as the signed root goes
            if not count % _CHECKS_A_READER:
                reader = self._reader(transaction, head)
        fresh: list[int] = []
        for position, leaf in enumerate(leaves):
            if leaf not in known:
                known[leaf] = head.checkpoint.size + len(fresh)
                fresh.append(position)
        return [known[leaf] for leaf in leaves], fresh

    def _extend(
        self, transaction: Transaction, head: _Verified, entries: Sequence[bytes], leaves: Sequence[bytes], key: LogKey
    ) -> _Verified:
        frontier = head.frontier.copy()
        runs = [(level // TILE_HEIGHT, first, hashes) for level, first, hashes in frontier.extend(leaves)]
        checkpoint = Checkpoint(self.origin, frontier.size, frontier.root())
        note = key.sign(checkpoint, int(self._clock()))
        transaction.add(head.checkpoint.size, entries, leaves, runs)
        transaction.set_head(head.checkpoint.size, Head(checkpoint.size, note))
        return _Verified(note, checkpoint, frontier)

    # -- read and prove ----------------------------------------------------------------------------------------------

    def checkpoint(self) -> bytes:
        """The signed checkpoint of all that has been acknowledged."""
        with self._storage.snapshot() as snapshot:
            return self._head(snapshot).note

    def size(self) -> int:
        with self._storage.snapshot() as snapshot:
            return self._head(snapshot).checkpoint.size

    def find(self, entry: bytes) -> int | None:
        """The index of an entry, or None if it isn't logged."""
        leaf = leaf_hash(entry)
        with self._storage.snapshot() as snapshot:
            head = self._head(snapshot)
            index = snapshot.find([leaf]).get(leaf)
            if index is not None:
                self._check_included(head, index, leaf, self._reader(snapshot, head))
            return index

    def entry(self, index: int) -> bytes:
        """One entry's bytes, checked against the signed root."""
        with self._storage.snapshot() as snapshot:
            head = self._head(snapshot)
            entry = self._read_entry(snapshot, head, index)
            self._check_included(head, index, leaf_hash(entry), self._reader(snapshot, head))
            return entry

    def entries(self, first: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        """(index, bytes) in order, each checked against its leaf hash in the tile. For all of them see :mod:`ledger.fsck`."""
        with self._storage.snapshot() as snapshot:
            head = self._head(snapshot)
            size = head.checkpoint.size
            stop = size if end is None else min(end, size)
            reader = self._reader(snapshot, head)
            for index, entry in enumerate(snapshot.entries(first, stop) if first < stop else (), first):
                self._check_included(head, index, leaf_hash(entry), reader)
                yield index, entry
                if not (index + 1) % _CHECKS_A_READER:
                    reader = self._reader(snapshot, head)

    def prove(self, index: int) -> TlogProof:
        """An offline proof that entry ``index`` is in the log; O(log n) reads."""
        return self.prove_all([index])[0]

    def prove_all(self, indices: Sequence[int]) -> list[TlogProof]:
        """Proofs of several entries under one checkpoint."""
        with self._storage.snapshot() as snapshot:
            head = self._head(snapshot)
            reader = self._reader(snapshot, head)
            leaves = {index: leaf_hash(self._read_entry(snapshot, head, index)) for index in indices}
            return [
                TlogProof(index, tuple(self._check_included(head, index, leaves[index], reader)), head.note)
                for index in indices
            ]

    def prove_consistency(self, old_size: int, old_root: bytes | None = None) -> tuple[list[bytes], bytes]:
        """Proof that the tree of ``old_size`` is a prefix of the current one, and the current signed checkpoint.

        With ``old_root``, RolledBackError if the log never had that root at that size: a fork.
        """
        with self._storage.snapshot() as snapshot:
            head = self._head(snapshot)
            return self._check_consistent(snapshot, head, old_size, old_root), head.note

    def tile(self, tile: Tile) -> bytes:
        """A tile's bytes as C2SP tlog-tiles serves them."""
        with self._storage.snapshot() as snapshot:
            size = self._head(snapshot).checkpoint.size
            if tile.index * TILE_WIDTH + tile.width > size >> 8 * tile.level:
                raise MalformedError(f"no {tile.path()} in a tree of {size} entries")
            return b"".join(snapshot.hashes(tile))

    def bundle(self, tile: Tile) -> bytes:
        """The entry bundle beside a level-0 tile, checked against the signed root."""
        with self._storage.snapshot() as snapshot:
            head = self._head(snapshot)
            size = head.checkpoint.size
            first = tile.index * TILE_WIDTH
            if tile.level or first + tile.width > size:
                raise MalformedError(f"no {tile.bundle_path()} in a tree of {size} entries")
            entries = list(snapshot.entries(first, min(first + TILE_WIDTH, size)))
            leaves = [leaf_hash(entry) for entry in entries]

            def hashes(other: Tile) -> list[bytes]:
                return leaves if (other.level, other.index) == (0, tile.index) else snapshot.hashes(other)

            # The path of the first entry is made of all the others: one proof checks the whole bundle.
            self._check_included(head, first, leaves[0], TileReader(size, hashes).range_root)
            return format_bundle(entries[: tile.width])

    @contextmanager
    def snapshot(self) -> Iterator[tuple[Snapshot, Head]]:
        """Storage as it is at one moment, unchecked: for :mod:`ledger.fsck`."""
        with self._storage.snapshot() as snapshot:
            yield snapshot, snapshot.head()

    # -- checks ------------------------------------------------------------------------------------------------------

    def _remember(self, verified: _Verified) -> None:
        with self._lock:
            if self._verified is None or verified.checkpoint.size >= self._verified.checkpoint.size:
                self._verified = verified

    def _head(self, snapshot: Snapshot) -> _Verified:
        """The stored head, if it is one that this log signed, its hashes lead to it, and it has not been rolled back."""
        # Both before the head: what is compared with it may only be older.
        seen = self._watermark.read() if self._watermark is not None else None
        with self._lock:
            known = self._verified
        stored = snapshot.head()
        if known is not None and (known.note, known.checkpoint.size) == (stored.checkpoint, stored.size):
            if seen is not None and seen.size > known.checkpoint.size:
                self._check_not_older(snapshot, known, seen)
            return known
        verified = self._verify_head(snapshot, stored)
        self._check_not_older(snapshot, verified, known.checkpoint if known is not None else None)
        self._check_not_older(snapshot, verified, seen)
        self._remember(verified)
        return verified

    def _verify_head(self, snapshot: Snapshot, stored: Head) -> _Verified:
        try:
            checkpoint = open_checkpoint(stored.checkpoint, log_keys=self.verifier_keys).checkpoint
        except (MalformedError, SignatureError) as error:
            raise TamperedError(f"the stored checkpoint is not one that {self.origin} signed: {error}") from error
        if checkpoint.size != stored.size:
            raise TamperedError(f"the stored tree size is {stored.size}, but {checkpoint.size} was signed")
        frontier = Frontier(checkpoint.size, TileReader(checkpoint.size, snapshot.hashes).frontier())
        if frontier.root() != checkpoint.root:
            raise TamperedError(
                f"the stored hashes lead to root {frontier.root().hex()} at size {checkpoint.size}, "
                f"but {checkpoint.root.hex()} was signed: storage was altered; 'certify log fsck' finds where"
            )
        return _Verified(stored.checkpoint, checkpoint, frontier)

    def _check_not_older(self, snapshot: Snapshot, verified: _Verified, seen: Checkpoint | None) -> None:
        if seen is None or seen.size == 0:
            return
        now = verified.checkpoint
        if seen.origin != now.origin:
            raise RolledBackError(f"the watermark is of log {seen.origin}, expected {now.origin}")
        if now.size < seen.size:
            raise RolledBackError(
                f"the stored log has {now.size} entries, but a checkpoint of {seen.size} was signed: it was rolled back; "
                f"restore the newer database, signing over this one would fork the log"
            )
        self._check_consistent(snapshot, verified, seen.size, seen.root)

    def _reader(self, snapshot: Snapshot, head: _Verified) -> Callable[[Range], bytes]:
        """Roots of ranges; keeps the tiles it has read."""
        return TileReader(head.checkpoint.size, snapshot.hashes).range_root

    def _check_included(
        self, head: _Verified, index: int, leaf: bytes, range_root: Callable[[Range], bytes]
    ) -> list[bytes]:
        """The inclusion path of ``leaf``, which leads to the signed root."""
        checkpoint = head.checkpoint
        try:
            path = list(map(range_root, inclusion_ranges(index, checkpoint.size)))
            verify_inclusion(root=checkpoint.root, size=checkpoint.size, index=index, leaf=leaf, path=path)
        except ProofError as error:
            raise TamperedError(f"entry {index} is not what was logged: {error}") from error
        return path

    def _check_consistent(
        self, snapshot: Snapshot, head: _Verified, old_size: int, old_root: bytes | None
    ) -> list[bytes]:
        checkpoint = head.checkpoint
        path = list(map(self._reader(snapshot, head), consistency_ranges(old_size, checkpoint.size)))
        if old_root is None:
            old_root = Frontier(old_size, TileReader(old_size, snapshot.hashes).frontier()).root()
        try:
            verify_consistency(
                old_size=old_size, old_root=old_root, size=checkpoint.size, root=checkpoint.root, path=path
            )
        except ProofError as error:
            raise RolledBackError(
                f"the log is not the continuation of the one with {old_size} entries: {error}"
            ) from error
        return path

    @staticmethod
    def _read_entry(snapshot: Snapshot, head: _Verified, index: int) -> bytes:
        if not 0 <= index < head.checkpoint.size:
            raise StorageError(f"no entry {index}: the log has {head.checkpoint.size}")
        return next(snapshot.entries(index, index + 1))
