"""certify log migrate, backup, restore: where the log is kept. None of them needs a password."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from certify.cli.options import OUTPUT, json_option, ledger_option
from certify.cli.output import bad, emit, good, plain, progress

if TYPE_CHECKING:
    from certify.workspace import Workspace
    from ledger.log import Log
    from ledger.storage import Place


@click.command()
@ledger_option
@click.argument("to", metavar="TO")
@json_option
def migrate(ledger: Path, to: str, as_json: bool) -> None:
    """Move the log to another database: TO is a postgresql:// URL with the schema after '#', or the ledger's log.db again.

    Every entry is copied and hashed again; the root has to be the one that was signed, and the checkpoint stays what it is, so
    that whatever was proven before still holds. The old database stays, marked as left: it can be read, not appended to. Cut
    off, the same command goes on. Passwords belong in ~/.pgpass, not in TO: the URL is written to certify.toml.

    \b
    Examples:
        certify log migrate "postgresql://ledger@db.example.com/certificates#log"
        certify log migrate log.db
    """
    from certify.issuer import set_field
    from certify.workspace import Workspace
    from ledger.migrate import migrate as move
    from ledger.storage import name_of

    with Workspace(ledger) as workspace:
        place = _place(workspace, to)
        config = workspace.path / "certify.toml"
        with _opened(workspace) as source:
            before = name_of(workspace.log_place)
            with progress("copying", _extent(source), unit="entries") as update:
                signed = move(source, place, update)
        set_field(config, "log", None if isinstance(place, Path) else place)
    value = {"from": before, "to": name_of(place), "size": signed.size, "root": signed.root.hex()}
    emit(
        as_json,
        value,
        good(f"{signed.size} entries are now in {plain(name_of(place))}, under the checkpoint that they had"),
        f"{plain(before)} stays as it was, and takes no more entries",
    )


@click.command()
@ledger_option
@click.argument("file", type=OUTPUT)
@json_option
def backup(ledger: Path, file: Path, as_json: bool) -> None:
    """Write a copy of the log to FILE while others go on appending: one moment of it, hashed again, and read back.

    Keep it apart from keys/log.seen, which is how the log notices that an older copy of it was put back.

    \b
    Example:
        certify log backup /backups/log-2026-11-21.db
    """
    from certify.workspace import Workspace
    from ledger.backup import backup as save

    with Workspace(ledger) as workspace, _opened(workspace) as source:
        with progress("copying", _extent(source), unit="entries") as update:
            signed = save(source, file, update)
    emit(
        as_json,
        {"file": str(file), "size": signed.size, "root": signed.root.hex()},
        good(f"{signed.size} entries, root {signed.root.hex()}"),
    )


@click.command()
@ledger_option
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--to", metavar="URL", help="Restore to this place instead, and use it from now on: postgresql://…#schema"
)
@click.option(
    "--rest",
    metavar="SOURCE",
    help="Take what the backup lacks from here: the URL of a server or mirror, or a folder that 'certify log export' wrote.",
)
@json_option
def restore(ledger: Path, file: Path, to: str | None, rest: str | None, as_json: bool) -> None:
    """Put a backup back. A log.db that is there is set aside, not overwritten; a database that has a log is not touched.

    A backup may be older than what the log has signed since: keys/log.seen knows. Then the log can be read, but does not append,
    because that would sign a second history. With --rest the missing entries are added, and all is as it was.

    \b
    Examples:
        certify log restore /backups/log-2026-11-21.db
        certify log restore /backups/log-2026-11-21.db --rest https://mirror.example/log
    """
    from certify.issuer import set_field
    from certify.workspace import Workspace
    from ledger.backup import restore as put_back
    from ledger.source import open_source
    from ledger.watermark import Watermark

    with Workspace(ledger) as workspace:
        place = _place(workspace, to) if to is not None else _own_place(workspace)
        seen_path = workspace.path / "keys" / "log.seen"
        mark = Watermark(seen_path) if seen_path.exists() else None
        seen = mark.note() if mark is not None else None
        source = open_source(rest) if rest is not None else None
        into = place.with_name(f"{place.name}.restoring") if isinstance(place, Path) else place
        try:
            with progress("copying", seen[1].size if seen is not None else 0, unit="entries") as update:
                signed = put_back(
                    file, into, workspace.log_keys(), update, newest=seen[0] if seen is not None else None, rest=source
                )
        finally:
            for opened in (mark, source):
                if opened is not None:
                    opened.close()
        aside = None
        if isinstance(place, Path) and isinstance(into, Path):
            aside = _set_aside(place)
            into.rename(place)
        set_field(workspace.path / "certify.toml", "log", None if isinstance(place, Path) else place)
    lacking = max(0, seen[1].size - signed.size) if seen is not None else 0
    value = {"size": signed.size, "root": signed.root.hex(), "lacking": lacking, "aside": str(aside) if aside else None}
    lines = [good(f"{signed.size} entries, root {signed.root.hex()}")]
    if aside is not None:
        lines.append(f"the log that was here is now {aside}")
    if lacking:
        lines += [
            f"{bad('older')}  the log has signed {signed.size + lacking} entries: {lacking} are missing, and it will not append",
            "restore a newer backup, or this one with --rest and whoever still has them: an export, a mirror, a monitor",
        ]
    emit(as_json, value, *lines)


def _place(workspace: "Workspace", to: str) -> "Place":
    from urllib.parse import parse_qs, urlsplit

    from certify.errors import InputError
    from ledger.storage import POSTGRES

    own = workspace.path / "log.db"
    if to.startswith(POSTGRES):
        parts = urlsplit(to)
        if parts.password is not None or "password" in parse_qs(parts.query):
            raise InputError(
                "expected a URL without a password, as it is written to certify.toml: put it into ~/.pgpass"
            )
        return to
    if to == "log.db" or Path(to).absolute() == own.absolute():
        return own
    raise InputError(f"expected a postgresql:// URL or {own}, got {to[:80]!r}")


def _own_place(workspace: "Workspace") -> "Place":
    from certify.errors import InputError

    if workspace.is_remote:
        raise InputError("the log of this ledger is served elsewhere: it is backed up and restored there")
    return workspace.log_place


def _opened(workspace: "Workspace") -> "Log":
    """The log for reading, checked against its watermark, final or not."""
    from ledger.log import Log

    watermark = workspace.path / "keys" / "log.seen"
    return Log.open(
        _own_place(workspace),
        verifier_keys=workspace.log_keys(),
        watermark=watermark if watermark.exists() else None,
    )


def _set_aside(path: Path) -> Path | None:
    """Move a log's files out of the way."""
    if not path.exists():
        return None
    number = 1
    while (aside := path.with_name(f"{path.name}.replaced-{number}")).exists():
        number += 1
    for side in ("-wal", "-shm", ""):
        old = Path(f"{path}{side}")
        if old.exists():
            old.rename(f"{aside}{side}")
    return aside


def _extent(opened: "Log") -> int:
    with opened.snapshot() as (_, head):
        return head.size
