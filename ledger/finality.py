"""Which checkpoint of a log is final, where a policy asks for witnesses: the newest that a quorum has cosigned.

The log's head is signed when entries are stored, and *pending* until :meth:`Finality.reach` has had it cosigned. One round of
cosigning serves everybody who waits: it takes the newest head, and with it all that was appended before. Only then are appends
acknowledged. If there is no quorum within the deadline they raise WitnessError; their entries stay, pending, and the next round
that succeeds makes them final.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger.checkpoint import Checkpoint
from ledger.errors import MalformedError, SignatureError, SupersededError, TamperedError, WitnessError
from ledger.signed_checkpoint import open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.note import VerifierKey
    from ledger.witnessing import Witnessing

FINAL = "final"
"""What the checkpoint is kept under in the log's database."""
_PATIENCE = 5.0
"""Seconds that every witness gets when somebody asks by hand."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A signed checkpoint, parsed."""

    note: bytes
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class _Failure:
    """A round that came to nothing: for those who would have been served by it."""

    size: int
    over: float
    message: str


class Finality:
    """See the module. Threads share it; processes agree through what is kept in the database.

    ``look()`` gives the log's head and its final checkpoint, if any; ``prove(old_size, checkpoint)`` a consistency proof; and
    ``keep(note)`` stores a final checkpoint, unless a newer one is there, and returns the one that then is.
    """

    def __init__(
        self,
        witnessing: "Witnessing",
        *,
        look: Callable[[], tuple[Tree, Tree | None]],
        prove: "Callable[[int, Checkpoint], Sequence[bytes]]",
        keep: Callable[[bytes], Tree],
    ) -> None:
        self.known: Tree | None = None
        """The newest final checkpoint that this process has checked."""
        self._witnessing = witnessing
        self._look = look
        self._prove = prove
        self._keep = keep
        self._round = threading.Lock()
        self._failed: _Failure | None = None

    def close(self) -> None:
        self._witnessing.close()

    def open(self, stored: bytes, log_keys: "Sequence[VerifierKey]") -> Tree | None:
        """What is kept as final, if it is signed by the log and the policy's quorum; None if there is no such quorum on it.

        Raises TamperedError if a signature is wrong.
        """
        if self.known is not None and self.known.note == stored:
            return self.known
        policy = self._witnessing.policy
        try:
            signed = open_checkpoint(stored, log_keys=log_keys, witness_keys=policy.witness_keys)
        except (MalformedError, SignatureError) as error:
            raise TamperedError(f"the checkpoint kept as final is not one of {log_keys[0].name}: {error}") from error
        return Tree(stored, signed.checkpoint) if policy.satisfied(signed.cosigned) else None

    def remember(self, tree: Tree) -> None:
        """It is checked, and continued by the head."""
        if self.known is None or tree.checkpoint.size >= self.known.checkpoint.size:
            self.known = tree

    def reach(self, size: int) -> Tree:
        """The final checkpoint, once it covers ``size`` entries. Raises WitnessError."""
        began = time.monotonic()
        if (known := self._covering(size)) is not None:
            return known
        if not self._round.acquire(timeout=self._witnessing.deadline):
            raise WitnessError(
                f"another round of cosigning took longer than {self._witnessing.deadline:.0f} s: try again"
            )
        try:
            if (known := self._covering(size)) is not None:
                return known
            failed = self._failed
            if failed is not None and failed.over >= began and failed.size >= size:
                raise WitnessError(failed.message)  # the round that was under way was for this one, too
            return self._try(size, began + self._witnessing.deadline)
        finally:
            self._round.release()

    def catch_up(self) -> None:
        """Make what is pending final, if a quorum will have it."""
        with suppress(WitnessError):
            self.reach(self._look()[0].checkpoint.size)

    def cosign(self) -> Tree:
        """Have the newest checkpoint cosigned by those that have not yet. Raises WitnessError."""
        with self._round:
            head, final = self._look()
            if final is not None and final.checkpoint == head.checkpoint:
                head = final
            return self._collect(head, time.monotonic() + self._witnessing.deadline, linger=_PATIENCE)

    def _covering(self, size: int) -> Tree | None:
        known = self.known
        return known if known is not None and known.checkpoint.size >= size else None

    def _try(self, size: int, deadline: float) -> Tree:
        head, final = self._look()
        while final is None or final.checkpoint.size < size:
            try:
                final = self._collect(head, deadline)
            except WitnessError as error:
                tried, (head, final) = head, self._look()
                # Another process may have had a newer tree cosigned meanwhile.
                if isinstance(error, SupersededError) and head.checkpoint.size > tried.checkpoint.size:
                    continue
                if final is None or final.checkpoint.size < size:
                    self._failed = _Failure(tried.checkpoint.size, time.monotonic(), str(error))
                    raise WitnessError(str(error)) from error
        return final

    def _collect(self, head: Tree, deadline: float, linger: float | None = None) -> Tree:
        checkpoint = head.checkpoint
        note = self._witnessing.collect(
            head.note,
            lambda old: self._prove(old, checkpoint),
            deadline=max(0.0, deadline - time.monotonic()),
            linger=linger,
        )
        return self._keep(note)
