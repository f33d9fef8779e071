"""Step 7 for ``exclusion-chain/v1``: every step of SGD from public weights to the certificate's, without the forgotten records.

What could be chosen afterwards was stated with the training: the batches and their order, the seed of the first weights, the
number of steps, the learning rate. The rest follows, and each step is proven.
"""

import math

from certify.chain import START
from certify.errors import ProofRefusedError
from certify.exclusion import Case, Exclusion, check_encoding, check_kept, points_of
from certify.statement import Training, Unlearning
from certify.zk import BATCHES, FORGOTTEN, STATES, WEIGHTS
from circuits import description
from circuits.chain_problem import ChainProblem
from circuits.chain_verifier import ChainCircuit, Points, verify_chain, verify_start
from circuits.opening import Opening

SEED, STEPS = "seed", "chain_steps"
"""Parameters of a recipe besides those of the problem."""


def verify(case: Case, development: bool) -> Exclusion:
    """Raises ProofRefusedError, ZkProofError, CommitmentError."""
    circuits = [_circuit(case, number) for number in range(len(case.circuits))]
    problem = max((circuit.problem for circuit in circuits), key=lambda problem: problem.steps)
    seed, steps = _stated(case, problem)
    if (seed is None) != (case.chain.start is not None):
        raise ProofRefusedError(
            "expected a training that states the seed of its first weights, or the training they are from"
        )
    batches = case.training.dataset.count // problem.batch
    if case.training.dataset.count % problem.batch:
        raise ProofRefusedError(
            f"expected batches of {problem.batch} out of {case.training.dataset.count} records, some are in none"
        )
    counts = [request.forget.count for request in case.requests]
    if list(problem.forgotten) != counts:
        raise ProofRefusedError(
            f"expected proofs about requests of {counts} records, ones about {list(problem.forgotten)} came"
        )
    layouts = problem.layouts[2 * problem.steps + 1 :]
    states = points_of(case.evidence.commitments, STATES, problem.state_layout, case, count=steps + 1)
    forgotten = [
        points
        for request, layout in zip(case.requests, layouts, strict=True)
        for points in points_of(request.zk, FORGOTTEN, layout, case)
    ]
    kept = verify_chain(
        [case.proof(number) for number in range(len(case.evidence.proofs))],
        circuits,
        batches=points_of(case.training.zk, BATCHES, problem.batch_layout, case, count=batches),
        states=states,
        forgotten=forgotten,
        srs_1=case.srs_1,
        accepted_srs={bytes.fromhex(case.evidence.commitments.srs)},
    )
    if seed is not None:
        start = [Opening.parse(bytes.fromhex(text)) for text in case.evidence.start]
        verify_start(states[0], seed, start, problem, case.srs_1, allow_development=development)
    else:
        _check_start(case, states[0], problem)
    used = min(steps, batches)
    check_kept(sum(kept[:used]), used * problem.batch, _removed(case, used * problem.batch))
    near = math.sqrt(problem.tau) / problem.scale_x
    return Exclusion(
        statement=problem.statement,
        circuits=tuple(case.evidence.circuits),
        parameters=problem,
        development=development,
        kept=sum(kept[:used]),
        records=used * problem.batch,
        established=(
            f"they are about {steps} steps of SGD on the {batches} batches of {problem.batch} records committed at entry "
            f"{case.chain.training.index}, in their order, what the requests at "
            f"{', '.join(str(link.index) for link in case.chain.requests)} committed to, and the certificate's weights",
            f"the first weights are {_first(case, seed)}; each step starts where the one before ended, and is rounded in the "
            f"only way there is",
            f"{used * problem.batch - sum(kept[:used])} of {used * problem.batch} records, within {near:.3g} of a forgotten one, "
            f"are left out of every step",
        ),
        limits=(
            "The proofs show one run of training: its seed, its steps and their order were the operator's choice, before the "
            "request.",
            *_start_limits(case),
        ),
        grade="exclusion proven" if seed is not None else "step proven",
    )


def _circuit(case: Case, number: int) -> ChainCircuit:
    files = case.circuits[number]
    problem = description.parse(files.description.statement, files.description.parameters)
    if not isinstance(problem, ChainProblem):
        raise ProofRefusedError(f"expected a circuit of {ChainProblem.statement}, one of {problem.statement} came")
    return ChainCircuit(problem, files.vk, files.settings)


def _check_start(case: Case, first: Points, problem: ChainProblem) -> None:
    """The first weights are those that the earlier training committed to."""
    start = case.chain.start
    assert start is not None and isinstance(start.statement.predicate, Training)
    [expected] = points_of(start.statement.predicate.zk, WEIGHTS, problem.state_layout, case)
    if tuple(first) != expected:
        raise ProofRefusedError(
            f"expected a chain that starts from the weights committed to at entry {start.index}, another came"
        )
    if case.evidence.start:
        raise ProofRefusedError("expected evidence without openings of first weights, which were committed to before")


def _first(case: Case, seed: str | None) -> str:
    if seed is not None:
        return f"those of the public seed {seed[:80]!r}"
    assert case.chain.start is not None
    return f"those that the training at entry {case.chain.start.index} committed to"


def _start_limits(case: Case) -> list[str]:
    if case.chain.start is None:
        return []
    return [
        f"The chain starts from weights that were committed to at entry {case.chain.start.index}, before the data that it is "
        f"about were: that they had not seen the record is the operator's word, and the log's order."
    ]


def _stated(case: Case, problem: ChainProblem) -> tuple[str | None, int]:
    """The seed and the number of steps, as the training stated them along with all that the circuits have."""
    check_encoding(case.training, problem.scale_x, 1)
    stated = dict(case.training.recipe.parameters)
    seed, steps, start = stated.pop(SEED, None), stated.pop(STEPS, None), stated.pop(START, None)
    fits = isinstance(seed, str) if start is None else seed is None and isinstance(start, str)
    if case.training.recipe.name != problem.statement or not fits or type(steps) is not int:
        raise ProofRefusedError(
            f"expected a training by {problem.statement} with a seed and a number of steps, another came"
        )
    for number in range(len(case.circuits)):
        own = description.describe(_circuit(case, number).problem)
        for name in sorted({*stated, *own} - {"forgotten", "steps"}):
            if stated.get(name) != own.get(name):
                raise ProofRefusedError(
                    f"the training stated {name} {str(stated.get(name))[:80]}, a circuit has {own.get(name)}"
                )
        if own["forgotten"] != list(problem.forgotten):
            raise ProofRefusedError("expected circuits that leave out the same numbers of records")
    names = [tensor.name for tensor in case.evidence.commitments.tensors]
    if names != [STATES] or case.evidence.commitments.encoding is not None:
        raise ProofRefusedError(f"expected evidence that commits to {STATES} alone, to {', '.join(names)[:200]} came")
    if case.evidence.seed != seed:
        raise ProofRefusedError(f"expected the seed that the training stated, {str(seed)[:80]!r}, another came")
    return (seed if isinstance(seed, str) else None), steps


def _removed(case: Case, records: int) -> int:
    """How many of the first so many records certificates name as left out, where the bundle shows which they are."""
    if records == case.training.dataset.count:
        return case.removed
    positions = [
        case.bundle.removed.get(link.digest)
        for link in case.chain.unlearnings
        if isinstance(link.statement.predicate, Unlearning)
    ]
    return sum(position < records for part in positions if part is not None for position in part)
