"""Ledgers and keys: init, keygen, completion."""

import secrets
from pathlib import Path
from typing import cast

import click

from certify import passwords
from certify.cli.options import OUTPUT, json_option
from certify.cli.output import emit, fields, good
from certify.errors import InputError
from certify.keys import ALGORITHMS, Algorithm, SigningKey

algorithm_option = click.option(
    "--algorithm",
    type=click.Choice(ALGORITHMS),
    default="ecdsa-p256",
    show_default=True,
    help="Of the key that signs statements. Sigstore's tools verify ecdsa-p256.",
)
no_password_option = click.option(
    "--no-password", is_flag=True, help="Leave the keys unencrypted, protected by file mode alone."
)
password_file_option = click.option(
    "--password-file", type=click.Path(exists=True, path_type=Path), help="First line is the password (mode 0600)."
)


def new_password(no_password: bool, password_file: Path | None) -> bytes | None:
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
@algorithm_option
@click.option("--post-quantum", is_flag=True, help="Let the log sign with ML-DSA-44 beside Ed25519.")
@click.option(
    "--issuer-key", "issuer_held", help="Where the issuer's key is held, like 'hsm:2?label=Clinic' or 'awskms:…'."
)
@click.option("--log-key", "log_held", help="The token that holds the log's Ed25519 key, like 'hsm:3?label=Log'.")
@no_password_option
@password_file_option
@json_option
def init(
    folder: Path,
    origin: str | None,
    issuer: str | None,
    algorithm: str,
    post_quantum: bool,
    issuer_held: str | None,
    log_held: str | None,
    no_password: bool,
    password_file: Path | None,
    as_json: bool,
) -> None:
    """Make a ledger.

    That is keys, an empty log, a vault, and the trust file to hand out. Keys may be held elsewhere: in a PKCS#11 token, or, the
    issuer's, by a cloud's key service. PYKCS11LIB names the token's library, CERTIFY_PIN or a prompt gives its PIN.

    \b
    Examples:
        certify init
        certify init clinic --origin clinic.example/ledger --issuer "Example Clinic"
        certify init clinic --issuer-key 'hsm:2?label=Clinic' --log-key 'hsm:3?label=Clinic'
    """
    from certify.workspace import Workspace

    origin = origin or f"unlearning.local/{secrets.token_hex(4)}"
    workspace = Workspace.init(
        folder,
        origin=origin,
        issuer=issuer or origin,
        password=new_password(no_password, password_file),
        algorithm=cast(Algorithm, algorithm),
        post_quantum=post_quantum,
        issuer_key=issuer_held,
        log_key=log_held,
    )
    with workspace:
        issuer_key = workspace.issuer_key.public
        keyid = issuer_key.keyid
    trust = folder / "trust.toml"
    value = {"ledger": str(folder), "origin": origin, "issuer": workspace.issuer, "keyid": keyid, "trust": str(trust)}
    emit(
        as_json,
        value,
        good(f"a new ledger in {folder}"),
        *fields(
            ("log", origin),
            (
                "issuer",
                f"{workspace.issuer}, key {keyid[:16]} ({issuer_key.algorithm}){f', in {issuer_held}' if issuer_held else ''}",
            ),
            ("trust file", f"{trust}  (hand it to those who verify)"),
            ("keys", f"{folder / 'keys'}  (back them up apart from the log)"),
        ),
        "next: certify train-commit --help, or certify fit --help",
    )


@click.command()
@click.argument("file", type=OUTPUT)
@algorithm_option
@click.option("--in", "held", help="Make it in a PKCS#11 token instead, like 'hsm:2?label=Clinic'.")
@no_password_option
@password_file_option
@json_option
def keygen(
    file: Path, algorithm: str, held: str | None, no_password: bool, password_file: Path | None, as_json: bool
) -> None:
    """Make a key that signs statements.

    It goes into an encrypted PKCS#8 file, with its public half beside it. With --in it is made in a token, which it never leaves,
    and only its public half is written.

    \b
    Examples:
        certify keygen auditor.pem --algorithm ed25519      # and auditor.pem.pub
        certify keygen clinic --in 'hsm:2?label=Clinic'     # clinic.pub
    """
    public_file = file.with_name(file.name + ".pub")
    if public_file.exists():
        raise InputError(f"{public_file} exists already: name another file")
    if held is not None:
        from certify import signers

        public = signers.generate(held, cast(Algorithm, algorithm)).public
    else:
        key = SigningKey.generate(cast(Algorithm, algorithm))
        key.save(file, new_password(no_password, password_file))
        public = key.public
    public_file.write_text(public.pem())
    where = held if held is not None else str(file)
    value = {"key": where, "public": str(public_file), "keyid": public.keyid, "algorithm": algorithm}
    emit(as_json, value, *fields(("key", where), ("public key", public_file), ("key id", public.keyid)))


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
