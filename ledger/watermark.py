"""The newest checkpoint that a log has signed, kept apart from its database: how a rollback of the database is noticed.

The file lives beside the *key*, not beside the log, so that restoring an old copy of the log does not restore it too. It is
advanced after each commit, without waiting for the disk: after a power failure it may lag behind the database, which is
harmless; it is never ahead of it.
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger.checkpoint import Checkpoint
from ledger.errors import MalformedError, StorageError, TamperedError
from ledger.note import Note

_MAX_SIZE = 1 << 16


class Watermark:
    """One checkpoint in one file, only ever replaced by a larger one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"cannot open the log's watermark {path}: {error.strerror}") from error
        self._known: tuple[bytes, Checkpoint] | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        if self._file >= 0:  # a second close could hit a file that somebody else has opened since
            os.close(self._file)
            self._file = -1

    @contextmanager
    def _locked(self, mode: int) -> Iterator[None]:
        """Among threads by a lock of this object, among processes by one of the file."""
        with self._lock:
            fcntl.flock(self._file, mode)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def read(self) -> Checkpoint | None:
        """The checkpoint, or None if there is none yet. Its signature is not checked: it can only make a log refuse."""
        with self._locked(fcntl.LOCK_SH):
            return self._read()

    def note(self) -> tuple[bytes, Checkpoint] | None:
        """The checkpoint as it was signed, and parsed; None if there is none yet."""
        with self._locked(fcntl.LOCK_SH):
            checkpoint = self._read()
            return None if checkpoint is None or self._known is None else (self._known[0].rstrip(b"\0"), checkpoint)

    def _read(self) -> Checkpoint | None:
        data = os.pread(self._file, _MAX_SIZE, 0)
        if not data:
            return None
        if self._known is None or self._known[0] != data:
            try:
                checkpoint = Checkpoint.parse(Note.parse(data.rstrip(b"\0")).text)
            except MalformedError as error:
                raise TamperedError(
                    f"the log's watermark {self.path} is damaged ({error}). If a power failure can explain it, check the log "
                    f"against a copy of its last checkpoint elsewhere, then delete that file"
                ) from error
            self._known = data, checkpoint
        return self._known[1]

    def advance(self, note: bytes, checkpoint: Checkpoint) -> None:
        """Remember ``checkpoint`` (signed as ``note``) if it is larger than the one remembered."""
        with self._locked(fcntl.LOCK_EX):
            seen = self._read()
            if seen is None or checkpoint.size > seen.size:
                # One write and no truncation: there is no moment without a checkpoint.
                data = note.ljust(os.fstat(self._file).st_size, b"\0")
                os.pwrite(self._file, data, 0)
                self._known = data, checkpoint
