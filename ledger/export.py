"""A log as files that any web server or object store can serve: the static layout of C2SP tlog-tiles.

::

    DIR/checkpoint
    DIR/tile/0/000    DIR/tile/0/001.p/44    DIR/tile/1/000.p/1
    DIR/tile/entries/000    DIR/tile/entries/001.p/44

Only what is new since the last export is written, and the checkpoint last, once all that it needs is on disk: whoever reads at
any moment, or after a crash at any moment, finds a whole tree. Everything is checked on its way out: entries against the signed
root, tiles against what is below them, the right edge against the checkpoint.

An export continues what is in the folder or is refused: RolledBackError if the folder's checkpoint is of a larger tree than the
log's, or of another history. Partial tiles go once the full one is there and the checkpoint has moved on.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ledger.checkpoint import Checkpoint
from ledger.errors import LedgerError, MalformedError, RolledBackError, SignatureError, StorageError, TamperedError
from ledger.log import Log
from ledger.merkle import HASH_SIZE, Frontier, leaf_hash, root
from ledger.note import MAX_NOTE_SIZE
from ledger.signed_checkpoint import open_checkpoint
from ledger.tiles import TILE_HEIGHT, TILE_WIDTH, Tile, TileReader, parse_bundle, tile_at

_AT_ONCE = 64
"""Files that are written, and then waited for, together."""


@dataclass(frozen=True, slots=True)
class Exported:
    """Sizes of the tree before (None: nothing was there) and after, and how many files were written and removed."""

    before: int | None
    size: int
    written: int
    removed: int


def export(log: Log, folder: Path, progress: Callable[[int], None] = lambda entries: None) -> Exported:
    """Bring ``folder`` up to the log's newest checkpoint. ``progress`` is told how many entries are done.

    Raises RolledBackError (see the module), SignatureError or MalformedError for a folder with something else than this log's
    checkpoint, TamperedError if storage isn't what was signed, and StorageError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            return _export(log, folder, progress)
    except OSError as error:
        raise StorageError(f"cannot export to {error.filename or folder}: {error.strerror or error}") from error


def _export(log: Log, folder: Path, progress: Callable[[int], None]) -> Exported:
    note = log.checkpoint()
    head = open_checkpoint(note, log_keys=log.verifier_keys).checkpoint
    before = _before(log, folder, head)
    start = before.size if before is not None else 0
    writer = _Writer(folder)
    if start < head.size:
        _write_tiles(log, writer, start, head, progress)
    writer.finish()
    if not _holds(folder / "checkpoint", note):
        _replace(folder / "checkpoint", note)
        writer.written += 1
    removed = sum(_remove_partial(folder, tile) for tile in _became_full(start, head.size))
    return Exported(before.size if before is not None else None, head.size, writer.written, removed)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One export at a time into a folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _before(log: Log, folder: Path, head: Checkpoint) -> Checkpoint | None:
    """The folder's checkpoint, if the log continues it."""
    note = _read(folder / "checkpoint")
    if note is None:
        if any(folder.iterdir()) and not (folder / "tile").is_dir():
            raise LedgerError(f"{folder} has other files and no checkpoint: expected an empty folder, or an export")
        return None
    try:
        found = open_checkpoint(note, log_keys=log.verifier_keys, origin=log.origin).checkpoint
    except (MalformedError, SignatureError) as error:
        raise type(error)(f"{folder / 'checkpoint'} is not of the log {log.origin}: {error}") from error
    if found.size > head.size:
        raise RolledBackError(
            f"{folder} has a checkpoint of {found.size} entries, the log has {head.size}: the log was rolled back, or this is "
            f"an old copy of it"
        )
    if found.size:
        log.prove_consistency(found.size, found.root)
    return found


def _write_tiles(log: Log, writer: "_Writer", start: int, head: Checkpoint, progress: Callable[[int], None]) -> None:
    """Every tile and bundle that a tree of ``start`` entries did not have in full, level by level."""
    below: dict[int, bytes] = {}
    for level in range(64):
        count = head.size >> TILE_HEIGHT * level
        if not count:
            break
        roots: dict[int, bytes] = {}
        first = (start >> TILE_HEIGHT * level) // TILE_WIDTH
        for index in range(first, -(-count // TILE_WIDTH)):
            tile = tile_at(level, index, head.size)
            data = log.tile(tile)
            hashes = [data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)]
            if level == 0:
                bundle = log.bundle(tile)
                below = dict(enumerate(map(leaf_hash, parse_bundle(bundle)), index * TILE_WIDTH))
                writer.put(tile.bundle_path(), bundle)
                progress(index * TILE_WIDTH + tile.width)
            _check(tile, hashes, below)
            writer.put(tile.path(), data)
            if tile.width == TILE_WIDTH:
                roots[index] = root(hashes)
        below = roots

    def read(tile: Tile) -> list[bytes]:
        data = log.tile(tile)
        return [data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)]

    if Frontier(head.size, TileReader(head.size, read).frontier()).root() != head.root:
        raise TamperedError("the log's tiles do not lead to the root that was signed: 'certify log fsck' finds where")


def _check(tile: Tile, hashes: list[bytes], below: dict[int, bytes]) -> None:
    """Each hash is the root of the tile below it; those of tiles that were exported before were checked then."""
    for place, hash_ in enumerate(hashes, tile.index * TILE_WIDTH):
        if below.get(place, hash_) != hash_:
            raise TamperedError(f"{tile.path()} is not what was logged: 'certify log fsck' finds where")


def _became_full(start: int, size: int) -> Iterator[Tile]:
    """The tiles that were partial in a tree of ``start`` entries and are full in one of ``size``."""
    for level in range(64):
        index, width = divmod(start >> TILE_HEIGHT * level, TILE_WIDTH)
        if width and (size >> TILE_HEIGHT * level) // TILE_WIDTH > index:
            yield Tile(level, index, width)


def _remove_partial(folder: Path, tile: Tile) -> int:
    """Remove all partial widths of a tile and, at level 0, of its bundle."""
    removed = 0
    for path in [tile.path(), *([tile.bundle_path()] if tile.level == 0 else [])]:
        widths = (folder / path).parent
        removed += len(list(widths.iterdir())) if widths.is_dir() else 0
        shutil.rmtree(widths, ignore_errors=True)
    return removed


class _Writer:
    """Writes files so that all of them are on disk after ``finish``. Not before: the old checkpoint needs none of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pending: list[int] = []
        self._folders: set[Path] = {folder}
        self.written = 0

    def put(self, path: str, data: bytes) -> None:
        place = self._folder / path
        if place.parent not in self._folders:
            place.parent.mkdir(parents=True, exist_ok=True)
            self._folders |= {parent for parent in place.parents if parent.is_relative_to(self._folder)}
        if _holds(place, data):  # from before, or from an export that was cut off and may not be on disk
            self._pending.append(os.open(place, os.O_RDONLY | os.O_CLOEXEC))
        else:
            self._pending.append(self._write(place, data))
            self.written += 1
        if len(self._pending) >= _AT_ONCE:
            self._sync()

    @staticmethod
    def _write(place: Path, data: bytes) -> int:
        """Put a file in its place at once: somebody may be reading it. Returns it open, to be waited for."""
        made = place.with_name(f".{place.name}.new")
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            made.replace(place)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _sync(self) -> None:
        pending, self._pending = self._pending, []
        try:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(os.fsync, pending))
        finally:
            for descriptor in pending:
                os.close(descriptor)

    def finish(self) -> None:
        self._sync()
        for folder in self._folders:
            _sync_folder(folder)


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except FileNotFoundError:
        return False


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(MAX_NOTE_SIZE + 1)
    except FileNotFoundError:
        return None


def _replace(path: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(descriptor, 0o644)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(name).unlink()
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
