"""certify trace, certify satisfied: which models saw a record, and which requests a model satisfies."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from certify.cli.options import Pair, json_option, ledger_option, read_weights
from certify.cli.output import bad, dim, emit, folded, good, plain, strong, table
from certify.errors import InputError
from certify.fields import Scalar

if TYPE_CHECKING:
    from certify.provenance import ModelSeen, RequestSeen, Trace, TrainingSeen

BY_THE_VAULT = (
    "By this ledger's own log and vault. A record under another id, a copy of it elsewhere, and a model that nobody logged are "
    "not in it; that a certificate says a record was left out does not show that nothing of it is left."
)
_STATES = {
    "answered": "answered",
    "left out": "left out",
    "never seen": "never seen",
    "open": "OPEN",
    "unknown": "unknown",
}


@click.command()
@ledger_option
@click.option("--id", "record_id", required=True, help="The record's id, as in the training data.")
@json_option
def trace(ledger: Path, record_id: str, as_json: bool) -> None:
    """Show which models saw a record: trainings, its shard, slice and batches, and unlearnings after which it is gone.

    For the operator: where a record stands is in the vault alone. Batches are known where a training recorded them
    (run.batches), shards and slices where it was SISA.

    \b
    Example:
        certify trace --id 17
    """
    import msgspec

    from certify import provenance
    from certify.workspace import Workspace

    with Workspace(ledger) as workspace:
        found = provenance.trace(workspace, record_id)
    if as_json:
        holding = [model.tensor_root for model in found.holding]
        emit(True, {**msgspec.to_builtins(found), "holding": holding})
        return
    if not found.trainings:
        click.echo(f"no training of this ledger has a record {plain(repr(record_id))}")
    for training in found.trainings:
        click.echo(f"{strong(f'training at entry {training.entry}')}: {_place(training)}")
        rows = [_model(model) for model in training.models]
        table(("entry", "method", "tensor root", "the record", ""), rows)
        click.echo()
    _requests(found)
    if found.destroyed:
        click.echo(f"{found.destroyed} openings were destroyed: of these records nothing is known any more")
    if found.holding:
        count = len(found.holding)
        models = "a current model still has it" if count == 1 else f"{count} current models still have it"
        click.echo(f"{bad(models)}: {', '.join(model.tensor_root[:16] for model in found.holding)}")
    elif found.trainings:
        click.echo(good("no current model still has it"))
    click.echo(dim("\n".join(folded(BY_THE_VAULT))))


def _place(training: "TrainingSeen") -> str:
    if training.position is None:
        return "it started from a model that had the record"
    told = [f"record {training.position} of its dataset"]
    if training.shard is not None:
        told.append(f"shard {training.shard}, slice {training.slice}")
    if training.batches is None:
        return ", ".join([*told, "batches not recorded"])
    numbers = ", ".join(map(str, training.batches[:8])) + (", …" if len(training.batches) > 8 else "")
    return ", ".join([*told, f"{len(training.batches)} batches ({numbers})" if training.batches else "in no batch"])


def _model(model: "ModelSeen") -> list[str]:
    state = {
        "holds": "learnt it",
        "gone": f"left out by entry {model.by}",
        "by way": f"came from entry {model.by}, which has it",
        "unknown": f"unknown: the vault lacks what entry {model.by} left out",
    }[model.state]
    return [str(model.entry), model.method, model.tensor_root[:16], state, "current" if model.current else "replaced"]


def _requests(found: "Trace") -> None:
    for asked in found.requests:
        done = f"answered by entry {', '.join(map(str, asked.answered))}" if asked.answered else bad("not answered")
        late = f", {bad('overdue')}" if asked.overdue else ""
        click.echo(
            f"request at entry {asked.entry} ({plain(asked.ground)}, due {asked.due[:10]}) names it: {done}{late}"
        )


@click.command()
@ledger_option
@click.argument("model", required=True)
@click.option("--tied", type=Pair(), multiple=True, help="A tied tensor that the files left out, as name=kept.")
@click.option("--open", "open_only", is_flag=True, help="Only requests that are not known to be satisfied.")
@json_option
def satisfied(ledger: Path, model: str, tied: tuple[tuple[str, Scalar], ...], open_only: bool, as_json: bool) -> None:
    """Show which requests a model satisfies.

    MODEL is weights (a safetensors file or folder) or a tensor root. A request is answered where a certificate on the model's way
    names it, left out where certificates for other requests removed all its records, and never seen where the model was not
    trained on them.

    \b
    Examples:
        certify satisfied deployed/model.safetensors
        certify satisfied 3f9a… --open
    """
    import msgspec

    from certify import provenance
    from certify.workspace import Workspace

    with Workspace(ledger) as workspace:
        found = provenance.satisfied(workspace, _root(workspace.vault, model, tied))
    requests = [one for one in found.requests if not open_only or one.state in ("open", "unknown")]
    if as_json:
        emit(True, {**msgspec.to_builtins(found), "requests": msgspec.to_builtins(requests)})
        return
    click.echo(f"{strong('model')} {found.tensor_root}")
    click.echo(f"{found.kind} at entry {found.entry}, {'current' if found.current else bad('replaced by a later one')}")
    if requests:
        table(("request", "what", "ground", "due", "this model"), [_request(one) for one in requests])
    else:
        click.echo("no request is open for it" if open_only else "the ledger has no request")
    click.echo(dim("\n".join(folded(BY_THE_VAULT))))


def _request(one: "RequestSeen") -> list[str]:
    what = f"{one.records} record{'' if one.records == 1 else 's'}" if one.scope == "records" else f"a {one.scope}"
    by = f" by entry {', '.join(map(str, one.by))}" if one.by and one.state in ("answered", "left out") else ""
    left = f", {one.left} of its records in the model" if one.left else ""
    return [str(one.entry), what, one.ground, one.due[:10], f"{_STATES[one.state]}{by}{left}"]


def _root(vault: object, model: str, tied: tuple[tuple[str, Scalar], ...]) -> str:
    """The tensor root that is meant."""
    from certify.vault import Vault

    path = Path(model)
    if path.exists():
        return read_weights([path], "weights", tied).root().hex()
    if len(model) < 8 or not set(model) <= set("0123456789abcdef"):
        raise InputError(f"expected weights or a tensor root of 8 digits or more, got {model[:80]!r}")
    assert isinstance(vault, Vault)
    roots = {name.removeprefix("model/") for name, _ in vault.notes(f"model/{model}")}
    if len(roots) != 1:
        raise InputError(
            f"{len(roots) or 'no'} logged models have a tensor root that starts with {model}, expected one"
        )
    return roots.pop()
