"""Several threads and several processes on one log: no index lost, none given twice, nobody misled."""

import multiprocessing
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger import fsck
from ledger.checkpoint import Checkpoint
from ledger.errors import ConflictError
from ledger.log import Log
from ledger.log_key import LogKey
from ledger.merkle import verify_consistency
from ledger.note import Note
from ledger.storage import Snapshot
from ledger.watermark import Watermark

Placed = list[tuple[int, bytes, bytes]]


def check_all(path: Path, key: LogKey, mark: Path, placed: Placed, size: int) -> None:
    with Log.open(path, key, watermark=mark) as log:
        assert log.size() == size and list(fsck.check(log)) == []
        assert {index: entry for index, entry, _ in placed} == dict(log.entries())
        notes = {note for *_, note in placed}
        for checkpoint in (Checkpoint.parse(Note.parse(note).text) for note in notes):
            assert log.prove_consistency(checkpoint.size, checkpoint.root)
        newest = Watermark(mark).read()
        assert newest is not None and newest.size == size


def run(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_threads_on_one_log(tmp_path: Path, key: LogKey) -> None:
    path, mark = tmp_path / "log.db", tmp_path / "mark"
    log = Log.create(path, key, watermark=mark)
    placed: Placed = []
    failures: list[BaseException] = []

    def write(who: int) -> None:
        try:
            for i in range(60):
                entries = [b"%d %d %d" % (who, i, j) for j in range(1 + i % 3)]
                for entry, done in zip(entries, log.append_many(entries), strict=True):
                    placed.append((done.index, entry, done.checkpoint))
        except BaseException as error:
            failures.append(error)

    run([threading.Thread(target=write, args=(who,)) for who in range(6)])
    log.close()
    assert not failures
    check_all(path, key, mark, placed, size=6 * 120)


def test_readers_beside_a_writer_see_no_rollback(tmp_path: Path, key: LogKey) -> None:
    """A reader that read the head just before it moved must not take the newer one, known to its process, for a rollback."""
    log = Log.create(tmp_path / "log.db", key, watermark=tmp_path / "mark")
    log.append(b"first")
    failures: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        last = 0
        try:
            while not done.is_set():
                proof = log.prove(0)
                size = proof.verify(b"first", log_keys=key.verifier_keys).checkpoint.size
                assert size >= last
                last = size
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for i in range(400):
        log.append(b"%d" % i)
    done.set()
    for reader in readers:
        reader.join(60)
    log.close()
    assert not failures


def test_head_that_moves_while_it_is_read_is_no_rollback(
    log_of: Callable[[int], Log], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same race, made certain: another thread appends between a reader's look at storage and at its memory."""
    log = log_of(3)
    head = Snapshot.head

    def slow(self: Snapshot) -> object:
        seen = head(self)
        monkeypatch.undo()
        writer = threading.Thread(target=log.append, args=(b"meanwhile",))
        run([writer])
        return seen

    monkeypatch.setattr(Snapshot, "head", slow)
    assert log.size() == 3
    assert log.size() == 4


def test_watermark_never_goes_back(tmp_path: Path, key: LogKey) -> None:
    mark = Watermark(tmp_path / "mark")
    trees = [Checkpoint(key.name, size, bytes([size]) * 32) for size in range(1, 200)]
    notes = [key.sign(tree, 0) for tree in trees]
    failures: list[int] = []

    def advance(start: int) -> None:
        last = 0
        for note, tree in list(zip(notes, trees, strict=True))[start::4]:
            mark.advance(note, tree)
            now = mark.read()
            if now is None or now.size < max(last, tree.size):
                failures.append(tree.size)
            last = now.size if now is not None else 0

    run([threading.Thread(target=advance, args=(start,)) for start in range(4)])
    mark.close()
    assert not failures
    newest = Watermark(tmp_path / "mark").read()
    assert newest is not None and newest.size == 199


def _append(path: Path, mark: Path, key_file: Path, who: int, pipe: "multiprocessing.connection.Connection") -> None:
    key = LogKey.load(key_file, "example.com/log", None)
    placed: Placed = []
    with Log.open(path, key, watermark=mark) as log:
        for i in range(80):
            entries = [b"%d %d" % (who, i), b"shared %d" % i]
            for entry, done in zip(entries, log.append_many(entries), strict=True):
                placed.append((done.index, entry, done.checkpoint))
    pipe.send(placed)


def _count_up(path: Path, key_file: Path, pipe: "multiprocessing.connection.Connection") -> None:
    """Take turns by compare-and-swap, each writing the size that it saw."""
    won = 0
    with Log.open(path, LogKey.load(key_file, "example.com/log", None)) as log:
        while (size := log.size()) < 200:
            try:
                log.append(b"at %d" % size, expected_size=size)
                won += 1
            except ConflictError:
                pass
    pipe.send(won)


def processes(target: Callable[..., None], *arguments: object, count: int = 4, numbered: bool) -> list[object]:
    context = multiprocessing.get_context("fork")
    answers = []
    for who in range(count):
        here, there = context.Pipe()
        process = context.Process(target=target, args=(*arguments, *([who] if numbered else []), there))
        process.start()
        answers.append((here, process))
    results = [here.recv() if here.poll(60) else None for here, _ in answers]
    for _, process in answers:
        process.join(60)
        assert process.exitcode == 0
    return results


def test_processes_on_one_log(tmp_path: Path, key: LogKey) -> None:
    path, mark, key_file = tmp_path / "log.db", tmp_path / "mark", tmp_path / "log.key"
    key.save(key_file, None)
    Log.create(path, key, watermark=mark).close()
    results = processes(_append, path, mark, key_file, numbered=True)
    placed = [one for placed in results for one in placed]  # type: ignore[attr-defined]
    assert len(placed) == 4 * 160
    check_all(path, key, mark, placed, size=4 * 80 + 80)  # the shared entries once each


def test_processes_take_turns_by_compare_and_swap(tmp_path: Path, key: LogKey) -> None:
    path, key_file = tmp_path / "log.db", tmp_path / "log.key"
    key.save(key_file, None)
    Log.create(path, key).close()
    won = processes(_count_up, path, key_file, numbered=False)
    assert sum(won) == 200  # type: ignore[arg-type]
    with Log.open(path, key) as log:
        assert [entry for _, entry in log.entries()] == [b"at %d" % i for i in range(200)]


def test_two_processes_cannot_both_hold_an_index(tmp_path: Path, key: LogKey) -> None:
    """Two logs opened on one file: each sees what the other has signed, and goes on from there."""
    path = tmp_path / "log.db"
    one = Log.create(path, key)
    two = Log.open(path, key)
    trees = [
        Checkpoint.parse(Note.parse(log.append(b"%d" % i).checkpoint).text) for i, log in enumerate([one, two] * 20)
    ]
    assert [tree.size for tree in trees] == list(range(1, 41))
    for old in trees[:-1]:
        path_, note = one.prove_consistency(old.size, old.root)
        new = Checkpoint.parse(Note.parse(note).text)
        verify_consistency(old_size=old.size, old_root=old.root, size=new.size, root=new.root, path=path_)
    one.close()
    two.close()
