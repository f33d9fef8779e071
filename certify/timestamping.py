"""Asking a time-stamping authority over HTTP (RFC 3161, section 3.4), and keeping what it says.

::

    text = checkpoint_text(note)
    stamp = ask("http://time.example/tsr", text)
    keep(Path("ledger/timestamps"), text, stamp.data)
    kept(Path("ledger/timestamps"), text)          # {SHA-256 of the reply: the reply}

A reply is kept under the SHA-256 of the text that it stamps, so that a bundle finds those of its checkpoint. It counts only for
those whose ``trust.toml`` names the authority; here it is checked as far as it goes without, and with the roots where they are
known.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from certify.errors import MissingExtra
from certify.inputs import read_file, write_file
from certify.keyring import CLOCK_SKEW
from certify.times import format_time, now
from certify.trust import Trust, TrustedAuthority
from ledger import timestamp
from ledger.checkpoint import Checkpoint
from ledger.errors import TimestampError
from ledger.note import Note
from ledger.timestamp import MAX_TIMESTAMP_SIZE, Timestamp

if TYPE_CHECKING:
    from certify.workspace import Workspace

TIMEOUT = 15.0
"""Seconds that an authority may take."""
FOLDER = "timestamps"
"""Where a ledger keeps them."""
_HEADERS = {
    "Content-Type": "application/timestamp-query",
    "Accept": "application/timestamp-reply",
    "Accept-Encoding": "identity",
}
_KEPT = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{16}\.tsr")


def checkpoint_text(note: bytes) -> bytes:
    """What is stamped of a signed checkpoint: origin, size and root, without the signatures."""
    return Checkpoint.parse(Note.parse(note).text).format()


def ask(url: str, text: bytes, *, trust: Trust | None = None, clock: datetime | None = None) -> Timestamp:
    """A new token over ``text`` from the authority at ``url``: an answer to this very question (nonce), of this moment.

    Verified in full if it is by an authority that ``trust`` names. Raises TimestampError.
    """
    from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

    query = TimestampRequestBuilder(data=text, hash_algorithm=HashAlgorithm.SHA256, nonce=True, cert_req=True).build()
    data = timestamp.in_order(_post(url, query.as_bytes()))
    try:
        stamp = timestamp.read(data, text)
        if stamp.nonce != query.nonce:
            raise TimestampError("the reply is to another question: its nonce is not the one that was sent")
        for authority in trust.authorities if trust is not None else ():
            if stamp.issued_under(authority.roots):
                timestamp.verify(data, text, roots=authority.roots, policy=authority.policy, nonce=query.nonce)
    except TimestampError as error:
        raise TimestampError(f"the authority at {url}: {error}") from error
    moment = clock or now()
    if abs(stamp.time - moment) > CLOCK_SKEW:
        raise TimestampError(
            f"the authority at {url} says {format_time(stamp.time)}, this machine's clock says {format_time(moment)}: "
            f"one of them is wrong"
        )
    return stamp


def _post(url: str, query: bytes) -> bytes:
    try:
        import httpx
    except ModuleNotFoundError as error:
        raise MissingExtra("expected the package httpx: pip install 'unlearning-ledger[remote]'") from error
    reply, deadline = bytearray(), time.monotonic() + TIMEOUT
    try:
        with (
            httpx.Client(timeout=TIMEOUT, transport=httpx.HTTPTransport(retries=2)) as client,
            client.stream("POST", url, content=query, headers=_HEADERS) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise TimestampError(f"the authority at {url} answers {response.status_code}, expected 200")
            for part in response.iter_raw():
                reply += part
                if time.monotonic() > deadline:
                    raise TimestampError(f"the authority at {url} is not done after {TIMEOUT:.0f} s")
                if len(reply) > MAX_TIMESTAMP_SIZE:
                    raise TimestampError(
                        f"the authority at {url} sends more than {MAX_TIMESTAMP_SIZE:,} bytes, expected a time stamp"
                    )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise TimestampError(f"the authority at {url} cannot be asked: {error or type(error).__name__}") from error
    return bytes(reply)


def keep(folder: Path, text: bytes, data: bytes) -> Path:
    """Keep a reply over ``text``; durable on return."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{sha256(text).hexdigest()}.{sha256(data).hexdigest()[:16]}.tsr"
    write_file(path, data)
    return path


def kept(folder: Path, text: bytes) -> Mapping[str, bytes]:
    """The replies over ``text`` that were kept, by their SHA-256 (hex). Raises TimestampError if one is of something else."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.glob(f"{sha256(text).hexdigest()}.*.tsr")):
        if not _KEPT.fullmatch(path.name):
            continue
        data = read_file(path, MAX_TIMESTAMP_SIZE)
        try:
            timestamp.read(data, text)
        except TimestampError as error:
            raise TimestampError(f"{path} was altered, remove it and ask again: {error}") from error
        found[sha256(data).hexdigest()] = data
    return found


def with_authority(trust: Trust, name: str, roots: str | None) -> Trust:
    """``trust``, and an authority more where it does not name one like this yet. Raises TrustError."""
    if roots is None or any(authority.name == name for authority in trust.authorities):
        return trust
    return replace(trust, authorities=(*trust.authorities, TrustedAuthority.of(name, roots)))


def obtain(workspace: "Workspace", text: bytes, url: str) -> Timestamp:
    """Ask the authority at ``url``, and keep what it says in the ledger's folder."""
    made = ask(url, text, trust=Trust.load(workspace.path / "trust.toml"))
    keep(workspace.path / FOLDER, text, made.data)
    return made


def for_bundle(workspace: "Workspace", text: bytes) -> Mapping[str, bytes]:
    """The time stamps on a checkpoint. If there is none yet, the authority that ``certify.toml`` names is asked."""
    found = kept(workspace.path / FOLDER, text)
    if not found and workspace.timestamping is not None:
        try:
            obtain(workspace, text, workspace.timestamping)
        except TimestampError as error:
            raise TimestampError(f"{error}. 'certify bundle --no-timestamp' goes without") from error
        found = kept(workspace.path / FOLDER, text)
    return found
