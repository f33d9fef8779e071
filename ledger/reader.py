"""What reads a log, wherever it is: in a database (:class:`ledger.log.Log`) or behind a URL (:class:`ledger.client.RemoteLog`).

Whoever only reads, or appends, asks for one of these two protocols and works with both::

    def newest(log: LogReader) -> bytes:
        return log.entry(log.size() - 1)

All that these methods return is checked against a checkpoint that the log's keys signed.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from ledger.note import VerifierKey
from ledger.proof import TlogProof

if TYPE_CHECKING:
    from ledger.log import Appended


class LogReader(Protocol):
    """A log, open for reading."""

    origin: str
    verifier_keys: list[VerifierKey]

    def checkpoint(self) -> bytes:
        """The newest signed checkpoint; cosigned, where a policy asks for it."""

    def size(self) -> int:
        """Entries under that checkpoint."""

    def find(self, entry: bytes) -> int | None:
        """The index of an entry, or None if it isn't logged."""

    def entry(self, index: int) -> bytes:
        """One entry's bytes."""

    def entries(self, first: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        """(index, bytes) of the entries from ``first`` up to but not including ``end``, in order."""

    def prove(self, index: int) -> TlogProof:
        """An offline proof that entry ``index`` is in the log."""

    def prove_all(self, indices: Sequence[int]) -> list[TlogProof]:
        """Proofs of several entries under one checkpoint."""

    def prove_consistency(self, old_size: int, old_root: bytes | None = None) -> tuple[list[bytes], bytes]:
        """Proof that the tree of ``old_size`` is a prefix of the current one, and the current signed checkpoint."""

    def close(self) -> None:
        """Give files and connections back."""


class AppendableLog(LogReader, Protocol):
    """A log, open for appending."""

    def append(self, entry: bytes, *, expected_size: int | None = None) -> "Appended":
        """Log one entry: durable, and included under a signed checkpoint, on return."""

    def append_many(self, entries: Sequence[bytes], *, expected_size: int | None = None) -> "list[Appended]":
        """Log entries in order."""
