"""Models whose updates can be proven: commit to weights when they are trained, and prove later what a step made of them.

::

    fitted = fit("ledger", patients, target="diagnosis", objective=Updatable(learning_rate=0.1))
    request = file_request("ledger", {"17": patients["17"]}, ground="gdpr-17")
    forgot = forget("ledger", [request], step=Ascent(steps=5, learning_rate=0.05))      # step/v1: graded "step proven"

What is proven is the step: that these weights come from those by it, on the records that the request committed to. It says
nothing about what they still hold. In return it costs what the records to forget cost, however many the model was trained on.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from certify import committed
from certify.certificate import forgotten_by, log_training, log_unlearning
from certify.encoding import encoding_for, row_of
from certify.errors import DatasetError, WorkspaceError
from certify.exclusion_step import BATCH, DELTAS, NAME, NETWORK, last_states, stated
from certify.proof_task import (
    Progress,
    Provable,
    circuit_files,
    forgotten_in,
    latest,
    made_now,
    manifest_of,
    silent,
    training_of,
)
from certify.provable_sgd import Sgd, network_of, rate_of, released, score
from certify.records import records_of
from certify.state_dict import digest_state_dict
from certify.statement import Base, Method, Parameters, Training, Unlearning
from certify.times import now
from certify.workspace import Logged, Workspace
from certify.zk import RECORDS, STATES, WEIGHTS, Commitments, Committed, Encoding, Evidence
from circuits import chain, description, initial, prover, srs
from circuits.chain_problem import ChainProblem
from circuits.engine import Engine, Job, local
from circuits.errors import ProverError
from circuits.export import to_onnx
from circuits.layout import Layout
from circuits.opening import open_places
from circuits.optimum import settle
from circuits.step_problem import OWN, StepProblem
from circuits.steps.step_circuit import Given, Rule, StepCircuit, run

FORGOTTEN_PROOFS = 16
"""Proofs that the commitment to what a request forgets outlasts."""


@dataclass(frozen=True, slots=True)
class Updatable:
    """How to train: by SGD as :class:`certify.provable_sgd.Sgd` has it, or to the optimum of ridge where ``penalty`` is above 0.

    ``deltas`` commits to what each batch changed, for :class:`Subtraction`. ``proofs``: that can be made about the data, for
    :class:`Newton`, which needs ``penalty``. ``weights``: already trained ones, by name, which are rounded to integers over
    ``scale_w``; then nothing is trained. Labels are −1 and 1.
    """

    hidden: int = 0
    batch: int = 32
    steps: int = 20
    seed: str = "unlearning-ledger"
    learning_rate: float = 0.25
    penalty: float = 0.0
    scale_x: int = 16
    scale_w: int = 512
    logrows: int = 11
    loss: Literal["squared", "logistic"] = "squared"
    deltas: bool = False
    proofs: int = 4
    weights: "Mapping[str, torch.Tensor] | None" = None


@dataclass(frozen=True, slots=True)
class Ascent:
    """Gradient ascent on the records to forget. ``learning_rate`` is of their mean loss, and rounded to what integers express."""

    steps: int = 1
    learning_rate: float = 0.05


@dataclass(frozen=True, slots=True)
class Mask:
    """Pruning: weights stay where ``kept``, by the names of the model's tensors, is not 0."""

    kept: "Mapping[str, torch.Tensor]"


@dataclass(frozen=True, slots=True)
class Projection:
    """What the first layer makes of a direction of encoded features is taken out: integers, of squared length below 2^24."""

    direction: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Subtraction:
    """What the batches of training with the records changed is taken off. The training needs ``deltas``."""


@dataclass(frozen=True, slots=True)
class Newton:
    """A Newton step to the optimum without the records, and those within ``tau`` (squared). The training needs ``penalty``."""

    tau: float = 0.01


@dataclass(frozen=True, slots=True)
class Own:
    """A step of your own: see :mod:`circuits.steps.step_circuit` for what a rule is, and SPEC.md for what others can check of it.

    ``rule`` is made for the problem, so that it knows shapes and scales; ``numbers`` are stated in the circuit's description.
    A step that makes nothing of the records says so with ``records=False``.
    """

    name: str
    rule: Callable[[StepProblem], Rule]
    steps: int = 1
    numbers: tuple[int, ...] = ()
    records: bool = True


Step = Ascent | Mask | Projection | Subtraction | Newton | Own


def is_step(workspace: Workspace, requests: Sequence[Logged]) -> bool:
    """Whether the requests are about a training of this kind."""
    training = training_of(workspace, requests).statement.predicate
    return isinstance(training, Training) and training.recipe.name == NAME


def fit_step(
    workspace: Workspace,
    data: object,
    *,
    target: str,
    model: Updatable,
    encoding: Encoding | None = None,
    base: Sequence[Base] = (),
    development: bool = False,
    progress: Progress = silent,
) -> Provable:
    """Train, commit to records and weights, and log ``training/v1``. Raises DatasetError, ProverError, SrsError."""
    records = records_of(data)
    started = now()
    _, string = committed.reference_string(model.logrows, development=development)
    raw = [record for _, record in records]
    encoding = encoding or encoding_for(raw, target=target, scale=model.scale_x, numeric=False)
    rows = [row_of(record, encoding) for record in raw]
    sgd = Sgd(
        hidden=model.hidden,
        batch=model.batch,
        learning_rate=model.learning_rate,
        scale_x=model.scale_x,
        scale_w=model.scale_w,
        logrows=model.logrows,
        loss=model.loss,
    )
    problem = network_of(sgd, encoding, len(rows[0]))
    batches = [rows[at : at + model.batch] for at in range(0, len(rows), model.batch)]
    progress("fitting", 0)
    states = _trained(model, problem, batches)
    progress("committing to the data", 0)
    layout = state_layout(problem)
    parts = [
        committed.commit(RECORDS, Layout(len(rows), len(rows[0]), model.logrows, model.proofs), [rows], string),
        committed.commit(WEIGHTS, layout, [problem.matrix(states[-1])], string),
    ]
    if model.deltas:
        if len(states) == 1:
            raise DatasetError("expected training by SGD for what its batches changed: no penalty and no weights")
        changed = [problem.matrix(delta) for delta in _deltas(states, len(batches))]
        parts.append(committed.commit(DELTAS, layout, changed, string))
    for part in parts:
        committed.keep(workspace, part)
    digest = workspace.attachments.put("srs", srs.reduced(string))
    state = released(problem, states[-1])
    parameters: Parameters = {name: getattr(problem, name) for name in NETWORK}
    parameters |= {"forgotten_proofs": FORGOTTEN_PROOFS, BATCH: model.batch}
    if model.penalty:
        parameters |= {"penalty": _penalty(model)}
    elif model.weights is None:
        parameters |= {"fit_steps": model.steps, "fit_rate": problem.rate, "seed": model.seed}
    logged = log_training(
        workspace,
        made_now(digest_state_dict(state), Method(NAME, parameters), started),
        records,
        base,
        zk=Commitments(model.logrows, digest, [part.stated for part in parts], encoding),
    )
    return Provable(logged, state, score(problem, state, rows))


def state_layout(problem: ChainProblem) -> Layout:
    """As :attr:`StepProblem.state_layout`, of a network before anybody knows its steps."""
    return _shape(problem).state_layout


def _shape(problem: ChainProblem) -> StepProblem:
    """A step of no records, which any network has."""
    sizes = {name: getattr(problem, name) for name in NETWORK}
    return StepProblem("mask", steps=1, forgotten=(), numbers=(1,) * problem.size, **sizes)


def _trained(model: Updatable, problem: ChainProblem, batches: Sequence[Sequence[Sequence[int]]]) -> list[list[int]]:
    """All parameters along the way, or the last ones alone where there is no way."""
    if model.weights is not None:
        found = {name: tuple(tensor.shape) for name, tensor in model.weights.items()}
        if found != problem.released:
            raise DatasetError(f"expected weights {problem.released}, got {found}")
        flat = torch.cat([model.weights[name].detach().double().reshape(-1) for name in problem.shapes])
        return [[int(value) for value in (flat * model.scale_w).round().tolist()]]
    if model.penalty:
        return [_ridge(model, problem, [row for batch in batches for row in batch])]
    return chain.train(problem, batches, initial.weights(model.seed, problem), steps=model.steps)


def _penalty(model: Updatable) -> int:
    return max(1, round(model.penalty * model.scale_x**2))


def _ridge(model: Updatable, problem: ChainProblem, rows: Sequence[Sequence[int]]) -> list[int]:
    """Integers near the optimum of Σ ½‖z − y‖² + Λ/2 ‖w‖², with the bias penalised like the rest."""
    if problem.network != "linear":
        raise DatasetError(f"expected a linear model with the squared error for a penalty, got {problem.network}")
    matrix = torch.tensor(rows, dtype=torch.float64)
    x = torch.cat(
        [matrix[:, : problem.features], torch.full((len(rows), 1), float(model.scale_x), dtype=torch.float64)], 1
    )
    hessian = x.T @ x + _penalty(model) * torch.eye(x.shape[1], dtype=torch.float64)  # (d + 1, d + 1)
    lift = model.scale_x * model.scale_w
    exact = torch.linalg.solve(hessian, lift * (x.T @ matrix[:, problem.features :]))  # (d + 1, o)
    whole = torch.stack([settle(exact[:, o], hessian) for o in range(problem.outputs)], 1)  # (d + 1, o)
    return [int(value) for value in torch.cat([whole[:-1].T.reshape(-1), whole[-1]]).tolist()]


def _deltas(states: Sequence[Sequence[int]], batches: int) -> list[list[int]]:
    """What each batch changed, over all passes."""
    sums = torch.zeros(batches, len(states[0]), dtype=torch.int64)
    for step in range(len(states) - 1):
        sums[step % batches] += torch.tensor(states[step + 1]) - torch.tensor(states[step])
    found: list[list[int]] = sums.tolist()
    return found


def problem_of_step(workspace: Workspace, asked: Sequence[Logged], step: Step) -> StepProblem:
    """What :func:`forget_step` would prove. Raises WorkspaceError, ProverError."""
    trained = training_of(workspace, asked)
    training = trained.statement.predicate
    assert isinstance(training, Training)
    if training.recipe.name != NAME:
        raise WorkspaceError(
            f"entry {trained.index} is a training that did not prepare for proofs of steps: fit with Updatable, or --for-steps"
        )
    parent = latest(workspace, trained)
    told = training.recipe.parameters
    sizes: dict[str, Any] = {name: told[name] for name in NETWORK}
    counts = tuple(forgotten_in(logged).rows for logged in asked)
    made: dict[str, Any] = {"steps": 1, "forgotten": (), **sizes}
    match step:
        case Ascent():
            made |= {"steps": step.steps, "forgotten": counts, "rate": 1}
            plain = StepProblem("ascent", **made)
            return replace(plain, rate=rate_of(plain.chain, step.learning_rate))
        case Mask():
            kept = _flat(_shape(StepProblem("ascent", **made | {"forgotten": (1,), "rate": 1}).chain), step.kept)
            return StepProblem("mask", **made, numbers=tuple(int(value != 0) for value in kept))
        case Projection():
            return StepProblem("projection", **made, numbers=step.direction)
        case Subtraction():
            return StepProblem("subtraction", **made, deltas=len(_affected(workspace, training, parent, asked)))
        case Newton():
            if "penalty" not in told or training.zk is None:
                raise WorkspaceError(
                    "expected a training with a penalty for a Newton step: fit with Updatable(penalty=…)"
                )
            data = committed.records_in(training.zk)
            made |= {"forgotten": counts, "rows": data.rows, "record_proofs": data.proofs, "penalty": told["penalty"]}
            return StepProblem("newton", **made, tau=int(step.tau * sizes["scale_x"] ** 2))
        case Own():
            made |= {"steps": step.steps, "forgotten": counts if step.records else (), "numbers": step.numbers}
            return StepProblem(OWN + step.name, **made)


def circuit_of(problem: StepProblem, step: Step) -> tuple[prover.Circuit, Rule | None]:
    """The circuit of a step, and the rule of one's own. Raises ProverError where it cannot be expressed."""
    if not isinstance(step, Own):
        return description.build(problem), None
    rule: Rule = step.rule(problem)
    onnx = to_onnx(StepCircuit(problem, rule), [layout.shape for layout in problem.layouts])
    circuit = description.build(problem, onnx)
    taken, wanted = json.loads(circuit.settings)["module_sizes"]["polycommit"], [part.count for part in problem.layouts]
    if taken != wanted:  # a verifier would want a commitment for each
        raise ProverError(
            f"expected a step that uses each of its {len(wanted)} inputs: EZKL leaves others out, and {len(taken)} are left"
        )
    return circuit, rule


def forget_step(
    workspace: Workspace,
    asked: Sequence[Logged],
    step: Step,
    *,
    engine: Engine | None = None,
    progress: Progress = silent,
) -> Provable:
    """Take the step, prove it, and issue the certificate. Raises WorkspaceError, ProverError."""
    started = now()
    trained = training_of(workspace, asked)
    training = trained.statement.predicate
    assert isinstance(training, Training)
    parent = latest(workspace, trained)
    forgotten_by(workspace, parent, asked)  # refuses, before anything is proven, where nothing is left to forget
    problem = problem_of_step(workspace, asked, step)
    assert training.zk is not None
    progress("building the circuit", 0)
    circuit, rule = circuit_of(problem, step)

    before = _before(workspace, parent)
    used = [forgotten_in(logged) for logged in asked] if problem.takes_records else []
    requests = [committed.recall(workspace, part)[0] for part in used]
    deltas: list[list[int]] = []
    if problem.deltas:
        every = committed.recall(workspace, _tensor(training.zk, DELTAS))
        deltas = [every[batch] for batch in _affected(workspace, training, parent, asked)]
        used.append(_tensor(training.zk, DELTAS))
    records = [committed.recall(workspace, committed.records_in(training.zk))[0]] if problem.rows else []
    used += [committed.records_in(training.zk)] if problem.rows else []
    first = committed.recall(workspace, before)[-1]

    progress("solving", 0)
    layout = problem.state_layout
    given = Given(
        [_matrix(part, values) for part, values in zip(problem.forgotten_layouts, requests, strict=True)],
        [_matrix(layout, values).reshape(-1)[: problem.size] for values in deltas],
        _matrix(problem.records_layout, records[0]) if records else None,
    )
    start = _matrix(layout, first).reshape(-1)[: problem.size].to(torch.int64).tolist()
    states = run(problem, start, given, rule)
    path, string = committed.reference_string_of(training.zk)
    made = committed.commit(STATES, layout, [problem.chain.matrix(state) for state in states[1:]], string)
    committed.keep(workspace, made)
    for part in (*used, before, made.stated):
        committed.spend(workspace, part, 1)
    job = Job(circuit, tuple(map(tuple, [*requests, *deltas, *records, first, *made.values])), path)
    expected = circuit.estimate()
    if engine is None:
        engine = local(progress=lambda stage, left: progress(stage, left + expected.seconds * (stage == "setup")))
    else:  # which says nothing until it is done
        progress("prove", expected.setup_seconds + expected.seconds)
    [(_, proved, vk)] = engine.prove([(NAME, job)])

    progress("verifying", 0)
    built = circuit_files(problem, circuit, vk, training.zk.srs)
    if rule is not None:
        workspace.attachments.put("onnx", circuit.onnx)  # which others have to be given
    places = [place for row in range(layout.rows) for place in layout.places(row)]
    evidence = Evidence(
        NAME,
        [workspace.attachments.put_circuit(built)],
        Commitments(problem.logrows, training.zk.srs, [made.stated]),
        [workspace.attachments.put("proofs", proved.proof)],
        [part.to_bytes().hex() for _, part in sorted(open_places(made.values[-1], places, string).items())],
    )
    state = released(problem.chain, states[-1])
    done = made_now(digest_state_dict(state), Method(NAME, stated(problem)), started)
    logged = log_unlearning(
        workspace, done, pre=manifest_of(workspace, parent), requests=asked, parent=parent, evidence=evidence
    )
    workspace.accept_circuit(built.description)
    return Provable(logged, state)


def _before(workspace: Workspace, parent: Logged) -> Committed:
    """The commitment whose last tensor are the weights that a step begins with."""
    said = parent.statement.predicate
    found = None
    if isinstance(said, Training) and said.zk is not None:
        found = said.zk.find(WEIGHTS)
    elif isinstance(said, Unlearning):
        states = last_states(said)
        found = states.find(STATES) if states is not None else None
    if found is None:
        raise WorkspaceError(f"entry {parent.index} committed to no weights that a step could begin with")
    return found


def _affected(workspace: Workspace, training: Training, parent: Logged, asked: Sequence[Logged]) -> list[int]:
    """Batches that held a requested record and whose changes no certificate has taken off yet. Raises WorkspaceError."""
    batch = training.recipe.parameters[BATCH]
    assert isinstance(batch, int)
    forgotten = forgotten_by(workspace, parent, asked)
    gone: set[int] = set()
    for logged in workspace.lineage(parent)[1:]:
        said = logged.statement.predicate
        if isinstance(said, Unlearning) and said.method.parameters.get("step") == "subtraction":
            gone |= {position // batch for position in workspace.vault.note(f"removed/{logged.digest}") or ()}
    found = sorted({position // batch for position in (forgotten.positions if forgotten else ())} - gone)
    if not found:
        raise WorkspaceError("what the records' batches changed was taken off already: there is nothing to subtract")
    return found


def _tensor(zk: Commitments, name: str) -> Committed:
    found = zk.find(name)
    if found is None:
        raise WorkspaceError(f"the training committed to no {name}: fit with Updatable({name}=True)")
    return found


def _matrix(layout: Layout, values: Sequence[int]) -> torch.Tensor:
    return torch.tensor(layout.matrix(values), dtype=torch.float64)


def _flat(problem: StepProblem, tensors: "Mapping[str, torch.Tensor]") -> list[float]:
    """A model's tensors in the order that they are committed in. Raises ProverError for other shapes."""
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != problem.shapes:
        raise ProverError(f"expected a mask of {problem.shapes}, got {found}")
    flat: list[float] = torch.cat([tensors[name].double().reshape(-1) for name in problem.shapes]).tolist()
    return flat
