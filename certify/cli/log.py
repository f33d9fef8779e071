"""certify log: the log itself. Reading needs no password."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from certify.cli.exit_codes import FSCK_FOUND
from certify.cli.log_storage import backup, migrate, restore
from certify.cli.options import OUTPUT, json_option, ledger_option
from certify.cli.output import bad, emit, good, plain, progress, table
from certify.cli.timestamp import timestamp

if TYPE_CHECKING:
    from certify.workspace import Workspace
    from ledger.log import Log


@click.group()
def log() -> None:
    """Look into the log: checkpoint, proofs, entries, time stamps, and a check of everything in it."""


for command in (timestamp, migrate, backup, restore):
    log.add_command(command)


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
@json_option
def cosign(ledger: Path, as_json: bool) -> None:
    """Have the newest checkpoint cosigned by the witnesses in the ledger's policy.txt. Needs no password.

    Appending does so by itself. This is for what was appended while too few witnesses answered, for the first time after a
    policy was written or changed, and to add cosignatures of witnesses that were late.

    \b
    Example:
        certify log cosign

    \b
    Exit codes:
        50 there is no quorum
    """
    from certify.errors import InputError
    from certify.workspace import Workspace
    from ledger.checkpoint import Checkpoint
    from ledger.log import Log
    from ledger.note import Note

    with Workspace(ledger) as workspace:
        reader = workspace.reader
        if not isinstance(reader, Log):
            raise InputError("the log is served elsewhere: its operator has it cosigned")
        note = Note.parse(reader.cosign())
    head = Checkpoint.parse(note.text)
    names = sorted({line.name for line in note.signatures} - {head.origin})
    value = {"origin": head.origin, "size": head.size, "cosigned": names, "note": note.format().decode()}
    emit(as_json, value, good(f"{head.size} entries, cosigned by {plain(', '.join(names) or 'nobody')}"))


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
    from hashlib import sha256

    from certify.envelope import Envelope
    from certify.errors import StatementError
    from certify.keyring import claimed_time
    from certify.statement import Statement
    from certify.times import format_time
    from certify.workspace import Workspace

    rows: list[tuple[str, str, str, str, str]] = []
    with Workspace(ledger) as workspace:
        for index, data in workspace.reader.entries(first, None if last is None else last + 1):
            try:
                statement = Statement.parse(Envelope.parse(data).payload)
            except StatementError:  # a log may be shared, and hold anything
                rows.append((str(index), "no statement", "", sha256(data).hexdigest(), ""))
                continue
            about = statement.subjects[0]
            time = format_time(claimed_time(statement))
            rows.append(
                (str(index), statement.kind, time, sha256(data).hexdigest(), f"{about.name} {about.sha256[:16]}")
            )
    if as_json:
        names = ("index", "kind", "time", "digest", "subject")
        emit(True, [dict(zip(names, (int(row[0]), *(cell or None for cell in row[1:])), strict=True)) for row in rows])
    elif rows:
        table(("entry", "kind", "stated time", "digest", "subject"), rows)
    else:
        click.echo("the log is empty so far: certify train-commit --help")


@log.command()
@ledger_option
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@json_option
def export(ledger: Path, folder: Path, as_json: bool) -> None:
    """Write the log to DIR as files that any web server or object store can serve (C2SP tlog-tiles).

    Run it again to add what is new: only that is written, and the checkpoint last, so that whoever reads meanwhile finds a
    whole tree. A DIR with a larger tree, or another history of it, is refused. Copy 'tile' before 'checkpoint' to other places.

    \b
    Example:
        certify log export /var/www/log
    """
    from certify.errors import InputError
    from certify.workspace import Workspace
    from ledger.export import export as write
    from ledger.log import Log

    with Workspace(ledger) as workspace:
        reader = workspace.reader
        if not isinstance(reader, Log):
            raise InputError(f"the log of {ledger} is served elsewhere: export it there")
        with progress("exporting", reader.size(), unit="entries") as update:
            done = write(reader, folder, update)
    value = {"before": done.before, "size": done.size, "written": done.written, "removed": done.removed}
    since = f", {done.size - done.before} of them new" if done.before is not None else ""
    emit(as_json, value, good(f"{done.size} entries{since}; {done.written} files written, {done.removed} removed"))


@log.command()
@ledger_option
@json_option
def fsck(ledger: Path, as_json: bool) -> None:
    """Recompute the whole log and compare it with all that is stored and signed. Names what is wrong.

    Of a log that somebody else serves, everything that is served: checkpoint, tiles and entries.

    \b
    Exit codes:
        0 nothing found     39 something is wrong
    """
    from certify.workspace import Workspace

    with Workspace(ledger) as workspace:
        if workspace.is_remote:
            size, findings = _fsck_served(workspace)
        else:
            size, findings = _fsck_stored(workspace)
    if as_json:
        emit(True, {"entries": size, "findings": findings})
    else:
        for finding in findings:
            click.echo(f"{bad('wrong')}  {plain(finding)}")
        click.echo(f"{len(findings)} findings" if findings else good(f"{size} entries, nothing wrong"))
    if findings:
        raise click.exceptions.Exit(FSCK_FOUND)


def _fsck_served(workspace: "Workspace") -> tuple[int, list[str]]:
    from ledger.monitor import check
    from ledger.source import open_source

    size = workspace.reader.size()  # which compares with what was seen before
    source = open_source(str(workspace.log_place))
    try:
        with progress("checking", size, unit="entries") as update:
            return size, check(source, workspace.log_keys(), progress=lambda done, _total: update(done))
    finally:
        source.close()


def _fsck_stored(workspace: "Workspace") -> tuple[int, list[str]]:
    from ledger import fsck as checker
    from ledger.log import Log

    keys = workspace.log_keys()
    watermark = workspace.path / "keys" / "log.seen"
    with Log.open(
        workspace.log_place,
        verifier_keys=keys,
        watermark=watermark if watermark.exists() else None,
        check=False,
    ) as opened:
        with progress("checking", _extent(opened), unit="entries") as update:
            findings = list(checker.check(opened, lambda done, _total: update(done)))
        return _extent(opened), findings


def _extent(opened: "Log") -> int:
    with opened.snapshot() as (_, head):
        return head.size
