"""certify report: a case as a page to read and to print."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import click

from certify.audits import BAD
from certify.bundle import MAX_BUNDLE_SIZE, Bundle
from certify.cli.options import FILE, OUTPUT, WEIGHTS, Pair, Time, json_option
from certify.cli.output import bad, emit, good, plain, strong
from certify.cli.verify import Pairs, bundled, given_of, weights_of
from certify.errors import InputError, VerificationError
from certify.inputs import read_file, write_file
from certify.statement import Audit, AuditPlan, Statement
from certify.times import format_time, now
from certify.trust import MAX_TRUST_SIZE, Trust
from certify.verifier import Report


@click.command()
@click.argument("bundle", type=FILE)
@click.option("--trust", "-t", type=FILE, required=True, help="The trust file: whose keys you believe.")
@click.option("-o", "--output", type=OUTPUT, help="The page to write.  [default: the bundle's name, .html]")
@click.option(
    "--weights", "-w", type=WEIGHTS, multiple=True, help="As 'certify verify' takes them; also the following."
)
@click.option("--tied", type=Pair(), multiple=True, help="A tied tensor that the weights files left out, as name=kept.")
@click.option("--file", "-f", "files", type=FILE, multiple=True, help="A file that the certificate may name.")
@click.option("--receipt", "-r", "receipts", type=FILE, multiple=True, help="A data subject's receipt.")
@click.option("--upstream", type=FILE, multiple=True, help="The bundle of a model that training started from.")
@click.option("--upstream-trust", type=FILE, multiple=True, help="Whom to believe about it.  [default: as --trust]")
@click.option("--scores", type=FILE, multiple=True, help="An auditor's scores.json, for ROC curves and histograms.")
@click.option("--before", type=FILE, help="The bundle of the certificate before: what changed since its audits.")
@click.option("--at", type=Time(), help="Verify as of this time.  [default: now]")
@click.option("--allow-development-srs", is_flag=True, help="Go on where a proof counts for nothing.")
@click.option("--allow-failed-audit", is_flag=True, help="Go on where an auditor's last verdict is bad.")
@click.option("--allow-failed-replay", is_flag=True, help="Go on where a replayer got other weights.")
@json_option
def report(
    bundle: Path,
    trust: Path,
    output: Path | None,
    weights: tuple[Path, ...],
    tied: Pairs,
    files: tuple[Path, ...],
    receipts: tuple[Path, ...],
    upstream: tuple[Path, ...],
    upstream_trust: tuple[Path, ...],
    scores: tuple[Path, ...],
    before: Path | None,
    at: datetime | None,
    allow_development_srs: bool,
    allow_failed_audit: bool,
    allow_failed_replay: bool,
    as_json: bool,
) -> None:
    """Verify a case, and write a page about it that a judge can read: verdict, limits, dates, audits, what was checked.

    The page is one HTML file with everything in it, without scripts, for a browser or a printer. A case that does not verify
    gets a page as well, which says REFUSED and why; the command then ends as 'certify verify' does. The page is not evidence:
    it says how to check the bundle. With --at, the same files give the same page. Whoever has the scores of an audit gets its
    ROC curves too, once the scores are those that the auditor signed; this needs the audit extra. --before compares each
    auditor's result with the same auditor's about the certificate that this one followed; failed audits in it are no obstacle.

    \b
    Examples:
        certify report case.bundle --trust trust.toml
        certify report case.bundle --trust trust.toml -o case.html --weights deployed/
        certify report case.bundle --trust trust.toml --scores audit/scores.json

    \b
    Exit codes: those of 'certify verify'.
    """
    from certify import verifier
    from certify.report import Source, html, refused

    target = output or bundle.with_suffix(".html")
    others = (
        *weights,
        *files,
        *receipts,
        *upstream,
        *upstream_trust,
        *scores,
        *([before] if before is not None else []),
    )
    if target.exists() and any(target.samefile(file) for file in (bundle, trust, *others)):
        raise InputError(
            f"expected a new file to write the page to, got {target}, which is read: choose another with -o"
        )
    believed, data = read_file(trust, MAX_TRUST_SIZE + 1), read_file(bundle, MAX_BUNDLE_SIZE + 1)
    beliefs = Trust.parse(believed)
    given = replace(given_of(files, receipts), upstream=bundled(upstream, upstream_trust, beliefs))
    moment = (at or now()).replace(microsecond=0)
    named = [("--weights", weights), ("--file", files), ("--receipt", receipts)]
    named += [("--upstream", upstream), ("--upstream-trust", upstream_trust)]
    options = [text for option, paths in named for path in paths for text in (option, path.name)]
    options += [text for name, kept in tied for text in ("--tied", f"{name}={kept}")]
    options += ["--allow-development-srs"] * allow_development_srs + ["--allow-failed-audit"] * allow_failed_audit
    options += ["--allow-failed-replay"] * allow_failed_replay
    source = Source(bundle.name, data, trust.name, believed, moment, tuple(options))
    try:
        with weights_of(weights, tied) as (manifest, read):
            verified = verifier.verify(
                data,
                beliefs,
                now=moment,
                given=replace(given, weights=manifest, read=read),
                allow_development_srs=allow_development_srs,
                allow_failed_audit=allow_failed_audit,
                allow_failed_replay=allow_failed_replay,
            )
    except VerificationError as error:
        write_file(target, refused(error, source).encode())
        if not as_json:
            click.echo(f"{bad('REFUSED')} at step {error.step}; {plain(str(target))} says why")
        raise
    parsed = Bundle.parse(data)
    if before is not None:
        verified = _compared(verified, parsed, before, beliefs, moment)
    pictures = dict(_pictures(parsed, verified, file) for file in scores)
    write_file(target, html(verified, parsed, source, pictures).encode())
    value = {"verified": True, "report": str(target), "grade": verified.grade, "at": format_time(source.at)}
    failed = any(audit.verdict in BAD for audit in verified.audits)
    mark = f"{strong('AUTHENTIC')}, {bad('FAILED AUDIT')}" if failed else good("VERIFIED")
    if verified.rolled_back and not failed:
        mark = f"{strong('AUTHENTIC')}, {bad('ROLLBACK')}"
    emit(as_json, value, f"{mark}  {plain(verified.grade)}; report in {plain(str(target))}")


def _compared(verified: Report, bundle: Bundle, before: Path, beliefs: Trust, moment: datetime) -> Report:
    """With what changed since the audits in another bundle, which verifies by the same trust. Raises VerificationError for one
    that does not, and InputError for one that is about no certificate that this case's followed."""
    from certify import verifier
    from certify.audit_moves import moves

    data = read_file(before, MAX_BUNDLE_SIZE + 1)
    lenient = replace(beliefs, audits=replace(beliefs.audits, required=False))
    earlier = verifier.verify(data, lenient, now=moment, allow_failed_audit=True, allow_development_srs=True)
    followed = {entry.envelope.digest for entry in bundle.entries} - {verified.certificate}
    if earlier.certificate not in followed:
        raise InputError(
            f"expected the bundle of a certificate that this case's followed, {before.name} is about {earlier.certificate[:16]}"
        )
    theirs = {audit.auditor: _audit_at(Bundle.parse(data), audit.index) for audit in earlier.audits}
    audits = []
    for audited in verified.audits:
        old, new = theirs.get(audited.auditor), _audit_at(bundle, audited.index)
        both = old is not None and new is not None and not audited.moves
        audits.append(replace(audited, moves=moves(old, new)) if both else audited)  # type: ignore[arg-type]
    return replace(verified, audits=tuple(audits))


def _audit_at(bundle: Bundle, index: int) -> Audit | None:
    """The finished audit at an entry, None where nothing finished."""
    [entry] = [one for one in bundle.entries if one.index == index]
    said = Statement.parse(entry.envelope.payload).predicate
    return said if isinstance(said, Audit) and said.figures is not None else None


def _pictures(bundle: Bundle, verified: Report, file: Path) -> tuple[int, dict[str, str]]:
    """The entry of the audit that is of these scores, and its pictures. Raises InputError or MismatchError."""
    from hashlib import sha256

    from certify import audit_run
    from certify.audit import figures

    data = read_file(file, audit_run.MAX_SCORES)
    digest = sha256(data).hexdigest()
    said = {entry.index: Statement.parse(entry.envelope.payload).predicate for entry in bundle.entries}
    plans = {entry.envelope.digest: said[entry.index] for entry in bundle.entries}
    for audited in verified.audits:
        audit = said[audited.index]
        if not isinstance(audit, Audit) or audit.scores != digest or audit.figures is None:
            continue
        plan = plans[audit.plan]
        assert isinstance(plan, AuditPlan)
        scores = audit_run.check_scores(plan, audit, data)
        drawn = figures.pictures(plan.rules.plan(), audit.figures.found(), scores)
        return audited.index, {name: figures.svg(drawn[name]) for name in ("roc", "histograms")}
    raise InputError(f"no audit that counts in this case is of {file.name}, with SHA-256 {digest}")
