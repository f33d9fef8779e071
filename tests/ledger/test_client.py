"""The log from far away does what the log does here, and an append is never made twice, whatever gets lost on the way."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger.client import RemoteLog
from ledger.cosignature import cosign
from ledger.errors import (
    AdmissionError,
    ConflictError,
    EntryTooLargeError,
    LedgerError,
    MalformedError,
    RemoteError,
    StorageError,
    WitnessError,
)
from ledger.log import Log
from ledger.log_key import LogKey
from ledger.merkle import verify_consistency
from ledger.note import COSIGNATURE_ED25519, Note, VerifierKey
from ledger.policy import Policy
from ledger.reader import AppendableLog
from ledger.signed_checkpoint import open_checkpoint
from tests.plain_server import Answer, Fault, PlainServer, Seen, serving

Connect = Callable[..., RemoteLog]


@pytest.fixture
def server(path: Path, key: LogKey) -> Iterator[PlainServer]:
    """An empty log."""
    with Log.create(path, key) as log, serving(log) as server:
        yield server


@pytest.fixture
def connect(server: PlainServer, key: LogKey, tmp_path: Path) -> Iterator[Connect]:
    """``connect()`` is a client with the right token and a watermark."""
    made: list[RemoteLog] = []

    def make(**options: object) -> RemoteLog:
        defaults: dict[str, object] = {"watermark": tmp_path / "seen", "token": "secret", "timeout": 2, "patience": 2}
        made.append(RemoteLog(server.url, key.verifier_keys, **{**defaults, **options}))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for remote in made:
        remote.close()


def always(answer: Answer) -> Fault:
    return lambda _: answer


@pytest.mark.parametrize("size", [1, 2, 256, 257, 700])
def test_reads_and_proves_what_the_log_here_does(
    server: PlainServer, connect: Connect, key: LogKey, tmp_path: Path, size: int
) -> None:
    server.log.append_many([b"entry %d" % i for i in range(size)])
    remote: AppendableLog = connect()
    assert remote.size() == size and remote.checkpoint() == server.log.checkpoint()
    assert list(remote.entries()) == list(server.log.entries())
    assert list(remote.entries(3, 300)) == list(server.log.entries(3, 300))
    for index in {0, size // 2, size - 1}:
        assert remote.entry(index) == b"entry %d" % index
        assert remote.find(b"entry %d" % index) == index
        assert remote.prove(index) == server.log.prove(index)
        remote.prove(index).verify(b"entry %d" % index, log_keys=key.verifier_keys)
    assert remote.prove_all(range(size)) == server.log.prove_all(range(size))
    assert remote.find(b"nothing") is None
    for index in (-1, size):
        with pytest.raises(StorageError, match="no entry"):
            remote.entry(index)
        with pytest.raises(StorageError, match="no entry"):
            remote.prove(index)
    for old in {1, size}:
        with Log.create(tmp_path / f"{old}.db", key) as before:
            before.append_many([b"entry %d" % i for i in range(old)])
            root = open_checkpoint(before.checkpoint(), log_keys=key.verifier_keys).checkpoint.root
        path, note = remote.prove_consistency(old)
        now = open_checkpoint(note, log_keys=key.verifier_keys).checkpoint
        verify_consistency(old_size=old, old_root=root, size=now.size, root=now.root, path=path)
        assert remote.prove_consistency(old, root)[0] == path


def test_appends_and_the_same_bytes_once(server: PlainServer, connect: Connect, key: LogKey) -> None:
    remote = connect()
    for index in range(5):
        appended = remote.append(b"entry %d" % index)
        assert (appended.index, appended.new) == (index, True)
        open_checkpoint(appended.checkpoint, log_keys=key.verifier_keys)
    again = remote.append(b"entry 2")
    assert (again.index, again.new, server.log.size()) == (2, False, 5)
    many = remote.append_many([b"entry 4", b"entry 5", b"entry 6", b"entry 5"])
    assert [appended.index for appended in many] == [4, 5, 6, 5]
    assert server.log.size() == 7


def test_appends_in_a_row_ask_for_no_tiles(server: PlainServer, connect: Connect) -> None:
    """The proof of the next entry shows by itself that the log goes on from where it was."""
    remote = connect()
    remote.append(b"entry 0")
    del server.seen[:]
    for index in range(1, 70):
        remote.append(b"entry %d" % index)
    assert {request.method for request in server.seen} == {"POST"}


def test_grows_while_others_append(server: PlainServer, connect: Connect, tmp_path: Path) -> None:
    remote = connect()
    for index in range(0, 900, 90):
        server.log.append_many([b"other %d" % i for i in range(index, index + 90)])
        remote.append(b"entry %d" % index)
        assert remote.entry(index) == server.log.entry(index)
    with_other_memory = connect(watermark=tmp_path / "other")
    assert with_other_memory.size() == 910


def test_threads_and_clients_share_one_watermark(server: PlainServer, connect: Connect) -> None:
    clients = [connect() for _ in range(3)]
    errors: list[Exception] = []

    def work(number: int) -> None:
        try:
            for i in range(10):
                clients[number % 3].append(b"%d %d" % (number, i))
                clients[i % 3].size()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert server.log.size() == 60


# -- what gets lost on the way -----------------------------------------------------------------------------------------


def lose(server: PlainServer, times: int, *, after: bool, answer: Answer) -> Fault:
    """The first ``times`` POSTs get ``answer``, before or after they were logged."""
    left = [times]

    def fault(request: Seen) -> Answer:
        left[0] -= 1
        if left[0] < 0:
            return server.good(request)
        if after:
            server.good(request)
        return answer

    return fault


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "answer",
    [Answer(cut=True), Answer(503), Answer(502), Answer(200, b"c2sp", length=500)],
    ids=["cut", "503", "502", "half"],
)
def test_lost_reply_never_appends_twice(server: PlainServer, connect: Connect, answer: Answer, after: bool) -> None:
    remote = connect()
    remote.append(b"first")
    server.faults["append"] = lose(server, 2, after=after, answer=answer)
    assert remote.append(b"second").index == 1
    assert server.log.size() == 2
    assert len([request for request in server.seen if request.method == "POST"]) == 4


def test_time_out_is_no_acknowledgement(server: PlainServer, connect: Connect) -> None:
    release = threading.Event()

    def slow(request: Seen) -> Answer:
        release.wait(10)
        return server.good(request)

    server.faults["append"] = slow
    with pytest.raises(RemoteError, match="did not answer POST append"):
        connect(timeout=0.2, patience=0).append(b"entry")
    release.set()
    del server.faults["append"]
    assert connect().append(b"entry").index == 0
    assert server.log.size() == 1


def test_compare_and_swap(server: PlainServer, connect: Connect) -> None:
    remote = connect()
    assert remote.append(b"a", expected_size=0).index == 0
    for wrong in (0, 2):
        with pytest.raises(ConflictError, match="1 entries"):
            remote.append(b"b", expected_size=wrong)
    assert server.log.size() == 1
    with pytest.raises(LedgerError, match="one by one"):
        remote.append_many([b"b", b"c"], expected_size=1)
    assert remote.append_many([b"b"], expected_size=1)[0].index == 1


@pytest.mark.parametrize("others", [False, True])
def test_compare_and_swap_whose_reply_is_lost(server: PlainServer, connect: Connect, others: bool) -> None:
    """The second try finds another size: because of the first try, or of somebody else?"""
    remote = connect()

    def fault(request: Seen) -> Answer:
        server.faults.pop("append")
        if others:
            server.log.append(b"of somebody else")
        else:
            server.good(request)
        return Answer(cut=True)

    server.faults["append"] = fault
    if others:
        with pytest.raises(ConflictError):
            remote.append(b"mine", expected_size=0)
        assert server.log.find(b"mine") is None
    else:
        assert remote.append(b"mine", expected_size=0).index == 0
    assert server.log.size() == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((400, MalformedError), (401, AdmissionError), (403, AdmissionError), (404, RemoteError), (405, RemoteError)),
        *((413, EntryTooLargeError), (418, RemoteError), (429, RemoteError), (500, RemoteError), (503, RemoteError)),
    ],
)
def test_refusals_are_typed(server: PlainServer, connect: Connect, status: int, error: type[LedgerError]) -> None:
    server.faults["append"] = lambda _: Answer(status, b'{"error": "x", "message": "because of this"}')
    with pytest.raises(error, match="because of this" if status not in (404, 405) else "reading only") as raised:
        connect(patience=0).append(b"entry")
    assert type(raised.value) is error


def test_wrong_token_and_too_large_an_entry(server: PlainServer, connect: Connect) -> None:
    for token in ("wrong", None):
        with pytest.raises(AdmissionError, match="expected a token"):
            connect(token=token).append(b"entry")
    del server.seen[:]
    with pytest.raises(EntryTooLargeError):
        connect().append(b"x" * 65536)
    with pytest.raises(EntryTooLargeError):
        connect().append_many([b"good", b"x" * 65536])
    assert not server.seen
    assert server.log.size() == 0


def test_append_many_goes_on_where_it_stopped(server: PlainServer, connect: Connect) -> None:
    entries = [b"entry %d" % i for i in range(6)]
    seen = [0]

    def fault(request: Seen) -> Answer:
        seen[0] += 1
        return server.good(request) if seen[0] <= 3 else Answer(403)

    server.faults["append"] = fault
    remote = connect()
    with pytest.raises(AdmissionError):
        remote.append_many(entries)
    assert server.log.size() == 3
    del server.faults["append"]
    assert [appended.index for appended in remote.append_many(entries)] == [0, 1, 2, 3, 4, 5]


# -- what is remembered and kept ---------------------------------------------------------------------------------------


def test_tiles_are_fetched_once(server: PlainServer, connect: Connect) -> None:
    server.log.append_many([b"entry %d" % i for i in range(1000)])
    remote = connect()
    remote.prove_all(range(0, 1000, 50))
    del server.seen[:]
    remote.prove_all(range(7, 1000, 50))
    assert [request.path for request in server.seen] == ["/checkpoint"]


def test_static_layout_that_drops_old_partial_tiles(server: PlainServer, connect: Connect, tmp_path: Path) -> None:
    """Tiles of a smaller tree go when the log has grown: then the client begins again with the new checkpoint."""
    server.log.append_many([b"entry %d" % i for i in range(10)])
    remote = connect()
    remote.size()
    server.log.append_many([b"entry %d" % i for i in range(10, 20)])
    server.faults["tile/entries/000.p/10"] = lambda _: Answer(404)
    assert remote.entry(3) == b"entry 3"


def test_witnessed_checkpoints_where_a_policy_asks_for_them(server: PlainServer, connect: Connect, key: LogKey) -> None:
    witness = LogKey.generate("witness.example")
    cosigner = VerifierKey("witness.example", COSIGNATURE_ED25519, witness.verifier_keys[0].public)
    policy = Policy.of([cosigner], 1)
    server.log.append(b"entry")
    with pytest.raises(WitnessError):
        connect(policy=policy).size()
    with pytest.raises(WitnessError, match="did not acknowledge"):
        connect(policy=policy).append(b"entry")

    def cosigned(request: Seen) -> Answer:
        note = Note.parse(server.log.checkpoint())
        checkpoint = open_checkpoint(server.log.checkpoint(), log_keys=key.verifier_keys).checkpoint
        line = cosign(cosigner, witness.ed25519.sign, checkpoint, 1_700_000_000)
        return Answer(200, Note(note.text, (*note.signatures, line)).format())

    server.faults["checkpoint"] = cosigned
    assert connect(policy=policy).size() == 1


def test_find_that_answers_nonsense(server: PlainServer, connect: Connect) -> None:
    for body in (b"", b"[]", b'{"index": "0"}', b'{"index": -1}', b'{"index": 5}', b"\xff"):
        server.faults["find"] = always(Answer(200, body))
        with pytest.raises(LedgerError):
            connect().find(b"entry")
    server.faults["find"] = lambda _: Answer(200, b'{"index": null}')
    assert connect().find(b"entry") is None


def test_keys_are_required(server: PlainServer) -> None:
    with pytest.raises(LedgerError, match="verifier keys"):
        RemoteLog(server.url, [])
