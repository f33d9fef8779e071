"""certify export: a case in the formats of other tools."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from certify.cli.options import FILE, OUTPUT, WEIGHTS, Time, json_option, ledger_option
from certify.cli.output import dim, emit, fields, good, plain, progress
from certify.errors import InputError, WorkspaceError
from certify.inputs import read_file, write_file

if TYPE_CHECKING:
    from certify.formats.source import Source
    from certify.workspace import Workspace

Command = Callable[..., Any]


def case_options(command: Command) -> Command:
    """The bundle, and what it takes to verify it."""
    for option in (
        click.option("--at", type=Time(), help="Verify as of this time.  [default: now]"),
        click.option(
            "--trust",
            "-t",
            type=FILE,
            help="Verify with this trust file. Without it, the export says 'not verified here'.",
        ),
        click.argument("bundle", type=FILE),
    ):
        command = option(command)
    return command


def output_option(default: str | None, help_: str) -> Callable[[Command], Command]:
    return click.option(
        "--output",
        "-o",
        type=OUTPUT,
        default=Path(default) if default else None,
        show_default=bool(default),
        help=help_,
    )


@click.group()
def export() -> None:
    """Write a case in the formats of other tools: signatures, provenance, bills of materials, cards.

    No export says more than the certificate does. One that could state a grade has to be told whom to believe (--trust);
    then the case is verified first, and a case that is refused is not exported. With --at, the same files give the same
    bytes.

    \b
    Example:
        certify export modelcard case.bundle README.md --trust trust.toml
    """


@export.command()
@case_options
@click.argument("model", type=WEIGHTS)
@ledger_option
@output_option("model.sig", "The signature to write.")
@click.option("--public-key", type=OUTPUT, help="Write the issuer's public key there, for those who verify.")
@click.option("--ignore", multiple=True, help="A path in the model's folder to leave out; repeatable.")
@json_option
def oms(
    bundle: Path,
    trust: Path | None,
    at: datetime | None,
    model: Path,
    ledger: Path,
    output: Path,
    public_key: Path | None,
    ignore: tuple[str, ...],
    as_json: bool,
) -> None:
    """Sign the certified model's files as OpenSSF model signing does (OMS v1.0), with the issuer's key.

    MODEL is the folder, or the one file, that the certificate is about: others are not signed. The signature says who signed
    these files, and nothing of forgetting. The signature itself and the public key are left out where they are in the folder;
    name with --ignore what may change later, like README.md.

    \b
    Examples:
        certify export oms case.bundle model/ -o model.sig --public-key issuer.pub
        model_signing verify key model/ --signature model.sig --public_key issuer.pub
    """
    from certify.cli.options import read_weights
    from certify.files import IGNORED, hash_files
    from certify.formats import oms as format_

    source = _source(bundle, trust, at)
    for path in ignore:
        if not path.isprintable() or Path(path).is_absolute() or ".." in Path(path).parts:
            raise InputError(f"cannot leave out {path!r}: expected a path in the model's folder")
    left_out = [*ignore, *_inside(model, output), *(_inside(model, public_key) if public_key else [])]
    _keep(output, [bundle, trust, public_key], model)
    total = (
        sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
        if model.is_dir()
        else model.stat().st_size
    )
    with progress("hashing files", total) as update:
        files = hash_files(model, ignore=[*IGNORED, *left_out], progress=update)
    if not format_.named(source, files):
        format_.check_model(source, read_weights([model], "weights").root().hex())
    with _ledger_of(source, ledger) as workspace:
        key = workspace.issuer_key
        name = model.resolve().name
        data = format_.signature(name, files, key, single=not model.is_dir(), ignore=left_out)
        if public_key is not None:
            write_file(public_key, key.public.pem().encode())
    write_file(output, data)
    value = {"signature": str(output), "files": len(files), "keyid": key.public.keyid, "certificate": source.digest}
    note = f"next: model_signing verify key {model} --signature {output} --public_key {public_key or 'issuer.pub'}"
    emit(as_json, value, good(f"signed {len(files)} files of {plain(name)}: wrote {plain(str(output))}"), plain(note))


@export.command()
@case_options
@output_option("certificate.sigstore.json", "The file to write.")
@json_option
def sigstore(bundle: Path, trust: Path | None, at: datetime | None, output: Path, as_json: bool) -> None:
    """Wrap the certificate's signed envelope as a sigstore bundle (v0.3).

    Payload and signature are those in the log. Sigstore's tools verify ECDSA P-256; its bundle names the key by its id, so
    they have to be given the key itself.

    \b
    Example:
        certify export sigstore case.bundle -o certificate.sigstore.json
    """
    from certify.formats import sigstore as format_

    source = _source(bundle, trust, at)
    _write(output, format_.of_certificate(source), source, [bundle, trust], as_json)


@export.command()
@case_options
@output_option("claims.jsonl", "The file to append to.")
@json_option
def claims(bundle: Path, trust: Path | None, at: datetime | None, output: Path, as_json: bool) -> None:
    """Append the case's statements to a claims.jsonl, each a sigstore bundle on a line of its own.

    Lines that are there stay as they are, and what is there already is not appended again. A file with anything else in it
    is refused, and so is one whose last line is cut off.

    \b
    Example:
        certify export claims case.bundle -o model/claims.jsonl
    """
    from certify.formats import claims as format_

    source = _source(bundle, trust, at)
    _keep(output, [bundle, trust])
    done = format_.append(output, format_.claims_of(source))
    value = {
        "output": str(output),
        "certificate": source.digest,
        "verified": source.verified is not None,
        "before": done.before,
        "added": done.added,
        "present": done.present,
    }
    emit(
        as_json,
        value,
        good(f"appended {done.added} claims to {plain(str(output))}"),
        *fields(("before", f"{done.before} lines, {done.present} of them from this case"), ("case", source.standing)),
    )


@export.command()
@case_options
@click.option(
    "--sign", is_flag=True, help="Sign with the ledger's issuer key. The certificate has to be in that ledger."
)
@ledger_option
@output_option("provenance.intoto.json", "The file to write.")
@json_option
def slsa(
    bundle: Path, trust: Path | None, at: datetime | None, sign: bool, ledger: Path, output: Path, as_json: bool
) -> None:
    """Write SLSA provenance (v1) of the unlearned model, with the model before and the requests as dependencies.

    With --sign in a DSSE envelope by the issuer's key; else the bare statement, which says that nobody signed it. It is the
    operator's word either way: no SLSA level follows.

    \b
    Examples:
        certify export slsa case.bundle
        certify export slsa case.bundle --sign --ledger ledger -o provenance.dsse.json
    """
    from certify.formats import slsa as format_

    source = _source(bundle, trust, at)
    if sign:
        with _ledger_of(source, ledger) as workspace:
            data = format_.provenance(source, workspace.issuer_key)
    else:
        data = format_.unsigned(source)
    _write(output, data, source, [bundle, trust], as_json, signed=sign)


@export.command()
@case_options
@click.option("--name", help="What the model is called.  [default: after its tensor root]")
@click.option("--url", help="Where the bundle can be had; its SHA-256 is stated beside it.")
@output_option("model.cdx.json", "The file to write.")
@json_option
def cyclonedx(
    bundle: Path,
    trust: Path | None,
    at: datetime | None,
    name: str | None,
    url: str | None,
    output: Path,
    as_json: bool,
) -> None:
    """Write a CycloneDX 1.7 ML-BOM of the unlearned model, with the certificate as an external reference.

    \b
    Example:
        certify export cyclonedx case.bundle --trust trust.toml --url https://clinic.example/case.bundle
    """
    from certify.formats import cyclonedx as format_

    source = _source(bundle, trust, at)
    _write(output, format_.bom(source, name=name, url=_url(url)), source, [bundle, trust], as_json)


@export.command()
@case_options
@click.argument("card", type=OUTPUT)
@json_option
def modelcard(bundle: Path, trust: Path | None, at: datetime | None, card: Path, as_json: bool) -> None:
    """Put a section about the certificate into a model card, and metadata into its YAML.

    CARD is the README.md, made if there is none. Both blocks stand between markers; nothing else in the file changes, and
    the command can be run again. The section has a grade only with --trust.

    \b
    Examples:
        certify export modelcard case.bundle README.md
        certify export modelcard case.bundle README.md --trust trust.toml
    """
    from certify.formats import modelcard as format_

    source = _source(bundle, trust, at)
    _keep(card, [bundle, trust])
    if card.is_symlink():
        raise InputError(f"{card} is a symbolic link, expected the card itself: it would be replaced")
    before = read_file(card, format_.MAX_CARD_SIZE) if card.exists() else b""
    _write(card, format_.insert(before, source), source, [], as_json)


@export.command()
@case_options
@click.option("--name", help="What the data are called.  [default: after the dataset root]")
@click.option("--url", help="Where the bundle can be had.  [default: the bundle's file name]")
@output_option("croissant.json", "The file to write.")
@json_option
def croissant(
    bundle: Path,
    trust: Path | None,
    at: datetime | None,
    name: str | None,
    url: str | None,
    output: Path,
    as_json: bool,
) -> None:
    """Write Croissant metadata that refers to the training data by their dataset root. There is no record in them.

    \b
    Example:
        certify export croissant case.bundle --name patients
    """
    from certify.formats import croissant as format_

    source = _source(bundle, trust, at)
    _write(output, format_.metadata(source, name=name, url=_url(url)), source, [bundle, trust], as_json)


def _source(bundle: Path, trust: Path | None, at: datetime | None) -> "Source":
    from certify.bundle import MAX_BUNDLE_SIZE
    from certify.formats.source import read
    from certify.times import now
    from certify.trust import MAX_TRUST_SIZE

    if at is not None and trust is None:
        raise InputError("--at is the time of a verification: give --trust too")
    believed = read_file(trust, MAX_TRUST_SIZE + 1) if trust is not None else None
    data = read_file(bundle, MAX_BUNDLE_SIZE + 1)
    return read(data, name=bundle.name, trust=believed, now=(at or now()).replace(microsecond=0))


def _ledger_of(source: "Source", ledger: Path) -> "Workspace":
    """The ledger that issued the certificate. Raises WorkspaceError: nobody signs about others' certificates by mistake."""
    from certify.workspace import Workspace

    workspace = Workspace(ledger)
    try:
        logged = workspace.find(source.digest)
        if workspace.vault.note(f"kind/unlearning/{logged.index:012d}") is None:
            raise WorkspaceError(f"certificate {source.digest[:16]} is in the log of {ledger}, but by another issuer")
    except BaseException:
        workspace.close()
        raise
    return workspace


def _inside(model: Path, output: Path) -> list[str]:
    """The output's path in the model's folder, where it is in there."""
    folder, place = model.resolve(), output.parent.resolve() / output.name
    return [place.relative_to(folder).as_posix()] if model.is_dir() and place.is_relative_to(folder) else []


def _keep(output: Path, read: list[Path | None], model: Path | None = None) -> None:
    """Raise InputError rather than write over what is read."""
    if any(path is not None and output.exists() and path.exists() and output.samefile(path) for path in [*read, model]):
        raise InputError(f"expected another file to write to, got {output}, which is read: choose one with -o")


def _url(url: str | None) -> str | None:
    from urllib.parse import urlsplit

    if url is None:
        return None
    try:
        parts = urlsplit(url)
        fine = url.isascii() and url.isprintable() and not set(url) & set(' "<>\\^`{|}')
        if fine and parts.scheme in ("https", "http") and parts.hostname and parts.username is None:
            return url
    except ValueError:
        pass
    raise InputError(
        f"not an address: {url[:80]!r}, expected like https://clinic.example/case.bundle, without a password"
    )


def _write(
    output: Path, data: bytes, source: "Source", read: list[Path | None], as_json: bool, *, signed: bool | None = None
) -> None:
    _keep(output, read)
    write_file(output, data)
    value: dict[str, Any] = {
        "output": str(output),
        "bytes": len(data),
        "certificate": source.digest,
        "verified": source.verified is not None,
    }
    lines = [("certificate", source.digest), ("case", source.standing)]
    if source.verified is not None:
        value["grade"] = source.verified.report.grade
    if signed is not None:
        value["signed"] = signed
        lines.append(("signature", "by the issuer's key" if signed else dim("none")))
    emit(as_json, value, good(f"wrote {plain(str(output))}, {len(data):,} bytes"), *fields(*lines))
