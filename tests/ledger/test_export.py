"""The exported layout: whole at every moment, incremental, never another history."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ledger import export as exporting
from ledger.checkpoint import Checkpoint
from ledger.errors import LedgerError, MalformedError, RolledBackError, SignatureError, StorageError, TamperedError
from ledger.export import export
from ledger.log import Log
from ledger.log_key import LogKey
from ledger.merkle import Frontier, leaf_hash
from ledger.note import Note
from ledger.source import FolderSource
from ledger.tiles import parse_bundle, tiles_of


def grow(log: Log, size: int) -> None:
    log.append_many([b"entry %d" % i for i in range(log.size(), size)])


def read(folder: Path) -> int:
    """Rebuild the tree that a folder's checkpoint speaks of from its bundles and tiles; its size."""
    with closing(FolderSource(folder)) as source:
        head = Checkpoint.parse(Note.parse(source.checkpoint()).text)
        leaves: list[bytes] = []
        for tile in tiles_of(head.size):
            hashes = source.tile(tile)
            if tile.level == 0:
                found = [leaf_hash(entry) for entry in parse_bundle(source.bundle(tile))]
                assert b"".join(found) == hashes
                leaves += found
        frontier = Frontier()
        frontier.extend(leaves)
        assert (frontier.size, frontier.root()) == (head.size, head.root)
    return head.size


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_every_size_is_whole_and_only_what_is_new_is_written(log: Log, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert export(log, out).before is None
    before: dict[str, tuple[int, int]] = {}
    for size in (1, 2, 255, 256, 257, 300, 511, 700, 701):
        grow(log, size)
        done = export(log, out)
        assert read(out) == done.size == size
        found = {name: (out / name).stat() for name in files(out)}
        kept = {name: (status.st_ino, status.st_mtime_ns) for name, status in found.items()}
        untouched = {name for name in kept if before.get(name) == kept[name]}
        assert done.written == len(kept) - len(untouched)
        assert all(name in untouched for name in before if "." not in name and name != "checkpoint")
        before = kept
    assert export(log, out) == exporting.Exported(701, 701, 0, 0)


def test_layout_is_that_of_c2sp_and_partial_tiles_go_with_the_full_one(log: Log, tmp_path: Path) -> None:
    grow(log, 200)
    export(log, tmp_path / "out")
    grow(log, 250)
    export(log, tmp_path / "out")
    assert files(tmp_path / "out") == {
        "checkpoint",
        *(f"tile/{kind}/000.p/{width}" for kind in ("0", "entries") for width in (200, 250)),
    }
    grow(log, 300)
    assert export(log, tmp_path / "out").removed == 4
    assert files(tmp_path / "out") == {
        "checkpoint", "tile/0/000", "tile/entries/000", "tile/0/001.p/44", "tile/entries/001.p/44", "tile/1/000.p/1",
    }  # fmt: skip


def test_three_levels(log: Log, tmp_path: Path) -> None:
    grow(log, 65_000)
    export(log, tmp_path / "out")
    grow(log, 66_000)
    done = export(log, tmp_path / "out")
    assert read(tmp_path / "out") == 66_000
    assert (
        done.written == 2 * 5 + 2 + 1 + 1
    )  # level 0 and bundles; the full and the partial tile of 1; of 2; checkpoint


@pytest.mark.parametrize("moment", range(1, 9))
def test_export_that_is_cut_off_leaves_a_whole_tree(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """At each write and rename in turn. What a reader finds is the old tree or the new one."""
    out = tmp_path / "out"
    grow(log, 300)
    export(log, out)
    grow(log, 600)
    left = [moment]
    replace = Path.replace

    def fail(path: Path, target: Path) -> Path:
        left[0] -= 1
        if not left[0]:
            raise OSError(28, "No space left on device", str(target))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    if moment <= 6:  # twice two files of level 0, a tile of level 1, the checkpoint
        with pytest.raises(StorageError, match="No space left"):
            export(log, out)
        assert read(out) == 300
        assert not [name for name in files(out) if name.startswith(".checkpoint")]
    monkeypatch.undo()
    export(log, out)
    assert read(out) == 600


def test_checkpoint_comes_last_and_after_everything_is_on_disk(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    grow(log, 600)
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        events.append("sync " + Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def replaced(path: Path, target: Path) -> Path:
        events.append("put " + Path(target).name)
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    export(log, tmp_path / "out")
    last = events.index("put checkpoint")
    assert [event for event in events if event.startswith("put")][-1] == "put checkpoint"
    synced_before = {event.removeprefix("sync ") for event in events[:last] if event.startswith("sync")}
    assert {event.removeprefix("put ") for event in events[:last] if event.startswith("put")} <= synced_before
    assert {"0", "1", "entries", "002.p", "tile", "out"} <= synced_before  # the folders too
    assert events[-1] == "sync out"


def test_larger_tree_in_the_folder_is_never_overwritten(log: Log, path: Path, key: LogKey, tmp_path: Path) -> None:
    grow(log, 10)
    log.close()
    shutil.copy(path, tmp_path / "old.db")
    with Log.open(path, key) as newer:
        grow(newer, 20)
        export(newer, tmp_path / "out")
        before = newer.checkpoint()
    with Log.open(tmp_path / "old.db", key) as old, pytest.raises(RolledBackError, match="20 entries, the log has 10"):
        export(old, tmp_path / "out")
    assert (tmp_path / "out/checkpoint").read_bytes() == before


def test_other_history_in_the_folder_is_never_overwritten(log: Log, key: LogKey, tmp_path: Path) -> None:
    grow(log, 300)
    export(log, tmp_path / "out")
    with Log.create(tmp_path / "fork.db", key) as fork:
        fork.append_many([b"other %d" % i for i in range(600)])
        with pytest.raises(RolledBackError):
            export(fork, tmp_path / "out")
        fork_of_same_size = Log.create(tmp_path / "same.db", key)
        with fork_of_same_size:
            fork_of_same_size.append_many([b"other %d" % i for i in range(300)])
            with pytest.raises(RolledBackError):
                export(fork_of_same_size, tmp_path / "out")
    assert read(tmp_path / "out") == 300
    assert (tmp_path / "out/checkpoint").read_bytes() == log.checkpoint()


def test_folder_of_somebody_else_is_left_alone(log: Log, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Log.create(tmp_path / "other.db", LogKey.generate("example.com/other")) as other:
        export(other, out)
    with pytest.raises((SignatureError, MalformedError)):
        export(log, out)
    (out / "checkpoint").write_bytes(b"nonsense")
    with pytest.raises(MalformedError):
        export(log, out)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/photo.jpeg").write_bytes(b"x")
    with pytest.raises(LedgerError, match="other files"):
        export(log, tmp_path / "home")
    assert files(tmp_path / "home") == {"photo.jpeg"}


@pytest.mark.parametrize(
    "damage",
    (
        'UPDATE tiles SET hashes = zeroblob(8192) WHERE level = 0 AND "index" = 1',
        "UPDATE tiles SET hashes = zeroblob(96) WHERE level = 1",
        "UPDATE entries SET data = 'other' WHERE \"index\" = 700",
        "UPDATE entries SET data = 'other' WHERE \"index\" = 5",
        'UPDATE entries SET leaf = zeroblob(32) WHERE "index" = 799',
        'DELETE FROM tiles WHERE level = 0 AND "index" = 0',
    ),
)
def test_damaged_log_is_not_published(log: Log, path: Path, tmp_path: Path, damage: str) -> None:
    grow(log, 800)
    with sqlite3.connect(path) as database:
        database.execute(damage)
    with pytest.raises(TamperedError):
        export(log, tmp_path / "out")
    assert not (tmp_path / "out/checkpoint").exists()
