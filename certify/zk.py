"""What statements say of zero-knowledge proofs: commitments, how records became numbers, evidence, and circuits.

Points and proofs stand beside the statements (in a bundle: ``points/``, ``proofs/``, ``circuits/``) and are named by SHA-256,
so that a statement is as short for a million records as for ten.
"""

from functools import cached_property
from hashlib import sha256
from typing import Annotated

import msgspec
from msgspec import Meta

from certify.errors import StatementError
from certify.fields import Count, Digest, Label, Points, Record
from certify.wire import canonical

MAX_PROOFS = 512
MAX_CIRCUITS = 4
RECORDS, BATCHES, FORGOTTEN, WEIGHTS, STATES = "records", "batches", "forgotten", "weights", "states"


class Committed(Record, frozen=True):
    """KZG commitments to ``count`` tensors of integers, each (rows, columns) with the salt of :mod:`circuits.layout`.

    ``points`` is the SHA-256 of all their compressed points, 32 bytes each, one after the other.
    """

    name: Label
    rows: Count
    columns: Count
    proofs: Count
    points: Digest
    count: Count = 1


class Column(Record, frozen=True):
    """A number x of a record becomes (x - center) / spread. Both are fixed before training."""

    name: Label
    center: float = 0.0
    spread: float = 1.0


class Encoding(Record, frozen=True):
    """How a record becomes a row of integers; see :mod:`certify.encoding`.

    Without ``columns``, a record is a list of numbers. ``classes`` are the target's values, in the order of their labels; without
    them, the target is a number.
    """

    scale: Count
    target: Column
    target_scale: Count = 1
    columns: list[Column] = []
    classes: list[Label] = []


class Commitments(Record, frozen=True):
    """Commitments for circuits of 2**logrows rows; ``srs`` is the SHA-256 of the reference string's 516 bytes."""

    logrows: Count
    srs: Digest
    tensors: Annotated[list[Committed], Meta(min_length=1, max_length=16)]
    encoding: Encoding | None = None

    def find(self, name: str) -> Committed | None:
        """The commitment of that name."""
        return next((tensor for tensor in self.tensors if tensor.name == name), None)


class Evidence(Record, frozen=True):
    """Zero-knowledge proofs about the weights of a certificate: of ``statement``, by ``circuits``, about ``commitments``.

    ``openings``, one for each KZG column that released weights stand in, show what was committed to whoever has the weights.
    ``seed`` is what a chain's first weights were made from, ``start`` opens them.
    """

    statement: Label
    circuits: Annotated[list[Digest], Meta(min_length=1, max_length=MAX_CIRCUITS)]
    commitments: Commitments
    proofs: Annotated[list[Digest], Meta(min_length=1, max_length=MAX_PROOFS)]
    openings: Annotated[list[Points], Meta(min_length=1, max_length=256)]
    seed: Label | None = None
    start: list[Points] = []


class CircuitDescription(Record, frozen=True, dict=True):
    """What a verification key stands for: the statement proven and its parameters, from which all else was made."""

    statement: Label
    parameters: dict[Label, int | Label | list[int]]
    onnx: Digest
    settings: Digest
    vk: Digest
    srs: Digest

    def to_json(self) -> bytes:
        """RFC 8785."""
        return canonical(msgspec.to_builtins(self), what="a circuit", error=StatementError)

    @property
    def title(self) -> str:
        """A name for people: the statement, and the loss, the method or the network."""
        return f"{self.statement}, {self._what}"

    @property
    def _what(self) -> object:
        return next((self.parameters[name] for name in ("loss", "method", "network") if name in self.parameters), None)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of :meth:`to_json`: what trust.toml accepts."""
        return sha256(self.to_json()).hexdigest()
