"""Go's sumdb/note and sumdb/tlog as judges of our checkpoints, proofs and tiles: code by others, in another language."""

import json
import os
import random
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.checkpoint import Checkpoint
from ledger.log import Log
from ledger.log_key import LogKey
from ledger.merkle import leaf_hash
from ledger.note import Note
from ledger.tiles import tiles_of

GOPATH = Path("/usr/share/gocode")
Judge = Callable[[list[dict[str, Any]]], list[str]]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Answers of the Go program, one a question."""
    go = shutil.which("go")
    if go is None or not (GOPATH / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        pytest.skip("needs Go and golang.org/x/mod: Debian golang-go and golang-golang-x-mod-dev")
    folder = tmp_path_factory.mktemp("go")
    program = folder / "judge"
    environment = os.environ | {"GO111MODULE": "off", "GOPATH": str(GOPATH), "GOCACHE": str(folder / "cache")}
    sources = [Path(__file__).parent / "go" / name for name in ("main.go", "cosignature.go")]
    subprocess.run([go, "build", "-o", program, *sources], check=True, env=environment, cwd=folder)

    def ask(questions: list[dict[str, Any]]) -> list[str]:
        lines = "\n".join(json.dumps(q, default=lambda data: b64encode(data).decode()) for q in questions)
        done = subprocess.run([program], input=lines.encode(), capture_output=True, check=True)
        answers = done.stdout.decode().splitlines()
        assert len(answers) == len(questions)
        return answers

    return ask


def entries_to(size: int) -> list[bytes]:
    return [b"entry %d" % i for i in range(size)]


def parse(note: bytes) -> Checkpoint:
    return Checkpoint.parse(Note.parse(note).text)


def note_question(key: LogKey, note: bytes) -> dict[str, Any]:
    return {"Op": "note", "Key": key.verifier_keys[0].format(), "Note": note, "Text": Note.parse(note).text}


def inclusion_question(log: Log, index: int) -> dict[str, Any]:
    proof = log.prove(index)
    tree = parse(proof.checkpoint)
    leaf = leaf_hash(log.entry(index))
    return {
        "Op": "inclusion", "Size": tree.size, "Root": tree.root, "Index": index, "Leaf": leaf, "Path": proof.path,
    }  # fmt: skip


def consistency_question(log: Log, old: Checkpoint) -> dict[str, Any]:
    path, note = log.prove_consistency(old.size, old.root)
    tree = parse(note)
    return {
        "Op": "consistency", "Size": tree.size, "Root": tree.root, "OldSize": old.size, "OldRoot": old.root,
        "Path": path,
    }  # fmt: skip


def tiles_question(log: Log, entries: Iterable[bytes]) -> dict[str, Any]:
    tree = parse(log.checkpoint())
    tiles = {tile.path(): log.tile(tile) for tile in tiles_of(tree.size)}
    leaves = [leaf_hash(entry) for entry in entries]
    return {"Op": "tiles", "Size": tree.size, "Root": tree.root, "Tiles": tiles, "Leaves": leaves}


def questions_at(log: Log, key: LogKey, old: list[Checkpoint], indices: set[int]) -> Iterator[dict[str, Any]]:
    yield note_question(key, log.checkpoint())
    for index in indices:
        yield inclusion_question(log, index)
    for checkpoint in old:
        yield consistency_question(log, checkpoint)


def test_go_accepts_checkpoints_and_proofs_of_sizes_1_to_300(judge: Judge, log: Log, key: LogKey) -> None:
    pick = random.Random(1)
    past: list[Checkpoint] = []
    questions: list[dict[str, Any]] = []
    for size in range(1, 301):
        past.append(parse(log.append(b"entry %d" % (size - 1)).checkpoint))
        some = {0, size - 1, size // 2, *(pick.randrange(size) for _ in range(4))}
        questions += questions_at(log, key, pick.sample(past, min(4, size)), some if size > 20 else set(range(size)))
        if size in (1, 2, 255, 256, 257, 300):
            questions.append(tiles_question(log, entries_to(size)))
    assert set(judge(questions)) == {"ok"}


def test_go_accepts_proofs_and_tiles_around_a_full_tile_of_level_1(judge: Judge, log: Log, key: LogKey) -> None:
    log.append_many(entries_to(40_000))
    past = [parse(log.checkpoint())]
    log.append_many(entries_to(65_535)[40_000:])
    questions: list[dict[str, Any]] = []
    for size in (65_535, 65_536, 65_537):
        indices = {0, 255, 256, 39_999, 65_279, 65_280, size - 2, size - 1}
        questions += questions_at(log, key, [*past, parse(log.checkpoint())], indices)
        questions.append(tiles_question(log, entries_to(size)))
        past.append(parse(log.checkpoint()))
        log.append(b"entry %d" % size)
    assert set(judge(questions)) == {"ok"}


def test_go_opens_a_checkpoint_signed_with_ml_dsa_as_well(judge: Judge, path: Path) -> None:
    key = LogKey.generate("example.com/both", post_quantum=True)
    with Log.create(path, key) as log:
        assert judge([note_question(key, log.append(b"entry").checkpoint)]) == ["ok"]


def test_go_refuses_what_it_should(judge: Judge, log: Log, key: LogKey) -> None:
    """The judge can say no: without this, the others would show little."""
    log.append_many(entries_to(3))
    old = parse(log.checkpoint())
    log.append_many(entries_to(300))
    inclusion, consistency, tiles = (
        inclusion_question(log, 1),
        consistency_question(log, old),
        tiles_question(log, entries_to(300)),
    )
    forged = {path: bytes([data[0] ^ 1]) + data[1:] for path, data in tiles["Tiles"].items()}
    note = note_question(key, log.checkpoint())
    answers = judge(
        [
            inclusion | {"Leaf": leaf_hash(b"x")},
            consistency | {"OldRoot": leaf_hash(b"x")},
            tiles | {"Tiles": forged},
            note | {"Key": LogKey.generate(key.name).verifier_keys[0].format()},
        ]
    )
    assert all(answer.startswith("error: ") for answer in answers)
