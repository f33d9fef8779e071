"""The witness over HTTP: types, limits, and slow or broken requests."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from ledger.checkpoint import Checkpoint
from ledger.errors import StorageError
from ledger.log_key import LogKey
from ledger.merkle import leaf_hash, root
from ledger.note import Note
from ledger.signed_checkpoint import open_checkpoint
from ledger.witness import MAX_REQUEST_SIZE, Request, Witness
from ledger.witness_key import WitnessKey
from ledger.witness_server import app
from tests.witnesses import serving

ORIGIN = "example.com/log"
LOG = LogKey.generate(ORIGIN)
KEY = WitnessKey.generate("w.example")
HASH = sha256(ORIGIN.encode()).hexdigest()


def request(size: int, old: int = 0) -> bytes:
    checkpoint = Checkpoint(ORIGIN, size, root(leaf_hash(b"%d" % i) for i in range(size)))
    return Request(old, (), Note.parse(LOG.sign(checkpoint, 1)), checkpoint).format()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[httpx.Client]:
    with Witness.create(tmp_path / "w.db", KEY) as witness:
        witness.follow(LOG.verifier_keys)
        with serving(app(witness, body_time=0.5)) as url, httpx.Client(base_url=url) as client:
            yield client


def test_add_and_read_back(served: httpx.Client) -> None:
    assert served.get(f"/{HASH}/checkpoint").status_code == 404
    assert served.get("/health").text == "following 1 logs\n"
    reply = served.post("/add-checkpoint", content=request(3))
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    reply = served.post("/add-checkpoint", content=request(5))
    assert (reply.status_code, reply.text, reply.headers["content-type"]) == (409, "3\n", "text/x.tlog.size")
    reply = served.get(f"/{HASH}/checkpoint")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    signed = open_checkpoint(reply.content, log_keys=LOG.verifier_keys, witness_keys=KEY.verifier_keys)
    assert signed.checkpoint.size == 3 and list(signed.cosigned) == ["w.example"]


def test_statuses(served: httpx.Client) -> None:
    statuses = [
        served.post("/add-checkpoint", content=b"nonsense").status_code,
        served.post("/add-checkpoint", content=b"x" * (MAX_REQUEST_SIZE + 1)).status_code,
        served.get("/add-checkpoint").status_code,
        served.get("/").status_code,
        served.get(f"/{HASH.upper()}/checkpoint").status_code,
        served.get("/..%2f..%2fetc%2fpasswd/checkpoint").status_code,
    ]
    assert statuses == [400, 413, 405, 404, 404, 404]


def test_request_that_never_ends_is_given_up(served: httpx.Client) -> None:
    url = served.base_url
    with socket.create_connection((url.host, url.port), timeout=10) as connection:
        connection.sendall(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 500\r\n\r\nold 0\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 408")
    with socket.create_connection((url.host, url.port), timeout=10) as connection:
        connection.sendall(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 500\r\n\r\nold 0\n")
    assert served.get("/health").status_code == 200


def test_body_without_a_length_has_the_same_limit(served: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 65536

    with suppress(httpx.WriteError):  # where it hangs up, which is as well
        assert served.post("/add-checkpoint", content=endless()).status_code == 413
    assert served.get("/health").status_code == 200


def test_a_failing_database_is_no_cosignature() -> None:
    def fails(*_: Any) -> Any:
        raise StorageError("the disk is gone")

    broken: Any = SimpleNamespace(checkpoint=fails, followed=fails)
    with serving(app(broken)) as url, httpx.Client(base_url=url) as client:
        assert client.get(f"/{HASH}/checkpoint").status_code == 503
        assert client.get("/health").status_code == 503
