"""Threads that share one piece of work: each gets its own result or error, and nobody is forgotten."""

import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ledger import fsck
from ledger.combining import Combining
from ledger.errors import StorageError
from ledger.log import Log
from ledger.log_key import LogKey
from ledger.storage import Transaction


class Office:
    """Work that begins when it is told to, so that others queue up."""

    def __init__(self, work: Callable[[Sequence[int]], Sequence[int]]) -> None:
        self.batches: list[list[int]] = []
        self.open = threading.Event()
        self._work = work
        self.combining: Combining[int, int] = Combining(self._do, fits=lambda jobs: len(jobs) <= 4)
        self.outcome: dict[int, object] = {}
        self._threads: list[threading.Thread] = []

    def _do(self, jobs: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(jobs))
        if len(self.batches) == 1:
            assert self.open.wait(30)
        return self._work(jobs)

    def ask(self, job: int) -> None:
        def run() -> None:
            try:
                self.outcome[job] = self.combining.do(job)
            except BaseException as error:
                self.outcome[job] = error

        thread = threading.Thread(target=run)
        thread.start()
        self._threads.append(thread)
        end = time.monotonic() + 30
        while not self.batches or len(self.combining._queue) < len(self._threads) - 1:
            assert time.monotonic() < end
            time.sleep(0.001)

    def finish(self) -> None:
        self.open.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "somebody was forgotten"


def test_those_who_wait_are_served_together_and_each_gets_its_own() -> None:
    office = Office(lambda jobs: [job * 10 for job in jobs])
    for job in range(8):
        office.ask(job)
    office.finish()
    assert office.outcome == {job: job * 10 for job in range(8)}
    assert office.batches == [[0], [1, 2, 3, 4], [5, 6, 7]], "as many as fit, in order"


def test_error_is_raised_in_each_thread_that_shared_the_work_and_in_no_other() -> None:
    def work(jobs: Sequence[int]) -> Sequence[int]:
        if 2 in jobs:
            raise StorageError("the disk is on fire")
        return list(jobs)

    office = Office(work)
    for job in range(7):
        office.ask(job)
    office.finish()
    failed = [office.outcome[job] for job in (1, 2, 3, 4)]
    assert all(isinstance(error, StorageError) and "on fire" in str(error) for error in failed)
    assert len(set(map(id, failed))) == 4
    assert [office.outcome[job] for job in (0, 5, 6)] == [0, 5, 6]


def test_others_are_served_when_the_one_at_work_is_interrupted() -> None:
    def work(jobs: Sequence[int]) -> Sequence[int]:
        if jobs[0] in (0, 1):
            raise KeyboardInterrupt
        return list(jobs)

    office = Office(work)
    for job in range(5):
        office.ask(job)
    office.finish()
    assert isinstance(office.outcome[0], KeyboardInterrupt) and isinstance(office.outcome[1], KeyboardInterrupt)
    assert [office.outcome[job] for job in (2, 3, 4)] == [2, 3, 4]
    assert office.combining.do(9) == 9


def test_append_that_fails_for_several_threads_writes_nothing(
    tmp_path: Path, key: LogKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome: list[object] = []
    with Log.create(tmp_path / "log.db", key) as log:

        def write(number: int) -> None:
            try:
                outcome.append(log.append(b"%d" % number))
            except StorageError as error:
                outcome.append(error)

        def fail(*_: object) -> None:
            raise StorageError("full")

        with monkeypatch.context() as patch:
            patch.setattr(Transaction, "set_head", fail)
            threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        assert len(outcome) == 8 and all(isinstance(one, StorageError) for one in outcome)
        assert log.size() == 0 and log.append(b"0").index == 0 and list(fsck.check(log)) == []


def test_others_are_served_when_one_that_waits_is_interrupted() -> None:
    began, finish = threading.Event(), threading.Event()

    def work(jobs: Sequence[str]) -> Sequence[str]:
        if jobs[0] == "slow":
            began.set()
            assert finish.wait(30)
        return jobs

    combining: Combining[str, str] = Combining(work, fits=lambda jobs: len(jobs) <= 1)
    slow = threading.Thread(target=combining.do, args=("slow",))
    slow.start()
    assert began.wait(30)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            combining.do("mine")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    finish.set()
    slow.join(30)
    done: list[str] = []
    later = threading.Thread(target=lambda: done.append(combining.do("later")), daemon=True)
    later.start()
    later.join(30)
    assert done == ["later"]
