"""certify audit: attack what is said to be forgotten, by rules that are logged beforehand, and say what came out."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from certify.cli.audit_output import (
    check_scores,
    coloured,
    compared,
    described,
    draw,
    moves_since,
    probe_value,
    probes_file,
    show_moves,
    show_probes,
    show_reasons,
    show_statement,
)
from certify.cli.key_files import log_each, public_keys, signing_key
from certify.cli.options import FILE, OUTPUT, WEIGHTS, Time, json_option, ledger_option, needs_zk
from certify.cli.output import bad, dim, emit, fields, good, plain, progress, strong, table
from certify.errors import InputError, WorkspaceError
from certify.inputs import read_file, write_file

if TYPE_CHECKING:
    from certify.audit_probes import Also
    from certify.keys import PublicKey, SigningKey
    from certify.workspace import Workspace

DELTA = 1e-5
HELD_OUT, SCORES, FIGURES, PROBES = "held-out.salts", "scores.json", "figures.json", "probes.json"
FOLDER = click.Path(file_okay=False, path_type=Path)


class Probe(click.ParamType):  # type: ignore[type-arg]
    """``relearn`` or ``relearn:limit=200``."""

    name = "NAME[:PARAMETER=NUMBER,…]"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> "Also":
        from certify import audit_probes
        from certify.errors import StatementError

        name, _, given = str(value).partition(":")
        try:
            parameters = {key: float(number) for key, number in (one.split("=") for one in given.split(",") if one)}
            return audit_probes.planned(name, parameters)
        except StatementError as error:
            self.fail(str(error), param, context)
        except ValueError:
            self.fail(f"expected NAME:PARAMETER=NUMBER, got {plain(str(value))}", param, context)


_key = click.option("--key", type=FILE, required=True, help="The auditor's private key (certify keygen).")
_earlier = click.option(
    "--earlier-key", "earlier", type=FILE, multiple=True, help="Public key that you signed with before; repeatable."
)
_certificate = click.option(
    "--certificate", "-c", help="Which one: an index, or (the start of) a digest.  [default: the last]"
)
_adapter = click.option("--adapter", "-a", type=FILE, required=True, help="Python file that gives model and data.")
_folder = click.option(
    "--folder", "-o", type=FOLDER, default=Path("audit"), show_default=True, help="For what you keep: salts, scores."
)
_trust = click.option("--trust", "-t", type=FILE, help="The trust file.  [default: the ledger's]")


@click.group()
def audit() -> None:
    """Attack a model that is said to have forgotten, and log what came out, whatever it is.

    The rules are logged first ('plan'), then the attack runs ('run'). The same attack is made on the original model, on the
    unlearned one and on models retrained without the records: an attack that does not find what the original knows shows nothing.
    Every attempt is logged as it starts and as it ends, so that nobody can try until it passes.
    """


@audit.command()
@ledger_option
@_key
@_earlier
@_adapter
@_folder
@_certificate
@click.option("--seed", help="All that is random follows from it.  [default: drawn now]")
@click.option("--attack", type=click.Choice(["lira-online", "lira-offline"]), default="lira-online", show_default=True)
@click.option("--shadows", type=click.IntRange(4, 4096), default=64, show_default=True, help="Shadow models.")
@click.option("--retrained", type=click.IntRange(2, 16), default=8, show_default=True, help="Retrained models.")
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Of intervals.")
@click.option("--margin", type=float, default=0.1, show_default=True, help="AUC from the retrained that is forgotten.")
@click.option("--utility-margin", type=float, default=0.05, show_default=True, help="Accuracy that may be missing.")
@click.option("--tail", type=float, default=0.05, show_default=True, help="Share of scores that count as extreme.")
@click.option("--delta", type=float, help="δ of the bound on ε.  [default: the claim's, else 1e-05]")
@click.option(
    "--claim-epsilon",
    "--claimed-epsilon",
    "claimed_epsilon",
    type=float,
    help="An ε that somebody vouches for: a bound above it is a FAIL.  [default: what the certificate states]",
)
@click.option(
    "--claim-delta", "--claimed-delta", "claimed_delta", type=float, help="The δ of that claim.  [default: 0]"
)
@click.option(
    "--claim-of",
    "--claimed-of",
    "claimed_of",
    type=click.Choice(["original", "unlearned"]),
    default="unlearned",
    show_default=True,
    help="Of the original's training, or of the removal.",
)
@click.option("--stale-after", type=click.IntRange(1, 3660), default=180, show_default=True, help="Days.")
@click.option("--also", type=Probe(), multiple=True, help="A probe beside the verdict; repeatable. See below.")
@json_option
@needs_zk()
def plan(
    ledger: Path,
    key: Path,
    earlier: tuple[Path, ...],
    adapter: Path,
    folder: Path,
    certificate: str | None,
    seed: str | None,
    attack: Any,
    delta: float | None,
    claimed_epsilon: float | None,
    claimed_delta: float | None,
    claimed_of: Any,
    stale_after: int,
    also: "tuple[Also, ...]",
    as_json: bool,
    **rules: Any,
) -> None:
    """Log how a certificate will be attacked and judged, before anybody knows how it ends.

    The adapter is a Python file of yours with subject() and records(), see certify/audit_subject.py. Held-out records are
    committed to with salts that stay in --folder.

    --also plans probes that decide nothing and are told beside the verdict: relearn, population, label-only, inversion,
    neighbours, kpis and text, and with functions of the adapter (certify/audit/probes.py) challenge, canaries and ulira.
    Parameters come after a colon.

    --claim-epsilon is what an accountant says of the original's training, or who unlearned says of the removal; without it, what
    the certificate and its training state. It is tested with one half of the records: 'greatest' is the most that these can show.

    \b
    Examples:
        certify keygen auditor.pem
        certify audit plan --key auditor.pem --adapter adapter.py --shadows 64 --margin 0.1
        certify audit plan --key auditor.pem --adapter adapter.py --also kpis --also relearn:limit=200 --also ulira
    """
    import secrets

    from certify import audit_claims, audit_run, audit_subject, auditing
    from certify.audit import arms
    from certify.audit.verdict import Claim, Plan
    from certify.audit_salts import MAX_SALTS
    from certify.statement import AuditPlan, Training
    from certify.workspace import Workspace
    from ledger.keyfile import write_private

    signer, public = signing_key(key), public_keys(earlier)
    if claimed_delta is not None and claimed_epsilon is None:
        raise InputError("expected --claim-epsilon beside --claim-delta")
    loaded = audit_subject.load(adapter)
    with Workspace(ledger) as workspace:
        target = auditing.find(workspace, certificate)
        training = workspace.lineage(target.logged)[0].statement.predicate
        assert isinstance(training, Training)
        stated_claim = audit_claims.stated(training, target.certificate)
        try:
            given = Claim(claimed_of, claimed_epsilon, claimed_delta or 0.0) if claimed_epsilon is not None else None
            claim = given or stated_claim
            bound_at = delta if delta is not None else (claim.delta if claim is not None else 0.0) or DELTA
            chosen = Plan(seed=seed or secrets.token_hex(16), attack=attack, claim=claim, delta=bound_at, **rules)
        except ValueError as error:
            raise InputError(f"not the rules of an audit: {error}") from error
        chain = auditing.chain_of(workspace, target, _own_keys(workspace, signer, public))
        salts = folder / HELD_OUT
        kept = read_file(salts, MAX_SALTS) if salts.exists() else None
        committed = kept if kept is not None else audit_subject.hold_out(loaded).salts
        held_out = audit_subject.held_out(loaded, committed)
        plans = [said for one in chain if isinstance(said := one.statement.predicate, AuditPlan)]
        if any(said.data.held_out == held_out for said in plans):
            raise InputError(f"a plan was made with {folder}: give another one with --folder")
        stated = audit_run.make_plan(
            workspace.origin,
            target,
            loaded,
            chosen,
            held_out,
            stale_after_days=stale_after,
            previous=chain[-1].digest if chain else None,
            also=also,
            untested=audit_claims.left_out(stated_claim, claim),
        )
        if kept is None:
            folder.mkdir(parents=True, exist_ok=True)
            write_private(salts, committed)
        logged = auditing.log(workspace, signer, stated)
    greatest = arms.greatest(chosen, stated.data.forget.count, stated.data.held_out.count)
    value = {
        "entry": logged.index,
        "digest": logged.digest,
        "certificate": stated.certificate,
        "seed": chosen.seed,
        "greatest": greatest,
        "claim": str(claim) if claim is not None else None,
        "also": [one.name for one in stated.also],
    }
    emit(
        as_json,
        value,
        good(f"logged as entry {logged.index}"),
        *fields(
            ("plan", logged.digest),
            ("certificate", f"{stated.certificate} (entry {target.logged.index})"),
            ("model", stated.model.tensor_root),
            ("seed", plain(chosen.seed)),
            ("records", f"{stated.data.forget.count} to forget, {stated.data.held_out.count} held out"),
            ("beside", ", ".join(one.name for one in stated.also) or "no probes (--also)"),
            ("greatest ε", f"{greatest:.2f} is the most that so many can show, at δ = {chosen.delta:g}"),
            *([("claim", str(claim))] if claim is not None else []),
        ),
        *(
            [f"{bad('in vain:')} no attack on so few records can contradict the claim: take more"]
            if claim is not None and greatest <= claim.epsilon
            else []
        ),
        f"next: certify audit run --key {key} --adapter {adapter} --folder {folder} --original … --unlearned …",
    )


@audit.command()
@ledger_option
@_key
@_earlier
@_adapter
@_folder
@_certificate
@click.option("--original", type=WEIGHTS, multiple=True, required=True, help="The model before: safetensors.")
@click.option("--unlearned", type=WEIGHTS, multiple=True, required=True, help="The model after: safetensors.")
@click.option("--salts", type=FILE, help="What the operator made with certify audit salts.")
@click.option("--device", help="cpu, cuda or cuda:1.  [default: where the adapter has its data]")
@click.option(
    "--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Of torch: small models want one."
)
@json_option
@needs_zk()
def run(
    ledger: Path,
    key: Path,
    earlier: tuple[Path, ...],
    adapter: Path,
    folder: Path,
    certificate: str | None,
    original: tuple[Path, ...],
    unlearned: tuple[Path, ...],
    salts: Path | None,
    device: str | None,
    threads: int,
    as_json: bool,
) -> None:
    """Follow the plan that was logged last, and log what comes out.

    Both models have to be those of the certificate, by their tensor roots, and adapter, recipe and held-out records those of the
    plan. With --salts also the training data have to be those that the operator committed to. Shadow models lie in --folder: a
    run that was cut off goes on where it was. There it also writes scores.json, figures.json, probes.json and pictures: roc.png,
    histograms.png, epsilon.png and ranking.png. What changed since your last audit, of this certificate or of the one that it
    followed, is said.

    \b
    Example:
        certify audit run --key auditor.pem --adapter adapter.py --original model.safetensors --unlearned forgot.safetensors

    \b
    Exit codes:
        0 the attempt ended and is logged, whatever the verdict    19 models, data or adapter are not those planned
    """
    import msgspec

    from certify import audit_run, audit_subject, auditing
    from certify.audit_salts import MAX_SALTS, Salts
    from certify.workspace import Workspace

    signer = signing_key(key)
    public = public_keys(earlier)
    loaded = audit_subject.load(adapter)
    if device is not None:
        loaded = audit_subject.on_device(loaded, device)
    opened = Salts.parse(read_file(salts, MAX_SALTS)) if salts is not None else None
    if not (folder / HELD_OUT).exists():
        raise InputError(f"no {folder / HELD_OUT}: give the folder that certify audit plan was called with")
    held_out = read_file(folder / HELD_OUT, MAX_SALTS)
    with Workspace(ledger) as workspace:
        target = auditing.find(workspace, certificate)
        chain = auditing.chain_of(workspace, target, _own_keys(workspace, signer, public))
        logged_plan, planned = auditing.current(chain)
        attack = audit_run.prepare(
            planned,
            target,
            loaded,
            held_out_salts=held_out,
            original=original,
            unlearned=unlearned,
            salts=opened,
            threads=threads,
        )
        with audit_run.attempt(workspace, signer, chain, logged_plan, attack) as attempt:
            with progress("training shadows", attack.total, unit="epochs") as update:
                result = attack.run(folder, lambda done, _: update(done))
            write_file(folder / SCORES, result.scores)
            write_file(folder / FIGURES, msgspec.json.format(msgspec.json.encode(result.figures), indent=2))
            write_file(folder / PROBES, probes_file(result.probes))
            logged = attempt.finish(result, attack.untested)
        before = auditing.audit_before(list(workspace.statements()), logged, _own_keys(workspace, signer, public))
    moved = moves_since(before, logged)
    drawn = draw(folder, planned, result)
    value = {
        "entry": logged.index,
        "digest": logged.digest,
        "attempt": attempt.started.attempt,
        "resumed": attempt.resumed,
        "verdict": result.verdict.outcome,
        "reasons": list(result.verdict.reasons),
        "power": result.figures.power,
        "probes": [probe_value(outcome.probe) for outcome in result.probes],
        "comparedWith": before.index if before is not None else None,
        "moves": [msgspec.to_builtins(move) for move in moved],
        "regressions": [str(move) for move in moved if move.worse],
        "scores": str(folder / SCORES),
        "figures": str(folder / FIGURES),
        "pictures": [str(path) for path in drawn],
    }
    if as_json:
        emit(True, value)
        return
    click.echo(f"{coloured(result.verdict.outcome)}  logged as entry {logged.index}, attempt {attempt.started.attempt}")
    show_reasons(result.verdict.reasons)
    show_probes([outcome.probe for outcome in result.probes])
    show_moves(before, moved)
    if not drawn:
        click.echo(dim("no pictures: they need the package matplotlib, pip install 'unlearning-ledger[audit]'"))
    kept = "scores, figures and pictures" if drawn else "scores and figures"
    click.echo(dim(f"{kept} are in {folder}; keep them: the audit names the scores by their SHA-256"))
    click.echo("next, by the operator: certify bundle, which then contains it")


@audit.command()
@ledger_option
@click.argument("files", type=FILE, nargs=-1, required=True)
@click.option("--auditor", "auditors", type=FILE, multiple=True, help="Public key of who signed; repeatable.")
@json_option
def log(ledger: Path, files: tuple[Path, ...], auditors: tuple[Path, ...], as_json: bool) -> None:
    """Log an auditor's plan or audit that was signed elsewhere, as it came.

    For an auditor who has no token for the log. Bundles made afterwards contain it.

    \b
    Example:
        certify audit log audit.dsse.json --auditor auditor.pem.pub
    """
    from certify.auditing import log_envelope

    known = public_keys(auditors)
    log_each(
        ledger,
        files,
        lambda workspace, data: log_envelope(workspace, data, known),
        "auditor's public key with --auditor",
        as_json,
    )


@audit.command()
@ledger_option
@_certificate
@click.option("--output", "-o", type=OUTPUT, default=Path("audit.salts"), show_default=True)
@json_option
def salts(ledger: Path, certificate: str | None, output: Path, as_json: bool) -> None:
    """As the operator: write the training records' salts, for the auditor's eyes only.

    With them the auditor sees that the data it was given are the ones committed to, and that no held-out record is among them.
    The file holds no record; whoever has it can test guesses at records, so treat it like them.

    \b
    Example:
        certify audit salts --certificate 3 -o audit.salts
    """
    from certify.audit_salts import Salts
    from certify.statement import Training
    from certify.workspace import Workspace
    from ledger.keyfile import write_private

    with Workspace(ledger) as workspace:
        logged = workspace.find(certificate) if certificate is not None else workspace.latest("unlearning")
        training = workspace.lineage(logged)[0].statement.predicate
        assert isinstance(training, Training)
        removed = workspace.vault.note(f"removed/{logged.digest}")
        if removed is None:
            raise WorkspaceError(
                f"the certificate at entry {logged.index} removed no records: there is nothing to open"
            )
        found = {opening.position: opening.salt for opening in workspace.vault.openings(training.dataset.root)}
        made = Salts(
            workspace.vault.leaves(training.dataset.root),
            tuple(found.get(position, b"") for position in range(training.dataset.count)),
            tuple(removed),
        )
    if output.exists():
        raise InputError(f"{output} exists")
    write_private(output, made.to_json())
    gone = training.dataset.count - len(found)
    value = {"file": str(output), "records": training.dataset.count, "destroyed": gone}
    emit(as_json, value, good(f"wrote {output}"), *fields(("records", training.dataset.count), ("destroyed", gone)))


@audit.command()
@ledger_option
@_certificate
@_trust
@click.option("--scores", type=FILE, help="The auditor's scores: compute the figures again, and compare.")
@json_option
def show(ledger: Path, certificate: str | None, trust: Path | None, scores: Path | None, as_json: bool) -> None:
    """Show every plan and attempt about a certificate that is in the log, by whomever.

    Nothing is judged by this: 'certify verify' does, with a trust file. Each audit by an auditor that the trust file names is
    compared with the same auditor's one before, of this certificate or of the one that it followed. With --scores the last
    audit's figures are computed again from its scores.

    \b
    Example:
        certify audit show --certificate 3
        certify audit show --scores audit/scores.json
    """
    import msgspec

    from certify import auditing
    from certify.statement import Audit, AuditPlan
    from certify.trust import Trust
    from certify.workspace import Workspace

    with Workspace(ledger) as workspace:
        beliefs = Trust.load(trust or workspace.path / "trust.toml")
        target = auditing.find(workspace, certificate)
        found = [
            logged
            for logged in workspace.statements(target.logged.index + 1)
            if isinstance(said := logged.statement.predicate, AuditPlan | Audit)
            and said.certificate == target.logged.digest
        ]
        value = [described(logged, beliefs) for logged in found]
        since = compared(workspace, found, beliefs)
    for logged, item in zip(found, value, strict=True):
        if logged.digest in since:
            before, moved = since[logged.digest]
            item["comparedWith"], item["moves"] = before.index, [msgspec.to_builtins(move) for move in moved]
            item["regressions"] = [str(move) for move in moved if move.worse]
    checked = check_scores(found, scores) if scores is not None else None
    if as_json:
        emit(True, {"certificate": target.logged.digest, "statements": value, "scoresChecked": checked})
        return
    click.echo(f"{strong('certificate')} {target.logged.digest} (entry {target.logged.index})")
    if not found:
        click.echo("nobody has planned or made an audit of it")
    for logged, item in zip(found, value, strict=True):
        show_statement(logged, item)
        if logged.digest in since:
            show_moves(*since[logged.digest])
    if checked is not None:
        click.echo(good(f"the figures of entry {checked} follow from these scores"))


@audit.command()
@ledger_option
@_trust
@click.option("--at", type=Time(), help="As of this time.  [default: now]")
@json_option
def schedule(ledger: Path, trust: Path | None, at: datetime | None, as_json: bool) -> None:
    """List when each certificate has to be audited again, from the log alone.

    Only audits by auditors that the trust file names count, for as long as the shorter of the plan's and the trust file's limit.

    \b
    Example:
        certify audit schedule --trust trust.toml
    """
    _list(ledger, trust, at, as_json, due_only=False)


@audit.command()
@ledger_option
@_trust
@click.option("--at", type=Time(), help="As of this time.  [default: now]")
@json_option
def due(ledger: Path, trust: Path | None, at: datetime | None, as_json: bool) -> None:
    """List the certificates whose audit is stale, missing, unfinished or did not pass. For a timer.

    \b
    Example:
        certify audit due --json

    \b
    Exit codes:
        0 nothing is due    59 something is
    """
    if _list(ledger, trust, at, as_json, due_only=True):
        from certify.cli.exit_codes import AUDITS_DUE

        raise click.exceptions.Exit(AUDITS_DUE)


def _list(ledger: Path, trust: Path | None, at: datetime | None, as_json: bool, *, due_only: bool) -> int:
    from certify import auditing
    from certify.times import format_time, now
    from certify.trust import Trust
    from certify.workspace import Workspace

    moment = at or now()
    with Workspace(ledger) as workspace:
        found = auditing.schedule(workspace, Trust.load(trust or workspace.path / "trust.toml"))
    chosen = [status for status in found if status.is_due(moment) or not due_only]
    value = [
        {
            "entry": status.logged.index,
            "certificate": status.logged.digest,
            "auditor": status.auditor,
            "verdict": status.verdict,
            "unfinished": status.unfinished,
            "staleFrom": format_time(status.due) if status.due is not None else None,
            "due": status.is_due(moment),
        }
        for status in chosen
    ]
    if as_json:
        emit(True, value)
    elif not value:
        click.echo("nothing is due" if due_only else "the log has no certificate")
    else:
        rows = [
            [
                str(item["entry"]),
                str(item["certificate"])[:16],
                plain(str(item["auditor"] or "-")),
                str(item["verdict"] or "never audited") + (", then unfinished" if item["unfinished"] else ""),
                str(item["staleFrom"] or "-"),
                "due" if item["due"] else "",
            ]
            for item in value
        ]
        table(["entry", "certificate", "auditor", "last verdict", "stale from", ""], rows)
    return sum(bool(item["due"]) for item in value)


def _own_keys(workspace: "Workspace", signer: "SigningKey", public: "Sequence[PublicKey]") -> "list[PublicKey]":
    """All keys by which verifiers may know this auditor: those given, and those of the same name in the ledger's trust file."""
    from certify.trust import Trust

    auditors = Trust.load(workspace.path / "trust.toml").auditors
    names = {auditor.name for auditor in auditors if auditor.key == signer.public}
    own = [signer.public, *public, *(auditor.key for auditor in auditors if auditor.name in names)]
    return list({key.keyid: key for key in own}.values())
