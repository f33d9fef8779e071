"""Tokens: what a client of a served log shows to append, and whose statements it may append with it. ``tokens.toml``.

::

    version = 1

    [[token]]
    name = "training cluster"
    sha256 = "9f86d081…"                             # of the token, which is shown once and kept nowhere
    issuers = ["Example Clinic"]                     # all the keys that trust.toml gives this name
    public_keys = [\"\"\"-----BEGIN PUBLIC KEY-----…\"\"\"]
    not_after = 2027-01-01T00:00:00Z                 # optional

A token is 256 random bits, so that its plain hash gives nothing away.
"""

import fcntl
import os
import secrets
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import msgspec

from certify.errors import InputError, StatementKeyError, WorkspaceError
from certify.fields import Digest, Label
from certify.inputs import read_file, write_file
from certify.keys import PublicKey
from certify.trust import quoted

FILE = "tokens.toml"
PREFIX = "ulog_"
"""So that a token is recognised where it does not belong."""
MAX_SIZE = 4 << 20
MAX_KEYS = 32
"""Keys that one token may name."""


class _TokenWire(msgspec.Struct, forbid_unknown_fields=True):
    name: Label
    sha256: Digest
    issuers: list[Label] = []
    public_keys: list[str] = []
    not_after: datetime | None = None


class _FileWire(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    token: list[_TokenWire] = []


@dataclass(frozen=True, slots=True)
class Token:
    """A token by its hash. ``issuers`` are names in trust.toml; ``keys`` others that it is for."""

    name: str
    digest: str
    issuers: tuple[str, ...]
    keys: tuple[PublicKey, ...]
    not_after: datetime | None = None


def load(path: Path) -> list[Token]:
    """The tokens in a file; none if there is no file. Raises WorkspaceError."""
    if not path.exists():
        return []
    try:
        wire = msgspec.convert(tomllib.loads(read_file(path, MAX_SIZE).decode()), type=_FileWire)
        found = [_token(item) for item in wire.token]
    except (ValueError, RecursionError, InputError, StatementKeyError) as error:
        raise WorkspaceError(f"{path} is not as expected: {error}") from error
    if wire.version != 1:
        raise WorkspaceError(f"{path} has version {wire.version}, expected 1")
    if len({one.name for one in found}) != len(found) or len({one.digest for one in found}) != len(found):
        raise WorkspaceError(f"{path} names a token twice")
    return found


def _token(wire: _TokenWire) -> Token:
    if wire.not_after is not None and wire.not_after.tzinfo is None:
        raise ValueError(f"not_after of token {wire.name!r} has no offset, expected like 2027-01-01T00:00:00Z")
    if not wire.issuers and not wire.public_keys:
        raise ValueError(f"token {wire.name!r} names no issuer and no key")
    keys = tuple(map(PublicKey.from_pem, wire.public_keys))
    return Token(wire.name, wire.sha256, tuple(wire.issuers), keys, wire.not_after)


def digest(token: str) -> str:
    """What of a token is kept."""
    return sha256(token.encode()).hexdigest()


def add(
    path: Path,
    name: str,
    *,
    issuers: Sequence[str] = (),
    keys: Sequence[PublicKey] = (),
    not_after: datetime | None = None,
) -> str:
    """A new token, to be shown once. Raises WorkspaceError if there is one of that name."""
    token = PREFIX + secrets.token_urlsafe(32)
    if not issuers and not keys:
        raise WorkspaceError("expected an issuer: a token is for somebody's statements")
    with _changing(path) as known:
        if any(one.name == name for one in known):
            raise WorkspaceError(f"there is a token {name!r} already: revoke it, or choose another name")
        known.append(Token(name, digest(token), tuple(issuers), tuple(keys), not_after))
    return token


def revoke(path: Path, name: str) -> None:
    """Forget a token. Raises WorkspaceError if there is none of that name."""
    with _changing(path) as known:
        left = [one for one in known if one.name != name]
        if len(left) == len(known):
            raise WorkspaceError(f"there is no token {name!r}: 'certify serve token list' names them")
        known[:] = left


def hand_over(path: Path, name: str, key: PublicKey) -> None:
    """Let a token append statements by ``key`` too: one of its issuer's keys has handed over to it."""
    with _changing(path) as known:
        for place, one in enumerate(known):
            if one.name == name and key not in one.keys:
                if len(one.keys) >= MAX_KEYS:
                    raise WorkspaceError(f"token {name!r} is for {MAX_KEYS} keys already: make a new one")
                known[place] = replace(one, keys=(*one.keys, key))


@contextmanager
def _changing(path: Path) -> Iterator[list[Token]]:
    """The tokens, to be changed; written back when the block ends. One process at a time."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise WorkspaceError(f"no ledger in {path.parent}: {error.strerror}") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        known = load(path)
        yield known
        data = format_tokens(known).encode()
        if len(data) > MAX_SIZE:
            raise WorkspaceError(f"{path} would have {len(data):,} bytes, expected at most {MAX_SIZE:,}")
        write_file(path, data)
    finally:
        os.close(folder)


def format_tokens(known: Sequence[Token]) -> str:
    """The file's text."""
    lines = ["# Who may append to the log: see 'certify serve token --help'.", "version = 1"]
    for one in known:
        lines += ["", "[[token]]", f"name = {quoted(one.name)}", f"sha256 = {quoted(one.digest)}"]
        if one.issuers:
            lines.append(f"issuers = [{', '.join(map(quoted, one.issuers))}]")
        if one.keys:
            lines.append("public_keys = [" + ", ".join(f'"""\n{key.pem()}"""' for key in one.keys) + "]")
        if one.not_after is not None:
            lines.append(f"not_after = {one.not_after.astimezone(UTC).strftime('%Y-%m-%dT%H:%M:%SZ')}")
    return "\n".join(lines) + "\n"
