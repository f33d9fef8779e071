"""A method that is nobody else's: what its author wants to say of a run, for people to read."""

from typing import Annotated

from msgspec import Meta

from certify.errors import ChainError
from certify.fields import Digest, Label, Scalar
from certify.methods.detail import Case, Detail

MAX_SHOWN = 32


class Own(Detail, frozen=True, tag="own/v1"):
    """Names and values, and files by SHA-256 that come along. A verifier repeats them and vouches for none."""

    shown: Annotated[dict[Label, Scalar], Meta(max_length=MAX_SHOWN)] = {}
    files: Annotated[dict[Label, Digest], Meta(max_length=MAX_SHOWN)] = {}

    SHOWS = "what its operator says of a method of their own"
    DOES_NOT_SHOW = "that the method does what its name says: nobody but the operator has looked at it"

    @property
    def attachments(self) -> tuple[str, ...]:
        return tuple(self.files.values())

    def check(self, case: Case) -> list[str]:
        if not self.shown and not self.files:
            raise ChainError("the detail of an own method is empty, expected something shown or none at all")
        return [f"by the operator's word, {name} is {value}" for name, value in self.shown.items()]
