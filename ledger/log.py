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
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.checkpoint import Checkpoint
from ledger.combining import Combining
from ledger.errors import (
    ConflictError,
    LedgerError,
    MalformedError,
    ProofError,
    RolledBackError,
    SignatureError,
    StorageError,
    TamperedError,
    WitnessError,
)
from ledger.finality import FINAL, Finality, Tree
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
from ledger.note import Note, VerifierKey
from ledger.proof import TlogProof
from ledger.signed_checkpoint import open_checkpoint
from ledger.storage import Head, Place, Snapshot, Storage, Transaction
from ledger.storage import create as create_storage
from ledger.storage import open as open_storage
from ledger.tiles import TILE_HEIGHT, TILE_WIDTH, Tile, TileReader, check_entry, format_bundle
from ledger.together import Together, fits
from ledger.watermark import Watermark

if TYPE_CHECKING:
    from ledger.witnessing import Witnessing

_Placed = tuple[int, bool]
"""An entry's index, and whether it is new there."""
_Job = tuple[Sequence[bytes], Sequence[bytes]]
"""Entries and their leaf hashes."""
_FEW = 2048
"""So many leaves are hashed again in less time than it takes to read the edge of the tree from its tiles."""
_CHECKS_A_READER = 4096
"""After so many checks the tiles read for them are forgotten, to bound memory."""


@dataclass(frozen=True, slots=True)
class Appended:
    """Where an entry stands, and a signed checkpoint of a tree that includes it. ``new`` is False if it was there before."""

    index: int
    checkpoint: bytes
    new: bool


@dataclass(frozen=True, slots=True)
class _Verified(Tree):
    """A stored head whose signature and right edge this process has checked."""

    frontier: Frontier


class Log:
    """A log in a database. Without a key it can be read and its proofs made, but nothing appended."""

    def __init__(
        self,
        storage: Storage,
        verifier_keys: Sequence[VerifierKey],
        key: LogKey | None,
        watermark: Watermark | None,
        clock: Callable[[], float] = time.time,
        witnessing: "Witnessing | None" = None,
    ) -> None:
        self.origin = verifier_keys[0].name
        self.verifier_keys = list(verifier_keys)
        self._storage = storage
        self._key = key
        self._watermark = watermark
        self._clock = clock
        self._verified: _Verified | None = None
        self._lock = threading.Lock()
        self._combining = Combining(self._append_jobs, lambda jobs: fits([entry for job in jobs for entry in job[0]]))
        self._vouched = b""
        """A checkpoint that another holder of the key has signed, as it told us: its signature needs no other check."""
        self._together = Together(key) if key is not None and storage.groups else None
        self._finality: Finality | None = None
        if witnessing is not None:
            self._finality = Finality(witnessing, look=self._look, prove=self._prove_to, keep=self._keep_final)

    @classmethod
    def create(
        cls, place: Place, key: LogKey, *, watermark: Path | None = None, clock: Callable[[], float] = time.time
    ) -> "Log":
        """A new, empty log, with its first checkpoint, in a file or at a ``postgresql://`` URL."""
        mark = Watermark(watermark) if watermark else None
        if mark is not None and mark.read() is not None:
            raise RolledBackError(f"the watermark {watermark} says that this key has signed a log already")
        empty = Checkpoint(key.name, 0, Frontier().root())
        note = key.sign(empty, int(clock()))
        storage = create_storage(place, note)
        if mark is not None:
            mark.advance(note, empty)
        return cls(storage, key.verifier_keys, key, mark, clock)

    @classmethod
    def open(
        cls,
        place: Place,
        key: LogKey | None = None,
        *,
        verifier_keys: Sequence[VerifierKey] | None = None,
        watermark: Path | None = None,
        clock: Callable[[], float] = time.time,
        check: bool = True,
        witnessing: "Witnessing | None" = None,
    ) -> "Log":
        """An existing log, checked. Give the key to append, or the verifier keys to read.

        ``check=False`` defers the checks to the first use, so that fsck can report on a log that would not open. With
        ``witnessing``, which is the log's to close, checkpoints count once a quorum has cosigned them.
        """
        keys = key.verifier_keys if key is not None else verifier_keys
        if not keys:
            raise LedgerError("to open a log, give its key or its verifier keys")
        mark = Watermark(watermark) if watermark else None
        log = cls(open_storage(place), keys, key, mark, clock, witnessing)
        try:
            if check:
                log._look()
        except BaseException:
            log.close()
            raise
        return log

    def close(self) -> None:
        self._storage.close()
        if self._watermark is not None:
            self._watermark.close()
        if self._finality is not None:
            self._finality.close()

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

        Raises EntryTooLargeError, ConflictError, TamperedError (storage isn't what was signed) and StorageError; and, where a
        policy asks for witnesses, WitnessError: then the entries are stored, and the same call later waits for them again.
        """
        if self._key is None:
            raise LedgerError(f"the log {self.origin} is open for reading: appending needs its key")
        for entry in entries:
            check_entry(entry)
        leaves = [leaf_hash(entry) for entry in entries]
        if expected_size is None and fits(entries):
            head, placed = self._combining.do((entries, leaves))
        else:
            head, placed = self._append_alone(self._key, entries, leaves, expected_size)
        if self._watermark is not None and any(new for _, new in placed):
            with suppress(OSError):  # the entry is durable all the same, and a watermark may lag behind
                self._watermark.advance(head.note, head.checkpoint)
        last = max((index for index, _ in placed), default=-1)
        final = self._finality.reach(last + 1) if self._finality is not None and placed else head
        return [Appended(index, final.note, new) for index, new in placed]

    def _append_jobs(self, jobs: Sequence[_Job]) -> list[tuple[Tree, list[_Placed]]]:
        """Append what several threads want, in one transaction."""
        assert self._key is not None
        entries = [entry for job in jobs for entry in job[0]]
        leaves = [leaf for job in jobs for leaf in job[1]]
        if self._together is not None:
            head, placed = self._append_together(self._together, self._key, entries, leaves)
        else:
            head, placed = self._append_alone(self._key, entries, leaves, None)
        ends = list(accumulate(len(job[0]) for job in jobs))
        return [(head, placed[end - len(job[0]) : end]) for job, end in zip(jobs, ends, strict=True)]

    def _append_alone(
        self, key: LogKey, entries: Sequence[bytes], leaves: Sequence[bytes], expected_size: int | None
    ) -> tuple[Tree, list[_Placed]]:
        with self._storage.transaction() as transaction:
            head = self._head(transaction)
            if as_expected := expected_size in (None, head.checkpoint.size):
                head, placed = self._append_to(transaction, head, key, entries, leaves)
        if not as_expected:
            if self._finality is not None:  # else who looks again would not see what is in the way
                self._finality.catch_up()
            raise ConflictError(f"the tree has {head.checkpoint.size} entries, expected {expected_size}")
        self._remember(head)
        return head, placed

    def _append_together(
        self, together: Together, key: LogKey, entries: Sequence[bytes], leaves: Sequence[bytes]
    ) -> tuple[Tree, list[_Placed]]:
        """Let another writer append these, or append with them what other writers ask for."""
        own = together.ask(entries)
        with self._lock:
            known = self._verified.checkpoint.size if self._verified is not None else 0
        with self._storage.turn(own.data, leaves, known) as turn:
            if isinstance(turn, bytes):
                placed, note = together.read(own, turn)
                text, _, _ = note.partition(b"\n\n")  # it was made by a holder of the key: no more is needed of it
                self._vouched = note
                return Tree(note, Checkpoint.parse(text.decode() + "\n")), placed
            head = self._head(turn)
            asked = [(whose, request) for whose, data in turn.requests if (request := together.parse(data)) is not None]
            if own.nonce not in (request.nonce for _, request in asked):
                raise TamperedError("what was to be appended is gone from storage: append it again")
            others = [entry for _, request in asked for entry in request.entries]
            head, placed = self._append_to(turn, head, key, others, [leaf_hash(entry) for entry in others])
            mine: list[_Placed] = []
            for whose, request in asked:
                its, placed = placed[: len(request.entries)], placed[len(request.entries) :]
                turn.answer(whose, together.answer(request, its, head.note))
                mine = its if request.nonce == own.nonce else mine
        self._remember(head)
        return head, mine

    def _append_to(
        self, transaction: Transaction, head: _Verified, key: LogKey, entries: Sequence[bytes], leaves: Sequence[bytes]
    ) -> tuple[_Verified, list[_Placed]]:
        indices, fresh = self._place(transaction, head, leaves)
        if fresh:
            head = self._extend(transaction, head, [entries[i] for i in fresh], [leaves[i] for i in fresh], key)
        new = set(fresh)
        return head, [(index, i in new) for i, index in enumerate(indices)]

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

    def countersign(self, key: LogKey) -> None:
        """Put ``key``'s ML-DSA-44 signature beside the Ed25519 one on the stored checkpoints, so that both can be asked for."""
        with self._storage.transaction() as transaction:
            head, time = self._head(transaction), int(self._clock())
            size, final = head.checkpoint.size, transaction.kept(FINAL)
            transaction.set_head(size, Head(size, key.countersign(head.note, time)))
            if final is not None:
                transaction.keep(FINAL, key.countersign(final, time))

    # -- read and prove ----------------------------------------------------------------------------------------------

    def checkpoint(self) -> bytes:
        """The signed checkpoint of all that has been acknowledged; cosigned, where a policy asks for it.

        Like all that reads, raises WitnessError if a policy asks for witnesses and no checkpoint has been cosigned yet.
        """
        with self._storage.snapshot() as snapshot:
            return self._shown(snapshot).note

    def size(self) -> int:
        with self._storage.snapshot() as snapshot:
            return self._shown(snapshot).checkpoint.size

    def find(self, entry: bytes) -> int | None:
        """The index of an entry, or None if it isn't logged."""
        leaf = leaf_hash(entry)
        with self._storage.snapshot() as snapshot:
            head = self._shown(snapshot)
            index = snapshot.find([leaf]).get(leaf)
            if index is None or (self._finality is not None and index >= head.checkpoint.size):
                return None
            self._check_included(head, index, leaf, self._reader(snapshot, head))
            return index

    def entry(self, index: int) -> bytes:
        """One entry's bytes, checked against the signed root."""
        with self._storage.snapshot() as snapshot:
            head = self._shown(snapshot)
            entry = self._read_entry(snapshot, head, index)
            self._check_included(head, index, leaf_hash(entry), self._reader(snapshot, head))
            return entry

    def entries(self, first: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        """(index, bytes) in order, each tile's checked against the signed root. For all of them see :mod:`ledger.fsck`."""
        with self._storage.snapshot() as snapshot:
            head = self._shown(snapshot)
            size = head.checkpoint.size
            stop = size if end is None else min(end, size)
            first = max(first, 0)
            for start in range(first - first % TILE_WIDTH, stop, TILE_WIDTH):
                entries = self._checked_tile(snapshot, head, start)
                span = range(max(first, start), min(start + TILE_WIDTH, stop))
                yield from zip(span, entries[span.start - start : span.stop - start], strict=True)

    def prove(self, index: int) -> TlogProof:
        """An offline proof that entry ``index`` is in the log; O(log n) reads."""
        return self.prove_all([index])[0]

    def prove_all(self, indices: Sequence[int]) -> list[TlogProof]:
        """Proofs of several entries under one checkpoint."""
        with self._storage.snapshot() as snapshot:
            head = self._shown(snapshot)
            reader = self._reader(snapshot, head)
            leaves = {
                index: leaf_hash(entry) for index, entry in self._read_entries(snapshot, head, sorted({*indices}))
            }
            return [
                TlogProof(index, tuple(self._check_included(head, index, leaves[index], reader)), head.note)
                for index in indices
            ]

    def prove_consistency(self, old_size: int, old_root: bytes | None = None) -> tuple[list[bytes], bytes]:
        """Proof that the tree of ``old_size`` is a prefix of the current one, and the current signed checkpoint.

        With ``old_root``, RolledBackError if the log never had that root at that size: a fork.
        """
        with self._storage.snapshot() as snapshot:
            head = self._shown(snapshot)
            return self._check_consistent(snapshot, head, old_size, old_root), head.note

    def tile(self, tile: Tile) -> bytes:
        """A tile's bytes as C2SP tlog-tiles serves them."""
        with self._storage.snapshot() as snapshot:
            size = self._shown(snapshot).checkpoint.size
            if tile.index * TILE_WIDTH + tile.width > size >> 8 * tile.level:
                raise MalformedError(f"no {tile.path()} in a tree of {size} entries")
            return b"".join(snapshot.hashes(tile))

    def bundle(self, tile: Tile) -> bytes:
        """The entry bundle beside a level-0 tile, checked against the signed root."""
        with self._storage.snapshot() as snapshot:
            head = self._shown(snapshot)
            size = head.checkpoint.size
            first = tile.index * TILE_WIDTH
            if tile.level or first + tile.width > size:
                raise MalformedError(f"no {tile.bundle_path()} in a tree of {size} entries")
            return format_bundle(self._checked_tile(snapshot, head, first)[: tile.width])

    def _checked_tile(self, snapshot: Snapshot, head: Tree, first: int) -> list[bytes]:
        """All entries of the tile that begins at ``first``, up to the tree's end."""
        size = head.checkpoint.size
        entries = list(snapshot.entries(first, min(first + TILE_WIDTH, size)))
        leaves = [leaf_hash(entry) for entry in entries]

        def hashes(other: Tile) -> list[bytes]:
            return leaves if (other.level, other.index) == (0, first // TILE_WIDTH) else snapshot.hashes(other)

        # The path of the first entry is made of all the others: one proof checks the whole tile.
        self._check_included(head, first, leaves[0], TileReader(size, hashes).range_root)
        return entries

    @property
    def storage(self) -> Storage:
        """The database: for :mod:`ledger.copying`."""
        return self._storage

    @contextmanager
    def snapshot(self) -> Iterator[tuple[Snapshot, Head]]:
        """Storage as it is at one moment, unchecked: for :mod:`ledger.fsck`."""
        with self._storage.snapshot() as snapshot:
            yield snapshot, snapshot.head()

    # -- with witnesses ----------------------------------------------------------------------------------------------

    def cosign(self) -> bytes:
        """Have the newest checkpoint cosigned by witnesses that have not yet. Needs no key. Raises WitnessError."""
        if self._finality is None:
            raise LedgerError(f"the log {self.origin} has no witness policy: nobody is asked to cosign")
        return self._finality.cosign().note

    def _shown(self, snapshot: Snapshot) -> Tree:
        """What outsiders are told of: the head or, where a policy asks for witnesses, the last checkpoint they cosigned."""
        if self._finality is None:
            return self._head(snapshot)
        head, final = self._with_final(snapshot)
        if final is None and head.checkpoint.size:
            raise WitnessError(
                f"no checkpoint of {self.origin} is cosigned as its policy asks: have it done by 'certify log cosign'"
            )
        return final or head

    def _look(self) -> tuple[Tree, Tree | None]:
        with self._storage.snapshot() as snapshot:
            return self._with_final(snapshot)

    def _with_final(self, snapshot: Snapshot) -> tuple[Tree, Tree | None]:
        """The head and the final checkpoint, both checked."""
        if self._finality is None:
            return self._head(snapshot), None
        known = self._finality.known  # before anything is read: it may only be older
        head = self._head(snapshot)
        stored = snapshot.kept(FINAL)
        final = self._finality.open(stored, self.verifier_keys) if stored is not None else None
        if known is not None and (final is None or final.checkpoint.size < known.checkpoint.size):
            raise RolledBackError(f"the final checkpoint of {known.checkpoint.size} entries is gone from storage")
        if final is not None and final is not known:
            self._check_not_older(snapshot, head, final.checkpoint)
            self._finality.remember(final)
        return head, final

    def _prove_to(self, old_size: int, checkpoint: Checkpoint) -> list[bytes]:
        """A consistency proof to a checkpoint that this log has signed."""
        with self._storage.snapshot() as snapshot:
            return self._check_consistent(snapshot, Tree(b"", checkpoint), old_size, None)

    def _keep_final(self, note: bytes) -> Tree:
        """Store a final checkpoint, unless a newer one is there; the one that then is."""
        assert self._finality is not None
        with self._storage.transaction() as transaction:
            head, kept = self._with_final(transaction)
            final = self._finality.open(note, self.verifier_keys)
            if final is None:
                raise WitnessError(f"what was cosigned at size {head.checkpoint.size} is not as the policy asks")
            if kept is not None and (final.checkpoint.size, len(note)) <= (kept.checkpoint.size, len(kept.note)):
                return kept
            self._check_not_older(transaction, head, final.checkpoint)
            transaction.keep(FINAL, note)
        self._finality.remember(final)
        return final

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
        checkpoint = self._signed(stored)
        frontier = self._catch_up(snapshot, known, checkpoint, seen) if known is not None else None
        if frontier is None:
            frontier = self._read_frontier(snapshot, checkpoint)
            verified = _Verified(stored.checkpoint, checkpoint, frontier)
            self._check_not_older(snapshot, verified, known.checkpoint if known is not None else None)
            self._check_not_older(snapshot, verified, seen)
        verified = _Verified(stored.checkpoint, checkpoint, frontier)
        self._remember(verified)
        return verified

    def _signed(self, stored: Head) -> Checkpoint:
        try:
            if stored.checkpoint == self._vouched:
                checkpoint = Checkpoint.parse(Note.parse(stored.checkpoint).text)
            else:
                checkpoint = open_checkpoint(stored.checkpoint, log_keys=self.verifier_keys).checkpoint
        except (MalformedError, SignatureError) as error:
            raise TamperedError(f"the stored checkpoint is not one that {self.origin} signed: {error}") from error
        if checkpoint.size != stored.size:
            raise TamperedError(f"the stored tree size is {stored.size}, but {checkpoint.size} was signed")
        return checkpoint

    @staticmethod
    def _catch_up(
        snapshot: Snapshot, known: _Verified, checkpoint: Checkpoint, seen: Checkpoint | None
    ) -> Frontier | None:
        """The edge of a tree that continues ``known``, and by the way ``seen``, by a few leaves: they are appended again.

        None if they are not few, or lead elsewhere: then whoever looks closer says what is wrong.
        """
        first, end = known.checkpoint.size, checkpoint.size
        if not 0 <= end - first <= _FEW:
            return None
        leaves = snapshot.leaves(first, end)
        if len(leaves) != end - first:
            return None
        frontier = known.frontier.copy()
        if seen is not None and seen.size > first:
            frontier.extend(leaves[: seen.size - first])
            if (seen.size, seen.root) != (frontier.size, frontier.root()) or seen.origin != checkpoint.origin:
                return None
            leaves = leaves[seen.size - first :]
        frontier.extend(leaves)
        return frontier if frontier.root() == checkpoint.root else None

    @staticmethod
    def _read_frontier(snapshot: Snapshot, checkpoint: Checkpoint) -> Frontier:
        frontier = Frontier(checkpoint.size, TileReader(checkpoint.size, snapshot.hashes).frontier())
        if frontier.root() != checkpoint.root:
            raise TamperedError(
                f"the stored hashes lead to root {frontier.root().hex()} at size {checkpoint.size}, "
                f"but {checkpoint.root.hex()} was signed: storage was altered; 'certify log fsck' finds where"
            )
        return frontier

    def _check_not_older(self, snapshot: Snapshot, verified: Tree, seen: Checkpoint | None) -> None:
        if seen is None or seen.size == 0:
            return
        now = verified.checkpoint
        if seen.origin != now.origin:
            raise RolledBackError(f"the watermark is of log {seen.origin}, expected {now.origin}")
        if now.size < seen.size:
            moved = snapshot.moved_to()
            what = (
                f"it was moved to {moved}, and goes on there"
                if moved
                else "it was rolled back; restore the newer database, signing over this one would fork the log"
            )
            raise RolledBackError(
                f"the stored log has {now.size} entries, but a checkpoint of {seen.size} was signed: {what}"
            )
        self._check_consistent(snapshot, verified, seen.size, seen.root)

    def _reader(self, snapshot: Snapshot, head: Tree) -> Callable[[Range], bytes]:
        """Roots of ranges; keeps the tiles it has read."""
        return TileReader(head.checkpoint.size, snapshot.hashes).range_root

    def _check_included(self, head: Tree, index: int, leaf: bytes, range_root: Callable[[Range], bytes]) -> list[bytes]:
        """The inclusion path of ``leaf``, which leads to the signed root."""
        checkpoint = head.checkpoint
        try:
            path = list(map(range_root, inclusion_ranges(index, checkpoint.size)))
            verify_inclusion(root=checkpoint.root, size=checkpoint.size, index=index, leaf=leaf, path=path)
        except ProofError as error:
            raise TamperedError(f"entry {index} is not what was logged: {error}") from error
        return path

    def _check_consistent(self, snapshot: Snapshot, head: Tree, old_size: int, old_root: bytes | None) -> list[bytes]:
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
    def _read_entry(snapshot: Snapshot, head: Tree, index: int) -> bytes:
        if not 0 <= index < head.checkpoint.size:
            raise StorageError(f"no entry {index}: the log has {head.checkpoint.size}")
        return next(snapshot.entries(index, index + 1))

    def _read_entries(self, snapshot: Snapshot, head: Tree, indices: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Unchecked entries of increasing indices; a run of them is one read."""
        if indices and indices[-1] - indices[0] == len(indices) - 1:
            self._read_entry(snapshot, head, indices[-1])
            yield from zip(indices, snapshot.entries(indices[0], indices[-1] + 1), strict=True)
            return
        for index in indices:
            yield index, self._read_entry(snapshot, head, index)
