"""Back a log up while others append to it, and put it back.

A backup is a log in one SQLite file, made from one moment of a log in any database, with every hash computed again, and read back
before it gets its name. Putting it back copies it the same way::

    backup(log, Path("monday.log"))
    restore(Path("monday.log"), "postgresql://db.example.com/certificates#log2", keys)

What was restored may be older than what the log has signed. Its watermark, which lies beside the key and in no backup, knows: the
log can be read, and refuses to append, because that would sign a second history. The entries that are missing bring it forward,
if somebody still has them, in a static export or a mirror; no key is needed, as the checkpoint over them was signed before.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ledger import fsck
from ledger.checkpoint import Checkpoint
from ledger.copying import Copy, Progress
from ledger.errors import StorageError, TamperedError
from ledger.log import Log
from ledger.note import Note, VerifierKey
from ledger.source import Source
from ledger.storage import Place
from ledger.tiles import TILE_WIDTH, parse_bundle, tile_at

_SIDES = ("", "-wal", "-shm")


def backup(log: Log, path: Path, progress: Progress = lambda done: None) -> Checkpoint:
    """Write ``path``, which must not exist; all of it or nothing. Raises StorageError; TamperedError if the log is damaged."""
    if path.exists():
        raise StorageError(f"{path} exists already: name another file")
    partial = path.with_name(f".{path.name}.partial")
    _remove(partial)
    try:
        with log.snapshot() as (snapshot, head), Copy(partial, progress) as copy:
            copy.take(snapshot, head.size)
            signed = copy.finish(head.checkpoint, log.verifier_keys, snapshot.all_kept())
        with Log.open(partial, verifier_keys=log.verifier_keys, check=False) as made:
            _check(made)
        _put(partial, path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        _remove(partial)
    return signed


def restore(
    path: Path,
    place: Place,
    log_keys: Sequence[VerifierKey],
    progress: Progress = lambda done: None,
    *,
    newest: bytes | None = None,
    rest: Source | None = None,
) -> Checkpoint:
    """Make the backup ``path`` the log at ``place``, where none may be. Raises StorageError, TamperedError.

    With ``newest``, a later checkpoint that the log signed, the entries that the backup lacks are taken from ``rest``.
    """
    with Log.open(path, verifier_keys=log_keys) as saved, saved.snapshot() as (snapshot, head):
        with Copy(place, progress) as copy:
            copy.take(snapshot, head.size)
            signed = copy.check(head.checkpoint, log_keys)
            note, kept = head.checkpoint, snapshot.all_kept()
            if newest is not None and rest is not None:
                size = Checkpoint.parse(Note.parse(newest).text).size
                if size > signed.size:
                    copy.add(_served(rest, signed.size, size))
                    note = newest
            return copy.finish(note, log_keys, kept)


def _served(source: Source, first: int, end: int) -> Iterator[bytes]:
    for number in range(first // TILE_WIDTH, (end + TILE_WIDTH - 1) // TILE_WIDTH):
        entries = parse_bundle(source.bundle(tile_at(0, number, end)))
        yield from entries[max(0, first - number * TILE_WIDTH) :]


def _check(made: Log) -> None:
    found = next(iter(fsck.check(made)), None)
    if found is not None:
        raise TamperedError(f"the backup did not come back from disk as it was written: {found}")


def _put(partial: Path, path: Path) -> None:
    """Give the file its name, and wait until the disk has both."""
    if any(Path(f"{partial}{side}").exists() for side in _SIDES[1:]):
        raise StorageError(f"{partial} is in use: somebody else has opened it")
    for synced in (partial, path.parent):
        if synced == path.parent:
            os.link(partial, path)  # unlike a rename, never over another file
        descriptor = os.open(synced, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(partial: Path) -> None:
    for side in _SIDES:
        Path(f"{partial}{side}").unlink(missing_ok=True)
