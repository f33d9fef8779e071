"""Which batches each record of a dataset was in, committed to when a model is trained, and opened one record at a time.

The entry of a record in an RFC 6962 tree, in the dataset's order, is ::

    SHA-256("unlearning-ledger/batches/v1" 0x00 || salt || [0,3,7])           the numbers of its batches, RFC 8785

and its salt is HMAC-SHA-256(secret, u64 position), so that one place can be opened without the others. ``training/v1`` states the
root; secret and numbers stay in the vault, as the note ``batch-map/<root>``: ``{"secret": hex, "batches": [[0,3,7], …]}``.
"""

import hmac
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from certify.errors import DatasetError, WorkspaceError
from certify.vault import Vault
from certify.wire import canonical
from ledger.errors import ProofError
from ledger.merkle import inclusion_path, leaf_hash, root_from_inclusion
from ledger.merkle import root as tree_root

PREFIX = b"unlearning-ledger/batches/v1\x00"
MAX_PLACES = 20_000_000
"""Places of records in batches that a vault keeps of one training: about 8 bytes each."""


@dataclass(frozen=True, slots=True)
class BatchMap:
    """The secret, and for every record the numbers of the batches that it was in. For the operator only."""

    secret: bytes
    batches: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, batches: Sequence[Iterable[int]], count: int) -> "BatchMap":
        """From the positions in each batch, in order, of a dataset of ``count`` records. Raises DatasetError."""
        found: list[list[int]] = [[] for _ in range(count)]
        places = 0
        for number, positions in enumerate(batches):
            for position in positions:
                if not 0 <= position < count:
                    raise DatasetError(
                        f"batch {number} has record {position}, expected positions from 0 to {count - 1}"
                    )
                found[position].append(number)
                places += 1
        if places > MAX_PLACES:
            raise DatasetError(
                f"{places:,} places in batches, expected at most {MAX_PLACES:,}: record the first epochs"
            )
        return cls(os.urandom(32), tuple(map(tuple, found)))

    def salt(self, position: int) -> bytes:
        """Of the record at ``position``; says nothing of the others."""
        return hmac.digest(self.secret, position.to_bytes(8, "big"), sha256)

    def leaves(self) -> list[bytes]:
        return [_leaf(self.salt(position), numbers) for position, numbers in enumerate(self.batches)]

    def root(self) -> str:
        """Public, in hex."""
        return tree_root(self.leaves()).hex()

    def keep(self, vault: Vault) -> None:
        """Put it into a vault, for :func:`batch_map`."""
        vault.put_note(f"batch-map/{self.root()}", {"secret": self.secret.hex(), "batches": self.batches})


def _leaf(salt: bytes, numbers: Sequence[int]) -> bytes:
    return leaf_hash(sha256(PREFIX + salt + canonical(list(numbers), what="batches", error=DatasetError)).digest())


@dataclass(frozen=True, slots=True)
class BatchOpening:
    """The batches of one record, for whoever should be able to check them against a training's ``batches``."""

    numbers: tuple[int, ...]
    salt: bytes
    index: int
    size: int
    path: tuple[bytes, ...]

    def check(self, root: str) -> None:
        """Raises DatasetError unless these are the batches that were committed to."""
        try:
            found = root_from_inclusion(self.index, self.size, _leaf(self.salt, self.numbers), self.path)
        except ProofError as error:
            raise DatasetError(f"the batches of record {self.index}: {error}") from error
        if found.hex() != root:
            raise DatasetError(
                f"the batches of record {self.index} lead to root {found.hex()}, {root} was committed to"
            )


def batch_map(vault: Vault, root: str) -> BatchMap:
    """The map with this root. Raises WorkspaceError where the vault lacks it, or has another."""
    note = vault.note(f"batch-map/{root}")
    if note is None:
        raise WorkspaceError(f"the vault has no batches with root {root}: restore it")
    found = BatchMap(bytes.fromhex(note["secret"]), tuple(tuple(numbers) for numbers in note["batches"]))
    if found.root() != root:
        raise WorkspaceError(f"the vault's batches {root[:16]} were altered: they lead to another root")
    return found


def open_batches(vault: Vault, root: str, position: int) -> BatchOpening:
    """The opening of one record's batches."""
    found = batch_map(vault, root)
    if not 0 <= position < len(found.batches):
        raise DatasetError(f"no record {position} among {len(found.batches)}")
    path = tuple(inclusion_path(found.leaves(), position))
    return BatchOpening(found.batches[position], found.salt(position), position, len(found.batches), path)
