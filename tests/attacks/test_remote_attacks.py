"""A server that lies to a client: another history, other entries, no inclusion, endless replies, and where a token goes."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ledger import http
from ledger.client import RemoteLog
from ledger.errors import (
    LedgerError,
    MalformedError,
    ProofError,
    RemoteError,
    RolledBackError,
    SignatureError,
    TamperedError,
)
from ledger.fork import ForkProof
from ledger.log import Log
from ledger.log_key import LogKey
from ledger.proof import TlogProof
from ledger.tiles import format_bundle
from tests.plain_server import Answer, Fault, PlainServer, serving

ENTRIES = [b"entry %d" % i for i in range(300)]
Connect = Callable[..., RemoteLog]


@pytest.fixture(scope="module")
def key() -> LogKey:
    return LogKey.generate("example.com/log")


@pytest.fixture
def log_of(tmp_path: Path, key: LogKey) -> Iterator[Callable[[list[bytes]], Log]]:
    """A log with these entries, signed by the same key."""
    logs: list[Log] = []

    def make(entries: list[bytes]) -> Log:
        logs.append(Log.create(tmp_path / f"{len(logs)}.db", key))
        logs[-1].append_many(entries)
        return logs[-1]

    yield make
    for log in logs:
        log.close()


@pytest.fixture
def server(log_of: Callable[[list[bytes]], Log]) -> Iterator[PlainServer]:
    with serving(log_of(ENTRIES)) as server:
        yield server


@pytest.fixture
def connect(server: PlainServer, key: LogKey, tmp_path: Path) -> Iterator[Connect]:
    """A client; each remembers what others have seen."""
    made: list[RemoteLog] = []

    def make() -> RemoteLog:
        made.append(
            RemoteLog(server.url, key.verifier_keys, watermark=tmp_path / "seen", token="secret", timeout=2, patience=0)
        )
        return made[-1]

    yield make
    for remote in made:
        remote.close()


def always(answer: Answer) -> Fault:
    return lambda _: answer


# -- another history ---------------------------------------------------------------------------------------------------

Read = Callable[[RemoteLog], object]
READS: dict[str, Read] = {
    "checkpoint": lambda remote: remote.checkpoint(),
    "entries": lambda remote: list(remote.entries()),
    "prove": lambda remote: remote.prove(3),
    "append": lambda remote: remote.append(b"new"),
    "append what is there": lambda remote: remote.append(b"entry 3"),
}


HISTORIES = {
    "rolled back": ENTRIES[:200],
    "another last entry": [*ENTRIES[:299], b"other"],
    "rewritten": [b"other", *ENTRIES],
    "inserted into": [*ENTRIES[:150], b"other", *ENTRIES[150:]],
    "emptied": [],
}


@pytest.mark.parametrize("history", HISTORIES)
def test_another_history_than_before_is_refused(
    server: PlainServer, connect: Connect, log_of: Callable[[list[bytes]], Log], history: str
) -> None:
    """All of them signed by the log's key, and shown to a client that saw the first one, or to its next process."""
    remote = connect()
    assert remote.size() == 300
    server.log = log_of(HISTORIES[history])
    server.log.append(b"entry 3")
    for read in READS.values():
        for reader in (remote, connect()):
            with pytest.raises(RolledBackError):
                read(reader)


def test_fork_leaves_a_proof_for_others(
    server: PlainServer, connect: Connect, log_of: Callable[[list[bytes]], Log], key: LogKey, tmp_path: Path
) -> None:
    connect().checkpoint()
    server.log = log_of([*ENTRIES[:150], b"other", *ENTRIES[150:]])
    with pytest.raises(RolledBackError, match=r"seen\.fork"):
        connect().checkpoint()
    fork = ForkProof.parse((tmp_path / "seen.fork").read_bytes()).verify(key.verifier_keys)
    assert (fork.smaller.size, fork.larger.size) == (300, 301)


def test_refused_history_is_not_remembered(
    server: PlainServer, connect: Connect, log_of: Callable[[list[bytes]], Log]
) -> None:
    honest = server.log
    connect().checkpoint()
    server.log = log_of([b"other", *ENTRIES, b"more"])
    for _ in range(2):
        with pytest.raises(RolledBackError):
            connect().size()
    server.log = honest
    assert connect().size() == 300


def test_without_the_comparison_the_fork_would_pass(
    server: PlainServer, connect: Connect, log_of: Callable[[list[bytes]], Log], monkeypatch: pytest.MonkeyPatch
) -> None:
    connect().checkpoint()
    server.log = log_of([b"other", *ENTRIES])
    monkeypatch.setattr(RemoteLog, "_check_continues", lambda *_: None)
    assert connect().entry(0) == b"other"


def test_checkpoint_of_another_key_or_log(server: PlainServer, connect: Connect, tmp_path: Path) -> None:
    for name in ("example.com/log", "example.com/other"):
        with Log.create(tmp_path / name.replace("/", "-"), LogKey.generate(name)) as other:
            other.append_many(ENTRIES)
            server.faults["checkpoint"] = always(Answer(200, other.checkpoint()))
            with pytest.raises(SignatureError):
                connect().size()
            server.faults["append"] = always(Answer(200, other.prove(3).format()))
            with pytest.raises(SignatureError, match="did not acknowledge"):
                connect().append(b"entry 3")


def test_unsigned_checkpoint(server: PlainServer, connect: Connect) -> None:
    text = server.log.checkpoint().split(b"\n\n")[0]
    for note in (text + b"\n", text + b"\n\n", text + b"\n\n\n", b"", b"\xff" * 100):
        server.faults["checkpoint"] = always(Answer(200, note))
        with pytest.raises((MalformedError, SignatureError)):
            connect().size()


# -- acknowledgements that are none ------------------------------------------------------------------------------------


def test_proof_of_another_entry(server: PlainServer, connect: Connect) -> None:
    server.faults["append"] = always(Answer(200, server.log.prove(7).format()))
    with pytest.raises(ProofError, match="did not acknowledge"):
        connect().append(b"new")


def test_proof_under_an_older_checkpoint(server: PlainServer, connect: Connect) -> None:
    old = server.log.prove(7).format()
    server.log.append(b"more")
    connect().size()
    server.faults["append"] = always(Answer(200, old))
    with pytest.raises(RolledBackError):
        connect().append(b"entry 7")


def test_proof_under_an_unsigned_or_inflated_checkpoint(server: PlainServer, connect: Connect) -> None:
    proof = server.log.prove(7)
    forged = TlogProof(7, proof.path, proof.checkpoint.replace(b"\n300\n", b"\n301\n"))
    unsigned = TlogProof(7, proof.path, proof.checkpoint.split(b"\n\n")[0] + b"\n\n" + b"\xe2\x80\x94 x AAAAAAAA\n")
    for wrong in (forged, unsigned):
        server.faults["append"] = always(Answer(200, wrong.format()))
        with pytest.raises(SignatureError, match="did not acknowledge"):
            connect().append(b"entry 7")


@pytest.mark.parametrize("body", [b"", b"ok", b'{"index": 7}', b"c2sp.org/tlog-proof@v1\nindex 7\n\n"])
def test_acknowledgement_without_inclusion(server: PlainServer, connect: Connect, body: bytes) -> None:
    server.faults["append"] = always(Answer(200, body))
    with pytest.raises(MalformedError, match="did not acknowledge"):
        connect().append(b"new")


@pytest.mark.parametrize("status", [201, 202, 204, 206])
def test_other_success_is_no_acknowledgement(server: PlainServer, connect: Connect, status: int) -> None:
    server.faults["append"] = always(Answer(status, server.log.prove(7).format() if status != 204 else b""))
    with pytest.raises(RemoteError):
        connect().append(b"entry 7")


# -- entries and tiles -------------------------------------------------------------------------------------------------


def test_another_entry_than_the_signed_one(server: PlainServer, connect: Connect) -> None:
    for wrong in ([b"other", *ENTRIES[1:256]], [*ENTRIES[:255], b"other"], ENTRIES[1:257]):
        server.faults["tile/entries/000"] = always(Answer(200, format_bundle(wrong)))
        with pytest.raises(TamperedError):
            connect().entry(5)
        with pytest.raises(TamperedError):
            list(connect().entries())


@pytest.mark.parametrize("path", ["tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1"])
def test_wrong_tile(server: PlainServer, connect: Connect, path: str) -> None:
    server.faults[path] = lambda request: Answer(200, bytes(len(server.good(request).body)))
    remote = connect()
    with pytest.raises(TamperedError):
        remote.prove_all(range(0, 300, 10))
    with pytest.raises(TamperedError):
        remote.find(b"entry 290")
        remote.find(b"entry 3")
    server.faults.clear()
    assert remote.prove(290) == server.log.prove(290)  # what was wrong once is not kept


def test_index_of_another_entry(server: PlainServer, connect: Connect) -> None:
    server.faults["find"] = always(Answer(200, b'{"index": 8}'))
    with pytest.raises(TamperedError, match="another entry 8"):
        connect().find(b"entry 7")


# -- replies without end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("checkpoint", lambda remote: remote.size()),
        ("tile/0", lambda remote: remote.prove(3)),
        ("tile/entries", lambda remote: remote.entry(3)),
        ("append", lambda remote: remote.append(b"new")),
        ("find", lambda remote: remote.find(b"new")),
    ],
)
@pytest.mark.parametrize("status", [200, 400])
def test_endless_reply(server: PlainServer, connect: Connect, path: str, read: Read, status: int) -> None:
    server.faults[path] = always(Answer(status, b"x" * (18 << 20), length=1 << 40))
    with pytest.raises(RemoteError, match="sent more than"):
        read(connect())


def test_truncated_reply(server: PlainServer, connect: Connect) -> None:
    for path in ("checkpoint", "append"):
        server.faults[path] = lambda request: Answer(200, server.good(request).body[:50], length=500)
        with pytest.raises(RemoteError, match="did not answer"):
            connect().append(b"new") if path == "append" else connect().size()


def test_reply_that_drips(server: PlainServer) -> None:
    """Bytes that keep coming, so that no wait for the next one is ever too long."""
    now = [0.0]

    def clock() -> float:
        now[0] += 50  # seconds pass between two looks at the clock
        return now[0]

    asked = http.Server(server.url, patience=10**6, clock=clock, sleep=lambda _: None)
    server.faults["checkpoint"] = always(Answer(200, b"x" * (1 << 19)))
    with pytest.raises(RemoteError, match="took more than 120 s"):
        asked.get("checkpoint", limit=1 << 20)
    asked.close()


def test_compressed_reply_is_not_unpacked(server: PlainServer, connect: Connect) -> None:
    import gzip

    bomb = gzip.compress(bytes(1 << 20))
    server.faults["checkpoint"] = always(Answer(200, bomb, {"Content-Encoding": "gzip"}))
    with pytest.raises(RemoteError, match="compressed"):
        connect().size()


# -- where a token goes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_to_another_host_never_gets_the_token(
    server: PlainServer, connect: Connect, log_of: Callable[[list[bytes]], Log], status: int
) -> None:
    with serving(log_of([])) as other:
        server.faults[""] = always(Answer(status, headers={"Location": f"{other.url}/append"}))
        with pytest.raises(RemoteError, match="redirects"):
            connect().append(b"new")
        with pytest.raises(RemoteError, match="redirects"):
            connect().size()
        assert other.seen == []


def test_token_goes_only_where_something_is_appended(server: PlainServer, connect: Connect) -> None:
    remote = connect()
    remote.append(b"new")
    list(remote.entries())
    remote.prove(3)
    remote.find(b"new")
    assert {"authorization" in request.headers for request in server.seen if request.method == "POST"} == {True}
    assert not any("authorization" in request.headers for request in server.seen if request.method == "GET")
    assert not any(b"secret" in request.body or "secret" in request.path for request in server.seen)


@pytest.mark.parametrize(
    "url", ["http://log.example", "http://10.0.0.7:8080", "http://localhost.example", "http://127.0.0.1.example"]
)
def test_token_is_not_sent_unencrypted_over_a_network(url: str, key: LogKey) -> None:
    with pytest.raises(LedgerError, match="https"):
        RemoteLog(url, key.verifier_keys, token="secret")
    RemoteLog(url, key.verifier_keys).close()  # what is public may be read


@pytest.mark.parametrize("token", ["a\r\nHost: evil", "a\nb", " a", "a ", "", "ä", "a\x00"])
def test_token_cannot_smuggle_headers(token: str, key: LogKey) -> None:
    with pytest.raises(LedgerError, match="token"):
        RemoteLog("https://log.example", key.verifier_keys, token=token)


def test_proxy_settings_are_not_used_for_this_machine(
    server: PlainServer, connect: Connect, log_of: Callable[[list[bytes]], Log], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(log_of([])) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        connect().append(b"new")
        assert proxy.seen == []


# -- TLS ---------------------------------------------------------------------------------------------------------------


@contextmanager
def tls_server(tmp_path: Path, log: Log) -> Iterator[tuple[str, Path]]:
    """A relay with a certificate of an authority of its own in front of a plain server."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    listener = socket.create_server(("127.0.0.1", 0))
    body = log.checkpoint()

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(65536)
                    secure.sendall(
                        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
                    )
            except OSError:
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}", pem
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def test_certificates_are_always_checked(
    server: PlainServer, key: LogKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("PYTHONHTTPSVERIFY", "HTTPX_VERIFY", "SSL_NO_VERIFY", "CURL_INSECURE"):
        monkeypatch.setenv(name, "0")
    with tls_server(tmp_path, server.log) as (url, pem):
        with (
            RemoteLog(url, key.verifier_keys, patience=30) as remote,
            pytest.raises(RemoteError, match="CERTIFICATE_VERIFY"),
        ):
            remote.size()  # at once: nothing gets better by trying again
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        with RemoteLog(url, key.verifier_keys, patience=0) as remote:
            assert remote.size() == 300
    parameters = {*RemoteLog.__init__.__annotations__, *http.Server.__init__.__annotations__}
    assert not {name for name in parameters if "verify" in name or "insecure" in name}
