"""A data subject's receipt: the opening of their own record, so that they can check it without the operator.

::

    {"format":"unlearning-ledger/receipt/v1","record":"<base64>","request":{opening},"training":{opening}}

``request`` opens the record in the forget set, ``training`` in the training dataset; each has root, salt, index, size, path.
``zk``, where proofs were made, opens the record's numbers in the commitments that these are about. A receipt holds personal
data: it goes to the data subject and nowhere else.
"""

from base64 import b64decode, b64encode
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from certify.dataset import RecordOpening, verify_opening
from certify.errors import DatasetError
from certify.fields import MAX_INTEGER, Count, Digest, Points
from certify.wire import canonical, decode

MAX_RECEIPT_SIZE = 64 << 20


class Opening(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A record's place in a tree, and the salt that its commitment was made with."""

    root: Digest
    salt: Digest
    index: Count
    size: Count
    path: Annotated[list[Digest], Meta(max_length=64)]

    @classmethod
    def of(cls, root: str, opening: RecordOpening) -> "Opening":
        path = [hash_.hex() for hash_ in opening.path]
        return cls(root, opening.salt.hex(), opening.index, opening.size, path)

    def verify(self, record: bytes, root: str, count: int) -> None:
        """Raise DatasetError unless ``record`` stands at ``index`` of the tree with this root (hex) and count."""
        if self.root != root:
            raise DatasetError(f"the receipt opens root {self.root}, expected {root}")
        path = tuple(bytes.fromhex(hash_) for hash_ in self.path)
        opening = RecordOpening(bytes.fromhex(self.salt), self.index, self.size, path)
        verify_opening(opening, record, bytes.fromhex(root), count=count)


class ZkOpening(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The integers of a row that a zero-knowledge commitment holds, and their KZG openings, one for each column they stand in."""

    values: Annotated[
        list[Annotated[int, Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]], Meta(min_length=1, max_length=1 << 16)
    ]
    openings: Annotated[list[Points], Meta(min_length=1, max_length=64)]


class ZkOpenings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of the record among the forgotten ones, and in the training data."""

    request: ZkOpening
    training: ZkOpening


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    format: Literal["unlearning-ledger/receipt/v1"]
    record: str
    request: Opening
    training: Opening
    zk: ZkOpenings | None = None


class Receipt(msgspec.Struct, frozen=True):
    """One record, and where it stands in a request's forget set and in the training dataset."""

    record: bytes
    request: Opening
    training: Opening
    zk: ZkOpenings | None = None

    def to_json(self) -> bytes:
        wire = _Wire(
            "unlearning-ledger/receipt/v1", b64encode(self.record).decode(), self.request, self.training, self.zk
        )
        return canonical(msgspec.to_builtins(wire), what="a receipt", error=DatasetError)

    @classmethod
    def parse(cls, data: bytes) -> "Receipt":
        """Raises DatasetError."""
        wire = decode(data, _Wire, limit=MAX_RECEIPT_SIZE, what="the receipt", error=DatasetError)
        try:
            record = b64decode(wire.record, validate=True)
        except ValueError as error:
            raise DatasetError("the receipt's record is not base64") from error
        if b64encode(record).decode() != wire.record:
            raise DatasetError("the receipt's record is not canonical base64")
        return cls(record, wire.request, wire.training, wire.zk)
