"""A witness's answers: C2SP tlog-witness, each status, and what is on disk by then."""

import multiprocessing
import os
import random
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoint import Checkpoint
from ledger.cosignature import verify_cosignature
from ledger.errors import KeyFileError, MalformedError, SignatureError, StorageError
from ledger.fork import ForkProof
from ledger.log_key import LogKey
from ledger.merkle import EMPTY_ROOT, consistency_ranges, leaf_hash, range_root, root
from ledger.note import Note, NoteSignature, parse_signature_line
from ledger.signed_checkpoint import open_checkpoint
from ledger.witness import MAX_CLOCK_STEP, MAX_REQUEST_SIZE, Reply, Request, Witness
from ledger.witness_folder import create, open_witness, verifier_keys
from ledger.witness_key import WitnessKey

ORIGIN = "example.com/log"
NOW = 1_700_000_000


class Tree:
    """A log in memory that signs whatever it is asked to."""

    def __init__(self, key: LogKey, branch: str = "entry") -> None:
        self.key = key
        self.leaves = [leaf_hash(f"{branch} {i}".encode()) for i in range(80)]

    def at(self, size: int) -> Checkpoint:
        return Checkpoint(self.key.name, size, root(self.leaves[:size]))

    def note(self, size: int) -> Note:
        return Note.parse(self.key.sign(self.at(size), NOW))

    def proof(self, old: int, size: int) -> tuple[bytes, ...]:
        if not old:
            return ()
        return tuple(range_root(self.leaves, lo, hi) for lo, hi in consistency_ranges(old, size))

    def request(self, old: int, size: int, **changes: Any) -> bytes:
        values = {"old_size": old, "proof": self.proof(min(old, size), size), "note": self.note(size)}
        return Request(**(values | {"checkpoint": self.at(size)} | changes)).format()


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree(LogKey.generate(ORIGIN))


@pytest.fixture(scope="module")
def key() -> WitnessKey:
    return WitnessKey.generate("witness.example/w", post_quantum=True)


@pytest.fixture
def witness(tmp_path: Path, key: WitnessKey, tree: Tree) -> Iterator[Witness]:
    with Witness.create(tmp_path / "w.db", key, lambda: NOW) as witness:
        witness.follow(tree.key.verifier_keys)
        yield witness


def last(witness: Witness, origin: str = ORIGIN) -> Checkpoint:
    return next(log.checkpoint for log in witness.followed() if log.origin == origin)


def times(reply: Reply, key: WitnessKey, checkpoint: Checkpoint) -> list[int]:
    """When each key of the witness cosigned, checked."""
    assert reply.status == 200, reply
    lines = [parse_signature_line(line) for line in reply.body.decode().removesuffix("\n").split("\n")]
    assert [(line.name, line.key_id) for line in lines] == [
        (public.name, public.key_id) for public in key.verifier_keys
    ]
    return [
        verify_cosignature(public, checkpoint, line.payload)
        for public, line in zip(key.verifier_keys, lines, strict=True)
    ]


# -- what it cosigns ---------------------------------------------------------------------------------------------------


def test_cosigns_with_each_key_what_continues_the_last(witness: Witness, key: WitnessKey, tree: Tree) -> None:
    old = 0
    for size in (0, 1, 2, 3, 8, 9, 64, 65, 80):
        assert times(witness.add_checkpoint(tree.request(old, size)), key, tree.at(size)) == [NOW, NOW]
        assert last(witness) == tree.at(size)
        old = size


def test_cosigns_the_same_again(witness: Witness, key: WitnessKey, tree: Tree) -> None:
    for old in (0, 5, 5):
        assert times(witness.add_checkpoint(tree.request(old, 5)), key, tree.at(5)) == [NOW, NOW]


def test_what_it_serves_is_signed_by_the_log_and_itself_alone(witness: Witness, key: WitnessKey, tree: Tree) -> None:
    hash_ = sha256(ORIGIN.encode()).hexdigest()
    assert witness.checkpoint(hash_) is None
    stranger = NoteSignature("stranger.example", b"1234", bytes(64))
    note = tree.note(5)
    body = tree.request(0, 5, note=Note(note.text, (stranger, *note.signatures)))
    assert witness.add_checkpoint(body).status == 200
    served = witness.checkpoint(hash_)
    assert served is not None
    names = [line.name for line in Note.parse(served).signatures]
    assert names == [ORIGIN, key.name, key.name]
    for public in key.verifier_keys:
        signed = open_checkpoint(served, log_keys=tree.key.verifier_keys, witness_keys=[public])
        assert signed.cosigned == {key.name: NOW}


def test_log_that_signs_with_ml_dsa_alone_or_with_both(tmp_path: Path, key: WitnessKey) -> None:
    tree = Tree(LogKey.generate("both.example/log", post_quantum=True))
    with Witness.create(tmp_path / "v.db", key, lambda: NOW) as witness:
        witness.follow(tree.key.verifier_keys)
        assert witness.add_checkpoint(tree.request(0, 3)).status == 200
        note = tree.note(7)
        alone = Note(note.text, note.signatures[1:])
        assert witness.add_checkpoint(tree.request(3, 7, note=alone)).status == 200
        assert witness.add_checkpoint(tree.request(7, 7, note=Note(note.text, ()))).status in (400, 403)


def test_logs_do_not_mix(witness: Witness, tree: Tree) -> None:
    other = Tree(LogKey.generate("other.example/log"), "other")
    witness.follow(other.key.verifier_keys)
    assert witness.add_checkpoint(tree.request(0, 5)).status == 200
    assert witness.add_checkpoint(other.request(5, 7)).body == b"0\n"
    assert witness.add_checkpoint(other.request(0, 7)).status == 200
    assert (last(witness).size, last(witness, "other.example/log").size) == (5, 7)


def test_new_keys_of_a_log_keep_what_was_cosigned(witness: Witness, tree: Tree) -> None:
    witness.add_checkpoint(tree.request(0, 5))
    new = Tree(LogKey.generate(ORIGIN))
    assert witness.add_checkpoint(new.request(5, 7)).status == 403
    assert witness.follow(new.key.verifier_keys).checkpoint.size == 5
    assert witness.add_checkpoint(new.request(5, 7)).status == 200  # the same entries, another key
    assert witness.add_checkpoint(tree.request(7, 8)).status == 403


# -- what it refuses ---------------------------------------------------------------------------------------------------


def changed(body: bytes, old: bytes, new: bytes) -> bytes:
    assert old in body
    return body.replace(old, new, 1)


def malformed(tree: Tree) -> dict[str, bytes]:
    body = tree.request(3, 7)
    hash_ = b64encode(tree.proof(3, 7)[0])
    note = tree.note(7)
    return {
        "empty": b"",
        "no checkpoint": body.split(b"\n\n")[0] + b"\n\n",
        "no empty line": body.replace(b"\n\n", b"\n"),
        "no old size": body[body.index(b"\n") + 1 :],
        "leading zero": changed(body, b"old 3", b"old 03"),
        "negative": changed(body, b"old 3", b"old -3"),
        "two spaces": changed(body, b"old 3", b"old  3"),
        "hexadecimal": changed(body, b"old 3", b"old 0x3"),
        "other digits": changed(body, b"old 3", "old ٣".encode()),
        "beyond 63 bits": changed(body, b"old 3", b"old %d" % 2**64),
        "carriage returns": changed(body, b"old 3\n", b"old 3\r\n"),
        "proof line without padding": changed(body, hash_, hash_.rstrip(b"=")),
        "proof line too short": changed(body, hash_, b64encode(b"short")),
        "proof line not base64": changed(body, hash_, b"!" * 44),
        "64 proof lines": Request(3, (bytes(32),) * 64, note, tree.at(7)).format(),
        "old size above the new": tree.request(8, 7),
        "extension line": changed(body, b"\n\n\xe2\x80\x94", b"\nextension\n\n\xe2\x80\x94"),
        "no signature line": body[: body.index("—".encode())],
        "65 signatures": tree.request(3, 7, note=Note(note.text, note.signatures * 65)),
        "not UTF-8": changed(body, b"old 3", b"old \xff"),
        "too large": body + b"x" * MAX_REQUEST_SIZE,
    }


MALFORMED = list(malformed(Tree(LogKey.generate(ORIGIN))))


@pytest.mark.parametrize("what", MALFORMED)
def test_400_for_what_is_malformed(witness: Witness, tree: Tree, what: str) -> None:
    witness.add_checkpoint(tree.request(0, 3))
    assert witness.add_checkpoint(malformed(tree)[what]).status == 400
    assert last(witness).size == 3
    assert witness.add_checkpoint(tree.request(3, 7)).status == 200


def test_403_without_the_signature_of_the_log(witness: Witness, tree: Tree) -> None:
    note = tree.note(7)
    [line] = note.signatures
    stranger = Tree(LogKey.generate(ORIGIN)).note(7)
    wrong = NoteSignature(line.name, line.key_id, line.payload[::-1])
    for signatures in (stranger.signatures, (wrong,), (line, line), (*stranger.signatures, wrong)):
        reply = witness.add_checkpoint(tree.request(0, 7, note=Note(note.text, signatures)))
        assert reply.status == 403, signatures
    assert last(witness).size == 0
    assert witness.add_checkpoint(tree.request(0, 7, note=Note(note.text, (*stranger.signatures, line)))).status == 200


def test_404_for_a_log_that_is_not_followed(witness: Witness) -> None:
    assert witness.add_checkpoint(Tree(LogKey.generate("other.example/log")).request(0, 7)).status == 404


def test_409_says_the_size_that_was_cosigned(witness: Witness, tree: Tree) -> None:
    assert witness.add_checkpoint(tree.request(3, 7)) == Reply(409, b"0\n", "text/x.tlog.size")
    witness.add_checkpoint(tree.request(0, 5))
    for old, new in ((0, 7), (0, 5), (3, 7), (6, 7), (0, 0), (3, 3)):
        assert witness.add_checkpoint(tree.request(old, new)) == Reply(409, b"5\n", "text/x.tlog.size")
    assert last(witness) == tree.at(5)


def test_422_for_what_does_not_continue_the_last(witness: Witness, tree: Tree) -> None:
    zero = Checkpoint(ORIGIN, 0, tree.at(7).root)  # a root that the empty tree does not have
    full = Checkpoint(ORIGIN, 7, EMPTY_ROOT)
    for impossible in (zero, full):
        note = Note.parse(tree.key.sign(impossible, NOW))
        assert witness.add_checkpoint(tree.request(0, 7, note=note, checkpoint=impossible)).status == 422
    assert witness.add_checkpoint(tree.request(0, 7, proof=(bytes(32),))).status == 422  # none is needed, none may come
    assert witness.add_checkpoint(tree.request(0, 5)).status == 200
    proof = tree.proof(5, 7)
    for wrong in ((), proof[:-1], (*proof, bytes(32)), proof[::-1], (bytes(32), *proof[1:]), (bytes(32),) * 63):
        assert witness.add_checkpoint(tree.request(5, 7, proof=wrong)).status == 422
    assert witness.add_checkpoint(tree.request(5, 5, proof=(bytes(32),))).status == 422
    fork = Tree(tree.key, "another")
    assert witness.add_checkpoint(fork.request(5, 5)).status == 422
    assert witness.add_checkpoint(fork.request(5, 7)).status == 422
    assert last(witness) == tree.at(5)
    assert witness.add_checkpoint(tree.request(5, 7)).status == 200


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory, tree: Tree) -> Iterator[Witness]:
    """A witness at size 5 that nothing in here moves."""
    path = tmp_path_factory.mktemp("standing") / "w.db"
    with Witness.create(path, WitnessKey.generate("w"), lambda: NOW) as witness:
        witness.follow(tree.key.verifier_keys)
        witness.add_checkpoint(tree.request(0, 5))
        yield witness


@given(data=st.binary(max_size=300), at=st.integers(0, 400))
def test_any_request_has_an_answer(standing: Witness, tree: Tree, data: bytes, at: int) -> None:
    body = tree.request(5, 7)
    for request in (data, body[:at], body[:at] + data + body[at + len(data) :], b"old 5\n" + data + b"\n\n" + data):
        if request != body:
            assert standing.add_checkpoint(request).status in (400, 403, 404, 409, 422)


# -- evidence ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [5, 9])
def test_two_histories_become_a_proof_that_anybody_can_check(witness: Witness, tree: Tree, size: int) -> None:
    witness.add_checkpoint(tree.request(0, 5))
    assert witness.add_checkpoint(tree.request(5, 9, proof=(bytes(32),) * 4)).status == 422
    assert witness.followed()[0].fork is None  # anybody can send a wrong proof: that shows nothing
    fork = Tree(tree.key, "another")
    assert witness.add_checkpoint(fork.request(5, size)).status == 422
    kept = witness.followed()[0].fork
    assert kept is not None
    found = ForkProof.parse(kept).verify(tree.key.verifier_keys)
    assert (found.smaller, found.larger) == (tree.at(5), fork.at(size))
    assert witness.add_checkpoint(tree.request(5, 7)).status == 200


# -- time --------------------------------------------------------------------------------------------------------------


def test_times_never_go_back(tmp_path: Path, key: WitnessKey, tree: Tree) -> None:
    now = [float(NOW)]
    with Witness.create(tmp_path / "w.db", key, lambda: now[0]) as witness:
        witness.follow(tree.key.verifier_keys)
        witness.add_checkpoint(tree.request(0, 3))
        now[0] = NOW - MAX_CLOCK_STEP
        assert times(witness.add_checkpoint(tree.request(3, 5)), key, tree.at(5)) == [NOW, NOW]
        for wrong in (NOW - MAX_CLOCK_STEP - 1, 1.0, 0.0, -5.0):
            now[0] = wrong
            reply = witness.add_checkpoint(tree.request(5, 7))
            assert reply.status == 503 and b"clock" in reply.body
        assert last(witness) == tree.at(5)
        now[0] = NOW + 9.9
        assert times(witness.add_checkpoint(tree.request(5, 7)), key, tree.at(7)) == [NOW + 9] * 2


# -- on disk -----------------------------------------------------------------------------------------------------------


def test_goes_on_where_it_was_after_a_restart(tmp_path: Path, key: WitnessKey, tree: Tree) -> None:
    path = tmp_path / "w.db"
    with Witness.create(path, key) as witness:
        witness.follow(tree.key.verifier_keys)
        assert witness.add_checkpoint(tree.request(0, 5)).status == 200
    with Witness.open(path, key) as witness:
        assert last(witness) == tree.at(5)
        assert witness.add_checkpoint(Tree(tree.key, "another").request(5, 9)).status == 422
        assert witness.add_checkpoint(tree.request(5, 9)).status == 200


@pytest.mark.parametrize("column", ["size = 3", "root = zeroblob(32)", "note = NULL", "note = X'00'"])
def test_a_row_that_was_altered_is_not_signed_over(tmp_path: Path, witness: Witness, tree: Tree, column: str) -> None:
    import sqlite3

    witness.add_checkpoint(tree.request(0, 5))
    database = sqlite3.connect(tmp_path / "w.db")
    with database:
        database.execute(f"UPDATE logs SET {column}")
    database.close()
    old = 3 if "size" in column else 5
    assert witness.add_checkpoint(tree.request(old, 7)).status in (422, 503)


def test_without_its_database_or_disk_it_signs_nothing(tmp_path: Path, key: WitnessKey, tree: Tree) -> None:
    with pytest.raises(StorageError, match="no witness at"):
        Witness.open(tmp_path / "w.db", key)
    path = tmp_path / "w.db"
    with Witness.create(path, key) as witness:
        witness.follow(tree.key.verifier_keys)
        with pytest.raises(StorageError, match="exists already"):
            Witness.create(path, key)
    with Witness.open(path, key) as witness:
        with witness._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")  # a full disk, to SQLite
            connection.exec_driver_sql(
                "CREATE TRIGGER full BEFORE UPDATE ON logs BEGIN SELECT RAISE(FAIL, 'disk full'); END"
            )
        reply = witness.add_checkpoint(tree.request(0, 5))
        assert reply.status == 503 and b"disk full" in reply.body
        assert last(witness).size == 0
    with Witness.open(path) as keyless:
        assert keyless.add_checkpoint(tree.request(0, 5)).status == 503


def _race(path: str, key_file: str, log_file: str, branch: str, start: Any, out: Any) -> None:
    """Push one branch of a history at the witness as fast as it goes, and report what it cosigned."""
    tree = Tree(LogKey.load(Path(log_file), ORIGIN, None), branch)
    pick = random.Random(branch)
    with Witness.open(Path(path), WitnessKey.load(Path(key_file), "w", None)) as witness:
        start.wait()
        old, size = 0, 1
        cosigned: list[tuple[int, bytes]] = []
        while size <= 60:
            reply = witness.add_checkpoint(tree.request(old, size))
            if reply.status == 200:
                cosigned.append((size, tree.at(size).root))
                old, size = size, size + pick.randint(1, 3)
            elif reply.status == 409:
                old = int(reply.body)
                size = max(size, old)
            else:
                break
        out.put(cosigned)


def test_two_processes_on_one_database_never_cosign_two_histories(tmp_path: Path) -> None:
    key, log = WitnessKey.generate("w"), LogKey.generate(ORIGIN)
    key.save(tmp_path / "w.pem", None)
    log.save(tmp_path / "log.pem", None)
    with Witness.create(tmp_path / "w.db", key) as witness:
        witness.follow(log.verifier_keys)
    spawn = multiprocessing.get_context("spawn")
    start, out = spawn.Barrier(3), spawn.Queue()
    branches = ["a", "b", "a"]  # two that agree, and a fork
    arguments = [str(tmp_path / name) for name in ("w.db", "w.pem", "log.pem")]
    racers = [spawn.Process(target=_race, args=(*arguments, branch, start, out)) for branch in branches]
    for racer in racers:
        racer.start()
    cosigned = dict(pair for _ in racers for pair in out.get(timeout=60))
    for racer in racers:
        racer.join()
    assert cosigned
    roots = {branch: {size: Tree(log, branch).at(size).root for size in cosigned} for branch in branches}
    assert cosigned in (roots["a"], roots["b"])


# -- keys and folders --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("post_quantum", [False, True])
def test_folder(tmp_path: Path, post_quantum: bool) -> None:
    folder = tmp_path / "w1"
    keys = create(folder, "w1.example", password=b"secret", post_quantum=post_quantum)
    assert [key.type for key in keys] == ([4, 6] if post_quantum else [4])
    assert verifier_keys(folder) == keys
    assert (folder / "witness.pem").stat().st_mode & 0o777 == 0o600
    with open_witness(folder, password=b"secret") as witness:
        assert witness.key is not None and witness.key.verifier_keys == keys
    for wrong in (
        lambda: create(folder, "w1.example", password=None),
        lambda: open_witness(folder, password=b"wrong"),
        lambda: verifier_keys(tmp_path / "w2"),
    ):
        with pytest.raises(KeyFileError):
            wrong()
    other = create(tmp_path / "w2", "w2.example", password=None)
    (folder / "witness.pub").write_text(f"{other[0].format()}\n")
    with pytest.raises(KeyFileError, match="other keys"):
        open_witness(folder, password=b"secret")


def test_follow_refuses_keys_that_are_not_one_logs(witness: Witness, key: WitnessKey, tree: Tree) -> None:
    long = LogKey.generate("x" * 256)
    own = tree.key.verifier_keys[0]
    for keys in (
        [],
        [own, own],
        [own, LogKey.generate("b").verifier_keys[0]],
        key.verifier_keys[:1],
        long.verifier_keys,
    ):
        with pytest.raises(MalformedError):
            witness.follow(keys)


def test_key_files_of_others_are_refused(tmp_path: Path) -> None:
    create(tmp_path / "w", "w.example", password=None)
    os.truncate(tmp_path / "w" / "witness.pem", 10)
    with pytest.raises(KeyFileError):
        open_witness(tmp_path / "w", password=None)
    with pytest.raises(SignatureError):
        verify_cosignature(WitnessKey.generate("w").verifier_keys[0], Checkpoint("o", 0, EMPTY_ROOT), bytes(72))
