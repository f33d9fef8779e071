"""Offline inclusion proofs with their checkpoint: C2SP tlog-proof (``.tlog-proof`` files).

::

    c2sp.org/tlog-proof@v1
    index 1
    <base64 hash, leaf to root, one a line>

    <signed checkpoint, verbatim>
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from ledger.checkpoint import Checkpoint, parse_decimal, parse_hash
from ledger.errors import MalformedError
from ledger.merkle import inclusion_ranges, leaf_hash, verify_inclusion
from ledger.note import Note, VerifierKey, decode_base64
from ledger.signed_checkpoint import SignedCheckpoint, open_checkpoint

HEADER = "c2sp.org/tlog-proof@v1"
MAX_PROOF_SIZE = 1 << 20


@dataclass(frozen=True, slots=True)
class TlogProof:
    """An entry's index, its path, and the signed checkpoint it leads to, none of it checked yet."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def format(self) -> bytes:
        lines = [HEADER]
        if self.extra is not None:
            lines.append(f"extra {b64encode(self.extra).decode()}")
        lines.append(f"index {self.index}")
        lines += (b64encode(hash_).decode() for hash_ in self.path)
        return ("\n".join(lines) + "\n\n").encode() + self.checkpoint

    @classmethod
    def parse(cls, data: bytes) -> "TlogProof":
        if len(data) > MAX_PROOF_SIZE:
            raise MalformedError(f"a tlog-proof has {len(data):,} bytes, expected at most {MAX_PROOF_SIZE:,}")
        head, blank, checkpoint = data.partition(b"\n\n")
        if not blank:
            raise MalformedError("a tlog-proof has no empty line before its checkpoint")
        try:
            lines = head.decode().split("\n")
        except UnicodeDecodeError as error:
            raise MalformedError("a tlog-proof is not valid UTF-8") from error
        if lines.pop(0) != HEADER:
            raise MalformedError(f"a tlog-proof starts {data[:40]!r}, expected {HEADER!r}")
        extra = None
        if lines and lines[0].startswith("extra "):
            extra = decode_base64(lines.pop(0).removeprefix("extra "), "extra data")
        if not lines or not lines[0].startswith("index "):
            raise MalformedError("a tlog-proof has no index line")
        index = parse_decimal(lines.pop(0).removeprefix("index "), "index")
        path = tuple(parse_hash(line, "proof element") for line in lines)
        Checkpoint.parse(Note.parse(checkpoint).text)  # so that what parses can be shown; signatures are checked later
        return cls(index, path, checkpoint, extra)

    def verify_inclusion(self, entry: bytes) -> Checkpoint:
        """The checkpoint that the path of ``entry`` (its bytes, not its hash) leads to, its signatures *not* checked.

        Raises ProofError.
        """
        checkpoint = Checkpoint.parse(Note.parse(self.checkpoint).text)
        leaf = leaf_hash(entry)
        verify_inclusion(root=checkpoint.root, size=checkpoint.size, index=self.index, leaf=leaf, path=self.path)
        return checkpoint

    def verify(
        self,
        entry: bytes,
        *,
        log_keys: Sequence[VerifierKey],
        origin: str | None = None,
        witness_keys: Sequence[VerifierKey] = (),
    ) -> SignedCheckpoint:
        """The checkpoint under which ``entry`` is included, its signatures checked; raises SignatureError, ProofError."""
        signed = open_checkpoint(self.checkpoint, log_keys=log_keys, origin=origin, witness_keys=witness_keys)
        self.verify_inclusion(entry)
        return signed


def to_merkletools(index: int, size: int, path: Sequence[bytes]) -> list[dict[str, str]]:
    """An inclusion path as merkletools 1.0.3 takes it: sides, leaf to root, in hex.

    It checks with a ``hash_function`` that prepends 0x01, on a target that is the RFC 6962 leaf hash.
    """
    ranges = inclusion_ranges(index, size)
    sides = ("right" if lo > index else "left" for lo, _ in ranges)
    return [{side: hash_.hex()} for side, hash_ in zip(sides, path, strict=True)]
