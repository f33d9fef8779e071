"""Changing the issuer's key: ``key/v1`` entries, and the key files to match.

A rotation is logged before the files change. If the process dies in between, the new key lies ready in ``issuer.next.pem`` and
the next rotation says so.
"""

from base64 import b64encode
from datetime import datetime
from typing import Literal, cast

from certify.errors import WorkspaceError
from certify.keys import Algorithm, PublicKey, SigningKey
from certify.statement import PUBLIC_KEY, KeyChange, KeyRecord, Statement, subject
from certify.times import format_time, now
from certify.workspace import Logged, Workspace

Reason = Literal["scheduled", "superseded", "compromised", "retired"]


def rotate_key(
    workspace: Workspace, algorithm: Algorithm = "ecdsa-p256", *, not_after: datetime | None = None
) -> tuple[Logged, PublicKey]:
    """Log a hand-over to a new key, signed by both, and use the new key from now on. The old file is kept under its key id."""
    old = workspace.issuer_key
    keys = workspace.path / "keys"
    current, coming, kept = keys / "issuer.pem", keys / "issuer.next.pem", keys / f"issuer.{old.public.keyid[:16]}.pem"
    if coming.exists():
        raise WorkspaceError(
            f"{coming} is left over from a rotation that was cut off: see 'certify log entries', then move it"
        )
    new = SigningKey.generate(algorithm)
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
    envelope = workspace.sign(_statement(change), [new])  # what cannot be stated leaves no key file behind
    new.save(coming, workspace.password_for(current))
    logged = workspace.append(envelope)
    current.rename(kept)
    coming.rename(current)
    workspace.forget_issuer_key()
    return logged, new.public


def revoke_key(workspace: Workspace, reason: str) -> Logged:
    """Log that the current key counts no longer, signed by itself, and set its file aside."""
    change = KeyChange(
        log=workspace.origin,
        action="revoke",
        keyid=workspace.issuer_key.public.keyid,
        effective=format_time(now()),
        reason=cast(Reason, reason),
    )
    logged = workspace.append(workspace.sign(_statement(change)))
    current = workspace.path / "keys" / "issuer.pem"
    current.rename(current.with_name(f"issuer.{change.keyid[:16]}.revoked.pem"))
    workspace.forget_issuer_key()
    return logged


def _statement(change: KeyChange) -> Statement:
    return Statement((subject(PUBLIC_KEY, change.keyid),), change)
