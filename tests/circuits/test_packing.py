"""Packed verification keys: the same bytes again, and one form only."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuits.errors import ZkProofError
from circuits.packing import pack, unpack
from tests.proving import hinge


@given(st.binary(min_size=7, max_size=400), st.integers(0, 40))
def test_a_key_survives(start: bytes, zeros: int) -> None:
    key = start + bytes(64 * zeros)
    assert unpack(pack(key)) == key


def test_a_genuine_key_becomes_much_smaller() -> None:
    key = hinge().keys.vk
    assert unpack(pack(key)) == key
    assert len(pack(key)) < len(key) / 3


@given(st.binary(max_size=300))
def test_random_bytes_unpack_to_what_packs_to_them_or_not_at_all(data: bytes) -> None:
    with contextlib.suppress(ZkProofError):
        assert pack(unpack(data)) == data


def test_other_forms_are_refused() -> None:
    packed = pack(bytes(7) + b"a" * 64 + b"b" * 64)  # three blocks: zeros, a, b
    swapped = packed[:8] + packed[72:136] + packed[8:72] + packed[136:-6] + bytes([1, 0, 0, 0, 2, 0])
    for data in (packed[:-1], packed + b"\0\0", swapped, b"", b"\xff" * 8, packed[:-1] + b"\1"):
        with pytest.raises(ZkProofError):
            unpack(data)
