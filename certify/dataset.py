"""Dataset root: what a training set was, committed to without saying it, and openings for single records.

A record is committed to as ``SHA-256("unlearning-ledger/record/v1" 0x00 || salt || record)`` with a fresh 32-byte salt;
the 32-byte commitments, in the dataset's order, are the entries of an RFC 6962 tree (so a leaf is
``SHA-256(0x00 || commitment)``), and its root is the dataset root::

    commitments = commit([b"first record", b"second record"])
    commitments.root()                                       # public
    opening = open_record(commitments, 1)                    # for whoever the record is about
    verify_opening(opening, b"second record", commitments.root())

Leaves are public noise; without its salt nobody can test a guess at a record. Salts belong in the vault.
"""

import os
from collections.abc import Iterable, Sequence
from hashlib import sha256

import msgspec

from certify.errors import DatasetError
from certify.records import read_records, record_bytes
from certify.wire import canonical, decode, read_hash, read_number, read_path
from ledger.errors import ProofError
from ledger.merkle import EMPTY_ROOT, HASH_SIZE, inclusion_ranges, leaf_hash, node_hash, root_from_inclusion
from ledger.merkle import root as tree_root

__all__ = [
    "Commitments",
    "RecordOpening",
    "commit",
    "commit_record",
    "new_salt",
    "open_record",
    "read_records",
    "record_bytes",
    "retained",
    "subset_root",
    "verify_opening",
]

PREFIX = b"unlearning-ledger/record/v1\x00"
SALT_SIZE = 32
MAX_OPENING = 1 << 14


class Commitments(msgspec.Struct, frozen=True, dict=True):
    """Every record's salt (secret) and leaf hash (public): n x 32 bytes each, in the dataset's order."""

    salts: bytes
    leaves: bytes

    def __post_init__(self) -> None:
        if len(self.salts) % SALT_SIZE or len(self.salts) != len(self.leaves):
            raise DatasetError(f"{len(self.salts)} bytes of salts and {len(self.leaves)} of leaves, expected 32 each")

    @property
    def count(self) -> int:
        return len(self.leaves) // HASH_SIZE

    def root(self) -> bytes:
        """The dataset root: 32 bytes."""
        levels = self.levels()
        return levels[-1][0] if levels[-1] else EMPTY_ROOT

    def levels(self) -> list[list[bytes]]:
        """Node i of level l is the root of leaves i*2**l up to (i+1)*2**l, or to the end. Computed once."""
        if "_levels" not in self.__dict__:
            level = split(self.leaves)
            levels = [level]
            while len(level) > 1:
                # A last node without a partner moves up as it is: that is RFC 6962's split.
                last = level[len(level) & ~1 :]
                level = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)] + last
                levels.append(level)
            self.__dict__["_levels"] = levels
        found: list[list[bytes]] = self.__dict__["_levels"]
        return found


class RecordOpening(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What shows that a record was at ``index`` of a dataset of ``size``: its salt and the path to the root."""

    salt: bytes
    index: int
    size: int
    path: tuple[bytes, ...]

    def to_json(self) -> bytes:
        """``{"index":"1","path":["…"],"salt":"…","size":"2"}``, RFC 8785."""
        value = {
            "salt": self.salt.hex(),
            "index": str(self.index),
            "size": str(self.size),
            "path": [hash_.hex() for hash_ in self.path],
        }
        return canonical(value, what="a record opening", error=DatasetError)

    @classmethod
    def parse(cls, data: bytes) -> "RecordOpening":
        """Read :meth:`to_json`'s bytes, and nothing else. Raises DatasetError."""
        what = "a record opening"
        wire = decode(data, _OpeningWire, limit=MAX_OPENING, what=what, error=DatasetError)
        salt = read_hash(wire.salt, what=f"salt of {what}", error=DatasetError)
        size = read_number(wire.size, limit=1 << 63, what=f"size of {what}", error=DatasetError)
        index = read_number(wire.index, limit=size, what=f"index of {what}", error=DatasetError)
        return cls(salt, index, size, read_path(wire.path, what=what, error=DatasetError))


def new_salt() -> bytes:
    """32 fresh random bytes."""
    return os.urandom(SALT_SIZE)


def commit_record(record: bytes, salt: bytes) -> bytes:
    """The 32-byte commitment to one record. Raises DatasetError for a salt of another length than 32."""
    if len(salt) != SALT_SIZE:
        raise DatasetError(f"salt has {len(salt)} bytes, expected {SALT_SIZE}")
    return sha256(PREFIX + salt + record).digest()


def commit(records: Iterable[bytes]) -> Commitments:
    """Commit to records, in this order, each with a fresh salt."""
    salts = bytearray()
    leaves = bytearray()
    fresh = b""
    at = 0
    for record in records:
        if at == len(fresh):
            fresh, at = os.urandom(SALT_SIZE << 12), 0
        salt = fresh[at : at + SALT_SIZE]
        at += SALT_SIZE
        salts += salt
        leaves += leaf_hash(sha256(PREFIX + salt + record).digest())
    return Commitments(bytes(salts), bytes(leaves))


def split(leaves: bytes) -> list[bytes]:
    """n x 32 bytes as n leaf hashes. Raises DatasetError."""
    if len(leaves) % HASH_SIZE:
        raise DatasetError(f"{len(leaves)} bytes of leaf hashes, expected a multiple of {HASH_SIZE}")
    return [leaves[at : at + HASH_SIZE] for at in range(0, len(leaves), HASH_SIZE)]


def retained(leaves: bytes, removed: Iterable[int]) -> tuple[bytes, int]:
    """(root, count) of the dataset less the records at ``removed``: the others keep their leaves and their order."""
    gone = set(removed)
    all_leaves = split(leaves)
    for position in gone:
        _check_position(position, len(all_leaves))
    kept = [leaf for position, leaf in enumerate(all_leaves) if position not in gone]
    return tree_root(kept), len(kept)


def subset_root(leaves: bytes, positions: Sequence[int]) -> bytes:
    """Root over the records at ``positions``, which must be in the dataset's order. Raises DatasetError."""
    all_leaves = split(leaves)
    last = -1
    for position in positions:
        _check_position(position, len(all_leaves))
        if position <= last:
            raise DatasetError(f"position {position} came after {last}, expected increasing positions")
        last = position
    return tree_root(all_leaves[position] for position in positions)


def open_record(commitments: Commitments, index: int) -> RecordOpening:
    """The opening of the record at ``index``. Raises DatasetError when there is none."""
    _check_position(index, commitments.count)
    levels = commitments.levels()
    path = []
    for lo, hi in inclusion_ranges(index, commitments.count):
        level = (hi - lo - 1).bit_length()
        path.append(levels[level][lo >> level])
    salt = commitments.salts[index * SALT_SIZE : (index + 1) * SALT_SIZE]
    return RecordOpening(salt, index, commitments.count, tuple(path))


def verify_opening(opening: RecordOpening, record: bytes, root: bytes, *, count: int | None = None) -> None:
    """Raise DatasetError unless ``record`` is in the dataset of this root (and of ``count`` records, when given)."""
    if count is not None and opening.size != count:
        raise DatasetError(f"opening is of a dataset of {opening.size} records, expected {count}")
    leaf = leaf_hash(commit_record(record, opening.salt))
    try:
        found = root_from_inclusion(opening.index, opening.size, leaf, opening.path)
    except ProofError as reason:
        raise DatasetError(f"record opening: {reason}") from None
    if found != root:
        raise DatasetError(f"record {opening.index} leads to dataset root {found.hex()}, expected {root.hex()}")


def _check_position(position: int, count: int) -> None:
    if not 0 <= position < count:
        raise DatasetError(f"no record {position} in a dataset of {count}")


class _OpeningWire(msgspec.Struct, forbid_unknown_fields=True):
    salt: str
    index: str
    size: str
    path: list[str]
