"""certify deploy: which weights serve, what was destroyed, who was told."""

from datetime import datetime
from pathlib import Path

import click

from certify.cli.options import Pair, Time, json_option, ledger_option
from certify.cli.output import bad, emit, fields, good, plain
from certify.errors import InputError
from certify.fields import Scalar
from certify.statement import Deployment, Destroyed, Notified

Pairs = tuple[tuple[str, Scalar], ...]


@click.command()
@ledger_option
@click.option("--weights", "-w", "model", required=True, metavar="WEIGHTS|DIGEST", help="What serves from now on.")
@click.option("--tied", type=Pair(), multiple=True, help="A tied tensor that the files left out, as name=kept.")
@click.option("--name", required=True, help="The service or environment, like 'production'; logged as it is.")
@click.option("--since", type=Time(), help="When it began to serve.  [default: now]")
@click.option(
    "--destroyed",
    multiple=True,
    metavar="WEIGHTS|DIGEST",
    help="Older weights whose copies were destroyed; repeatable.",
)
@click.option("--how", default="deleted", show_default=True, help="How they were destroyed; logged as it is.")
@click.option("--destroyed-at", type=Time(), help="When they were.  [default: now]")
@click.option("--notified", type=Pair(), multiple=True, help="Who was told, as who=count: nobody by name; repeatable.")
@click.option("--rollback", metavar="REASON", help="Why a model serves that precedes an unlearning; logged as it is.")
@json_option
def deploy(
    ledger: Path,
    model: str,
    tied: Pairs,
    name: str,
    since: datetime | None,
    destroyed: tuple[str, ...],
    how: str,
    destroyed_at: datetime | None,
    notified: Pairs,
    rollback: str | None,
    as_json: bool,
) -> None:
    """Log which model serves.

    A model that precedes an unlearning, or has records of a request that was answered, is refused: whoever deploys it gives
    back what was forgotten. With --rollback it is logged, and reported as a rollback wherever the case is verified. Labels and
    reasons are in the log for good: put nothing personal there.

    \b
    Examples:
        certify deploy --weights forgot.safetensors --name production
        certify deploy -w forgot.safetensors --name production --destroyed model.safetensors --how "keys erased"
            --notified "people who asked=2"
        certify deploy -w model.safetensors --name production --rollback "outage of the new model"

    \b
    Exit codes:
        0 logged    64 this would be a rollback: nothing was logged
    """
    from certify import deployment
    from certify.cli.model import root_of
    from certify.times import format_time, now
    from certify.workspace import Workspace

    when = format_time(destroyed_at or now())
    told = [Notified(who, _count(who, count)) for who, count in notified]
    with Workspace(ledger) as workspace:
        gone = [Destroyed(root_of(workspace, text, tied, logged=False), when, how) for text in destroyed]
        root = root_of(workspace, model, tied)
        logged = deployment.deploy(workspace, root, name, since=since, destroyed=gone, notified=told, rollback=rollback)
    said = logged.statement.predicate
    assert isinstance(said, Deployment)
    value = {
        "entry": logged.index,
        "digest": logged.digest,
        "name": said.name,
        "tensorRoot": root,
        "statement": said.statement,
        "since": said.since,
        "destroyed": [copy.model for copy in said.destroyed],
        "rollback": said.rollback,
    }
    headline = f"deployment logged as entry {logged.index}"
    emit(
        as_json,
        value,
        bad(f"{headline}, as a ROLLBACK") if said.rollback is not None else good(headline),
        *fields(
            ("digest", logged.digest),
            ("serves", f"{root} as {plain(said.name)} since {said.since}"),
            *((("destroyed", f"copies of {len(gone)} older model{'' if len(gone) == 1 else 's'}"),) if gone else ()),
        ),
        "next: certify bundle, which then has it",
    )


def _count(who: str, count: Scalar) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise InputError(
            f"expected who was told with their number, like 'people who asked=2', got {who[:80]}={count!r}"
        )
    return count
