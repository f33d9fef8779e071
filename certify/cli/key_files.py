"""Keys in files, for commands of people outside the ledger: auditors and replayers; and logging what they signed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certify.cli.output import bad, emit, fields, good
from certify.inputs import read_file

if TYPE_CHECKING:
    from certify.keys import PublicKey, SigningKey
    from certify.workspace import Logged, Workspace

MAX_PEM = 1 << 16


def signing_key(path: Path) -> "SigningKey":
    """A private key; its password is asked for if it has one."""
    from certify import passwords
    from certify.keys import SigningKey
    from ledger.keyfile import is_encrypted

    return SigningKey.load(path, passwords.obtain(f"password of {path}") if is_encrypted(path) else None)


def public_keys(paths: Sequence[Path]) -> "list[PublicKey]":
    from certify.keys import PublicKey

    return [PublicKey.from_pem(read_file(path, MAX_PEM).decode(errors="replace")) for path in paths]


def log_each(
    ledger: Path,
    files: Sequence[Path],
    log: "Callable[[Workspace, bytes], tuple[Logged, PublicKey | None]]",
    missing: str,
    as_json: bool,
) -> None:
    """Log each file's statement by ``log`` and print what came of it. ``missing`` says which key would check the signature."""
    from certify.envelope import MAX_ENVELOPE_SIZE
    from certify.workspace import Workspace

    value: list[dict[str, Any]] = []
    with Workspace(ledger) as workspace:
        for file in files:
            logged, signer = log(workspace, read_file(file, MAX_ENVELOPE_SIZE + 1))
            keyid = signer.keyid if signer is not None else None
            value.append({"entry": logged.index, "digest": logged.digest, "checkedSigner": keyid})
            if not as_json:
                signed = keyid or f"{bad('not checked')}: give the {missing}"
                emit(False, None, good(f"logged as entry {logged.index}"), *fields(("signed by", signed)))
    if as_json:
        emit(True, value)
