"""Layers that an operator reveals, so that a verifier computes an update again: tensors as attachments, tied to the manifests.

A tensor's bytes are row-major and little-endian, as the tensor root has them; ``F32`` and ``F64`` can be computed with.
"""

import math
import struct

from certify.digest import TensorDigest, TensorSource, hash_tensors
from certify.errors import ChainError, DigestError


def same(stated: TensorDigest, data: bytes, *, index: int, when: str) -> None:
    """That ``data`` is the tensor which a manifest states. Raises ChainError."""
    try:
        found = hash_tensors([TensorSource.of(stated.name, stated.dtype, stated.shape, data)], threads=1).tensors[0]
    except DigestError as error:
        raise ChainError(f"entry {index} reveals something else than {stated.name}: {error}") from error
    if found != stated:
        raise ChainError(f"entry {index}: what it reveals is not {stated.name} as the model {when} has it")


def rows(stated: TensorDigest, data: bytes) -> list[bytes]:
    """The bytes of each index of the first dimension. Raises ChainError where there is none."""
    if not stated.shape:
        raise ChainError(f"{stated.name} is a single number, expected a tensor with rows")
    count = stated.shape[0]
    size = len(data) // count if count else 0
    return [data[row * size : (row + 1) * size] for row in range(count)]


def values(stated: TensorDigest, data: bytes, *, index: int) -> list[tuple[float, ...]]:
    """The rows as numbers. Raises ChainError for a type that cannot be computed with."""
    form = {"F32": "f", "F64": "d"}.get(stated.dtype)
    if form is None:
        raise ChainError(f"entry {index} reveals {stated.name} in {stated.dtype}, expected F32 or F64")
    found = [struct.unpack(f"<{len(row) // struct.calcsize(form)}{form}", row) for row in rows(stated, data)]
    if not all(math.isfinite(number) for row in found for number in row):
        raise ChainError(f"entry {index} reveals {stated.name} with numbers that are none or infinite")
    return found
