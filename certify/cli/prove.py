"""certify fit and prove: models whose unlearning can be proven.

::

    certify fit --data patients.csv --target diagnosis           # training/v1, and model.safetensors
    certify request --data patients.csv --id 17
    certify prove --request 1                                    # unlearning/v1 with its zk proof, and forgot.safetensors
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from certify.cli.options import FILE, OUTPUT, id_column_option, json_option, ledger_option, needs_zk
from certify.cli.output import bad, dim, duration, emit, fields, good, size, stages, strong
from certify.errors import InputError
from certify.inputs import write_file
from certify.statement import Training, Unlearning

if TYPE_CHECKING:
    import torch

    from certify.provable import Objective
    from circuits.engine import Engine
    from circuits.estimate import Estimate
    from circuits.problem import Problem

LOSSES = ("squared-hinge", "ridge", "logistic")
LARGEST, SUM = 10, 10.0
"""Of encoded numbers and of an output's weights, where there are no data to look at."""

_STAGES = {
    "fitting": "fitting",
    "committing to the data": "committing to the data",
    "solving": "finding the optimum without the forgotten records",
    "setup": "making the circuit's keys, once",
    "gen_witness": "computing the circuit",
    "mock": "checking every constraint",
    "prove": "proving",
    "verifying": "verifying",
}
_DEVELOPMENT = "reference string: whoever made it can forge proofs, and verifiers refuse them unless told otherwise"


def _objective(command: Callable[..., Any], *, defaults: bool = True) -> Callable[..., Any]:
    """The objective's options. Without ``defaults``, those that are not given are None."""
    number = click.FloatRange(0, min_open=True)
    count = click.IntRange(1)
    made: tuple[tuple[str, Any, Any, str], ...] = (
        ("--loss", click.Choice(LOSSES), "squared-hinge", "squared-hinge is a linear SVM, ridge predicts a number."),
        (
            "--penalty",
            number,
            1.0,
            "L in the objective, sum of losses + L/2 |w|^2. A larger one keeps weights smaller.",
        ),
        ("--tau", click.FloatRange(0), 0.01, "Squared distance within which records are forgotten along with one."),
        ("--scale-x", count, 128, "Data are integers over this, a power of two."),
        ("--scale-w", count, 16384, "Weights are integers over this, a power of two."),
        ("--logrows", click.IntRange(8, 26), 11, "Circuit size: larger is a shorter proof, and a larger srs file."),
    )
    for name, type_, default, help_ in reversed(made):
        usual = f"{help_}  [default: {default}]"
        command = click.option(name, type=type_, default=default if defaults else None, help=usual)(command)
    return command


def _estimated(command: Callable[..., Any]) -> Callable[..., Any]:
    return _objective(command, defaults=False)


def _room_for(output: Path) -> None:
    """Refuse, before anything is logged, to write where nothing can be written."""
    try:
        with tempfile.NamedTemporaryFile(dir=output.parent, prefix=f".{output.name}."):
            pass
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}") from error


def _write(output: Path, weights: "Mapping[str, torch.Tensor]") -> None:
    from safetensors.torch import save

    write_file(output, save(dict(weights)))


@click.command()
@ledger_option
@click.option("--data", type=FILE, required=True, help="The training records: .csv with a header, or .jsonl.")
@click.option("--target", metavar="COLUMN", required=True, help="Column to predict; all others are the features.")
@id_column_option
@_objective
@click.option("--output", "-o", type=OUTPUT, default=Path("model.safetensors"), show_default=True)
@click.option("--development-srs", is_flag=True, help="Do with a reference string that proofs can be forged with.")
@json_option
@needs_zk()
def fit(
    ledger: Path,
    data: Path,
    target: str,
    id_column: str | None,
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

    \b
    Examples:
        certify fit --data patients.csv --target diagnosis
        certify fit --data houses.csv --target price --loss ridge --penalty 10 -o prices.safetensors
    """
    from certify import provable
    from certify.records import read_records
    from certify.workspace import Workspace

    _room_for(output)
    records = dict(read_records(data, id_column))
    with Workspace(ledger) as workspace, stages(_STAGES) as progress:
        made = provable.fit(
            workspace,
            records,
            target=target,
            objective=provable.Objective(**objective),
            development=development_srs,
            progress=progress,
        )
    _write(output, made.weights)
    training = cast(Training, made.logged.statement.predicate)
    assert training.zk is not None and made.score is not None
    what = "R2" if objective["loss"] == "ridge" else "accuracy"
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
            ("weights", f"{output}, tensor root {training.model.tensor_root}"),
        ),
        *([f"{bad('DEVELOPMENT')}  {_DEVELOPMENT}"] if development else []),
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
@click.option("--estimate", is_flag=True, help="Print what proving would take, and do nothing.")
@click.option("--rows", type=click.IntRange(2), help="To estimate without data: records.")
@click.option("--features", type=click.IntRange(1), help="… and numbers in each.")
@click.option("--classes", type=click.IntRange(2, 64), help="… and classes of the target.  [default: 2]")
@click.option("--forget", type=click.IntRange(1), help="… and records that a request names.  [default: 1]")
@_estimated
@json_option
@needs_zk()
def prove(
    ledger: Path,
    requests: tuple[str, ...],
    output: Path,
    engine: str,
    ray_address: str | None,
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

    What earlier certificates of the same training left out stays out. With --estimate nothing is done, and other options
    describe data that you may not have yet.

    \b
    Examples:
        certify prove --request 1
        certify prove --request 1 --request 2 -o forgot.safetensors
        certify prove --request 1 --estimate
        certify prove --estimate --rows 1000 --features 50 --loss ridge
    """
    given = {name: value for name, value in objective.items() if value is not None}
    shape = {"rows": rows, "features": features, "classes": classes, "forget": forget}
    described = [name for name, value in (shape | given).items() if value is not None]
    if described and not (estimate and not requests):
        option = described[0].replace("_", "-")
        raise click.UsageError(f"--{option} describes data for an estimate; the training says it for --request")
    if estimate:
        if not requests and (rows is None or features is None):
            raise click.UsageError("an estimate is of a --request, or of --rows and --features")
        problem = _problem_of(ledger, requests) if requests else _problem_without_data(shape, given)
        _show_estimate(problem, as_json, assumed=not requests)
        return
    if not requests:
        raise click.UsageError("Missing option '--request' / '-r'.")
    if ray_address is not None and engine != "ray":
        raise click.UsageError("--ray-address is for --engine ray")
    _prove(ledger, requests, output, _engine(engine, ray_address), as_json)


def _engine(name: str, address: str | None) -> "Engine | None":
    """None for this machine, which tells its stages."""
    if name == "local":
        return None
    from circuits.engine import ray

    return ray(address)


def _prove(ledger: Path, requests: tuple[str, ...], output: Path, engine: "Engine | None", as_json: bool) -> None:
    from certify import provable
    from certify.workspace import Workspace

    _room_for(output)
    began = time.monotonic()
    with Workspace(ledger) as workspace, stages(_STAGES) as progress:
        made = provable.forget(workspace, requests, engine=engine, progress=progress)
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
            ("weights", f"{output}, tensor root {certificate.post.tensor_root}"),
        ),
        *([f"{bad('DEVELOPMENT')}  {_DEVELOPMENT}"] if development else []),
        f"the circuit is accepted in {ledger / 'trust.toml'}; whoever gets that file can check it: certify circuit rebuild",
        "next: certify bundle",
    )


def _problem_of(ledger: Path, requests: tuple[str, ...]) -> "Problem":
    from certify import provable
    from certify.workspace import Workspace

    with Workspace(ledger) as workspace:
        return provable.problem_for(workspace, requests)


def _problem_without_data(shape: Mapping[str, int | None], given: Mapping[str, Any]) -> "Problem":
    from certify import provable

    objective: Objective = provable.Objective(**given)
    classes = shape["classes"] or 2
    assert shape["rows"] is not None and shape["features"] is not None
    return provable.problem_of_size(
        objective,
        rows=shape["rows"],
        features=shape["features"],
        outputs=1 if objective.loss == "ridge" or classes == 2 else classes,
        scale_y=objective.scale_x if objective.loss == "ridge" else 1,
        forgotten=(shape["forget"] or 1,),
        largest=LARGEST * objective.scale_x,
        total=SUM,
    )


def _show_estimate(problem: "Problem", as_json: bool, *, assumed: bool) -> None:
    from certify import provable
    from circuits.estimate import available_memory

    with stages(_STAGES) as progress:
        progress("building the circuit", 0)
        found: Estimate = provable.plan(problem).estimate()
    available = available_memory()
    fits = available is None or found.memory <= available
    string = _string(problem.logrows)
    value = {
        "statement": problem.statement,
        "loss": problem.loss,
        "rows": problem.rows,
        "features": problem.features,
        "outputs": problem.outputs,
        "forgotten": list(problem.forgotten),
        "logrows": problem.logrows,
        "cells": found.cells,
        "setupSeconds": round(found.setup_seconds, 1),
        "proveSeconds": round(found.seconds, 1),
        "memory": found.memory,
        "availableMemory": available,
        "fits": fits,
        "proofBytes": found.proof_size,
        "referenceString": str(string) if string else None,
    }
    there = "" if available is None else f"  {dim(f'of {size(available)} available')}"
    forgotten = f"{sum(problem.forgotten)} to forget"
    emit(
        as_json,
        value,
        f"{strong(problem.statement)}  {problem.loss}, {problem.rows:,} records of {problem.features} features, {forgotten}",
        *fields(
            ("cells", f"{found.cells:,}, at logrows {problem.logrows}"),
            ("keys", f"{duration(found.setup_seconds)}  {dim('once for each circuit')}"),
            ("proof", f"{duration(found.seconds)}  {dim('on two cores; up to three times that on a busy machine')}"),
            ("memory", f"{size(found.memory)}{there}{'' if fits else '  ' + bad('does not fit')}"),
            ("size", f"{size(found.proof_size)}  {dim('of the zk proof')}"),
            ("reference string", str(string) if string else f"{bad('missing')}: certify srs fetch {problem.logrows}"),
        ),
        *([dim(f"assumed: scaled numbers within {LARGEST}, weights that add up to {SUM:g}")] if assumed else []),
    )


def _string(logrows: int) -> Path | None:
    from circuits import srs
    from circuits.errors import SrsError

    try:
        return srs.find(logrows, development=True)
    except SrsError:
        return None
