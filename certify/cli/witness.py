"""certify witness: cosign other people's logs, so that they cannot show two histories."""

import socket
from pathlib import Path

import click

from certify import passwords
from certify.cli.options import json_option
from certify.cli.output import bad, emit, fields, good, plain
from certify.cli.setup import new_password, no_password_option, password_file_option
from certify.errors import InputError

_folder = click.argument("folder", type=click.Path(file_okay=False, path_type=Path))


@click.group()
def witness() -> None:
    """Cosign the checkpoints of logs that you follow (C2SP tlog-witness).

    A witness remembers the last checkpoint of each log, and cosigns the next one only if it continues that. Who verifies a case
    and asks for its cosignature knows that the log showed everybody the same history, and by when. A witness never sees entries.
    """


@witness.command()
@_folder
@click.option("--name", required=True, help="A URL without scheme: w1.witness.example. It stands in every cosignature.")
@click.option("--post-quantum", is_flag=True, help="Cosign with ML-DSA-44 beside Ed25519.")
@no_password_option
@password_file_option
@json_option
def init(
    folder: Path, name: str, post_quantum: bool, no_password: bool, password_file: Path | None, as_json: bool
) -> None:
    """Make a witness: its keys, and a database in which no log stands yet.

    Hand the verifier keys to those whose logs you follow and to those who verify. Never put an old copy of witness.db back: the
    witness could then cosign a second history. One that lost its database starts anew under another name.

    \b
    Example:
        certify witness init w1 --name w1.witness.example
    """
    from ledger import witness_folder

    keys = witness_folder.create(
        folder, name, password=new_password(no_password, password_file), post_quantum=post_quantum
    )
    lines = [key.format() for key in keys]
    emit(
        as_json,
        {"folder": str(folder), "name": name, "keys": lines},
        good(f"a new witness in {folder}"),
        *fields(*((key.algorithm, line) for key, line in zip(keys, lines, strict=True))),
        f"next: certify witness add {folder} LOGKEY, then certify witness serve {folder}",
    )


@witness.command()
@_folder
@click.argument("log_keys", nargs=-1, required=True, metavar="LOGKEY...")
@json_option
def add(folder: Path, log_keys: tuple[str, ...], as_json: bool) -> None:
    """Follow the log with these verifier keys; a log that signs with two keys has two.

    Get the keys from the log's operator over a channel that you trust. A log that is followed already keeps what was cosigned,
    and has these keys from now on.

    \b
    Example:
        certify witness add w1 clinic.example/ledger+7be03f51+AQ…
    """
    from ledger import witness_folder
    from ledger.note import VerifierKey
    from ledger.witness import Witness

    witness_folder.verifier_keys(folder)
    with Witness.open(folder / witness_folder.DATABASE) as opened:
        followed = opened.follow([VerifierKey.parse(key) for key in log_keys])
    value = {"origin": followed.origin, "keys": len(followed.keys), "size": followed.checkpoint.size}
    emit(as_json, value, good(f"following {plain(followed.origin)}"))


@witness.command()
@_folder
@json_option
def show(folder: Path, as_json: bool) -> None:
    """Print the witness's keys, the logs it follows, and what it cosigned last.

    \b
    Example:
        certify witness show w1
    """
    from datetime import UTC, datetime

    from certify.cli.output import table
    from certify.times import format_time
    from ledger import witness_folder
    from ledger.witness import Witness

    keys = witness_folder.verifier_keys(folder)
    with Witness.open(folder / witness_folder.DATABASE) as opened:
        logs = opened.followed()
    value = {
        "name": keys[0].name,
        "keys": [key.format() for key in keys],
        "logs": [
            {
                "origin": log.origin,
                "size": log.checkpoint.size,
                "root": log.checkpoint.root.hex(),
                "cosigned": log.time or None,
                "note": log.note.decode() if log.note else None,
                "fork": log.fork.decode() if log.fork else None,
            }
            for log in logs
        ],
    }
    emit(as_json, value, *fields(("name", keys[0].name), *((key.algorithm, key.format()) for key in keys)))
    if as_json:
        return
    rows = [
        (
            log.origin,
            str(log.checkpoint.size),
            format_time(datetime.fromtimestamp(log.time, UTC)) if log.time else "never",
        )
        for log in logs
    ]
    if rows:
        table(("log", "size", "last cosigned"), rows)
    for log in logs:
        if log.fork is not None:
            click.echo(
                f"{bad('FORK')}  {plain(log.origin)} signed two histories; the proof is in --json, and "
                f"'certify monitor --check-fork' checks it"
            )


@witness.command()
@_folder
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8091, show_default=True, help="0: any that is free.")
@json_option
def serve(folder: Path, host: str, port: int, as_json: bool) -> None:
    """Answer logs that ask for a cosignature, until stopped.

    It speaks HTTP; put a web server with TLS before it, or keep it in a private network. Nobody logs in: a request counts by
    the log's signature. Logs submit to the address printed; monitors read what was cosigned last from the same.

    \b
    Example:
        certify witness serve w1 --port 8091
    """
    from ledger import witness_folder
    from ledger.witness_server import app, run

    password = passwords.obtain(f"password of the witness {folder}") if witness_folder.needs_password(folder) else None
    with witness_folder.open_witness(folder, password=password) as opened:
        assert opened.key is not None
        try:
            listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            raise InputError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        at = listener.getsockname()[1]
        url = f"http://[{host}]:{at}" if ":" in host else f"http://{host}:{at}"
        value = {"name": opened.key.name, "url": url, "logs": len(opened.followed())}
        emit(as_json, value, f"{plain(opened.key.name)} at {url}, following {value['logs']} logs; stop with Ctrl-C")
        run(app(opened), listener)
