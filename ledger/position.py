"""How far a monitor has looked: the newest checkpoint that it verified, and how many of its entries it has looked at.

A small file, replaced whole and synced::

    unlearning-ledger/monitor@v1
    looked 1234
    <base64 hash of the edge of the tree of the entries looked at, one a line, largest subtree first>

    <signed checkpoint, verbatim>

The edge lets the next look go on without trusting any hash of the log's. It is only as safe as the folder that it lies in:
whoever can write there can make a monitor forget, as with any record of what was seen.
"""

import os
import tempfile
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

from ledger.checkpoint import parse_decimal, parse_hash
from ledger.errors import MalformedError, StorageError
from ledger.merkle import Frontier
from ledger.note import MAX_NOTE_SIZE

HEADER = "unlearning-ledger/monitor@v1"
_MAX_SIZE = MAX_NOTE_SIZE + (1 << 14)


@dataclass(frozen=True, slots=True)
class Position:
    """``looked``: entries looked at; ``edge``: edge nodes of their tree; ``checkpoint``: one that includes them."""

    looked: int
    edge: tuple[bytes, ...]
    checkpoint: bytes

    @property
    def frontier(self) -> Frontier:
        return Frontier(self.looked, self.edge)

    def format(self) -> bytes:
        lines = [HEADER, f"looked {self.looked}", *(b64encode(node).decode() for node in self.edge)]
        return ("\n".join(lines) + "\n\n").encode() + self.checkpoint

    @classmethod
    def parse(cls, data: bytes) -> "Position":
        """Raises MalformedError."""
        head, _, checkpoint = data.partition(b"\n\n")
        try:
            header, looked, *edge = head.decode().split("\n")
        except ValueError as error:
            raise MalformedError(f"a monitor's position starts {data[:40]!r}, expected {HEADER!r}") from error
        if header != HEADER or not looked.startswith("looked "):
            raise MalformedError(f"a monitor's position starts {data[:60]!r}, expected {HEADER!r} and 'looked N'")
        size = parse_decimal(looked.removeprefix("looked "), "entries looked at")
        nodes = tuple(parse_hash(line, "edge node") for line in edge)
        if len(nodes) != size.bit_count():
            raise MalformedError(
                f"a position of {size} entries has {len(nodes)} edge nodes, expected {size.bit_count()}"
            )
        return cls(size, nodes, checkpoint)


class PositionFile:
    """A position on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Position | None:
        """None if nothing was saved yet. Raises MalformedError, StorageError."""
        try:
            with self.path.open("rb") as file:
                data = file.read(_MAX_SIZE + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"cannot read the monitor's position {self.path}: {error.strerror}") from error
        if len(data) > _MAX_SIZE:
            raise MalformedError(f"{self.path} has more than {_MAX_SIZE:,} bytes: not a monitor's position")
        return Position.parse(data)

    def save(self, position: Position) -> None:
        """Replace the file; on disk on return. Raises StorageError, and then the file is as it was."""
        try:
            descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(position.format())
                    file.flush()
                    os.fsync(descriptor)
                Path(name).replace(self.path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise StorageError(f"cannot save the monitor's position {self.path}: {error.strerror}") from error
