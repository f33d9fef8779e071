"""certify prove --estimate: what a proof takes, before anything starts and even before there are data.

::

    exclusion-optimum/v1  ridge, 1,000 records of 50 features, 1 to forget
    cells             1,141,975, at logrows 11
    memory            3.53 GB  of 22.6 GB available
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from certify.cli.objective import STAGES
from certify.cli.output import bad, dim, duration, emit, fields, size, stages, strong

if TYPE_CHECKING:
    from certify.provable import Objective
    from certify.provable_step import Step
    from circuits.description import Parameters
    from circuits.estimate import Estimate
    from circuits.problem import Problem

LARGEST, SUM = 10, 10.0
"""Of encoded numbers and of an output's weights, where there are no data to look at."""
MAX_NUMBERS = 1_000_000


def of_requests(ledger: Path, requests: tuple[str, ...], step: "Step | None" = None) -> "tuple[Parameters, int]":
    """What proving for these requests would be about, and how many proofs it takes."""
    from certify import provable
    from certify.workspace import Workspace

    with Workspace(ledger) as workspace:
        return provable.problem_for(workspace, requests, step)


def without_data(shape: Mapping[str, int | None], given: Mapping[str, Any]) -> "Problem":
    """The same for data of that shape, with typical numbers in them. Raises click's UsageError for too many."""
    assert shape["rows"] is not None and shape["features"] is not None
    if shape["rows"] * shape["features"] > MAX_NUMBERS:
        raise click.UsageError(f"expected at most {MAX_NUMBERS:,} numbers in all: more than that, no machine proves")
    from certify import provable

    objective: Objective = provable.Objective(**given)
    classes = shape["classes"] or 2
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


def show(problem: "Parameters", proofs: int, as_json: bool, *, assumed: bool) -> None:
    """Build the circuit, and print what so many proofs by it would take."""
    from certify import provable
    from circuits.description import describe
    from circuits.estimate import available_memory

    with stages(STAGES) as progress:
        progress("building the circuit", 0)
        found: Estimate = provable.plan(problem).estimate()
    available = available_memory()
    fits = available is None or found.memory <= available
    string = _string(problem.logrows)
    value = {
        "statement": problem.statement,
        **describe(problem),
        "proofs": proofs,
        "cells": found.cells,
        "setupSeconds": round(found.setup_seconds, 1),
        "proveSeconds": round(found.seconds * proofs, 1),
        "memory": found.memory,
        "availableMemory": available,
        "fits": fits,
        "proofBytes": found.proof_size * proofs,
        "referenceString": str(string) if string else None,
    }
    there = "" if available is None else f"  {dim(f'of {size(available)} available')}"
    each = f", {proofs} of them" if proofs > 1 else ""
    emit(
        as_json,
        value,
        f"{strong(problem.statement)}  {_what(problem)}, {sum(problem.forgotten)} to forget",
        *fields(
            ("cells", f"{found.cells:,}, at logrows {problem.logrows}"),
            ("keys", f"{duration(found.setup_seconds)}  {dim('once for each circuit')}"),
            (
                "proving",
                f"{duration(found.seconds * proofs)}  {dim('on two cores; up to three times that on a busy machine')}",
            ),
            ("memory", f"{size(found.memory)}{there}{'' if fits else '  ' + bad('does not fit')}"),
            ("size", f"{size(found.proof_size * proofs)}  {dim(f'of the zk proof{each}')}"),
            ("reference string", _described(string) or f"{bad('missing')}: certify srs fetch {problem.logrows}"),
        ),
        *([dim(f"assumed: scaled numbers within {LARGEST}, weights that add up to {SUM:g}")] if assumed else []),
    )


def _what(problem: "Parameters") -> str:
    from circuits.problem import Problem
    from circuits.step_problem import StepProblem

    if isinstance(problem, Problem):
        return f"{problem.loss}, {problem.rows:,} records of {problem.features} features"
    if isinstance(problem, StepProblem):
        return f"{problem.method} of a {problem.network} model with {problem.size} weights, steps: {problem.steps}"
    layers = [problem.features, *([problem.hidden] if problem.hidden else []), problem.outputs]
    return f"{'-'.join(map(str, layers))}, {problem.steps} steps on {problem.batch} records in each proof"


def _string(logrows: int) -> Path | None:
    from circuits import srs
    from circuits.errors import SrsError

    try:
        return srs.find(logrows, development=True)
    except SrsError:
        return None


def _described(path: Path | None) -> str:
    from circuits import srs

    if path is None:
        return ""
    return f"{bad('DEVELOPMENT')}  {path}" if srs.load(path).development else str(path)
