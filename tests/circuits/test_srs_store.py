"""How reference strings come into the folder: nothing gets a ceremony's name that is not the ceremony's, and no half file."""

import errno
import os
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from circuits import srs_store
from circuits.errors import SrsError
from circuits.srs import CEREMONY, find, load, reduced, size_of
from circuits.srs_store import FetchError, bring_in, destination, develop, fetch, stored
from tests.circuits.development import ceremony_file, development_srs

GENUINE = development_srs(3, 7)  # what the tests pin as the ceremony's
OTHER = development_srs(3, 8)
TAMPERED = GENUINE[:300] + bytes([GENUINE[300] ^ 1]) + GENUINE[301:]
BODIES = {
    "/kzg3.srs": GENUINE,
    "/tampered": TAMPERED,
    "/truncated": GENUINE[:-1],
    "/oversized": GENUINE + b"\0",
    "/endless": GENUINE + bytes(64 << 20),
    "/page": b"<html>",
}


class Mirror(BaseHTTPRequestHandler):
    """Serves BODIES; what it calls truncated breaks off before the length that it announced."""

    def do_GET(self) -> None:
        if self.path not in BODIES:
            self.send_error(404)
            return
        body = BODIES[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + (self.path == "/truncated")))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.server.hung_up.append(self.path)  # type: ignore[attr-defined]

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setenv("NO_PROXY", "*")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.hung_up = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def url(mirror: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{mirror.server_port}"


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small file of a known secret passes for the ceremony's."""
    monkeypatch.setitem(CEREMONY, 3, sha256(GENUINE).hexdigest())
    monkeypatch.setitem(CEREMONY, 1, sha256(development_srs(1, 7)).hexdigest())


def written(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_genuine_file_is_fetched_with_what_verifiers_need(tmp_path: Path) -> None:
    source = ceremony_file(11)
    folder, seen = tmp_path / "new" / "srs", list[int]()
    path = fetch(11, folder, [f"{source.parent.as_uri()}/kzg{{logrows}}.srs"], progress=seen.append)
    assert (path, seen[-1]) == (folder / "kzg11.srs", size_of(11))
    assert path.read_bytes() == source.read_bytes()
    assert load(folder / "kzg1.srs").kind == "ceremony"
    assert written(folder) == ["kzg1.srs", "kzg11.srs"]


@pytest.mark.usefixtures("pinned")
def test_fetched_over_http(tmp_path: Path, url: str) -> None:
    assert fetch(3, tmp_path, [url + "/kzg{logrows}.srs"]).read_bytes() == GENUINE
    assert (tmp_path / "kzg1.srs").read_bytes() == development_srs(1, 7)
    assert written(tmp_path) == ["kzg1.srs", "kzg3.srs"]
    assert fetch(3, tmp_path, []) == tmp_path / "kzg3.srs", "what is there is not fetched again"


@pytest.mark.usefixtures("pinned")
def test_the_next_mirror_is_asked(tmp_path: Path, url: str) -> None:
    assert fetch(3, tmp_path, [url + "/none", url + "/tampered", url + "/kzg3.srs"]).read_bytes() == GENUINE


@pytest.mark.usefixtures("pinned")
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/tampered", "expected SHA-256"),
        ("/truncated", f"expected {len(GENUINE)} bytes, {len(GENUINE) - 1} came"),
        ("/oversized", f"expected {len(GENUINE)} bytes, more came"),
        ("/endless", "more came"),
        ("/page", f"expected {len(GENUINE)} bytes, 6 came"),
        ("/none", "Not Found"),
    ],
)
def test_what_is_not_the_file_leaves_nothing(
    tmp_path: Path, mirror: ThreadingHTTPServer, url: str, path: str, reason: str
) -> None:
    with pytest.raises(FetchError, match=reason):
        fetch(3, tmp_path, [url + path])
    assert written(tmp_path) == []
    mirror.shutdown()
    mirror.server_close()  # waits for the handlers
    assert mirror.hung_up == (["/endless"] if path == "/endless" else [])  # type: ignore[attr-defined]


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(FetchError, match="refused"):
        fetch(3, tmp_path, ["http://127.0.0.1:1/kzg3.srs"])
    for wrong in ("ftp://127.0.0.1/kzg3.srs", "kzg3.srs", "http://[", "data:,x", "http://a b/"):
        with pytest.raises(FetchError, match=r"cannot fetch kzg3\.srs"):
            fetch(3, tmp_path, [wrong])
    assert written(tmp_path) == []


@pytest.mark.usefixtures("pinned")
def test_interrupted_download_leaves_nothing(tmp_path: Path, url: str) -> None:
    def interrupt(done: int) -> None:
        assert len(written(tmp_path)) == 1, "a hidden file, while it comes"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(3, tmp_path, [url + "/kzg3.srs"], progress=interrupt)
    assert written(tmp_path) == []


@pytest.mark.usefixtures("pinned")
def test_full_disk_leaves_nothing(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(srs_store.os, "fsync", full)
    with pytest.raises(SrsError, match="No space left") as caught:
        fetch(3, tmp_path, [url + "/kzg3.srs", url + "/kzg3.srs"])
    assert not isinstance(caught.value, FetchError), "another mirror is no help"
    assert written(tmp_path) == []


@pytest.mark.usefixtures("pinned")
@pytest.mark.parametrize("wrong", [OTHER, TAMPERED, GENUINE[:-5], development_srs(4, 7), b""])
@pytest.mark.parametrize("name", ["kzg1.srs", "kzg3.srs"])
def test_another_file_under_a_ceremony_s_name_is_neither_used_nor_overwritten(
    tmp_path: Path, url: str, wrong: bytes, name: str
) -> None:
    (tmp_path / name).write_bytes(wrong)
    (tmp_path / "given").write_bytes(GENUINE)
    for attempt in (lambda: fetch(3, tmp_path, [url + "/kzg3.srs"]), lambda: bring_in(tmp_path / "given", tmp_path)):
        with pytest.raises(SrsError, match="move it away first"):
            attempt()
    assert (tmp_path / name).read_bytes() == wrong


@pytest.mark.usefixtures("pinned")
def test_genuine_file_is_brought_in_under_its_name(tmp_path: Path) -> None:
    given, folder = tmp_path / "whatever", tmp_path / "srs"
    given.write_bytes(GENUINE)
    for development in (False, True, False):
        assert bring_in(given, folder, development=development) == folder / "kzg3.srs"
    assert written(folder) == ["kzg1.srs", "kzg3.srs"]


@pytest.mark.usefixtures("pinned")
@pytest.mark.parametrize("wrong", [OTHER, TAMPERED, GENUINE[:-1], GENUINE + b"\0", b"", b"\x03\0\0\0"])
def test_what_is_not_the_ceremony_s_is_not_brought_in(tmp_path: Path, wrong: bytes) -> None:
    given, folder = tmp_path / "kzg3.srs", tmp_path / "srs"
    given.write_bytes(wrong)
    with pytest.raises(SrsError, match=r"kzg3\.srs"):
        bring_in(given, folder)
    assert not folder.exists()


def test_points_are_looked_at(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.write_bytes(TAMPERED)
    with pytest.raises(SrsError, match=r"given: point 4 of the reference string"):
        bring_in(given, tmp_path / "srs", development=True)


def test_development_file_has_a_name_of_its_own(tmp_path: Path) -> None:
    given, folder = tmp_path / "kzg3.srs", tmp_path / "srs"
    given.write_bytes(OTHER)
    path = bring_in(given, folder, development=True)
    assert written(folder) == ["kzg3.development.srs"], "and no trust root is cut from it"
    with pytest.raises(SrsError, match=r"no kzg3\.srs in the folders .*certify srs fetch 3"):
        find(3, [folder])
    assert find(3, [folder], development=True) == path
    assert load(path).development

    given.write_bytes(GENUINE)
    with pytest.raises(SrsError, match="another one"):
        bring_in(given, folder, development=True)
    assert path.read_bytes() == OTHER


def test_ceremony_comes_before_development_whatever_the_folder(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, name in zip(folders, ("kzg3.development.srs", "kzg3.srs"), strict=True):
        folder.mkdir()
        (folder / name).write_bytes(OTHER)
    assert find(3, folders, development=True) == folders[1] / "kzg3.srs"


def test_ezkl_makes_a_development_file(tmp_path: Path) -> None:
    pytest.importorskip("ezkl", reason="install ezkl to make a development reference string")
    path = develop(4, tmp_path)
    first = load(path)
    assert (path.name, first.logrows, first.development) == ("kzg4.development.srs", 4, True)
    with pytest.raises(SrsError, match="move it away to make another"):
        develop(4, tmp_path)
    path.rename(tmp_path / "kept")
    assert load(develop(4, tmp_path)).tau_g2 != first.tau_g2, "another secret each time"
    assert len(reduced(first)) == 516


@pytest.mark.usefixtures("pinned")
def test_what_is_stored_is_told_by_its_bytes(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "none", tmp_path / "b"]
    files = {
        "a/kzg3.srs": GENUINE,
        "b/kzg3.srs": OTHER,
        "a/kzg3.development.srs": OTHER,
        "b/kzg4.srs": OTHER,
        "b/kzg5.srs": b"",
        "b/kzg27.srs": OTHER,
        "b/kzg6.srs/file": OTHER,
    }
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    seen = [(str(item.path.relative_to(tmp_path)), item.kind, item.used, item.note) for item in stored(folders)]
    assert seen == [
        ("a/kzg3.srs", "ceremony", True, ""),
        ("b/kzg3.srs", "development", False, "not the ceremony's, in spite of its name"),
        ("a/kzg3.development.srs", "development", True, ""),
        ("b/kzg4.srs", "unusable", True, "it is of logrows 3"),
        ("b/kzg5.srs", "unusable", True, "expected logrows from 1 to 26 in the first 4 bytes, none came"),
    ]


def test_where_files_go() -> None:
    assert destination({"CERTIFY_SRS": "/a:/b"}) == Path("/a")
    with pytest.raises(SrsError, match="expected a folder in CERTIFY_SRS"):
        destination({"CERTIFY_SRS": ":"})
