"""Trees and proofs against vectors, a naive reference and two other implementations."""

import hashlib
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import ProofError
from ledger.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_ranges,
    inclusion_path,
    inclusion_ranges,
    leaf_hash,
    node_hash,
    range_root,
    root,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [leaf_hash(b"entry %d" % i) for i in range(301)]
sizes = st.integers(1, 300)


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH as RFC 6962, 2.1 spells it."""
    n = len(leaves)
    if n == 0:
        return hashlib.sha256(b"").digest()
    if n == 1:
        return leaves[0]
    k = max(1 << i for i in range(n.bit_length()) if 1 << i < n)
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962, 2.1.1."""
    n = len(leaves)
    if n == 1:
        return []
    k = max(1 << i for i in range(n.bit_length()) if 1 << i < n)
    if index < k:
        return [*naive_path(index, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(index - k, leaves[k:]), naive_root(leaves[:k])]


def naive_proof(m: int, leaves: list[bytes], whole: bool = True) -> list[bytes]:
    """SUBPROOF of RFC 6962, 2.1.2."""
    n = len(leaves)
    if m == n:
        return [] if whole else [naive_root(leaves)]
    k = max(1 << i for i in range(n.bit_length()) if 1 << i < n)
    if m <= k:
        return [*naive_proof(m, leaves[:k], whole), naive_root(leaves[k:])]
    return [*naive_proof(m - k, leaves[k:], False), naive_root(leaves[:k])]


def outcome(verify: Callable[[], None]) -> bool:
    """Whether a proof is refused."""
    try:
        verify()
    except ProofError:
        return True
    return False


def decode(case: dict[str, Any], *names: str) -> list[bytes]:
    return [b64decode(case[name] or "") for name in names]


def test_inclusion_vectors(vectors: Callable[[str], Any]) -> None:
    cases = vectors("merkle_inclusion")
    assert len(cases) == 98
    for case in cases:
        tree, leaf = decode(case, "root", "leafHash")
        path = [b64decode(hash_) for hash_ in case["proof"] or ()]
        index, size = case["leafIdx"], case["treeSize"]
        refused = outcome(lambda: verify_inclusion(root=tree, size=size, index=index, leaf=leaf, path=path))  # noqa: B023
        assert refused == case["wantErr"], case["case"]


def test_consistency_vectors(vectors: Callable[[str], Any]) -> None:
    cases = vectors("merkle_consistency")
    assert len(cases) == 98
    for case in cases:
        old, new = decode(case, "root1", "root2")
        path = [b64decode(hash_) for hash_ in case["proof"] or ()]
        sizes = {"old_size": case["size1"], "size": case["size2"]}
        refused = outcome(lambda: verify_consistency(old_root=old, root=new, path=path, **sizes))  # noqa: B023
        assert refused == case["wantErr"], case["case"]


@given(sizes, st.data())
def test_inclusion_path_is_the_one_of_the_rfc(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    leaves = LEAVES[:size]
    path = inclusion_path(leaves, index)
    assert root(leaves) == naive_root(leaves)
    assert path == naive_path(index, leaves)
    verify_inclusion(root=root(leaves), size=size, index=index, leaf=leaves[index], path=path)


@given(sizes, st.data())
def test_consistency_path_is_the_one_of_the_rfc(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, size))
    leaves = LEAVES[:size]
    path = [range_root(leaves, lo, hi) for lo, hi in consistency_ranges(old, size)]
    assert path == naive_proof(old, leaves)
    verify_consistency(old_size=old, old_root=root(leaves[:old]), size=size, root=root(leaves), path=path)


@given(sizes, st.data())
def test_changed_inclusion_proof_is_refused(size: int, data: st.DataObject) -> None:
    """One change anywhere, to index, size, leaf, root or path."""
    index = data.draw(st.integers(0, size - 1))
    leaves = LEAVES[:size]
    good: dict[str, Any] = {
        "root": root(leaves), "size": size, "index": index, "leaf": leaves[index], "path": inclusion_path(leaves, index),
    }  # fmt: skip
    what = data.draw(st.sampled_from(sorted(good)))
    match what:
        case "index":
            good["index"] = data.draw(st.integers(-1, 2 * size).filter(lambda i: i != index))
        case "size":  # a size with the same path to the root proves the same thing, and the root's size is signed
            shape = [lo > index for lo, _ in inclusion_ranges(index, size)]
            other = data.draw(st.integers(index + 1, 600))
            if [lo > index for lo, _ in inclusion_ranges(index, other)] == shape:
                return
            good["size"] = other
        case "path":
            path = good["path"]
            where = data.draw(st.integers(0, len(path)))
            change = data.draw(st.sampled_from(["insert", "delete", "replace", "shorten"]))
            if change == "insert":
                path.insert(where, LEAVES[300])
            elif where == len(path):
                return
            elif change == "delete":
                del path[where]
            else:
                path[where] = LEAVES[300] if change == "replace" else path[where][:-1]
        case _:
            good[what] = data.draw(st.sampled_from([b"", LEAVES[300], good[what][:31], good[what] + b"\0"]))
    with pytest.raises(ProofError):
        verify_inclusion(**good)


@given(sizes, sizes)
def test_fork_is_refused(old: int, more: int) -> None:
    """No proof of the honest tree makes a tree with one other old entry its prefix."""
    size = min(old + more, 300)
    leaves = LEAVES[:size]
    forked = [LEAVES[300], *leaves[1:old]]
    path = [range_root(leaves, lo, hi) for lo, hi in consistency_ranges(old, size)]
    with pytest.raises(ProofError):
        verify_consistency(old_size=old, old_root=root(forked), size=size, root=root(leaves), path=path)


def test_old_size_zero_is_refused() -> None:
    with pytest.raises(ProofError, match="size 0"):
        verify_consistency(old_size=0, old_root=EMPTY_ROOT, size=1, root=LEAVES[0], path=[])


def test_inner_node_is_no_leaf() -> None:
    """An entry that spells two hashes does not hash to their parent."""
    left, right = LEAVES[:2]
    assert leaf_hash(left + right) != node_hash(left, right)


@given(st.integers(0, 700), st.integers(0, 700))
def test_extend_is_many_appends(size: int, more: int) -> None:
    leaves = [i.to_bytes(32, "big") for i in range(size + more)]
    one, many = Frontier(), Frontier()
    heard: list[tuple[int, int, bytes]] = []
    for leaf in leaves[:size]:
        one.append(leaf)
    for leaf in leaves[size:]:
        one.append(leaf, lambda *what: heard.append(what))
    many.extend(leaves[:size])
    runs = many.extend(leaves[size:])
    assert (many.size, many.nodes) == (one.size, one.nodes)
    assert sorted((level, first + i, hash_) for level, first, run in runs for i, hash_ in enumerate(run)) == sorted(
        heard
    )


def test_extend_hears_of_tiles_of_level_2() -> None:
    frontier = Frontier()
    frontier.extend([bytes(32)] * 65_535)
    runs = frontier.extend([bytes(32)] * 2)
    assert [(level, first, len(run)) for level, first, run in runs] == [(8, 255, 1), (16, 0, 1)]


def test_pymerkle_agrees() -> None:
    pymerkle = pytest.importorskip("pymerkle")
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    for size in range(1, 301):
        tree.append_entry(b"entry %d" % (size - 1))
        leaves = LEAVES[:size]
        assert bytes(tree.get_root()) == root(leaves)
        for index in {0, size // 3, size - 1}:
            assert list(tree.prove_inclusion(index + 1).path[1:]) == inclusion_path(leaves, index)


def test_merkletools_agrees() -> None:
    """It hashes inner nodes without a prefix: with 0x01 before each, its roots and proofs are those of RFC 6962."""
    merkletools = pytest.importorskip("merkletools")
    tools = merkletools.MerkleTools()
    tools.hash_function = lambda data: hashlib.sha256(b"\x01" + data)
    for size in range(1, 301):
        tools.add_leaf(LEAVES[size - 1].hex())
        if size % 7 and size & (size - 1):
            continue
        tools.make_tree()
        leaves = LEAVES[:size]
        assert tools.get_merkle_root() == root(leaves).hex()
        for index in {0, size // 3, size - 1}:
            path = [next(iter(step.values())) for step in tools.get_proof(index)]
            assert path == [hash_.hex() for hash_ in inclusion_path(leaves, index)]
