"""Attacks on whoever monitors a log, by the log itself: its operator holds the signing key and serves what it likes.

What must hold: two histories become a proof that convinces others, nothing that was not logged passes for an entry, and the
monitor never counts as looked at what it has not looked at.
"""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger import monitor as monitoring
from ledger.checkpoint import Checkpoint
from ledger.errors import ForkError, MalformedError, RemoteError, RolledBackError, SignatureError
from ledger.fork import Fork, ForkProof
from ledger.log_key import LogKey
from ledger.merkle import leaf_hash, node_hash
from ledger.monitor import Monitor, check
from ledger.position import PositionFile
from ledger.signed_checkpoint import SignedCheckpoint
from ledger.source import FolderSource
from ledger.tiles import Tile, format_bundle, parse_bundle
from ledger.views import View, view_of_source
from tests.cases import Witness, day
from tests.monitored import KEY, Looked, Served, entries_to, signed, static

SIZE = 1000
KEYS = KEY.verifier_keys


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "position"


def watch(served: object, looked: Looked, place: Path | None = None, **options: object) -> Monitor:
    options = {"patience": 0.0, "report": looked.findings.append, "looker": looked, **options}
    return Monitor(served, KEYS, position=PositionFile(place) if place else None, **options)  # type: ignore[arg-type]


def followed(place: Path, size: int = SIZE) -> tuple[Served, Looked]:
    """A log that was looked at once, and found sound."""
    served, looked = Served(entries_to(size)), Looked()
    watch(served, looked, place).once()
    assert looked.findings == []
    return served, looked


def changed(size: int, *places: int) -> list[bytes]:
    """Another history."""
    return [b"another" if i in places else entry for i, entry in enumerate(entries_to(size))]


def caught(monitor: Monitor, place: Path | None = None) -> Fork:
    """The fork that a stranger sees in the proof that the monitor gives; the position stays where it was."""
    before = place.read_bytes() if place is not None else None
    with pytest.raises(ForkError) as error:
        monitor.once()
    assert place is None or place.read_bytes() == before
    return ForkProof.parse(error.value.proof).verify(KEYS)


# -- two histories -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("swapped", [0, 300, SIZE - 1])
def test_fork_at_the_same_size(swapped: int, place: Path) -> None:
    followed(place)
    fork = caught(watch(Served(changed(SIZE, swapped)), Looked(), place), place)
    assert (fork.smaller.size, fork.larger.size) == (SIZE, SIZE)


@pytest.mark.parametrize("larger", [SIZE + 1, SIZE + 300, 3 * SIZE])
@pytest.mark.parametrize("swapped", [0, 511, SIZE - 1])
def test_fork_at_a_larger_size(larger: int, swapped: int, place: Path) -> None:
    followed(place)
    fork = caught(watch(Served(changed(larger, swapped)), Looked(), place), place)
    assert (fork.smaller.size, fork.larger.size) == (SIZE, larger)


def test_rollback(place: Path) -> None:
    _, looked = followed(place)
    before = place.read_bytes()
    with pytest.raises(RolledBackError, match="shows 900 entries, 1000 were signed"):
        watch(Served(entries_to(900)), looked, place).once()
    assert place.read_bytes() == before


def test_rollback_and_another_history_from_there(place: Path) -> None:
    followed(place)
    assert caught(watch(Served(changed(SIZE + 50, 950, 970)), Looked(), place), place).larger.size == SIZE + 50


def test_a_smaller_checkpoint_of_another_history_is_a_fork_where_the_larger_tiles_are_still_there(place: Path) -> None:
    served, looked = followed(place)
    served.note = signed(changed(900, 3))
    assert caught(watch(served, looked, place), place).smaller.size == 900


def test_entry_dropped_and_added_again_at_the_end(place: Path) -> None:
    followed(place)
    entries = entries_to(SIZE)
    assert caught(watch(Served([*entries[:7], *entries[8:], entries[7]]), Looked(), place), place)
    assert caught(watch(Served([*entries[:7], *entries[8:], entries[7], b"more"]), Looked(), place), place)


def test_fork_that_hides_its_tiles_is_not_believed(place: Path) -> None:
    """It keeps back what would prove the fork: then there is no proof, but nothing is believed either."""
    followed(place)
    served, looked = Served(changed(SIZE + 300, 3)), Looked()
    served.files = static(entries_to(SIZE + 300))  # tiles and entries of the history shown before
    before = place.read_bytes()
    watch(served, looked, place).once()
    assert place.read_bytes() == before
    assert any("lead to root" in line for line in looked.lines("log"))


@pytest.mark.parametrize(("mine", "theirs"), [(SIZE, SIZE), (SIZE, 400), (400, SIZE), (256, 512)])
def test_split_view(mine: int, theirs: int) -> None:
    """One history for the monitor, one for a mirror; each is sound by itself."""
    shown, hidden = Served(entries_to(mine)), Served(changed(theirs, 200))
    for one, other in ((shown, hidden), (hidden, shown)):
        fork = caught(watch(one, Looked(), views=[view_of_source(other)]))
        assert {fork.smaller.size, fork.larger.size} == {mine, theirs}


def test_split_view_to_a_friend_who_has_only_a_checkpoint() -> None:
    friend = View("friend", lambda: signed(changed(400, 200)))
    assert caught(watch(Served(entries_to(SIZE)), Looked(), views=[friend])).smaller.size == 400


def test_split_view_to_a_witness() -> None:
    witness = Witness("witness.example")
    note = witness.cosign(signed(changed(400, 200)), day(30))
    view = View("witness", lambda: note, cosigner=witness.public)
    assert caught(watch(Served(entries_to(SIZE)), Looked(), views=[view])).smaller.size == 400


def test_a_view_frozen_in_the_past_is_reported() -> None:
    """The monitor is kept from seeing what was logged since."""
    looked = Looked()
    watch(Served(entries_to(400)), looked, views=[View("friend", lambda: signed(entries_to(SIZE)))]).once()
    assert looked.lines("behind") == ["memory shows 400 entries, friend has seen 1000"]


def test_a_second_view_that_the_log_did_not_sign_accuses_nobody() -> None:
    forged = signed(changed(400, 200), LogKey.generate(KEY.name))
    looked = Looked()
    watch(Served(entries_to(SIZE)), looked, views=[View("enemy", lambda: forged)]).once()
    assert [finding.kind for finding in looked.findings] == ["unreachable"]


def test_a_second_view_with_wrong_tiles_accuses_nobody() -> None:
    other, looked = Served(entries_to(SIZE)), Looked()
    other.files = static(changed(SIZE, 3))
    watch(Served(entries_to(400)), looked, views=[view_of_source(other)]).once()
    assert any("the tiles of memory do not show" in line for line in looked.lines("log"))


# -- served otherwise than signed --------------------------------------------------------------------------------------


def swap_entry(files: dict[str, bytes]) -> None:
    entries = parse_bundle(files["tile/entries/001"])
    files["tile/entries/001"] = format_bundle([*entries[:44], b"another", *entries[45:]])


def swap_entry_and_tile(files: dict[str, bytes]) -> None:
    swap_entry(files)
    tile = files["tile/0/001"]
    files["tile/0/001"] = tile[: 44 * 32] + leaf_hash(b"another") + tile[45 * 32 :]


def damage(path: str, place: int = 0) -> Callable[[dict[str, bytes]], None]:
    def do(files: dict[str, bytes]) -> None:
        data = bytearray(files[path])
        data[place] ^= 1
        files[path] = bytes(data)

    return do


def cut(path: str, end: int) -> Callable[[dict[str, bytes]], None]:
    return lambda files: files.update({path: files[path][:end]})


def lengthen(path: str, more: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda files: files.update({path: files[path] + more})


def remove(path: str) -> Callable[[dict[str, bytes]], None]:
    def do(files: dict[str, bytes]) -> None:
        del files[path]

    return do


ATTACKS: dict[str, tuple[Callable[[dict[str, bytes]], None], str]] = {
    "entry swapped behind a valid root": (swap_entry, "entry 300: its bytes hash to"),
    "entry and leaf hash swapped": (swap_entry_and_tile, "tile/1/000.p/3: hash 1"),
    "leaf hash wrong": (damage("tile/0/001", 44 * 32), "tile/0/001: the hash of entry 300"),
    "hash of an upper tile wrong": (damage("tile/1/000.p/3", 64), "tile/1/000.p/3: hash 2"),
    "last leaf hash wrong": (damage("tile/0/003.p/232", 231 * 32), "tile/0/003.p/232: the hash of entry 999"),
    "bundle cut short": (cut("tile/entries/002", 1000), "tile/entries/002"),
    "bundle without its last entry": (cut("tile/entries/002", -len(b"??entry 767")), "tile/entries/002"),
    "bundle with an entry too many": (lengthen("tile/entries/002", b"\0\1x"), "tile/entries/002"),
    "partial bundle with an entry too many": (lengthen("tile/entries/003.p/232", b"\0\1x"), "tile/entries/003.p/232"),
    "bundle empty": (cut("tile/entries/001", 0), "tile/entries/001"),
    "bundle missing": (remove("tile/entries/001"), "tile/entries/001"),
    "tile missing": (remove("tile/0/001"), "tile/0/001"),
    "upper tile missing": (remove("tile/1/000.p/3"), "tile/1/000.p/3"),
    "tile cut short": (cut("tile/0/001", 8191), "tile/0/001"),
    "last byte of all changed": (damage("tile/entries/003.p/232", -1), "entry 999: its bytes hash to"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_what_is_served_but_not_signed_is_named(name: str, place: Path, tmp_path: Path) -> None:
    attack, expected = ATTACKS[name]
    served, looked = Served(entries_to(SIZE)), Looked()
    attack(served.files)
    watch(served, looked, place).once()
    assert any(line.startswith(expected) for line in looked.lines("log")), looked.lines()
    assert not place.exists(), "what is wrong was counted as looked at"
    if name != "entry and leaf hash swapped":  # which only the root betrays, at the end
        assert set(looked.entries.values()) <= set(served.entries)
    folder = tmp_path / "static"
    for path, data in {"checkpoint": served.note, **served.files}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    lines = check(FolderSource(folder), KEYS)
    assert any(expected in line for line in lines), lines


@pytest.mark.parametrize("name", ATTACKS)
def test_what_was_wrong_is_found_again_until_it_is_right(name: str, place: Path) -> None:
    attack, expected = ATTACKS[name]
    served, looked = Served(entries_to(SIZE)), Looked()
    sound = dict(served.files)
    attack(served.files)
    for _ in range(2):
        looked.findings.clear()
        watch(served, looked, place).once()
        assert any(line.startswith(expected) for line in looked.lines("log"))
    served.files, looked.findings = sound, []
    assert watch(served, looked, place).once().looked == SIZE
    assert (looked.findings, list(looked.entries.values())) == ([], served.entries)


def test_the_edge_of_what_was_verified_is_not_taken_from_the_log(place: Path) -> None:
    """Hashes of old entries, altered where the next look begins."""
    served, looked = followed(place)
    served.grow([b"more"])
    damage("tile/0/003.p/233")(served.files)
    watch(served, looked, place).once()
    assert any("is not what it was" in line for line in looked.lines("log"))
    saved = PositionFile(place).load()
    assert saved is not None and saved.looked == SIZE


def test_a_log_with_everything_wrong_is_not_listed_without_end() -> None:
    served, looked = Served(entries_to(3000)), Looked()
    for index in range(11):
        served.files[f"tile/entries/{index:03d}"] = format_bundle([b"another %d" % i for i in range(256)])
    watch(served, looked).once()
    assert len(looked.findings) == monitoring.MAX_FINDINGS + 1
    assert "the rest was not looked at" in looked.lines()[-1]


# -- checkpoints -------------------------------------------------------------------------------------------------------


def test_checkpoint_with_another_key(place: Path) -> None:
    _, looked = followed(place)
    before = place.read_bytes()
    with pytest.raises(SignatureError):
        watch(Served(entries_to(SIZE), LogKey.generate(KEY.name)), looked, place).once()
    assert place.read_bytes() == before


def test_checkpoint_of_another_log_with_the_same_key() -> None:
    other = LogKey("example.com/another", KEY.ed25519)
    with pytest.raises(SignatureError):
        watch(Served(entries_to(3), other), Looked()).once()


def test_a_position_with_a_checkpoint_that_the_log_did_not_sign(place: Path) -> None:
    """Who can write into the monitor's folder gets no further than the log's key lets them."""
    served, looked = followed(place)
    forged = signed(entries_to(SIZE), LogKey.generate(KEY.name))
    data = place.read_bytes().partition(b"\n\n")[0] + b"\n\n" + forged
    place.write_bytes(data)
    with pytest.raises(SignatureError):
        watch(served, looked, place).once()


def test_signed_checkpoint_of_a_tree_that_does_not_exist() -> None:
    served, looked = Served(entries_to(SIZE)), Looked()
    served.note = KEY.sign(Checkpoint(KEY.name, 2**62, leaf_hash(b"made up")), 1)
    watch(served, looked, limit=5000).once()
    assert looked.lines("log")


def test_cosignatures_are_asked_for_before_anything_is_read() -> None:
    class TooFew(Exception):
        pass

    def require(checkpoint: SignedCheckpoint) -> None:
        if len(checkpoint.cosigned) < 1:
            raise TooFew

    witness, served = Witness("witness.example"), Served(entries_to(3))
    with pytest.raises(TooFew):
        watch(served, Looked(), require=require, witness_keys=[witness.public]).once()
    assert served.asked == []
    served.note = witness.cosign(served.note, day(30))
    assert watch(served, Looked(), require=require, witness_keys=[witness.public]).once().looked == 3


def test_cosignature_of_another_checkpoint() -> None:
    witness, served = Witness("witness.example"), Served(entries_to(3))
    stolen = witness.cosign(signed(entries_to(2)), day(30)).splitlines(keepends=True)[-1]
    served.note += stolen
    with pytest.raises(SignatureError):
        watch(served, Looked(), witness_keys=[witness.public]).once()


# -- looking -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 1, 255, 256, 700, 999])
def test_stopped_before_it_looked(at: int, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A known bug of others: the position is saved before the entries were looked at, and after a crash nobody does."""
    monkeypatch.setattr(monitoring, "SAVE_EVERY", 256)
    served, looked = Served(entries_to(SIZE)), Looked(fails_at=at)
    with pytest.raises(KeyboardInterrupt):
        watch(served, looked, place).once()
    saved = PositionFile(place).load()
    assert (saved.looked if saved is not None else 0) <= at
    looked.fails_at = None
    watch(served, looked, place).once()
    assert list(looked.entries.values()) == served.entries


def test_stopped_while_remembering(place: Path) -> None:
    """Between what the looker keeps and the saved position, entries come again."""
    served, looked = Served(entries_to(SIZE)), Looked()

    def fail() -> None:
        raise KeyboardInterrupt

    looked.keep = fail  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        watch(served, looked, place).once()
    assert not place.exists()


@pytest.mark.parametrize("at", ["checkpoint", "tile/entries/001", "tile/0/002", "tile/1/000.p/3"])
def test_unreachable_in_the_middle(at: str, place: Path) -> None:
    served, looked = Served(entries_to(SIZE)), Looked()

    def fail(path: str) -> None:
        if path == at:
            raise RemoteError("no answer")

    served.before = fail
    with pytest.raises(RemoteError):
        watch(served, looked, place).once()
    assert not place.exists()
    served.before = lambda path: None
    watch(served, looked, place).once()
    assert list(looked.entries.values()) == served.entries


class Endless:
    """2**50 entries, all the same: the log's tiles are made as they are asked for."""

    name = "endless"

    def __init__(self) -> None:
        self.hashes = [leaf_hash(b"again")]
        for _ in range(50):
            self.hashes.append(node_hash(self.hashes[-1], self.hashes[-1]))

    def checkpoint(self) -> bytes:
        return KEY.sign(Checkpoint(KEY.name, 2**50, self.hashes[50]), 1)

    def tile(self, tile: Tile) -> bytes:
        return self.hashes[8 * tile.level] * tile.width

    def bundle(self, tile: Tile) -> bytes:
        return format_bundle([b"again"] * tile.width)

    def close(self) -> None: ...


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def begin(self, size: int) -> None: ...
    def keep(self) -> None: ...

    def look(self, first: int, entries: list[bytes]) -> None:
        self.count += len(entries)


def test_endless_log_costs_no_more_than_the_limit(place: Path) -> None:
    counter, looked = Counter(), Looked()
    endless = Endless()
    watch(
        endless, looked, place, looker=counter, limit=10_000
    ).once()  # what a first look leaves behind, imports and caches
    tracemalloc.start()
    outcome = watch(endless, looked, place, looker=counter, limit=60_000).once()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (outcome.size, counter.count) == (2**50, outcome.looked)
    assert outcome.looked <= 70_000
    assert peak < 4_000_000
    assert not looked.lines("log")
    saved = PositionFile(place).load()
    assert saved is not None and saved.looked == outcome.looked


def test_endless_bytes_are_cut_off(tmp_path: Path) -> None:
    served = Served(entries_to(SIZE))
    for path, data in {"checkpoint": served.note, **served.files}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    for path in ("tile/entries/001", "tile/0/001"):
        with (tmp_path / path).open("wb") as file:
            file.truncate(1 << 40)  # a sparse file
    lines = check(FolderSource(tmp_path), KEYS)
    assert len(lines) == 2 and "tile/entries/001" in lines[0], lines
    with (tmp_path / "checkpoint").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(MalformedError):
        watch(FolderSource(tmp_path), Looked()).once()
