"""Shard map: which record of a dataset is in which shard and slice, committed to without saying it (SISA).

The entry of a record in an RFC 6962 tree, in the dataset's order, is ::

    SHA-256("unlearning-ledger/shard/v1" 0x00 || salt || u32 shard || u32 slice)        numbers big-endian

and its salt is HMAC-SHA-256(secret, u64 position), so that one secret is kept and yet each place can be opened by itself::

    map = ShardMap.of([(0, 0), (1, 0), (0, 1)])     # shard and slice of records 0, 1 and 2
    map.root()                                      # public, before anybody asks to be forgotten
    Opened.parse(map.open([2], leaves).to_json())   # where record 2 of the dataset with these leaves is; of the others, nothing

:meth:`Opened.check` ties places to records: the same positions, of a tree of the same size, in both the map and the dataset.
"""

import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import msgspec

from certify.errors import DatasetError
from certify.fields import MAX_INTEGER, Tree
from certify.wire import canonical, decode, read_hash
from ledger.merkle import leaf_hash, node_hash
from ledger.merkle import root as tree_root

PREFIX = b"unlearning-ledger/shard/v1\x00"
MAX_OPENED = 4 << 20
"""Bytes; about 250 a record, and less where many are opened at once."""

Place = tuple[int, int]
"""Shard and slice."""


@dataclass(frozen=True, slots=True)
class ShardMap:
    """Secret and places of all records. For the operator only."""

    secret: bytes
    places: tuple[Place, ...]

    @classmethod
    def of(cls, places: Sequence[Place]) -> "ShardMap":
        """A map with a fresh secret. Raises DatasetError if a number does not fit 32 bits."""
        if any(not 0 <= number < 1 << 32 for place in places for number in place):
            raise DatasetError("expected shards and slices from 0 to 2**32 - 1")
        return cls(os.urandom(32), tuple((shard, part) for shard, part in places))

    def leaves(self) -> list[bytes]:
        """The leaf hash of every record's place, in the dataset's order."""
        return [leaf_of(self.salt(position), place) for position, place in enumerate(self.places)]

    def root(self) -> bytes:
        """32 bytes, public."""
        return tree_root(self.leaves())

    def salt(self, position: int) -> bytes:
        """Of the record at ``position``; says nothing of the others."""
        return hmac.digest(self.secret, position.to_bytes(8, "big"), sha256)

    def open(self, positions: Sequence[int], leaves: Sequence[bytes]) -> "Opened":
        """Places of the records at ``positions``, with ``leaves`` those of the whole dataset. Raises DatasetError."""
        if len(leaves) != len(self.places):
            raise DatasetError(f"the shard map has {len(self.places)} records, the dataset {len(leaves)}")
        chosen = tuple(sorted(set(positions)))
        if not chosen or not 0 <= chosen[0] <= chosen[-1] < len(leaves):
            raise DatasetError(f"expected positions below {len(leaves)}, got {list(chosen[:4])}")
        return Opened(
            len(leaves),
            chosen,
            tuple(self.places[position] for position in chosen),
            tuple(self.salt(position) for position in chosen),
            tuple(leaves[position] for position in chosen),
            tuple(_others(self.leaves(), chosen, 0, len(leaves))),
            tuple(_others(leaves, chosen, 0, len(leaves))),
        )


def leaf_of(salt: bytes, place: Place) -> bytes:
    """The leaf hash of a record's place."""
    shard, part = place
    return leaf_hash(sha256(PREFIX + salt + shard.to_bytes(4, "big") + part.to_bytes(4, "big")).digest())


@dataclass(frozen=True, slots=True)
class Opened:
    """Places of some records of a dataset of ``size``. ``map_path`` and ``dataset_path`` are the roots of all ranges between
    them, from left to right."""

    size: int
    positions: tuple[int, ...]
    places: tuple[Place, ...]
    salts: tuple[bytes, ...]
    records: tuple[bytes, ...]
    map_path: tuple[bytes, ...]
    dataset_path: tuple[bytes, ...]

    def check(self, *, map_root: str, dataset: Tree, removed: Tree) -> None:
        """That these are the removed records of that dataset, in their places of that map. Raises DatasetError."""
        if self.size != dataset.count:
            raise DatasetError(f"the places are of {self.size} records, the dataset has {dataset.count}")
        if len(self.positions) != removed.count or tree_root(self.records).hex() != removed.root:
            raise DatasetError(f"the places are not those of the {removed.count} removed records")
        if self._root(self.records, self.dataset_path).hex() != dataset.root:
            raise DatasetError("the records whose places are shown are not of the training's dataset")
        leaves = [leaf_of(salt, place) for salt, place in zip(self.salts, self.places, strict=True)]
        if self._root(leaves, self.map_path).hex() != map_root:
            raise DatasetError(f"the places shown are not those that were committed to as {map_root[:16]}")

    def first_slices(self) -> dict[int, int]:
        """Each shard that holds one of them, and the first slice that does."""
        found: dict[int, int] = {}
        for shard, part in sorted(self.places, reverse=True):
            found[shard] = part
        return dict(sorted(found.items()))

    def to_json(self) -> bytes:
        """RFC 8785: an object with hashes in hex."""
        value = {
            "size": self.size,
            "positions": list(self.positions),
            "places": [list(place) for place in self.places],
            "salts": [salt.hex() for salt in self.salts],
            "records": [leaf.hex() for leaf in self.records],
            "mapPath": [hash_.hex() for hash_ in self.map_path],
            "datasetPath": [hash_.hex() for hash_ in self.dataset_path],
        }
        return canonical(value, what="places of records", error=DatasetError)

    @classmethod
    def parse(cls, data: bytes) -> "Opened":
        """Read :meth:`to_json`'s bytes, and nothing else. Raises DatasetError."""
        what = "places of records"
        wire = decode(data, _Wire, limit=MAX_OPENED, what=what, error=DatasetError)
        count = len(wire.positions)
        if not count or not len(wire.places) == len(wire.salts) == len(wire.records) == count:
            raise DatasetError(f"{what} has {count} positions and not as many places, salts and records")
        if wire.positions != sorted(set(wire.positions)) or wire.positions[0] < 0 or wire.positions[-1] >= wire.size:
            raise DatasetError(f"{what} has positions that do not rise, or lie beyond {wire.size} records")
        if wire.size > MAX_INTEGER or any(not 0 <= number < 1 << 32 for place in wire.places for number in place):
            raise DatasetError(f"{what} has numbers that are out of range")

        def hashes(texts: list[str]) -> tuple[bytes, ...]:
            return tuple(read_hash(text, what=f"a hash of {what}", error=DatasetError) for text in texts)

        return cls(
            wire.size,
            tuple(wire.positions),
            tuple(wire.places),
            hashes(wire.salts),
            hashes(wire.records),
            hashes(wire.mapPath),
            hashes(wire.datasetPath),
        )

    def _root(self, leaves: Sequence[bytes], path: Sequence[bytes]) -> bytes:
        """The root of a tree of ``size`` with ``leaves`` at ``positions``. Raises DatasetError."""
        chosen, rest = list(zip(self.positions, leaves, strict=True)), list(reversed(path))

        def between(lo: int, hi: int, first: int, last: int) -> bytes:  # chosen[first:last] are those from lo to hi
            if first == last:
                if not rest:
                    raise DatasetError("places of records lack hashes on the way to the root")
                return rest.pop()
            if hi - lo == 1:
                return chosen[first][1]
            middle = lo + _split(hi - lo)
            cut = next((i for i in range(first, last) if chosen[i][0] >= middle), last)
            left = between(lo, middle, first, cut)
            return node_hash(left, between(middle, hi, cut, last))

        found = between(0, self.size, 0, len(chosen))
        if rest:
            raise DatasetError(f"places of records have {len(rest)} hashes more than lead to the root")
        return found


def _others(leaves: Sequence[bytes], chosen: Sequence[int], lo: int, hi: int) -> list[bytes]:
    """Roots of the largest ranges that hold none of ``chosen``, from left to right."""
    inside = [position for position in chosen if lo <= position < hi]
    if not inside:
        return [tree_root(leaves[lo:hi])]
    if hi - lo == 1:
        return []
    middle = lo + _split(hi - lo)
    return _others(leaves, inside, lo, middle) + _others(leaves, inside, middle, hi)


def _split(size: int) -> int:
    """RFC 6962's: the largest power of two below ``size``."""
    return 1 << (size - 1).bit_length() - 1


class _Wire(msgspec.Struct, forbid_unknown_fields=True):
    size: int
    positions: list[int]
    places: list[tuple[int, int]]
    salts: list[str]
    records: list[str]
    mapPath: list[str]
    datasetPath: list[str]
