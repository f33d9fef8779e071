"""Appends that are committed together: each gets its own answer, whatever befalls the others."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from ledger.errors import BusyError, ConflictError, EntryTooLargeError, LedgerError, MalformedError, StorageError
from ledger.group_commit import Batch, GroupCommit, Receipt
from ledger.log import Appended, Log
from ledger.log_key import LogKey
from ledger.proof import TlogProof


class Recorded:
    """A log that notes its batches, can be held up, and refuses entries that begin with ``bad``."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.batches: list[list[bytes]] = []
        self.conflicts = 0
        self.go_on = threading.Event()
        self.go_on.set()
        self.error: Exception | None = None

    def append_many(self, entries: Sequence[bytes], *, expected_size: int | None = None) -> list[Appended]:
        assert self.go_on.wait(30)
        self.batches.append(list(entries))
        if self.conflicts:
            self.conflicts -= 1
            raise ConflictError("another server was faster")
        if self.error is not None:
            raise self.error
        if any(entry.startswith(b"bad") for entry in entries):
            raise MalformedError("bad")
        return self.log.append_many(entries, expected_size=expected_size)

    def prove_all(self, indices: Sequence[int]) -> list[TlogProof]:
        return self.log.prove_all(indices)


async def all_of(group: GroupCommit, entries: Sequence[bytes]) -> list[Receipt | BaseException]:
    return await asyncio.gather(*map(group.append, entries), return_exceptions=True)


def test_what_waits_is_committed_together_and_proved_each(log: Log, key: LogKey) -> None:
    recorded = Recorded(log)
    seen: list[Batch] = []
    group = GroupCommit(recorded, observe=seen.append)

    async def run() -> None:
        recorded.go_on.clear()
        first = asyncio.create_task(group.append(b"first"))
        await asyncio.sleep(0)
        while not group.waiting or group._queue:
            await asyncio.sleep(0.001)
        rest = asyncio.create_task(all_of(group, [b"entry %d" % i for i in range(40)]))
        while group.waiting < 41:
            await asyncio.sleep(0.001)
        recorded.go_on.set()
        receipts = [await first, *await rest]
        for entry, receipt in zip([b"first", *(b"entry %d" % i for i in range(40))], receipts, strict=True):
            assert isinstance(receipt, Receipt) and receipt.new
            proof = TlogProof.parse(receipt.proof)
            assert proof.index == receipt.index
            proof.verify(entry, log_keys=key.verifier_keys)

    asyncio.run(run())
    group.close()
    assert [len(batch) for batch in recorded.batches] == [1, 40]
    assert [(batch.entries, batch.new, batch.error) for batch in seen] == [(1, 1, None), (40, 40, None)]


def test_bad_entry_fails_alone(log: Log) -> None:
    group = GroupCommit(Recorded(log))
    entries = [b"good 1", b"bad", b"good 2", bytes(65_536), b"good 1"]
    outcomes = asyncio.run(all_of(group, entries))
    assert [type(outcome) for outcome in outcomes] == [Receipt, MalformedError, Receipt, EntryTooLargeError, Receipt]
    assert log.size() == 2
    group.close()


def test_conflict_with_another_server_is_tried_again(log: Log) -> None:
    recorded = Recorded(log)
    recorded.conflicts = 3
    group = GroupCommit(recorded)
    assert isinstance(asyncio.run(group.append(b"entry")), Receipt)
    recorded.conflicts = 1
    with pytest.raises(ConflictError):  # whoever asks for a size is told
        asyncio.run(group.append(b"other", expected_size=1))
    group.close()


@pytest.mark.parametrize("error", (StorageError("disk full"), RuntimeError("a defect")))
def test_failure_is_told_to_all_and_ends_nothing(log: Log, error: Exception) -> None:
    recorded = Recorded(log)
    group = GroupCommit(recorded)
    recorded.error = error
    assert asyncio.run(all_of(group, [b"a", b"b"])) == [error, error]
    recorded.error = None
    assert isinstance(asyncio.run(group.append(b"a")), Receipt)
    group.close()


def test_swap_is_committed_alone_and_in_its_turn(log: Log) -> None:
    recorded = Recorded(log)
    group = GroupCommit(recorded)

    async def run() -> list[Receipt | BaseException]:
        recorded.go_on.clear()
        tasks = [
            asyncio.create_task(group.append(entry, expected_size=size))
            for entry, size in ((b"a", None), (b"b", None), (b"c", 2), (b"d", 2), (b"e", None))
        ]
        while group.waiting < 5:
            await asyncio.sleep(0.001)
        recorded.go_on.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = asyncio.run(run())
    assert [type(outcome) for outcome in outcomes] == [Receipt, Receipt, Receipt, ConflictError, Receipt]
    assert [b"c"] in recorded.batches and [b"d"] in recorded.batches
    group.close()


def test_who_stops_waiting_loses_the_answer_only(log: Log) -> None:
    recorded = Recorded(log)
    group = GroupCommit(recorded)

    async def run() -> None:
        recorded.go_on.clear()
        task = asyncio.create_task(group.append(b"entry"))
        while not group.waiting:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        recorded.go_on.set()
        assert (await group.append(b"entry")).index == 0

    asyncio.run(run())
    group.close()
    assert log.size() == 1 and group.waiting == 0


def test_too_much_is_refused_by_number_and_by_bytes(log: Log) -> None:
    recorded = Recorded(log)
    for limits in ({"max_waiting": 2}, {"max_waiting_bytes": 2000}):
        group = GroupCommit(recorded, **limits)

        async def run(group: GroupCommit = group) -> list[Receipt | BaseException]:
            recorded.go_on.clear()
            tasks = [asyncio.create_task(group.append(bytes([i]) * 900)) for i in range(3)]
            while not any(task.done() for task in tasks):
                await asyncio.sleep(0.001)
            recorded.go_on.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

        assert [type(outcome) for outcome in asyncio.run(run())] == [Receipt, Receipt, BusyError]
        group.close()


def test_close_answers_what_waits_and_takes_no_more(log: Log) -> None:
    recorded = Recorded(log)
    group = GroupCommit(recorded)

    async def run() -> None:
        recorded.go_on.clear()
        tasks = [asyncio.create_task(group.append(b"entry %d" % i)) for i in range(10)]
        while group.waiting < 10:
            await asyncio.sleep(0.001)
        closing = asyncio.create_task(asyncio.to_thread(group.close))
        while not group._closed:
            await asyncio.sleep(0.001)
        with pytest.raises(BusyError, match="stopping"):
            await group.append(b"late")
        recorded.go_on.set()
        assert len(await asyncio.gather(*tasks)) == 10
        await closing

    asyncio.run(run())
    assert log.size() == 10


def test_log_without_its_key_says_so(log: Log, path: object, key: LogKey) -> None:
    with Log.open(path, verifier_keys=key.verifier_keys) as reader:  # type: ignore[arg-type]
        group = GroupCommit(reader)
        with pytest.raises(LedgerError, match="needs its key"):
            asyncio.run(group.append(b"x"))
        group.close()
