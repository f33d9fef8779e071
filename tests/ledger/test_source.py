"""Where tiles come from: a server or a folder. Retries, limits, partial tiles that are gone."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger import http
from ledger.errors import LedgerError, MalformedError, MissingError, RemoteError, StorageError
from ledger.log import Log
from ledger.source import FolderSource, HttpSource, Source, open_source
from ledger.tiles import Tile, parse_bundle
from tests.plain_server import Answer, PlainServer, Seen, serving


@pytest.fixture
def server(log_of: Callable[[int], Log]) -> Iterator[PlainServer]:
    """A log with 300 entries."""
    with serving(log_of(300)) as server:
        yield server


@pytest.fixture
def source(server: PlainServer) -> Iterator[HttpSource]:
    source = HttpSource(server.url, timeout=2, patience=2)
    yield source
    source.close()


def export(log: Log, folder: Path, *, partial: bool = True) -> Source:
    """The static layout of a log of 300 entries."""
    tiles = [Tile(0, 0, 256), Tile(1, 0, 1), *([Tile(0, 1, 44)] if partial else [])]
    files = {tile.path(): log.tile(tile) for tile in tiles}
    files |= {tile.bundle_path(): log.bundle(tile) for tile in tiles if not tile.level}
    for path, data in (files | {"checkpoint": log.checkpoint()}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return open_source(folder)


@pytest.mark.parametrize("place", ["server", "folder"])
def test_reads_what_the_log_has(server: PlainServer, tmp_path: Path, place: str) -> None:
    source = open_source(server.url) if place == "server" else export(server.log, tmp_path / "static")
    for tile in (Tile(0, 0, 256), Tile(0, 1, 44), Tile(1, 0, 1)):
        assert source.tile(tile) == server.log.tile(tile)
    for tile in (Tile(0, 0, 256), Tile(0, 1, 44)):
        assert source.bundle(tile) == server.log.bundle(tile)
    assert source.checkpoint() == server.log.checkpoint()
    with pytest.raises(MissingError):
        source.tile(Tile(0, 2, 256))
    source.close()


def test_full_tile_stands_in_for_a_partial_one_that_is_gone(server: PlainServer, tmp_path: Path) -> None:
    source = export(server.log, tmp_path / "static")
    assert source.tile(Tile(0, 0, 7)) == server.log.tile(Tile(0, 0, 256))[: 7 * 32]
    assert parse_bundle(source.bundle(Tile(0, 0, 7))) == [b"entry %d" % i for i in range(7)]
    with pytest.raises(MissingError):
        source.tile(Tile(0, 1, 43))


@pytest.mark.parametrize("wrong", [b"", b"x", b"x" * 31, b"x" * 33, b"x" * 44 * 32 + b"y"])
def test_tile_or_bundle_of_another_length_is_refused(server: PlainServer, source: HttpSource, wrong: bytes) -> None:
    server.faults["tile"] = lambda _: Answer(200, wrong)
    with pytest.raises(MalformedError):
        source.tile(Tile(0, 1, 44))
    with pytest.raises(MalformedError):
        source.bundle(Tile(0, 1, 44))


def failing(server: PlainServer, times: int, answer: Answer) -> Callable[[Seen], Answer]:
    left = [times]

    def fault(request: Seen) -> Answer:
        left[0] -= 1
        return answer if left[0] >= 0 else server.good(request)

    return fault


@pytest.mark.parametrize(
    "answer",
    [
        Answer(500),
        Answer(502),
        Answer(503),
        Answer(504),
        Answer(429),
        Answer(cut=True),
        Answer(200, b"half", length=900),
    ],
    ids=["500", "502", "503", "504", "429", "cut", "half"],
)
def test_tried_again_until_there_is_an_answer(server: PlainServer, source: HttpSource, answer: Answer) -> None:
    server.faults["checkpoint"] = failing(server, 2, answer)
    assert source.checkpoint() == server.log.checkpoint()
    assert len(server.seen) == 3


def test_retry_after_is_honoured_but_not_beyond_the_patience(server: PlainServer) -> None:
    slept: list[float] = []
    asked = http.Server(server.url, patience=5, sleep=slept.append)
    server.faults["checkpoint"] = failing(server, 1, Answer(503, headers={"Retry-After": "2"}))
    assert asked.get("checkpoint", limit=1000).status == 200
    assert slept == [2.0]
    server.faults["checkpoint"] = lambda _: Answer(503, b'{"message": "come later"}', {"Retry-After": "86400"})
    with pytest.raises(RemoteError, match="come later"):
        asked.get("checkpoint", limit=1000)
    assert slept == [2.0]
    asked.close()


@pytest.mark.parametrize("value", [None, "", "-1", "soon", "Wed, 21 Oct 2015 07:28:00 GMT", "1e9", "\u0661"])
def test_unreadable_or_past_retry_after_is_no_wait(value: str | None) -> None:
    assert http._retry_after(value) == 0


def test_other_refusals_are_not_tried_again(server: PlainServer, source: HttpSource) -> None:
    server.faults["checkpoint"] = lambda _: Answer(403, b'{"error": "x", "message": "not\\u001b[31m for you"}')
    with pytest.raises(RemoteError, match=r"403: not \[31m for you"):
        source.checkpoint()
    assert len(server.seen) == 1


def test_server_that_is_not_there_is_a_clear_error() -> None:
    source = HttpSource("http://127.0.0.1:9", patience=0)
    with pytest.raises(RemoteError, match="did not answer GET checkpoint in 1 tries"):
        source.checkpoint()
    source.close()


@pytest.mark.parametrize(
    "url",
    [
        *("", "log.example", "ftp://log.example", "https://", "https://user@log.example", "https://a b"),
        *("https://log.example?x=1", "https://log.example#x", "https://log.example:99999", "https://log\n.example"),
        *("https://[::1", "https://\u2024.example"),
    ],
)
def test_what_is_no_url_of_a_log_is_refused(url: str) -> None:
    with pytest.raises(LedgerError, match="URL"):
        HttpSource(url)


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="not a folder"):
        FolderSource(tmp_path / "nothing")
    with pytest.raises(MissingError, match="checkpoint"):
        FolderSource(tmp_path).checkpoint()
    (tmp_path / "checkpoint").write_bytes(b"x" * ((1 << 20) + 1))
    with pytest.raises(MalformedError, match="more than"):
        FolderSource(tmp_path).checkpoint()
