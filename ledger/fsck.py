"""Recompute a whole log from its entries and compare it with everything that is stored and signed.

Each finding names the entry, tile or row that is wrong. A log that :func:`check` finds nothing in has the entries that its
last checkpoint signed, in that order, and tiles and leaf hashes that follow from them.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from hashlib import sha256
from typing import Any

from ledger.checkpoint import Checkpoint
from ledger.errors import MalformedError, SignatureError, StorageError
from ledger.finality import FINAL
from ledger.log import Log
from ledger.merkle import HASH_SIZE, Frontier, leaf_hash
from ledger.signed_checkpoint import open_checkpoint
from ledger.storage import Snapshot
from ledger.tiles import MAX_ENTRY_SIZE, TILE_HEIGHT, TILE_WIDTH, Tile, TileReader, tiles_of

_MISSING = bytes(HASH_SIZE)
"""Stands for the leaf hash of an entry that is gone, so that those after it keep their places."""


def check(log: Log, progress: Callable[[int, int], None] = lambda done, total: None) -> Iterator[str]:
    """Yield a line for each thing that is wrong. ``progress(entries done, entries in all)`` is called now and then."""
    damage = _meanwhile(log)
    try:
        with log.snapshot() as (snapshot, head):
            try:
                signed = open_checkpoint(head.checkpoint, log_keys=log.verifier_keys).checkpoint
            except (MalformedError, SignatureError) as error:
                yield f"checkpoint: {error}"
                signed = Checkpoint(log.origin, max(0, min(head.size, snapshot.count())), b"")
            if signed.size != head.size:
                yield f"head: tree size {head.size} is stored, expected {signed.size}"
            yield from _check_contents(snapshot, signed, progress)
            yield from _check_final(log, snapshot, signed)
            for line in damage():
                yield f"database: {line}"
    except StorageError as error:
        yield f"storage: {error}"
        with suppress(StorageError):
            damage()  # nothing uses the database when we are done
    try:
        log.checkpoint()
    except StorageError as error:  # the watermark, and all that an append would check
        yield f"head: {error}"


def _meanwhile(log: Log) -> Callable[[], list[str]]:
    """Let the database check itself beside us, which takes about as long as our own checks; call for what it found."""
    done: Future[list[str]] = Future()

    def work() -> None:
        try:
            with log.snapshot() as (snapshot, _):
                found = snapshot.damage()
            done.set_result(found)
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=work, daemon=True).start()  # who gives up early does not wait for it
    return done.result


class _Tree:
    """The tree that the entries lead to: its edge, and its tiles until they have been compared."""

    def __init__(self) -> None:
        self.frontier = Frontier()
        self.full: list[tuple[int, int, list[bytes]]] = []
        """Level, index and hashes of tiles that are complete."""
        self._begun: dict[tuple[int, int], list[bytes]] = {}

    def add(self, leaves: list[bytes]) -> None:
        """Append leaf hashes; 256 that fill a tile are the quickest."""
        first = self.frontier.size
        if len(leaves) == TILE_WIDTH and first % TILE_WIDTH == 0:
            self.full.append((0, first // TILE_WIDTH, leaves))
        else:
            for index, leaf in enumerate(leaves, first):
                self._put(0, index, leaf)
        for level, start, hashes in self.frontier.extend(leaves):
            for index, hash_ in enumerate(hashes, start):
                self._put(level // TILE_HEIGHT, index, hash_)

    def _put(self, level: int, index: int, hash_: bytes) -> None:
        place = level, index // TILE_WIDTH
        hashes = self._begun.setdefault(place, [])
        hashes.append(hash_)
        if len(hashes) == TILE_WIDTH:
            self.full.append((*place, self._begun.pop(place)))

    def partial(self) -> list[tuple[int, int, list[bytes]]]:
        """The partial tiles that are stored: those above level 0."""
        return [(level, index, hashes) for (level, index), hashes in self._begun.items() if level]


def _check_contents(snapshot: Snapshot, signed: Checkpoint, progress: Callable[[int, int], None]) -> Iterator[str]:
    tree = _Tree()
    frontier = tree.frontier
    strangers: list[int] = []
    for rows in snapshot.stored_rows():
        leaves = _sound(rows, frontier.size, signed.size)
        if leaves is not None:
            tree.add(leaves)
        else:
            yield from _check_rows(rows, tree, signed.size, strangers)
        while tree.full:
            yield from _compare(snapshot, *tree.full.pop())
        progress(frontier.size, signed.size)
    if frontier.size < signed.size:
        yield f"{_entries(frontier.size, signed.size)}: missing"
    elif signed.root and frontier.root() != signed.root:
        yield f"root: the stored entries lead to {frontier.root().hex()} at size {frontier.size}, signed is {signed.root.hex()}"
    if strangers:
        which = f"entry {strangers[0]}" if len(strangers) == 1 else f"entries {strangers[0]} to {strangers[-1]}"
        yield f"{which}: stored ({len(strangers)} in all), but the tree has only {signed.size}"
    for tile in tree.partial():
        yield from _compare(snapshot, *tile)
    yield from _check_places(snapshot, signed.size)
    progress(signed.size, signed.size)


def _sound(rows: list[tuple[int, Any, Any]], first: int, size: int) -> list[bytes] | None:
    """Leaf hashes of rows that nothing is wrong with and that go on at ``first``; None if somebody has to look closer."""
    indices, stored, entries = map(list, zip(*rows, strict=True))
    if indices[0] != first or indices[-1] != first + len(rows) - 1 or indices[-1] >= size:
        return None
    try:
        leaves = [sha256(b"\x00" + data).digest() for data in entries]
    except TypeError:
        return None
    return leaves if leaves == stored and max(map(len, entries)) <= MAX_ENTRY_SIZE else None


def _check_rows(rows: list[tuple[int, Any, Any]], tree: _Tree, size: int, strangers: list[int]) -> Iterator[str]:
    for index, leaf, data in rows:
        if not 0 <= index < size:
            strangers.append(index)
            continue
        here = tree.frontier.size
        if index > here:
            yield f"{_entries(here, index)}: missing"
            tree.add([_MISSING] * (index - here))
        if not (isinstance(data, bytes) and isinstance(leaf, bytes)):
            yield f"entry {index}: stored as {type(data).__name__} and {type(leaf).__name__}, expected bytes"
            tree.add([_MISSING])
            continue
        computed = leaf_hash(data)
        if leaf != computed:
            yield f"entry {index}: its bytes hash to {computed.hex()}, stored is {leaf.hex()}"
        if len(data) > MAX_ENTRY_SIZE:
            yield f"entry {index}: {len(data):,} bytes, at most {MAX_ENTRY_SIZE:,} can be served"
        tree.add([computed])


def _check_final(log: Log, snapshot: Snapshot, signed: Checkpoint) -> Iterator[str]:
    """The checkpoint that witnesses cosigned, if one is kept: signed by the log, and of the same tree."""
    note = snapshot.kept(FINAL)
    if note is None:
        return
    try:
        final = open_checkpoint(note, log_keys=log.verifier_keys).checkpoint
        if final.size > signed.size:
            yield f"final checkpoint: of {final.size} entries, but the tree has only {signed.size}"
        elif Frontier(final.size, TileReader(final.size, snapshot.hashes).frontier()).root() != final.root:
            yield f"final checkpoint: the stored hashes lead to another root than was cosigned at size {final.size}"
    except (MalformedError, SignatureError, StorageError) as error:
        yield f"final checkpoint: {error}"


def _entries(first: int, end: int) -> str:
    return f"entry {first}" if end == first + 1 else f"entries {first} to {end - 1}"


def _compare(snapshot: Snapshot, level: int, index: int, computed: list[bytes]) -> Iterator[str]:
    """A stored tile against the one that the entries lead to."""
    data = snapshot.stored_tile(level, index)
    if data is None or data == b"".join(computed):
        return  # whether it has to be there is another question
    have = [data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)]
    path = Tile(level, index, len(computed)).path()
    if len(have) != len(computed):
        yield f"{path}: {len(have)} hashes, expected {len(computed)}"
    for offset, (a, b) in enumerate(zip(have, computed, strict=False)):
        if a != b and b != _MISSING:
            what = f"entry {index * TILE_WIDTH + offset}" if level == 0 else f"hash {offset}"
            yield f"{path}: the hash of {what} is {a.hex()}, its entries lead to {b.hex()}"


def _check_places(snapshot: Snapshot, size: int) -> Iterator[str]:
    """Which tiles are stored: full ones of level 0, full and partial ones above."""
    expected = {(t.level, t.index): t for t in tiles_of(size) if t.level or t.width == TILE_WIDTH}
    for place in snapshot.tile_places():
        if expected.pop(place, None) is None:
            yield f"tile {place[0]}/{place[1]}: stored, but a tree of {size} has no such full tile"
    for tile in expected.values():
        yield f"{tile.path()}: missing"
