"""Appends that wait together and are committed together: one transaction, one signature, one proof each.

A commit costs about the same for one entry as for a hundred. So a single thread takes whatever has come while it was busy with
the last batch, logs it under one checkpoint, and answers all at once::

    group = GroupCommit(log)
    receipt = await group.append(b"some entry")     # on return durable, and included under receipt.proof's checkpoint

The thread waits a few milliseconds for as many as came last time, since whoever has its answer is likely to send the next
entry; a client that is alone never waits. Who stops waiting (a client that hung up) loses the answer, not the entry.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from ledger.errors import BusyError, ConflictError, LedgerError, StorageError, WitnessError
from ledger.log import Appended
from ledger.proof import TlogProof
from ledger.tiles import check_entry

MAX_BATCH = 512
MAX_BATCH_BYTES = 8 << 20
MAX_WAITING = 2048
MAX_WAITING_BYTES = 64 << 20
GATHERING = 0.004
"""Seconds that a batch waits for the next entry, while it is smaller than the last one."""
MAX_GATHERING = 0.04
_TRIES = 5


class ProvingLog(Protocol):
    """What this needs of a log."""

    def append_many(self, entries: Sequence[bytes], *, expected_size: int | None = None) -> list[Appended]: ...

    def prove_all(self, indices: Sequence[int]) -> list[TlogProof]: ...


@dataclass(frozen=True, slots=True)
class Receipt:
    """An entry's tlog-proof, and whether this append added the entry."""

    index: int
    proof: bytes
    new: bool


@dataclass(slots=True)
class _Waiting:
    entry: bytes
    expected_size: int | None
    answer: "asyncio.Future[Receipt | Exception]" = field(repr=False)


@dataclass(frozen=True, slots=True)
class Batch:
    """What a commit was about, for metrics: entries, those that were new, seconds, and the error that ended it."""

    entries: int
    new: int
    seconds: float
    error: Exception | None


class GroupCommit:
    """See the module. ``observe`` is called after each commit, in the committing thread."""

    def __init__(
        self,
        log: ProvingLog,
        *,
        max_waiting: int = MAX_WAITING,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
        observe: Callable[[Batch], None] = lambda batch: None,
    ) -> None:
        self._log = log
        self._max_waiting = max_waiting
        self._max_waiting_bytes = max_waiting_bytes
        self._observe = observe
        self._queue: deque[_Waiting] = deque()
        self._count = self._bytes = 0
        self._changed = threading.Condition()
        self._expected = 1
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Entries that are neither logged nor refused yet."""
        return self._count

    async def append(self, entry: bytes, *, expected_size: int | None = None) -> Receipt:
        """Log one entry; the same errors as :meth:`ledger.log.Log.append`, and BusyError if too many wait."""
        check_entry(entry)
        answer: asyncio.Future[Receipt | Exception] = asyncio.get_running_loop().create_future()
        with self._changed:
            if self._closed:
                raise BusyError("this server is stopping: try again, it may be back soon")
            if self._count >= self._max_waiting or self._bytes + len(entry) > self._max_waiting_bytes:
                raise BusyError(f"{self._count} entries wait to be logged already: try again later")
            self._queue.append(_Waiting(entry, expected_size, answer))
            self._count += 1
            self._bytes += len(entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="group-commit", daemon=True)
                self._thread.start()
            if len(self._queue) in (1, self._expected):  # no sooner: to wake up costs more than to wait
                self._changed.notify()
        outcome = await answer
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def close(self) -> None:
        """Take no more, and return when all that wait are answered. Call it from another thread than the event loop's."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    # -- the committing thread ---------------------------------------------------------------------------------------

    def _work(self) -> None:
        while batch := self._take():
            began = time.monotonic()
            outcomes = self._commit(batch)
            with self._changed:
                self._expected = len(batch) + len(self._queue)
                self._count -= len(batch)
                self._bytes -= sum(len(one.entry) for one in batch)
            errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
            new = sum(isinstance(outcome, Receipt) and outcome.new for outcome in outcomes)
            self._observe(Batch(len(batch), new, time.monotonic() - began, errors[0] if errors else None))
            for loop in {one.answer.get_loop() for one in batch}:
                mine = [pair for pair in zip(batch, outcomes, strict=True) if pair[0].answer.get_loop() is loop]
                if not loop.is_closed():
                    loop.call_soon_threadsafe(_answer, mine)

    def _take(self) -> list[_Waiting]:
        """What is to be committed next, in the order in which it came; nothing once closed. A compare-and-swap goes alone."""
        with self._changed:
            while not self._queue:
                if self._closed:
                    return []
                self._changed.wait()
            self._gather()
            count, size = 0, 0
            for one in islice(self._queue, MAX_BATCH):
                size += len(one.entry)
                if count and (one.expected_size is not None or size > MAX_BATCH_BYTES):
                    break
                count += 1
                if one.expected_size is not None:
                    break
            return [self._queue.popleft() for _ in range(count)]

    def _gather(self) -> None:
        """Wait while more are expected, and come."""
        end = time.monotonic() + MAX_GATHERING
        count = 0
        while not self._closed and count < len(self._queue) < self._expected and time.monotonic() < end:
            count = len(self._queue)
            self._changed.wait(GATHERING)

    def _commit(self, batch: Sequence[_Waiting]) -> Sequence[Receipt | Exception]:
        """One outcome for each. What is wrong with one entry is not the others' trouble."""
        try:
            appended = self._append([one.entry for one in batch], batch[0].expected_size)
            proofs = self._log.prove_all([one.index for one in appended])
            return [Receipt(one.index, proof.format(), one.new) for one, proof in zip(appended, proofs, strict=True)]
        except (StorageError, WitnessError, ConflictError) as error:
            return [error] * len(batch)
        except LedgerError as error:
            return [error] if len(batch) == 1 else [self._commit([one])[0] for one in batch]
        except Exception as error:  # a defect: whoever waits is told, and the next ones get their turn
            return [error] * len(batch)

    def _append(self, entries: Sequence[bytes], expected_size: int | None) -> list[Appended]:
        for _ in range(_TRIES - 1 if expected_size is None else 0):
            with suppress(ConflictError):  # another server was faster, and nobody asked for a certain size
                return self._log.append_many(entries)
        return self._log.append_many(entries, expected_size=expected_size)


def _answer(outcomes: "Sequence[tuple[_Waiting, Receipt | Exception]]") -> None:
    for one, outcome in outcomes:
        if not one.answer.done():  # it is, if nobody waits for it any more
            one.answer.set_result(outcome)
