"""A portable proof that a log misbehaved: two of its signed checkpoints that no append-only tree can both have.

Two checkpoints of one size with different roots are proof by themselves. For sizes n < m the file holds the root that the
*larger* tree has at size n, and a consistency proof (RFC 9162, section 2.1.4) from it to the larger checkpoint: so the
log's own larger tree starts with other entries than its smaller checkpoint signed. Anybody who has the log's verifier keys
checks that offline, and a log that only ever appended cannot be accused: of one of its larger trees, the hash function
lets no other root at size n be shown than the one that it signed. A smaller size of 0 is no fork of anything.

A text, in this project's own format (C2SP has none), the smaller checkpoint first, both verbatim::

    unlearning-ledger/fork@v1
    root <base64: root of the larger tree at the smaller size>
    <base64 hashes of the consistency proof, one a line; none if the sizes are equal>

    <signed checkpoint>

    <signed checkpoint>
"""

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ledger.checkpoint import Checkpoint, parse_hash
from ledger.errors import MalformedError, ProofError
from ledger.merkle import Range, complete_subtrees, consistency_ranges, fold, verify_consistency
from ledger.note import MAX_NOTE_SIZE, Note, VerifierKey
from ledger.signed_checkpoint import open_checkpoint

HEADER = "unlearning-ledger/fork@v1"
MAX_FORK_SIZE = 2 * MAX_NOTE_SIZE + (1 << 14)
_MAX_PATH = 64
"""Hashes in a consistency proof of a tree of at most 2**63 - 1 leaves."""


@dataclass(frozen=True, slots=True)
class Fork:
    """Two checkpoints that one log signed, and that contradict each other."""

    smaller: Checkpoint
    larger: Checkpoint

    def describe(self) -> str:
        """One line for people."""
        a, b = self.smaller, self.larger
        if a.size == b.size:
            return f"log {a.origin} signed two roots for size {a.size}: {a.root.hex()} and {b.root.hex()}"
        return f"log {a.origin} signed root {a.root.hex()} at size {a.size}; its tree of size {b.size} begins otherwise"


@dataclass(frozen=True, slots=True)
class ForkProof:
    """What the file says, none of it checked yet."""

    root: bytes
    path: tuple[bytes, ...]
    smaller: bytes
    larger: bytes

    def format(self) -> bytes:
        lines = [HEADER, f"root {b64encode(self.root).decode()}", *(b64encode(hash_).decode() for hash_ in self.path)]
        return ("\n".join(lines) + "\n\n").encode() + self.smaller + b"\n" + self.larger

    @classmethod
    def parse(cls, data: bytes) -> "ForkProof":
        """Raises MalformedError for anything that :meth:`format` would not write."""
        if len(data) > MAX_FORK_SIZE:
            raise MalformedError(f"a fork proof has {len(data):,} bytes, expected at most {MAX_FORK_SIZE:,}")
        parts = data.split(b"\n\n")  # a checkpoint has one empty line, between its text and its signatures
        if len(parts) != 5:
            raise MalformedError(
                f"a fork proof has {len(parts) - 1} empty lines, expected 4: two checkpoints after a head"
            )
        try:
            header, root, *path = parts[0].decode().split("\n")
        except ValueError as error:
            raise MalformedError(f"a fork proof starts {parts[0][:40]!r}, expected {HEADER!r} and a root") from error
        if header != HEADER or not root.startswith("root "):
            raise MalformedError(f"a fork proof starts {parts[0][:60]!r}, expected {HEADER!r} and a root")
        if len(path) > _MAX_PATH:
            raise MalformedError(f"a fork proof has {len(path)} hashes, expected at most {_MAX_PATH}")
        proof = cls(
            parse_hash(root.removeprefix("root "), "root of the larger tree at the smaller size"),
            tuple(parse_hash(line, "proof element") for line in path),
            parts[1] + b"\n\n" + parts[2] + b"\n",
            parts[3] + b"\n\n" + parts[4],
        )
        for note in (proof.smaller, proof.larger):
            Checkpoint.parse(Note.parse(note).text)  # so that what parses can be shown
        return proof

    def verify(self, log_keys: Sequence[VerifierKey], origin: str | None = None) -> Fork:
        """The fork, proven. ``origin`` defaults to the log keys' name.

        Raises SignatureError unless all of ``log_keys`` signed both checkpoints, and ProofError if the two do not contradict
        each other.
        """
        smaller = open_checkpoint(self.smaller, log_keys=log_keys, origin=origin).checkpoint
        larger = open_checkpoint(self.larger, log_keys=log_keys, origin=origin).checkpoint
        verify_consistency(  # which refuses a smaller size of 0, or above the larger
            old_size=smaller.size, old_root=self.root, size=larger.size, root=larger.root, path=self.path
        )
        if self.root == smaller.root:
            raise ProofError(
                f"no fork: the checkpoint of size {larger.size} continues the one of size {smaller.size}, as it should"
            )
        return Fork(smaller, larger)


def prefix_edge(size: int, range_root: Callable[[Range], bytes]) -> list[bytes]:
    """Edge nodes (largest subtree first) of the first ``size`` leaves of the tree that ``range_root`` reads."""
    return [range_root((index << level, (index + 1) << level)) for level, index in complete_subtrees(0, size)]


def compare(
    smaller: bytes,
    larger: bytes,
    range_root: Callable[[Range], bytes],
    *,
    log_keys: Sequence[VerifierKey],
    origin: str | None = None,
) -> ForkProof | None:
    """None if the checkpoint ``larger`` continues ``smaller``; the proof if the two contradict each other.

    ``range_root((lo, hi))`` is the root of these leaves in the larger tree; whatever it returns is checked. Raises
    SignatureError, and ProofError if those hashes do not lead to the larger checkpoint: then nothing is shown either way.
    """
    old = open_checkpoint(smaller, log_keys=log_keys, origin=origin).checkpoint
    new = open_checkpoint(larger, log_keys=log_keys, origin=origin).checkpoint
    if old.size == 0 or old == new:
        return None
    if old.size == new.size:
        return ForkProof(new.root, (), smaller, larger)
    path = tuple(range_root(span) for span in consistency_ranges(old.size, new.size))
    try:
        verify_consistency(old_size=old.size, old_root=old.root, size=new.size, root=new.root, path=path)
        return None
    except ProofError:
        root = fold(prefix_edge(old.size, range_root))
        verify_consistency(old_size=old.size, old_root=root, size=new.size, root=new.root, path=path)
        return ForkProof(root, path, smaller, larger)
