"""When a checkpoint is shown to have existed, by others than the operator: witnesses' cosignatures and RFC 3161 time stamps.

Both show that all the statements under it were logged *by* that time, so the earlier one says more. Witnesses show besides that
nobody was shown another history; a time stamp does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from certify.errors import TimestampError
from certify.keyring import CLOCK_SKEW
from certify.times import format_time
from certify.trust import Trust, TrustedAuthority
from ledger import timestamp
from ledger.errors import TimestampError as TokenError
from ledger.timestamp import Timestamp


@dataclass(frozen=True, slots=True)
class Seen:
    """A time by which a checkpoint existed, and how that is shown, in words: 'witnesses cosigned it'."""

    time: datetime
    how: str


def earliest(*seen: Seen | None) -> Seen | None:
    """The one that says most. Of the same time, the first."""
    return min((one for one in seen if one is not None), key=lambda one: one.time, default=None)


def by_witnesses(time: datetime | None) -> Seen | None:
    """``time``: when a quorum had cosigned, if one is required."""
    return Seen(time, "witnesses cosigned it") if time is not None else None


def by_timestamps(
    tokens: Mapping[str, bytes], text: bytes, trust: Trust, now: datetime
) -> tuple[Seen | None, list[str]]:
    """The earliest time that a trusted authority stamped the checkpoint with this text, and a line on each token.

    A token of an authority that ``trust.toml`` does not name counts for nothing. Raises TimestampError for one of a named
    authority that does not verify, for any that is of something else, and where a required one is missing.
    """
    lines: list[str] = []
    seen: dict[str, Seen] = {}
    for digest, data in sorted(tokens.items()):
        try:
            stamp = timestamp.read(data, text)
            authority = _verify(stamp, text, trust)
        except TokenError as error:
            raise TimestampError(f"time stamp {digest[:16]}: {error}") from error
        if authority is None:
            lines.append(
                f"a time stamp by {stamp.signer[:200]}, whose root trust.toml does not name: it counts for nothing"
            )
            continue
        if stamp.time > now + CLOCK_SKEW:
            raise TimestampError(
                f"{authority.name} stamped the checkpoint at {format_time(stamp.time)}, in the future (now {format_time(now)})"
            )
        lines.append(f"stamped by {authority.name} at {format_time(stamp.time)}")
        found = Seen(stamp.latest, f"{authority.name} stamped it")
        seen[authority.name] = min(seen.get(authority.name, found), found, key=lambda one: one.time)
    for authority in trust.authorities:
        if authority.required and authority.name not in seen:
            raise TimestampError(
                f"trust.toml requires a time stamp by {authority.name}, the bundle has {len(tokens)} and none of theirs: ask for "
                f"a bundle made after 'certify log timestamp'"
            )
    return earliest(*seen.values()), lines


def _verify(stamp: Timestamp, text: bytes, trust: Trust) -> TrustedAuthority | None:
    """The authority whose token it is, verified; None if it claims to be of nobody known. Raises the log's TimestampError."""
    reason: TokenError | None = None
    for authority in trust.authorities:
        if not stamp.issued_under(authority.roots):
            continue
        try:
            timestamp.verify(stamp.data, text, roots=authority.roots, policy=authority.policy)
        except TokenError as error:
            reason = reason or TokenError(f"not by {authority.name}: {error}")
        else:
            return authority
    if reason is not None:
        raise reason
    return None
