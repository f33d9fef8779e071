"""Verification keys in a seventh of their size: they repeat themselves, in fixed columns and in selectors that are mostly zero.

::

    u32-LE size of the key ‖ u32-LE number of blocks ‖ the blocks, 64 bytes each ‖ u16-LE block, for each 64 bytes of the key

counted from its eighth byte, where the points begin; the first seven bytes are a block of their own, filled up with zeros
like the last. Blocks stand in the order of their first use, so that a key has one packed form::

    unpack(pack(vk)) == vk
"""

from array import array

from circuits.errors import ZkProofError

BLOCK = 64
HEAD = 7
MAX_KEY = 64 << 20
MAX_BLOCKS = 1 << 16


def pack(key: bytes) -> bytes:
    """Raises ZkProofError for a key of more than 65,536 different blocks, or 64 MiB."""
    if not HEAD <= len(key) <= MAX_KEY:
        raise ZkProofError(f"expected a verification key of {HEAD} to {MAX_KEY} bytes, got {len(key)}")
    parts = [key[:HEAD], *(key[at : at + BLOCK] for at in range(HEAD, len(key), BLOCK))]
    places: dict[bytes, int] = {}
    used = [places.setdefault(part.ljust(BLOCK, b"\0"), len(places)) for part in parts]
    if len(places) > MAX_BLOCKS:
        raise ZkProofError(f"expected a verification key of {MAX_BLOCKS} different blocks at most, got {len(places)}")
    head = len(key).to_bytes(4, "little") + len(places).to_bytes(4, "little")
    return b"".join([head, *places, _shorts(used)])


def unpack(data: bytes) -> bytes:
    """The key. Raises ZkProofError for anything that :func:`pack` would not write."""
    size, count = int.from_bytes(data[:4], "little"), int.from_bytes(data[4:8], "little")
    start = 8 + BLOCK * count
    length = 1 - (HEAD - size) // BLOCK  # blocks that the key takes
    if not HEAD <= size <= MAX_KEY or not 1 <= count <= MAX_BLOCKS or len(data) != start + 2 * length:
        raise ZkProofError(f"expected a packed verification key, got {data[:8].hex()}…, {len(data)} bytes")
    used = array("H")
    used.frombytes(data[start:])
    if _BIG:
        used.byteswap()
    if max(used) >= count:
        raise ZkProofError(f"expected blocks below {count}, got {max(used)}")
    blocks = [data[at : at + BLOCK] for at in range(8, start, BLOCK)]
    key = b"".join([blocks[used[0]][:HEAD], *(blocks[place] for place in used[1:])])[:size]
    if pack(key) != data:
        raise ZkProofError("expected a verification key in its one packed form, got another")
    return key


_BIG = array("H", [1]).tobytes() != b"\1\0"


def _shorts(values: list[int]) -> bytes:
    made = array("H", values)
    if _BIG:
        made.byteswap()
    return made.tobytes()
