"""The tensor root against an implementation written straight from its specification, and against pymerkle."""

import hashlib
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from certify.chunks import CHUNK, ByteSource, chunk_roots
from certify.digest import (
    Manifest,
    TensorDigest,
    TensorProof,
    TensorSource,
    diff,
    hash_tensors,
    prove_tensor,
    verify_tensor,
)
from certify.errors import DigestError
from ledger.merkle import EMPTY_ROOT

MIB = 1 << 20
EDGES = [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB, 9 * MIB + 5]


def naive_root(entries: list[bytes]) -> bytes:
    """RFC 6962, 2.1, as it is written there."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = 1
    while k * 2 < len(entries):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(entries[:k]) + naive_root(entries[k:])).digest()


def naive_tensor_root(tensors: dict[str, tuple[str, tuple[int, ...], bytes]]) -> bytes:
    """Tensor root v1 from SPEC.md, sharing no code with certify."""
    entries = []
    for name in sorted(tensors, key=lambda name: name.encode()):
        dtype, shape, data = tensors[name]
        chunks = naive_root([data[at : at + 1_048_576] for at in range(0, len(data), 1_048_576)])
        entry = b"unlearning-ledger/tensor/v1\0"
        entry += struct.pack(">I", len(name.encode())) + name.encode()
        entry += struct.pack(">I", len(dtype)) + dtype.encode("ascii")
        entry += struct.pack(">I", len(shape)) + b"".join(struct.pack(">Q", dim) for dim in shape)
        entries.append(entry + struct.pack(">Q", len(data)) + chunks)
    return naive_root(entries)


def pattern(size: int, seed: int = 1) -> bytes:
    return hashlib.shake_128(seed.to_bytes(4, "big")).digest(size)


def manifest_of(tensors: dict[str, tuple[str, tuple[int, ...], bytes]], threads: int | None = None) -> Manifest:
    return hash_tensors([TensorSource.of(name, *rest) for name, rest in tensors.items()], threads=threads)


names = st.text(st.characters(codec="utf-8"), max_size=12)
small_models = st.dictionaries(
    names, st.binary(max_size=40).map(lambda data: ("U8", (len(data),), data)), min_size=1, max_size=6
)
hashes = st.binary(min_size=32, max_size=32)
digests = st.builds(
    lambda name, shape, hash_: TensorDigest(name, "TORCH.uint4", tuple(shape), 7, hash_),
    names,
    st.lists(st.integers(0, 2**63 - 1), max_size=5),
    hashes,
)
manifests = st.lists(digests, min_size=1, max_size=5, unique_by=lambda tensor: tensor.name).map(Manifest.of)


@pytest.mark.parametrize("size", EDGES)
@pytest.mark.parametrize("threads", [1, 3])
def test_chunk_boundaries(size: int, threads: int) -> None:
    tensors = {"a": ("U8", (3,), b"abc"), "w": ("U8", (size,), pattern(size)), "z": ("U8", (0,), b"")}
    assert manifest_of(tensors, threads).root() == naive_tensor_root(tensors)


def test_chunk_trees_keep_their_order_on_many_threads() -> None:
    data = [pattern(size, seed) for seed, size in enumerate([5 * MIB, 1, 17 * MIB + 3, 0, 100, MIB, 8 * MIB, 8 * MIB])]
    expected = [naive_root([d[at : at + MIB] for at in range(0, len(d), MIB)]) for d in data]
    for threads in (1, 2, 7):
        assert chunk_roots([ByteSource.of(d) for d in data], threads=threads) == expected


@given(small_models)
def test_root_equals_naive_implementation(tensors: dict[str, tuple[str, tuple[int, ...], bytes]]) -> None:
    assert manifest_of(tensors).root() == naive_tensor_root(tensors)


@given(manifests)
def test_root_equals_pymerkle(manifest: Manifest) -> None:
    tree = InmemoryTree(algorithm="sha256")
    for tensor in manifest.tensors:
        tree.append_entry(tensor.entry())
    assert getattr(tree, "get_root", tree.get_state)() == manifest.root()  # renamed in pymerkle 7


@given(manifests)
def test_manifest_round_trip(manifest: Manifest) -> None:
    assert Manifest.parse(manifest.to_json()) == manifest
    assert Manifest.parse(manifest.to_json()).root() == manifest.root()


@given(manifests, st.data())
def test_proof_round_trip(manifest: Manifest, data: st.DataObject) -> None:
    tensor = data.draw(st.sampled_from(manifest.tensors))
    proof = TensorProof.parse(prove_tensor(manifest, tensor.name).to_json())
    assert verify_tensor(proof, manifest.root()) == tensor


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_parsers_raise_only_their_error(data: bytes) -> None:
    for parse in (Manifest.parse, TensorProof.parse):
        with pytest.raises(DigestError):
            parse(data)


@given(manifests, st.data())
def test_mutated_manifest_is_refused_or_has_another_root(manifest: Manifest, data: st.DataObject) -> None:
    text = bytearray(manifest.to_json())
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed = Manifest.parse(bytes(text))
    except DigestError:
        return
    assert parsed == manifest or parsed.root() != manifest.root()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"nbytes":"8"', b'"nbytes":8', "not the expected JSON"),
        (b'"nbytes":"8"', b'"nbytes":"08"', "decimal"),
        (b'"nbytes":"8"', b'"nbytes":"9"', "expected 8"),
        (b'"nbytes":"8"', b'"more":"1","nbytes":"8"', "not the expected JSON"),
        (b'"name"', b' "name"', "canonical"),
        (b'"F32"', b'"F31"', "dtype"),
        (b"tensors/v1", b"tensors/v2", "expected 'unlearning-ledger/tensors/v1'"),
        (b'"shape":["2"]', b'"shape":["2","-1"]', "decimal"),
        (b'"shape":["2"]', b'"shape":["9223372036854775808"]', "less than"),
    ],
)
def test_manifest_parses_strictly(old: bytes, new: bytes, message: str) -> None:
    text = manifest_of({"w": ("F32", (2,), bytes(8))}).to_json()
    assert old in text
    with pytest.raises(DigestError, match=message):
        Manifest.parse(text.replace(old, new))


def test_manifest_refuses_wrong_order_duplicates_and_nothing() -> None:
    a, b = (TensorDigest(name, "U8", (0,), 0, EMPTY_ROOT) for name in "ab")
    with pytest.raises(DigestError, match="byte order"):
        Manifest((b, a))
    with pytest.raises(DigestError, match="unique"):
        Manifest((a, a))
    with pytest.raises(DigestError, match="at least one"):
        Manifest(())
    with pytest.raises(DigestError, match="at least one"):
        hash_tensors([])


def test_names_sort_by_utf8_bytes_not_utf16() -> None:
    low, high = "\uffff", "\U00010000"  # UTF-16 would put them the other way round
    manifest = manifest_of({high: ("U8", (0,), b""), low: ("U8", (0,), b"")})
    assert [tensor.name for tensor in manifest.tensors] == [low, high]
    assert Manifest.parse(manifest.to_json()) == manifest


def test_bytes_must_fit_dtype_and_shape() -> None:
    with pytest.raises(DigestError, match=r"has 8 bytes, expected 12 for F32 \[3\]"):
        manifest_of({"w": ("F32", (3,), bytes(8))})
    with pytest.raises(DigestError, match="whole bytes"):
        manifest_of({"w": ("F4", (3,), bytes(2))})
    with pytest.raises(DigestError, match="dtype"):
        manifest_of({"w": ("float32", (2,), bytes(8))})
    with pytest.raises(DigestError, match="UTF-8"):
        manifest_of({"\ud800": ("U8", (0,), b"")})
    with pytest.raises(DigestError, match="empty root"):
        TensorDigest("w", "U8", (0,), 0, bytes(32))


def test_diff_names_what_changed() -> None:
    pre = manifest_of({"a": ("U8", (1,), b"1"), "b": ("U8", (1,), b"1"), "c": ("U8", (1,), b"1")})
    post = manifest_of({"b": ("U8", (1,), b"2"), "c": ("U8", (1,), b"1"), "d": ("U8", (1,), b"1")})
    changes = diff(pre, post)
    assert (changes.changed, changes.unchanged) == (("b",), ("c",))
    assert (changes.added, changes.removed) == (("d",), ("a",))


def test_proof_of_a_tensor_that_is_not_there() -> None:
    with pytest.raises(DigestError, match="no tensor is called 'x' among 1"):
        prove_tensor(manifest_of({"w": ("U8", (1,), b"1")}), "x")


def test_progress_ends_at_all_bytes_and_never_goes_back() -> None:
    seen: list[int] = []
    data = bytes(30 * MIB)
    source = TensorSource.of("a", "U8", (len(data),), data)
    tied = TensorSource("b", "U8", (len(data),), source.data, "same")
    also = TensorSource("c", "U8", (len(data),), source.data, "same")
    manifest = hash_tensors([source, tied, also], progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == manifest.nbytes == 3 * len(data)
    assert len(seen) > 4


def test_shared_content_is_read_once() -> None:
    reads: list[tuple[int, int]] = []

    def read(lo: int, hi: int) -> bytes:
        reads.append((lo, hi))
        return b"12345678"[lo:hi]

    sources = [TensorSource(name, "U8", (8,), ByteSource(8, read), "same") for name in "ab"]
    assert hash_tensors(sources).root() == naive_tensor_root(dict.fromkeys("ab", ("U8", (8,), b"12345678")))
    assert reads == [(0, 8)]


def test_a_source_that_gives_too_little_or_fails_stops_everything() -> None:
    with pytest.raises(DigestError, match="expected 8 bytes at 0, 3 came"):
        hash_tensors([TensorSource("w", "U8", (8,), ByteSource(8, lambda lo, hi: b"123"))])

    def fail(lo: int, hi: int) -> bytes:
        raise OSError("gone")

    big = TensorSource("w", "U8", (64 * MIB,), ByteSource(64 * MIB, fail))
    with pytest.raises(OSError, match="gone"):
        hash_tensors([big], threads=4)


def test_few_pieces_are_alive_at_once() -> None:
    """Reading runs on the threads, so what has been read but not hashed is bounded by their number."""
    import threading

    lock, alive, most = threading.Lock(), 0, 0

    class Piece(bytearray):
        def __del__(self) -> None:
            nonlocal alive
            with lock:
                alive -= 1

    def read(lo: int, hi: int) -> bytearray:
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        return Piece(hi - lo)

    sources = [TensorSource(f"w{i}", "U8", (40 * MIB,), ByteSource(40 * MIB, read, piece=CHUNK)) for i in range(2)]
    hash_tensors(sources, threads=2)
    assert most <= 4


def test_ten_thousand_small_tensors_take_well_under_a_second() -> None:
    sources = [TensorSource.of(f"layer.{i}", "F32", (256,), bytes(1024)) for i in range(10_000)]
    start = time.perf_counter()
    hash_tensors(sources, threads=2).root()
    assert time.perf_counter() - start < 1
