"""Attacks on a served log: what costs it memory, threads or connections, what gets at other paths, what confuses its headers."""

import hashlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from ledger.log import Log
from ledger.log_key import LogKey
from ledger.proof import TlogProof
from ledger.server import Limits
from ledger.serving import ConnectionLimits
from tests.served import DEADLINE, TOKEN, Answer, Served, append_request, serving

KEY = LogKey.generate("example.com/log")
IMPATIENT = ConnectionLimits(idle=0.3, request=0.4, reply=0.5, head=4096, connections=20)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with Log.create(tmp_path / "log.db", KEY) as log:
        yield log


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A served log of 256 entries, for attacks that change nothing."""
    with Log.create(tmp_path_factory.mktemp("standing") / "log.db", KEY) as log:
        log.append_many([b"%d" % number for number in range(256)])
        with serving(log) as served:
            served.get("tile/0/000")  # into memory
            yield served
            assert log.size() == 256


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def ended(connection: socket.socket) -> bytes:
    """All that comes until the server ends the connection; fails if it does not."""
    data = b""
    with suppress(ConnectionResetError, BrokenPipeError):
        while more := connection.recv(1 << 16):
            data += more
    return data


def healthy(served: Served) -> bool:
    answer = served.raw(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    return answer is not None and answer.status == 200


def trickle(connection: socket.socket, data: bytes, pause: float = 0.02) -> bytes:
    """Send bytes one by one until the server has had enough; what it said."""
    connection.settimeout(DEADLINE)
    with suppress(ConnectionResetError, BrokenPipeError):
        for byte in data:
            connection.sendall(bytes([byte]))
            time.sleep(pause)
        pytest.fail("the server took all of it")
    return ended(connection)


# -- too much --------------------------------------------------------------------------------------------------------------


def test_oversized_entry_is_refused_before_it_is_read(log: Log) -> None:
    with serving(log) as served:
        answer = served.append(bytes(65_536))
        assert (answer.status, json.loads(answer.body)["error"]) == (413, "EntryTooLargeError")
        assert served.append(b"\1" * 65_535).status == 200
        declared = served.raw(append_request(b"", length=10**18))  # and nothing comes
        assert declared is None or declared.status == 413
        assert log.size() == 1


def test_endless_chunked_body_is_cut_off(log: Log) -> None:
    with serving(log) as served, served.connect() as connection:
        head = (
            f"POST /append HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        sent = 0
        with suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(head.encode())
            while sent < 64 << 20:
                connection.sendall(b"10000\r\n" + bytes(65_536) + b"\r\n")
                sent += 65_536
        assert sent < 64 << 20
        assert log.size() == 0


def test_endless_headers_are_cut_off(log: Log) -> None:
    with serving(log, connections=IMPATIENT) as served, served.connect() as connection:
        sent = 0
        with suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(b"GET /checkpoint HTTP/1.1\r\nX: ")
            while sent < 64 << 20:
                connection.sendall(b"x" * 65_536)
                sent += 65_536
        assert sent < 64 << 20


def test_flood_of_waiting_appends_is_turned_away(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow disk must not let entries pile up in memory; and who sends most waits most."""
    appending, waiting = log.append_many, [True]

    def slow(*arguments: object, **more: object) -> object:
        until(lambda: not waiting[0])
        return appending(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(log, "append_many", slow)
    for limits, status in ((Limits(waiting=4), 503), (Limits(waiting_each=4), 429)):
        waiting[0] = True
        with serving(log, limits=limits) as served, ThreadPoolExecutor(32) as pool:
            sent = [pool.submit(served.append, b"%d %d" % (status, number)) for number in range(32)]
            until(lambda sent=sent: sum(one.done() for one in sent) >= 20)
            waiting[0] = False
            answers = [one.result() for one in sent]
        turned_away = [answer for answer in answers if answer.status != 200]
        assert {answer.status for answer in turned_away} == {status}
        assert all(answer.headers["retry-after"] == "1" for answer in turned_away)
        assert 1 <= 32 - len(turned_away) <= 12


def test_too_many_connections_are_turned_away_and_others_go_on(log: Log) -> None:
    with serving(log, connections=ConnectionLimits(connections=10)) as served:
        held = [served.connect() for _ in range(10)]
        try:
            held[0].sendall(b"GET /checkpoint HTTP/1.1\r\nHost: x\r\n\r\n")
            answered = Answer.read(held[0])
            assert answered is not None and answered.status == 200
            with served.connect() as one_more:
                assert ended(one_more).startswith(b"HTTP/1.1 503")
        finally:
            for connection in held:
                connection.close()
        until(
            lambda: (
                (answer := served.raw(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")) is not None and answer.status == 200
            )
        )


# -- too slow ----------------------------------------------------------------------------------------------------------------


def test_slow_loris_headers_are_cut_off(log: Log) -> None:
    with serving(log, connections=IMPATIENT) as served, served.connect() as connection:
        trickle(connection, b"GET /checkpoint HTTP/1.1\r\n" + b"X: y\r\n" * 1000)


def test_slow_loris_body_is_told_so_and_cut_off(log: Log) -> None:
    with serving(log, limits=Limits(body_time=0.3)) as served, served.connect() as connection:
        connection.sendall(append_request(b"", length=50_000))
        said = trickle(connection, b"x" * 50_000)
        assert not said or said.startswith(b"HTTP/1.1 408")
        assert log.size() == 0


def test_slow_loris_body_that_nobody_wants_is_cut_off(log: Log) -> None:
    with serving(log, connections=IMPATIENT) as served, served.connect() as connection:
        connection.sendall(b"GET /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        trickle(connection, b"x" * 100_000)


def test_idle_connections_and_blank_lines_are_cut_off(log: Log) -> None:
    with serving(log, connections=IMPATIENT) as served:
        with served.connect() as silent:
            assert ended(silent) == b""
        with served.connect() as blank:
            trickle(blank, b"\r\n" * 5000)


def test_reader_that_takes_nothing_is_cut_off(log: Log) -> None:
    log.append_many([bytes([number]) * 60_000 for number in range(256)])
    limits = ConnectionLimits(reply=0.5, connections=1)
    with serving(log, connections=limits) as served, served.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET /tile/entries/000 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(1)
        until(lambda: healthy(served))  # its place is free again


# -- paths and methods ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    (
        "tile/0/000.p/256",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/-1",
        "tile/0/x000/000",
        "tile/0/0",
        "tile/00/000",
        "tile/64/000",
        "tile/0/001.p/1",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
        "tile/entries/../0/000.p/3",
        "tile/0/..%2f..%2flog.db",
        "tile/0%2f000.p/3",
        "tile/0/000%2ep/3",
        "tile/0/000.p/3/",
        "tile/0/000.p/3%00",
        "tile//0/000.p/3",
        "/tile/0/000.p/3",
        "./tile/0/000.p/3",
        "TILE/0/000.p/3",
        "tile/0/٠٠٠.p/3".encode().decode("latin-1"),
        "log.db",
        "../log.db",
        "checkpoint/",
        "%63heckpoint",
        "docs",
    ),
)
def test_odd_path_finds_nothing(standing: Served, path: str) -> None:
    answer = standing.raw(f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode("latin-1"))
    assert answer is not None and answer.status in (400, 404), answer
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.body)["error"] in ("MissingError", "MalformedError")


def test_odd_paths_never_get_into_the_cache(log: Log) -> None:
    log.append_many([b"%d" % number for number in range(256)])
    with serving(log) as served:
        tile = served.get("tile/0/000").body
        for path in ("tile/0%2f000", "tile/0/000/", "tile/0/000.p/256", "/tile/0/000"):
            assert served.get(path).status == 404
        assert served.get("tile/0/000?v=2").body == served.get("tile/0/000").body == tile


@pytest.mark.parametrize("method", ("HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "POST"))
@pytest.mark.parametrize("path", ("append", "checkpoint", "tile/0/000", "health"))
def test_other_methods_do_nothing(standing: Served, method: str, path: str) -> None:
    answer = standing.get(path, method=method, headers="Content-Length: 0\r\n")
    if (method, path) == ("POST", "append"):
        assert answer.status == 401
        return
    assert answer.status == (200 if method == "HEAD" and path != "append" else 405)
    if method == "HEAD":
        assert answer.body == b""


# -- headers -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    (
        f"Authorization: Bearer {TOKEN}\r\nAuthorization: Bearer other",
        "Authorization: Basic bGV0LW1lLWlu",
        f"Authorization: {TOKEN}",
        f"Authorization: Bearer {TOKEN}, Bearer other",
        f"Authorization: Bearer {TOKEN} x",
        "Authorization: Bearer ",
        f"Authorization: Bearer {TOKEN}{'x' * 600}",
        f"X-Authorization: Bearer {TOKEN}",
        "Cookie: token=" + TOKEN,
    ),
)
def test_token_in_another_form_is_no_token(standing: Served, header: str) -> None:
    assert standing.append(b"x", token=None, headers=f"{header}\r\n").status == 401


def test_token_in_the_url_is_no_token(standing: Served) -> None:
    request = append_request(b"x", token=None).replace(b"/append", f"/append?token={TOKEN}".encode())
    answer = standing.raw(request)
    assert answer is not None and answer.status == 401


@pytest.mark.parametrize(
    "headers",
    (
        "Content-Length: 1\r\nContent-Length: 5",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: -1",
        "Content-Length: 0x5",
        "Transfer-Encoding: chunked, identity",
        "Content-Length : 5",
    ),
)
def test_request_of_two_lengths_is_not_believed(standing: Served, headers: str) -> None:
    """What a proxy in front and the server would read differently: request smuggling."""
    smuggled = f"\r\nPOST /append HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 3\r\n\r\nabc"
    head = f"POST /append HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n{headers}\r\n\r\n"
    with standing.connect() as connection:
        connection.sendall(head.encode() + b"0\r\n" + smuggled.encode())
        connection.shutdown(socket.SHUT_WR)
        assert ended(connection).count(b"HTTP/1.1 200") == 0


def test_garbage_is_answered_in_json(standing: Served) -> None:
    for garbage in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET / SPDY/9\r\n\r\n", b"\0" * 100, b"GET \r\n\r\n"):
        answer = standing.raw(garbage)
        assert answer is None or (answer.status == 400 and answer.headers["content-type"] == "application/json")
    upgrade = standing.get("checkpoint", headers="Connection: Upgrade\r\nUpgrade: websocket\r\n")
    assert upgrade.body == standing.log.checkpoint()


# -- hanging up, and many at once --------------------------------------------------------------------------------------------


def test_client_that_hangs_up_harms_nobody(log: Log) -> None:
    with serving(log) as served:
        for number in range(40):
            with served.connect() as connection:
                request = append_request(b"entry %d" % number)
                connection.sendall(request[: len(request) - number % 2 * 3])  # half of them before the end
        answer = served.append(b"the last")
        assert answer.status == 200
        until(lambda: log.find(b"entry 38") is not None)
        assert all(log.find(b"entry %d" % number) is None for number in range(1, 40, 2))
        assert served.get("health").status == 200


def test_same_entry_from_32_clients_at_once_is_logged_once(log: Log) -> None:
    with serving(log) as served, ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: served.append(b"the same"), range(32)))
        proofs = [TlogProof.parse(answer.body) for answer in answers]
        for proof in proofs:
            proof.verify(b"the same", log_keys=KEY.verifier_keys)
        assert {proof.index for proof in proofs} == {0} and log.size() == 1


def test_bad_entry_does_not_fail_those_beside_it(log: Log) -> None:
    with serving(log) as served, ThreadPoolExecutor(32) as pool:
        entries = [(b"refused %d" if number % 4 == 0 else b"entry %d") % number for number in range(64)]
        entries[7] = bytes(65_536)
        answers = list(pool.map(served.append, entries))
        statuses = [answer.status for answer in answers]
        assert statuses == [
            413 if len(entry) > 65_535 else 403 if entry.startswith(b"refused") else 200 for entry in entries
        ]


def test_pipelined_requests_are_answered_in_order(log: Log) -> None:
    with serving(log) as served, served.connect() as connection:
        connection.sendall(
            b"".join(append_request(b"entry %d" % number) for number in range(4))
            + append_request(b"entry 4", headers="Connection: close\r\n")
        )
        said = ended(connection)
        assert said.count(b"HTTP/1.1 200") == 5
        places = [said.index(b"index %d\n" % number) for number in range(5)]
        assert places == sorted(places)


def test_hanging_up_with_requests_in_the_pipeline_is_no_error(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    with serving(log) as served:
        for number in range(20):
            with served.connect() as connection:
                connection.sendall(b"".join(append_request(b"entry %d %d" % (number, i)) for i in range(5)))
        assert served.append(b"the last").status == 200
    assert not caplog.records


def test_secrets_stay_out_of_metrics(log: Log) -> None:
    """Names of tokens, tokens and entries are nobody's business."""

    class Holder:
        name = "secret-name"

        def check(self, entry: bytes) -> None:
            pass

    with serving(log, admit=lambda token: Holder()) as served:
        served.append(b"secret-entry", token="secret-token")
        text = served.get("metrics").body
        assert b"secret" not in text and hashlib.sha256(b"secret-entry").hexdigest().encode() not in text
