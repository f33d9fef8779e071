"""What the commands of certify audit print and write: statements, verdicts, probes, what changed, files and pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from certify.cli.output import bad, dim, fields, folded, good, plain, strong
from certify.errors import InputError
from certify.inputs import read_file, write_file

if TYPE_CHECKING:
    from certify import audit_probes, audit_run
    from certify.audit.probes import Outcome
    from certify.audit_moves import Move
    from certify.audit_terms import Example
    from certify.statement import AuditPlan
    from certify.trust import Trust
    from certify.workspace import Logged, Workspace


def moves_since(before: "Logged | None", after: "Logged") -> "tuple[Move, ...]":
    from certify.audit_moves import moves
    from certify.statement import Audit

    if before is None:
        return ()
    old, new = before.statement.predicate, after.statement.predicate
    assert isinstance(old, Audit) and isinstance(new, Audit)
    return moves(old, new)


def draw(folder: Path, planned: "AuditPlan", result: "audit_run.Result") -> list[Path]:
    """The pictures' files; none without matplotlib."""
    from certify.errors import MissingExtra

    try:
        from certify.audit import figures
    except MissingExtra:
        return []
    drawn = []
    for name, picture in figures.pictures(planned.rules.plan(), result.figures, result.raw).items():
        drawn.append(folder / f"{name}.png")
        write_file(drawn[-1], figures.png(picture))
    return drawn


def probes_file(outcomes: "Sequence[Outcome]") -> bytes:
    """Everything that the probes measured, in JSON."""
    import json

    import numpy as np

    value = [{**probe_value(outcome.probe), "detail": outcome.detail} for outcome in outcomes]
    text = json.dumps(value, indent=2, ensure_ascii=False, default=lambda one: np.asarray(one).tolist())
    return text.encode() + b"\n"


def probe_value(probe: "audit_probes.Probe") -> dict[str, Any]:
    """With what its figures mean, in words."""
    import msgspec

    from certify import audit_probes

    told = {"said": audit_probes.said(probe), "limits": audit_probes.limits(probe.name)}
    return {**msgspec.to_builtins(probe), **told}


def described(logged: "Logged", trust: "Trust") -> dict[str, Any]:
    """Who and what, in JSON; the name only where the signature holds."""
    import json

    from certify.auditing import signed_by

    auditor = next((one.name for one in trust.auditors if signed_by(logged, [one.key])), None)
    content: dict[str, Any] = json.loads(logged.envelope.payload)["predicate"]
    return {"entry": logged.index, "kind": logged.statement.kind, "auditor": auditor, **content}


def compared(
    workspace: "Workspace", found: "Sequence[Logged]", trust: "Trust"
) -> "dict[str, tuple[Logged, tuple[Move, ...]]]":
    """For each finished audit by somebody whom the trust file names: their one before, and what changed since."""
    from certify.auditing import audit_before, signed_by
    from certify.statement import Audit

    statements, since = list(workspace.statements()), {}
    for logged in found:
        said = logged.statement.predicate
        if not isinstance(said, Audit) or said.state != "finished":
            continue
        for name in {one.name for one in trust.auditors if signed_by(logged, [one.key])}:
            keys = [one.key for one in trust.auditors if one.name == name]
            if (before := audit_before(statements, logged, keys)) is not None:
                since[logged.digest] = (before, moves_since(before, logged))
    return since


def check_scores(found: "Sequence[Logged]", scores: Path) -> int:
    """The entry of the audit whose figures follow from these scores."""
    from hashlib import sha256

    from certify import audit_run
    from certify.statement import Audit, AuditPlan

    data = read_file(scores, audit_run.MAX_SCORES)
    digest = sha256(data).hexdigest()
    plans = {one.digest: one.statement.predicate for one in found}
    for logged in found:
        said = logged.statement.predicate
        if isinstance(said, Audit) and said.scores == digest and isinstance(made := plans.get(said.plan), AuditPlan):
            audit_run.check_scores(made, said, data)
            return logged.index
    raise InputError(f"no audit of this certificate is of scores with SHA-256 {digest}")


def show_statement(logged: "Logged", item: dict[str, Any]) -> None:
    from certify.statement import Audit, AuditPlan

    said = logged.statement.predicate
    who = plain(item["auditor"]) if item["auditor"] else bad("nobody that the trust file names")
    click.echo()
    if isinstance(said, AuditPlan):
        click.echo(f"{strong('plan')}  entry {logged.index}, {said.planned}, by {who}")
        rules = said.rules
        for line in fields(
            ("attack", f"{said.attack}, {rules.attack}, {rules.shadows} shadows, {rules.retrained} retrained"),
            ("margins", f"AUC {rules.margin:g}, utility {rules.utility_margin:g}, tail {rules.tail:g}"),
            *([("claim", str(rules.plan().claim))] if rules.claim is not None else []),
            ("seed", plain(rules.seed)),
            ("stale after", f"{said.stale_after_days} days"),
            ("beside", ", ".join(one.name for one in said.also) or "no probes"),
        ):
            click.echo(f"  {line}")
        return
    assert isinstance(said, Audit)
    click.echo(f"{strong('attempt')} {said.attempt}, {said.state}  entry {logged.index}, {said.run.finished}, by {who}")
    if said.reason is not None:
        click.echo(f"  {plain(said.reason)}")
    if said.verdict is not None and said.figures is not None:
        found = said.figures
        click.echo(f"  {coloured(said.verdict)}")
        show_reasons(said.reasons)
        for line in fields(
            (
                "AUC original",
                f"{found.original.auc.value:.3f} ({found.original.auc.low:.3f} to {found.original.auc.high:.3f})",
            ),
            (
                "AUC unlearned",
                f"{found.unlearned.auc.value:.3f} ({found.unlearned.auc.low:.3f} to {found.unlearned.auc.high:.3f})",
            ),
            (
                "ε at least",
                f"{found.unlearned.epsilon.lower:.2f}, could have shown {found.unlearned.epsilon.greatest:.2f}",
            ),
            ("power", f"{found.power:.2f}"),
            ("worst record", _worst(found.examples)),
            *((name, f"{value:.3f}") for name, value in sorted(said.metrics.items())),
        ):
            click.echo(f"  {line}")
        show_probes(said.probes)


def _worst(examples: "Sequence[Example]") -> str:
    """Averages hide the one whom it hurts."""
    if not examples:
        return "-"
    first = examples[0]
    told = f"score {first.unlearned:.2f}, {first.retrained:.2f} in retrained models, {first.original:.2f} before"
    return f"place {first.record}: {told}"


def show_probes(probes: "Sequence[audit_probes.Probe]") -> None:
    from certify import audit_probes

    for probe in probes:
        loud = audit_probes.canaries_found([probe])
        told = f"{probe.name}: {audit_probes.said(probe)}. {audit_probes.limits(probe.name)}."
        click.echo("\n".join(folded(told, 4, first="  + ", style=bad if loud else str)))


def show_moves(before: "Logged | None", moved: "Sequence[Move]") -> None:
    if before is None:
        return
    click.echo(f"since the audit at entry {before.index}:")
    for move in moved:
        click.echo("\n".join(folded(plain(str(move)), 4, first="  - ", style=bad if move.worse else dim)))


def show_reasons(reasons: Sequence[str]) -> None:
    for reason in reasons:
        click.echo("\n".join(folded(plain(reason), 4, first="  - ")))


def coloured(outcome: str) -> str:
    styles: dict[str, Callable[[str], str]] = {"PASS": good, "INCONCLUSIVE": strong}
    return styles.get(outcome, bad)(outcome)
