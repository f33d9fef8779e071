"""certify log: the log itself. Reading needs no password."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from certify.cli.exit_codes import FSCK_FOUND
from certify.cli.options import OUTPUT, json_option, ledger_option
from certify.cli.output import bad, emit, good, plain, progress, table

if TYPE_CHECKING:
    from ledger.log import Log


@click.group()
def log() -> None:
    """Look into the log: checkpoint, proofs, entries, and a check of everything in it."""


@log.command()
@ledger_option
@json_option
def checkpoint(ledger: Path, as_json: bool) -> None:
    """Print the signed checkpoint (C2SP tlog-checkpoint): publish it, or keep it to hold the log to it later.

    \b
    Example:
        certify log checkpoint > today.checkpoint
    """
    from certify.workspace import Workspace
    from ledger.checkpoint import Checkpoint
    from ledger.note import Note

    with Workspace(ledger) as workspace:
        note = workspace.reader.checkpoint()
    head = Checkpoint.parse(Note.parse(note).text)
    value = {"origin": head.origin, "size": head.size, "root": head.root.hex(), "note": note.decode()}
    emit(as_json, value, note.decode().rstrip("\n"))


@log.command()
@ledger_option
@click.argument("entry")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["tlog-proof", "merkletools", "json"]),
    default="tlog-proof",
    show_default=True,
    help="merkletools checks with a hash function that prepends 0x01.",
)
@click.option("--output", "-o", type=OUTPUT, help="Write to this file instead of the terminal.")
@json_option
def prove(ledger: Path, entry: str, format_: str, output: Path | None, as_json: bool) -> None:
    """Print the inclusion proof of ENTRY (index or digest) under the current checkpoint.

    \b
    Examples:
        certify log prove 2 -o entry-2.tlog-proof
        certify log prove 2 --format merkletools
    """
    from certify.workspace import Workspace
    from ledger.checkpoint import Checkpoint
    from ledger.merkle import leaf_hash
    from ledger.note import Note
    from ledger.proof import to_merkletools

    with Workspace(ledger) as workspace:
        logged = workspace.find(entry)
        proof = workspace.reader.prove(logged.index)
    head = Checkpoint.parse(Note.parse(proof.checkpoint).text)
    leaf = leaf_hash(logged.envelope.data)
    if as_json or format_ == "json":
        value = {
            "index": proof.index,
            "size": head.size,
            "leafHash": leaf.hex(),
            "path": [hash_.hex() for hash_ in proof.path],
            "root": head.root.hex(),
            "checkpoint": proof.checkpoint.decode(),
        }
        text = json.dumps(value, indent=2) + "\n"
    elif format_ == "merkletools":
        value = {
            "targetHash": leaf.hex(),
            "merkleRoot": head.root.hex(),
            "proof": to_merkletools(proof.index, head.size, proof.path),
        }
        text = json.dumps(value, indent=2) + "\n"
    else:
        text = proof.format().decode()
    if output is not None:
        output.write_text(text, encoding="utf-8")
    else:
        click.echo(text, nl=False)


@log.command()
@ledger_option
@click.option("--from", "first", type=click.IntRange(0), default=0, show_default=True, help="First entry.")
@click.option("--to", "last", type=click.IntRange(0), help="Last entry.  [default: the newest]")
@json_option
def entries(ledger: Path, first: int, last: int | None, as_json: bool) -> None:
    """List what the log holds.

    \b
    Examples:
        certify log entries
        certify log entries --from 100 --json
    """
    from certify.keyring import claimed_time
    from certify.times import format_time
    from certify.workspace import Workspace

    rows: list[tuple[str, str, str, str, str]] = []
    with Workspace(ledger) as workspace:
        for logged in workspace.statements(first, None if last is None else last + 1):
            about = logged.statement.subjects[0]
            time = format_time(claimed_time(logged.statement))
            rows.append(
                (str(logged.index), logged.statement.kind, time, logged.digest, f"{about.name} {about.sha256[:16]}")
            )
    if as_json:
        names = ("index", "kind", "time", "digest", "subject")
        emit(True, [dict(zip(names, (int(row[0]), *row[1:]), strict=True)) for row in rows])
    elif rows:
        table(("entry", "kind", "stated time", "digest", "subject"), rows)
    else:
        click.echo("the log is empty so far: certify train-commit --help")


@log.command()
@ledger_option
@json_option
def fsck(ledger: Path, as_json: bool) -> None:
    """Recompute the whole log and compare it with all that is stored and signed. Names what is wrong.

    \b
    Exit codes:
        0 nothing found     39 something is wrong
    """
    from certify.workspace import Workspace
    from ledger import fsck as checker
    from ledger.log import Log

    with Workspace(ledger) as workspace:
        keys = workspace.log_keys()
        watermark = workspace.path / "keys" / "log.seen"
        with Log.open(
            workspace.path / "log.db",
            verifier_keys=keys,
            watermark=watermark if watermark.exists() else None,
            check=False,
        ) as opened:
            with progress("checking", _extent(opened), unit="entries") as update:
                findings = list(checker.check(opened, lambda done, _total: update(done)))
            size = _extent(opened)
    if as_json:
        emit(True, {"entries": size, "findings": findings})
    else:
        for finding in findings:
            click.echo(f"{bad('wrong')}  {plain(finding)}")
        click.echo(f"{len(findings)} findings" if findings else good(f"{size} entries, nothing wrong"))
    if findings:
        raise click.exceptions.Exit(FSCK_FOUND)


def _extent(opened: "Log") -> int:
    with opened.snapshot() as (_, head):
        return head.size
