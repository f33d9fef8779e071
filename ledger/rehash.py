"""Read a log's entries through its tiles, hash them again, and name whatever is served that the signed tree does not have.

Bundles and level-0 tiles are fetched a few ahead of the hashing, in threads; a bundle whose leaf hashes are its tile's needs one
comparison. Where the two differ, the one that leads to the signed root is right.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from itertools import islice

from ledger.checkpoint import Checkpoint
from ledger.errors import LedgerError, MalformedError, MissingError, ProofError, TamperedError
from ledger.merkle import HASH_SIZE, inclusion_ranges, verify_inclusion
from ledger.source import Source
from ledger.tiles import TILE_WIDTH, Tile, TileReader, parse_bundle, tile_at

AHEAD = 8
"""Bundles fetched ahead: what bounds memory, with the size of a bundle."""

Wrong = Callable[[str, int | None], None]
"""Hears what is wrong, and of which entry."""
_Got = bytes | LedgerError


def split(hashes: bytes) -> list[bytes]:
    """The hashes of a tile."""
    return [hashes[i : i + HASH_SIZE] for i in range(0, len(hashes), HASH_SIZE)]


def attempt(get: Callable[[Tile], bytes], tile: Tile) -> _Got:
    """The bytes, or what is wrong with them. A source that cannot be reached still raises."""
    try:
        return get(tile)
    except (MalformedError, MissingError) as error:
        return error


class Rehash:
    """The entries of the tree that ``target`` signs."""

    def __init__(self, source: Source, target: Checkpoint, wrong: Wrong, *, workers: int) -> None:
        self._source = source
        self._target = target
        self._wrong = wrong
        self._workers = workers

    def bundles(self, first: int, end: int) -> Iterator[tuple[int, list[bytes], list[bytes] | None]]:
        """``(index of the first entry, leaf hashes, entries)`` of whole bundles, from that of entry ``first`` to that of
        ``end - 1``. The entries are None if they are not there, or not what was logged.

        Raises TamperedError if neither bundle nor tile is there to go on with.
        """
        size = self._target.size
        tiles = (tile_at(0, index, size) for index in range(first // TILE_WIDTH, (end + TILE_WIDTH - 1) // TILE_WIDTH))
        pool = ThreadPoolExecutor(self._workers, "rehash")
        waiting: deque[tuple[Tile, Future[tuple[_Got, _Got]]]] = deque()
        try:
            for tile in islice(tiles, AHEAD):
                waiting.append((tile, pool.submit(self._get, tile)))
            while waiting:
                tile, got = waiting.popleft()
                bundle, served = got.result()
                for next_ in islice(tiles, 1):
                    waiting.append((next_, pool.submit(self._get, next_)))
                yield (tile.index * TILE_WIDTH, *self._leaves(tile, bundle, served))
        finally:
            pool.shutdown(cancel_futures=True)

    def compare(self, tile: Tile, data: bytes) -> None:
        """A tile above level 0 as served, with what the entries lead to."""
        served = attempt(self._source.tile, tile)
        if isinstance(served, LedgerError):
            self._wrong(f"{tile.path()}: {served}", None)
        elif served != data:
            pairs = zip(split(served), split(data), strict=False)
            differs = next((i for i, (a, b) in enumerate(pairs) if a != b), 0)
            self._wrong(f"{tile.path()}: hash {differs} is not what its entries lead to", None)

    def _get(self, tile: Tile) -> tuple[_Got, _Got]:
        return attempt(self._source.bundle, tile), attempt(self._source.tile, tile)

    def _leaves(self, tile: Tile, bundle: _Got, served: _Got) -> tuple[list[bytes], list[bytes] | None]:
        try:
            if isinstance(bundle, LedgerError):
                raise bundle
            entries = parse_bundle(bundle)
            if len(entries) != tile.width and not tile.width < len(entries) == TILE_WIDTH:
                raise MalformedError(f"{len(entries)} entries, expected {tile.width}")
        except (MalformedError, MissingError) as error:
            self._wrong(f"{tile.bundle_path()}: {error}", None)
            if isinstance(served, LedgerError):
                raise TamperedError(
                    f"{tile.path()}: {served}; without tile or bundle nothing after them can be checked"
                ) from error
            return split(served), None
        del entries[tile.width :]  # the log has grown meanwhile, and serves the full bundle
        leaves = [sha256(b"\x00" + entry).digest() for entry in entries]
        if served == b"".join(leaves):
            return leaves, entries
        if isinstance(served, LedgerError):
            self._wrong(f"{tile.path()}: {served}", None)
            return leaves, entries
        return self._settle(tile, entries, leaves, split(served))

    def _settle(
        self, tile: Tile, entries: list[bytes], leaves: list[bytes], served: list[bytes]
    ) -> tuple[list[bytes], list[bytes] | None]:
        first = tile.index * TILE_WIDTH
        tile_is_wrong = self._leads_to_root(tile, leaves)
        for index, (computed, has) in enumerate(zip(leaves, served, strict=False), first):
            if computed == has:
                continue
            if tile_is_wrong:
                self._wrong(
                    f"{tile.path()}: the hash of entry {index} is {has.hex()}, its bytes hash to {computed.hex()}", None
                )
            else:
                self._wrong(f"its bytes hash to {computed.hex()}, {tile.path()} has {has.hex()}", index)
        return (leaves, entries) if tile_is_wrong else (served, None)

    def _leads_to_root(self, tile: Tile, leaves: list[bytes]) -> bool:
        """Whether the signed tree has these leaves in this place: the path of the first is made of all the others."""
        target, first = self._target, tile.index * TILE_WIDTH

        def read(wanted: Tile) -> list[bytes]:
            here = (wanted.level, wanted.index) == (0, tile.index)
            return leaves if here else split(self._source.tile(wanted))

        try:
            reader = TileReader(target.size, read)
            path = [reader.range_root(span) for span in inclusion_ranges(first, target.size)]
            verify_inclusion(root=target.root, size=target.size, index=first, leaf=leaves[0], path=path)
        except (ProofError, MalformedError, MissingError):
            return False
        return True
