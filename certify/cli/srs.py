"""certify srs: reference strings, which zk proofs are made and verified with."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from certify.cli.options import FILE, json_option
from certify.cli.output import bad, dim, emit, fields, good, plain, progress, table

if TYPE_CHECKING:
    from circuits.srs_store import Stored

LOGROWS = click.IntRange(1, 26)
USUAL = 11
"""What circuits use unless told otherwise; its file has 0.3 MB."""
_SLOW = 17
_FORGEABLE = (
    "whoever made it can forge proofs: verifiers refuse it unless told --allow-development-srs, and then grade nothing above "
    "attested"
)


@click.group()
def srs() -> None:
    """Get and check the reference strings of zk proofs.

    \b
    The ceremony's files (perpetual powers of tau) are known by their SHA-256. logrows 11 is what circuits use unless
    told otherwise; a larger one makes proofs shorter and files larger: 0.3 MB for 11, 2.1 MB for 14, 8.4 MB for 16.
    The folders in CERTIFY_SRS are looked into, otherwise the user's cache and EZKL's.
    """


@srs.command()
@json_option
def status(as_json: bool) -> None:
    """Show which reference strings are here, what they are, and what is missing.

    \b
    Example:
        certify srs status
    """
    from circuits import srs_store
    from circuits.srs import file_name, folders_of

    folders, target = folders_of(os.environ), srs_store.destination(os.environ)
    found = list(srs_store.stored(folders))
    usable = [
        item.logrows
        for item in found
        if item.used and item.kind == "ceremony" and item.path.name == file_name(item.logrows)
    ]
    provable = [logrows for logrows in usable if logrows > 1]
    next_ = None if provable and 1 in usable else f"certify srs fetch {USUAL if not provable else 1}"
    if as_json:
        value = {
            "folders": list(map(str, folders)),
            "filesGoTo": str(target),
            "files": [_described(item) for item in found],
            "ready": {"verify": 1 in usable, "prove": provable},
            "next": next_,
        }
        emit(True, value)
        return
    if found:
        table(("logrows", "bytes", "kind", "path", "note"), [_row(item) for item in found])
    else:
        click.echo("no reference strings are here yet")
    develops = any(item.kind == "development" for item in found)
    lines = fields(
        ("looked into", ", ".join(plain(str(folder)) for folder in folders)),
        ("files go to", plain(str(target))),
        ("to verify", good("ready") if 1 in usable else "missing: kzg1.srs of the ceremony, 516 bytes"),
        (
            "to prove",
            good(f"ready, with logrows {', '.join(map(str, provable))}")
            if provable
            else f"missing: a larger one of the ceremony, usually kzg{USUAL}.srs",
        ),
    )
    emit(False, None, *lines)
    if develops:
        click.echo(f"{bad('DEVELOPMENT')}: {_FORGEABLE}")
    if next_:
        click.echo(f"next: {next_}  {dim('(no network here? fetch it elsewhere, then certify srs import FILE)')}")


def _described(item: "Stored") -> dict[str, Any]:
    value: dict[str, Any] = {"logrows": item.logrows, "path": str(item.path), "size": item.size, "kind": item.kind}
    return value | {"used": item.used, "sha256": item.digest or None, "note": item.note or None}


def _row(item: "Stored") -> tuple[str, str, str, str, str]:
    kind = item.kind if item.kind == "ceremony" else item.kind.upper()
    notes = [plain(item.note)] * bool(item.note) + ["not used: the one above is"] * (not item.used)
    return str(item.logrows), f"{item.size:,}", kind, plain(str(item.path)), "; ".join(notes)


@srs.command()
@click.argument("logrows", type=LOGROWS, nargs=-1, required=True)
@click.option("--url", help="Another mirror: https, http or file; {logrows} in it is replaced. What comes is checked.")
@json_option
def fetch(logrows: tuple[int, ...], url: str | None, as_json: bool) -> None:
    """Download files of the ceremony, and keep what verifiers need of them (kzg1.srs) beside.

    What comes must have the ceremony's SHA-256, so neither the server nor the way needs trust.

    \b
    Examples:
        certify srs fetch 11
        certify srs fetch 14 16 --url 'http://mirror.example/kzg{logrows}.srs'
    """
    from circuits import srs_store
    from circuits.srs import CEREMONY, size_of

    if url is not None and "{logrows}" not in url and len(logrows) > 1:
        raise click.UsageError("an address without {logrows} is that of one file: give one LOGROWS")
    folder = srs_store.destination(os.environ)
    mirrors = srs_store.MIRRORS if url is None else (url,)
    done: list[Path] = []
    for k in logrows:
        with progress(f"fetching kzg{k}.srs", size_of(k)) as update:
            try:
                done.append(srs_store.fetch(k, folder, mirrors, progress=update))
            except srs_store.FetchError as reason:
                raise srs_store.FetchError(
                    f"{reason}. Where there is no network, download it on another machine and bring it here with "
                    "certify srs import FILE"
                ) from None
    value = [
        {"logrows": k, "path": str(path), "size": size_of(k), "kind": "ceremony", "sha256": CEREMONY[k]}
        for k, path in zip(logrows, done, strict=True)
    ]
    lines = [f"{good('ceremony')}  {plain(str(path))}" for path in done]
    emit(as_json, value, *lines, dim(f"what verifiers need of it: {plain(str(folder / 'kzg1.srs'))}"))


@srs.command("import")
@click.argument("files", type=FILE, nargs=-1, required=True)
@click.option("--development", is_flag=True, help="Take one that is not the ceremony's, under a name that says so.")
@json_option
def import_(files: tuple[Path, ...], development: bool, as_json: bool) -> None:
    """Check reference strings from elsewhere and copy them to where they are looked for.

    \b
    Examples:
        certify srs import kzg11.srs
        certify srs import ours.srs --development
    """
    from circuits import srs_store
    from circuits.srs import load

    folder = srs_store.destination(os.environ)
    value, lines = [], []
    for file in files:
        path = srs_store.bring_in(file, folder, development=development)
        made = load(path)
        stated: dict[str, Any] = {"kind": "ceremony"}
        if made.development:
            stated = {"kind": "development", "warning": _FORGEABLE}
        value.append(
            {"logrows": made.logrows, "path": str(path), "size": len(made.data), "sha256": made.digest} | stated
        )
        lines += _development_lines(path) if made.development else [f"{good('ceremony')}  {plain(str(path))}"]
    emit(as_json, value, *lines)


@srs.command()
@click.argument("logrows", type=LOGROWS)
@json_option
def develop(logrows: int, as_json: bool) -> None:
    """Make a reference string for development. Whoever made it can forge proofs.

    \b
    Example:
        certify srs develop 11
    """
    from circuits import srs_store
    from circuits.srs import file_name, load

    folder = srs_store.destination(os.environ)
    if logrows >= _SLOW and sys.stderr.isatty():
        click.echo(f"this takes about {2 ** (logrows - 16) // 3} minutes on two cores", err=True)
    path = srs_store.develop(logrows, folder)
    value = {"logrows": logrows, "path": str(path), "size": path.stat().st_size, "kind": "development"}
    lines = _development_lines(path)
    if (folder / file_name(logrows)).exists():
        lines.append(f"{file_name(logrows)} is there too, and is used first")
    emit(as_json, value | {"sha256": load(path).digest, "warning": _FORGEABLE}, *lines)


def _development_lines(path: Path) -> list[str]:
    return [f"{bad('DEVELOPMENT')}  {plain(str(path))}", f"{bad('for development only')}: {_FORGEABLE}"]
