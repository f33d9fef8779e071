"""certify search: find statements in a log, here or behind a URL. Needs no password."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from certify.cli.options import FILE, OUTPUT, Time, json_option
from certify.cli.output import bad, dim, emit, good, plain, progress, table
from certify.errors import InputError, SearchError, StatementKeyError, WorkspaceError
from certify.statement import PREDICATES, PREFIX
from certify.trust import Trust, TrustedAuditor, TrustedIssuer, TrustedReplayer

if TYPE_CHECKING:
    from certify.search import Hit, Index
    from certify.workspace import Workspace
    from ledger.reader import LogReader

KINDS = [type_.removeprefix(PREFIX).removesuffix("/v1") for type_ in PREDICATES]
LIMIT = 50


@click.command()
@click.option(
    "--ledger",
    "-l",
    "place",
    default="ledger",
    envvar="CERTIFY_LEDGER",
    show_default=True,
    show_envvar=True,
    help="The ledger's folder, or the URL of any log.",
)
@click.option("--trust", "-t", type=FILE, help="For any log: whose it has to be.  [default: the ledger's]")
@click.argument("digest", required=False)
@click.option("--request", metavar="DIGEST", help="A request, by its digest or its forget root, and what answers it.")
@click.option("--file", metavar="SHA256", help="What names this file, or started from it.")
@click.option("--tensors", metavar="ROOT", help="What is about the model with this tensor root, before or after.")
@click.option("--issuer", help="What is signed by a name in trust.toml, or by a key id.")
@click.option("--kind", type=click.Choice(KINDS))
@click.option("--since", type=Time(), help="Stated time, from this on.")
@click.option("--until", type=Time(), help="Stated time, before this.")
@click.option("--limit", type=click.IntRange(1), default=LIMIT, show_default=True, help="Show the newest so many.")
@click.option(
    "--prove", "folder", type=click.Path(file_okay=False, path_type=Path), help="Write each with its tlog-proof."
)
@click.option("--rebuild", is_flag=True, help="Make the index anew from the log.")
@click.option("--check", is_flag=True, help="Compare the whole index with the log.")
@click.option(
    "--index",
    "index_file",
    type=OUTPUT,
    help="The index.  [default: in the ledger's folder or, for a URL, your cache]",
)
@json_option
def search(
    place: str,
    trust: Path | None,
    digest: str | None,
    request: str | None,
    file: str | None,
    tensors: str | None,
    issuer: str | None,
    kind: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    folder: Path | None,
    rebuild: bool,
    check: bool,
    index_file: Path | None,
    as_json: bool,
) -> None:
    """Find statements by a DIGEST that they name (whole, or its first 8 digits), and by what it is of.

    All that is given has to fit. Each entry that is found is read from the log again and checked there: an index that
    somebody altered can hide entries, which --check finds out, and cannot make any up.

    \b
    Examples:
        certify search 51c40e81d2ab
        certify search --file $(sha256sum model.safetensors | cut -c1-64)
        certify search --kind unlearning --issuer "Example Clinic" --since 2026-01-01T00:00:00Z
        certify search --request 51c40e81d2ab --prove proofs/
        certify search --ledger https://log.example/ --trust trust.toml --tensors 51c40e81d2ab
    """
    from certify.search import Index
    from certify.search_query import Query

    with _opened(place, trust) as (log, beliefs, default):
        path = index_file or default
        path.parent.mkdir(parents=True, exist_ok=True)
        query = Query(
            any=digest,
            request=request,
            file=file,
            tensors=tensors,
            keys=_keys(issuer, beliefs) if issuer else (),
            kind=kind,
            since=since,
            until=until,
        )
        with progress("reading the log", log.size(), unit="entries") as update:
            index = Index.rebuild(path, log, update) if rebuild else Index.open(path, log)
            with index:
                size = index.update(update)
                if check:
                    return _check(index, size, as_json)
                count = index.count(query)
                hits = list(index.find(query, limit=limit, newest=True))[::-1]
        proofs = _prove(log, hits, folder) if folder is not None else []
    _show(log.origin, size, count, hits, beliefs, proofs, as_json)
    return None


@contextmanager
def _opened(place: str, trust: Path | None) -> "Iterator[tuple[LogReader, Trust, Path]]":
    """A log for reading, what to believe, and where its index goes."""
    if "://" in place and trust is not None:
        beliefs = Trust.load(trust)
        with closing(_remote(place, beliefs)) as log:
            name = f"search-{sha256(log.origin.encode()).hexdigest()[:16]}.db"
            yield log, beliefs, Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "certify" / name
        return
    with _workspace(place) as workspace:
        beliefs = Trust.load(trust or workspace.path / "trust.toml")
        yield workspace.reader, beliefs, workspace.path / "search.db"


def _workspace(place: str) -> "Workspace":
    from certify.workspace import Workspace

    try:
        return Workspace(place)
    except WorkspaceError as error:
        if "://" not in place:
            raise
        raise InputError(f"{error}; or give --trust FILE, which says whose keys the log has to sign with") from error


def _remote(url: str, trust: Trust) -> "LogReader":
    """The log at ``url``: the only one of the trust file, or the one that it says it is."""
    from ledger.client import RemoteLog
    from ledger.source import HttpSource

    chosen = trust.logs[0]
    if len(trust.logs) > 1:
        with closing(HttpSource(url)) as source:
            claimed = source.checkpoint().split(b"\n", 1)[0].decode(errors="replace")
        chosen = next((log for log in trust.logs if log.origin == claimed), chosen)
    return RemoteLog(url, chosen.keys)


def _known(trust: Trust) -> tuple[TrustedIssuer | TrustedAuditor | TrustedReplayer, ...]:
    return (*trust.issuers, *trust.outsiders)


def _keys(issuer: str, trust: Trust) -> tuple[str, ...]:
    """The key ids of a name, or a key id as it is."""
    known = _known(trust)
    found = tuple(one.key.keyid for one in known if one.name == issuer)
    if not found and set(issuer) <= set("0123456789abcdef"):
        return (issuer,)
    if not found:
        names = ", ".join(sorted({one.name for one in known}))
        raise InputError(f"the trust file names nobody {issuer!r}, expected a key id or one of: {names}")
    return found


def _check(index: "Index", size: int, as_json: bool) -> None:
    findings = index.check()
    if as_json:
        emit(True, {"entries": size, "findings": findings})
    else:
        for finding in findings[:LIMIT]:
            click.echo(f"{bad('wrong')}  {plain(finding)}")
        click.echo(f"{len(findings)} findings" if findings else good(f"{size} entries, the index has them all"))
    if findings:
        raise click.exceptions.Exit(SearchError.exit_code)


def _prove(log: "LogReader", hits: "list[Hit]", folder: Path) -> list[Path]:
    from certify.inputs import write_file

    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for hit, proof in zip(hits, log.prove_all([hit.index for hit in hits]) if hits else [], strict=True):
        for suffix, data in (("dsse.json", hit.data), ("tlog-proof", proof.format())):
            written.append(folder / f"{hit.index:012d}.{suffix}")
            write_file(written[-1], data)
    return written


def _show(
    origin: str, size: int, count: int, hits: "list[Hit]", trust: Trust, proofs: list[Path], as_json: bool
) -> None:
    if as_json:
        value: dict[str, Any] = {
            "log": origin,
            "indexed": size,
            "found": count,
            "entries": [_described(hit, trust) for hit in hits],
            "files": [str(path) for path in proofs],
        }
        emit(True, value)
        return
    rows = [_described(hit, trust) for hit in hits]
    if rows:
        table(
            ("entry", "kind", "stated time", "digest", "signed by"),
            [
                (str(row["index"]), row["kind"], row["time"] or "", row["digest"], plain(", ".join(row["signedBy"])))
                for row in rows
            ],
        )
    shown = f"{count} found" if count == len(hits) else f"{count} found, the newest {len(hits)} shown (--limit)"
    click.echo(dim(f"{shown}; {size} entries searched, each of those shown was read from the log and checked"))
    if proofs:
        click.echo(good(f"wrote {len(proofs)} files to {proofs[0].parent}"))


def _described(hit: "Hit", trust: Trust) -> dict[str, Any]:
    from certify.keyring import claimed_time
    from certify.times import format_time

    statement = hit.statement
    return {
        "index": hit.index,
        "kind": statement.kind if statement else "other",
        "time": format_time(claimed_time(statement)) if statement else None,
        "digest": hit.digest,
        "signedBy": _signers(hit, trust),
        "subjects": [{"name": one.name, "sha256": one.sha256} for one in statement.subjects] if statement else [],
    }


def _signers(hit: "Hit", trust: Trust) -> list[str]:
    """Who signed, by name where the signature is by a key of the trust file; else the key that it names, unchecked."""
    from certify.envelope import PAYLOAD_TYPE, pae

    known = {one.key.keyid: one for one in _known(trust)}
    said: list[str] = []
    for signature in hit.envelope.signatures if hit.envelope is not None else ():
        one = known.get(signature.keyid or "")
        if one is None or hit.envelope is None:
            said.append(f"key {(signature.keyid or 'unnamed')[:16]}, unchecked")
            continue
        try:
            one.key.verify(signature.sig, pae(PAYLOAD_TYPE, hit.envelope.payload))
        except StatementKeyError:
            said.append(f"not {one.name}: the signature is wrong")
        else:
            said.append(one.name)
    return said
