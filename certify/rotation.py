"""Changing the issuer's key: ``key/v1`` entries, and the key files to match.

A change is made ready in ``keys/next``, a folder that appears whole or not at all::

    keys/next/entry.json     the signed key/v1 statement, as it is logged
    keys/next/issuer.pem     the new key, or
    keys/next/issuer.ref     where it is held, with issuer.pub beside

From then on it will happen: the entry is logged (the same bytes are only logged once), the files change place, the folder goes.
Whatever cuts that off, the next command that needs the issuer's key does the rest first, each part of which can be done again.
"""

import fcntl
import os
import shutil
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Literal, cast

from certify import issuer, signers
from certify.envelope import Envelope, sign
from certify.errors import StatementError, WorkspaceError
from certify.inputs import write_file
from certify.keys import Algorithm, PublicKey, SigningKey, StatementSigner
from certify.statement import PUBLIC_KEY, KeyChange, KeyRecord, Statement, subject
from certify.times import format_time, now
from certify.workspace import Logged, Workspace
from ledger.keyfile import sync_folder, write_private

Reason = Literal["scheduled", "superseded", "compromised", "retired"]
_ENTRY, _REFERENCE = "entry.json", "issuer.ref"


def issuer_key(workspace: Workspace) -> StatementSigner:
    """The key that signs now, after whatever change of it was cut off is done."""
    finish(workspace)
    return issuer.load(workspace.path, workspace.password_for)


def rotate_key(
    workspace: Workspace,
    algorithm: Algorithm = "ecdsa-p256",
    *,
    held: str | None = None,
    not_after: datetime | None = None,
) -> tuple[Logged, PublicKey]:
    """Log a hand-over to a new key, signed by both, and use the new key from now on. The old file is kept under its key id.

    ``held``: where the new key is held, if not in a file (:mod:`certify.signers`); it has to be there already.
    """
    with _locked(workspace):
        old = _current(workspace)
        new = signers.connect(held) if held is not None else SigningKey.generate(algorithm)
        if new.public.keyid == old.public.keyid:
            raise WorkspaceError(f"key {old.public.keyid} signs already: expected another to hand over to")
        _check_fresh(workspace, new.public)
        effective = format_time(now())
        record = KeyRecord(
            keyid=new.public.keyid,
            algorithm=new.public.algorithm,
            spki=b64encode(new.public.spki).decode(),
            not_before=effective,
            not_after=format_time(not_after) if not_after else None,
        )
        change = KeyChange(
            log=workspace.origin, action="rotate", keyid=old.public.keyid, effective=effective, successor=record
        )
        envelope = sign(
            _statement(change).payload(), [old, new]
        )  # what cannot be stated or signed leaves nothing behind
        _prepare(workspace, envelope, new)
        return _finish(workspace), new.public


def revoke_key(workspace: Workspace, reason: str) -> Logged:
    """Log that the current key counts no longer, signed by itself, and set its file aside."""
    with _locked(workspace):
        current = _current(workspace)
        change = KeyChange(
            log=workspace.origin,
            action="revoke",
            keyid=current.public.keyid,
            effective=format_time(now()),
            reason=cast(Reason, reason),
        )
        _prepare(workspace, sign(_statement(change).payload(), [current]), None)
        return _finish(workspace)


def finish(workspace: Workspace) -> Logged | None:
    """Do what is left of a change that was cut off, if there is one."""
    if not _next(workspace).exists():
        return None
    with _locked(workspace):
        return _finish(workspace) if _next(workspace).exists() else None  # somebody else may have been faster


def pending(workspace: Workspace) -> KeyChange | None:
    """The change that was cut off and is to be finished, if there is one."""
    path = _next(workspace) / _ENTRY
    return _change(Envelope.parse(path.read_bytes())) if path.exists() else None


def give_up(workspace: Workspace) -> Path:
    """Put a change aside that the log does not take. Returns the folder that now holds it.

    Raises WorkspaceError if it is logged already: then it counts, and there is only finishing it.
    """
    with _locked(workspace):
        path = _next(workspace) / _ENTRY
        if not path.exists():
            raise WorkspaceError("no change of the issuer's key was cut off: there is nothing to give up")
        data = path.read_bytes()
        index = workspace.reader.find(data)
        if index is not None:
            raise WorkspaceError(
                f"this change is logged as entry {index} and counts: 'certify key finish' does the rest"
            )
        kept = path.parent.with_name(f"given-up.{Envelope.parse(data).digest[:16]}")
        path.parent.rename(kept)
        return kept


# -- making it ready, and doing it -------------------------------------------------------------------------------------


def _current(workspace: Workspace) -> StatementSigner:
    """The key as it is now, whatever this process had loaded before. The lock is held."""
    if _next(workspace).exists():
        _finish(workspace)
    return issuer.load(workspace.path, workspace.password_for)


def _check_fresh(workspace: Workspace, key: PublicKey) -> None:
    """Raises WorkspaceError for a key that this log has ended: verifiers take nothing by it any more, whatever is logged."""
    for logged in workspace.of_kind("key"):
        change = logged.statement.predicate
        if isinstance(change, KeyChange) and change.keyid == key.keyid:
            raise WorkspaceError(f"entry {logged.index} ended key {key.keyid}: make a new one, it cannot come back")


def _prepare(workspace: Workspace, envelope: Envelope, new: StatementSigner | None) -> None:
    keys = workspace.path / "keys"
    for left in keys.glob(".next.*"):
        shutil.rmtree(left)
    made = Path(tempfile.mkdtemp(dir=keys, prefix=".next."))
    if isinstance(new, SigningKey):
        current = keys / issuer.FILE
        new.save(made / issuer.FILE, workspace.password_for(current if current.exists() else keys / "vault.json"))
    elif isinstance(new, signers.HeldKey):
        write_private(made / _REFERENCE, new.reference.encode())
        write_private(made / issuer.PUBLIC, new.public.pem().encode())
    write_private(made / _ENTRY, envelope.data)
    made.rename(_next(workspace))
    sync_folder(keys)


def _finish(workspace: Workspace) -> Logged:
    """Do what is left of a change. The lock is held."""
    keys, coming = workspace.path / "keys", _next(workspace)
    envelope = Envelope.parse((coming / _ENTRY).read_bytes())
    change = _change(envelope)
    logged = workspace.append(envelope, keep=False)  # it is kept here
    config = workspace.path / "certify.toml"
    if change.action == "revoke":
        issuer.set_aside(keys, change.keyid, ".revoked")
        issuer.set_field(config, "issuer_key", None)
    elif (coming / _REFERENCE).exists():
        place, public = keys / issuer.PUBLIC, (coming / issuer.PUBLIC).read_bytes()
        if not place.exists() or place.read_bytes() != public:
            issuer.set_aside(keys, change.keyid)
            write_file(place, public)
        issuer.set_field(config, "issuer_key", (coming / _REFERENCE).read_text())
    else:
        if (coming / issuer.FILE).exists():  # else the file in place is the new key's
            issuer.set_aside(keys, change.keyid)
            (coming / issuer.FILE).rename(keys / issuer.FILE)
        issuer.set_field(config, "issuer_key", None)
    sync_folder(keys)
    coming.rename(keys / ".next.done")
    shutil.rmtree(keys / ".next.done")
    workspace.forget_issuer_key()
    return logged


@contextmanager
def _locked(workspace: Workspace) -> Iterator[None]:
    """One change at a time, among processes."""
    folder = os.open(workspace.path / "keys", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _next(workspace: Workspace) -> Path:
    return workspace.path / "keys" / "next"


def _change(envelope: Envelope) -> KeyChange:
    change = Statement.parse(envelope.payload).predicate
    if not isinstance(change, KeyChange):
        raise StatementError("what is to be logged in keys/next is not a change of a key")
    return change


def _statement(change: KeyChange) -> Statement:
    return Statement((subject(PUBLIC_KEY, change.keyid),), change)
