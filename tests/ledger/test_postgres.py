"""A log in PostgreSQL keeps every promise of one in SQLite (the same tests), and some of its own: many writers, one history."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urldefrag

import psycopg
import pytest

from ledger import fsck
from ledger.errors import ConflictError, StorageError, TamperedError
from ledger.log import Log
from ledger.log_key import LogKey
from ledger.merkle import leaf_hash
from ledger.storage_postgres import PostgresStorage
from tests.ledger.test_concurrency import (  # noqa: F401  collected here: run over PostgreSQL
    check_all,
    processes,
    run,
    test_head_that_moves_while_it_is_read_is_no_rollback,
)
from tests.ledger.test_log import (  # noqa: F401
    test_append_is_included_under_its_own_checkpoint,
    test_append_many_is_all_or_nothing,
    test_compare_and_swap,
    test_entry_too_large_is_refused_and_nothing_written,
    test_failed_append_lets_others_write,
    test_large_batches_are_deduplicated_and_placed,
    test_log_can_be_closed_twice,
    test_log_is_the_same_after_closing,
    test_log_open_for_reading_does_not_append,
    test_log_reopened_at_each_size_goes_on,
    test_log_with_both_signatures,
    test_new_log_has_a_signed_empty_checkpoint,
    test_proof_reads_few_tiles,
    test_proofs_of_every_entry_and_every_prefix,
    test_same_bytes_are_logged_once,
    test_same_bytes_are_logged_once_within_and_across_batches,
    test_tile_that_does_not_exist_is_refused,
    test_tiles_and_bundles_are_the_bytes_of_the_specification,
    test_tree_does_not_depend_on_how_it_was_appended,
    test_what_is_not_there_is_not_proven,
)
from tests.postgres import Server, server


@pytest.fixture
def path(postgres: Server) -> str:
    """In the place of the file."""
    return postgres.url()


@pytest.fixture
def log(path: str, key: LogKey) -> Iterator[Log]:
    with Log.create(path, key) as log:
        yield log


@pytest.fixture
def log_of(path: str, key: LogKey) -> Iterator[Callable[[int], Log]]:
    logs: list[Log] = []

    def make(size: int) -> Log:
        logs.append(Log.create(path, key))
        logs[-1].append_many([b"entry %d" % i for i in range(size)])
        return logs[-1]

    yield make
    for log in logs:
        log.close()


def sql(path: str, statement: str, *values: object) -> list[tuple[object, ...]]:
    place, schema = urldefrag(path)
    with psycopg.connect(place, autocommit=True, options=f"-c search_path={schema}") as connection:
        cursor = connection.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


# -- places ------------------------------------------------------------------------------------------------------------


def test_existing_log_is_not_created_again(log: Log, path: str, key: LogKey) -> None:
    log.append(b"a")
    with pytest.raises(StorageError, match="holds a log already"):
        Log.create(path, key)
    assert log.size() == 1


def test_missing_log_schema_or_server_is_a_storage_error(postgres: Server, key: LogKey, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no log in schema"):
        Log.open(postgres.url(), key)
    with pytest.raises(StorageError, match="schema like 'ledger'"):
        Log.create(postgres.url('x"; drop'), key)
    for act in (Log.open, Log.create):
        with pytest.raises(StorageError, match="failed"):
            act(f"postgresql://ledger:secret@/postgres?host={tmp_path}", key)


def test_password_is_in_no_message(postgres: Server, key: LogKey, tmp_path: Path) -> None:
    with pytest.raises(StorageError) as raised:
        Log.open(f"postgresql://ledger:secret@/postgres?host={tmp_path}&password=secret", key)
    assert "secret" not in str(raised.value)


def test_logs_in_one_database_do_not_meet(postgres: Server, key: LogKey) -> None:
    other = LogKey.generate("example.com/other")
    with Log.create(postgres.url(), key) as one, Log.create(postgres.url(), other) as two:
        assert [one.append(b"a").index, two.append(b"b").index, one.append(b"c").index] == [0, 0, 1]
        assert [entry for _, entry in two.entries()] == [b"b"]


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes", "synchronous_commit"])
def test_server_that_may_lose_what_it_acknowledges_is_refused(setting: str, key: LogKey) -> None:
    with server([f"{setting}=off"]) as careless, pytest.raises(StorageError, match=f"{setting} = off"):
        Log.create(careless.url(), key)


# -- many writers ------------------------------------------------------------------------------------------------------


def _append(path: str, mark: Path, key_file: Path, who: int, pipe: "multiprocessing.connection.Connection") -> None:
    key = LogKey.load(key_file, "example.com/log", None)
    placed = []
    with Log.open(path, key, watermark=mark) as log:
        for i in range(60):
            entries = [b"%d %d" % (who, i), b"shared %d" % i]
            if i % 20 == 0:
                entries += [b"%d %d %d" % (who, i, j) for j in range(100)]  # too many to ask others for
            for entry, done in zip(entries, log.append_many(entries), strict=True):
                placed.append((done.index, entry, done.checkpoint))
    pipe.send(placed)


def test_processes_on_one_log(path: str, tmp_path: Path, key: LogKey) -> None:
    mark, key_file = tmp_path / "mark", tmp_path / "log.key"
    key.save(key_file, None)
    Log.create(path, key, watermark=mark).close()
    placed = [one for found in processes(_append, path, mark, key_file, numbered=True) for one in found]  # type: ignore
    assert len(placed) == 4 * (120 + 300)
    check_all(path, key, mark, placed, size=4 * (60 + 300) + 60)  # type: ignore[arg-type]


def _count_up(path: str, key_file: Path, pipe: "multiprocessing.connection.Connection") -> None:
    """Take turns by compare-and-swap, with plain appends in between."""
    won = 0
    with Log.open(path, LogKey.load(key_file, "example.com/log", None)) as log:
        while (size := log.size()) < 120:
            try:
                log.append(b"at %d" % size, expected_size=size)
                won += 1
            except ConflictError:
                pass
    pipe.send(won)


def test_processes_take_turns_by_compare_and_swap(path: str, tmp_path: Path, key: LogKey) -> None:
    key_file = tmp_path / "log.key"
    key.save(key_file, None)
    Log.create(path, key).close()
    assert sum(processes(_count_up, path, key_file, numbered=False)) == 120  # type: ignore[arg-type]
    with Log.open(path, key) as log:
        assert [entry for _, entry in log.entries()] == [b"at %d" % i for i in range(120)]


def test_threads_on_one_log(path: str, tmp_path: Path, key: LogKey) -> None:
    mark = tmp_path / "mark"
    placed: list[tuple[int, bytes, bytes]] = []
    failures: list[BaseException] = []
    log = Log.create(path, key, watermark=mark)

    def write(who: int) -> None:
        try:
            for i in range(40):
                entries = [b"%d %d %d" % (who, i, j) for j in range(1 + i % 3)]
                for entry, done in zip(entries, log.append_many(entries), strict=True):
                    placed.append((done.index, entry, done.checkpoint))
        except BaseException as error:
            failures.append(error)

    run([threading.Thread(target=write, args=(who,)) for who in range(6)])
    log.close()
    assert not failures
    check_all(path, key, mark, placed, size=len(placed))  # type: ignore[arg-type]


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_one_writer_appends_for_those_who_wait(path: str, key: LogKey) -> None:
    """While one holds the lock, five ask; the next turn serves all of them under one checkpoint, each with its own indices."""
    logs = [Log.create(path, key), *(Log.open(path, key) for _ in range(4))]
    done: dict[int, list[object]] = {}

    def write(who: int) -> None:
        done[who] = list(logs[who].append_many([b"%d" % who, b"same", b"%d again" % who]))

    writers = [threading.Thread(target=write, args=(who,)) for who in range(5)]
    with PostgresStorage.open(path).transaction():
        for writer in writers:
            writer.start()
        wait_for(lambda: sql(path, "select count(*) from waiting")[0][0] == 5)
        assert logs[0].size() == 0 and not done
    run_out = [writer.join(60) for writer in writers]
    assert len(run_out) == 5 and len(done) == 5
    appended = [one for who in range(5) for one in done[who]]
    assert len({one.checkpoint for one in appended}) == 1, "one commit for all"  # type: ignore[attr-defined]
    entries = dict(logs[0].entries())
    for who in range(5):
        indices = [one.index for one in done[who]]  # type: ignore[attr-defined]
        assert [entries[index] for index in indices] == [b"%d" % who, b"same", b"%d again" % who]
    assert logs[0].size() == 11 and list(fsck.check(logs[0])) == []
    assert sum(one.new for one in appended) == 11  # type: ignore[attr-defined]
    for log in logs:
        log.close()


def test_error_of_the_one_who_appends_reaches_nobody_else(
    path: str, key: LogKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its turn is undone; another takes over, and what the first one asked for is appended or not, but not acknowledged."""
    failing, sound = Log.create(path, key), Log.open(path, key)
    outcome: dict[str, object] = {}

    def write(name: str, log: Log) -> None:
        try:
            outcome[name] = log.append(name.encode()).index
        except StorageError as error:
            outcome[name] = error

    def fail(*_: object) -> bytes:
        raise StorageError("no more signing")

    monkeypatch.setattr(failing, "_key", _Unwilling(key))
    holder = PostgresStorage.open(path)
    threads = [threading.Thread(target=write, args=one) for one in (("first", failing), ("second", sound))]
    with holder.transaction():
        for number, thread in enumerate(threads, 1):
            thread.start()
            wait_for(lambda n=number: sql(path, "select count(*) from waiting")[0][0] == n)
    run_ = [thread.join(60) for thread in threads]
    assert len(run_) == 2 and isinstance(outcome["second"], int)
    assert isinstance(outcome["first"], StorageError | int)
    assert sound.find(b"second") == outcome["second"] and list(fsck.check(sound)) == []
    for closing in (failing, sound, holder):
        closing.close()


class _Unwilling:
    """A key that does not sign."""

    def __init__(self, key: LogKey) -> None:
        self.verifier_keys = key.verifier_keys

    def sign(self, *_: object) -> bytes:
        raise StorageError("no more signing")


def test_what_a_dead_writer_asked_for_does_no_harm(log: Log, path: str) -> None:
    """A request whose writer is gone is appended once, without holding anybody up."""
    assert log._together is not None
    request = log._together.ask([b"orphan"])
    sql(path, "insert into waiting values (1, 1, %s, %s, null)", [leaf_hash(b"orphan")], request.data)
    assert {log.append(b"mine").index, log.find(b"orphan")} == {0, 1}
    assert log.append(b"orphan").new is False and log.size() == 2
    assert sql(path, "select request, answer is not null from waiting where pid = 1") == [(None, True)]


def test_nothing_is_left_of_writers_that_are_gone(log: Log, path: str, key: LogKey) -> None:
    """Else whoever appends would read through more and more of it."""
    for number in range(3):
        with Log.open(path, key) as other:
            other.append(b"%d" % number)
    wait_for(lambda: sql(path, "select 1 from waiting where pid not in (select pid from pg_stat_activity)"))
    log.append(b"mine")
    assert sql(path, "select count(*) from waiting")[0][0] <= 2


# -- attacks by whoever can write to the database ----------------------------------------------------------------------


def test_request_without_the_key_is_not_signed(log: Log, path: str) -> None:
    """Who can write to the database could otherwise have the log sign whatever they put into the queue."""
    other = Log.create(path + "_other", LogKey.generate("example.com/log"))
    assert other._together is not None
    forged = [os.urandom(48) + b"\0\6forged", other._together.ask([b"forged"]).data, b""]
    for number, request in enumerate(forged):
        sql(path, "insert into waiting values (%s, 1, %s, %s, null)", number + 1, [leaf_hash(b"forged")], request)
    assert log.append(b"mine").index == 0 and log.size() == 1 and log.find(b"forged") is None
    other.close()


def test_forged_answer_is_refused(log: Log, path: str, key: LogKey) -> None:
    """One that another request got, and one made up."""
    assert log._together is not None
    together = log._together
    first = together.ask([b"first"])
    answer = together.answer(first, [(0, True)], log.append(b"first").checkpoint)
    assert together.read(first, answer)[0] == [(0, True)]
    second = together.ask([b"first"])
    for forged in (answer, os.urandom(32) + answer[32:], b"", answer[:-1]):
        with pytest.raises(TamperedError, match="not from a holder of the log's key"):
            together.read(second, forged)


def test_replayed_request_changes_nothing(log: Log, path: str) -> None:
    assert log._together is not None
    request = log._together.ask([b"once"])
    log.append(b"once")
    sql(path, "insert into waiting values (1, 1, %s, %s, null)", [leaf_hash(b"once")], request.data)
    log.append(b"more")
    assert [entry for _, entry in log.entries()] == [b"once", b"more"]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ('delete from entries where "index" = 7', "entry 7: missing"),
        ("update entries set data = 'x' where \"index\" = 7", "entry 7: its bytes hash to"),
        ("update tiles set hashes = '' where level = 1", "tile/1/000.p/2: 0 hashes"),
        ("update head set size = 599", "head: tree size 599"),
        ("update head set checkpoint = ''", "checkpoint: "),
        ("delete from head", "storage: "),
        ("drop table tiles", "storage: "),
    ],
)
def test_row_edited(log_of: Callable[[int], Log], path: str, key: LogKey, statement: str, expected: str) -> None:
    log_of(600)
    sql(path, statement)
    with Log.open(path, key, check=False) as log:
        assert any(line.startswith(expected) for line in fsck.check(log))
    if "head" in statement:
        with Log.open(path, key, check=False) as log, pytest.raises(StorageError):
            log.append(b"more")


def test_damaged_index_is_found_where_amcheck_is_installed(
    log_of: Callable[[int], Log], path: str, key: LogKey
) -> None:
    """The index that decides what counts as logged already."""
    log = log_of(600)
    sql(path, "create extension if not exists amcheck schema pg_catalog")
    assert list(fsck.check(log)) == []
    # An index that lacks a row: the row is written while the index is marked as not ready for it.
    sql(path, "update pg_index set indisready = false where indexrelid = 'entries_leaf_key'::regclass")
    sql(path, "update entries set leaf = '\\x00' where \"index\" = 599")
    sql(path, "update pg_index set indisready = true where indexrelid = 'entries_leaf_key'::regclass")
    assert any(line.startswith("database: ") and "entries_leaf_key" in line for line in fsck.check(log))
