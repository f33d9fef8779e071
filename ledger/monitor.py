"""Follow a log from outside: verify each checkpoint, hash every entry again, and catch the log if it ever shows two histories.

The log is read through its tiles (C2SP tlog-tiles), and none of them is believed: leaf hashes, tiles and root are recomputed
from the entries, starting at the edge of the tree that was verified last time. Memory is constant, each entry is read once::

    monitor = Monitor(open_source("https://log.example/"), keys, position=PositionFile(path), report=print)
    monitor.once()             # ForkError carries a portable proof; other findings go to report

The position is saved only after everything before it was looked at: a crash in between makes the next look start where the
last one ended. After a finding about the log itself it stays, so that the next look finds it again.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ledger.errors import (
    ForkError,
    MalformedError,
    MissingError,
    ProofError,
    RolledBackError,
    SignatureError,
    TamperedError,
)
from ledger.fork import compare, prefix_edge
from ledger.merkle import Frontier, consistency_ranges, verify_consistency
from ledger.note import VerifierKey
from ledger.position import Position, PositionFile
from ledger.rebuild import Rebuilt
from ledger.rehash import Rehash, split
from ledger.signed_checkpoint import SignedCheckpoint, open_checkpoint
from ledger.source import Source
from ledger.tiles import TILE_WIDTH, Tile, TileReader, tile_at
from ledger.views import Fetched, View, fetch

SAVE_EVERY = 1 << 16
"""Entries after which the position is saved on the way."""
MAX_FINDINGS = 100
"""Findings about the log in one look; after so many it is cut short."""
PATIENCE = 10.0
"""Seconds that a log is given to show at least what other views have of it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """``kind`` is ``log`` (it serves what it did not sign), ``behind`` (it shows less than others have seen), ``unreachable``
    (another view could not be asked) or ``note``; whoever looks at the entries adds kinds of their own."""

    kind: str
    text: str
    index: int | None = None

    def line(self) -> str:
        """One line for people."""
        return self.text if self.index is None else f"entry {self.index}: {self.text}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A look that came to its end: ``looked`` of the ``size`` entries have been looked at, ``new`` of them now."""

    size: int
    looked: int
    new: int
    checkpoint: bytes


class Looker(Protocol):
    """Who looks at the entries. Whatever it raises ends the look."""

    def begin(self, size: int) -> None:
        """A look starts. Forget what came of entries from ``size`` on: they come again."""

    def look(self, first: int, entries: Sequence[bytes]) -> None:
        """Entries ``first``, ``first + 1``, …: they hash to what the tree has there."""

    def keep(self) -> None:
        """The position is about to be saved: finish, and make durable what is remembered."""


class _Blind:
    def begin(self, size: int) -> None: ...
    def look(self, first: int, entries: Sequence[bytes]) -> None: ...
    def keep(self) -> None: ...


class Monitor:
    """See the module. ``require(signed)`` raises if a checkpoint is not cosigned as a policy asks; ``start`` is a checkpoint
    whose entries are trusted already; ``limit`` bounds the entries of one look, in case a log never ends."""

    def __init__(
        self,
        source: Source,
        log_keys: Sequence[VerifierKey],
        *,
        origin: str | None = None,
        position: PositionFile | None = None,
        start: bytes | None = None,
        looker: Looker | None = None,
        views: Sequence[View] = (),
        witness_keys: Sequence[VerifierKey] = (),
        require: Callable[[SignedCheckpoint], None] = lambda signed: None,
        limit: int | None = None,
        patience: float = PATIENCE,
        workers: int = 4,
        report: Callable[[Finding], None] = lambda finding: None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.origin = origin if origin is not None else log_keys[0].name
        self._source = source
        self._log_keys = list(log_keys)
        self._file = position
        self._start = start
        self._looker: Looker = looker if looker is not None else _Blind()
        self._views = list(views)
        self._witness_keys = list(witness_keys)
        self._require = require
        self._limit = limit
        self._patience = patience
        self._workers = workers
        self._report = report
        self._progress = progress
        self._position = position.load() if position is not None else None
        self._findings = 0

    def once(self) -> Outcome:
        """Look at what is new. Findings are reported; raises ForkError, RolledBackError, SignatureError, MalformedError, and what
        the source, the position's file, the policy and the looker raise."""
        self._findings = 0
        others = [fetch(view, log_keys=self._log_keys, origin=self.origin) for view in self._views]
        signed = self._checkpoint(others)  # after the others: an honest log has everything that they have seen
        seen = self._seen()
        self._check_continues(seen, signed)
        if self._position is None and self._start is not None:
            seen = self._skip(seen, signed)
        for other in others:
            self._check_view(other, signed)
        looked = self._look(seen, signed)
        return Outcome(signed.checkpoint.size, looked, looked - seen.looked, signed.data)

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def _open(self, note: bytes) -> SignedCheckpoint:
        return open_checkpoint(note, log_keys=self._log_keys, origin=self.origin, witness_keys=self._witness_keys)

    def _checkpoint(self, others: Sequence[Fetched]) -> SignedCheckpoint:
        """The log's checkpoint; if others have seen more entries, ask again for a while: it may come from a cache."""
        deadline = time.monotonic() + self._patience
        while True:
            signed = self._open(self._source.checkpoint())
            self._require(signed)
            ahead = [
                (o.signed, o.view) for o in others if o.signed and o.signed.checkpoint.size > signed.checkpoint.size
            ]
            for theirs, view in ahead:
                if view.tile is not None:
                    self._catch(signed.data, theirs.data, view.tile)  # for a fork there is nothing to wait for
            if not ahead or time.monotonic() >= deadline:
                return signed
            time.sleep(min(1.0, self._patience))

    def _seen(self) -> Position:
        """Where the last look ended, checked; its checkpoint is empty if there was none."""
        if self._position is None:
            return Position(0, (), self._start or b"")
        seen, looked = self._open(self._position.checkpoint).checkpoint, self._position.looked
        if looked > seen.size or (looked == seen.size and self._position.frontier.root() != seen.root):
            raise MalformedError(
                "the monitor's saved position does not fit its checkpoint: move its state away, start anew"
            )
        return self._position

    def _skip(self, seen: Position, signed: SignedCheckpoint) -> Position:
        """To the end of a trusted checkpoint, by its edge in the log's tiles."""
        start = self._open(seen.checkpoint).checkpoint
        reader = self._reader(signed.checkpoint.size, self._source.tile)
        edge = tuple(prefix_edge(start.size, reader.range_root))
        if Frontier(start.size, edge).root() != start.root:
            raise TamperedError(
                f"the tiles of {self._source.name} do not lead to the checkpoint of size {start.size} given"
            )
        return Position(start.size, edge, seen.checkpoint)

    def _check_continues(self, seen: Position, signed: SignedCheckpoint) -> None:
        if not seen.checkpoint:
            return
        before, now = self._open(seen.checkpoint).checkpoint, signed.checkpoint
        if now.size >= before.size:
            shown = self._catch(seen.checkpoint, signed.data, self._source.tile)
            if not shown and seen.looked < before.size:
                self._wrong(f"its tiles do not show that it continues the checkpoint of size {before.size} seen before")
            return  # otherwise the entries will show it: they are hashed on from the edge of what was verified
        self._catch(signed.data, seen.checkpoint, self._source.tile)
        raise RolledBackError(
            f"{self._source.name} shows {now.size} entries, {before.size} were signed and verified before: the log was rolled "
            f"back, or an old copy of it is served"
        )

    def _check_view(self, other: Fetched, signed: SignedCheckpoint) -> None:
        name, mine = other.view.name, signed.checkpoint
        if other.signed is None:
            kind = "note" if other.view.cosigner is not None else "unreachable"
            self._report(Finding(kind, f"{name} could not be compared with: {other.error}"))
            return
        if not other.cosigned:
            self._report(Finding("note", f"{name} gave a checkpoint without its own cosignature"))
        theirs = other.signed.checkpoint
        if theirs.size <= mine.size:
            if not self._catch(other.signed.data, signed.data, self._source.tile):
                self._wrong(
                    f"its tiles do not show that it continues the checkpoint of size {theirs.size} that {name} has"
                )
            return
        self._report(Finding("behind", f"{self._source.name} shows {mine.size} entries, {name} has seen {theirs.size}"))
        if other.view.tile is not None and not self._catch(signed.data, other.signed.data, other.view.tile):
            self._wrong(f"the tiles of {name} do not show that it continues the checkpoint of size {mine.size} here")

    def _catch(self, smaller: bytes, larger: bytes, tile: Callable[[Tile], bytes]) -> bool:
        """Raise ForkError if ``tile`` proves one; True if it proves that there is none, False if it proves nothing."""
        reader = self._reader(self._open(larger).checkpoint.size, tile)
        try:
            proof = compare(smaller, larger, reader.range_root, log_keys=self._log_keys, origin=self.origin)
        except (ProofError, MalformedError, MissingError):
            return False
        if proof is not None:
            raise ForkError(proof.verify(self._log_keys, self.origin).describe(), proof.format())
        return True

    @staticmethod
    def _reader(size: int, tile: Callable[[Tile], bytes]) -> TileReader:
        return TileReader(size, lambda wanted: split(tile(wanted)))

    # -- entries -----------------------------------------------------------------------------------------------------

    def _look(self, seen: Position, signed: SignedCheckpoint) -> int:
        """Hash and look at the entries from ``seen`` on; returns how many have been looked at, all in all."""
        target, end = signed.checkpoint, self._end(seen.looked, signed.checkpoint.size)
        self._looker.begin(seen.looked)
        try:
            frontier = self._read(seen.frontier, end, signed)
        except (TamperedError, MissingError, MalformedError) as error:
            self._findings += 1
            self._report(Finding("log", str(error)))
            return seen.looked
        if end < target.size:
            self._report(Finding("note", f"looked at entries to {end} of {target.size}, as many as one look may take"))
        self._save(frontier, signed)
        return seen.looked if self._findings else end

    def _end(self, first: int, size: int) -> int:
        if self._limit is None or size - first <= self._limit:
            return size
        whole = (first + self._limit) // TILE_WIDTH * TILE_WIDTH
        return min(size, max(whole, (first // TILE_WIDTH + 1) * TILE_WIDTH))

    def _read(self, frontier: Frontier, end: int, signed: SignedCheckpoint) -> Frontier:
        size = signed.checkpoint.size
        if frontier.size == end:
            return frontier  # whose root was compared with a signed one
        rehash = Rehash(self._source, signed.checkpoint, self._wrong, workers=self._workers)
        edge = Rebuilt.resume(frontier, lambda tile: self._source.tile(tile_at(tile.level, tile.index, size)))
        frontier = edge.frontier
        for first, leaves, entries in rehash.bundles(frontier.size, end):
            if known := frontier.size - first:  # looked at before: in the first bundle only
                leaves, entries = leaves[known:], entries and entries[known:]
            if entries is not None:
                self._looker.look(frontier.size, entries)
            for tile, data in edge.add(leaves):
                rehash.compare(tile, data)
            if not frontier.size % SAVE_EVERY and frontier.size < end:
                self._save(frontier, signed)
            self._progress(frontier.size, end)
        if end == size:
            for tile, data in edge.partial():
                rehash.compare(tile, data)
            if frontier.root() != signed.checkpoint.root:
                self._wrong(
                    f"its entries lead to root {frontier.root().hex()}, signed is {signed.checkpoint.root.hex()}"
                )
        return frontier

    # -- findings and position ---------------------------------------------------------------------------------------

    def _wrong(self, text: str, index: int | None = None) -> None:
        self._findings += 1
        if self._findings > MAX_FINDINGS:
            raise TamperedError(f"{MAX_FINDINGS} findings in one look: the rest was not looked at")
        self._report(Finding("log", text, index))

    def _save(self, frontier: Frontier, signed: SignedCheckpoint) -> None:
        """Everything in ``frontier`` was looked at: remember it, unless something was wrong."""
        target, size = signed.checkpoint, frontier.size
        if self._findings:
            return
        if 0 < size < target.size:  # nobody signed this size: tiles have to show that it belongs to the tree
            reader = self._reader(target.size, self._source.tile)
            try:
                path = [reader.range_root(span) for span in consistency_ranges(size, target.size)]
                verify_consistency(
                    old_size=size, old_root=frontier.root(), size=target.size, root=target.root, path=path
                )
            except (ProofError, MalformedError, MissingError) as error:
                self._wrong(f"its first {size} entries are not shown to be of the signed tree: {error}")
                return
        self._looker.keep()
        self._position = Position(size, tuple(frontier.nodes), signed.data)
        if self._file is not None:
            self._file.save(self._position)


def check(
    source: Source,
    log_keys: Sequence[VerifierKey],
    *,
    origin: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[str]:
    """Recompute a whole log that is read through its tiles: a line for each thing that is wrong, as :mod:`ledger.fsck` has them.

    Raises what the source raises when it cannot be reached.
    """
    lines: list[str] = []
    try:
        Monitor(
            source, log_keys, origin=origin, report=lambda finding: lines.append(finding.line()), progress=progress
        ).once()
    except (MalformedError, SignatureError, MissingError) as error:
        lines.append(f"checkpoint: {error}")
    return lines
