"""certify connect: a ledger here whose log somebody serves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from certify.cli.options import FILE, json_option
from certify.cli.output import emit, fields, good
from certify.cli.setup import algorithm_option, new_password, no_password_option, password_file_option
from certify.errors import InputError
from certify.keys import Algorithm

Command = TypeVar("Command", bound=Callable[..., Any])


@click.command()
@click.argument("url", required=False)
@click.option(
    "--ledger",
    "-l",
    help="The folder to make; with --flush, the one to send from.  [default: one in your data folder, by the log's name]",
)
@click.option("--issuer", help="Who issues: your name, as statements and trust files give it.")
@click.option(
    "--log-key", "log_keys", multiple=True, help="Verifier key of the log; repeatable, then all have to sign."
)
@click.option(
    "--trust", type=FILE, help="Trust file of the log's operator: its log keys and witnesses count, nothing else."
)
@click.option("--token-file", type=FILE, help="Holds the token that the log's operator gave you (mode 0600).")
@click.option("--flush", is_flag=True, help="Connect nothing: send what waits in a ledger's outbox.")
@algorithm_option
@no_password_option
@password_file_option
@json_option
def connect(
    url: str | None,
    ledger: str | None,
    issuer: str | None,
    log_keys: tuple[str, ...],
    trust: Path | None,
    token_file: Path | None,
    flush: bool,
    algorithm: str,
    no_password: bool,
    password_file: Path | None,
    as_json: bool,
) -> None:
    """Make a ledger whose log is at URL, served by somebody: keys, vault and trust file stay here.

    Nothing is made unless the log there is signed by the keys that its operator gave you, over another channel. From then on
    the URL stands for the new ledger wherever one is named: in --ledger, in CERTIFY_LEDGER and in certify.training.

    \b
    Examples:
        certify connect https://log.example/ledger --issuer "Example Clinic" --trust trust.toml --token-file token
        certify request --ledger https://log.example/ledger --data patients.csv --id 17 --ground gdpr-17
        certify connect --flush --ledger https://log.example/ledger      # after the server was down
    """
    if flush:
        if any((issuer, log_keys, trust, token_file)):
            raise InputError(
                "--flush sends what waits and makes nothing: leave out --issuer, --log-key, --trust and --token-file"
            )
        _flush(ledger or url, as_json)
        return
    if url is None or issuer is None or bool(log_keys) == (trust is not None):
        raise InputError("expected the URL of a log, --issuer NAME, and either --log-key KEY or --trust FILE")
    from certify import connect as connecting
    from certify.passwords import from_file

    made = connecting.connect(
        url,
        connecting.of_keys(log_keys) if trust is None else connecting.of_trust(trust),
        issuer=issuer,
        folder=Path(ledger) if ledger else None,
        token=from_file(token_file).decode(errors="replace").strip() if token_file else None,
        password=new_password(no_password, password_file),
        algorithm=cast(Algorithm, algorithm),
    )
    value = {
        "ledger": str(made.folder),
        "url": made.url,
        "origin": made.origin,
        "entries": made.size,
        "issuer": made.issuer,
        "keyid": made.public_key.keyid,
        "publicKey": made.public_key.pem(),
        "urlStandsFor": str(made.stands_for),
    }
    emit(
        as_json,
        value,
        good(f"a new ledger in {made.folder}"),
        *fields(
            ("log", f"{made.origin} at {made.url}, {made.size} entries, signed by the keys that you gave"),
            ("issuer", f"{made.issuer}, key {made.public_key.keyid[:16]} ({algorithm})"),
            ("url stands for", f"{made.stands_for}"),
        ),
        "give the log's operator your public key, for 'certify serve token add NAME --issuer FILE':",
        made.public_key.pem().rstrip(),
        *([] if token_file else [f"there is no token yet: put it into {made.folder / 'keys' / 'token'}, mode 0600"]),
        f"next: certify train-commit --ledger {made.url if made.stands_for == made.folder else made.folder} --help",
    )


def _flush(ledger: str | None, as_json: bool) -> None:
    import os

    from certify.envelope import Envelope
    from certify.workspace import Workspace

    with Workspace(ledger or os.environ.get("CERTIFY_LEDGER") or "ledger") as workspace:
        sent = (
            [(index, Envelope.parse(data)) for data, index in workspace.flush().items()]
            if workspace.outbox.waiting()
            else []
        )
    emit(
        as_json,
        [{"entry": index, "digest": envelope.digest} for index, envelope in sent],
        *(f"entry {index}  {envelope.digest}" for index, envelope in sent),
        good(f"{len(sent)} sent, nothing is waiting" if sent else "nothing was waiting"),
    )
