"""The same log from far away: read and appended to over HTTP, trusting nothing of the server but the log's keys.

- A checkpoint counts if all the log's keys signed it (and a quorum of witnesses cosigned it, where a policy asks for one), and
  if its tree continues that of the last checkpoint seen, which a watermark file remembers from one run to the next. A server that
  rolls back, or shows another history, is refused.
- Entries and proofs are computed from tiles (C2SP tlog-tiles) and checked against the signed root.
- An append is acknowledged by a tlog-proof of *this* entry, or not at all. Requests are sent again until there is an answer;
  the log keeps the same bytes once, so that nothing is appended twice.

::

    log = RemoteLog("https://log.example/ledger", [VerifierKey.parse("log.example/ledger+0f3b…+AQ…")], token="…")
    log.append(b"some entry").index

What a server *can* do is to hold entries back: to say of an entry that it is not there, or to show an old tree to whoever comes
for the first time. Witnesses and monitors are for that.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

import msgspec

from ledger import fork, http
from ledger.checkpoint import Checkpoint
from ledger.errors import (
    AdmissionError,
    ConflictError,
    EntryTooLargeError,
    LedgerError,
    MalformedError,
    MissingError,
    ProofError,
    RemoteError,
    RolledBackError,
    StorageError,
    TamperedError,
)
from ledger.log import Appended
from ledger.merkle import (
    HASH_SIZE,
    Range,
    complete_subtrees,
    consistency_ranges,
    fold,
    inclusion_ranges,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from ledger.note import VerifierKey
from ledger.policy import Policy
from ledger.proof import MAX_PROOF_SIZE, TlogProof
from ledger.signed_checkpoint import open_checkpoint
from ledger.source import HttpSource
from ledger.tiles import TILE_WIDTH, Tile, TileReader, check_entry, parse_bundle, tile_at
from ledger.watermark import Watermark

T = TypeVar("T")

TILES_KEPT = 1024
"""Tiles kept in memory, 8 KB each."""
BUNDLES_KEPT = 4
"""Entry bundles kept in memory, 16 MB each at most."""
_MAX_ANSWER = 1 << 12
_MOVED = 3
"""How often to begin again when tiles go while they are read, because the log has grown."""


class _Found(msgspec.Struct):
    """What ``/find`` answers."""

    index: int | None


@dataclass(frozen=True, slots=True)
class _Head:
    """A checkpoint whose signatures, and what it continues, have been checked."""

    note: bytes
    checkpoint: Checkpoint


class RemoteLog:
    """See the module. Threads may share it. ``watermark``: a file of this client's, beside its keys. ``patience``: seconds."""

    def __init__(
        self,
        url: str,
        verifier_keys: Sequence[VerifierKey],
        *,
        watermark: Path | None = None,
        policy: Policy | None = None,
        token: str | None = None,
        timeout: float = http.TIMEOUT,
        patience: float | None = None,
    ) -> None:
        if not verifier_keys:
            raise LedgerError(f"expected the verifier keys of the log at {url}: without them nothing can be checked")
        self.origin = verifier_keys[0].name
        self.verifier_keys = list(verifier_keys)
        self._policy = policy
        self._server = http.Server(url, token=token, timeout=timeout, patience=patience)
        self.url = self._server.url
        self.source = HttpSource(url, server=self._server)
        self._watermark = Watermark(watermark) if watermark is not None else None
        self._known: _Head | None = None
        self._lock = threading.Lock()
        self._tile = lru_cache(TILES_KEPT)(self.source.tile)
        self._bundles: dict[int, list[bytes]] = {}

    def close(self) -> None:
        self._server.close()
        if self._watermark is not None:
            self._watermark.close()

    def __enter__(self) -> "RemoteLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- append ------------------------------------------------------------------------------------------------------

    def append(self, entry: bytes, *, expected_size: int | None = None) -> Appended:
        """Log one entry: durable and included on return, as its proof shows. Again with the same bytes, if an error left it open.

        ``new`` is False if the entry is under a checkpoint that was seen before. Raises RemoteError if there was no answer, or
        none that proves it; AdmissionError, EntryTooLargeError, ConflictError; and RolledBackError for another history.
        """
        check_entry(entry)
        before = self._remembered()
        headers = {"Content-Type": "application/octet-stream"}
        swap = {"If-Match": f'"{expected_size}"'} if expected_size is not None else {}
        reply = self._server.post("append", entry, limit=MAX_PROOF_SIZE, headers=headers | swap)
        if reply.status == 412 and reply.tries > 1 and self.find(entry) == expected_size:
            # The answer to an earlier try was lost: it is that one that changed the size.
            reply = self._server.post("append", entry, limit=MAX_PROOF_SIZE, headers=headers)
        if reply.status != 200:
            raise self._refusal(reply)
        try:
            proof = TlogProof.parse(reply.body)
            checkpoint = self._open(proof.checkpoint)
            proof.verify_inclusion(entry)
        except LedgerError as error:
            raise type(error)(
                f"{self.url} did not acknowledge the entry, its answer proves nothing: {error}"
            ) from error
        head = _Head(proof.checkpoint, checkpoint)
        for earlier in before:
            if not _begins_at(earlier.checkpoint, proof, checkpoint):
                self._check_continues(earlier, head)
        with suppress(StorageError):  # the entry is durable all the same
            self._remember(head)
        return Appended(
            proof.index, proof.checkpoint, all(proof.index >= earlier.checkpoint.size for earlier in before)
        )

    def append_many(self, entries: Sequence[bytes], *, expected_size: int | None = None) -> list[Appended]:
        """Log entries one by one, each acknowledged before the next is sent, so that new ones are in order.

        Not atomic: after an error the first ones may be logged, and the same call again goes on from there. So it cannot be a
        compare-and-swap, and ``expected_size`` is refused for more than one entry.
        """
        if expected_size is not None and len(entries) > 1:
            raise LedgerError(
                "expected no size with several entries: a remote log takes them one by one, not all or none"
            )
        for entry in entries:
            check_entry(entry)
        return [self.append(entry, expected_size=expected_size) for entry in entries]

    def _refusal(self, reply: http.Reply) -> LedgerError:
        said = f"{self.url} refuses the entry: {reply.message() or f'status {reply.status}'}"
        match reply.status:
            case 400:
                return MalformedError(said)
            case 401 | 403:
                return AdmissionError(said)
            case 404 | 405:
                return RemoteError(
                    f"{self.url} takes no entries (status {reply.status}): it serves a log for reading only"
                )
            case 412:
                return ConflictError(said)
            case 413:
                return EntryTooLargeError(said)
        return RemoteError(f"{said} (status {reply.status})")

    # -- read and prove ----------------------------------------------------------------------------------------------

    def checkpoint(self) -> bytes:
        """The newest signed checkpoint, which continues all that were seen before."""
        return self._head().note

    def size(self) -> int:
        return self._head().checkpoint.size

    def find(self, entry: bytes) -> int | None:
        """The index of an entry, or None if the server says that it isn't logged, which cannot be checked."""
        leaf = leaf_hash(entry)
        reply = self._server.get("find", limit=_MAX_ANSWER, params={"leaf": leaf.hex()})
        try:
            index = msgspec.json.decode(reply.body, type=_Found).index if reply.status == 200 else None
        except msgspec.DecodeError as error:
            raise RemoteError(f"{self.url} answers with something else than an index: {error}") from error
        if reply.status != 200:
            raise RemoteError(f"{self.url} cannot find entries: status {reply.status}: {reply.message()}")
        if index is None:
            return None
        self._at(index, lambda head: self._prove(head, index, leaf))
        return index

    def entry(self, index: int) -> bytes:
        """One entry's bytes, checked against the signed root."""
        number, offset = divmod(index, TILE_WIDTH)
        known = self._bundles.get(number)
        if known is None or not 0 <= offset < len(known):
            known = self._at(index, partial(self._bundle, number))
        return known[offset]

    def entries(self, first: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        """(index, bytes) in order, each bundle of 256 checked against the signed root."""
        size = self.size()
        stop = size if end is None else min(end, size)
        while first < stop:
            number = first // TILE_WIDTH
            bundle = self._at(stop - 1, partial(self._bundle, number))
            start = number * TILE_WIDTH
            for index in range(first, min(start + TILE_WIDTH, stop)):
                yield index, bundle[index - start]
            first = start + TILE_WIDTH

    def prove(self, index: int) -> TlogProof:
        """An offline proof that entry ``index`` is in the log, made from tiles and checked."""
        return self.prove_all([index])[0]

    def prove_all(self, indices: Sequence[int]) -> list[TlogProof]:
        """Proofs of several entries under one checkpoint, the newest."""
        return self._at(None, lambda head: [self._prove(head, index) for index in indices])

    def prove_consistency(self, old_size: int, old_root: bytes | None = None) -> tuple[list[bytes], bytes]:
        """Proof that the tree of ``old_size`` is a prefix of the current one, and the current signed checkpoint.

        With ``old_root``, RolledBackError if the log never had that root at that size: a fork.
        """
        return self._at(None, lambda head: (self._consistency(head, old_size, old_root), head.note))

    # -- checks ------------------------------------------------------------------------------------------------------

    def _head(self) -> _Head:
        """The checkpoint that is served now."""
        before = self._remembered()  # before the request: what is served may only be newer
        note = self.source.checkpoint()
        for earlier in before:
            if earlier.note == note:
                head = earlier
                break
        else:
            head = _Head(note, self._open(note))
        for earlier in before:
            self._check_continues(earlier, head)
        self._remember(head)
        return head

    def _open(self, note: bytes) -> Checkpoint:
        """A checkpoint that the log's keys signed, and a quorum cosigned, if a policy asks for it."""
        witnesses = self._policy.witness_keys if self._policy is not None else ()
        signed = open_checkpoint(note, log_keys=self.verifier_keys, witness_keys=witnesses)
        if self._policy is not None:
            self._policy.check(signed)
        return signed.checkpoint

    def _remembered(self) -> list[_Head]:
        """What this process has seen, and what any process of this client has."""
        with self._lock:
            known = [self._known] if self._known is not None else []
        note = self._watermark.note() if self._watermark is not None else None
        if note is not None and all(note[1] != head.checkpoint for head in known):
            known.append(_Head(*note))
        return known

    def _remember(self, head: _Head) -> None:
        with self._lock:
            if self._known is None or head.checkpoint.size >= self._known.checkpoint.size:
                self._known = head
        if self._watermark is not None:
            try:
                self._watermark.advance(head.note, head.checkpoint)
            except OSError as error:
                raise StorageError(f"cannot write the watermark {self._watermark.path}: {error.strerror}") from error

    def _check_continues(self, earlier: _Head, head: _Head) -> None:
        before, now = earlier.checkpoint, head.checkpoint
        if before.origin != now.origin:
            raise RolledBackError(f"the watermark is of log {before.origin!r}, {self.url} serves {now.origin!r}")
        if before.size == 0 or (before.size, before.root) == (now.size, now.root):
            return
        if now.size < before.size:
            raise RolledBackError(
                f"{self.url} shows {now.size} entries, but signed a checkpoint of {before.size} before: it was rolled back, or "
                f"serves an old copy{self._evidence(head, earlier)}"
            )
        try:
            self._consistency(head, before.size, before.root)
        except RolledBackError as error:
            raise RolledBackError(f"{error}{self._evidence(earlier, head)}") from error

    def _evidence(self, smaller: _Head, larger: _Head) -> str:
        """Keep a proof of the fork beside the watermark, if the tiles give one; says where."""
        if self._watermark is None:
            return ""
        place = self._watermark.path.with_name(self._watermark.path.name + ".fork")
        with suppress(LedgerError, OSError):
            range_root = TileReader(larger.checkpoint.size, self._hashes).range_root
            proof = fork.compare(smaller.note, larger.note, range_root, log_keys=self.verifier_keys)
            if proof is not None:
                place.write_bytes(proof.format())
                return f". The proof that it signed both is in {place}: show it to others"
        return ""

    def _at(self, index: int | None, read: Callable[[_Head], T]) -> T:
        """``read`` under a checkpoint that has entry ``index``; under the newest for None."""
        with self._lock:
            head = self._known
        for left in reversed(range(_MOVED)):
            try:
                if head is None or index is None or index >= head.checkpoint.size:
                    head = self._head()
                if index is not None and not 0 <= index < head.checkpoint.size:
                    raise StorageError(f"no entry {index}: the log has {head.checkpoint.size}")
                return read(head)
            except MissingError:
                if not left:
                    raise
            except TamperedError:
                self._tile.cache_clear()  # what was read may have been wrong for once
                raise
            head = None
        raise AssertionError

    def _hashes(self, tile: Tile) -> list[bytes]:
        data = self._tile(tile)
        return [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)]

    def _bundle(self, number: int, head: _Head) -> list[bytes]:
        """The entries of a bundle."""
        tile = tile_at(0, number, head.checkpoint.size)
        entries = parse_bundle(self.source.bundle(tile))
        leaves = [leaf_hash(entry) for entry in entries]

        def hashes(other: Tile) -> list[bytes]:
            return leaves if (other.level, other.index) == (0, number) else self._hashes(other)

        # The path of the first entry is made of all the others: one proof checks the whole bundle.
        self._path(head, number * TILE_WIDTH, leaves[0], TileReader(head.checkpoint.size, hashes).range_root)
        with self._lock:
            self._bundles.pop(number, None)
            self._bundles[number] = entries
            while len(self._bundles) > BUNDLES_KEPT:
                del self._bundles[next(iter(self._bundles))]
        return entries

    def _prove(self, head: _Head, index: int, leaf: bytes | None = None) -> TlogProof:
        if not 0 <= index < head.checkpoint.size:
            raise StorageError(f"no entry {index}: the log has {head.checkpoint.size}")
        if leaf is None:
            number, offset = divmod(index, TILE_WIDTH)
            leaf = self._hashes(tile_at(0, number, head.checkpoint.size))[offset]
        range_root = TileReader(head.checkpoint.size, self._hashes).range_root
        return TlogProof(index, tuple(self._path(head, index, leaf, range_root)), head.note)

    def _path(self, head: _Head, index: int, leaf: bytes, range_root: Callable[[Range], bytes]) -> list[bytes]:
        """The inclusion path of ``leaf``, which leads to the signed root."""
        checkpoint = head.checkpoint
        path = list(map(range_root, inclusion_ranges(index, checkpoint.size)))
        try:
            verify_inclusion(root=checkpoint.root, size=checkpoint.size, index=index, leaf=leaf, path=path)
        except ProofError as error:
            raise TamperedError(f"{self.url} serves another entry {index} than it signed: {error}") from error
        return path

    def _consistency(self, head: _Head, old_size: int, old_root: bytes | None) -> list[bytes]:
        now = head.checkpoint
        range_root = TileReader(now.size, self._hashes).range_root
        path = list(map(range_root, consistency_ranges(old_size, now.size)))
        if old_root is None:
            edge = complete_subtrees(0, old_size)
            old_root = fold([range_root((index << level, (index + 1) << level)) for level, index in edge])
        try:
            verify_consistency(old_size=old_size, old_root=old_root, size=now.size, root=now.root, path=path)
        except ProofError as error:
            self._tile.cache_clear()
            raise RolledBackError(
                f"{self.url} does not show that its checkpoint of size {now.size} continues the one of size {old_size} that was "
                f"signed before: it shows another history, or wrong tiles ({error})"
            ) from error
        return path


def _begins_at(before: Checkpoint, proof: TlogProof, now: Checkpoint) -> bool:
    """Whether a proof of the entry right after the tree ``before`` shows by itself that ``now`` continues that tree.

    Left of that entry, its path has the complete subtrees that ``before`` is made of, and they lead to both roots.
    """
    if proof.index != before.size or before.size == 0 or before.origin != now.origin:
        return False
    ranges = inclusion_ranges(proof.index, now.size)
    left = [hash_ for (lo, _), hash_ in zip(ranges, proof.path, strict=True) if lo < proof.index]
    return fold(left[::-1]) == before.root
