"""Fork proofs: a log that forked is caught by anybody, one that only ever appended can never be accused."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoint import Checkpoint
from ledger.errors import LedgerError, MalformedError, ProofError, SignatureError
from ledger.fork import ForkProof, compare, prefix_edge
from ledger.log_key import LogKey
from ledger.merkle import Range, consistency_ranges, fold, leaf_hash, range_root, root
from tests.ledger.test_go import Judge, judge

__all__ = ["judge"]  # the fixture

KEY = LogKey.generate("example.com/log")
KEYS = KEY.verifier_keys


def leaves_of(entries: list[bytes]) -> list[bytes]:
    return [leaf_hash(entry) for entry in entries]


def history(size: int, name: str = "entry") -> list[bytes]:
    return leaves_of([f"{name} {i}".encode() for i in range(size)])


def note(leaves: list[bytes], key: LogKey = KEY) -> bytes:
    return key.sign(Checkpoint(key.name, len(leaves), root(leaves)), 1)


def reads(leaves: list[bytes]):  # type: ignore[no-untyped-def]
    def read(span: Range) -> bytes:
        return range_root(leaves, *span)

    return read


def made(smaller: list[bytes], larger: list[bytes]) -> ForkProof | None:
    return compare(note(smaller), note(larger), reads(larger), log_keys=KEYS)


def forked(size: int, larger_size: int, changed: int) -> tuple[list[bytes], list[bytes]]:
    """Two histories that differ in entry ``changed``."""
    smaller, larger = history(size), history(larger_size)
    larger[changed] = leaf_hash(b"another")
    return smaller, larger


@pytest.mark.parametrize(
    ("size", "larger"), [(1, 1), (1, 2), (5, 5), (4, 9), (8, 9), (7, 8), (6, 300), (256, 700), (257, 258)]
)
def test_a_fork_is_proven_to_whoever_has_the_logs_key(size: int, larger: int) -> None:
    for changed in {0, size // 2, size - 1}:
        proof = made(*forked(size, larger, changed))
        assert proof is not None
        read = ForkProof.parse(proof.format())
        assert read == proof
        fork = read.verify(KEYS)
        assert (fork.smaller.size, fork.larger.size) == (size, larger)
        assert KEY.name in fork.describe()


def test_the_proof_of_a_fork_at_one_size_needs_no_hashes() -> None:
    a, b = note(history(5)), note(history(5, "other"))
    proof = ForkProof(root(history(5, "other")), (), a, b)
    assert proof.verify(KEYS).smaller.size == 5


@given(st.integers(0, 80), st.integers(0, 80))
def test_no_two_honest_checkpoints_are_found_to_be_a_fork(a: int, b: int) -> None:
    small, large = sorted((a, b))
    assert made(history(small), history(large)) is None


HASHES = st.lists(st.binary(min_size=32, max_size=32), max_size=8)


@given(st.data())
def test_no_honest_pair_of_checkpoints_makes_a_fork_proof_whatever_hashes_come_with_it(data: st.DataObject) -> None:
    """The accuser may pick any two checkpoints of an honest log in any order, any root, and any hashes, real ones above all."""
    leaves = history(data.draw(st.integers(1, 70)))
    sizes = [data.draw(st.integers(0, len(leaves))) for _ in range(2)]
    spans = st.tuples(st.integers(0, len(leaves)), st.integers(0, len(leaves))).map(lambda span: tuple(sorted(span)))
    real = spans.filter(lambda span: span[0] < span[1]).map(lambda span: range_root(leaves, *span))
    any_hash = real | st.binary(min_size=32, max_size=32)
    claimed = data.draw(any_hash)
    path = list(data.draw(st.lists(any_hash, max_size=8)))
    small, large = sorted(sizes)
    if data.draw(st.booleans()) and small > 0:  # the honest path, perhaps with a hash replaced
        path = [range_root(leaves, *span) for span in consistency_ranges(small, large)]
        if path and data.draw(st.sampled_from([False, True])):
            path[data.draw(st.integers(0, len(path) - 1))] = data.draw(any_hash)
    proof = ForkProof(claimed, tuple(path), note(leaves[: sizes[0]]), note(leaves[: sizes[1]]))
    with pytest.raises(ProofError):
        proof.verify(KEYS)


def test_the_empty_log_is_no_fork_of_anything() -> None:
    proof = ForkProof(root([]), (), note([]), note(history(3)))
    with pytest.raises(ProofError, match="no consistency proof from size 0"):
        proof.verify(KEYS)
    assert made([], history(3)) is None


def test_nobody_is_accused_with_a_checkpoint_that_the_log_did_not_sign() -> None:
    other = LogKey.generate(KEY.name)
    smaller, larger = forked(5, 9, 2)
    proof = made(smaller, larger)
    assert proof is not None
    for forged in (
        ForkProof(proof.root, proof.path, note(smaller, other), proof.larger),
        ForkProof(proof.root, proof.path, proof.smaller, note(larger, other)),
    ):
        with pytest.raises(SignatureError):
            forged.verify(KEYS)
    with pytest.raises(SignatureError):
        proof.verify(other.verifier_keys)
    with pytest.raises(SignatureError):
        proof.verify(KEYS, "example.com/another")


def test_a_log_with_two_keys_has_to_have_signed_with_both() -> None:
    key = LogKey.generate("example.com/both", post_quantum=True)
    smaller, larger = forked(5, 9, 2)
    proof = compare(note(smaller, key), note(larger, key), reads(larger), log_keys=key.verifier_keys)
    assert proof is not None
    proof.verify(key.verifier_keys)
    stripped = proof.larger.splitlines(keepends=True)
    short = ForkProof(proof.root, proof.path, proof.smaller, b"".join(stripped[:-1]))
    with pytest.raises(SignatureError):
        short.verify(key.verifier_keys)


def test_hashes_that_lead_elsewhere_show_nothing_either_way() -> None:
    smaller, larger = forked(5, 9, 2)
    with pytest.raises(ProofError):
        compare(note(smaller), note(larger), reads(history(9, "lies")), log_keys=KEYS)


def mutations(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    return [
        b"",
        data[:-1],
        data + b"\n",
        data + data,
        data.replace(b"@v1", b"@v2"),
        data.replace(b"root ", b"root  "),
        data.replace(b"\n\n", b"\n", 1),
        data.replace(b"\n", b"\r\n"),
        b"\n".join([*lines[:2], b"AAAA", *lines[2:]]),
        b"\n".join([*lines[:2], *[lines[1][5:]] * 65, *lines[2:]]),
        b"\n".join([lines[0], *lines[2:]]),
        b"\xff" + data,
    ]


def test_a_fork_proof_has_one_form() -> None:
    proof = made(*forked(5, 9, 2))
    assert proof is not None
    for mutated in mutations(proof.format()):
        assert mutated != proof.format()
        with pytest.raises(MalformedError):
            ForkProof.parse(mutated)


@given(st.data())
def test_what_parses_is_written_the_same(data: st.DataObject) -> None:
    proof = made(*forked(6, 300, 2))
    assert proof is not None
    text = bytearray(proof.format())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        parsed = ForkProof.parse(bytes(text))
    except MalformedError:
        return
    assert parsed.format() == bytes(text)
    try:
        parsed.verify(KEYS)
    except LedgerError:
        return
    assert parsed == proof  # nothing else verifies


def test_pymerkle_agrees_what_is_a_fork() -> None:
    """Random trees: the root that a fork proof shows is the one that others' code has for the larger tree at that size."""
    pymerkle = pytest.importorskip("pymerkle")
    pick = random.Random(4)
    for _ in range(60):
        size = pick.randrange(1, 60)
        larger_size = pick.randrange(size, 90)
        entries = [b"entry %d" % i for i in range(larger_size)]
        entries[pick.randrange(size)] = b"another"
        tree = pymerkle.InmemoryTree(algorithm="sha256")
        for entry in entries:
            tree.append_entry(entry)
        larger = leaves_of(entries)
        assert root(larger) == tree.get_root()
        assert fold(prefix_edge(size, reads(larger))) == tree.get_root(size)
        proof = made(history(size), larger)
        assert proof is not None
        assert proof.root == tree.get_root(size)
        judged = tree.prove_consistency(size, larger_size)
        pymerkle.verify_consistency(proof.root, tree.get_root(larger_size), judged)
        with pytest.raises(pymerkle.InvalidProof):
            pymerkle.verify_consistency(root(history(size)), tree.get_root(larger_size), judged)


def test_go_agrees_what_is_a_fork(judge: Judge) -> None:
    """Go's sumdb/tlog follows the larger tree from the root that the proof shows, and not from the smaller checkpoint's."""
    pick = random.Random(5)
    questions: list[dict[str, Any]] = []
    for _ in range(100):
        size = pick.randrange(1, 400)
        larger_size = pick.randrange(size + 1, 700)
        smaller, larger = forked(size, larger_size, pick.randrange(size))
        proof = made(smaller, larger)
        assert proof is not None
        question = {"Op": "consistency", "Size": larger_size, "Root": root(larger), "OldSize": size, "Path": proof.path}
        questions += [question | {"OldRoot": proof.root}, question | {"OldRoot": root(smaller)}]
    answers = judge(questions)
    assert set(answers[::2]) == {"ok"}
    assert all(answer.startswith("error: ") for answer in answers[1::2])
