"""Where a ledger keeps its issuer's key: in ``keys/issuer.pem``, or elsewhere, as ``issuer_key`` in ``certify.toml`` says.

::

    keys/issuer.pem                      the private key, or
    keys/issuer.pub                      the public half of a key held elsewhere
    keys/issuer.0123456789abcdef.pem     one that was handed over (or .pub)
    keys/issuer.….revoked.pem            one that was revoked
"""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

from certify import signers
from certify.errors import WorkspaceError
from certify.inputs import read_file, write_file
from certify.keys import PublicKey, SigningKey, StatementSigner
from certify.trust import quoted

FILE, PUBLIC = "issuer.pem", "issuer.pub"
_MAX_SIZE = 1 << 16


def load(ledger: Path, password_for: Callable[[Path], bytes | None]) -> StatementSigner:
    """The key that signs now. One held elsewhere is not asked for anything yet."""
    keys = ledger / "keys"
    held = reference(ledger)
    if held is not None:
        return signers.open_key(held, public(keys / PUBLIC))
    path = keys / FILE
    if not path.exists() and any(keys.glob("issuer.*.revoked.p*")):
        raise WorkspaceError(f"the issuer's key was revoked: make another with 'certify keygen {path}' and hand it out")
    return SigningKey.load(path, password_for(path))


def reference(ledger: Path) -> str | None:
    """Where ``certify.toml`` says that the issuer's key is held, if elsewhere."""
    value = _config(ledger / "certify.toml").get("issuer_key")
    return signers.check_reference(value) if isinstance(value, str) else None


def public(path: Path) -> PublicKey:
    """The public half that a file holds (PEM)."""
    if not path.exists():
        raise WorkspaceError(
            f"certify.toml says that the issuer's key is held elsewhere, and {path}, its public half, is missing: hand over to "
            f"such a key with 'certify key rotate --to …', which writes both"
        )
    return PublicKey.from_pem(read_file(path, _MAX_SIZE).decode(errors="replace"))


def set_aside(keys: Path, keyid: str, suffix: str = "") -> None:
    """Keep the current key's file, or its public half, under its key id. Does nothing where that was done."""
    for name in (FILE, PUBLIC):
        current = keys / name
        if current.exists():
            current.rename(keys / f"issuer.{keyid[:16]}{suffix}{current.suffix}")


def set_field(path: Path, name: str, value: str | None) -> None:
    """Set one text of ``certify.toml``, or take it out, and leave the rest as it is, comments too."""
    before = _config(path)
    text = path.read_text(encoding="utf-8")
    rest = re.sub(rf"^{name}[ \t]*=.*(\n|\Z)", "", text, flags=re.MULTILINE)
    line = "" if value is None else f"{name} = {quoted(value)}\n"
    table = re.search(r"^\[", rest, flags=re.MULTILINE)
    place = table.start() if table else len(rest)
    edited = rest[:place] + ("\n" if line and place and rest[place - 1] != "\n" else "") + line + rest[place:]
    expected = {key: known for key, known in before.items() if key != name} | (
        {name: value} if value is not None else {}
    )
    try:
        fits = tomllib.loads(edited) == expected
    except ValueError:
        fits = False
    if not fits:
        raise WorkspaceError(f"{path} is not written as expected: put in {line.strip() or f'no {name}'} yourself")
    if edited != text:
        write_file(path, edited.encode())


def _config(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkspaceError(f"cannot read {path}: {error}") from error
