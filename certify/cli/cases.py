"""From training to a case: train-commit, request, issue, bundle, receipt, shred."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from certify.cli.options import (
    FILE,
    OUTPUT,
    WEIGHTS,
    How,
    Pair,
    Time,
    id_column_option,
    json_option,
    ledger_option,
    read_weights,
    run_options,
    weight_files,
)
from certify.cli.output import emit, fields, good, progress
from certify.errors import InputError
from certify.fields import Scalar
from certify.inputs import read_file
from certify.statement import Base, Request, Scope, Training, Unlearning

if TYPE_CHECKING:
    from certify.certificate import Made
    from certify.statement import Utility
    from certify.workspace import Logged, Workspace

MAX_IDS_FILE = 256 << 20
Pairs = tuple[tuple[str, Scalar], ...]

_data = click.option("--data", type=FILE, help="Records: .csv with a header, or .jsonl.")
_tied = click.option("--tied", type=Pair(), multiple=True, help="A tied tensor that the files left out, as name=kept.")


@click.command("train-commit")
@ledger_option
@click.option("--data", type=FILE, required=True, help="The training records: .csv with a header, or .jsonl.")
@id_column_option
@click.option("--weights", "-w", type=WEIGHTS, multiple=True, required=True, help="Safetensors files or folder.")
@_tied
@click.option(
    "--base",
    multiple=True,
    metavar="[NAME=]BUNDLE|NAME=DIGEST",
    help="A model it started from: its maker's bundle, or its tensor root; repeatable.",
)
@click.option("--licence", multiple=True, help="Its licence, as you understand it: one for each --base, in order.")
@click.option(
    "--base-trust",
    type=FILE,
    multiple=True,
    help="Verify the bundles by these: one for each that is a bundle, in order.",
)
@run_options
@json_option
def train_commit(
    ledger: Path,
    data: Path,
    id_column: str | None,
    weights: tuple[Path, ...],
    tied: Pairs,
    base: tuple[str, ...],
    licence: tuple[str, ...],
    base_trust: tuple[Path, ...],
    how: How,
    as_json: bool,
) -> None:
    """Log a model and the data it was trained on.

    Do so before anybody asks to be forgotten: a request counts only against a training that is in the log already. A model
    that was made from another names that one: from its maker's bundle come its tensor root, its maker's statement and log, so
    that a verifier can follow the chain ('certify verify --upstream').

    \b
    Examples:
        certify train-commit --data patients.csv --weights model.safetensors --method adam --param epochs=40 --seed 7
        certify train-commit --data patients.csv --weights tuned.safetensors --method lora
            --base vision-7b=base.bundle --base-trust base-trust.toml --licence apache-2.0
    """
    from certify import certificate
    from certify.records import read_records
    from certify.workspace import Workspace

    bases = _bases(base, licence, base_trust)
    records = read_records(data, id_column)
    with Workspace(ledger) as workspace:
        made = _made(weights, tied, "weights", how)
        with progress("committing to records", len(records), unit="records") as update:
            logged = certificate.log_training(workspace, made, records, bases, update)
    training = cast(Training, logged.statement.predicate)
    value = {
        "entry": logged.index,
        "digest": logged.digest,
        "datasetRoot": training.dataset.root,
        "records": training.dataset.count,
        "tensorRoot": training.model.tensor_root,
    }
    emit(
        as_json,
        value,
        good(f"training logged as entry {logged.index}"),
        *fields(
            ("digest", logged.digest),
            ("data", f"{training.dataset.count} records, root {training.dataset.root}"),
            ("weights", f"{training.model.tensors} tensors, root {training.model.tensor_root}"),
        ),
    )


def _bases(named: tuple[str, ...], licences: tuple[str, ...], trusts: tuple[Path, ...]) -> list[Base]:
    """What --base names, from bundles where it names bundles.

    Raises InputError, or UpstreamError for a bundle that does not verify.
    """
    from certify.bundle import MAX_BUNDLE_SIZE
    from certify.statement import checked
    from certify.upstream import base_of

    if licences and len(licences) != len(named):
        raise InputError(
            f"expected a --licence for each of {len(named)} --base, in the same order, got {len(licences)}"
        )
    found: list[Base] = []
    bundles: list[tuple[Path, bytes]] = []
    for text, licence in zip(named, licences or [None] * len(named), strict=True):
        name, equals, target = text.partition("=")
        path = Path(target if equals else text)
        if path.is_file():
            data = read_file(path, MAX_BUNDLE_SIZE + 1)
            bundles.append((path, data))
            found.append(base_of(data, name if equals else path.stem, licence))
        elif equals:
            found.append(checked(Base(name, target, licence)))
        else:
            raise InputError(
                f"expected --base as a bundle, name=bundle or name=SHA-256, got {text[:80]!r}: no such file"
            )
    if trusts:
        _verify_bases(bundles, trusts)
    return found


def _verify_bases(bundles: "list[tuple[Path, bytes]]", trusts: tuple[Path, ...]) -> None:
    from certify.trust import Trust
    from certify.upstream import Bundled
    from certify.verifier import verify_upstream

    if len(trusts) != len(bundles):
        raise InputError(f"expected a --base-trust for each of {len(bundles)} bundles of bases, got {len(trusts)}")
    for (path, data), trust in zip(bundles, trusts, strict=True):
        verify_upstream(Bundled(path.name, data, Trust.load(trust)))


def _made(weights: tuple[Path, ...], tied: Pairs, what: str, how: How) -> "Made":
    from certify import environment
    from certify.certificate import Made, new_run_id

    return Made(
        manifest=read_weights(weights, what, tied),
        method=how.stated_method(),
        run=how.stated_run(new_run_id()),
        environment=environment.describe(Path.cwd()),
        files=weight_files(weights),
        metrics=how.stated_metrics(),
    )


@click.command()
@ledger_option
@_data
@id_column_option
@click.option("--id", "ids", multiple=True, help="Id of a record that must be forgotten; repeatable.")
@click.option("--ids-file", type=FILE, help="Such ids, one a line.")
@click.option(
    "--scope",
    type=click.Choice(["records", "subject", "class", "concept", "client"]),
    default="records",
    show_default=True,
)
@click.option("--what", multiple=True, help="For another scope: what must be forgotten, in words (kept in the vault).")
@click.option("--ground", default="gdpr-17", show_default=True, help="Legal ground, as a code.")
@click.option("--received", type=Time(), help="When the request came in.  [default: now]")
@click.option("--due", type=Time(), help="When it is due.  [default: a month after it was received]")
@click.option("--note", help="Free text; stays in the vault and never enters the log.")
@json_option
def request(
    ledger: Path,
    data: Path | None,
    id_column: str | None,
    ids: tuple[str, ...],
    ids_file: Path | None,
    scope: str,
    what: tuple[str, ...],
    ground: str,
    received: datetime | None,
    due: datetime | None,
    note: str | None,
    as_json: bool,
) -> None:
    """Log a request to forget.

    What enters the log is a salted commitment, which identifies nobody.

    \b
    Examples:
        certify request --data patients.csv --id 17 --id 42 --ground gdpr-17
        certify request --scope class --what "digit 3" --ground contract
    """
    from certify.request import file_request
    from certify.workspace import Workspace

    records = _requested(scope, data, id_column, [*ids, *_lines(ids_file)], what)
    with Workspace(ledger) as workspace:
        logged = file_request(
            workspace, records, ground=ground, scope=cast(Scope, scope), received=received, due=due, note=note
        )
    predicate = cast(Request, logged.statement.predicate)
    value = {
        "entry": logged.index,
        "digest": logged.digest,
        "forgetRoot": predicate.forget.root,
        "count": predicate.forget.count,
        "received": predicate.received,
        "due": predicate.due,
    }
    emit(
        as_json,
        value,
        good(f"request logged as entry {logged.index}"),
        *fields(
            ("digest", logged.digest),
            ("to forget", f"{predicate.forget.count} ({scope}), root {predicate.forget.root}"),
            ("due", predicate.due),
        ),
    )


def _requested(
    scope: str, data: Path | None, id_column: str | None, ids: list[str], what: tuple[str, ...]
) -> dict[str, bytes]:
    if scope != "records":
        if not what or data or ids:
            raise InputError(f"a request about a {scope} is described with --what, and takes no --data or --id")
        try:
            return {text: text.encode() for text in what}
        except UnicodeEncodeError as error:
            raise InputError(f"--what is not valid Unicode: {error}") from error
    if data is None or not ids or what:
        raise InputError("a request about records names them: give --data and --id (or --ids-file)")
    from certify.records import read_records

    known = dict(read_records(data, id_column))
    missing = [record_id for record_id in ids if record_id not in known]
    if missing:
        raise InputError(
            f"{data} has no record {', '.join(map(repr, missing[:5]))}; it has {len(known)}, like {next(iter(known), '')!r}"
        )
    return {record_id: known[record_id] for record_id in ids}


def _lines(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        text = read_file(file, MAX_IDS_FILE).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8, expected record ids, one a line") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


@click.command()
@ledger_option
@click.option(
    "--request", "-r", "requests", multiple=True, required=True, help="Entry or digest of a request; repeatable."
)
@click.option("--pre", type=WEIGHTS, multiple=True, required=True, help="Weights before: safetensors files or folder.")
@click.option("--post", type=WEIGHTS, multiple=True, required=True, help="Weights after.")
@_tied
@click.option("--utility-before", type=float, help="The figure that must not fall, of the weights before.")
@click.option("--utility-after", type=float, help="The same, of the weights after.")
@click.option("--floor", type=float, help="The least that it may be after: below, nothing is issued.")
@click.option("--drop", type=float, help="The most that it may lose; with --floor, both hold.")
@click.option("--utility-metric", default="retain accuracy", show_default=True, help="What the figure is called.")
@run_options
@json_option
def issue(
    ledger: Path,
    requests: tuple[str, ...],
    pre: tuple[Path, ...],
    post: tuple[Path, ...],
    tied: Pairs,
    utility_before: float | None,
    utility_after: float | None,
    floor: float | None,
    drop: float | None,
    utility_metric: str,
    how: How,
    as_json: bool,
) -> None:
    """Issue a certificate.

    For weights that were made to forget elsewhere; inside Python, certify.unlearning() does it all. With --utility-before,
    --utility-after and --floor (or --drop) a model that lost too much of its use gets no certificate, and one that passed states
    the figures.

    \b
    Examples:
        certify issue --request 1 --pre model.safetensors --post forgot.safetensors --method retrain
        certify issue --request 1 --pre model.safetensors --post forgot.safetensors --method own --recipe recipe.py
            --utility-before 0.97 --utility-after 0.96 --floor 0.95

    \b
    Exit codes:
        0 issued    60 below the floor: nothing was issued
    """
    from msgspec import to_builtins

    from certify.certificate import log_unlearning
    from certify.workspace import Workspace

    utility = _utility(utility_metric, utility_before, utility_after, floor, drop)
    with Workspace(ledger) as workspace:
        asked = [workspace.find(name) for name in requests]
        before = read_weights(pre, "weights before", tied)
        made = _made(post, tied, "weights after", how)
        logged = log_unlearning(workspace, made, pre=before, requests=asked, utility=utility)
    predicate = cast(Unlearning, logged.statement.predicate)
    changes = predicate.changes
    value = {
        "entry": logged.index,
        "digest": logged.digest,
        "tensorRoot": predicate.post.tensor_root,
        "changed": changes.changed,
        "unchanged": changes.unchanged,
        "removed": predicate.removed.count if predicate.removed else None,
        "retained": predicate.retained.count if predicate.retained else None,
        "utility": to_builtins(utility) if utility is not None else None,
    }
    emit(
        as_json,
        value,
        good(f"certificate issued as entry {logged.index}"),
        *fields(
            ("digest", logged.digest),
            ("weights", f"root {predicate.post.tensor_root}"),
            (
                "tensors",
                f"{changes.changed} changed, {changes.unchanged} the same, {changes.added} added, {changes.removed} gone",
            ),
            *(
                (
                    (
                        utility.metric,
                        f"{utility.before:.4g} before, {utility.after:.4g} after, floor {utility.floor:.4g}",
                    ),
                )
                if utility is not None
                else ()
            ),
        ),
        "next: certify bundle",
    )


def _utility(
    metric: str, before: float | None, after: float | None, floor: float | None, drop: float | None
) -> "Utility | None":
    """The figures of a gate that was passed. Raises GateError where it was not, InputError where something is missing."""
    from math import isfinite

    from certify.errors import GateError
    from certify.statement import Utility

    if before is None and after is None and floor is None and drop is None:
        return None
    given = [value for value in (before, after, floor, drop) if value is not None]
    if before is None or after is None or (floor is None and drop is None) or not all(map(isfinite, given)):
        raise InputError("a gate takes numbers for --utility-before, --utility-after, and --floor or --drop")
    least = max(value for value in (floor, before - drop if drop is not None else None) if value is not None)
    if after < least:
        raise GateError(
            f"{metric} fell from {before:.4g} to {after:.4g}, expected {least:.4g} or more: no certificate is issued"
        )
    return Utility(metric, before, after, least)


@click.command()
@ledger_option
@click.argument("certificate", required=False)
@click.option("--output", "-o", type=OUTPUT, default=Path("case.bundle"), show_default=True)
@click.option("--no-leaves", is_flag=True, help="Leave out the dataset's leaf hashes (32 bytes a record).")
@click.option("--no-timestamp", is_flag=True, help="Without time stamps: ask no authority.")
@json_option
def bundle(
    ledger: Path, certificate: str | None, output: Path, no_leaves: bool, no_timestamp: bool, as_json: bool
) -> None:
    """Write a case into one file for those who verify.

    CERTIFICATE is an entry or digest, by default the last one; a training's gives a bundle for those who verify a model that
    was made from its own (certify verify --upstream). Where certify.toml has a line like
    timestamping = "http://time.example/tsr", that authority stamps the checkpoint first (RFC 3161).

    \b
    Examples:
        certify bundle
        certify bundle 2 -o patient-17.bundle
    """
    from certify import case
    from certify.bundle import write
    from certify.workspace import Workspace

    with Workspace(ledger) as workspace:
        logged = workspace.find(certificate) if certificate else workspace.latest("unlearning")
        made = case.collect(workspace, logged, leaves=not no_leaves, stamps=not no_timestamp)
        write(output, made)
    size = output.stat().st_size
    what = "training" if isinstance(logged.statement.predicate, Training) else "certificate"
    value = {
        "bundle": str(output),
        "bytes": size,
        what: logged.digest,
        "entries": [e.index for e in made.entries],
        "timestamps": len(made.timestamps),
    }
    emit(
        as_json,
        value,
        good(f"wrote {output}, {size:,} bytes"),
        *fields((what, f"entry {logged.index}, {logged.digest}"), ("statements", len(made.entries))),
        *(fields(("time stamps", len(made.timestamps))) if made.timestamps else ()),
        f"next: certify verify {output} --trust {ledger / 'trust.toml'}"
        if what == "certificate"
        else "next, by whoever made a model from it: certify train-commit --base",
    )


@click.command()
@ledger_option
@click.option("--request", "-r", "request_name", required=True, help="Entry or digest of the request.")
@click.option("--training", help="Entry or digest of the training.  [default: the first that has the record]")
@click.option("--data", type=FILE, required=True, help="The file that the request was made from.")
@id_column_option
@click.option("--id", "record_id", required=True, help="The data subject's record.")
@click.option("--output", "-o", type=OUTPUT, default=Path("receipt.json"), show_default=True)
@json_option
def receipt(
    ledger: Path,
    request_name: str,
    training: str | None,
    data: Path,
    id_column: str | None,
    record_id: str,
    output: Path,
    as_json: bool,
) -> None:
    """Write a data subject's receipt.

    With it they check that their own record is what was forgotten. It holds their record in the clear: give it to
    them and to nobody else.

    \b
    Example:
        certify receipt --request 1 --data patients.csv --id 17 -o patient-17.receipt.json
    """
    from certify.records import read_records
    from certify.request import make_receipt
    from certify.workspace import Workspace
    from ledger.keyfile import write_private

    record = dict(read_records(data, id_column)).get(record_id)
    if record is None:
        raise InputError(f"{data} has no record {record_id!r}")
    with Workspace(ledger) as workspace:
        asked = workspace.find(request_name)
        trained = workspace.find(training) if training else _training_with(workspace, record_id)
        made = make_receipt(workspace, asked, trained, record_id, record)
    write_private(output, made.to_json())
    value = {"receipt": str(output), "request": asked.index, "training": trained.index}
    emit(
        as_json,
        value,
        good(f"wrote {output} (mode 0600: it holds personal data)"),
        f"they run: certify verify case.bundle --trust trust.toml --receipt {output}",
    )


def _training_with(workspace: "Workspace", record_id: str) -> "Logged":
    for logged in workspace.of_kind("training"):
        training = logged.statement.predicate
        if isinstance(training, Training) and workspace.vault.find(training.dataset.root, record_id):
            return logged
    raise InputError(f"no training in this ledger has a record {record_id!r}")


@click.command()
@ledger_option
@click.argument("request_name", metavar="REQUEST")
@click.confirmation_option(
    prompt="The request's openings cannot be recovered, and no receipt can be made. Destroy them?"
)
@json_option
def shred(ledger: Path, request_name: str, as_json: bool) -> None:
    """Destroy a request's openings in the vault.

    And those of its records in every training. The log stays as it is and still verifies: without openings its
    entries are noise. Backups of the vault are beyond this.

    \b
    Example:
        certify shred 1
    """
    from certify.request import shred_request
    from certify.workspace import Workspace

    with Workspace(ledger) as workspace:
        asked = workspace.find(request_name)
        destroyed = shred_request(workspace, asked)
    emit(
        as_json,
        {"request": asked.index, "destroyed": destroyed},
        good(f"destroyed {destroyed} openings of the request at entry {asked.index} and of its records in trainings"),
    )
