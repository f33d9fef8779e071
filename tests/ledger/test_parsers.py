"""Every parser: what it writes it reads, and what it reads it would write, or it raises a LedgerError and nothing else."""

from base64 import b64encode
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.checkpoint import MAX_SIZE, Checkpoint
from ledger.errors import EntryTooLargeError, LedgerError, MalformedError
from ledger.log_key import LogKey
from ledger.merkle import EMPTY_ROOT
from ledger.note import Note, NoteSignature, VerifierKey
from ledger.proof import TlogProof
from ledger.tiles import Tile, format_bundle, parse_bundle, parse_path, tiles_of

KEY = LogKey.generate("example.com/log").verifier_keys[0]
NOTE = LogKey.generate("example.com/log").sign(Checkpoint("example.com/log", 3, bytes(32)), 0)
PROOF = TlogProof(1, (bytes(32), b"\x01" * 32), NOTE, b"extra").format()

hashes = st.binary(min_size=32, max_size=32)
names = st.text(
    st.characters(codec="utf-8", exclude_categories=["Z", "C"], exclude_characters="+"), min_size=1, max_size=20
)
lines = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=30)
texts = st.lists(lines, min_size=1, max_size=4).map(lambda some: "\n".join(some) + "\n")
checkpoints = st.builds(
    Checkpoint, lines.filter(bool), st.integers(1, MAX_SIZE), hashes
) | st.builds(Checkpoint, lines.filter(bool), st.just(0), st.just(EMPTY_ROOT))  # fmt: skip
signatures = st.builds(NoteSignature, names, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=80))
notes = st.builds(Note, texts, st.lists(signatures, min_size=1, max_size=4).map(tuple))
tiles = st.builds(Tile, st.integers(0, 63), st.integers(0, 2**55 - 1), st.integers(1, 256))
decimals = st.sampled_from(["00", "01", "-1", "+1", " 1", "1 ", "1.0", "1e3", "٣", "", "1_0", str(2**63), "9" * 30])


@st.composite
def mutations(draw: st.DrawFn, good: bytes) -> bytes:
    """``good`` with some pieces cut out, put in, doubled or replaced."""
    data = good
    for _ in range(draw(st.integers(1, 3))):
        lo = draw(st.integers(0, len(data)))
        hi = min(len(data), lo + draw(st.integers(0, 6)))
        piece = draw(st.sampled_from([b"", b"\n", b"\n\n", b" ", b"+", b"=", b"0", b"\xff", b"\0", data[lo:hi] * 2]))
        data = data[:lo] + piece + data[hi:]
    return data


def decoded(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def readable(data: bytes) -> str:
    """As texts of notes are, which are parsed as UTF-8 first."""
    return data.decode("utf-8", "replace")


@given(notes)
def test_note_round_trip(note: Note) -> None:
    assert Note.parse(note.format()) == note


@given(st.binary() | mutations(NOTE))
def test_any_note_parses_to_itself_or_is_refused(data: bytes) -> None:
    with suppress(LedgerError):
        assert Note.parse(data).format() == data


@given(names, st.sampled_from([1, 4]))
def test_verifier_key_round_trip(name: str, type_: int) -> None:
    key = VerifierKey(name, type_, KEY.public)
    assert VerifierKey.parse(key.format()) == key


@given(st.text() | mutations(KEY.format().encode()).map(decoded))
def test_any_verifier_key_parses_to_itself_or_is_refused(text: str) -> None:
    with suppress(LedgerError):
        assert VerifierKey.parse(text).format() == text


@given(checkpoints)
def test_checkpoint_round_trip(checkpoint: Checkpoint) -> None:
    assert Checkpoint.parse(checkpoint.format().decode()) == checkpoint


@given(st.text() | mutations(Checkpoint("example.com/log", 3, bytes(32)).format()).map(readable))
def test_any_checkpoint_parses_to_itself_or_is_refused(text: str) -> None:
    with suppress(LedgerError):
        assert Checkpoint.parse(text).format().decode() == text


@given(decimals)
def test_other_spellings_of_numbers_are_refused(number: str) -> None:
    with pytest.raises(MalformedError):
        Checkpoint.parse(f"origin\n{number}\n{b64encode(bytes(32)).decode()}\n")
    with pytest.raises(MalformedError):
        TlogProof.parse(PROOF.replace(b"index 1", b"index " + number.encode()))


def test_checkpoint_with_extension_lines_or_another_empty_root_is_refused() -> None:
    root = b64encode(bytes(32)).decode()
    for text in (f"o\n3\n{root}\nmore\n", f"o\n3\n{root}", f"o\n0\n{root}\n", f"\n3\n{root}\n", "o\n3\n\n"):
        with pytest.raises(MalformedError):
            Checkpoint.parse(text)
    with pytest.raises(MalformedError):
        Checkpoint.parse(f"o\n1\n{b64encode(EMPTY_ROOT).decode()}\n")


@given(st.integers(0, MAX_SIZE), st.lists(hashes, max_size=63).map(tuple), st.none() | st.binary(max_size=40))
def test_tlog_proof_round_trip(index: int, path: tuple[bytes, ...], extra: bytes | None) -> None:
    proof = TlogProof(index, path, NOTE, extra)
    assert TlogProof.parse(proof.format()) == proof


@given(st.binary() | mutations(PROOF))
def test_any_tlog_proof_parses_to_itself_or_is_refused(data: bytes) -> None:
    with suppress(LedgerError):
        assert TlogProof.parse(data).format() == data


@given(tiles)
def test_tile_path_round_trip(tile: Tile) -> None:
    assert parse_path(tile.path()) == (tile, False)
    if tile.level == 0:
        assert parse_path(tile.bundle_path()) == (tile, True)


@given(st.text() | mutations(b"tile/0/x001/x234/067.p/12").map(decoded) | mutations(b"tile/entries/067").map(decoded))
@example("tile/0/" + "x001/" * 2000 + "001")
def test_any_tile_path_parses_to_itself_or_is_refused(path: str) -> None:
    with suppress(LedgerError):
        tile, is_bundle = parse_path(path)
        assert (tile.bundle_path() if is_bundle else tile.path()) == path


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/007",
        "tile/64/000",
        "tile/00/000",
        "tile/0/x000/001",
        "tile/0/1",
        "tile/0/001/002",
        "tile/0/x001",
        "/tile/0/001",
        "tile/0/001/",
        "tile/0/001\n",
        "tile/0/٠٠١",
        "tile/entries/x1/001",
    ],
)
def test_malformed_tile_path_is_refused(path: str) -> None:
    with pytest.raises(MalformedError):
        parse_path(path)


def test_tile_path_examples_of_the_specification() -> None:
    assert Tile(0, 1234067, 256).path() == "tile/0/x001/x234/067"
    assert {t.path() for t in tiles_of(70_000)} >= {
        "tile/0/273.p/112",
        "tile/1/000",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    }


@given(st.lists(st.binary(max_size=300), max_size=256))
def test_bundle_round_trip(entries: list[bytes]) -> None:
    assert parse_bundle(format_bundle(entries)) == entries


@given(st.binary() | mutations(format_bundle([b"one", b"", b"three" * 80])))
def test_any_bundle_parses_to_itself_or_is_refused(data: bytes) -> None:
    with suppress(LedgerError):
        assert format_bundle(parse_bundle(data)) == data


def test_largest_entry_of_a_bundle() -> None:
    assert parse_bundle(format_bundle([bytes(65_535)])) == [bytes(65_535)]
    with pytest.raises(EntryTooLargeError):
        format_bundle([bytes(65_536)])
