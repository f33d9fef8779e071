"""claims.jsonl: the statements of a case beside the model, each a sigstore bundle on one line, appended.

The layout that the model-signing project discusses for everything that is said of a model: whoever has something to add appends a
line, and no line before it changes. ::

    {"dsseEnvelope":{"payload":…},"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json",…}     training
    {"dsseEnvelope":{"payload":…},"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json",…}     unlearning

Lines of others stay what they are; nobody's signature is checked here. A line that is in the file already, to the byte, is not
appended again; one that merely resembles it does not keep it out.
"""

import fcntl
import json
import os
import stat
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from certify.errors import InputError, StatementError
from certify.formats.sigstore import of_statement
from certify.formats.source import Source
from certify.statement import STATEMENT_TYPE
from certify.wire import check_depth

MAX_CLAIMS_SIZE = 64 << 20
MAX_LINE = 1 << 20
_MEDIA_TYPES = ("application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.dev.sigstore.bundle+json;version=0.3")


@dataclass(frozen=True, slots=True)
class Appended:
    """How many lines there were, how many of ours were among them, and how many came."""

    before: int
    present: int
    added: int


def claims_of(source: Source) -> list[bytes]:
    """A line for each statement of the case, in the log's order. Those about keys are not about a model, and stay out."""
    return [of_statement(source.entry(link).envelope) for link in source.links if link.statement.kind != "key"]


def check_claims(data: bytes) -> list[bytes]:
    """The lines of a file. Raises StatementError for one that is not a claim, and for a last one that is cut off."""
    if not data:
        return []
    *lines, rest = data.split(b"\n")
    if rest:
        raise StatementError(
            f"line {len(lines) + 1} does not end: expected a line feed after {len(rest):,} bytes. It may be cut off; nothing was "
            f"appended. Take that line out by hand, or end it"
        )
    for number, line in enumerate(lines, 1):
        _check_line(line, number)
    return lines


def append(path: Path, lines: list[bytes]) -> Appended:
    """Append those lines that are not there yet, in one write; make the file if there is none.

    Raises StatementError for a file with anything but claims in it, InputError for one that cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InputError(f"{path} is not a regular file")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # two who append at once do it one after the other
            before = _read(file, path)
            found = check_claims(before)
            known = set(found)
            new = list(dict.fromkeys(line for line in lines if line not in known))
            if new:
                _write(descriptor, b"".join(line + b"\n" for line in new), len(before))
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error
    return Appended(len(found), len(dict.fromkeys(lines)) - len(new), len(new))


def _read(file: Any, path: Path) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := file.read(1 << 20):
        size += len(part)
        if size > MAX_CLAIMS_SIZE:
            raise InputError(f"{path} has more than {MAX_CLAIMS_SIZE:,} bytes, expected at most that")
        parts.append(part)
    return b"".join(parts)


def _write(descriptor: int, data: bytes, size: int) -> None:
    """All of it or, where the disk is full, nothing: what went in is taken back."""
    try:
        done = 0
        while done < len(data):
            done += os.write(descriptor, data[done:])
        os.fsync(descriptor)
    except BaseException:
        os.ftruncate(descriptor, size)
        raise


def _check_line(line: bytes, number: int) -> None:
    where = f"line {number}"
    if len(line) > MAX_LINE:
        raise StatementError(f"{where} has {len(line):,} bytes, expected at most {MAX_LINE:,}")
    check_depth(line, what=where, error=StatementError)
    try:
        bundle = json.loads(line, object_pairs_hook=_once)
        if bundle["mediaType"] not in _MEDIA_TYPES:
            raise ValueError(f"its media type is {bundle['mediaType']!r:.80}")
        if not isinstance(bundle["verificationMaterial"], dict):
            raise ValueError("it names no key")
        dsse = bundle["dsseEnvelope"]
        if not dsse["signatures"] or not all(b64decode(each["sig"], validate=True) for each in dsse["signatures"]):
            raise ValueError("it is not signed")
        payload = b64decode(dsse["payload"], validate=True)
        check_depth(payload, what=where, error=StatementError)
        statement = json.loads(payload, object_pairs_hook=_once)
        if statement["_type"] != STATEMENT_TYPE or not isinstance(statement["predicateType"], str):
            raise ValueError("it holds no in-toto statement")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise StatementError(
            f"{where} is not a claim ({reason}), expected a sigstore bundle with a signed in-toto statement on every line; "
            f"nothing was appended"
        ) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("it has a field twice")
    return found
