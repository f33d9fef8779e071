"""certify model log, certify model deployed: the versions of a model, and which of them serve."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from certify.cli.exit_codes import ROLLED_BACK
from certify.cli.options import Pair, json_option, ledger_option, read_weights
from certify.cli.output import bad, dim, emit, folded, good, plain, strong, table
from certify.errors import InputError, WorkspaceError
from certify.fields import Scalar

if TYPE_CHECKING:
    from certify.deployment import Serving
    from certify.versions import History, Version
    from certify.workspace import Workspace

AS_STATED = "As stated and logged, nothing of it verified here: grades are for 'certify verify', from a bundle."


@click.group()
def model() -> None:
    """A model's versions: where each came from, what became of it, and which serve."""


@model.command("log")
@ledger_option
@click.argument("which", metavar="WEIGHTS|DIGEST")
@click.option("--tied", type=Pair(), multiple=True, help="A tied tensor that the files left out, as name=kept.")
@json_option
def log(ledger: Path, which: str, tied: tuple[tuple[str, Scalar], ...], as_json: bool) -> None:
    """Show the history of a model: its training, and every version that came from it.

    With the requests that each version answers, its audits, replays and deployments. WEIGHTS is a safetensors file or folder;
    DIGEST a tensor root, or the digest or entry of a training or certificate.

    \b
    Examples:
        certify model log forgot.safetensors
        certify model log 3f9a1c22
    """
    import msgspec

    from certify import versions
    from certify.workspace import Workspace

    with Workspace(ledger) as workspace:
        found = versions.history(workspace, root_of(workspace, which, tied))
    if as_json:
        emit(True, msgspec.to_builtins(found))
        return
    click.echo(f"{strong('model')} {found.tensor_root}")
    for version in found.versions:
        _show(version, found)
    click.echo(dim("\n".join(folded(AS_STATED))))


def _show(version: "Version", found: "History") -> None:
    pad = "  " * version.depth
    asked = version.entry in found.entries
    mark = "*" if asked else " "
    records = "" if version.records is None else f", {version.records:,} record{'' if version.records == 1 else 's'}"
    done = "" if version.records is None else (" learnt" if version.kind == "training" else " left out")
    what = f"{version.kind}, {plain(version.method)}{records}{done}"
    latest = f"  {good('current')}" if version.current else ""
    came = "" if version.parent is None else dim(f"  from entry {version.parent}")
    click.echo(
        f"{pad}{mark} {strong(f'entry {version.entry}')}  {version.time}  {what}{latest}{came}\n"
        f"{pad}    {dim(f'model {version.tensor_root[:16]}  statement {version.digest[:16]}')}"
    )
    for entry in found.started_from if version.parent is None else ():
        click.echo(f"{pad}    started from the model of entry {entry}")
    for base in version.base:
        named = f", by statement {base.statement[:16]} in {plain(base.log)}" if base.statement and base.log else ""
        licence = f", licence {plain(base.licence)}" if base.licence is not None else ""
        click.echo(f"{pad}    base {plain(base.name)} ({base.digest[:16]}){named}{licence}")
    for fact in version.bears_on:
        click.echo(f"{pad}    {plain(fact)}")
    for one in version.happened:
        told = f"{one.kind} at entry {one.entry}, {one.time}: {plain(one.facts)}"
        click.echo(f"{pad}    {bad(told) if one.warning else told}")


@model.command("deployed")
@ledger_option
@json_option
def deployed(ledger: Path, as_json: bool) -> None:
    """List what serves now, and whether it should.

    By the last deployment of each name. A model that precedes an unlearning, or has records of a request that was answered, is
    marked as a rollback, whether or not its deployment said so; requests that it does not satisfy are counted.

    \b
    Example:
        certify model deployed

    \b
    Exit codes:
        0 all as it should be    64 a rollback serves, or a model with overdue requests
    """
    import msgspec

    from certify import deployment
    from certify.workspace import Workspace

    with Workspace(ledger) as workspace:
        found = deployment.serving(workspace)
    wrong = any(one.wrong for one in found)
    if as_json:
        emit(True, [{**msgspec.to_builtins(one), "wrong": one.wrong} for one in found])
    elif not found:
        click.echo("no deployment is in the ledger: log one with 'certify deploy'")
    else:
        columns = ("name", "model of", "tensor root", "since", "deployment", "overdue", "open")
        table(columns, [_row(one) for one in found])
        for one in found:
            _warn(one)
        if not wrong:
            click.echo(good("every model that serves contains the unlearnings that it should"))
    if wrong:
        raise click.exceptions.Exit(ROLLED_BACK)


def _row(one: "Serving") -> list[str]:
    return [
        plain(one.name),
        f"entry {one.model_entry}",
        one.tensor_root[:16],
        one.since,
        f"entry {one.entry}",
        str(len(one.overdue)) if one.overdue else "–",
        str(len(one.unanswered)) if one.unanswered else "–",
    ]


def _warn(one: "Serving") -> None:
    def say(word: str, text: str) -> None:
        click.echo("\n".join(folded(plain(text), len(word) + 2, first=f"{bad(word)}  ")))

    if one.rollback is not None:
        lacks = f"; {one.lacking}" if one.lacking else ""
        say("ROLLBACK", f"{one.name}{lacks}: the reason stated is {one.rollback!r}")
    elif one.lacking:
        say("ROLLBACK", f"{one.name}: {one.lacking}; deploy a model that was made to forget")
    if one.overdue:
        listed = ", ".join(map(str, one.overdue[:8])) + (", …" if len(one.overdue) > 8 else "")
        say("OVERDUE", f"{one.name}: not known to satisfy the requests at entries {listed}, which are past due")
    if one.destroyed:
        say("DESTROYED", f"{one.name}: entry {one.destroyed[-1]} says that copies of these very weights were destroyed")


def root_of(
    workspace: "Workspace", which: str, tied: tuple[tuple[str, Scalar], ...] = (), *, logged: bool = True
) -> str:
    """The tensor root that is meant by weights, (the start of) a tensor root, or the digest or entry of a statement.

    ``logged`` False: a whole tensor root may be of weights that this ledger does not know. Raises InputError.
    """
    from certify.deployment import root_of as root_of_statement
    from certify.statement import Training, Unlearning

    path = Path(which)
    if path.exists():
        return read_weights([path], "weights", tied).root().hex()
    is_hex = bool(which) and set(which) <= set("0123456789abcdef")
    if is_hex and len(which) >= 8:
        _ = workspace.latest("training")  # which brings the look-up notes up to date
        roots = {name.removeprefix("model/") for name, _ in workspace.vault.notes(f"model/{which}")}
        if len(roots) == 1:
            return roots.pop()
        if len(roots) > 1:
            raise InputError(f"{len(roots)} logged models have a tensor root that starts with {which}, expected one")
        if not logged and len(which) == 64:
            return which
    try:
        found = workspace.find(which)
    except WorkspaceError as error:
        raise InputError(
            f"expected weights, a logged model's tensor root of 8 digits or more, or the digest or entry of a training or "
            f"certificate, got {which[:80]!r}"
        ) from error
    if not isinstance(found.statement.predicate, Training | Unlearning):
        raise InputError(
            f"entry {found.index} is a {found.statement.kind} statement, expected a training or a certificate"
        )
    return root_of_statement(found)
