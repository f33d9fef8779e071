"""The served log: tiles with their types and caching, appends that are answered by proofs, errors that are JSON."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ledger.checkpoint import Checkpoint
from ledger.client import RemoteLog
from ledger.errors import AdmissionError, ConflictError, EntryTooLargeError, RemoteError, StorageError
from ledger.log import Appended, Log
from ledger.log_key import LogKey
from ledger.merkle import leaf_hash
from ledger.note import Note
from ledger.proof import TlogProof
from ledger.tiles import TILE_WIDTH, parse_bundle, tiles_of
from tests.served import TOKEN, Answer, Served, append_request, serving


def error(answer: Answer) -> str:
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    value = json.loads(answer.body)
    assert sorted(value) == ["error", "message"] and value["message"]
    return str(value["error"])


def figures(served: Served) -> dict[str, float]:
    lines = served.get("metrics").body.decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def test_every_tile_and_bundle_is_served_as_c2sp_says(log: Log) -> None:
    log.append_many([b"entry %d" % i for i in range(600)])
    with serving(log) as served:
        for _ in range(2):  # the second time from memory, where it is full
            for tile in tiles_of(600):
                answer = served.get(tile.path())
                assert (answer.status, answer.body) == (200, log.tile(tile))
                assert answer.headers["content-type"] == "application/octet-stream"
                assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
                if tile.level == 0:
                    bundle = served.get(tile.bundle_path())
                    assert bundle.headers["content-type"] == "application/octet-stream"
                    first = tile.index * TILE_WIDTH
                    assert parse_bundle(bundle.body) == [b"entry %d" % i for i in range(first, first + tile.width)]
        assert figures(served)['ledger_tile_reads_total{cached="yes"}'] == 2 * 2


def test_checkpoint_is_plain_text_that_nobody_caches(log: Log) -> None:
    with serving(log) as served:
        answer = served.get("checkpoint")
        assert answer.body == log.checkpoint()
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"


def test_tile_that_is_not_there_yet_is_served_once_it_is(log: Log) -> None:
    log.append_many([b"entry %d" % i for i in range(255)])
    with serving(log) as served:
        assert error(served.get("tile/0/000")) == "MissingError"
        log.append(b"the 256th")
        assert len(served.get("tile/0/000").body) == 8192
        assert len(served.get("tile/0/000.p/3").body) == 96


def test_append_is_answered_by_a_proof_of_what_is_durable(log: Log, key: LogKey) -> None:
    with serving(log) as served:
        for number in range(5):
            answer = served.append(b"entry %d" % number)
            assert answer.status == 200 and answer.headers["content-type"] == "text/x.tlog-proof"
            proof = TlogProof.parse(answer.body)
            assert proof.verify(b"entry %d" % number, log_keys=key.verifier_keys).checkpoint.size == number + 1
            assert log.entry(proof.index) == b"entry %d" % number
        assert TlogProof.parse(served.append(b"entry 2").body).index == 2
        assert log.size() == 5
        counted = figures(served)
        assert counted["ledger_appends_total"] == 5 and counted["ledger_duplicates_total"] == 1
        assert counted["ledger_tree_size"] == 5 and counted["ledger_append_seconds_count"] == 6


def test_both_body_types_are_taken_and_others_refused(log: Log) -> None:
    with serving(log) as served:
        for kind in ("application/octet-stream", "application/vnd.dsse.envelope.v1+json; charset=utf-8"):
            assert served.append(kind.encode(), headers=f"Content-Type: {kind}\r\n").status == 200
        for header in ("Content-Type: text/html", "Content-Encoding: gzip"):
            assert served.append(b"x", headers=f"{header}\r\n").status == 415


def test_if_match_is_a_compare_and_swap(log: Log) -> None:
    with serving(log) as served:
        assert served.append(b"a", headers='If-Match: "0"\r\n').status == 200
        refused = served.append(b"b", headers='If-Match: "0"\r\n')
        assert (refused.status, error(refused)) == (412, "ConflictError")
        assert served.append(b"b", headers='If-Match: "1"\r\n').status == 200
        for wrong in ('"01"', "1", 'W/"1"', '"1", "2"', "*", '"-1"'):
            assert served.append(b"c", headers=f"If-Match: {wrong}\r\n").status == 400
        assert log.size() == 2


def test_one_swap_of_many_at_once_wins(log: Log) -> None:
    with serving(log) as served, ThreadPoolExecutor(8) as pool:
        sent = pool.map(lambda i: served.append(b"entry %d" % i, headers='If-Match: "0"\r\n').status, range(8))
        assert sorted(sent) == [200, *[412] * 7]
        assert log.size() == 1


def test_find_gives_the_index_of_a_leaf_hash(log: Log) -> None:
    log.append_many([b"a", b"b"])
    with serving(log) as served:
        assert json.loads(served.get(f"find?leaf={leaf_hash(b'b').hex()}").body) == {"index": 1}
        assert json.loads(served.get(f"find?leaf={leaf_hash(b'c').hex()}").body) == {"index": None}
        wrong = (
            "",
            "?leaf=",
            "?leaf=00",
            f"?leaf={leaf_hash(b'b').hex().upper()}",
            f"?leaf={'0' * 64}&leaf={'0' * 64}",
        )
        for query in wrong:
            assert served.get(f"find{query}").status == 400


def test_errors_are_json_and_say_what_to_do(log: Log) -> None:
    with serving(log) as served:
        assert error(served.append(b"x", token=None)) == "TokenError"
        unknown = served.append(b"x", token="other")
        assert unknown.status == 401 and unknown.headers["www-authenticate"] == "Bearer"
        assert error(served.append(b"refused")) == "AdmissionError" and served.append(b"refused").status == 403
        assert error(served.get("nowhere")) == "MissingError"
        wrong_method = served.get("checkpoint", method="PUT")
        assert (wrong_method.status, error(wrong_method)) == (405, "MethodError")
        assert {name.strip() for name in wrong_method.headers["allow"].split(",")} == {"GET", "HEAD"}
        counted = figures(served)
        assert counted['ledger_refusals_total{reason="TokenError"}'] == 2
        assert counted['ledger_refusals_total{reason="AdmissionError"}'] == 2
        assert log.size() == 0


def test_health_notices_a_log_that_does_not_verify(log: Log, path: Path) -> None:
    import sqlite3

    log.append_many([b"a", b"b"])
    with serving(log) as served:
        answer = served.get("health")
        assert json.loads(answer.body) == {"status": "ok", "origin": log.origin, "size": 2}
    with sqlite3.connect(path) as database:
        database.execute("UPDATE entries SET data = 'other' WHERE \"index\" = 1")
    with serving(log) as served:
        answer = served.get("health")
        assert (answer.status, error(answer)) == (503, "TamperedError") and "retry-after" in answer.headers
        assert str(path) not in answer.body.decode()


def test_failing_storage_is_503_and_the_next_append_works(
    log: Log, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    appending = log.append_many

    def fail(*_: object, **__: object) -> list[Appended]:
        raise StorageError(f"the log's database {path} failed: disk I/O error")

    with serving(log) as served:
        monkeypatch.setattr(log, "append_many", fail)
        answer = served.append(b"a")
        assert (answer.status, error(answer)) == (503, "StorageError") and answer.headers["retry-after"]
        assert str(path) not in answer.body.decode()
        monkeypatch.setattr(log, "append_many", appending)
        assert served.append(b"a").status == 200
        assert figures(served)["ledger_storage_errors_total"] == 1


def test_defect_is_500_in_json_without_a_traceback(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> bytes:
        raise RuntimeError("secret detail")

    with serving(log) as served:
        monkeypatch.setattr(log, "checkpoint", fail)
        answer = served.get("checkpoint")
        assert answer.status == 500 and b"secret" not in answer.body and b"Traceback" not in answer.body
        assert json.loads(answer.body)["error"] == "InternalError"
        monkeypatch.setattr(log, "append_many", fail)
        assert served.append(b"a").status == 500


def test_read_only_server_has_no_append(log: Log) -> None:
    with serving(log, admit=None) as served:
        assert served.append(b"x").status == 404
        assert "/append" not in json.loads(served.get("openapi.json").body)["paths"]


def test_remote_log_appends_and_reads_through_the_server(log: Log, key: LogKey, tmp_path: Path) -> None:
    with serving(log) as served:
        with RemoteLog(served.url, key.verifier_keys, watermark=tmp_path / "seen", token=TOKEN) as remote:
            assert [remote.append(b"entry %d" % i).index for i in range(3)] == [0, 1, 2]
            assert remote.find(b"entry 1") == 1 and remote.find(b"nothing") is None
            assert [entry for _, entry in remote.entries()] == [b"entry 0", b"entry 1", b"entry 2"]
            remote.prove_consistency(1, log.prove_consistency(1) and None)
            with pytest.raises(ConflictError):
                remote.append(b"x", expected_size=1)
            with pytest.raises(EntryTooLargeError):
                remote.append(bytes(65_536))
        with RemoteLog(served.url, key.verifier_keys, token="other") as stranger, pytest.raises(AdmissionError):
            stranger.append(b"x")
    with serving(log, admit=None) as served, RemoteLog(served.url, key.verifier_keys, token=TOKEN) as remote:
        with pytest.raises(RemoteError, match="reading only"):
            remote.append(b"x")


def test_two_servers_on_one_database_never_fork(log: Log, path: Path, key: LogKey) -> None:
    with Log.open(path, key) as other, serving(log) as one, serving(other) as two, ThreadPoolExecutor(16) as pool:
        sizes: dict[int, Checkpoint] = {}

        def send(number: int) -> int:
            entry = b"entry %d" % (number % 150)  # each is sent twice, to one server or both
            answer = (one, two)[number % 3 == 0].append(entry)
            assert answer.status == 200, answer.body
            proof = TlogProof.parse(answer.body)
            tree = proof.verify(entry, log_keys=key.verifier_keys).checkpoint
            assert sizes.setdefault(tree.size, tree) == tree
            return proof.index

        indices = list(pool.map(send, range(300)))
        assert indices[:150] == indices[150:] and sorted(indices[:150]) == list(range(150))
        for tree in sizes.values():
            log.prove_consistency(tree.size, tree.root)
        last = Checkpoint.parse(Note.parse(one.get("checkpoint").body).text)
        assert last.size == 150 and two.get("checkpoint").status == 200


def test_stopping_answers_what_has_begun(log: Log, key: LogKey, monkeypatch: pytest.MonkeyPatch) -> None:
    appending = log.append_many
    begun, go_on = threading.Event(), threading.Event()

    def slow(entries: list[bytes], *, expected_size: int | None = None) -> list[Appended]:
        begun.set()
        assert go_on.wait(30)
        return appending(entries, expected_size=expected_size)

    monkeypatch.setattr(log, "append_many", slow)
    with serving(log) as served:
        connection = served.connect()
        connection.sendall(append_request(b"entry"))
        assert begun.wait(30)
        threading.Timer(0.3, go_on.set).start()
    with connection:  # the server has stopped
        answer = Answer.read(connection)
    assert answer is not None and answer.status == 200
    TlogProof.parse(answer.body).verify(b"entry", log_keys=key.verifier_keys)
