"""Chunk trees: the RFC 6962 root over 1 MiB chunks of some bytes, many at once on a few threads.

The bytes are cut every 1,048,576 bytes, the last chunk being shorter; each chunk is a tree entry, so a leaf is
``SHA-256(0x00 || chunk)``. No bytes at all give ``EMPTY_ROOT``::

    >>> chunk_roots([ByteSource.of(b"abc")]) == [leaf_hash(b"abc")]
    True

Work is handed out in batches of a few MiB, whether that is part of one large tensor or hundreds of small ones, so both
keep every thread busy: hashlib releases the GIL. Only a few batches exist at a time.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256

from certify.errors import DigestError
from ledger.merkle import Frontier

CHUNK = 1 << 20
PIECE = 8 * CHUNK
MIN_BATCH, MAX_BATCH = 4 * CHUNK, 32 * CHUNK
BATCH_SOURCES = 1024
MAX_THREADS = 8

Buffer = bytes | bytearray | memoryview
Progress = Callable[[int], object]
"""Called with the bytes hashed so far, now and then, on the calling thread."""


@dataclass(frozen=True, slots=True)
class ByteSource:
    """``nbytes`` bytes to hash; ``read(lo, hi)`` gives those from lo to hi, lo a multiple of 1 MiB.

    ``read`` is called from several threads, for at most ``piece`` bytes at a time; what it returns need only stay
    valid until the same thread calls it again.
    """

    nbytes: int
    read: Callable[[int, int], Buffer]
    piece: int = PIECE

    @classmethod
    def of(cls, buffer: Buffer) -> "ByteSource":
        """Bytes in memory, not copied."""
        view = memoryview(buffer)
        view = view.cast("B") if view.nbytes else memoryview(b"")
        return cls(view.nbytes, lambda lo, hi: view[lo:hi])


Part = tuple[int, int, int]
"""Index of a source, and the bytes lo to hi of it."""


def chunk_roots(
    sources: Sequence[ByteSource], *, threads: int | None = None, progress: Progress | None = None
) -> list[bytes]:
    """The chunk-tree root of each source, in order. ``threads`` defaults to the processors, 8 at most.

    Raises DigestError when a source gives fewer or more bytes than it promised, and whatever ``read`` raises.
    """
    trees = [Frontier() for _ in sources]
    done = 0

    def finish(batch: list[Part], leaves: list[bytes]) -> None:
        nonlocal done
        at = 0
        for index, lo, hi in batch:
            for _ in range(lo, hi, CHUNK):
                trees[index].append(leaves[at])
                at += 1
            done += hi - lo
        if progress is not None:
            progress(done)

    count = _thread_count(threads)
    total = sum(source.nbytes for source in sources)
    # Large enough that handing out costs nothing, small enough that all threads end together.
    batches = _batches(sources, min(max(total // (32 * count * CHUNK) * CHUNK, MIN_BATCH), MAX_BATCH))
    if count == 1 or total <= MIN_BATCH:
        for batch in batches:
            finish(batch, _hash_batch(sources, batch))
        return [tree.root() for tree in trees]

    flying: deque[tuple[list[Part], Future[list[bytes]]]] = deque()
    pool = ThreadPoolExecutor(count, thread_name_prefix="digest")
    try:
        for batch in batches:
            flying.append((batch, pool.submit(_hash_batch, sources, batch)))
            if len(flying) > 3 * count:
                first, future = flying.popleft()
                finish(first, future.result())
        while flying:
            first, future = flying.popleft()
            finish(first, future.result())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return [tree.root() for tree in trees]


def _thread_count(threads: int | None) -> int:
    if threads is None:
        # Where the process may use fewer processors than there are (containers, taskset), count those.
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(usable, MAX_THREADS)
    if threads < 1:
        raise DigestError(f"{threads} threads asked for, expected at least 1")
    return threads


def _batches(sources: Sequence[ByteSource], nbytes: int) -> Iterator[list[Part]]:
    """Every part of every source, in order, in groups of about ``nbytes``, a multiple of 1 MiB."""
    batch: list[Part] = []
    room = nbytes  # never below CHUNK here, so that a cut always falls between chunks
    for index, source in enumerate(sources):
        lo = 0
        while lo < source.nbytes:
            hi = source.nbytes if source.nbytes - lo <= room else lo + room // CHUNK * CHUNK
            batch.append((index, lo, hi))
            room -= hi - lo
            lo = hi
            if room < CHUNK or len(batch) >= BATCH_SOURCES:
                yield batch
                batch, room = [], nbytes
    if batch:
        yield batch


def _hash_batch(sources: Sequence[ByteSource], batch: Iterable[Part]) -> list[bytes]:
    """Leaf hashes of the chunks of every part, in order."""
    leaves: list[bytes] = []
    for index, lo, hi in batch:
        source = sources[index]
        for start in range(lo, hi, source.piece):
            stop = min(start + source.piece, hi)
            with memoryview(source.read(start, stop)) as view:
                if view.nbytes != stop - start:
                    raise DigestError(f"expected {stop - start} bytes at {start}, {view.nbytes} came")
                for at in range(0, stop - start, CHUNK):
                    leaf = sha256(b"\x00")
                    with view[at : at + CHUNK] as chunk:
                        leaf.update(chunk)  # releases the GIL; nothing is copied
                    leaves.append(leaf.digest())
    return leaves
