"""certify verify: what a regulator, a customer or a court runs."""

from datetime import datetime
from pathlib import Path

import click

from certify.bundle import MAX_BUNDLE_SIZE
from certify.cli.options import FILE, WEIGHTS, Pair, Time, json_option
from certify.cli.output import bad, dim, emit, good, plain, progress, strong
from certify.errors import VerificationError
from certify.fields import Scalar
from certify.inputs import read_file
from certify.receipt import MAX_RECEIPT_SIZE
from certify.trust import Trust
from certify.verifier import TITLES, Given, Report, Step

Pairs = tuple[tuple[str, Scalar], ...]


@click.command()
@click.argument("bundle", type=FILE)
@click.option("--trust", "-t", type=FILE, required=True, help="The trust file: whose keys you believe.")
@click.option(
    "--weights", "-w", type=WEIGHTS, multiple=True, help="Safetensors files or folder to compare with the certificate."
)
@click.option("--tied", type=Pair(), multiple=True, help="A tied tensor that the weights files left out, as name=kept.")
@click.option(
    "--file", "-f", "files", type=FILE, multiple=True, help="Any file that the certificate may name; repeatable."
)
@click.option("--receipt", "-r", "receipts", type=FILE, multiple=True, help="A data subject's receipt; repeatable.")
@click.option("--at", type=Time(), help="Verify as of this time.  [default: now]")
@json_option
def verify(
    bundle: Path,
    trust: Path,
    weights: tuple[Path, ...],
    tied: Pairs,
    files: tuple[Path, ...],
    receipts: tuple[Path, ...],
    at: datetime | None,
    as_json: bool,
) -> None:
    """Verify a case. Needs no network, no weights and no data; says what is shown and what is not.

    \b
    Examples:
        certify verify case.bundle --trust trust.toml
        certify verify case.bundle --trust trust.toml --weights deployed/
        certify verify case.bundle --trust trust.toml --receipt mine.json --json

    \b
    Exit codes:
        0 verified          13 not included       18 audit refused
        2 wrong call        14 checkpoint         19 weights, file or receipt do not match
        11 bundle malformed 15 order              22 key not trusted
        12 wrong signature  16 statements differ  23 key expired or revoked
    """
    from certify import verifier

    beliefs = Trust.load(trust)
    given = _given(weights, tied, files, receipts)
    try:
        report = verifier.verify(read_file(bundle, MAX_BUNDLE_SIZE + 1), beliefs, now=at, given=given)
    except VerificationError as error:
        if not as_json:
            _show_failure(error)
        raise
    if as_json:
        import msgspec

        emit(True, {"verified": True, **msgspec.to_builtins(report)})
    else:
        _show(report)


def _given(weights: tuple[Path, ...], tied: Pairs, files: tuple[Path, ...], receipts: tuple[Path, ...]) -> Given:
    manifest = None
    digests: list[tuple[str, str]] = []
    if weights:
        from certify.cli.options import read_weights

        manifest = read_weights(weights, "weights", tied)
    if files:
        from certify.files import sha256_file

        for file in files:
            with progress(f"hashing {file.name}", file.stat().st_size) as update:
                digests.append((file.name, sha256_file(file, update).hex()))
    return Given(manifest, digests, tuple(read_file(file, MAX_RECEIPT_SIZE) for file in receipts))


def _show(report: Report) -> None:
    _show_steps(report.steps)
    click.echo()
    click.echo(f"{good('VERIFIED')}  grade: {strong(report.grade)}: {report.meaning}.")
    click.echo(f"certificate {report.certificate} by {plain(report.issuer)}, method {plain(report.method)}")
    click.echo(f"model       {report.tensor_root}")
    click.echo()
    click.echo("What this does not show:")
    for limit in report.limits:
        click.echo(f"  - {plain(limit)}")


def _show_steps(steps: tuple[Step, ...]) -> None:
    for step in steps:
        mark = good(f"{step.number:>2} ok") if step.established else dim(f"{step.number:>2} --")
        click.echo(f"{mark}  {step.title}{'' if step.established else dim(': nothing to check')}")
        for line in step.established:
            click.echo(dim(f"       {plain(line)}"))


def _show_failure(error: VerificationError) -> None:
    steps = tuple(step for step in error.passed if isinstance(step, Step))
    _show_steps(steps)
    click.echo(f"{bad(f'{error.step:>2} NO')}  {TITLES[error.step]}")
    click.echo()
    advice = "What was given is not what this case is about." if error.step == 9 else "Do not rely on this bundle."
    click.echo(f"{bad('REFUSED')} at step {error.step}. {advice}")
