"""Other views of the same log: a mirror, a friend's checkpoint, what witnesses have cosigned. C2SP tlog-witness, "Monitoring".

A log that shows two histories has to keep apart those who see them; every view that a monitor holds against its own makes that
harder. A checkpoint is enough to catch a log, if the log's signature is on it, wherever it comes from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ledger.errors import LedgerError, MalformedError, RemoteError, StorageError
from ledger.http import Server
from ledger.note import MAX_NOTE_SIZE, VerifierKey
from ledger.signed_checkpoint import SignedCheckpoint, open_checkpoint
from ledger.source import Source
from ledger.tiles import Tile

_PATIENCE = 5.0
"""Seconds over which a witness is asked again: the look goes on without it."""


@dataclass(frozen=True, slots=True)
class View:
    """``fetch`` gets a signed checkpoint. ``tile`` reads tiles of its tree, where that is possible; ``cosigner`` is the key
    of the witness that it comes from."""

    name: str
    fetch: Callable[[], bytes]
    tile: Callable[[Tile], bytes] | None = None
    cosigner: VerifierKey | None = None


def view_of_source(source: Source) -> View:
    """The same log at another address, or in a folder."""
    return View(source.name, source.checkpoint, source.tile)


def view_of_file(path: Path) -> View:
    """A checkpoint that somebody handed over."""

    def read() -> bytes:
        try:
            with path.open("rb") as file:
                data = file.read(MAX_NOTE_SIZE + 1)
        except OSError as error:
            raise StorageError(f"cannot read the checkpoint {path}: {error.strerror}") from error
        if len(data) > MAX_NOTE_SIZE:
            raise MalformedError(f"{path} has more than {MAX_NOTE_SIZE:,} bytes, expected a signed checkpoint")
        return data

    return View(str(path), read)


def view_of_witness(url: str, key: VerifierKey, origin: str) -> View:
    """What a witness has cosigned last, from its monitoring prefix ``url``."""

    def get() -> bytes:
        server = Server(url, patience=_PATIENCE)
        try:
            reply = server.get(witness_path(origin), limit=MAX_NOTE_SIZE)
        finally:
            server.close()
        if reply.status != 200:
            raise RemoteError(f"witness {key.name} answers with status {reply.status}: {reply.message()}")
        return reply.body

    return View(f"witness {key.name}", get, cosigner=key)


def witness_path(origin: str) -> str:
    """Where a witness serves the newest checkpoint that it cosigned, below its monitoring prefix."""
    return f"{sha256(origin.encode()).hexdigest()}/checkpoint"


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of asking a view: a checkpoint that the log signed, or what is wrong."""

    view: View
    signed: SignedCheckpoint | None
    error: LedgerError | None = None
    cosigned: bool = True
    """False if a witness's own cosignature is not on what it gave."""


def fetch(view: View, *, log_keys: Sequence[VerifierKey], origin: str) -> Fetched:
    """Ask a view, and check the log's signatures on its answer."""
    try:
        cosigners = [view.cosigner] if view.cosigner is not None else []
        signed = open_checkpoint(view.fetch(), log_keys=log_keys, origin=origin, witness_keys=cosigners)
    except LedgerError as error:
        return Fetched(view, None, error)
    return Fetched(view, signed, cosigned=view.cosigner is None or view.cosigner.name in signed.cosigned)
