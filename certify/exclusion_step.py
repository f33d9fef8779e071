"""Step 7 for ``step/v1``: these weights are what the stated steps make of those from before, and of what was to be forgotten.

Weights before are those that the training committed to or, for a later certificate, the one before it; the records are those
of the requests that the certificate answers. The network and its scales were stated with the training. Method, number of steps
and rate are in the certificate and in the circuit, and have to be the same. It is not exclusion, and is not called so::

    found = verify(case, development)
    found.grade                                   # "step proven": the weights before had seen the records
"""

import math
from dataclasses import dataclass

from certify.chain import Link
from certify.errors import ProofRefusedError
from certify.exclusion import MAX_VALUES, Case, Exclusion, Points, check_encoding, points_of, verify_proof
from certify.statement import Parameters, Request, Training, Unlearning
from certify.zk import FORGOTTEN, RECORDS, STATES, WEIGHTS, Commitments
from circuits import description
from circuits.layout import Layout
from circuits.step_problem import StepProblem
from circuits.vicinity import radius

NAME = StepProblem.statement
DELTAS = "deltas"
"""Name of the commitment to what each batch of training changed, of a training that prepared for subtraction."""
BATCH = "fit_batch"
"""Parameter of a training: records in each of its batches, in the order of the data."""
NETWORK = (
    "network",
    "features",
    "hidden",
    "outputs",
    "scale_x",
    "scale_w",
    "logrows",
    "table_scale",
    "forgotten_proofs",
)
"""Parameters of a circuit that the training stated before anybody asked."""


def stated(problem: StepProblem) -> Parameters:
    """What a certificate says of its steps, as the parameters of its method."""
    made: Parameters = {"step": problem.method, "steps": problem.steps}
    if problem.rate:
        made |= {"rate": problem.rate, "learning_rate": problem.learning_rate}
    return made


def verify(case: Case, development: bool) -> Exclusion:
    """Raises ProofRefusedError, ZkProofError, CommitmentError."""
    if len(case.circuits) != 1 or len(case.evidence.proofs) != 1:
        raise ProofRefusedError(
            f"expected one circuit and one proof, {len(case.circuits)} and {len(case.evidence.proofs)} came"
        )
    [circuit] = case.circuits
    problem = description.parse(circuit.description.statement, circuit.description.parameters)
    if not isinstance(problem, StepProblem):
        raise ProofRefusedError(f"expected a circuit of {NAME}, one of {problem.statement} came")
    asked = _asked(case)
    _check_stated(case, problem, [request for _, request in asked])
    commitments: list[Points] = []
    for (_, request), layout in zip(asked, problem.forgotten_layouts, strict=False):  # some methods take none
        commitments += points_of(request.zk, FORGOTTEN, layout, case)
    batches = affected(case) if problem.deltas else []
    if len(batches) != problem.deltas:
        raise ProofRefusedError(
            f"expected a proof that takes off what {len(batches)} batches changed, one about {problem.deltas} came"
        )
    if batches:
        count = -(-case.training.dataset.count // _batch(case.training))
        deltas = points_of(case.training.zk, DELTAS, problem.state_layout, case, count=count)
        commitments += [deltas[batch] for batch in batches]
    if problem.rows:
        commitments += points_of(case.training.zk, RECORDS, problem.records_layout, case)
    before = _before(case, problem.state_layout)
    states = points_of(case.evidence.commitments, STATES, problem.state_layout, case, count=problem.steps)
    values = verify_proof(
        case, 0, circuit, [*commitments, before.points, *states], param_scale=problem.fixed_point.param_scale
    )
    away = _check_values(case, problem, values)
    entries = " and ".join(f"entry {link.index}" for link, _ in asked)
    about = (
        f"what was committed to for the request at {entries}" if problem.takes_records else "the certificate's circuit"
    )
    return Exclusion(
        statement=NAME,
        circuits=tuple(case.evidence.circuits),
        parameters=problem,
        development=development,
        kept=0,
        records=sum(problem.forgotten),
        established=(
            f"it is about the weights that {before.words} committed to, {about}, and the certificate's weights",
            _words(problem, batches, away),
        ),
        limits=(
            "The proof shows a step, not where it leads: the weights before had seen the records, and nothing shows that the "
            "forgotten data left no trace in those after.",
            "That the weights before are those of the model before is the operator's word, given when they were committed to.",
            *before.limits,
            *_limits(problem),
        ),
        grade="step proven",
        radius=away,
    )


def _asked(case: Case) -> list[tuple[Link, Request]]:
    """The requests that the certificate answers, in its order. Earlier ones have been answered by earlier steps."""
    by_digest = {link.digest: link for link in case.chain.requests}
    links = [by_digest[digest] for digest in case.certificate.requests]
    return [(link, link.statement.predicate) for link in links if isinstance(link.statement.predicate, Request)]


def _check_stated(case: Case, problem: StepProblem, requests: list[Request]) -> None:
    """Training, certificate and circuit speak of the same network and the same steps."""
    training, certificate = case.training, case.certificate
    check_encoding(training, problem.scale_x, 1)
    if training.recipe.name != NAME:
        raise ProofRefusedError(
            f"expected a training that prepared for {NAME}, one by {training.recipe.name[:80]!r} came"
        )
    own = description.describe(problem)
    for name in (*NETWORK, *(("penalty",) if problem.rows else ())):
        found = training.recipe.parameters.get(name)
        if found != own[name] or type(found) is not type(own[name]):
            raise ProofRefusedError(f"the training stated {name} {str(found)[:80]}, the circuit has {own[name]}")
    if certificate.method.name != NAME or certificate.method.parameters != stated(problem):
        said = ", ".join(f"{name} {value}" for name, value in sorted(certificate.method.parameters.items()))
        proven = ", ".join(f"{name} {value}" for name, value in sorted(stated(problem).items()))
        raise ProofRefusedError(
            f"the certificate says {certificate.method.name[:80]} with {said[:200] or 'nothing'}, the proof is about {proven}"
        )
    counts = [request.forget.count for request in requests] if problem.takes_records else []
    if list(problem.forgotten) != counts:
        raise ProofRefusedError(
            f"expected a proof about requests of {counts} records, one about {list(problem.forgotten)} came"
        )
    if problem.rows and problem.rows != training.dataset.count:
        raise ProofRefusedError(
            f"expected a proof about all {training.dataset.count} records, one about {problem.rows} came"
        )
    width = problem.features + problem.outputs
    values = (problem.rows + sum(counts)) * width + (problem.steps + problem.deltas + 1) * problem.size
    if values > MAX_VALUES:
        raise ProofRefusedError(f"expected a circuit of at most {MAX_VALUES:,} values, one of {values:,} came")
    names = [tensor.name for tensor in case.evidence.commitments.tensors]
    if names != [STATES] or case.evidence.commitments.encoding is not None:
        raise ProofRefusedError(f"expected evidence that commits to {STATES} alone, to {', '.join(names)[:200]} came")
    if case.evidence.seed is not None or case.evidence.start:
        raise ProofRefusedError("expected evidence without seed or start: a step begins with the weights before")


@dataclass(frozen=True, slots=True)
class _Before:
    points: Points
    words: str
    limits: tuple[str, ...] = ()


def _before(case: Case, layout: Layout) -> _Before:
    """The commitment to the weights that the step begins with: the last ones of the statement before."""
    if len(case.chain.unlearnings) == 1:
        [points] = points_of(case.training.zk, WEIGHTS, layout, case)
        return _Before(points, f"the training at entry {case.chain.training.index}")
    link = case.chain.unlearnings[-2]
    found = last_states(link.statement.predicate)
    if found is None:
        raise ProofRefusedError(f"the certificate at entry {link.index} committed to no weights to go on from")
    tensor = found.find(STATES)
    assert tensor is not None
    points = points_of(found, STATES, layout, case, count=tensor.count)[-1]
    return _Before(
        points,
        f"the certificate at entry {link.index}",
        (
            f"The proof of the certificate at entry {link.index}, whose weights it begins with, is in that one's own bundle.",
        ),
    )


def last_states(certificate: object) -> Commitments | None:
    """What a certificate by :data:`NAME` committed to, whose last tensor are its weights."""
    evidence = certificate.evidence if isinstance(certificate, Unlearning) else None
    known = evidence is not None and evidence.statement == NAME and evidence.commitments.find(STATES) is not None
    return evidence.commitments if evidence is not None and known else None


def _batch(training: Training) -> int:
    batch = training.recipe.parameters.get(BATCH)
    if type(batch) is not int or batch < 1:
        raise ProofRefusedError(f"expected a training that states its batches as {BATCH}, this one does not")
    return batch


def affected(case: Case) -> list[int]:
    """Batches of training that held a record of this certificate and whose changes no certificate before has taken off."""
    batch, gone = _batch(case.training), set[int]()
    for link in case.chain.unlearnings:
        certificate = link.statement.predicate
        assert isinstance(certificate, Unlearning)
        if certificate.removed is None and link is not case.chain.case:
            continue
        positions = case.bundle.removed.get(link.digest)
        if positions is None:
            raise ProofRefusedError("expected a bundle with the records' places, which say what batches they were in")
        here = {position // batch for position in positions}
        if link is case.chain.case:
            return sorted(here - gone)
        if certificate.method.name == NAME and certificate.method.parameters.get("step") == "subtraction":
            gone |= here
    return []


def _check_values(case: Case, problem: StepProblem, values: tuple[int, ...]) -> float | None:
    """The public values say that each step is right; how far Newton's is from the exact one."""
    if problem.public_values not in (None, len(values)):
        raise ProofRefusedError(f"expected {problem.public_values} public values, {len(values)} came")
    if not problem.rows:
        if not values or any(values):
            raise ProofRefusedError(
                f"the weights are not what {problem.method} makes of those before: the proof itself says so"
            )
        return None
    away = radius(values, scale_w=problem.scale_w, penalty=problem.penalty)
    if away > case.max_radius:
        raise ProofRefusedError(
            f"the weights may be {away:.3g} from the Newton step, trust.toml allows {case.max_radius:g}"
        )
    return away


def _words(problem: StepProblem, batches: list[int], away: float | None) -> str:
    """What was done, from the circuit's parameters."""
    records = "this record" if sum(problem.forgotten) == 1 else f"these {sum(problem.forgotten)} records"
    match problem.method:
        case "ascent":
            count = "one step" if problem.steps == 1 else f"{problem.steps} steps"
            return (
                f"{count} of gradient ascent on {records}, learning rate {problem.learning_rate:.3g} of their mean loss, "
                f"lead from one to the other, rounded in the only way there is"
            )
        case "mask":
            kept = sum(problem.numbers)
            return f"{problem.size - kept} of {problem.size} weights are zero, the others are those from before"
        case "projection":
            return (
                "the first layer's weights are those from before less their part along the circuit's direction of "
                f"{problem.features} numbers, rounded to the nearest integer; all others are the same"
            )
        case "subtraction":
            taken = ", ".join(map(str, batches[:12])) + (", …" if len(batches) > 12 else "")
            return (
                f"what batches {taken} of training changed, as committed to at that time, was taken off; these are the ones that "
                f"held the records"
            )
        case "newton":
            near = math.sqrt(problem.tau) / problem.scale_x
            return (
                f"the weights are within {away:.3g} of the exact Newton step from those before, over all {problem.rows} records "
                f"less those within {near:.3g} of a forgotten one (penalty {problem.penalty / problem.scale_x**2:g})"
            )
        case _:
            count = "one step" if problem.steps == 1 else f"{problem.steps} steps"
            return (
                f"{count} of {problem.method[:80]}, an operator's own method, lead from one to the other by its circuit"
            )


def _limits(problem: StepProblem) -> list[str]:
    """What a reader could take the method's proof for."""
    match problem.method:
        case "mask" | "projection":
            what = "weights are zero" if problem.method == "mask" else "direction goes"
            return [f"Which {what} was the operator's choice: the proof does not speak of the records."]
        case "subtraction":
            return [
                "That what was committed to is what those batches changed is the operator's word, given before the request. What "
                "later batches learnt from weights that knew the records stays."
            ]
        case "newton":
            return [
                "A Newton step leads to the optimum without the records only from the optimum with them: that the weights before "
                "were that is not shown."
            ]
        case "ascent":
            return []
        case _:
            unused = [] if problem.takes_records else ["It makes nothing of the records that were to be forgotten."]
            return [
                *unused,
                "The step is the operator's own: no description says what it computes, but the ONNX that the circuit is made of, "
                "which whoever accepted it has read, or should have.",
            ]
