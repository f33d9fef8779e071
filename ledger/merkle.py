"""Merkle trees of RFC 6962, section 2.1 (the same as RFC 9162, section 2.1). Pure functions over hashes.

A leaf hashes as ``SHA-256(0x00 || entry)``, an inner node as ``SHA-256(0x01 || left || right)``, the empty tree as
``SHA-256("")``. A tree of n leaves splits at the largest power of two below n::

    >>> root([leaf_hash(b"a"), leaf_hash(b"b")]) == node_hash(leaf_hash(b"a"), leaf_hash(b"b"))
    True

Proofs are described as *ranges* first (:func:`inclusion_ranges`, :func:`consistency_ranges`): element i of a proof is the
root of leaves ``lo..hi``. Whoever holds the leaves, or tiles, or a database turns ranges into hashes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256

from ledger.errors import ProofError

HASH_SIZE = 32
EMPTY_ROOT = sha256(b"").digest()

Range = tuple[int, int]
"""Leaves lo (inclusive) to hi (exclusive)."""


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 || entry). RFC 6962, 2.1."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right). RFC 6962, 2.1."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The roots of the complete subtrees at a growing tree's right edge: all that appending needs to know.

    ``nodes`` holds one hash per set bit of ``size``, largest subtree first.
    """

    __slots__ = ("nodes", "size")

    def __init__(self, size: int = 0, nodes: Iterable[bytes] = ()) -> None:
        self.size = size
        self.nodes = list(nodes)
        if len(self.nodes) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} edge nodes, got {len(self.nodes)}")

    def copy(self) -> "Frontier":
        return Frontier(self.size, self.nodes)

    def append(self, leaf: bytes, complete: Callable[[int, int, bytes], None] | None = None) -> None:
        """Add one leaf hash. ``complete(level, index, hash)`` hears of each subtree of 256, 256**2, ... leaves that it
        completes: these are the hashes that tiles store."""
        nodes = self.nodes
        hash_ = leaf
        carry = self.size
        level = 0
        while carry & 1:
            hash_ = sha256(b"\x01" + nodes.pop() + hash_).digest()
            carry >>= 1
            level += 1
            if complete is not None and not level & 7:
                complete(level, carry, hash_)
        nodes.append(hash_)
        self.size += 1

    def extend(self, leaves: Sequence[bytes]) -> list[tuple[int, int, list[bytes]]]:
        """Add many leaf hashes, level by level: the same as appending each, in half the time.

        Returns what ``complete`` would have heard, as runs ``(level, index of the first, hashes)``.
        """
        runs: list[tuple[int, int, list[bytes]]] = []
        edge: list[bytes] = []  # the new edge nodes, smallest subtree first
        hashes, first, level = list(leaves), self.size, 0
        while hashes:
            if first & 1:
                hashes.insert(0, self.nodes.pop())
            if level and not level & 7:
                runs.append((level, first, hashes[first & 1 :]))
            if len(hashes) & 1:
                edge.append(hashes[-1])
            pairs = zip(hashes[::2], hashes[1::2], strict=False)
            hashes = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
            first >>= 1
            level += 1
        self.nodes += reversed(edge)
        self.size += len(leaves)
        return runs

    def root(self) -> bytes:
        """The tree's root; ``EMPTY_ROOT`` for no leaves."""
        return fold(self.nodes)


def fold(subtrees: Sequence[bytes]) -> bytes:
    """Root of neighbouring complete subtrees, largest (left) first."""
    if not subtrees:
        return EMPTY_ROOT
    hash_ = subtrees[-1]
    for left in reversed(subtrees[:-1]):
        hash_ = node_hash(left, hash_)
    return hash_


def root(leaves: Iterable[bytes]) -> bytes:
    """Merkle tree hash of leaf hashes. RFC 6962, 2.1."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def complete_subtrees(lo: int, hi: int) -> Iterator[tuple[int, int]]:
    """Split leaves lo..hi into complete subtrees (level, index), left to right.

    ``lo`` must be a multiple of the largest power of two that fits in ``hi - lo``, as it is in every range of a proof.
    """
    while lo < hi:
        level = (hi - lo).bit_length() - 1
        yield level, lo >> level
        lo += 1 << level


def _split(size: int) -> int:
    """The largest power of two below ``size`` (size >= 2)."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """The ranges whose roots prove leaf ``index`` in a tree of ``size``, leaf to root. RFC 6962, 2.1.1."""
    if not 0 <= index < size:
        raise ProofError(f"no leaf {index} in a tree of {size} leaves")
    ranges: list[Range] = []
    lo, hi = 0, size
    while hi - lo > 1:
        middle = lo + _split(hi - lo)
        if index < middle:
            ranges.append((middle, hi))
            hi = middle
        else:
            ranges.append((lo, middle))
            lo = middle
    return ranges[::-1]


def consistency_ranges(old_size: int, size: int) -> list[Range]:
    """The ranges whose roots prove that the tree of ``old_size`` is a prefix of the one of ``size``. RFC 6962, 2.1.2."""
    if not 0 < old_size <= size:
        raise ProofError(f"no consistency proof from size {old_size} to size {size}")
    if old_size == size:
        return []
    ranges: list[Range] = []
    lo, hi = 0, size
    while hi != old_size:
        middle = lo + _split(hi - lo)
        if old_size <= middle:
            ranges.append((middle, hi))
            hi = middle
        else:
            ranges.append((lo, middle))
            lo = middle
    if lo:  # the old tree ends inside: its last subtree is not implied by the old root
        ranges.append((lo, hi))
    return ranges[::-1]


def range_root(leaves: Sequence[bytes], lo: int, hi: int) -> bytes:
    """Root of ``leaves[lo:hi]`` as a tree of its own."""
    return root(leaves[i] for i in range(lo, hi))


def inclusion_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Inclusion proof of leaf ``index`` among all ``leaves`` (hashes), leaf to root: O(n), for small trees."""
    return [range_root(leaves, lo, hi) for lo, hi in inclusion_ranges(index, len(leaves))]


def root_from_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes:
    """The root that an inclusion proof leads to. RFC 9162, 2.1.3.2."""
    ranges = inclusion_ranges(index, size)
    _check_path(path, len(ranges), f"inclusion proof of leaf {index} in {size}")
    hash_ = leaf
    for (lo, _), sibling in zip(ranges, path, strict=True):
        hash_ = node_hash(hash_, sibling) if lo > index else node_hash(sibling, hash_)
    return hash_


def verify_inclusion(*, root: bytes, size: int, index: int, leaf: bytes, path: Sequence[bytes]) -> None:
    """Raise ProofError unless ``leaf`` (a leaf hash) is leaf ``index`` of the tree with ``root`` and ``size``."""
    _check_hash(root, "root")
    _check_hash(leaf, "leaf hash")
    found = root_from_inclusion(index, size, leaf, path)
    if found != root:
        raise ProofError(
            f"inclusion proof of leaf {index} leads to root {found.hex()}, expected {root.hex()} at size {size}"
        )


def verify_consistency(*, old_size: int, old_root: bytes, size: int, root: bytes, path: Sequence[bytes]) -> None:
    """Raise ProofError unless the tree (old_size, old_root) is a prefix of (size, root). RFC 9162, 2.1.4.2.

    Size 0 is refused: every tree extends the empty one, so there is nothing to prove.
    """
    ranges = consistency_ranges(old_size, size)
    _check_path(path, len(ranges), f"consistency proof from {old_size} to {size}")
    if old_size == size and old_root == root:
        return
    _check_hash(old_root, "old root")
    _check_hash(root, "root")
    if old_size == size:
        raise ProofError(f"two roots for size {size}: {old_root.hex()} and {root.hex()}")
    # Fold the same hashes twice: all of them into the new root, those left of old_size into the old one.
    hashes = list(path)
    ends_inside = old_size & (old_size - 1) != 0  # else the old root itself is the first subtree
    first = hashes.pop(0) if ends_inside else old_root
    siblings = ranges[1:] if ends_inside else ranges
    old = new = first
    for (lo, _), sibling in zip(siblings, hashes, strict=True):
        if lo >= old_size:
            new = node_hash(new, sibling)
        else:
            old = node_hash(sibling, old)
            new = node_hash(sibling, new)
    if old != old_root:
        raise ProofError(
            f"consistency proof leads to old root {old.hex()}, expected {old_root.hex()} at size {old_size}"
        )
    if new != root:
        raise ProofError(f"consistency proof leads to root {new.hex()}, expected {root.hex()} at size {size}")


def _check_hash(hash_: bytes, what: str) -> None:
    if len(hash_) != HASH_SIZE:
        raise ProofError(f"{what} has {len(hash_)} bytes, expected {HASH_SIZE}")


def _check_path(path: Sequence[bytes], length: int, what: str) -> None:
    if len(path) != length:
        raise ProofError(f"{what} has {len(path)} hashes, expected {length}")
    for hash_ in path:
        _check_hash(hash_, "proof element")
