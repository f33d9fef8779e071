"""Logs in memory to be monitored, honest and otherwise.

::

    served = Served(entries_to(600))       # tiles, bundles and a signed checkpoint by path
    served.files["tile/0/000"] = b"…"      # an attack
    monitor(served).once()
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ledger.checkpoint import Checkpoint
from ledger.errors import MalformedError, MissingError
from ledger.log_key import LogKey
from ledger.merkle import HASH_SIZE, Frontier, leaf_hash, root
from ledger.monitor import Finding
from ledger.rebuild import Rebuilt
from ledger.tiles import TILE_WIDTH, Tile, format_bundle

KEY = LogKey.generate("example.com/log")


def entries_to(size: int, name: str = "entry") -> list[bytes]:
    return [f"{name} {i}".encode() for i in range(size)]


def signed(entries: Sequence[bytes], key: LogKey = KEY) -> bytes:
    leaves = [leaf_hash(entry) for entry in entries]
    return key.sign(Checkpoint(key.name, len(leaves), root(leaves)), int(time.time()))


def static(entries: Sequence[bytes]) -> dict[str, bytes]:
    """Tiles and bundles of a log, by path."""
    files: dict[str, bytes] = {}
    tree = Rebuilt(Frontier())
    for index in range(0, len(entries), TILE_WIDTH):
        part = entries[index : index + TILE_WIDTH]
        leaves = [leaf_hash(entry) for entry in part]
        tile = Tile(0, index // TILE_WIDTH, len(part))
        files[tile.path()], files[tile.bundle_path()] = b"".join(leaves), format_bundle(part)
        files |= {above.path(): data for above, data in tree.add(leaves)}
    return files | {above.path(): data for above, data in tree.partial()}


@dataclass
class Served:
    """A :class:`ledger.source.Source` of files in memory; ``asked`` are the paths that were read."""

    entries: list[bytes]
    key: LogKey = KEY
    name: str = "memory"
    files: dict[str, bytes] = field(default_factory=dict)
    note: bytes = b""
    asked: list[str] = field(default_factory=list)
    before: Callable[[str], None] = lambda path: None

    def __post_init__(self) -> None:
        self.grow([])

    def grow(self, more: Sequence[bytes]) -> None:
        """Append, honestly; partial tiles that are full now are gone."""
        self.entries = [*self.entries, *more]
        self.files = static(self.entries)
        self.note = signed(self.entries, self.key)

    def checkpoint(self) -> bytes:
        self.before("checkpoint")
        return self.note

    def tile(self, tile: Tile) -> bytes:
        data = self._read(tile.path(), Tile(tile.level, tile.index, TILE_WIDTH).path())[: tile.width * HASH_SIZE]
        if len(data) != tile.width * HASH_SIZE:
            raise MalformedError(f"{tile.path()} has {len(data)} bytes, expected {tile.width * HASH_SIZE}")
        return data

    def bundle(self, tile: Tile) -> bytes:
        return self._read(tile.bundle_path(), Tile(0, tile.index, TILE_WIDTH).bundle_path())

    def _read(self, *paths: str) -> bytes:
        for path in paths:
            self.asked.append(path)
            self.before(path)
            if path in self.files:
                return self.files[path]
        raise MissingError(f"{self.name} has no {paths[0]}")

    def close(self) -> None: ...


@dataclass
class Looked:
    """Collects what a monitor looked at, and its findings."""

    entries: dict[int, bytes] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    kept: int = 0
    fails_at: int | None = None

    def begin(self, size: int) -> None:
        self.entries = {index: entry for index, entry in self.entries.items() if index < size}

    def look(self, first: int, entries: Sequence[bytes]) -> None:
        for index, entry in enumerate(entries, first):
            if index == self.fails_at:
                raise KeyboardInterrupt  # as if the process were stopped here
            assert index not in self.entries, "looked at twice"
            self.entries[index] = entry

    def keep(self) -> None:
        self.kept = len(self.entries)

    def lines(self, kind: str | None = None) -> list[str]:
        return [finding.line() for finding in self.findings if kind in (None, finding.kind)]
