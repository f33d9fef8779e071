"""What an operator discloses to an auditor: the salts of a training dataset, beside its public leaves.

::

    {"format":"unlearning-ledger/audit-salts/v1","leaves":"…","removed":[1,4],"salts":["…",…]}

With them and the records at hand, anybody sees that these are the records committed to at training, and tests a guess at one.
"""

from dataclasses import dataclass

import msgspec

from certify.errors import DatasetError
from certify.wire import canonical, decode
from ledger.merkle import HASH_SIZE

SALTS_FORMAT = "unlearning-ledger/audit-salts/v1"
MAX_SALTS = 1 << 30


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    leaves: str
    removed: list[int]
    salts: list[str]


@dataclass(frozen=True)
class Salts:
    """The salts of a training dataset, for the auditor's eyes: without them nobody can test a guess at a record.

    ``salts``: empty where one was destroyed. ``removed``: positions of what the certificate removed.
    """

    leaves: bytes
    salts: tuple[bytes, ...]
    removed: tuple[int, ...]

    def to_json(self) -> bytes:
        value = {
            "format": SALTS_FORMAT,
            "leaves": self.leaves.hex(),
            "removed": list(self.removed),
            "salts": [salt.hex() for salt in self.salts],
        }
        return canonical(value, what="salts", error=DatasetError)

    @classmethod
    def parse(cls, data: bytes) -> "Salts":
        """Raises DatasetError."""
        wire = decode(data, _Wire, limit=MAX_SALTS, what="salts", error=DatasetError)
        try:
            leaves, salts = bytes.fromhex(wire.leaves), tuple(bytes.fromhex(salt) for salt in wire.salts)
        except ValueError as error:
            raise DatasetError(f"salts are not hex: {error}") from error
        if wire.format != SALTS_FORMAT or len(leaves) != HASH_SIZE * len(salts):
            raise DatasetError(f"expected {SALTS_FORMAT} with a salt for each leaf, got {wire.format[:80]!r}")
        return cls(leaves, salts, tuple(wire.removed))
