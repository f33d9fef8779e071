"""Networks whose unlearning can be proven: SGD from a public initialisation, over batches that were committed to.

::

    fitted = fit("ledger", digits, target="digit", objective=Sgd(hidden=16, batch=32, steps=24, seed="any public text"))
    forgot = forget("ledger", [request])          # the same steps without the record, each proven: exclusion-chain/v1

Seed, number of steps and order of the batches are stated with the training, before anybody asks, so that none can be chosen
to suit afterwards. Each proof is kept as soon as it is made: called again after a crash, :func:`forget_sgd` goes on where it
was.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any, Literal

import torch

from certify import committed
from certify.certificate import forgotten_by, log_training, log_unlearning
from certify.chain import START
from certify.committed import Made
from certify.encoding import encoding_for, outputs_of, row_of
from certify.errors import DatasetError, WorkspaceError
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
from certify.records import records_of
from certify.state_dict import digest_state_dict
from certify.statement import Base, Method, Parameters, Training
from certify.times import now
from certify.workspace import Logged, Workspace
from certify.zk import BATCHES, STATES, WEIGHTS, Commitments, Committed, Encoding, Evidence
from circuits import chain, commitment, description, initial, srs, table
from circuits.chain_problem import ChainProblem, Network
from circuits.engine import Engine, Job, local
from circuits.errors import ProverError
from circuits.opening import open_known, open_places
from circuits.prover import Circuit

SEED, STEPS = "seed", "chain_steps"
"""Parameters of a recipe besides those of the problem."""
CONSTANT_BITS = 24
"""Of a constant in a circuit, see :func:`circuits.export.constant`."""


@dataclass(frozen=True, slots=True)
class Sgd:
    """Plain SGD, labels −1 and 1: no ``hidden`` units make a linear model. The loss is ½‖z − y‖² (``squared``) or, of a linear
    model, ``logistic``. ``learning_rate`` is of the mean over a batch, and rounded to what integers can express.

    ``tau``: the squared distance (of encoded features) within which records are left out along with a forgotten one.
    ``together``: steps in one proof. ``passes``: how often each batch may be proven about, over all certificates.
    """

    hidden: int = 16
    batch: int = 32
    steps: int = 20
    seed: str = "unlearning-ledger"
    learning_rate: float = 0.25
    tau: float = 0.01
    scale_x: int = 16
    scale_w: int = 512
    logrows: int = 11
    together: int = 1
    passes: int = 8
    loss: Literal["squared", "logistic"] = "squared"


def is_sgd(workspace: Workspace, requests: Sequence[Logged]) -> bool:
    """Whether the requests are about a training of this kind."""
    training = training_of(workspace, requests).statement.predicate
    return isinstance(training, Training) and training.recipe.name == ChainProblem.statement


def fit_sgd(
    workspace: Workspace,
    data: object,
    *,
    target: str,
    sgd: Sgd,
    encoding: Encoding | None = None,
    base: Sequence[Base] = (),
    start: Logged | None = None,
    development: bool = False,
    progress: Progress = silent,
) -> Provable:
    """Train, commit to the batches and to the weights, and log ``training/v1``. Raises DatasetError unless the records fill
    their batches.

    ``start``: an earlier training of the same network, from whose weights this one goes on instead of the seed's: a slice of
    SISA.
    """
    records = records_of(data)
    started = now()
    _, string = committed.reference_string(sgd.logrows, development=development)
    raw = [record for _, record in records]
    encoding = encoding or encoding_for(raw, target=target, scale=sgd.scale_x, numeric=False)
    rows = [row_of(record, encoding) for record in raw]
    if len(rows) % sgd.batch or not rows:
        raise DatasetError(
            f"expected full batches of {sgd.batch} records, {len(rows)} came: leave out {len(rows) % sgd.batch}"
        )
    batches = [rows[at : at + sgd.batch] for at in range(0, len(rows), sgd.batch)]
    problem = network_of(sgd, encoding, len(rows[0]))
    if problem.steps > len(batches):
        raise DatasetError(
            f"expected as many batches as there are steps in a proof, {problem.steps}, got {len(batches)}"
        )
    _check_salt(sgd, problem, len(batches))
    progress("fitting", 0)
    first = (
        initial.weights(sgd.seed, problem) if start is None else _flat(problem, _earlier(workspace, start, problem)[1])
    )
    states = chain.train(problem, batches, first, steps=sgd.steps)
    progress("committing to the data", 0)
    made = committed.commit(BATCHES, problem.batch_layout, batches, string)
    ended = committed.commit(WEIGHTS, problem.state_layout, [problem.matrix(states[-1])], string)
    for part in (made, ended):
        committed.keep(workspace, part)
    digest = workspace.attachments.put("srs", srs.reduced(string))
    state = released(problem, states[-1])
    origin: Parameters = {SEED: sgd.seed} if start is None else {START: start.digest}
    parameters: Parameters = {name: value for name, value in asdict(problem).items() if name not in ("forgotten",)}
    logged = log_training(
        workspace,
        made_now(
            digest_state_dict(state),
            Method(problem.statement, {**parameters, **origin, STEPS: sgd.steps}),
            started,
        ),
        records,
        base,
        zk=Commitments(sgd.logrows, digest, [made.stated, ended.stated], encoding),
    )
    return Provable(logged, state, score(problem, state, rows))


def forget_sgd(
    workspace: Workspace, asked: Sequence[Logged], *, engine: Engine | None = None, progress: Progress = silent
) -> Provable:
    """Take every step again without the requested records, prove each, and issue the certificate."""
    started = now()
    trained = training_of(workspace, asked)
    training = trained.statement.predicate
    assert isinstance(training, Training) and training.zk is not None
    data = committed.records_in(training.zk)
    parent = latest(workspace, trained)
    forgotten_by(workspace, parent, asked)  # refuses, before anything is proven, where nothing is left to forget
    stated = [forgotten_in(logged) for logged in [*answered(workspace, parent), *asked]]
    problem, seed, steps = problem_of(training, [part.rows for part in stated])
    batches = committed.recall(workspace, data)
    forgotten = [committed.recall(workspace, part)[0] for part in stated]
    path, string = committed.reference_string_of(training.zk)

    journal = f"chain/{trained.digest}/{sha256(''.join(part.points for part in stated).encode()).hexdigest()[:32]}"
    began = _earlier(workspace, workspace.find(seed.digest), problem) if isinstance(seed, From) else None
    first = began[1] if began else initial.salted(str(seed), problem)
    made = _states(workspace, journal, problem, first, steps, batches, forgotten, string, progress)
    groups = list(chain.plan(problem, steps))
    if not workspace.vault.note(journal)["proofs"]:
        committed.spend(workspace, data, -(-steps // len(batches)))
        for part in stated:
            committed.spend(workspace, part, len(groups))
        if began:
            committed.spend(workspace, began[0], 1)
    circuits = {group.problem.steps: description.build(group.problem) for group in groups}
    proofs, keys = _proofs(workspace, journal, groups, circuits, batches, made, forgotten, path, engine, progress)

    progress("verifying", 0)
    used = sorted(circuits, reverse=True)
    built = [
        circuit_files(replace(problem, steps=count), circuits[count], keys[count], training.zk.srs) for count in used
    ]
    layout, last = problem.state_layout, made.values[-1]
    places = [place for row in range(layout.rows) for place in layout.places(row)]
    evidence = Evidence(
        problem.statement,
        [workspace.attachments.put_circuit(files) for files in built],
        Commitments(problem.logrows, training.zk.srs, [made.stated]),
        proofs,
        [part.to_bytes().hex() for _, part in sorted(open_places(last, places, string).items())],
        None if began else str(seed),
        []
        if began
        else [open_known(part, string).to_bytes().hex() for part in commitment.split(first, problem.logrows)],
    )
    state = released(problem, _flat(problem, last))
    done = made_now(digest_state_dict(state), Method(problem.statement, {STEPS: steps}), started)
    logged = log_unlearning(
        workspace, done, pre=manifest_of(workspace, parent), requests=asked, parent=parent, evidence=evidence
    )
    for files in built:
        workspace.accept_circuit(files.description)
    workspace.vault.drop_note(journal)
    return Provable(logged, state)


def problem_of_sgd(workspace: Workspace, asked: Sequence[Logged]) -> tuple[ChainProblem, int]:
    """What :func:`forget_sgd` would prove, and in how many proofs."""
    trained = training_of(workspace, asked)
    training = trained.statement.predicate
    assert isinstance(training, Training)
    stated = [forgotten_in(logged) for logged in [*answered(workspace, latest(workspace, trained)), *asked]]
    problem, _, steps = problem_of(training, [part.rows for part in stated])
    return problem, -(-steps // problem.steps)


@dataclass(frozen=True, slots=True)
class From:
    """First weights are those of an earlier training, by its digest."""

    digest: str


def problem_of(training: Training, forgotten: Sequence[int]) -> tuple[ChainProblem, str | From, int]:
    """The problem of leaving out so many records of each request, the seed or what else the first weights are from, and the
    number of steps. Raises WorkspaceError.
    """
    stated = dict(training.recipe.parameters)
    seed, steps, start = stated.pop(SEED, None), stated.pop(STEPS, None), stated.pop(START, None)
    begin = From(start) if isinstance(start, str) else seed
    try:
        found = description.parse(training.recipe.name, {**stated, "forgotten": list(forgotten)})
    except ProverError as error:
        raise WorkspaceError(f"the training was not made for proofs of a chain: {error}") from error
    if not isinstance(found, ChainProblem) or not isinstance(begin, str | From) or type(steps) is not int or steps < 1:
        raise WorkspaceError("the training states no seed and number of steps, or is of another kind")
    return found, begin, steps


def _earlier(workspace: Workspace, start: Logged, problem: ChainProblem) -> tuple[Committed, list[int]]:
    """The commitment to the weights that an earlier training ended with, and the salted values behind it."""
    training = start.statement.predicate
    stated = training.zk.find(WEIGHTS) if isinstance(training, Training) and training.zk is not None else None
    layout = problem.state_layout
    if stated is None or (stated.rows, stated.columns, stated.proofs) != (layout.rows, layout.columns, layout.proofs):
        raise WorkspaceError(
            f"entry {start.index} committed to no weights of such a network: expected a training by SGD"
        )
    return stated, committed.recall(workspace, stated)[0]


def _flat(problem: ChainProblem, salted: Sequence[int]) -> list[int]:
    """All parameters in the salted values of a state."""
    return [value for row in problem.state_layout.matrix(salted) for value in row][: problem.size]


def released(problem: ChainProblem, flat: Sequence[int]) -> dict[str, torch.Tensor]:
    """The model's tensors: integers over scale_w, exactly."""
    state: dict[str, torch.Tensor] = {}
    at = 0
    for name, shape in problem.released.items():
        count = math.prod(shape)
        exact = torch.tensor(flat[at : at + count], dtype=torch.float64).reshape(shape) / problem.scale_w
        state[name] = exact.float()
        if not torch.equal(state[name].double(), exact):
            raise ProverError(f"expected weights that float32 holds over {problem.scale_w}, larger ones came")
        at += count
    return state


def score(problem: ChainProblem, state: Mapping[str, torch.Tensor], rows: Sequence[Sequence[int]]) -> float:
    """The share of rows that the model gets right."""
    matrix = torch.tensor(rows, dtype=torch.float64)
    z, y = matrix[:, : problem.features] / problem.scale_x, matrix[:, problem.features :]
    for layer, name in enumerate(name for name in problem.released if name.endswith("weight")):
        z = z.relu() if layer else z
        z = z @ state[name].double().T + state[name.replace("weight", "bias")].double()
    right = z.argmax(1) == y.argmax(1) if problem.outputs > 1 else (z * y)[:, 0] > 0
    return float(right.double().mean())


def network_of(sgd: Sgd, encoding: Encoding, columns: int) -> ChainProblem:
    if sgd.hidden and sgd.loss == "logistic":
        raise DatasetError(f"expected no hidden units for a logistic loss, got {sgd.hidden}")
    network: Network = "relu" if sgd.hidden else "logistic" if sgd.loss == "logistic" else "linear"
    outputs = outputs_of(encoding)
    problem = ChainProblem(
        network,
        features=columns - outputs,
        hidden=sgd.hidden,
        outputs=outputs,
        batch=sgd.batch,
        steps=min(sgd.together, sgd.steps),
        forgotten=(1,),
        scale_x=sgd.scale_x,
        scale_w=sgd.scale_w,
        rate=1,
        tau=int(sgd.tau * sgd.scale_x**2),
        logrows=sgd.logrows,
        record_proofs=sgd.passes,
        table_scale=table.finest(sgd.logrows) if network == "logistic" else 0,
    )
    return replace(problem, rate=rate_of(problem, sgd.learning_rate))


def rate_of(problem: ChainProblem, learning_rate: float) -> int:
    """The integer that makes nearly this learning rate, with as many bits as a circuit's constant may have."""
    exact = learning_rate / problem.learning_rate
    if not 1 <= round(exact) < 1 << 60:
        raise DatasetError(
            f"expected a learning rate of {problem.learning_rate:.2g} at least for these scales, got {learning_rate:g}"
        )
    unit = 1 << max(0, round(exact).bit_length() - CONSTANT_BITS)
    return round(exact / unit) * unit


def _check_salt(sgd: Sgd, problem: ChainProblem, batches: int) -> None:
    """One certificate at least can be proven before the salt of a batch, or of what is forgotten, is used up."""
    passes, proofs = -(-sgd.steps // batches), -(-sgd.steps // problem.steps)
    if passes > sgd.passes:
        raise DatasetError(f"expected {passes} passes at least for {sgd.steps} steps, got {sgd.passes}")
    if proofs > problem.forgotten_proofs:
        raise DatasetError(
            f"expected {problem.forgotten_proofs} proofs at most, got {proofs}: more steps together in one"
        )


def _states(
    workspace: Workspace,
    journal: str,
    problem: ChainProblem,
    first: Sequence[int],
    steps: int,
    batches: Sequence[Sequence[int]],
    forgotten: Sequence[Sequence[int]],
    string: srs.Srs,
    progress: Progress,
) -> Made:
    """The weights before the first step and after each, committed to: those of an attempt that was cut off, or new ones."""
    layout, note = problem.state_layout, workspace.vault.note(journal)
    if note is not None:
        stated = Committed(STATES, layout.rows, layout.columns, layout.proofs, note["states"], steps + 1)
        points = workspace.attachments.get("points", stated.points)
        return committed.made_of(STATES, layout, committed.recall(workspace, stated), points)
    progress("solving", 0)
    rows = [problem.batch_layout.matrix(values) for values in batches]
    gone = [
        part.matrix(values) for part, values in zip(problem.layouts[2 * problem.steps + 1 :], forgotten, strict=True)
    ]
    states = chain.train(problem, rows, _flat(problem, first), steps=steps, forgotten=gone)
    values = [list(first), *(layout.salted(problem.matrix(state)) for state in states[1:])]
    made = committed.made_of(STATES, layout, values, b"".join(b"".join(commitment.commit(v, string)) for v in values))
    committed.keep(workspace, made)
    workspace.vault.put_note(journal, {"states": made.stated.points, "proofs": {}, "keys": {}})
    return made


def _proofs(
    workspace: Workspace,
    journal: str,
    groups: Sequence[chain.Group],
    circuits: Mapping[int, Circuit],
    batches: Sequence[Sequence[int]],
    made: Made,
    forgotten: Sequence[Sequence[int]],
    path: Any,
    engine: Engine | None,
    progress: Progress,
) -> tuple[list[str], dict[int, bytes]]:
    """The digest of each proof, and the verification key of each circuit. Made ones are kept at once."""
    note = workspace.vault.note(journal)
    done: dict[str, str] = note["proofs"]
    left = sum(circuits[group.problem.steps].estimate().seconds for group in groups[len(done) :])

    def jobs() -> Iterator[tuple[int, Job]]:
        for number, group in enumerate(groups):
            if str(number) not in done:
                inputs = group.inputs(batches, made.values, forgotten)
                yield number, Job(circuits[group.problem.steps], inputs, path)

    progress(f"prove step 1 of {len(groups)}", left)
    for number, proved, vk in (engine or local()).prove(jobs()):
        assert isinstance(number, int)
        done[str(number)] = workspace.attachments.put("proofs", proved.proof)
        note["keys"][str(groups[number].problem.steps)] = workspace.attachments.put("vk", vk)
        workspace.vault.put_note(journal, note)
        if len(done) < len(groups):
            left -= circuits[groups[number].problem.steps].estimate().seconds
            progress(f"prove step {len(done) + 1} of {len(groups)}", left)
    keys = {int(steps): workspace.attachments.get("vk", digest) for steps, digest in note["keys"].items()}
    return [done[str(number)] for number in range(len(groups))], keys
