"""Threads that want the same kind of work done: one does it for all who wait, so that they share its cost.

Whoever finds nobody at work does its own job, and with it all that have queued up meanwhile; then the next in the queue takes
over. Who was alone the last time waits for nobody; others give those who were just served a moment to come back. An error is
everybody's whose job was in that piece of work, each with an exception of its own::

    appends = Combining(lambda jobs: append_all(jobs), fits=lambda jobs: len(jobs) <= 64)
    placed = appends.do(entries)
"""

import copy
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

PATIENCE = 100e-6
"""Seconds: little beside a commit."""
J = TypeVar("J")
R = TypeVar("R")


class _Waiting(Generic[J, R]):
    """A job, and what became of it: a result, an error, or neither: then it is its thread's turn."""

    def __init__(self, job: J) -> None:
        self.job = job
        self.over = threading.Event()
        self.result: tuple[R] | None = None
        self.error: Exception | None = None


class Combining(Generic[J, R]):
    """``work(jobs)`` returns a result for each; ``fits(jobs)`` says whether so many can be done at once."""

    def __init__(self, work: Callable[[Sequence[J]], Sequence[R]], fits: Callable[[Sequence[J]], bool]) -> None:
        self._work = work
        self._fits = fits
        self._lock = threading.Lock()
        self._busy = False
        self._company = 1
        self._queue: list[_Waiting[J, R]] = []

    def do(self, job: J) -> R:
        """The result of ``job``, by this thread or by another."""
        mine: _Waiting[J, R] = _Waiting(job)
        with self._lock:
            if self._busy:
                self._queue.append(mine)
            first, self._busy = not self._busy, True
        if not first:
            mine.over.wait()
        if mine.result is None and mine.error is None:
            self._lead(mine)
        if mine.error is not None:
            raise mine.error
        assert mine.result is not None
        return mine.result[0]

    def _lead(self, mine: _Waiting[J, R]) -> None:
        taken = [mine]
        try:
            if self._company > 1:
                time.sleep(PATIENCE)
            with self._lock:
                while self._queue and self._fits([one.job for one in (*taken, self._queue[0])]):
                    taken.append(self._queue.pop(0))
            self._company = len(taken)
            for one, result in zip(taken, self._work([one.job for one in taken]), strict=True):
                one.result = (result,)
        except Exception as error:
            for one in taken:
                one.result, one.error = None, error if one is mine else _own(error)
        finally:
            with self._lock:
                undone = [one for one in taken[1:] if one.result is None and one.error is None]  # we are interrupted
                self._queue[:0] = undone
                self._busy = bool(self._queue)
                if self._queue:
                    self._queue.pop(0).over.set()
                for one in taken[1:]:
                    if one not in undone:
                        one.over.set()


def _own(error: Exception) -> Exception:
    """The same error for another thread, which adds a traceback of its own."""
    other = copy.copy(error)
    other.__cause__ = error
    return other
