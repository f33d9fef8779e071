"""Randomness that follows from a plan's seed and a label, so that nobody can choose it later.

    SHA-256("unlearning-ledger/audit/v1\\0" ‖ seed ‖ "\\0" ‖ label) -> 256 bits

>>> seed_of("7", "shadow/0") == seed_of("7", "shadow/1")
False
"""

from hashlib import sha256

import numpy as np

_DOMAIN = b"unlearning-ledger/audit/v1\0"


def digest(seed: str, label: str) -> bytes:
    """32 bytes that depend on both. No seed holds a NUL, so that the two cannot run into one another."""
    if "\0" in seed:
        raise ValueError("expected a seed without NUL characters")
    return sha256(_DOMAIN + seed.encode() + b"\0" + label.encode()).digest()


def seed_of(seed: str, label: str) -> int:
    """63 bits, which every generator takes."""
    return int.from_bytes(digest(seed, label)[:8], "big") >> 1


def generator(seed: str, label: str) -> np.random.Generator:
    """A numpy generator (PCG64) seeded with all 256 bits."""
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest(seed, label), "big")))
