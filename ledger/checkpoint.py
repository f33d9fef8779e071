"""Checkpoints: origin, size and root of a log, as the text of a signed note. C2SP tlog-checkpoint.

::

    example.com/log
    3
    q3LbtDN1tXJs0IVRzJcVtZ4aEd0u1VIyyHCxxbSpYBs=

    — example.com/log <base64>
"""

from base64 import b64encode
from dataclasses import dataclass

from ledger.errors import MalformedError
from ledger.merkle import EMPTY_ROOT, HASH_SIZE
from ledger.note import decode_base64

MAX_SIZE = 2**63 - 1


def parse_decimal(text: str, what: str) -> int:
    """A number as C2SP writes it: ASCII digits, no sign, no leading zeros."""
    if not (text.isascii() and text.isdigit() and len(text) <= 20) or (len(text) > 1 and text[0] == "0"):
        raise MalformedError(f"{what} is {text[:40]!r}, expected a decimal number without leading zeros")
    number = int(text)
    if number > MAX_SIZE:
        raise MalformedError(f"{what} is {number}, expected at most {MAX_SIZE}")
    return number


def parse_hash(line: str, what: str) -> bytes:
    """A base64 SHA-256 hash."""
    hash_ = decode_base64(line, what)
    if len(hash_) != HASH_SIZE:
        raise MalformedError(f"{what} has {len(hash_)} bytes, expected {HASH_SIZE}")
    return hash_


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head. Extension lines are refused: nobody could audit them."""

    origin: str
    size: int
    root: bytes

    def format(self) -> bytes:
        """The note text."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n".encode()

    @property
    def possible(self) -> bool:
        """Whether the root is the empty tree's just where the size is 0."""
        return (self.size == 0) == (self.root == EMPTY_ROOT)

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """Raises MalformedError."""
        checkpoint = cls.parse_lines(text)
        if not checkpoint.possible:
            raise MalformedError(f"a checkpoint of size {checkpoint.size} has root {checkpoint.root.hex()}")
        return checkpoint

    @classmethod
    def parse_lines(cls, text: str) -> "Checkpoint":
        """As :meth:`parse`, of a checkpoint that may not be :attr:`possible`: a witness has an answer of its own to that."""
        lines = text.split("\n")
        if len(lines) != 4 or lines[3]:
            raise MalformedError(f"a checkpoint has {text.count(chr(10))} lines, expected 3: origin, size, root")
        origin, size, root = lines[:3]
        if not origin:
            raise MalformedError("a checkpoint has an empty origin")
        return cls(origin, parse_decimal(size, "tree size"), parse_hash(root, "root"))
