"""A log with witnesses: what is final, what waits, and what happens when witnesses are down or late."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ledger import fsck
from ledger.checkpoint import Checkpoint
from ledger.errors import ConflictError, LedgerError, RolledBackError, TamperedError, WitnessError
from ledger.finality import FINAL
from ledger.log import Log
from ledger.log_key import LogKey
from ledger.note import Note
from ledger.policy import Policy
from ledger.signed_checkpoint import open_checkpoint
from ledger.tiles import Tile
from ledger.watermark import Watermark
from ledger.witnessing import Witnessing
from tests.witnesses import Village, wait_for

NAMES = ("a.example", "b.example", "c.example")
TWO = ("group q 2 a b c", "quorum q")


@pytest.fixture
def village(tmp_path: Path, key: LogKey) -> Iterator[Village]:
    with Village(tmp_path, key.verifier_keys, *NAMES) as village:
        yield village


Open = Callable[..., Log]


@pytest.fixture
def open_log(tmp_path: Path, key: LogKey, village: Village) -> Iterator[Open]:
    """``open_log()`` is the log, open for appending, with two of three witnesses; options are those of Witnessing."""
    Log.create(tmp_path / "log.db", key, watermark=tmp_path / "seen").close()
    opened: list[Log] = []

    def make(*lines: str, **options: float) -> Log:
        witnessing = Witnessing(village.policy(*(lines or TWO)), **{"deadline": 5.0, "linger": 2.0} | options)  # type: ignore[arg-type]
        opened.append(Log.open(tmp_path / "log.db", key, watermark=tmp_path / "seen", witnessing=witnessing))
        return opened[-1]

    yield make
    for log in opened:
        log.close()


def cosigned(note: bytes, key: LogKey, village: Village) -> tuple[int, set[str]]:
    """Size of the checkpoint, and who has cosigned it, all verified."""
    policy = village.policy(*TWO)
    signed = open_checkpoint(note, log_keys=key.verifier_keys, witness_keys=policy.witness_keys)
    return signed.checkpoint.size, set(signed.cosigned)


def test_append_returns_what_all_have_cosigned(open_log: Open, key: LogKey, village: Village) -> None:
    log = open_log()
    assert log.size() == 0
    for size in range(1, 6):
        done = log.append(b"entry %d" % size)
        assert (done.index, done.new) == (size - 1, True)
        assert cosigned(done.checkpoint, key, village) == (size, set(NAMES))
        assert log.checkpoint() == done.checkpoint == log.prove(0).checkpoint
    assert log.append(b"entry 3").checkpoint == log.checkpoint()
    assert [len(village[name].requests) for name in "abc"] == [5, 5, 5]  # one each, once the sizes are known


def test_witnesses_that_are_down_are_not_needed_if_there_is_a_quorum(
    open_log: Open, key: LogKey, village: Village
) -> None:
    village["b"].stop()
    log = open_log()
    assert cosigned(log.append(b"one").checkpoint, key, village) == (1, {"a.example", "c.example"})
    village["b"].start()
    village["a"].stop()
    assert cosigned(log.append(b"two").checkpoint, key, village) == (2, {"b.example", "c.example"})


def test_no_quorum_no_acknowledgement(open_log: Open, key: LogKey, village: Village, tmp_path: Path) -> None:
    log = open_log(deadline=0.6)
    before = log.append(b"one").checkpoint
    for name in "ab":
        village[name].stop()
    with pytest.raises(
        WitnessError, match=r"2 entries was cosigned by c\.example, expected 2 of .*a\.example: Connect"
    ):
        log.append(b"two")
    # It is there, and nobody is told.
    assert log.checkpoint() == before
    assert (log.size(), log.find(b"two")) == (1, None)
    assert [index for index, _ in log.entries()] == [0]
    beyond = (
        log.entry,
        log.prove,
        lambda last: log.tile(Tile(0, 0, last + 1)),
        lambda last: log.bundle(Tile(0, 0, last + 1)),
    )
    for outside in beyond:
        with pytest.raises(LedgerError):
            outside(1)
    seen = Watermark(tmp_path / "seen")
    mark = seen.read()
    assert mark is not None and mark.size == 2  # what was signed may not be unsigned
    seen.close()
    with pytest.raises(WitnessError):
        log.append(b"two")
    for name in "ab":
        village[name].start()
    done = log.append(b"two")
    assert (done.index, done.new) == (1, False)
    assert cosigned(done.checkpoint, key, village)[0] == 2
    assert log.find(b"two") == 1


def test_witness_that_comes_up_before_the_deadline(open_log: Open, key: LogKey, village: Village) -> None:
    for name in "ab":
        village[name].stop()
    log = open_log(deadline=20)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(log.append, b"one")
        wait_for(lambda: len(village["c"].requests) > 0)
        assert not waiting.done()
        village["a"].start()
        assert "a.example" in cosigned(waiting.result().checkpoint, key, village)[1]


def test_pending_entries_become_final_with_the_next_round(open_log: Open, key: LogKey, village: Village) -> None:
    log = open_log(deadline=0.4)
    for name in "ab":
        village[name].stop()
    for entry in (b"one", b"two"):
        with pytest.raises(WitnessError):
            log.append(entry)
    with pytest.raises(WitnessError, match=r"no checkpoint of example\.com/log is cosigned"):
        log.checkpoint()
    for name in "ab":
        village[name].start()
    assert cosigned(log.append(b"three").checkpoint, key, village)[0] == 3
    assert [entry for _, entry in log.entries()] == [b"one", b"two", b"three"]


def test_cosign_by_hand_needs_no_key(open_log: Open, key: LogKey, village: Village, tmp_path: Path) -> None:
    log = open_log(deadline=0.4)
    for name in "ab":
        village[name].stop()
    with pytest.raises(WitnessError):
        log.append(b"one")
    village["a"].start()
    witnessing = Witnessing(village.policy(*TWO), deadline=5)
    with Log.open(tmp_path / "log.db", verifier_keys=key.verifier_keys, witnessing=witnessing) as reader:
        first = reader.cosign()
        assert cosigned(first, key, village) == (1, {"a.example", "c.example"})
        assert log.checkpoint() == reader.checkpoint() == first
        village["b"].start()
        late = reader.cosign()
        assert late.startswith(first)  # those of before stay as they are, with their times
        assert cosigned(late, key, village) == (1, set(NAMES))
        assert reader.checkpoint() == late
    with Log.open(tmp_path / "log.db", verifier_keys=key.verifier_keys) as plain:
        with pytest.raises(LedgerError, match="no witness policy"):
            plain.cosign()


def test_size_that_a_witness_remembers_is_found_out(open_log: Open, key: LogKey, village: Village) -> None:
    first = open_log()
    for size in range(1, 4):
        first.append(b"entry %d" % size)
    second = open_log()  # knows nothing of what the witnesses have
    assert cosigned(second.append(b"four").checkpoint, key, village) == (4, set(NAMES))
    assert cosigned(first.append(b"five").checkpoint, key, village) == (5, set(NAMES))
    assert cosigned(second.append(b"six").checkpoint, key, village) == (6, set(NAMES))


def test_concurrent_appends_share_rounds(open_log: Open, key: LogKey, village: Village, tmp_path: Path) -> None:
    """While one round is under way, all who come later wait for the next one, which serves them together."""
    log = open_log(deadline=20)
    log.append(b"first")
    gate, asked = threading.Event(), threading.Event()

    def hold(_: bytes) -> None:
        asked.set()
        assert gate.wait(10)

    for name in "abc":
        village[name].before = hold
    before = len(village["a"].requests)
    with ThreadPoolExecutor(21) as pool:
        one = pool.submit(log.append, b"one")
        assert asked.wait(10)
        others = [pool.submit(log.append, b"other %d" % i) for i in range(20)]
        with Log.open(tmp_path / "log.db", verifier_keys=key.verifier_keys) as plain:
            wait_for(lambda: plain.size() == 22)
        gate.set()
        notes = {one.result().checkpoint, *(other.result().checkpoint for other in others)}
    assert len(village["a"].requests) - before <= 3
    assert {cosigned(note, key, village)[0] for note in notes} <= {2, 22}
    assert cosigned(log.checkpoint(), key, village)[0] == 22


def test_two_writers_in_one_database(open_log: Open, key: LogKey, village: Village) -> None:
    """Each has witnesses ask for its newest tree; whoever is overtaken goes on with the newer one."""
    logs = [open_log(deadline=20), open_log(deadline=20)]

    def write(number: int) -> list[tuple[int, bytes]]:
        done = [logs[number].append(b"%d %d" % (number, i)) for i in range(15)]
        return [(one.index, one.checkpoint) for one in done]

    with ThreadPoolExecutor(2) as pool:
        results = [pair for pairs in pool.map(write, range(2)) for pair in pairs]
    assert sorted(index for index, _ in results) == list(range(30))
    for index, note in results:
        size, names = cosigned(note, key, village)
        assert size > index and len(names) >= 2
    roots = {Checkpoint.parse(Note.parse(note).text) for _, note in results}
    for tree in roots:
        logs[0].prove_consistency(tree.size, tree.root)


def test_compare_and_swap_gets_past_what_is_pending(open_log: Open, village: Village) -> None:
    log = open_log(deadline=0.4)
    for name in "ab":
        village[name].stop()
    with pytest.raises(WitnessError):
        log.append(b"one", expected_size=0)
    for name in "ab":
        village[name].start()
    with pytest.raises(ConflictError):
        log.append(b"two", expected_size=0)
    assert log.size() == 1  # so that whoever looks again sees why
    assert log.append(b"two", expected_size=1).index == 1


def test_final_checkpoint_that_vanishes_or_goes_back_is_noticed(open_log: Open) -> None:
    log = open_log()
    first = log.append(b"one").checkpoint
    second = log.append(b"two").checkpoint
    for value, error in (
        (first, RolledBackError),
        (second[:-3] + b"A==\n", TamperedError),
        (b"nonsense", TamperedError),
    ):
        with log._storage.transaction() as transaction:
            transaction.keep(FINAL, value)
        with pytest.raises(error):
            log.checkpoint()
        with pytest.raises(error):
            log.append(b"three")
    with log._storage.transaction() as transaction:
        transaction.keep(FINAL, second)
    assert log.checkpoint() == second


def test_fsck_looks_at_the_final_checkpoint(open_log: Open) -> None:
    log = open_log()
    first = log.append(b"one").checkpoint
    second = log.append(b"two").checkpoint
    assert list(fsck.check(log)) == []
    wrong = [second.replace(b"\n2\n", b"\n3\n"), b"nonsense", log._key.sign(Checkpoint(log.origin, 1, bytes(32)), 1)]  # type: ignore[union-attr]
    for value in wrong:
        with log._storage.transaction() as transaction:
            transaction.keep(FINAL, value)
        assert any(finding.startswith("final checkpoint: ") for finding in fsck.check(log))
    with log._storage.transaction() as transaction:
        transaction.keep(FINAL, second)
    assert list(fsck.check(log)) == [] and first != second


def test_a_stricter_policy_asks_for_more(open_log: Open, key: LogKey, village: Village) -> None:
    village["c"].stop()
    before = open_log().append(b"one").checkpoint
    strict = open_log("group q all a b c", "quorum q", deadline=0.4)
    with pytest.raises(WitnessError, match="certify log cosign"):
        strict.checkpoint()
    village["c"].start()
    assert cosigned(strict.cosign(), key, village) == (1, set(NAMES))
    assert strict.checkpoint().startswith(Note.parse(before).text.encode())


def test_without_witnesses_nothing_is_asked(open_log: Open, village: Village) -> None:
    log = open_log("quorum none")
    assert log.append(b"one").checkpoint == log.checkpoint()
    assert not village["a"].requests


def test_both_keys_of_a_witness_are_asked_for_at_once(tmp_path: Path, key: LogKey) -> None:
    with Village(tmp_path, key.verifier_keys, "w.example", post_quantum=True) as village:
        public = village["w"].key.verifier_keys
        lines = [f"witness w{i} {public[i].format()} {village['w'].url}/" for i in range(2)]
        policy = Policy.parse("\n".join([*lines, "group w any w0 w1", "quorum w", ""]).encode())
        Log.create(tmp_path / "log.db", key).close()
        with Log.open(tmp_path / "log.db", key, witnessing=Witnessing(policy, deadline=5)) as log:
            note = log.append(b"one").checkpoint
        assert len(village["w"].requests) == 1
        assert [line.key_id for line in Note.parse(note).signatures[1:]] == sorted(one.key_id for one in public)


def test_linger_is_not_spent_on_those_who_did_not_answer_last_time(open_log: Open, village: Village) -> None:
    village["c"].stop()
    log = open_log(deadline=60, linger=30)
    log.append(b"zero")  # c refuses the connection: no need to wait for it
    began = time.monotonic()
    log.append(b"one")
    assert time.monotonic() - began < 25


def test_policy_file(tmp_path: Path, key: LogKey, village: Village) -> None:
    path = tmp_path / "policy.txt"
    path.write_bytes(village.policy(*TWO).format())
    Witnessing.load(path, key.verifier_keys).close()
    own, other = key.verifier_keys[0].format(), LogKey.generate("other").verifier_keys[0].format()
    path.write_bytes(f"log {other}\nlog {own}\n".encode() + village.policy(*TWO).format())
    Witnessing.load(path, key.verifier_keys).close()
    witness = f"witness a {village['a'].key.verifier_keys[0].format()}"
    for text in (f"log {other}\nquorum none\n", "quorum", f"{witness} ftp://x\nquorum a\n"):
        path.write_text(text)
        with pytest.raises(LedgerError):
            Witnessing.load(path, key.verifier_keys)
    with pytest.raises(LedgerError, match="cannot read"):
        Witnessing.load(tmp_path / "none", key.verifier_keys)


def test_witnesses_without_urls_are_never_there(tmp_path: Path, key: LogKey, village: Village) -> None:
    policy = Policy.of([village[name].key.verifier_keys[0] for name in "ab"], 1)
    Log.create(tmp_path / "log.db", key).close()
    with Log.open(tmp_path / "log.db", key, witnessing=Witnessing(policy)) as log:
        with pytest.raises(WitnessError, match="no witness that counts has a URL"):
            log.append(b"one")
