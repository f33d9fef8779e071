"""What statements are made of: a strict record, and the types of its fields.

>>> import msgspec
>>> msgspec.convert("00" * 32, Digest)[:4]
'0000'
"""

from typing import Annotated

import msgspec
from msgspec import Meta

MAX_INTEGER = 2**53 - 1

_END = r"$(?!\n)"  # Python's $ also matches before a last line feed
Digest = Annotated[str, Meta(pattern=f"^[0-9a-f]{{64}}{_END}", description="SHA-256, lower-case hex")]
RunId = Annotated[str, Meta(pattern=f"^[0-9a-f]{{32}}{_END}", description="128 random bits, hex")]
Time = Annotated[str, Meta(pattern=f"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}Z{_END}")]
Commit = Annotated[str, Meta(pattern=f"^[0-9a-f]{{40,64}}{_END}", description="of git, hex")]
Count = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Decimal = Annotated[str, Meta(pattern=f"^(0|-?[1-9][0-9]{{0,39}}){_END}", description="an integer of any size")]
Origin = Annotated[str, Meta(pattern=rf"^[^\s+]{{1,256}}{_END}", description="name of a log")]
Label = Annotated[str, Meta(min_length=1, max_length=256)]
Text = Annotated[str, Meta(max_length=4096)]
Base64 = Annotated[str, Meta(pattern=f"^[A-Za-z0-9+/]+={{0,2}}{_END}", max_length=8192)]
Points = Annotated[
    str, Meta(pattern=f"^([0-9a-f]{{64}}){{1,2}}{_END}", description="one or two compressed points, hex")
]
Scalar = bool | int | float | Text | None


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """Frozen, strict, camelCase in JSON, absent rather than null."""


class Tree(Record, frozen=True):
    """A Merkle tree over salted record commitments: its root and how many records it has."""

    root: Digest
    count: Count
