"""Where a log's tiles come from: a server, or a folder with the static layout. C2SP tlog-tiles. Bytes, of which only the
length is checked: whoever reads them checks them against a signed root.

::

    with closing(open_source("https://log.example/ledger")) as source:      # or a folder
        source.checkpoint()
        source.tile(Tile(level=0, index=0, width=256))
"""

import os
from pathlib import Path
from typing import Protocol

from ledger import http
from ledger.errors import MalformedError, MissingError, RemoteError, StorageError
from ledger.merkle import HASH_SIZE
from ledger.note import MAX_NOTE_SIZE
from ledger.tiles import MAX_ENTRY_SIZE, TILE_WIDTH, Tile, format_bundle, parse_bundle

MAX_BUNDLE_SIZE = TILE_WIDTH * (MAX_ENTRY_SIZE + 2)


class Source(Protocol):
    """Checkpoint, tiles and entry bundles, none of them checked. ``name``: URL or folder, for messages."""

    name: str

    def checkpoint(self) -> bytes:
        """The newest signed checkpoint that is there."""

    def tile(self, tile: Tile) -> bytes:
        """A tile's hashes. Raises MissingError if it isn't there, MalformedError if it has another length."""

    def bundle(self, tile: Tile) -> bytes:
        """The entry bundle beside a level-0 tile. Raises MissingError, and MalformedError if it has too few entries."""

    def close(self) -> None:
        """Give files and connections back."""


class _Layout:
    """What a server and a folder have in common: files, by path. A full tile stands in for a partial one that is gone."""

    name: str

    def _read(self, path: str, limit: int) -> bytes:
        raise NotImplementedError

    def checkpoint(self) -> bytes:
        return self._read("checkpoint", MAX_NOTE_SIZE)

    def tile(self, tile: Tile) -> bytes:
        try:
            data, width = self._read(tile.path(), TILE_WIDTH * HASH_SIZE), tile.width
        except MissingError:
            if tile.width == TILE_WIDTH:
                raise
            full = Tile(tile.level, tile.index, TILE_WIDTH)
            data, width = self._read(full.path(), TILE_WIDTH * HASH_SIZE), TILE_WIDTH
        if len(data) != width * HASH_SIZE:
            raise MalformedError(f"{self.name}: {tile.path()} has {len(data)} bytes, expected {width * HASH_SIZE}")
        return data[: tile.width * HASH_SIZE]

    def bundle(self, tile: Tile) -> bytes:
        try:
            data, width = self._read(tile.bundle_path(), MAX_BUNDLE_SIZE), tile.width
        except MissingError:
            if tile.width == TILE_WIDTH:
                raise
            full = Tile(0, tile.index, TILE_WIDTH)
            data, width = self._read(full.bundle_path(), MAX_BUNDLE_SIZE), TILE_WIDTH
        entries = parse_bundle(data)
        if len(entries) != width:
            raise MalformedError(f"{self.name}: {tile.bundle_path()} has {len(entries)} entries, expected {width}")
        return data if width == tile.width else format_bundle(entries[: tile.width])


class HttpSource(_Layout):
    """A log by its URL. Raises RemoteError where the server cannot be reached or answers with something else."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float = http.TIMEOUT,
        patience: float | None = None,
        server: http.Server | None = None,
    ) -> None:
        self._server = server or http.Server(url, timeout=timeout, patience=patience)
        self.name = self._server.url

    def _read(self, path: str, limit: int) -> bytes:
        fresh = {"Cache-Control": "no-cache"} if path == "checkpoint" else None
        reply = self._server.get(path, limit=limit, headers=fresh)
        if reply.status in (404, 410):
            raise MissingError(f"{self.name} has no {path}")
        if reply.status != 200:
            raise RemoteError(f"{self.name} answers {path} with status {reply.status}: {reply.message()}")
        return reply.body

    def close(self) -> None:
        self._server.close()


class FolderSource(_Layout):
    """A static layout on disk, as ``certify log export`` writes it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.name = str(folder)
        if not folder.is_dir():
            raise StorageError(f"{folder} is not a folder, expected one with 'checkpoint' and 'tile/'")

    def _read(self, path: str, limit: int) -> bytes:
        place = self._folder / path
        try:
            with place.open("rb") as file:
                data = file.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingError(f"{self.name} has no {path}") from error
        except OSError as error:
            raise StorageError(f"cannot read {place}: {error.strerror}") from error
        if len(data) > limit:
            raise MalformedError(f"{place} has more than {limit:,} bytes, expected at most that")
        return data

    def close(self) -> None:
        pass


def open_source(place: str | os.PathLike[str]) -> Source:
    """A log's tiles, by URL or folder."""
    if isinstance(place, str) and http.is_url(place):
        return HttpSource(place)
    return FolderSource(Path(place))
