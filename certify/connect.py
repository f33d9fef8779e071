"""A ledger whose log is far away: issuer's key, vault and trust file here, the log at a URL.

::

    ledger/
      certify.toml      with  log = "https://log.example/ledger"
      trust.toml        the log's keys as they were given, witnesses if the given trust file has any, and this issuer
      vault.db, zk/     as in every ledger
      outbox/           what the log has not acknowledged yet
      keys/             issuer.pem, vault.json, token, log.seen (last checkpoint seen)

The log is believed only as far as the keys go that its operator handed over: nothing is made if the served checkpoint is not
signed by them.
"""

import shutil
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from certify import places, vault
from certify.errors import TrustError, WorkspaceError
from certify.inputs import read_file
from certify.keys import Algorithm, PublicKey, SigningKey
from certify.trust import MAX_TRUST_SIZE, Trust, TrustedIssuer, TrustedLog, format_trust, quoted
from certify.vault import Vault
from certify.workspace import INDEXED, check_names
from ledger.client import RemoteLog
from ledger.errors import SignatureError
from ledger.http import checked_url
from ledger.keyfile import write_private
from ledger.note import VerifierKey
from ledger.policy import Policy
from ledger.source import HttpSource

PATIENCE = 5.0
"""Seconds to try for: whoever connects sits there and waits."""


@dataclass(frozen=True, slots=True)
class LogTrust:
    """A log by its keys, and the witnesses that have to cosign. ``table`` is their part of a trust file."""

    log: TrustedLog
    policy: Policy | None = None
    table: str = ""


def of_keys(keys: Sequence[str]) -> list[LogTrust]:
    """A log by its verifier keys, as C2SP writes them: all of them have to sign. Raises MalformedError."""
    parsed = tuple(VerifierKey.parse(key) for key in keys)
    if len({key.name for key in parsed}) != 1:
        raise TrustError(
            f"expected verifier keys of one log, got {', '.join(sorted({key.name for key in parsed})) or 'none'}"
        )
    return [LogTrust(TrustedLog(parsed[0].name, parsed))]


def of_trust(path: Path) -> list[LogTrust]:
    """The logs that a trust file names, with its witnesses. Raises TrustError."""
    data = read_file(path, MAX_TRUST_SIZE)
    trust = Trust.parse(data)
    policy = trust.witnessing if trust.witnessing.quorum is not None else None
    witnesses = tomllib.loads(data.decode()).get("witnesses")
    lines = [f"{name} = {_toml(value)}" for name, value in witnesses.items()] if witnesses else []
    table = "\n".join(["", "[witnesses]", *lines, ""]) if lines else ""
    return [LogTrust(log, policy, table) for log in trust.logs]


@dataclass(frozen=True, slots=True)
class Connected:
    """``size``: entries in the log. ``stands_for``: the folder that the URL stands for, another if it was connected before."""

    folder: Path
    url: str
    origin: str
    issuer: str
    public_key: PublicKey
    size: int
    stands_for: Path


def connect(
    url: str,
    candidates: Sequence[LogTrust],
    *,
    issuer: str,
    folder: Path | None = None,
    token: str | None = None,
    password: bytes | None,
    algorithm: Algorithm = "ecdsa-p256",
) -> Connected:
    """Make a ledger in a new folder (by default one of the user's data) whose log is at ``url``.

    Raises SignatureError if the log there is none of ``candidates``, WorkspaceError if the folder is there already.
    """
    url = checked_url(url)
    chosen = _choose(url, candidates)
    origin = chosen.log.origin
    check_names(origin, issuer)
    folder = (folder or places.default_folder(origin)).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WorkspaceError(f"{folder} exists and is not an empty folder: name another with --ledger")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))  # all of it or, after an error, nothing
    try:
        keys = made / "keys"
        keys.mkdir(mode=0o700)
        with RemoteLog(
            url, chosen.log.keys, watermark=keys / "log.seen", policy=chosen.policy, token=token, patience=PATIENCE
        ) as log:
            size = log.size()
        key = SigningKey.generate(algorithm)
        key.save(keys / "issuer.pem", password)
        if token is not None:
            write_private(keys / "token", token.encode())
        secret = vault.create_key(keys / "vault.json", password)
        notes = Vault.create(made / "vault.db", secret)
        notes.put_note(INDEXED, size)  # nothing before can be signed with the new key
        notes.close()
        trust = format_trust([chosen.log], [TrustedIssuer(issuer, key.public)]) + chosen.table
        Trust.parse(trust.encode())
        config = f"version = 1\norigin = {quoted(origin)}\nissuer = {quoted(issuer)}\nlog = {quoted(url)}\n"
        for name, text in (("trust.toml", trust), ("certify.toml", config)):
            (made / name).write_text(text, encoding="utf-8")
            (made / name).chmod(0o644)
        made.chmod(0o755)
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return Connected(folder, url, origin, issuer, key.public, size, places.remember(url, folder))


def _choose(url: str, candidates: Sequence[LogTrust]) -> LogTrust:
    """The log that is served, by the origin that its checkpoint claims; its signature is checked when it is opened."""
    if len(candidates) == 1:
        return candidates[0]
    source = HttpSource(url, patience=PATIENCE)
    try:
        claimed = source.checkpoint().split(b"\n", 1)[0].decode(errors="replace")
    finally:
        source.close()
    for candidate in candidates:
        if candidate.log.origin == claimed:
            return candidate
    raise SignatureError(f"{url} serves log {claimed[:120]!r}, which the trust file does not name")


def _toml(value: object) -> str:
    """A number, a text or a list of texts as TOML."""
    if isinstance(value, list):
        return f"[{', '.join(quoted(str(item)) for item in value)}]"
    return str(value) if isinstance(value, int) else quoted(str(value))
