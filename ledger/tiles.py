"""Tiles and entry bundles of a log: C2SP tlog-tiles. Pure.

A tile of level L holds up to 256 neighbouring hashes of subtrees of 256**L leaves; its path names level, index and, when it
is not full, its width. An entry bundle holds the same 256 entries as the tile of level 0::

    >>> Tile(level=0, index=1234067, width=256).path()
    'tile/0/x001/x234/067'
    >>> Tile(level=1, index=0, width=3).path()
    'tile/1/000.p/3'
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ledger.errors import EntryTooLargeError, MalformedError
from ledger.merkle import Range, complete_subtrees, fold, root

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
MAX_LEVEL = 63
MAX_ENTRY_SIZE = 0xFFFF
"""Bytes that an entry may have: bundles prefix each with a big-endian uint16."""

_PATH = re.compile(r"tile/(0|[1-9][0-9]?|entries)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


@dataclass(frozen=True, slots=True)
class Tile:
    """Hashes ``index * 256`` to ``index * 256 + width`` of level ``level`` (each over 256**level leaves)."""

    level: int
    index: int
    width: int

    def __post_init__(self) -> None:
        if not (0 <= self.level <= MAX_LEVEL and self.index >= 0 and 1 <= self.width <= TILE_WIDTH):
            raise MalformedError(f"no such tile: level {self.level}, index {self.index}, width {self.width}")

    def path(self) -> str:
        """Where the tile is served, below the log's prefix."""
        return f"tile/{self.level}/{_index_path(self.index, self.width)}"

    def bundle_path(self) -> str:
        """Where the entry bundle beside this level-0 tile is served."""
        return f"tile/entries/{_index_path(self.index, self.width)}"


def parse_path(path: str) -> tuple[Tile, bool]:
    """The tile that ``path`` names, and whether it is an entry bundle."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise MalformedError(
            f"not a tile path: {path[:120]!r}, expected like 'tile/0/x001/067' or 'tile/entries/000.p/7'"
        )
    level, number, width = match.groups()
    is_bundle = level == "entries"
    index = int(number.replace("x", "").replace("/", ""))
    tile = Tile(0 if is_bundle else int(level), index, int(width) if width else TILE_WIDTH)
    if path != (tile.bundle_path() if is_bundle else tile.path()):
        raise MalformedError(f"tile path {path[:120]!r} is not in its shortest form")
    return tile, is_bundle


def _index_path(index: int, width: int) -> str:
    groups = [f"{index % 1000:03d}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03d}")
    path = "/".join(reversed(groups))
    return path if width == TILE_WIDTH else f"{path}.p/{width}"


def tile_at(level: int, index: int, size: int) -> Tile:
    """The tile ``index`` of ``level`` as a tree of ``size`` leaves has it, full or partial."""
    return Tile(level, index, min(TILE_WIDTH, (size >> TILE_HEIGHT * level) - index * TILE_WIDTH))


def tiles_of(size: int) -> Iterator[Tile]:
    """Every tile of a tree of ``size`` leaves."""
    level = 0
    while count := size >> TILE_HEIGHT * level:
        for index in range((count + TILE_WIDTH - 1) // TILE_WIDTH):
            yield tile_at(level, index, size)
        level += 1


def format_bundle(entries: Sequence[bytes]) -> bytes:
    """An entry bundle: each entry behind its length as big-endian uint16."""
    parts: list[bytes] = []
    for entry in entries:
        check_entry(entry)
        parts += (len(entry).to_bytes(2, "big"), entry)
    return b"".join(parts)


def parse_bundle(data: bytes) -> list[bytes]:
    """The entries of a bundle."""
    entries: list[bytes] = []
    position = 0
    while position < len(data):
        end = position + 2 + int.from_bytes(data[position : position + 2], "big")
        if position + 2 > len(data) or end > len(data):
            raise MalformedError(f"entry bundle ends inside entry {len(entries)}: {len(data)} bytes, expected {end}")
        entries.append(data[position + 2 : end])
        position = end
    return entries


def check_entry(entry: bytes) -> None:
    """Raise EntryTooLargeError if a bundle could not hold ``entry``."""
    if len(entry) > MAX_ENTRY_SIZE:
        raise EntryTooLargeError(
            f"an entry has {len(entry):,} bytes, expected at most {MAX_ENTRY_SIZE:,} (C2SP tlog-tiles)"
        )


class TileReader:
    """Roots of ranges in a tree of ``size`` leaves, from whole tiles, each read once: O(log n) reads for a proof.

    ``read(tile)`` returns the tile's hashes. They are not checked here: check the proof that is made of them.
    """

    def __init__(self, size: int, read: Callable[[Tile], list[bytes]]) -> None:
        self.size = size
        self._read = read
        self._tiles: dict[tuple[int, int], list[bytes]] = {}
        self._roots: dict[tuple[int, int], bytes] = {}

    def range_root(self, span: Range) -> bytes:
        """Root of the leaves ``lo..hi``: one of the ranges that a proof is made of."""
        return fold([self._subtree(level, index) for level, index in complete_subtrees(*span)])

    def frontier(self) -> list[bytes]:
        """The edge nodes of the whole tree, for :class:`ledger.merkle.Frontier`."""
        return [self._subtree(level, index) for level, index in complete_subtrees(0, self.size)]

    def _subtree(self, level: int, index: int) -> bytes:
        known = self._roots.get((level, index))
        if known is None:
            known = self._roots[level, index] = self._compute(level, index)
        return known

    def _compute(self, level: int, index: int) -> bytes:
        tile_level, height = divmod(level, TILE_HEIGHT)
        first = index << height
        number, offset = divmod(first, TILE_WIDTH)
        hashes = self._tiles.get((tile_level, number))
        if hashes is None:
            hashes = self._tiles[tile_level, number] = self._read(tile_at(tile_level, number, self.size))
        return root(hashes[offset : offset + (1 << height)])
