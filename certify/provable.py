"""Models whose unlearning can be proven: fit on data that were committed to, and forget with a zero-knowledge proof.

::

    fitted = fit("ledger", patients, target="diagnosis", objective=Objective("squared-hinge"))
    request = file_request("ledger", {"17": patients["17"]}, ground="gdpr-17")
    forgot = forget("ledger", [request])               # the optimum without the record, proven: exclusion-optimum/v1
    forgot.weights["weight"]                           # float32, integers over 2**14

A convex objective has one optimum, whatever path leads to it. So it is enough to prove that the released weights are next to
the one over the retained records: nothing of the training has to be shown.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from certify import committed
from certify.certificate import forgotten_by, log_training, log_unlearning
from certify.encoding import encoding_for, outputs_of, row_of
from certify.errors import WorkspaceError
from certify.proof_task import (
    Progress,
    Provable,
    answered,
    circuit_files,
    forgotten_in,
    latest,
    made_now,
    manifest_of,
    silent,
    training_of,
)
from certify.provable_sgd import Sgd, fit_sgd, forget_sgd, is_sgd, problem_of_sgd
from certify.provable_step import Step, Updatable, fit_step, forget_step, is_step, problem_of_step
from certify.records import records_of
from certify.state_dict import digest_state_dict
from certify.statement import Base, Method, Training
from certify.statement import Parameters as Stated
from certify.times import now
from certify.workspace import Logged, Workspace
from certify.zk import RECORDS, WEIGHTS, Commitments, Committed, Encoding, Evidence
from circuits import description, optimum, prover, srs, table
from circuits.description import Parameters
from circuits.engine import Engine, Job, local
from circuits.errors import ProverError
from circuits.opening import open_places
from circuits.problem import Loss, Problem, bits_of

FAR = 1 << 20
"""A record that no other is near."""


@dataclass(frozen=True, slots=True)
class Objective:
    """A convex objective, and the integers that it is computed with: x = X/scale_x, w = W/scale_w.

    ``penalty`` is Λ in Σℓ + Λ/2 ‖w‖², ``tau`` the squared distance (of encoded features) within which records are left out
    along with a forgotten one. ``proofs``: that can be made about the data, one a certificate, until its salt is used up.
    """

    loss: Loss = "squared-hinge"
    penalty: float = 1.0
    tau: float = 0.01
    scale_x: int = 128
    scale_w: int = 1 << 14
    logrows: int = 11
    proofs: int = 4


def fit(
    ledger: Workspace | str | Path,
    data: object,
    *,
    target: str = "target",
    objective: Objective | Sgd | Updatable | None = None,
    encoding: Encoding | None = None,
    base: Sequence[Base] = (),
    start: Logged | None = None,
    development: bool = False,
    progress: Progress = silent,
) -> Provable:
    """Fit the optimum over all records, or a network by SGD, commit to the records and log ``training/v1``.

    An ``Updatable`` model is one of which later steps can be proven.

    ``data``: id to record, or a sequence of records: objects with a column ``target``, or lists of numbers, the target last.
    ``base``: models that made features of the records, which are not in the proof. ``start``: an earlier training of the same
    network to go on from, for SGD alone. ``development``: do without the ceremony's reference string where there is none.
    Raises DatasetError, SrsError.
    """
    workspace = ledger if isinstance(ledger, Workspace) else Workspace(ledger)
    objective = objective or Objective()
    if isinstance(objective, Sgd):
        options: dict[str, Any] = {
            "encoding": encoding,
            "base": base,
            "start": start,
            "development": development,
            "progress": progress,
        }
        return fit_sgd(workspace, data, target=target, sgd=objective, **options)
    if start is not None:
        raise WorkspaceError("expected no training to start from: an optimum is the same from everywhere")
    if isinstance(objective, Updatable):
        return fit_step(
            workspace,
            data,
            target=target,
            model=objective,
            encoding=encoding,
            base=base,
            development=development,
            progress=progress,
        )
    records = records_of(data)
    started = now()
    _, string = committed.reference_string(objective.logrows, development=development)
    encoding = encoding or encoding_for(
        [record for _, record in records],
        target=target,
        scale=objective.scale_x,
        numeric=objective.loss == "ridge",
        target_scale=objective.scale_x if objective.loss == "ridge" else 1,
    )
    rows = [row_of(record, encoding) for _, record in records]
    progress("fitting", 0)
    problem = _problem(objective, encoding, rows)
    matrix = torch.tensor(rows, dtype=torch.int64)
    weights = optimum.solve(optimum.module_of(problem), matrix, [torch.full((1, problem.features), FAR)])
    problem = _problem(objective, encoding, rows, weights)
    progress("committing to the data", 0)
    made = committed.commit(RECORDS, problem.layouts[0], [rows], string)
    committed.keep(workspace, made)
    digest = workspace.attachments.put("srs", srs.reduced(string))
    state = _state(problem, weights)
    parameters: Stated = {name: value for name, value in asdict(problem).items() if name != "forgotten"}
    logged = log_training(
        workspace,
        made_now(digest_state_dict(state), Method(problem.statement, parameters), started),
        records,
        base,
        zk=Commitments(objective.logrows, digest, [made.stated], encoding),
    )
    return Provable(logged, state, _score(problem, matrix, weights))


def forget(
    ledger: Workspace | str | Path,
    requests: Sequence[Logged | str | int],
    *,
    step: Step | None = None,
    engine: Engine | None = None,
    progress: Progress = silent,
) -> Provable:
    """Find the optimum without the requested records, prove that it is, and issue the certificate.

    What earlier certificates of the same training left out stays out. ``step``: what to do with an ``Updatable`` model, and to
    prove in the place of exclusion, see :mod:`certify.provable_step`. ``engine``: where proofs are made, by default here. Raises
    WorkspaceError, ProverError.
    """
    workspace = ledger if isinstance(ledger, Workspace) else Workspace(ledger)
    started = now()
    asked = [item if isinstance(item, Logged) else workspace.find(str(item)) for item in requests]
    if step is not None or is_step(workspace, asked):
        return forget_step(workspace, asked, _given(step), engine=engine, progress=progress)
    if is_sgd(workspace, asked):
        return forget_sgd(workspace, asked, engine=engine, progress=progress)
    task = _task(workspace, asked)
    training, parent, asked, stated, problem = task.training, task.parent, task.asked, task.stated, task.problem
    assert training.zk is not None
    data = committed.records_in(training.zk)
    progress("building the circuit", 0)
    circuit = plan(problem)

    [records] = committed.recall(workspace, data)
    forgotten = [committed.recall(workspace, part)[0] for part in stated]
    layouts = problem.layouts
    progress("solving", 0)
    left_out = [torch.tensor(layout.matrix(values)) for layout, values in zip(layouts[2:], forgotten, strict=True)]
    weights = optimum.solve(optimum.module_of(problem), torch.tensor(layouts[0].matrix(records)), left_out)
    state = _state(problem, weights)

    path, string = committed.reference_string_of(training.zk)
    made = committed.commit(WEIGHTS, layouts[1], [weights.tolist()], string)
    committed.keep(workspace, made)
    for part in (data, *stated):
        committed.spend(workspace, part, 1)
    job = Job(circuit, tuple(map(tuple, [records, *made.values, *forgotten])), path)
    expected = circuit.estimate()
    if engine is None:
        engine = local(progress=lambda stage, left: progress(stage, left + expected.seconds * (stage == "setup")))
    else:  # which says nothing until it is done
        progress("prove", expected.setup_seconds + expected.seconds)
    [(_, proved, vk)] = engine.prove([(problem.statement, job)])
    progress("verifying", 0)
    built = circuit_files(problem, circuit, vk, training.zk.srs)
    openings = open_places(
        made.values[0], [place for row in range(problem.features) for place in layouts[1].places(row)], string
    )
    evidence = Evidence(
        problem.statement,
        [workspace.attachments.put_circuit(built)],
        Commitments(problem.logrows, training.zk.srs, [made.stated]),
        [workspace.attachments.put("proofs", proved.proof)],
        [part.to_bytes().hex() for _, part in sorted(openings.items())],
    )
    pre = manifest_of(workspace, parent)
    method = Method(problem.statement, {"radius_of": problem.loss})
    done = made_now(digest_state_dict(state), method, started)
    logged = log_unlearning(workspace, done, pre=pre, requests=asked, parent=parent, evidence=evidence)
    workspace.accept_circuit(built.description)
    return Provable(logged, state)


def _given(step: Step | None) -> Step:
    if step is None:
        raise WorkspaceError(
            "the training prepared for proofs of steps: say which, as forget(…, step=Ascent()), or --step ascent"
        )
    return step


def problem_for(
    ledger: Workspace | str | Path, requests: Sequence[Logged | str | int], step: Step | None = None
) -> tuple[Parameters, int]:
    """What :func:`forget` would prove, and how many proofs that takes: nothing is done. Raises WorkspaceError."""
    workspace = ledger if isinstance(ledger, Workspace) else Workspace(ledger)
    asked = [item if isinstance(item, Logged) else workspace.find(str(item)) for item in requests]
    if step is not None or is_step(workspace, asked):
        return problem_of_step(workspace, asked, _given(step)), 1
    if is_sgd(workspace, asked):
        return problem_of_sgd(workspace, asked)
    return _task(workspace, asked).problem, 1


def plan(problem: Parameters) -> prover.Circuit:
    """The circuit of a problem, ready to be estimated and proven."""
    return description.build(problem)


def problem_of(training: Training, forgotten: Sequence[int]) -> Problem:
    """The problem of leaving out so many records of each request. Raises WorkspaceError when the training has none."""
    try:
        found = description.parse(training.recipe.name, {**training.recipe.parameters, "forgotten": list(forgotten)})
    except ProverError as error:
        raise WorkspaceError(
            f"the training was not made for proofs ('certify fit' makes such ones): {error}"
        ) from error
    assert isinstance(found, Problem)
    return found


@dataclass(frozen=True, slots=True)
class _Task:
    """What to forget: the requests asked for, and the commitments of all that the chain leaves out."""

    training: Training
    parent: Logged
    asked: list[Logged]
    stated: list[Committed]
    problem: Problem


def _task(workspace: Workspace, requests: Sequence[Logged | str | int]) -> _Task:
    asked = [item if isinstance(item, Logged) else workspace.find(str(item)) for item in requests]
    trained = training_of(workspace, asked)
    training = trained.statement.predicate
    assert isinstance(training, Training)
    parent = latest(workspace, trained)
    forgotten_by(workspace, parent, asked)  # refuses, before anything is proven, where nothing is left to forget
    stated = [forgotten_in(logged) for logged in [*answered(workspace, parent), *asked]]
    return _Task(training, parent, asked, stated, problem_of(training, [part.rows for part in stated]))


def _score(problem: Problem, matrix: torch.Tensor, weights: torch.Tensor) -> float:
    """See :class:`Provable`. matrix: (n, d + o), weights: (d, o), int64"""
    x, y = matrix[:, : problem.features].double(), matrix[:, problem.features :].double()
    z = x @ weights.double() / (problem.scale_x * problem.scale_w)  # (n, o)
    if problem.loss != "ridge":
        right = z.argmax(1) == y.argmax(1) if problem.outputs > 1 else (z * y)[:, 0] > 0
        return float(right.double().mean())
    y = y / problem.scale_y
    return float(1 - (z - y).square().sum() / (y - y.mean(0)).square().sum().clamp(min=1e-300))


def _problem(
    objective: Objective, encoding: Encoding, rows: Sequence[Sequence[int]], weights: torch.Tensor | None = None
) -> Problem:
    """For one forgotten record; its bits fit twice the largest number in the data and four times the weights' sum."""
    outputs = outputs_of(encoding)
    features = len(rows[0]) - outputs
    return problem_of_size(
        objective,
        rows=len(rows),
        features=features,
        outputs=outputs,
        scale_y=encoding.target_scale,
        largest=max(abs(value) for row in rows for value in row[:features]),
        total=1.0 if weights is None else float(weights.abs().sum(0).max()) / objective.scale_w,
    )


def problem_of_size(
    objective: Objective,
    *,
    rows: int,
    features: int,
    largest: int,
    total: float,
    outputs: int = 1,
    scale_y: int = 1,
    forgotten: tuple[int, ...] = (1,),
) -> Problem:
    """The problem of records that nobody has yet. largest: of |X|; total: Σ|w|, the largest of an output. Raises ProverError."""
    table_scale = table.finest(objective.logrows) if objective.loss == "logistic" else 0
    finest = (1 << 2 * table_scale) // objective.scale_x if table_scale else objective.scale_w
    sizes: dict[str, Any] = {
        "rows": rows,
        "features": features,
        "scale_x": objective.scale_x,
        "scale_w": max(1, min(objective.scale_w, finest)),
        "table_scale": table_scale,
        "penalty": max(1, round(objective.penalty * objective.scale_x**2)),
        "tau": int(objective.tau * objective.scale_x**2),
    }
    bits = bits_of(**sizes, largest_x=2 * largest, largest_sum=4 * total + 1, largest_radius=1)
    return Problem(
        loss=objective.loss,
        outputs=outputs,
        forgotten=forgotten,
        bits=bits,
        scale_y=scale_y,
        logrows=objective.logrows,
        record_proofs=objective.proofs,
        **sizes,
    )


def _state(problem: Problem, weights: torch.Tensor) -> dict[str, torch.Tensor]:
    """Released weights: integers over scale_w, exactly. weights: (features, outputs) int64"""
    exact = weights.T.double() / problem.scale_w  # (outputs, features)
    state = exact.float()
    if not torch.equal(state.double(), exact):
        raise ProverError(
            f"expected weights that float32 holds over {problem.scale_w}, larger ones came: a smaller scale_w will do"
        )
    return {"weight": state.contiguous()}
