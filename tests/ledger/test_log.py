"""What a log promises: order, deduplication, all or nothing, compare-and-swap, and proofs from few reads."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.checkpoint import Checkpoint
from ledger.errors import (
    ConflictError,
    EntryTooLargeError,
    LedgerError,
    MalformedError,
    ProofError,
    SignatureError,
    StorageError,
)
from ledger.log import Log
from ledger.log_key import LogKey
from ledger.merkle import EMPTY_ROOT, leaf_hash, root, verify_consistency, verify_inclusion
from ledger.note import Note
from ledger.signed_checkpoint import open_checkpoint
from ledger.storage import Snapshot, Transaction
from ledger.tiles import Tile, parse_bundle, tiles_of

LogOf = Callable[[int], Log]


def tree(note: bytes) -> Checkpoint:
    return Checkpoint.parse(Note.parse(note).text)


def test_new_log_has_a_signed_empty_checkpoint(log: Log, key: LogKey) -> None:
    signed = open_checkpoint(log.checkpoint(), log_keys=key.verifier_keys)
    assert signed.checkpoint == Checkpoint("example.com/log", 0, EMPTY_ROOT)


def test_append_is_included_under_its_own_checkpoint(log: Log, key: LogKey) -> None:
    entries = [b"first", b"", b"\0" * 65_535]
    for index, entry in enumerate(entries):
        appended = log.append(entry)
        assert (appended.index, appended.new) == (index, True)
        signed = open_checkpoint(appended.checkpoint, log_keys=key.verifier_keys).checkpoint
        assert (signed.size, signed.root) == (index + 1, root(map(leaf_hash, entries[: index + 1])))
        assert log.checkpoint() == appended.checkpoint
    assert list(log.entries()) == list(enumerate(entries))
    assert list(log.entries(1, 2)) == [(1, b"")] and list(log.entries(3)) == []


def test_log_is_the_same_after_closing(path: Path, key: LogKey) -> None:
    with Log.create(path, key) as log:
        note = log.append_many([b"%d" % i for i in range(300)])[-1].checkpoint
    with Log.open(path, key) as log:
        assert log.checkpoint() == note and log.append(b"300").index == 300 and log.append(b"7").index == 7


def test_same_bytes_are_logged_once(log: Log) -> None:
    first = log.append(b"same")
    again = log.append(b"same")
    assert (again.index, again.new, again.checkpoint) == (0, False, first.checkpoint)
    assert log.size() == 1


def test_same_bytes_are_logged_once_within_and_across_batches(log: Log) -> None:
    log.append_many([b"a", b"b"])
    many = log.append_many([b"c", b"a", b"c", b"d", b"b", b"d"])
    assert [(a.index, a.new) for a in many] == [(2, True), (0, False), (2, False), (3, True), (1, False), (3, False)]
    assert {a.checkpoint for a in many} == {log.checkpoint()}
    assert [entry for _, entry in log.entries()] == [b"a", b"b", b"c", b"d"]
    before = log.checkpoint()
    assert [a.index for a in log.append_many([b"d", b"a"])] == [3, 0]
    assert log.append_many([]) == [] and log.checkpoint() == before


@pytest.mark.parametrize("count", [499, 500, 501, 1001, 3000])
def test_large_batches_are_deduplicated_and_placed(log: Log, count: int) -> None:
    entries = [b"%d" % i for i in range(count)]
    log.append_many(entries[::2])
    many = log.append_many(entries)
    old, new = many[::2], many[1::2]
    assert [a.index for a in old] == list(range(len(old))) and not any(a.new for a in old)
    assert [a.index for a in new] == list(range(len(old), count)) and all(a.new for a in new)


def test_compare_and_swap(log: Log) -> None:
    log.append(b"a", expected_size=0)
    for stale in (0, 2):
        with pytest.raises(ConflictError, match=f"1 entries, expected {stale}"):
            log.append(b"b", expected_size=stale)
    with pytest.raises(ConflictError):  # also for what is there already: the caller's view is stale
        log.append(b"a", expected_size=0)
    assert log.size() == 1
    assert log.append_many([b"b", b"c"], expected_size=1)[-1].index == 2


def test_entry_too_large_is_refused_and_nothing_written(log: Log) -> None:
    before = log.append(b"a").checkpoint
    with pytest.raises(EntryTooLargeError, match="65,536 bytes"):
        log.append_many([b"b", b"x" * 65_536, b"c"])
    assert log.checkpoint() == before and log.find(b"b") is None


def test_append_many_is_all_or_nothing(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure at the last step leaves no entry, no tile and no checkpoint behind, and the log goes on."""
    before = log.append(b"a").checkpoint
    monkeypatch.setattr(Transaction, "set_head", lambda *_: (_ for _ in ()).throw(OSError("the disk is on fire")))
    with pytest.raises(OSError, match="on fire"):
        log.append_many([b"%d" % i for i in range(600)])
    monkeypatch.undo()
    assert log.checkpoint() == before and log.find(b"0") is None
    assert [a.index for a in log.append_many([b"%d" % i for i in range(600)])] == list(range(1, 601))


def test_failed_append_lets_others_write(log: Log, path: Path, key: LogKey) -> None:
    """Also while somebody keeps the exception, and with it everything that its frames refer to."""
    with Log.open(path, key) as other, pytest.raises(ConflictError) as kept:
        log.append(b"a", expected_size=9)
    with Log.open(path, key) as other:
        assert kept.tb is not None and other.append(b"b").index == 0


def test_log_can_be_closed_twice(log: Log, path: Path, tmp_path: Path, key: LogKey) -> None:
    again = Log.open(path, key, watermark=tmp_path / "mark")
    again.close()
    with (tmp_path / "other").open("wb") as other:
        again.close()
        other.write(b"still open")


def test_log_open_for_reading_does_not_append(log_of: LogOf, path: Path, key: LogKey) -> None:
    log_of(300)
    with Log.open(path, verifier_keys=key.verifier_keys) as reader:
        assert reader.entry(7) == b"entry 7" and reader.find(b"entry 299") == 299
        reader.prove(299).verify(b"entry 299", log_keys=key.verifier_keys)
        with pytest.raises(LedgerError, match="open for reading"):
            reader.append(b"more")
    with pytest.raises(LedgerError, match="give its key"):
        Log.open(path)


def test_existing_log_is_not_created_again(log: Log, path: Path, key: LogKey) -> None:
    log.append(b"a")
    with pytest.raises(StorageError, match="exists already"):
        Log.create(path, key)
    assert log.size() == 1


def test_missing_folder_or_log_is_a_storage_error(tmp_path: Path, key: LogKey) -> None:
    with pytest.raises(StorageError, match="unable to open"):
        Log.create(tmp_path / "none" / "log.db", key)
    with pytest.raises(StorageError, match="no log at"):
        Log.open(tmp_path / "none.db", key)


def test_log_with_both_signatures(path: Path) -> None:
    key = LogKey.generate("example.com/log", post_quantum=True)
    with Log.create(path, key, clock=lambda: 7.9) as log:
        log.append(b"a")
        proof = log.prove(0)
    assert proof.verify(b"a", log_keys=key.verifier_keys).checkpoint.size == 1
    note = Note.parse(proof.checkpoint)
    assert [len(s.payload) for s in note.signatures] == [64, 8 + 2420]
    assert int.from_bytes(note.signatures[1].payload[:8], "big") == 7
    with Log.open(path, key) as log:
        assert log.append(b"b").index == 1
    only_ed25519 = LogKey(key.name, key.ed25519)
    with Log.open(path, only_ed25519) as log:  # fewer keys are required than signed
        log.append(b"c")
    with pytest.raises(SignatureError):  # ... and what it signs lacks one of those that others require
        open_checkpoint(Log.open(path, only_ed25519).checkpoint(), log_keys=key.verifier_keys)


def test_proofs_of_every_entry_and_every_prefix(log_of: LogOf, key: LogKey) -> None:
    log = log_of(520)
    leaves = [leaf_hash(b"entry %d" % i) for i in range(520)]
    signed = tree(log.checkpoint())
    for index in range(520):
        proof = log.prove(index)
        assert tree(proof.checkpoint) == signed
        verify_inclusion(root=signed.root, size=520, index=index, leaf=leaves[index], path=proof.path)
    for old in range(1, 521, 7):
        path, note = log.prove_consistency(old, root(leaves[:old]))
        verify_consistency(old_size=old, old_root=root(leaves[:old]), size=520, root=tree(note).root, path=path)
        assert log.prove_consistency(old)[0] == path
    assert [p.index for p in log.prove_all([5, 5, 519])] == [5, 5, 519]


def test_what_is_not_there_is_not_proven(log_of: LogOf) -> None:
    log = log_of(3)
    for index in (-1, 3, 10**20):
        with pytest.raises(StorageError, match="no entry"):
            log.prove(index)
        with pytest.raises(StorageError, match="no entry"):
            log.entry(index)
    for size in (-1, 0, 4):
        with pytest.raises(ProofError):
            log.prove_consistency(size)
    assert log.find(b"nothing") is None


def test_proof_reads_few_tiles(log_of: LogOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two levels of 256 for 70,000 entries and the right edge of each: at most 5 tiles, however it is asked."""
    log = log_of(70_000)
    read: list[Tile] = []
    hashes = Snapshot.hashes
    monkeypatch.setattr(Snapshot, "hashes", lambda self, tile: read.append(tile) or hashes(self, tile))
    for index in (0, 255, 256, 40_000, 65_535, 65_536, 69_999):
        read.clear()
        log.prove(index)
        assert 0 < len(read) <= 5 and len(set(read)) == len(read)
    for old in (1, 255, 256, 65_535, 65_536, 65_537, 69_999):
        read.clear()
        log.prove_consistency(old, None)
        assert len(read) <= 10  # half of them for the old root, which was not given
    read.clear()
    log.append(b"more")
    assert read == []  # this process knows the edge


@pytest.mark.parametrize("size", [1, 255, 256, 257, 512, 700])
def test_tiles_and_bundles_are_the_bytes_of_the_specification(log_of: LogOf, size: int) -> None:
    log = log_of(size)
    leaves = [leaf_hash(b"entry %d" % i) for i in range(size)]
    for tile in tiles_of(size):
        span = 256**tile.level
        first = tile.index * 256
        wanted = [root(leaves[i * span : (i + 1) * span]) for i in range(first, first + tile.width)]
        assert log.tile(tile) == b"".join(wanted)
        if tile.level == 0:
            assert parse_bundle(log.bundle(tile)) == [b"entry %d" % i for i in range(first, first + tile.width)]
            part = Tile(0, tile.index, 1)  # an older partial tile is the start of the newer one
            assert log.tile(part) == wanted[0] and parse_bundle(log.bundle(part)) == [b"entry %d" % first]


def test_tile_that_does_not_exist_is_refused(log_of: LogOf) -> None:
    log = log_of(300)
    for tile in (Tile(0, 1, 45), Tile(0, 2, 1), Tile(1, 0, 2), Tile(2, 0, 1)):
        with pytest.raises(MalformedError, match="in a tree of 300 entries"):
            log.tile(tile)
    for tile in (Tile(0, 1, 45), Tile(1, 0, 1)):
        with pytest.raises(MalformedError):
            log.bundle(tile)


@pytest.mark.parametrize("step", [1, 3, 100, 255, 256, 257, 1000])
def test_tree_does_not_depend_on_how_it_was_appended(path: Path, key: LogKey, step: int) -> None:
    entries = [b"%d" % i for i in range(1100)]
    with Log.create(path, key) as log:
        for start in range(0, len(entries), step):
            log.append_many(entries[start : start + step])
        assert tree(log.checkpoint()).root == root(map(leaf_hash, entries))
        tiles = [log.tile(tile) for tile in tiles_of(1100)]
    with Log.open(path, key) as log:
        assert [log.tile(tile) for tile in tiles_of(1100)] == tiles


def test_log_reopened_at_each_size_goes_on(path: Path, key: LogKey) -> None:
    """The right edge is read back from tiles, of every shape."""
    Log.create(path, key).close()
    for size in range(0, 530, 1):
        with Log.open(path, key) as log:
            assert log.append(b"%d" % size).index == size
    with Log.open(path, key) as log:
        assert tree(log.checkpoint()).root == root(leaf_hash(b"%d" % i) for i in range(530))
