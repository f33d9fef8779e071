"""The monitor on logs that behave: what it reads, looks at and remembers."""

import random
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import monitor as monitoring
from ledger.errors import ForkError, MalformedError, StorageError
from ledger.merkle import Frontier, leaf_hash, root
from ledger.monitor import Monitor, check
from ledger.position import Position, PositionFile
from ledger.rebuild import Rebuilt, edge_tiles
from ledger.signed_checkpoint import SignedCheckpoint
from ledger.tiles import tiles_of
from ledger.views import view_of_file, view_of_source, witness_path
from tests.monitored import KEY, Looked, Served, entries_to, signed, static

KEYS = KEY.verifier_keys


def watch(served: Served, looked: Looked, place: Path | None = None, **options: object) -> Monitor:
    options = {"patience": 0.0, "report": looked.findings.append, "looker": looked, **options}
    return Monitor(served, KEYS, position=PositionFile(place) if place else None, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 600, 70_000])
def test_every_entry_is_looked_at_once_in_order(size: int, tmp_path: Path) -> None:
    served, looked = Served(entries_to(size)), Looked()
    outcome = watch(served, looked, tmp_path / "position").once()
    assert list(looked.entries.values()) == served.entries
    assert (outcome.size, outcome.looked, outcome.new, looked.findings) == (size, size, size, [])
    assert {tile.path() for tile in tiles_of(size)} <= set(served.asked)
    saved = PositionFile(tmp_path / "position").load()
    assert saved is not None and saved.frontier.root() == root(map(leaf_hash, served.entries))


def test_a_second_look_reads_only_what_is_new(tmp_path: Path) -> None:
    served, looked = Served(entries_to(1000)), Looked()
    watch(served, looked, tmp_path / "position").once()
    served.grow(entries_to(1030)[1000:])
    served.asked.clear()
    outcome = watch(served, looked, tmp_path / "position").once()
    assert (outcome.new, looked.findings) == (30, [])
    assert list(looked.entries.values()) == served.entries
    bundles = sorted(path for path in served.asked if path.startswith("tile/entries"))
    assert bundles == ["tile/entries/003", "tile/entries/004.p/6"]


@settings(max_examples=40)
@given(st.lists(st.integers(0, 700), min_size=1, max_size=6), st.booleans())
def test_growth_in_any_steps_ends_at_the_same_place(sizes: list[int], limited: bool) -> None:
    served, looked = Served([]), Looked()
    follower = watch(served, looked, limit=150 if limited else None)
    for size in sorted(sizes):
        served.grow(entries_to(size)[len(served.entries) :])
        while (outcome := follower.once()).looked < size:
            assert limited and outcome.new > 0
        assert list(looked.entries.values()) == served.entries
    assert {finding.kind for finding in looked.findings} <= {"note"}


def test_a_look_that_may_not_take_all_goes_on_where_it_ended(tmp_path: Path) -> None:
    served, looked = Served(entries_to(2000)), Looked()
    places: list[int] = []
    for _ in range(4):
        places.append(watch(served, looked, tmp_path / "position", limit=600).once().looked)
    assert places == [512, 1024, 1536, 2000]
    assert list(looked.entries.values()) == served.entries
    assert "looked at entries to 512 of 2000" in looked.lines("note")[0]


def test_the_position_is_saved_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "SAVE_EVERY", 512)
    served, looked = Served(entries_to(2000)), Looked(fails_at=1700)
    with pytest.raises(KeyboardInterrupt):
        watch(served, looked, tmp_path / "position").once()
    saved = PositionFile(tmp_path / "position").load()
    assert saved is not None and saved.looked == 1536
    looked.fails_at = None
    assert watch(served, looked, tmp_path / "position").once().new == 2000 - 1536
    assert list(looked.entries.values()) == served.entries


def test_it_can_start_at_a_trusted_checkpoint() -> None:
    served, looked = Served(entries_to(1000)), Looked()
    outcome = watch(served, looked, start=signed(served.entries[:777])).once()
    assert (outcome.new, min(looked.entries), len(looked.entries)) == (223, 777, 223)
    assert looked.findings == []


def test_a_trusted_checkpoint_of_another_history_is_a_fork() -> None:
    with pytest.raises(ForkError, match="at size 500"):
        watch(Served(entries_to(1000)), Looked(), start=signed(entries_to(500, "other"))).once()


def test_views_that_agree_are_no_finding(tmp_path: Path) -> None:
    served, looked = Served(entries_to(1000)), Looked()
    friend = tmp_path / "friend.checkpoint"
    friend.write_bytes(signed(served.entries[:300]))
    views = [view_of_file(friend), view_of_source(Served(entries_to(999))), view_of_source(Served([]))]
    watch(served, looked, views=views).once()
    assert looked.findings == []


def test_a_view_that_is_not_there_is_reported(tmp_path: Path) -> None:
    looked = Looked()
    watch(Served(entries_to(3)), looked, views=[view_of_file(tmp_path / "gone")]).once()
    assert [finding.kind for finding in looked.findings] == ["unreachable"]


def test_a_log_that_catches_up_with_another_view_is_not_behind() -> None:
    """Caches serve old checkpoints for a moment."""
    served, looked = Served(entries_to(1000)), Looked()
    fresh, served.note = served.note, signed(served.entries[:900])
    asked: list[str] = []

    def catch_up(path: str) -> None:
        asked.append(path)
        if asked.count("checkpoint") == 2:
            served.note = fresh

    served.before = catch_up
    outcome = watch(served, looked, views=[view_of_source(Served(entries_to(1000)))], patience=0.05).once()
    assert (outcome.looked, looked.findings) == (1000, [])


def test_the_policy_decides_before_anything_is_read() -> None:
    class Refused(Exception):
        pass

    def require(signed: SignedCheckpoint) -> None:
        raise Refused

    served = Served(entries_to(3))
    with pytest.raises(Refused):
        watch(served, Looked(), require=require).once()
    assert served.asked == []


def test_a_partial_tile_may_be_gone_when_the_full_one_is_there() -> None:
    """The log grows between checkpoint and tiles."""
    served, looked = Served(entries_to(1000)), Looked()
    served.files |= static(entries_to(1100))
    del served.files["tile/0/003.p/232"], served.files["tile/entries/003.p/232"]
    outcome = watch(served, looked).once()
    assert (outcome.looked, looked.findings) == (1000, [])


def test_check_finds_nothing_in_a_sound_log() -> None:
    told: list[tuple[int, int]] = []
    assert check(Served(entries_to(700)), KEYS, progress=lambda *extent: told.append(extent)) == []
    assert told[-1] == (700, 700)


def test_witnesses_are_asked_where_the_specification_says() -> None:
    assert witness_path("example.com/log") == sha256(b"example.com/log").hexdigest() + "/checkpoint"


# -- position ----------------------------------------------------------------------------------------------------------


def test_a_position_is_what_was_saved(tmp_path: Path) -> None:
    file = PositionFile(tmp_path / "position")
    assert file.load() is None
    for size in (0, 1, 6, 255):
        frontier = Frontier()
        for entry in entries_to(size):
            frontier.append(leaf_hash(entry))
        position = Position(size, tuple(frontier.nodes), signed(entries_to(size)))
        file.save(position)
        assert file.load() == position
    assert [path.name for path in tmp_path.iterdir()] == ["position"]


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"@v1", b"@v2"), (b"looked 6", b"looked 06"), (b"looked 6", b"looked 7"), (b"looked", b"\xff"), (b"\n\n", b"\n")],
)
def test_a_damaged_position_is_not_believed(old: bytes, new: bytes, tmp_path: Path) -> None:
    served = Served(entries_to(6))
    watch(served, Looked(), tmp_path / "position").once()
    data = (tmp_path / "position").read_bytes()
    (tmp_path / "position").write_bytes(data.replace(old, new, 1))
    with pytest.raises(MalformedError):
        watch(served, Looked(), tmp_path / "position").once()


def test_a_position_that_cannot_be_saved_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot save"):
        watch(Served(entries_to(6)), Looked(), tmp_path / "gone" / "position").once()


def test_an_edge_that_the_log_never_had_is_not_believed(tmp_path: Path) -> None:
    served, file = Served(entries_to(6)), PositionFile(tmp_path / "position")
    file.save(Position(6, (bytes(32), bytes(32)), served.note))
    with pytest.raises(MalformedError, match="does not fit"):
        watch(served, Looked(), file.path).once()


# -- the tree, rebuilt -------------------------------------------------------------------------------------------------


def test_tiles_are_those_of_the_tree_whatever_the_steps() -> None:
    pick = random.Random(2)
    expected = {path: data for path, data in static(entries_to(140_000)).items() if not path.startswith("tile/entries")}
    leaves = [leaf_hash(entry) for entry in entries_to(140_000)]
    tree, done = Rebuilt(Frontier()), 0
    made: dict[str, bytes] = {}
    while done < len(leaves):
        step = pick.choice([1, 255, 256, 5000, 40_000])
        made |= {tile.path(): data for tile, data in tree.add(leaves[done : done + step])}
        done += step
        if pick.random() < 0.3:  # go on from the edge alone
            frontier = tree.frontier.copy()
            tree = Rebuilt.resume(
                frontier, lambda tile: b"".join(hashes_of(leaves, tile.level, tile.index, tile.width))
            )
    made |= {tile.path(): data for tile, data in tree.partial()}
    assert made == {path: data for path, data in expected.items() if not path.startswith("tile/0/")}
    assert tree.frontier.root() == root(leaves)


def hashes_of(leaves: list[bytes], level: int, index: int, width: int) -> list[bytes]:
    span = 256**level
    first = index * 256
    return [root(leaves[i * span : (i + 1) * span]) for i in range(first, first + width)]


def test_edge_tiles_are_the_partial_ones() -> None:
    for size in (0, 1, 255, 256, 257, 65_536, 65_537, 16_777_216 + 3):
        partial = [(t.level, t.index, t.width) for t in edge_tiles(size)]
        assert all(width < 256 for _, _, width in partial)
        if size < 100_000:
            assert partial == [(t.level, t.index, t.width) for t in tiles_of(size) if t.width < 256]
