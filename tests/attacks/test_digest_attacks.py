"""Attacks on the digests of weights and records: each must change the root or be refused."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from certify.dataset import commit, commit_record, open_record, verify_opening
from certify.digest import Manifest, TensorDigest, TensorProof, TensorSource, hash_tensors, prove_tensor, verify_tensor
from certify.errors import DatasetError, DigestError
from certify.safetensors import digest_weights, open_tensors
from ledger.merkle import leaf_hash, node_hash

MIB = 1 << 20
Tensors = dict[str, tuple[str, tuple[int, ...], bytes]]

MODEL: Tensors = {
    "a.bias": ("F16", (4,), bytes(range(8))),
    "a.weight": ("F16", (2, 4), bytes(range(16))),
    "b.weight": ("F16", (2, 4), bytes(range(16, 32))),
}


def manifest_of(tensors: Tensors) -> Manifest:
    return hash_tensors(TensorSource.of(name, *rest) for name, rest in tensors.items())


def root_of(tensors: Tensors) -> bytes:
    return manifest_of(tensors).root()


def without(name: str) -> Tensors:
    return {other: rest for other, rest in MODEL.items() if other != name}


def transposed(data: bytes) -> bytes:
    cells = [data[at : at + 2] for at in range(0, 16, 2)]  # 2 x 4 of two bytes
    return b"".join(cells[row * 4 + column] for column in range(4) for row in range(2))


def build(path: Path, header: Any, data: bytes = b"", *, length: int | None = None) -> Path:
    text = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(lo: int, hi: int, dtype: str = "U8") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [hi - lo], "data_offsets": [lo, hi]}


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param({**without("a.bias"), "a.bia5": MODEL["a.bias"]}, id="tensor renamed"),
        pytest.param({**MODEL, "a.bias": ("BF16", *MODEL["a.bias"][1:])}, id="dtype swapped, same bytes"),
        pytest.param({**MODEL, "a.weight": ("F16", (4, 2), MODEL["a.weight"][2])}, id="reshaped"),
        pytest.param({**MODEL, "a.weight": ("F16", (8,), MODEL["a.weight"][2])}, id="flattened"),
        pytest.param({**MODEL, "a.weight": ("F16", (1, 2, 4), MODEL["a.weight"][2])}, id="dimension added"),
        pytest.param(
            {**MODEL, "a.weight": MODEL["b.weight"], "b.weight": MODEL["a.weight"]}, id="two contents swapped"
        ),
        pytest.param(
            {**MODEL, "a.weight": ("F16", (4, 2), transposed(MODEL["a.weight"][2]))}, id="transposed with its shape"
        ),
        pytest.param({**MODEL, "a.weight": ("F16", (2, 4), transposed(MODEL["a.weight"][2]))}, id="transposed alone"),
        pytest.param(without("b.weight"), id="tensor left out"),
        pytest.param({**MODEL, "c": ("F16", (0,), b"")}, id="empty tensor added"),
    ],
)
def test_another_model_has_another_root(forged: Tensors) -> None:
    assert root_of(forged) != root_of(MODEL)


def test_boundary_moved_between_two_tensors() -> None:
    data = bytes(range(10))
    first = {"x": ("U8", (4,), data[:4]), "y": ("U8", (6,), data[4:])}
    second = {"x": ("U8", (5,), data[:5]), "y": ("U8", (5,), data[5:])}
    assert root_of(first) != root_of(second)


def test_boundary_moved_between_name_and_dtype() -> None:
    """Length prefixes keep fields apart: no two different tensors encode to the same entry."""
    chunks = leaf_hash(b"1234")
    one = TensorDigest("wx", "TORCH.b", (), 4, chunks)
    assert one.entry().count(b"wx\0\0\0\x07TORCH.b\0\0\0\0") == 1
    with pytest.raises(DigestError, match="has dtype 'xTORCH"):
        TensorDigest("w", "xTORCH.b", (), 4, chunks)
    assert TensorDigest("w", "TORCH.b", (4,), 4, chunks).entry() != TensorDigest("w", "TORCH.b", (), 4, chunks).entry()


def test_content_of_one_chunk_that_is_the_nodes_of_two() -> None:
    """Second preimage: leaves and nodes are hashed apart, so the hashes of two chunks are not a chunk."""
    two = bytes(MIB) + b"x" * MIB
    nodes = leaf_hash(two[:MIB]) + leaf_hash(two[MIB:])
    real = manifest_of({"w": ("U8", (2 * MIB,), two)}).tensors[0]
    fake = manifest_of({"w": ("U8", (64,), nodes)}).tensors[0]
    prefixed = manifest_of({"w": ("U8", (65,), b"\x01" + nodes)}).tensors[0]
    assert len({real.chunks, fake.chunks, prefixed.chunks}) == 3
    assert real.chunks == node_hash(nodes[:32], nodes[32:])


def test_inner_node_passed_off_as_a_tensor() -> None:
    manifest = manifest_of(MODEL)
    proof = prove_tensor(manifest, "b.weight")
    with pytest.raises(DigestError, match="leads to root"):
        verify_tensor(TensorProof(proof.tensor, 0, 2, proof.path), node_hash(*manifest.leaves()[:2]))
    with pytest.raises(DigestError, match="expected"):
        verify_tensor(TensorProof(proof.tensor, proof.index, proof.size, (*proof.path, bytes(32))), manifest.root())


def test_proof_moved_to_another_place_or_tensor() -> None:
    manifest = manifest_of(MODEL)
    proof = prove_tensor(manifest, "a.bias")
    assert verify_tensor(proof, manifest.root()) == manifest.tensors[0]
    for forged in (
        TensorProof(proof.tensor, 1, proof.size, proof.path),
        TensorProof(manifest.tensors[1], 0, proof.size, proof.path),
        TensorProof(proof.tensor, 0, proof.size, proof.path[::-1]),
        TensorProof(TensorDigest("a.bias", "BF16", (4,), 8, proof.tensor.chunks), 0, proof.size, proof.path),
    ):
        with pytest.raises(DigestError, match="leads to root"):
            verify_tensor(forged, manifest.root())
    with pytest.raises(DigestError, match="leads to root"):
        verify_tensor(proof, bytes(32))


def test_alias_metadata_cannot_replace_hide_or_escape_a_tensor(tmp_path: Path) -> None:
    tensors = {"evil": entry(0, 1), "real": entry(1, 2)}
    path = tmp_path / "m.safetensors"
    plain = digest_weights(build(path, tensors, b"er"))
    # An alias never stands in for a tensor that is there...
    for metadata in ({"real": "evil"}, {"format": "evil"}, {"note": "not a tensor"}, {"chain": "head", "x": "chain"}):
        assert digest_weights(build(path, {"__metadata__": metadata, **tensors}, b"er")) == plain
    # ... and where it adds a name, the root says so, as if the copy had been stored.
    aliased = digest_weights(build(path, {"__metadata__": {"author": "evil"}, **tensors}, b"er"))
    stored = digest_weights(build(path, {**tensors, "author": entry(2, 3)}, b"ere"))
    assert aliased == stored != plain


def test_alias_cannot_point_into_another_file(tmp_path: Path) -> None:
    build(tmp_path / "a.safetensors", {"w": entry(0, 1)}, b"a")
    build(tmp_path / "b.safetensors", {"__metadata__": {"head": "w"}, "v": entry(0, 1)}, b"b")
    assert [tensor.name for tensor in digest_weights(tmp_path).tensors] == ["v", "w"]
    build(tmp_path / "b.safetensors", {"__metadata__": {"w": "v"}, "v": entry(0, 1)}, b"b")
    with pytest.raises(DigestError, match="'w' is there already"):
        digest_weights(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        '{"w":ENTRY,"w":ENTRY}',
        '{"w":{"dtype":"U8","dtype":"I8","shape":[4],"data_offsets":[0,4]}}',
        '{"__metadata__":{"a":"1","a":"2"},"w":ENTRY}',
        '{"__metadata__":{},"__metadata__":{},"w":ENTRY}',
    ],
)
def test_header_with_a_key_twice(tmp_path: Path, header: str) -> None:
    """Two readers could disagree on which of them counts."""
    with pytest.raises(DigestError, match="comes twice, expected once"):
        digest_weights(build(tmp_path / "m.safetensors", header.replace("ENTRY", json.dumps(entry(0, 4))), b"1234"))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"x": entry(0, 4), "y": entry(2, 6)}, "an overlap before 'y'"),
        ({"x": entry(0, 6), "y": entry(0, 6)}, "an overlap before 'y'"),
        ({"x": entry(0, 6), "y": entry(2, 2)}, "an overlap before 'y'"),
        ({"x": entry(0, 2), "y": entry(4, 6)}, "a hole before 'y'"),
        ({"x": entry(0, 5)}, "expected 5 bytes of tensors after the header, 6 are there"),
        ({"x": entry(0, 60)}, "expected 60 bytes of tensors after the header, 6 are there"),
    ],
)
def test_bytes_shared_hidden_or_missing(tmp_path: Path, header: dict[str, Any], message: str) -> None:
    with pytest.raises(DigestError, match=message):
        digest_weights(build(tmp_path / "m.safetensors", header, b"123456"))


@pytest.mark.parametrize("length", [100_000_001, 2**63, 2**64 - 1, 3])
def test_header_length_bomb(tmp_path: Path, length: int) -> None:
    """Refused by its length alone; nothing of that size is read or allocated."""
    path = tmp_path / "m.safetensors"
    build(path, "{}", length=length)
    with pytest.raises(DigestError, match=f"claims {length} bytes, expected at most 2"):
        digest_weights(path)
    with path.open("r+b") as file:
        file.truncate(200_000_000)  # sparse
    with pytest.raises(DigestError, match="expected at most 100000000" if length > 3 else "not JSON"):
        digest_weights(path)


@pytest.mark.parametrize(
    "name",
    [
        "../secret.safetensors",
        "/etc/secret.safetensors",
        "a/b.safetensors",
        "..\\s.safetensors",
        "C:s.safetensors",
        "..",
    ],
)
def test_index_that_points_outside_its_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    build(tmp_path / "secret.safetensors", {"w": entry(0, 1)}, b"s")
    (folder / "m.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(DigestError, match=r"expected a plain \.safetensors name"):
        digest_weights(folder)


def test_index_that_hides_a_tensor_of_a_shard(tmp_path: Path) -> None:
    build(tmp_path / "m.safetensors", {"backdoor": entry(0, 1), "w": entry(1, 2)}, b"bw")
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "m.safetensors"}}))
    with pytest.raises(DigestError, match="holds 'backdoor', which the index does not list"):
        digest_weights(tmp_path)


def test_file_truncated_before_and_while_it_is_hashed(tmp_path: Path) -> None:
    data = bytes(6 * MIB)
    path = build(tmp_path / "m.safetensors", {"w": entry(0, len(data))}, data)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size - 1)
    with pytest.raises(DigestError, match="after the header"):
        digest_weights(path)
    for mapped in (True, False):
        build(path, {"w": entry(0, len(data))}, data)
        with pytest.raises(DigestError, match="while it was hashed"), open_tensors(path, mapped=mapped) as sources:
            os.truncate(path, size // 2)
            hash_tensors(sources)


def test_weights_swapped_back_after_hashing_began(tmp_path: Path) -> None:
    """Hash one file, ship another: the file must be the one that was opened, and unchanged."""
    path = build(tmp_path / "m.safetensors", {"w": entry(0, 4)}, b"good")
    other = build(tmp_path / "other", {"w": entry(0, 4)}, b"evil")
    stat = path.stat()
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(DigestError, match="changed while it was hashed"), open_tensors(path) as sources:
        hash_tensors(sources)
        other.replace(path)


GUESSES = [f"name: {name}".encode() for name in ("Ada", "Alan", "Grace", "Kurt")]


def test_dictionary_attack_on_a_record() -> None:
    """A bare hash of a record tells anyone who can guess it; the commitment tells nobody without the salt."""
    record = GUESSES[2]
    bare = hashlib.sha256(record).digest()
    assert [guess for guess in GUESSES if hashlib.sha256(guess).digest() == bare] == [record]

    commitments = commit([record])
    public = {commitments.leaves, commitments.root()}
    for guess in GUESSES:
        tries = [
            hashlib.sha256(guess).digest(),
            commit_record(guess, bytes(32)),
            hashlib.sha256(bytes(32) + guess).digest(),
        ]
        assert public.isdisjoint(tries) and public.isdisjoint(leaf_hash(found) for found in tries)
    assert commit([record]).root() != commitments.root()  # nor does the same record twice look the same
    assert leaf_hash(commit_record(record, commitments.salts)) in public  # with the salt, it is what it was


def test_same_record_twice_in_a_dataset_looks_different() -> None:
    leaves = commit([b"same", b"same"]).leaves
    assert leaves[:32] != leaves[32:]


def test_opening_of_another_record_place_or_dataset() -> None:
    records = [b"a", b"b", b"c", b"d", b"e"]
    commitments = commit(records)
    opening = open_record(commitments, 1)
    verify_opening(opening, b"b", commitments.root(), count=5)
    attacks = [
        (opening, b"a", commitments.root()),
        (open_record(commitments, 0), b"b", commitments.root()),
        (opening, b"b", commit(records).root()),
        (type(opening)(bytes(32), 1, 5, opening.path), b"b", commitments.root()),
        (type(opening)(opening.salt, 0, 5, opening.path), b"b", commitments.root()),
    ]
    for forged, record, root in attacks:
        with pytest.raises(DatasetError, match="leads to dataset root"):
            verify_opening(forged, record, root)


def test_inner_node_of_the_dataset_passed_off_as_a_record() -> None:
    """A record cannot be found whose commitment is two leaves: entries are hashed once more, under their own prefix."""
    commitments = commit([b"a", b"b"])
    nodes = commitments.leaves
    opening = open_record(commitments, 0)
    with pytest.raises(DatasetError, match="leads to dataset root"):
        verify_opening(type(opening)(opening.salt, 0, 1, ()), nodes, commitments.root())


def test_salt_and_record_cannot_trade_bytes() -> None:
    salt = bytes(31) + b"x"
    assert commit_record(b"yz", salt) != commit_record(b"xyz"[1:], bytes(32))
    with pytest.raises(DatasetError, match="salt has 31 bytes"):
        commit_record(b"xyz", bytes(31))
