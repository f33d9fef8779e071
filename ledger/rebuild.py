"""Tiles and root of a tree, recomputed from its leaves in order, in constant memory: what served tiles are held against.

::

    rebuilt = Rebuilt(Frontier())
    for tile, data in rebuilt.add(leaf_hashes):     # the tiles above level 0 that these leaves fill
        assert served(tile) == data
    rebuilt.frontier.root()
"""

from collections.abc import Callable, Iterator, Sequence

from ledger.errors import TamperedError
from ledger.merkle import HASH_SIZE, Frontier, complete_subtrees, root
from ledger.tiles import TILE_HEIGHT, TILE_WIDTH, Tile


class Rebuilt:
    """A growing tree: its right edge, and the hashes of the tile that is being filled at each level above 0."""

    def __init__(self, frontier: Frontier) -> None:
        self.frontier = frontier
        self._open: dict[int, list[bytes]] = {}

    @classmethod
    def resume(cls, frontier: Frontier, read: Callable[[Tile], bytes]) -> "Rebuilt":
        """Go on from an edge that is trusted. ``read`` gets the tiles that the edge ends in, which it is checked with.

        Raises TamperedError if those tiles do not lead to the edge.
        """
        rebuilt = cls(frontier)
        for tile in edge_tiles(frontier.size):
            data = read(tile)
            hashes = [data[i : i + HASH_SIZE] for i in range(0, tile.width * HASH_SIZE, HASH_SIZE)]
            found = [
                root(hashes[index << level : (index + 1) << level]) for level, index in complete_subtrees(0, tile.width)
            ]
            if found != edge_nodes(frontier, tile.level):
                raise TamperedError(
                    f"{tile.path()} is not what it was: its {tile.width} hashes do not lead to the tree of size {frontier.size} "
                    f"that was verified before"
                )
            if tile.level:
                rebuilt._open[tile.level] = hashes
        return rebuilt

    def add(self, leaves: Sequence[bytes]) -> Iterator[tuple[Tile, bytes]]:
        """Append leaf hashes; yields each tile above level 0 that they fill, and its bytes."""
        for height, first, hashes in self.frontier.extend(leaves):
            level = height // TILE_HEIGHT
            for index, hash_ in enumerate(hashes, first):
                tile = self._open.setdefault(level, [])
                tile.append(hash_)
                if len(tile) == TILE_WIDTH:
                    yield Tile(level, index // TILE_WIDTH, TILE_WIDTH), b"".join(self._open.pop(level))

    def partial(self) -> Iterator[tuple[Tile, bytes]]:
        """The tiles above level 0 that are not full, as the tree has them now."""
        for level, hashes in sorted(self._open.items()):
            yield Tile(level, (self.frontier.size >> TILE_HEIGHT * level) // TILE_WIDTH, len(hashes)), b"".join(hashes)


def edge_tiles(size: int) -> Iterator[Tile]:
    """The partial tiles of a tree of ``size`` leaves, which hold its edge, from level 0 up."""
    level = 0
    while count := size >> TILE_HEIGHT * level:
        if width := count % TILE_WIDTH:
            yield Tile(level, count // TILE_WIDTH, width)
        level += 1


def edge_nodes(frontier: Frontier, level: int) -> list[bytes]:
    """The edge nodes that the partial tile of ``level`` leads to, largest subtree first."""
    above = (frontier.size >> TILE_HEIGHT * (level + 1)).bit_count()
    width = (frontier.size >> TILE_HEIGHT * level) % TILE_WIDTH
    return frontier.nodes[above : above + width.bit_count()]
