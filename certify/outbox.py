"""Signed envelopes that the log has not acknowledged yet.

An envelope is put here, durably, before it is sent to a log that is far away, and taken away once the log proved that it has it.
Whatever comes in between (a crash, a server that is down) leaves the file, and the next append sends it first. Sending it twice
is harmless: a log keeps the same bytes once. Until then nothing is certified::

    ledger/outbox/000001-3f0c….dsse.json
"""

import re
from pathlib import Path

from certify.envelope import MAX_ENVELOPE_SIZE
from certify.inputs import read_file, write_file
from ledger.keyfile import sync_folder
from ledger.reader import AppendableLog

_NAME = re.compile(r"([0-9]{6,})-[0-9a-f]{16}\.dsse\.json")


class Outbox:
    """A folder of envelopes, in the order in which they were put there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def waiting(self) -> list[Path]:
        """The envelopes that are still to be sent, the oldest first."""
        if not self.folder.is_dir():
            return []
        found = [(int(match[1]), path) for path in self.folder.iterdir() if (match := _NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found)]

    def put(self, envelope: bytes, digest: str) -> Path:
        """Keep an envelope (``digest``: its SHA-256, hex), durable on return."""
        waiting = self.waiting()
        for path in waiting:
            if path.name.endswith(f"-{digest[:16]}.dsse.json"):
                return path
        if not self.folder.is_dir():
            self.folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(self.folder.parent)
        last = _NAME.fullmatch(waiting[-1].name) if waiting else None
        path = self.folder / f"{int(last[1]) + 1 if last else 1:06d}-{digest[:16]}.dsse.json"
        write_file(path, envelope)
        sync_folder(self.folder)
        return path

    def send(self, log: AppendableLog) -> dict[bytes, int]:
        """Send what is waiting, in order; the index of each. What an error stops stays, with all that comes after it."""
        sent: dict[bytes, int] = {}
        for path in self.waiting():
            if not path.exists():  # another process was faster
                continue
            envelope = read_file(path, MAX_ENVELOPE_SIZE)
            sent[envelope] = log.append(envelope).index
            path.unlink(missing_ok=True)
        return sent
