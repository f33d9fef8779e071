"""Go's sumdb client code reads our served tiles over HTTP: others' code, in another language, as the judge."""

import os
import shutil
import sqlite3
import subprocess
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.checkpoint import Checkpoint
from ledger.export import export
from ledger.log import Log
from ledger.log_key import LogKey
from ledger.note import Note
from tests.served import serving

GOPATH = Path("/usr/share/gocode")
Client = Callable[..., str]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    """What the Go client says of a served log."""
    go = shutil.which("go")
    if go is None or not (GOPATH / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        pytest.skip("needs Go and golang.org/x/mod: Debian golang-go and golang-golang-x-mod-dev")
    folder = tmp_path_factory.mktemp("go")
    program = folder / "client"
    environment = os.environ | {"GO111MODULE": "off", "GOPATH": str(GOPATH), "GOCACHE": str(folder / "cache")}
    source = Path(__file__).parent / "go" / "client.go"
    subprocess.run([go, "build", "-o", program, source], check=True, env=environment, cwd=folder)

    def ask(url: str, key: LogKey, *older: Checkpoint) -> str:
        trees = [f"{tree.size}:{b64encode(tree.root).decode()}" for tree in older]
        command = [program, url, key.verifier_keys[0].format(), *trees]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout.strip()

    return ask


def head(log: Log) -> Checkpoint:
    return Checkpoint.parse(Note.parse(log.checkpoint()).text)


def test_go_reads_the_served_log_as_it_grows(client: Client, log: Log, key: LogKey) -> None:
    older: list[Checkpoint] = []
    with serving(log) as served:
        for size in (1, 255, 256, 257, 700):
            log.append_many([b"entry %d" % i for i in range(log.size(), size)])
            answer = client(served.url, key, *older)
            assert answer.startswith(f"ok: {size} records, {len(older)} older trees"), answer
            older.append(head(log))


def test_go_reads_a_log_of_three_levels(client: Client, log: Log, key: LogKey) -> None:
    log.append_many([b"entry %d" % i for i in range(40_000)])
    old = head(log)
    log.append_many([b"entry %d" % i for i in range(40_000, 66_000)])
    with serving(log) as served:
        assert client(served.url, key, old).startswith("ok: 66000 records, 1 older trees")


def test_go_reads_an_exported_log_from_a_plain_web_server(
    client: Client, log: Log, key: LogKey, tmp_path: Path
) -> None:
    import threading
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "out"))  # type: ignore[arg-type]

        def guess_type(self, path: object) -> str:
            return "text/plain; charset=utf-8" if str(path).endswith("checkpoint") else "application/octet-stream"

        def log_message(self, *_: object) -> None:
            pass

    log.append_many([b"entry %d" % i for i in range(300)])
    export(log, tmp_path / "out")
    old = head(log)
    log.append_many([b"entry %d" % i for i in range(300, 1000)])
    export(log, tmp_path / "out")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as plain:
        thread = threading.Thread(target=plain.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            answer = client(f"http://127.0.0.1:{plain.server_address[1]}", key, old)
        finally:
            plain.shutdown()
    assert answer.startswith("ok: 1000 records, 1 older trees"), answer


def test_go_refuses_what_it_should(client: Client, log: Log, key: LogKey, path: Path) -> None:
    """The judge can say no: without this, the others would show little."""
    log.append_many([b"entry %d" % i for i in range(300)])
    with serving(log) as served:
        assert client(served.url, LogKey.generate(key.name)).startswith("error:")
        forged = Checkpoint(key.name, 7, bytes(32))
        assert client(served.url, key, forged).startswith("error: tree of 7")
    with sqlite3.connect(path) as database:
        database.execute("UPDATE tiles SET hashes = zeroblob(8192) WHERE level = 0")
    with serving(log) as served:
        assert client(served.url, key).startswith("error:")
