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
        try:
            if not first:
                mine.over.wait()
        except BaseException:  # we are interrupted, and do not want it any more
            self._leave(mine)
            raise
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
                self._appoint()
                for one in taken[1:]:
                    if one not in undone:
                        one.over.set()

    def _appoint(self) -> None:
        """It is the turn of the next in the queue, if there is one. Call it with the lock."""
        self._busy = bool(self._queue)
        if self._queue:
            self._queue.pop(0).over.set()

    def _leave(self, mine: _Waiting[J, R]) -> None:
        """Give up: what was begun may be done all the same. If it was our turn meanwhile, it is the next one's."""
        with self._lock:
            if mine in self._queue:
                self._queue.remove(mine)
            elif mine.over.is_set() and mine.result is None and mine.error is None:
                self._appoint()


def _own(error: Exception) -> Exception:
    """The same error for another thread, which adds a traceback of its own."""
    try:
        other = copy.copy(error)
    except Exception:  # made in a way that copying does not know
        return error
    other.__cause__ = error
    return other
