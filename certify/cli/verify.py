"""certify verify: what a regulator, a customer or a court runs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import click

from certify.audit.verdict import PASS
from certify.audit_probes import canaries_found
from certify.audits import BAD, Audited
from certify.bundle import MAX_BUNDLE_SIZE
from certify.cli.options import FILE, WEIGHTS, Pair, Time, json_option, weight_files
from certify.cli.output import bad, dim, emit, folded, forgeable, good, plain, progress, strong
from certify.deployments import Deployed
from certify.digest import Manifest, TensorSource
from certify.errors import DeploymentError, FailedAuditError, FailedReplayError, InputError, VerificationError
from certify.fields import Scalar
from certify.inputs import read_file
from certify.openings import Read
from certify.receipt import MAX_RECEIPT_SIZE
from certify.replays import Replayed
from certify.trust import Trust
from certify.upstream import Bundled, Upstream
from certify.verifier import TITLES, Given, Report, Step

Pairs = tuple[tuple[str, Scalar], ...]

MAX_RELEASED = 256 << 20
"""Bytes of a tensor that is compared with what a proof is about. Models that can be proven are far smaller."""
_DEVELOPMENT = "whoever made it can forge proofs, so the proof in this case counts for nothing"


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
@click.option(
    "--upstream", type=FILE, multiple=True, help="The bundle of a model that training started from; repeatable."
)
@click.option(
    "--upstream-trust",
    type=FILE,
    multiple=True,
    help="Whom to believe about it: one for each --upstream, in order.  [default: as --trust]",
)
@click.option("--at", type=Time(), help="Verify as of this time.  [default: now]")
@click.option(
    "--allow-development-srs",
    is_flag=True,
    help="Go on where a proof's reference string is not the ceremony's. The proof then counts for nothing.",
)
@click.option(
    "--allow-failed-audit",
    is_flag=True,
    help="Go on where a trusted auditor's last verdict is FAIL or OVER-FORGOTTEN. The report says so.",
)
@click.option(
    "--allow-failed-replay",
    is_flag=True,
    help="Go on where a trusted replayer got other weights. The report says so.",
)
@json_option
def verify(
    bundle: Path,
    trust: Path,
    weights: tuple[Path, ...],
    tied: Pairs,
    files: tuple[Path, ...],
    receipts: tuple[Path, ...],
    upstream: tuple[Path, ...],
    upstream_trust: tuple[Path, ...],
    at: datetime | None,
    allow_development_srs: bool,
    allow_failed_audit: bool,
    allow_failed_replay: bool,
    as_json: bool,
) -> None:
    """Verify a case. Needs no network, no weights and no data; says what is shown and what is not.

    With --weights also that the model in use is the one that was certified; where there is a zero-knowledge proof, that
    its weights are the very numbers that the proof is about. With --upstream also that the models which training started
    from, and theirs, are what their own makers certified or logged, each by a trust file of its own.

    \b
    Examples:
        certify verify case.bundle --trust trust.toml
        certify verify case.bundle --trust trust.toml --weights deployed/
        certify verify case.bundle --trust trust.toml --receipt mine.json --json
        certify verify case.bundle --trust trust.toml --upstream base.bundle --upstream-trust base-trust.toml

    \b
    Exit codes:
        0 verified          14 checkpoint         19 weights, file or receipt do not match
        2 wrong call        15 order              22 key not trusted
        11 bundle malformed 16 statements differ  23 key expired or revoked
        12 wrong signature  17 zk proof refused   27 circuit accepted by nobody trusted
        13 not included     18 audit refused      28 development reference string
        61 replay refused or failed               63 deployment refused
        62 a base model is not what is named
    """
    from certify import verifier

    beliefs = Trust.load(trust)
    given = replace(given_of(files, receipts), upstream=bundled(upstream, upstream_trust, beliefs))
    try:
        with weights_of(weights, tied) as (manifest, read):
            report = verifier.verify(
                read_file(bundle, MAX_BUNDLE_SIZE + 1),
                beliefs,
                now=at,
                given=replace(given, weights=manifest, read=read),
                allow_development_srs=allow_development_srs,
                allow_failed_audit=allow_failed_audit,
                allow_failed_replay=allow_failed_replay,
            )
    except VerificationError as error:
        if not as_json:
            _show_failure(error)
        raise
    if as_json:
        import msgspec

        emit(True, {"verified": True, **msgspec.to_builtins(report)})
    else:
        _show(report)


def given_of(files: tuple[Path, ...], receipts: tuple[Path, ...]) -> Given:
    digests: list[tuple[str, str]] = []
    if files:
        from certify.files import sha256_file

        for file in files:
            with progress(f"hashing {file.name}", file.stat().st_size) as update:
                digests.append((file.name, sha256_file(file, update).hex()))
    return Given(files=digests, receipts=tuple(read_file(file, MAX_RECEIPT_SIZE) for file in receipts))


def bundled(bundles: Sequence[Path], trusts: Sequence[Path], beliefs: Trust) -> tuple[Bundled, ...]:
    """The bundles of base models, each with its trust file, or all with the case's own. Raises InputError."""
    if trusts and len(trusts) != len(bundles):
        raise InputError(
            f"expected a --upstream-trust for each of {len(bundles)} --upstream, in the same order, got {len(trusts)}"
        )
    believed = [Trust.load(path) for path in trusts] or [beliefs] * len(bundles)
    return tuple(
        Bundled(path.name, read_file(path, MAX_BUNDLE_SIZE + 1), trust)
        for path, trust in zip(bundles, believed, strict=True)
    )


@contextmanager
def weights_of(paths: tuple[Path, ...], tied: Pairs) -> Iterator[tuple[Manifest | None, Read | None]]:
    """Their manifest, and a way to read single tensors of the same open files. Raises DigestError when they change meanwhile."""
    if not paths:
        yield None, None
        return
    from certify.digest import hash_tensors
    from certify.safetensors import open_tensors

    total = sum(path.stat().st_size for path in weight_files(paths))
    target = paths[0] if len(paths) == 1 else list(paths)
    with open_tensors(target, tied={name: str(value) for name, value in tied}) as sources:
        with progress("hashing weights", total) as update:
            manifest = hash_tensors(sources, progress=update)
        yield manifest, reader(sources)


def reader(sources: Sequence[TensorSource]) -> Read:
    """The bytes of a tensor by its name. Raises InputError for one that is not there or too large."""
    by_name: Mapping[str, TensorSource] = {source.name: source for source in sources}

    def read(name: str) -> bytes:
        source = by_name.get(name)
        if source is None:
            raise InputError(f"the weights given have no tensor {name!r}")
        data = source.data
        if data.nbytes > MAX_RELEASED:
            raise InputError(
                f"tensor {name!r} has {data.nbytes:,} bytes, expected at most {MAX_RELEASED:,} of a proven one"
            )
        return b"".join(
            bytes(data.read(start, min(start + data.piece, data.nbytes))) for start in range(0, data.nbytes, data.piece)
        )

    return read


def _show(report: Report) -> None:
    _show_steps(report.steps)
    click.echo()
    grade = strong(report.grade) if report.grade == "attested" else click.style(report.grade, fg="green", bold=True)
    failed = any(audit.verdict in BAD for audit in report.audits) or any(replay.failed for replay in report.replays)
    failed |= report.rolled_back
    mark = strong("AUTHENTIC") if failed else good("VERIFIED")
    first, *others = folded(f"grade: {report.grade}: {report.meaning}.", 10, first=f"{mark}  ")
    click.echo("\n".join([first.replace(report.grade, grade, 1), *others]))
    for audit in report.audits:
        _show_audit(audit)
    for replay in report.replays:
        _show_replay(replay)
    for deployed in report.deployments:
        _show_deployed(deployed)
    if report.development_srs:
        click.echo("\n".join(forgeable(_DEVELOPMENT)))
    who = f"{report.certificate} by {plain(report.issuer)}, method {plain(report.method)}"
    click.echo("\n".join(folded(who, 12, first="certificate ")))
    click.echo(f"model       {report.tensor_root}")
    for base in report.upstream:
        _show_upstream(base)
    click.echo()
    click.echo("What this does not show:")
    for limit in report.limits:
        click.echo("\n".join(folded(plain(limit), 4, first="  - ")))


def _show_audit(audit: Audited) -> None:
    """FAIL and OVER-FORGOTTEN so that nobody overlooks them."""
    if audit.verdict in BAD:
        label = bad("FAILED AUDIT")
    else:
        label = good("audited     ") if audit.verdict == PASS and not audit.stale else strong("audited     ")
        label = bad("audited     ") if canaries_found(audit.probes) else label
    click.echo("\n".join(folded(plain(str(audit)), 14, first=f"{label}  ", style=bad if audit.verdict in BAD else str)))
    for reason in audit.reasons:
        click.echo("\n".join(folded(plain(reason), 16, first=" " * 14 + "- ", style=dim)))
    for line in audit.beside:
        loud = canaries_found(audit.probes) and line.startswith("canaries:")
        click.echo("\n".join(folded(plain(line), 16, first=" " * 14 + "beside, ", style=bad if loud else dim)))


def _show_replay(replay: Replayed) -> None:
    """A replay that failed so that nobody overlooks it."""
    label, style = (bad("FAILED REPLAY"), bad) if replay.failed else (good("replayed     "), str)
    click.echo("\n".join(folded(plain(str(replay)), 15, first=f"{label}  ", style=style)))


def _show_deployed(deployed: Deployed) -> None:
    """A rollback so that nobody overlooks it."""
    marks = {"current": good("deployed"), "behind": strong("deployed"), "rollback": bad("ROLLBACK")}
    told = str(deployed).removeprefix("ROLLBACK: ")
    style = bad if deployed.state == "rollback" else str
    click.echo("\n".join(folded(plain(told), 12, first=f"{marks[deployed.state]}    ", style=style)))


def _show_upstream(base: Upstream) -> None:
    label = strong("base") if base.issuer is None else good("base")
    indent = 12 + 2 * (base.depth - 1)
    click.echo("\n".join(folded(plain(str(base)), indent, first=label + " " * (indent - 4))))


def _show_steps(steps: tuple[Step, ...]) -> None:
    for step in steps:
        mark = good(f"{step.number:>2} ok") if step.established else dim(f"{step.number:>2} --")
        click.echo(f"{mark}  {step.title}{'' if step.established else dim(': nothing to check')}")
        for line in step.established:
            click.echo("\n".join(folded(plain(line), 7, style=dim)))


def _show_failure(error: VerificationError) -> None:
    steps = tuple(step for step in error.passed if isinstance(step, Step))
    _show_steps(steps)
    click.echo(f"{bad(f'{error.step:>2} NO')}  {TITLES[error.step]}")
    click.echo()
    advice = "Do not rely on this bundle."
    if error.step == 9:
        advice = "What was given is not what this case is about."
    elif isinstance(error, FailedAuditError):
        advice = "The bundle is authentic; the model is not shown to have forgotten."
    elif isinstance(error, DeploymentError):
        advice = "The certificate may be authentic; what the operator says of the model that serves contradicts it."
    elif isinstance(error, FailedReplayError):
        advice = "The bundle is authentic; the weights are not shown to follow from the recipe."
    click.echo(f"{bad('REFUSED')} at step {error.step}. {advice}")
