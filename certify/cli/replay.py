"""certify replay: run a certificate's recipe again, and say whether the same bits came out."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from certify.cli.key_files import log_each, public_keys, signing_key
from certify.cli.options import FILE, OUTPUT, LedgerFolder, id_column_option, json_option, ledger_option, needs_zk
from certify.cli.output import bad, dim, emit, fields, folded, good, plain, strong
from certify.errors import InputError, ReplayError
from certify.inputs import read_file, write_file

if TYPE_CHECKING:
    from certify.records import Records
    from certify.replay import Target
    from certify.statement import Replay


@click.command()
@click.argument("bundle", type=FILE)
@click.option("--data", type=FILE, required=True, help="The training records, in their order: .csv or .jsonl.")
@id_column_option
@click.option("--field", help="The record is this field of each line, not the whole line.")
@click.option("--recipe", type=FILE, required=True, help="The Python file with unlearn().")
@click.option("--key", type=FILE, required=True, help="The replayer's private key (certify keygen).")
@click.option("--salts", type=FILE, help="What the operator made with certify audit salts: are these the data?")
@click.option("--before", type=FILE, help="The weights to start from: safetensors. Without, the recipe's train().")
@click.option("--trust", "-t", type=FILE, help="Verify the bundle first, by this trust file.")
@click.option("--ledger", "-l", type=LedgerFolder(), envvar="CERTIFY_LEDGER", help="Append the statement to this log.")
@click.option("--output", "-o", type=OUTPUT, default=Path("replay.dsse.json"), show_default=True)
@click.option("--keep", type=OUTPUT, help="Keep the weights that came out, as safetensors.")
@json_option
@needs_zk()
def replay(
    bundle: Path,
    data: Path,
    id_column: str | None,
    field: str | None,
    recipe: Path,
    key: Path,
    salts: Path | None,
    before: Path | None,
    trust: Path | None,
    ledger: Path | None,
    output: Path,
    keep: Path | None,
    as_json: bool,
) -> None:
    """Run a certificate's recipe again and compare the weights bit for bit; sign what came out, whatever it is.

    A recipe is one Python file with unlearn(records, removed, parameters, seeds), which gives a state dict; see
    certify/replay.py. It runs in a process of its own, with the variables, threads and switches of the original run. What cannot
    be made as it was is told first, and stands in the statement. It can do all that you can do on this machine: read it first.

    The statement (replay/v1) is written to --output, and appended to the log with --ledger. The operator can append it as well
    (certify replay-log). Bundles made afterwards have it.

    \b
    Examples:
        certify keygen replayer.pem
        certify replay case.bundle --data patients.jsonl --recipe recipe.py --key replayer.pem --trust trust.toml
        certify replay case.bundle --data patients.jsonl --recipe recipe.py --key replayer.pem --salts audit.salts --ledger ledger

    \b
    Exit codes:
        0 identical                     19 data, recipe or weights before are not the certificate's
        61 different: signed as well     3 the recipe failed: nothing is signed
    """
    import shutil

    from certify import replay as replays
    from certify.audit_salts import MAX_SALTS, Salts
    from certify.bundle import MAX_BUNDLE_SIZE, Bundle

    content = read_file(bundle, MAX_BUNDLE_SIZE + 1)
    if trust is not None:
        _verify(content, trust)
    signer = signing_key(key)
    about = replays.target(Bundle.parse(content))
    digest = replays.read_recipe(recipe)
    named = replays.check_recipe(about, digest)
    opened = Salts.parse(read_file(salts, MAX_SALTS)) if salts is not None else None
    matched = replays.match_data(about, _records(data, id_column, field), opened)
    if before is not None:
        replays.check_before(about, before)
    for path in (output, keep):
        if path is not None and path.exists():
            raise InputError(f"{path} exists")
    with replays.prepare(about, recipe, matched, before) as job:
        _announce(
            about, digest, named, matched.checked is not None, matched.unchecked, trust is not None, job.not_pinned
        )
        result = job.run()
        if keep is not None:
            shutil.copyfile(result.file, keep)
    said = replays.state(about, digest, matched, result)
    envelope = replays.signed(signer, said)
    write_file(output, envelope.data)
    entry: int | None = None
    if ledger is not None:
        from certify.workspace import Workspace

        with Workspace(ledger) as workspace:
            entry = replays.log_envelope(workspace, envelope.data, [signer.public])[0].index
    value = {
        "outcome": said.outcome,
        "tensorRoot": said.model.tensor_root,
        "expected": about.certificate.post.tensor_root,
        "differing": said.differing,
        "names": said.names,
        "recipe": digest,
        "recipeNamed": named,
        "dataChecked": said.data is not None,
        "unchecked": said.unchecked,
        "notPinned": said.not_pinned,
        "statement": str(output),
        "digest": envelope.digest,
        "entry": entry,
    }
    emit(as_json, value, *_outcome(said, about.certificate.post.tensor_root, output, entry))
    if said.outcome != "identical":
        raise click.exceptions.Exit(ReplayError.exit_code)


@click.command("replay-log")
@ledger_option
@click.argument("files", type=FILE, nargs=-1, required=True)
@click.option("--replayer", "replayers", type=FILE, multiple=True, help="Public key of who signed; repeatable.")
@json_option
def replay_log(ledger: Path, files: tuple[Path, ...], replayers: tuple[Path, ...], as_json: bool) -> None:
    """Log a replay that was signed elsewhere, as it came.

    For a replayer who has no token for the log. Bundles made afterwards contain it.

    \b
    Example:
        certify replay-log replay.dsse.json --replayer replayer.pem.pub
    """
    from certify.replay import log_envelope

    known = public_keys(replayers)
    log_each(
        ledger,
        files,
        lambda workspace, data: log_envelope(workspace, data, known),
        "replayer's public key with --replayer",
        as_json,
    )


def _verify(content: bytes, trust: Path) -> None:
    """As 'certify verify', but that audits and replays that failed are no reason not to replay."""
    from certify import verifier
    from certify.trust import Trust

    verifier.verify(
        content, Trust.load(trust), allow_development_srs=True, allow_failed_audit=True, allow_failed_replay=True
    )


def _records(data: Path, id_column: str | None, field: str | None) -> "Records":
    import json

    from certify.records import read_records, record_bytes

    rows = read_records(data, id_column)
    if field is None:
        return rows
    found = []
    for record_id, row in rows:
        value = json.loads(row)
        if field not in value:
            raise InputError(f"record {record_id!r} in {data} has no {field!r}, expected one (--field)")
        found.append((record_id, record_bytes(value[field], name=f"record {record_id!r}")))
    return found


def _announce(
    about: "Target", digest: str, named: bool, checked: bool, unchecked: int, verified: bool, not_pinned: Sequence[str]
) -> None:
    """What is about to run, and what is not as it was: on stderr, before it runs."""

    def tell(line: str) -> None:
        click.echo(line, err=True)

    method = about.certificate.method
    told = "it names this recipe" if named else bad("it names no recipe: this one may have been written afterwards")
    data = bad("not compared with what was committed to: no --salts")
    if checked:
        data = f"those committed to at training{f', but {unchecked} that could not be compared' if unchecked else ''}"
    for line in fields(
        ("certificate", f"entry {about.case.index}, {about.case.digest}, method {plain(method.name)}"),
        ("verified", "yes" if verified else bad("no: give --trust")),
        ("recipe", f"{digest}; {told}"),
        ("data", data),
        ("to get", about.certificate.post.tensor_root),
    ):
        tell(line)
    if not not_pinned:
        tell("all that the certificate records of its environment is set as it was")
    else:
        tell(strong("Not as it was, and bits may differ for it:"))
        for what in not_pinned:
            for line in folded(plain(what), 4, first="  - "):
                tell(line)
    tell(dim("running the recipe"))
    sys.stderr.flush()


def _outcome(said: "Replay", expected: str, output: Path, entry: int | None) -> list[str]:
    lines = [good("IDENTICAL: the recipe gave the certificate's weights, bit for bit")]
    if said.outcome != "identical":
        names = ", ".join(map(plain, said.names[:8])) + (", …" if said.differing > 8 else "")
        lines = [bad(f"DIFFERENT: {said.differing} tensors are not the certificate's"), *fields(("tensors", names))]
    lines += fields(("got", said.model.tensor_root), ("expected", expected))
    lines.append(f"wrote {output}" + (f", logged as entry {entry}" if entry is not None else ""))
    lines.append(
        "next, by the operator: certify bundle, which then has it"
        if entry is not None
        else f"next, by the operator: certify replay-log {output}, then certify bundle"
    )
    return lines
