"""Recompute a whole log from its entries and compare it with everything that is stored and signed.

Each finding names the entry, tile or row that is wrong. A log that :func:`check` finds nothing in has the entries that its
last checkpoint signed, in that order, and tiles and leaf hashes that follow from them.
"""

from collections.abc import Callable, Iterator

from ledger.checkpoint import Checkpoint
from ledger.errors import MalformedError, SignatureError, StorageError
from ledger.log import Log
from ledger.merkle import HASH_SIZE, Frontier, leaf_hash
from ledger.signed_checkpoint import open_checkpoint
from ledger.storage import Snapshot
from ledger.tiles import MAX_ENTRY_SIZE, TILE_WIDTH, tiles_of

_MISSING = bytes(HASH_SIZE)
"""Stands for the leaf hash of an entry that is gone, so that those after it keep their places."""


def check(log: Log, progress: Callable[[int, int], None] = lambda done, total: None) -> Iterator[str]:
    """Yield a line for each thing that is wrong. ``progress(entries done, entries in all)`` is called now and then."""
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
            for line in snapshot.damage():
                yield f"database: {line}"
    except StorageError as error:
        yield f"storage: {error}"
    try:
        log.checkpoint()
    except StorageError as error:  # the watermark, and all that an append would check
        yield f"head: {error}"


def _check_contents(snapshot: Snapshot, signed: Checkpoint, progress: Callable[[int, int], None]) -> Iterator[str]:
    frontier = Frontier()
    tiles: dict[tuple[int, int], list[bytes]] = {}

    def complete(level: int, index: int, hash_: bytes) -> None:
        tiles.setdefault((level // 8, index // TILE_WIDTH), []).append(hash_)

    def add(leaf: bytes) -> None:
        tiles.setdefault((0, frontier.size // TILE_WIDTH), []).append(leaf)
        frontier.append(leaf, complete)

    strangers: list[int] = []
    for index, leaf, data in snapshot.stored_entries():
        if not 0 <= index < signed.size:
            strangers.append(index)
            continue
        if index > frontier.size:
            yield f"{_entries(frontier.size, index)}: missing"
        while frontier.size < index:
            add(_MISSING)
        if not (isinstance(data, bytes) and isinstance(leaf, bytes)):
            yield f"entry {index}: stored as {type(data).__name__} and {type(leaf).__name__}, expected bytes"
            add(_MISSING)
            continue
        computed = leaf_hash(data)
        if leaf != computed:
            yield f"entry {index}: its bytes hash to {computed.hex()}, stored is {leaf.hex()}"
        if len(data) > MAX_ENTRY_SIZE:
            yield f"entry {index}: {len(data):,} bytes, at most {MAX_ENTRY_SIZE:,} can be served"
        add(computed)
        if index % 4096 == 0:
            progress(index, signed.size)
    if frontier.size < signed.size:
        yield f"{_entries(frontier.size, signed.size)}: missing"
    elif signed.root and frontier.root() != signed.root:
        yield f"root: the stored entries lead to {frontier.root().hex()} at size {frontier.size}, signed is {signed.root.hex()}"
    if strangers:
        which = f"entry {strangers[0]}" if len(strangers) == 1 else f"entries {strangers[0]} to {strangers[-1]}"
        yield f"{which}: stored ({len(strangers)} in all), but the tree has only {signed.size}"
    yield from _check_tiles(snapshot, signed.size, tiles)
    progress(signed.size, signed.size)


def _entries(first: int, end: int) -> str:
    return f"entry {first}" if end == first + 1 else f"entries {first} to {end - 1}"


def _check_tiles(snapshot: Snapshot, size: int, computed: dict[tuple[int, int], list[bytes]]) -> Iterator[str]:
    """Stored tiles against those that the entries lead to: full ones of level 0, full and partial ones above."""
    expected = {(t.level, t.index): t for t in tiles_of(size) if t.level or t.width == TILE_WIDTH}
    for level, index, data in snapshot.stored_tiles():
        tile = expected.pop((level, index), None)
        if tile is None:
            yield f"tile {level}/{index}: stored, but a tree of {size} has no such full tile"
            continue
        want = computed.get((level, index), [])
        have = [data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)]
        if len(have) != tile.width:
            yield f"{tile.path()}: {len(have)} hashes, expected {tile.width}"
        for offset, (a, b) in enumerate(zip(have, want, strict=False)):
            if a != b and b != _MISSING:
                what = f"entry {index * TILE_WIDTH + offset}" if level == 0 else f"hash {offset}"
                yield f"{tile.path()}: the hash of {what} is {a.hex()}, its entries lead to {b.hex()}"
    for tile in expected.values():
        yield f"{tile.path()}: missing"
