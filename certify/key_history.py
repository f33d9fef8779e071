"""The keys that sign or signed for a ledger: those of its trust file, and those that ``key/v1`` entries hand over to."""

from base64 import b64decode
from dataclasses import dataclass, replace
from datetime import datetime

from certify import issuer
from certify.errors import WorkspaceError
from certify.keys import PublicKey
from certify.statement import KeyChange
from certify.times import parse_time
from certify.trust import Trust
from certify.workspace import Workspace


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key; ``ended`` ('rotated' or 'revoked') at the entry ``ended_at``, if it was. ``current``: it signs now."""

    public: PublicKey
    not_before: datetime | None
    not_after: datetime | None
    current: bool
    ended: str | None = None
    ended_at: int | None = None


def history(workspace: Workspace) -> list[KnownKey]:
    """In the order in which they came."""
    now = current(workspace)
    trusted = Trust.load(workspace.path / "trust.toml").issuers
    known = {
        one.key.keyid: KnownKey(one.key, one.not_before, one.not_after, one.key.keyid == now)
        for one in trusted
        if one.name == workspace.issuer
    }
    for logged in workspace.of_kind("key"):
        change = logged.statement.predicate
        if not isinstance(change, KeyChange) or change.keyid not in known:
            continue
        ended = "rotated" if change.action == "rotate" else "revoked"
        known[change.keyid] = replace(known[change.keyid], ended=ended, ended_at=logged.index)
        if (new := change.successor) is not None:
            public = PublicKey.from_spki(b64decode(new.spki))
            until = parse_time(new.not_after) if new.not_after is not None else None
            known.setdefault(public.keyid, KnownKey(public, parse_time(new.not_before), until, public.keyid == now))
    return list(known.values())


def current(workspace: Workspace) -> str | None:
    """The id of the key that signs now; None after a revocation."""
    try:
        if issuer.reference(workspace.path) is not None:
            return issuer.public(workspace.path / "keys" / issuer.PUBLIC).keyid
        return workspace.issuer_key.public.keyid
    except WorkspaceError:
        return None
