"""``certify serve``: the log over HTTP, and the tokens of those who may append to it."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from certify.cli.options import Time, json_option, ledger_option
from certify.cli.output import bad, emit, fields, good, plain, strong, table

if TYPE_CHECKING:
    from certify.keys import PublicKey
    from certify.workspace import Workspace


class _LedgerFirst(click.Group):
    """Takes the ledger's folder where a command's name may be: ``certify serve ledger``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["--ledger", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_LedgerFirst, invoke_without_command=True, subcommand_metavar="[LEDGER] | token COMMAND …")
@ledger_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", "-p", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 is any free one.")
@click.option("--read-only", is_flag=True, help="Serve without the log's key: nobody can append.")
@json_option
@click.pass_context
def serve(ctx: click.Context, ledger: Path, host: str, port: int, read_only: bool, as_json: bool) -> None:
    """Serve the log over HTTP: checkpoint and tiles to everybody (C2SP tlog-tiles), appends to those with a token.

    An append is answered once the entry is durable and included under a signed checkpoint. Only statements are taken, signed
    by an issuer that the token is for. The log's folder or database may be served by several processes at once.

    It speaks plain HTTP. Put a reverse proxy with TLS in front of it before anybody else than this machine connects. Stop it
    with Ctrl-C or SIGTERM: what has begun is answered first.

    \b
    Example:
        certify serve token add cluster --issuer "Example Clinic"
        certify serve ledger --port 8080
        curl http://127.0.0.1:8080/checkpoint
        curl http://127.0.0.1:8080/openapi.json
    """
    if ctx.invoked_subcommand is not None:
        return
    from certify.workspace import Workspace
    from ledger.serving import serve as run

    with Workspace(ledger) as workspace:
        app = _app(workspace, read_only=read_only)
        run(app, host=host, port=port, announce=lambda url: _announce(workspace, url, host, read_only, as_json))


def _app(workspace: "Workspace", *, read_only: bool) -> Any:
    from certify import tokens
    from certify.admission import Admission
    from certify.errors import InputError
    from ledger.log import Log
    from ledger.server import app

    log = workspace.reader if read_only else workspace.log
    if not isinstance(log, Log):
        raise InputError(f"the log of {workspace.path} is served elsewhere already: {workspace.log_place}")
    if read_only:
        return app(log)
    path = workspace.path / tokens.FILE
    tokens.load(path)  # so that a mistake in it is noticed now
    return app(log, admit=Admission(path, workspace.path / "trust.toml", workspace.origin))


def _announce(workspace: "Workspace", url: str, host: str, read_only: bool, as_json: bool) -> None:
    import json
    import sys

    from certify import tokens
    from ledger.http import is_local
    from ledger.log import Log

    log = workspace.reader if read_only else workspace.log
    assert isinstance(log, Log)
    with log.snapshot() as (_, head):
        size = head.size
    count = 0 if read_only else len(tokens.load(workspace.path / tokens.FILE))
    if as_json:
        value = {"url": url, "origin": workspace.origin, "size": size, "readOnly": read_only, "tokens": count}
        click.echo(json.dumps(value))
    else:
        click.echo(f"{strong(plain(workspace.origin))}, {size} entries, at {good(url)}   (Ctrl-C to stop)")
        if not read_only and not count:
            click.echo("nobody has a token to append yet: certify serve token add --help")
    sys.stdout.flush()
    if not is_local(url):
        click.echo(
            f"{bad('warning:')} {host} can be reached from other machines, and this is plain HTTP: tokens could be read on the "
            f"way. Put a reverse proxy with TLS in front, and listen on 127.0.0.1",
            err=True,
        )


@serve.group()
def token() -> None:
    """Tokens: who may append to the served log, and with whose signature. Only their hashes are kept.

    A server that runs notices changes within a second.

    \b
    Example:
        certify serve token add cluster --issuer "Example Clinic"
    """


@token.command()
@ledger_option
@click.argument("name")
@click.option(
    "--issuer",
    "issuers",
    multiple=True,
    required=True,
    help="A name in trust.toml, or a file with a public key (PEM); repeatable.",
)
@click.option("--until", type=Time(), help="When the token ends, like 2027-01-01T00:00:00Z.  [default: never]")
@json_option
def add(ledger: Path, name: str, issuers: tuple[str, ...], until: datetime | None, as_json: bool) -> None:
    """Make a token NAME, and show it this once. Hand it over like a password.

    It lets its holder append statements that the issuer's key signed, and nothing else. If that key is rotated through this
    server, the token is for the new one too.

    \b
    Examples:
        certify serve token add cluster --issuer "Example Clinic"
        certify serve token add partner --issuer partner.pub --until 2027-01-01T00:00:00Z
    """
    from certify import tokens
    from certify.workspace import Workspace

    with Workspace(ledger) as workspace:
        names, keys = _issuers(workspace, issuers)
        secret = tokens.add(workspace.path / tokens.FILE, name, issuers=names, keys=keys, not_after=until)
        origin = workspace.origin
    value = {"name": name, "token": secret, "issuers": names, "keyids": [key.keyid for key in keys]}
    emit(
        as_json,
        value,
        *fields(("token", strong(secret)), ("for", plain(f"{origin}, {', '.join(issuers)}"))),
        "it is not shown again: store it where passwords are stored",
    )


def _issuers(workspace: "Workspace", given: tuple[str, ...]) -> "tuple[list[str], list[PublicKey]]":
    """Names that trust.toml knows, and keys from files."""
    from certify.errors import InputError
    from certify.inputs import read_file
    from certify.keys import PublicKey
    from certify.tokens import MAX_KEYS
    from certify.trust import Trust

    trust = Trust.load(workspace.path / "trust.toml")
    known = {issuer.name for issuer in trust.issuers} | {person.name for person in trust.outsiders}
    names, keys = [], []
    for one in given:
        if one in known:
            names.append(one)
        elif Path(one).is_file():
            keys.append(PublicKey.from_pem(read_file(Path(one), 1 << 16).decode(errors="replace")))
        else:
            raise InputError(
                f"{one!r} is neither a file with a public key nor an issuer in trust.toml, expected one of: "
                + ", ".join(sorted(known))
            )
    if len(keys) > MAX_KEYS:
        raise InputError(f"{len(keys)} keys, expected at most {MAX_KEYS}")
    return names, keys


@token.command("list")
@ledger_option
@json_option
def list_(ledger: Path, as_json: bool) -> None:
    """List the tokens: names and issuers, not the secrets.

    \b
    Example:
        certify serve token list
    """
    from certify import tokens
    from certify.times import format_time
    from certify.workspace import Workspace

    with Workspace(ledger) as workspace:
        known = tokens.load(workspace.path / tokens.FILE)
    if as_json:
        value = [
            {
                "name": one.name,
                "issuers": list(one.issuers),
                "keyids": [key.keyid for key in one.keys],
                "notAfter": format_time(one.not_after) if one.not_after is not None else None,
            }
            for one in known
        ]
        emit(True, value)
    elif known:
        rows = [
            (
                one.name,
                ", ".join([*one.issuers, *(key.keyid[:16] for key in one.keys)]),
                format_time(one.not_after) if one.not_after is not None else "",
            )
            for one in known
        ]
        table(("token", "issuers and keys", "until"), rows)
    else:
        click.echo("no tokens yet: certify serve token add --help")


@token.command()
@ledger_option
@click.argument("name")
@json_option
def revoke(ledger: Path, name: str, as_json: bool) -> None:
    """Take the token NAME back: from now on it is refused. What was logged with it stays.

    \b
    Example:
        certify serve token revoke cluster
    """
    from certify import tokens
    from certify.workspace import Workspace

    with Workspace(ledger) as workspace:
        tokens.revoke(workspace.path / tokens.FILE, name)
    emit(as_json, {"name": name, "revoked": True}, good(f"the token {plain(name)} is refused from now on"))
