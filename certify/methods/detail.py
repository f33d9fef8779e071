"""What a method leaves behind for others to look at, beside weights before and after: base of each method's detail.

A detail is a record in a statement, named by its ``type``, which is the method's name. It knows how to check itself against the
case that it is part of, and says in one sentence each what that shows and what it does not::

    class Pruning(Detail, tag="pruning/v1", frozen=True):
        kept: Digest

        SHOWS = "which weights were set to zero, and by which scores"
        DOES_NOT_SHOW = "that the other weights hold nothing of the class"

        def check(self, case: Case) -> list[str]:
            ...

What is too long for a statement is an attachment: bytes beside the log, named by SHA-256. Nothing here needs torch or numpy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from certify.fields import Record

if TYPE_CHECKING:
    from certify.digest import Manifest
    from certify.statement import Request, Training, Unlearning


@dataclass(frozen=True, slots=True)
class Trained:
    """A training with what came with it. ``attached``: bytes by SHA-256 in hex, all those that the detail names."""

    index: int
    training: "Training"
    model: "Manifest"
    attached: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Case:
    """A certificate with all that it follows from. ``earlier``: the certificates before it, oldest first."""

    index: int
    training: "Training"
    earlier: "Sequence[Unlearning]"
    certificate: "Unlearning"
    requests: "Sequence[Request]"
    pre: "Manifest"
    post: "Manifest"
    attached: Mapping[str, bytes]


class _Detail(Record, frozen=True, tag_field="type"):
    SHOWS: ClassVar[str] = ""
    """What it shows to whoever trusts the issuer's signature and nothing else, as a clause: "the certificate shows …"."""
    DOES_NOT_SHOW: ClassVar[str] = ""
    """What a reader could take it for, as a clause: "it does not show …"."""

    @property
    def type(self) -> str:
        """The method's name, and the version of the detail."""
        tag = self.__struct_config__.tag
        assert isinstance(tag, str)
        return tag

    @property
    def attachments(self) -> tuple[str, ...]:
        """SHA-256, in hex, of what it refers to."""
        return ()


class TrainingDetail(_Detail, frozen=True, tag_field="type"):
    """What a training recorded for the sake of forgetting later."""

    def check(self, trained: Trained) -> list[str]:
        """What was established, a line each. Raises ChainError."""
        raise NotImplementedError


class Detail(_Detail, frozen=True, tag_field="type"):
    """What an unlearning shows of itself."""

    def check(self, case: Case) -> list[str]:
        """What was established, a line each. Raises ChainError."""
        raise NotImplementedError
