"""certify fit and prove: models whose unlearning can be proven.

::

    certify fit --data patients.csv --target diagnosis           # training/v1, and model.safetensors
    certify request --data patients.csv --id 17
    certify prove --request 1                                    # unlearning/v1 with its zk proof, and forgot.safetensors
"""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from certify.cli.objective import STAGES, STEPS, Number, objective_options
from certify.cli.options import FILE, OUTPUT, id_column_option, json_option, ledger_option, needs_zk
from certify.cli.output import dim, duration, emit, fields, forgeable, good, size, stages
from certify.errors import InputError
from certify.inputs import write_file
from certify.statement import Training, Unlearning

if TYPE_CHECKING:
    import torch

    from certify.provable import Objective
    from certify.provable_sgd import Sgd
    from certify.provable_step import Step, Updatable
    from certify.workspace import Workspace
    from circuits.engine import Engine


_DEVELOPMENT = "whoever made it can forge proofs, and verifiers refuse them unless told otherwise"


def _room_for(output: Path) -> None:
    """Refuse, before anything is logged, to write where nothing can be written."""
    try:
        with tempfile.NamedTemporaryFile(dir=output.parent, prefix=f".{output.name}."):
            pass
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}") from error


def _unlock(workspace: "Workspace") -> None:
    """Ask for the password now, and not under a line that is drawn anew all the time."""
    _ = workspace.vault


def _write(output: Path, weights: "Mapping[str, torch.Tensor]") -> None:
    from safetensors.torch import save

    write_file(output, save(dict(weights)))


def _model(
    objective: Mapping[str, Any], network: Mapping[str, Any], for_steps: bool, deltas: bool
) -> "Objective | Sgd | Updatable":
    """What the options describe. Raises click's UsageError for a mixture."""
    from certify.provable import Objective
    from certify.provable_sgd import Sgd

    given = {name: value for name, value in network.items() if value is not None}
    if for_steps:
        return _updatable(objective, given, deltas)
    if deltas:
        raise click.UsageError("--deltas is of --for-steps: give that as well")
    if not given:
        return Objective(**objective)
    if "hidden" not in given:
        raise click.UsageError(f"--{next(iter(given)).replace('_', '-')} is of a network: give --hidden as well")
    usual = asdict(Objective())
    if objective["loss"] == "logistic":
        if given["hidden"]:
            raise click.UsageError("--loss logistic is of a network without a hidden layer: --hidden 0")
        usual["loss"] = given["loss"] = "logistic"
    for name in ("loss", "penalty", "scale_x", "scale_w"):
        if objective[name] != usual[name]:
            raise click.UsageError(f"--{name.replace('_', '-')} is of a linear model, --hidden of a network")
    return Sgd(**given, tau=objective["tau"], logrows=objective["logrows"], passes=objective["proofs"])


def _updatable(objective: Mapping[str, Any], network: Mapping[str, Any], deltas: bool) -> "Updatable":
    """A linear model by default; --loss ridge has a penalty, the others are trained by SGD."""
    from certify.provable import Objective
    from certify.provable_step import Updatable

    usual = asdict(Objective())
    given: dict[str, Any] = {
        name: objective[name] for name in ("scale_x", "scale_w") if objective[name] != usual[name]
    } | {name: objective[name] for name in ("logrows", "proofs")}
    if objective["loss"] == "ridge":
        given["penalty"] = objective["penalty"]
    elif objective["penalty"] != usual["penalty"]:
        raise click.UsageError("--penalty is of --loss ridge, with --for-steps")
    if objective["loss"] == "logistic":
        given["loss"] = "logistic"
    return Updatable(**network, **given, deltas=deltas)


def _step(name: str | None, told: Mapping[str, Any]) -> "Step | None":
    """The step that the options describe. Raises click's UsageError, InputError."""
    from certify import provable_step as steps

    needs = {"ascent": ("steps", "learning_rate"), "projection": ("direction",), "mask": ("mask",)}
    given = {option: value for option, value in told.items() if value is not None}
    for option in given:
        if option not in needs.get(name or "", ()):
            of = next(step for step, options in needs.items() if option in options)
            raise click.UsageError(f"--{option.replace('_', '-')} is of --step {of}")
    if name == "projection":
        try:
            return steps.Projection(tuple(int(part) for part in given.get("direction", "").split(",")))
        except ValueError:
            raise click.UsageError("expected --direction with integers like 3,-4,0, one a feature") from None
    if name == "mask":
        if "mask" not in given:
            raise click.UsageError("expected --mask with a file of tensors, 0 where a weight goes")
        from safetensors.torch import load_file

        return steps.Mask(load_file(given["mask"]))
    made = {None: None, "ascent": steps.Ascent, "subtraction": steps.Subtraction, "newton": steps.Newton}[name]
    return made(**given) if made is not None else None


@click.command()
@ledger_option
@click.option("--data", type=FILE, required=True, help="The training records: .csv with a header, or .jsonl.")
@click.option("--target", metavar="COLUMN", required=True, help="Column to predict; all others are the features.")
@id_column_option
@objective_options()
@click.option("--hidden", type=click.IntRange(0), help="A network instead: units of its hidden layer, or 0 for none.")
@click.option("--batch", type=click.IntRange(1), help="… records in a batch, which the data must fill.  [default: 32]")
@click.option(
    "--steps", type=click.IntRange(1), help="… steps of SGD, each proven when something is forgotten.  [default: 20]"
)
@click.option("--seed", help="… public text that its first weights are made from.")
@click.option("--learning-rate", type=Number(0, min_open=True), help="… of its mean gradient.  [default: 0.25]")
@click.option("--for-steps", is_flag=True, help="Commit to the weights, so that a step can be proven, not exclusion.")
@click.option("--deltas", is_flag=True, help="… and to what each batch changed, to take it off one day.")
@click.option("--output", "-o", type=OUTPUT, default=Path("model.safetensors"), show_default=True)
@click.option("--development-srs", is_flag=True, help="Do with a reference string that proofs can be forged with.")
@json_option
@needs_zk()
def fit(
    ledger: Path,
    data: Path,
    target: str,
    id_column: str | None,
    hidden: int | None,
    batch: int | None,
    steps: int | None,
    seed: str | None,
    learning_rate: float | None,
    for_steps: bool,
    deltas: bool,
    output: Path,
    development_srs: bool,
    as_json: bool,
    **objective: Any,
) -> None:
    """Fit a model whose unlearning can be proven, and log it.

    A linear model, by a convex objective: it has one optimum, whatever path leads there, so that a zero-knowledge proof
    can show what the weights were learnt from. Features are scaled by their means and deviations, roughly.

    The records are committed to here, with salt. Do so before anybody asks to be forgotten: requests can be answered with
    a proof only for records that are in the log already.

    With --hidden it is a small network, trained by SGD from public first weights; then every step is proven. Its loss is the
    squared error or, with --hidden 0 --loss logistic, the logistic one.

    With --for-steps nothing will show that weights hold nothing of a record; but that an update was made as stated can be proven,
    of gradient ascent and others, and it costs no more for a large training set than for a small one (certify prove --step).

    \b
    Examples:
        certify fit --data patients.csv --target diagnosis
        certify fit --data patients.csv --target diagnosis --for-steps
        certify fit --data digits.csv --target digit --hidden 16 --steps 24
        certify fit --data houses.csv --target price --loss ridge --penalty 10 -o prices.safetensors
    """
    _room_for(output)
    from certify import provable
    from certify.records import read_records
    from certify.workspace import Workspace

    network = {"hidden": hidden, "batch": batch, "steps": steps, "seed": seed, "learning_rate": learning_rate}
    model = _model(objective, network, for_steps, deltas)  # before anything is read or asked for
    records = dict(read_records(data, id_column))
    with Workspace(ledger) as workspace:
        _unlock(workspace)
        with stages(STAGES) as progress:
            made = provable.fit(
                workspace,
                records,
                target=target,
                objective=model,
                development=development_srs,
                progress=progress,
            )
    _write(output, made.weights)
    training = cast(Training, made.logged.statement.predicate)
    assert training.zk is not None and made.score is not None
    what = "R2" if objective["loss"] == "ridge" and not for_steps else "accuracy"
    score = f"{made.score:.4f}" if what == "R2" else f"{made.score:.1%}"
    development = _is_development(training.zk.srs)
    value = {
        "entry": made.logged.index,
        "digest": made.logged.digest,
        "weights": str(output),
        "tensorRoot": training.model.tensor_root,
        "records": training.dataset.count,
        "features": training.recipe.parameters["features"],
        what: made.score,
        "developmentSrs": development,
    }
    encoding = training.zk.encoding
    classes = f", classes {', '.join(encoding.classes[:6])}" if encoding is not None and encoding.classes else ""
    emit(
        as_json,
        value,
        good(f"training logged as entry {made.logged.index}"),
        *fields(
            ("digest", made.logged.digest),
            ("data", f"{training.dataset.count} records of {value['features']} features{classes}"),
            (what, f"{score}, on these records"),
            ("weights", output),
            ("tensor root", training.model.tensor_root),
        ),
        *(forgeable(_DEVELOPMENT) if development else []),
        "next, when somebody asks to be forgotten: certify request, then certify prove",
    )


def _is_development(srs: str) -> bool:
    from circuits.srs import CEREMONY

    return srs != CEREMONY[1]


@click.command()
@ledger_option
@click.option("--request", "-r", "requests", multiple=True, help="Entry or digest of a request; repeatable.")
@click.option("--output", "-o", type=OUTPUT, default=Path("forgot.safetensors"), show_default=True)
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--ray-address", help="A Ray cluster, with --engine ray.  [default: processes of this machine]")
@click.option("--step", type=click.Choice(STEPS), help="Prove this step, of a model that was fitted --for-steps.")
@click.option("--steps", type=click.IntRange(1, 64), help="… so many of ascent, one after the other.  [default: 1]")
@click.option("--learning-rate", type=Number(0, min_open=True), help="… of their mean loss.  [default: 0.05]")
@click.option("--direction", metavar="INTEGERS", help="… to project along, one integer a feature: 3,-4,0.")
@click.option("--mask", type=FILE, help="… safetensors of the model's shapes: 0 where a weight goes.")
@click.option("--estimate", is_flag=True, help="Print what proving would take, and do nothing.")
@click.option("--rows", type=click.IntRange(2), help="To estimate without data: records.")
@click.option("--features", type=click.IntRange(1), help="… and numbers in each.")
@click.option("--classes", type=click.IntRange(2, 64), help="… and classes of the target.  [default: 2]")
@click.option("--forget", type=click.IntRange(1), help="… and records that a request names.  [default: 1]")
@objective_options(defaults=False)
@json_option
@needs_zk()
def prove(
    ledger: Path,
    requests: tuple[str, ...],
    output: Path,
    engine: str,
    ray_address: str | None,
    step: str | None,
    steps: int | None,
    learning_rate: float | None,
    direction: str | None,
    mask: Path | None,
    estimate: bool,
    rows: int | None,
    features: int | None,
    classes: int | None,
    forget: int | None,
    as_json: bool,
    **objective: Any,
) -> None:
    """Forget, prove it, and issue the certificate.

    Finds the optimum without the requested records and all that are next to them, and makes a zero-knowledge proof that
    the new weights are there. The training has to be by 'certify fit', and before the request.

    A model that was fitted --for-steps is updated by a --step instead: what is proven then is that step, and not that nothing of
    the records is left.

    What earlier certificates of the same training left out stays out. With --estimate nothing is done, and other options
    describe data that you may not have yet.

    \b
    Examples:
        certify prove --request 1
        certify prove --request 1 --request 2 -o forgot.safetensors
        certify prove --request 1 --step ascent --steps 5 --learning-rate 0.05
        certify prove --request 1 --estimate
        certify prove --estimate --rows 1000 --features 50 --loss ridge
    """
    given = {name: value for name, value in objective.items() if value is not None}
    shape = {"rows": rows, "features": features, "classes": classes, "forget": forget}
    described = [name for name, value in (shape | given).items() if value is not None]
    if described and not (estimate and not requests):
        option = described[0].replace("_", "-")
        raise click.UsageError(f"--{option} describes data for an estimate; the training says it for --request")
    told = {"steps": steps, "learning_rate": learning_rate, "direction": direction, "mask": mask}
    chosen = _step(step, told)
    if estimate:
        if not requests and (rows is None or features is None):
            raise click.UsageError("an estimate is of a --request, or of --rows and --features")
        from certify.cli import estimate as estimates

        problem, proofs = (
            estimates.of_requests(ledger, requests, chosen) if requests else (estimates.without_data(shape, given), 1)
        )
        estimates.show(problem, proofs, as_json, assumed=not requests)
        return
    if not requests:
        raise click.UsageError("Missing option '--request' / '-r'.")
    if ray_address is not None and engine != "ray":
        raise click.UsageError("--ray-address is for --engine ray")
    _prove(ledger, requests, output, _engine(engine, ray_address), as_json, chosen)


def _engine(name: str, address: str | None) -> "Engine | None":
    """None for this machine, which tells its stages."""
    if name == "local":
        return None
    from circuits.engine import ray

    return ray(address)


def _prove(
    ledger: Path, requests: tuple[str, ...], output: Path, engine: "Engine | None", as_json: bool, step: "Step | None"
) -> None:
    _room_for(output)
    from certify import provable
    from certify.workspace import Workspace

    began = time.monotonic()
    with Workspace(ledger) as workspace:
        _unlock(workspace)
        with stages(STAGES) as progress:
            made = provable.forget(workspace, requests, step=step, engine=engine, progress=progress)
        certificate = cast(Unlearning, made.logged.statement.predicate)
        assert certificate.evidence is not None
        lengths = [len(workspace.attachments.get("proofs", digest)) for digest in certificate.evidence.proofs]
    _write(output, made.weights)
    evidence, seconds = certificate.evidence, time.monotonic() - began
    development = _is_development(evidence.commitments.srs)
    value = {
        "entry": made.logged.index,
        "digest": made.logged.digest,
        "weights": str(output),
        "tensorRoot": certificate.post.tensor_root,
        "statement": evidence.statement,
        "circuits": evidence.circuits,
        "proofs": len(lengths),
        "proofBytes": sum(lengths),
        "seconds": round(seconds, 1),
        "developmentSrs": development,
    }
    proofs = f"{len(lengths)} zk proofs" if len(lengths) > 1 else "a zk proof"
    emit(
        as_json,
        value,
        good(f"certificate issued as entry {made.logged.index}, with {proofs}"),
        *fields(
            ("digest", made.logged.digest),
            ("proven", f"{evidence.statement}, {size(sum(lengths))}, in {duration(seconds)}"),
            ("circuit", ", ".join(evidence.circuits)),
            ("accepted in", f"{ledger / 'trust.toml'}  {dim('(others check it: certify circuit rebuild)')}"),
            ("weights", output),
            ("tensor root", certificate.post.tensor_root),
        ),
        *(forgeable(_DEVELOPMENT) if development else []),
        "next: certify bundle",
    )
