"""Ledgers and keys: init, keygen, key, completion."""

import secrets
from pathlib import Path
from typing import cast

import click

from certify import passwords
from certify.cli.options import OUTPUT, Time, json_option, ledger_option
from certify.cli.output import emit, fields, good
from certify.errors import InputError
from certify.keys import ALGORITHMS, Algorithm, SigningKey

_algorithm = click.option(
    "--algorithm",
    type=click.Choice(ALGORITHMS),
    default="ecdsa-p256",
    show_default=True,
    help="Of the key that signs statements. Sigstore's tools verify ecdsa-p256.",
)
_no_password = click.option(
    "--no-password", is_flag=True, help="Leave the keys unencrypted, protected by file mode alone."
)
_password_file = click.option(
    "--password-file", type=click.Path(exists=True, path_type=Path), help="First line is the password (mode 0600)."
)


def _new_password(no_password: bool, password_file: Path | None) -> bytes | None:
    if no_password:
        return None
    password = passwords.from_file(password_file) if password_file else passwords.obtain("new password", confirm=True)
    if not password:
        raise InputError(
            "keys are encrypted, and there is no password: set CERTIFY_PASSWORD or CERTIFY_PASSWORD_FILE, give --password-file, "
            "or ask for --no-password"
        )
    return password


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("ledger"))
@click.option("--origin", help="Name of the log, a URL without scheme.  [default: a random one]")
@click.option("--issuer", help="Who issues: the operator's name.  [default: the origin]")
@_algorithm
@click.option("--post-quantum", is_flag=True, help="Let the log sign with ML-DSA-44 beside Ed25519.")
@_no_password
@_password_file
@json_option
def init(
    folder: Path,
    origin: str | None,
    issuer: str | None,
    algorithm: str,
    post_quantum: bool,
    no_password: bool,
    password_file: Path | None,
    as_json: bool,
) -> None:
    """Make a ledger.

    That is keys, an empty log, a vault, and the trust file to hand out.

    \b
    Examples:
        certify init
        certify init clinic --origin clinic.example/ledger --issuer "Example Clinic"
    """
    from certify.workspace import Workspace

    origin = origin or f"unlearning.local/{secrets.token_hex(4)}"
    workspace = Workspace.init(
        folder,
        origin=origin,
        issuer=issuer or origin,
        password=_new_password(no_password, password_file),
        algorithm=cast(Algorithm, algorithm),
        post_quantum=post_quantum,
    )
    with workspace:
        keyid = workspace.issuer_key.public.keyid
    trust = folder / "trust.toml"
    value = {"ledger": str(folder), "origin": origin, "issuer": workspace.issuer, "keyid": keyid, "trust": str(trust)}
    emit(
        as_json,
        value,
        good(f"a new ledger in {folder}"),
        *fields(
            ("log", origin),
            ("issuer", f"{workspace.issuer}, key {keyid[:16]} ({algorithm})"),
            ("trust file", f"{trust}  (hand it to those who verify)"),
            ("keys", f"{folder / 'keys'}  (back them up apart from the log)"),
        ),
        "next: certify train-commit --help, or certify fit --help",
    )


@click.command()
@click.argument("file", type=OUTPUT)
@_algorithm
@_no_password
@_password_file
@json_option
def keygen(file: Path, algorithm: str, no_password: bool, password_file: Path | None, as_json: bool) -> None:
    """Make a key that signs statements.

    It goes into an encrypted PKCS#8 file, with its public half beside it.

    \b
    Example:
        certify keygen auditor.pem --algorithm ed25519      # and auditor.pem.pub
    """
    public_file = file.with_name(file.name + ".pub")
    if public_file.exists():
        raise InputError(f"{public_file} exists already: name another file")
    key = SigningKey.generate(cast(Algorithm, algorithm))
    key.save(file, _new_password(no_password, password_file))
    public_file.write_text(key.public.pem())
    value = {"key": str(file), "public": str(public_file), "keyid": key.public.keyid, "algorithm": algorithm}
    emit(as_json, value, *fields(("key", file), ("public key", public_file), ("key id", key.public.keyid)))


@click.group()
def key() -> None:
    """Rotate or revoke the key that signs a ledger's statements."""


@key.command()
@ledger_option
@_algorithm
@click.option("--not-after", type=Time(), help="When the new key expires.")
@json_option
def rotate(ledger: Path, algorithm: str, not_after: object, as_json: bool) -> None:
    """Hand over to a new key, by an entry that both keys sign. Old statements stay verifiable.

    \b
    Example:
        certify key rotate --algorithm ml-dsa-65
    """
    from datetime import datetime

    from certify.rotation import rotate_key
    from certify.workspace import Workspace

    with Workspace(ledger) as workspace:
        until = not_after if isinstance(not_after, datetime) else None
        logged, new = rotate_key(workspace, cast(Algorithm, algorithm), not_after=until)
    value = {"entry": logged.index, "keyid": new.keyid, "algorithm": new.algorithm}
    emit(
        as_json,
        value,
        *fields(("entry", logged.index), ("new key", f"{new.keyid} ({new.algorithm})")),
        "a verifier follows the rotation from the old key by this entry; trust.toml may name the new key from now on",
    )


@key.command()
@ledger_option
@click.option(
    "--reason", type=click.Choice(["compromised", "retired", "superseded"]), default="compromised", show_default=True
)
@click.confirmation_option(prompt="No statement can be signed with this key afterwards. Revoke it?")
@json_option
def revoke(ledger: Path, reason: str, as_json: bool) -> None:
    """End the current key, by an entry that it signs itself. Nothing can be issued afterwards.

    \b
    Example:
        certify key revoke --reason compromised
    """
    from certify.rotation import revoke_key
    from certify.workspace import Workspace

    with Workspace(ledger) as workspace:
        keyid = workspace.issuer_key.public.keyid
        logged = revoke_key(workspace, reason)
    emit(
        as_json,
        {"entry": logged.index, "keyid": keyid, "reason": reason},
        *fields(("entry", logged.index), ("revoked", keyid)),
        "tell those who verify to set 'revoked' in their trust.toml: a bundle made elsewhere may leave this entry out",
    )


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@json_option
def completion(shell: str, as_json: bool) -> None:
    """Print what makes a shell complete certify's commands and options.

    \b
    Example, for this session of bash:
        eval "$(certify completion bash)"
    """
    from click.shell_completion import get_completion_class

    from certify.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None
    source = kind(cli, {}, "certify", "_CERTIFY_COMPLETE").source()
    emit(as_json, {"shell": shell, "script": source}, source)
