"""certify log timestamp: ask a time-stamping authority when the log's checkpoint existed."""

from pathlib import Path

import click

from certify.cli.options import FILE, json_option, ledger_option
from certify.cli.output import emit, fields, good, plain
from certify.errors import InputError

MAX_ROOTS_FILE = 1 << 20


@click.command()
@ledger_option
@click.option("--tsa", metavar="URL", help="The authority.  [default: the one in certify.toml]")
@click.option(
    "--root", type=FILE, help="Its root certificates (PEM): believe it from now on, in the ledger's trust.toml."
)
@click.option("--name", help="What trust.toml calls it.  [default: the URL]")
@json_option
def timestamp(ledger: Path, tsa: str | None, root: Path | None, name: str | None, as_json: bool) -> None:
    """Have the checkpoint stamped with the time by an RFC 3161 authority, and keep the token.

    Bundles made under this checkpoint carry it. It shows that all that the log holds was logged by then, whatever the
    operator's own clock says; it counts for those whose trust.toml names the authority. Only the hash of the checkpoint
    goes to the authority.

    \b
    Examples:
        certify log timestamp --tsa http://time.example/tsr --root time-root.pem
        certify log timestamp
    """
    from certify import timestamping
    from certify.inputs import read_file
    from certify.times import format_time
    from certify.trust import Trust, accept_authority
    from certify.workspace import Workspace

    with Workspace(ledger) as workspace:
        url = tsa or workspace.timestamping
        if url is None:
            raise InputError('expected --tsa URL, or a line like timestamping = "URL" in certify.toml')
        text = timestamping.checkpoint_text(workspace.reader.checkpoint())
        trust_file = workspace.path / "trust.toml"
        roots = read_file(root, MAX_ROOTS_FILE).decode("ascii", "replace") if root is not None else None
        beliefs = timestamping.with_authority(Trust.load(trust_file), name or url, roots)
        stamp = timestamping.ask(url, text, trust=beliefs)
        by = next((authority for authority in beliefs.authorities if stamp.issued_under(authority.roots)), None)
        if roots is not None and by is None:
            raise InputError(
                f"the token is by {stamp.signer[:200]}, which {root} is not the root of: give the right one"
            )
        path = timestamping.keep(workspace.path / timestamping.FOLDER, text, stamp.data)
        added = by is not None and roots is not None and accept_authority(trust_file, by.name, roots)
    value = {
        "time": format_time(stamp.time),
        "authority": by.name if by else None,
        "signer": stamp.signer,
        "policy": stamp.policy,
        "file": str(path),
        "bytes": len(stamp.data),
        "verified": by is not None,
    }
    note = (
        f"{trust_file} names it now: hand the file out again"
        if added
        else f"nobody's trust.toml in this ledger names its root: give --root to verify it, and to have {trust_file} name it"
    )
    emit(
        as_json,
        value,
        good(f"stamped at {format_time(stamp.time)}"),
        *fields(("by", plain(by.name if by else stamp.signer[:200])), ("kept", path)),
        *([note] if added or by is None else []),
    )
