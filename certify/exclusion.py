"""Step 7: zero-knowledge proofs that the weights come from the committed data less what must be forgotten. Pure, but for EZKL.

A certificate's evidence names proofs and circuits; what they have to be about comes from the ledger: the data as
``training/v1`` committed to them, what must be forgotten as every ``request/v1`` of the chain did, the weights as the
certificate does. Nothing that the prover could choose is believed: circuits are those that trust.toml or a trusted auditor
accepts, public values are read from the proof, and the reference string is the ceremony's. See :mod:`circuits.zk_verifier`
for what happens to the proof itself.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from certify.bundle import Bundle, CircuitFiles
from certify.chain import Chain
from certify.digest import Manifest
from certify.errors import DevelopmentSrsError, ProofRefusedError, UnacceptedCircuitError
from certify.statement import Request, Training, Unlearning
from certify.zk import FORGOTTEN, RECORDS, WEIGHTS, Commitments, Committed, Evidence
from circuits import description, zk_verifier
from circuits.chain_problem import ChainProblem
from circuits.errors import CircuitError
from circuits.layout import Layout
from circuits.problem import Problem
from circuits.srs import CEREMONY, REDUCED_SIZE
from circuits.step_problem import StepProblem
from circuits.vicinity import radius

Points = tuple[bytes, ...]
POINT = 32
MAX_VALUES = 1 << 24
"""Far beyond what can be proven, and little enough for a verifier to lay out."""


@dataclass(frozen=True, slots=True)
class Exclusion:
    """What was proven. ``development``: with a reference string that somebody may know the secret of."""

    statement: str
    circuits: tuple[str, ...]
    parameters: description.Parameters
    development: bool
    kept: int
    records: int
    established: tuple[str, ...]
    limits: tuple[str, ...]
    grade: str = "exclusion proven"
    radius: float | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """All that a proof is checked against."""

    chain: Chain
    bundle: Bundle
    training: Training
    requests: tuple[Request, ...]
    certificate: Unlearning
    evidence: Evidence
    circuits: tuple[CircuitFiles, ...]
    srs_1: bytes
    max_radius: float

    @property
    def logrows(self) -> int:
        return self.evidence.commitments.logrows

    @property
    def removed(self) -> int:
        """Records that certificates of the chain name as left out."""
        assert self.certificate.retained is not None
        return self.training.dataset.count - self.certificate.retained.count

    def proof(self, number: int) -> bytes:
        return self.bundle.proofs[self.evidence.proofs[number]]


def check(
    chain: Chain, bundle: Bundle, accepted: Mapping[str, str], *, max_radius: float, allow_development: bool = False
) -> Exclusion | None:
    """What the case's proofs establish; None where it has none. ``accepted``: digest of a circuit to who accepts it.

    Raises ProofRefusedError, UnacceptedCircuitError or DevelopmentSrsError.
    """
    certificate = chain.case.statement.predicate
    assert isinstance(certificate, Unlearning)
    evidence = certificate.evidence
    _check_members(bundle, chain, evidence)
    if evidence is None:
        return None
    try:
        return _check(chain, bundle, certificate, evidence, accepted, max_radius, allow_development)
    except CircuitError as error:
        raise ProofRefusedError(str(error)) from error


def _check(
    chain: Chain,
    bundle: Bundle,
    certificate: Unlearning,
    evidence: Evidence,
    accepted: Mapping[str, str],
    max_radius: float,
    allow_development: bool,
) -> Exclusion:
    verify = _STATEMENTS.get(evidence.statement)
    if verify is None:
        raise ProofRefusedError(f"expected evidence of {', '.join(_STATEMENTS)}, {evidence.statement[:80]!r} came")
    if certificate.retained is None:
        raise ProofRefusedError("expected a request about records: other scopes cannot be proven to be excluded")
    circuits = tuple(_circuit(digest, evidence, bundle, accepted) for digest in evidence.circuits)
    srs_1, development = _srs(evidence, bundle, allow_development)
    training = chain.training.statement.predicate
    assert isinstance(training, Training)
    requests = tuple(link.statement.predicate for link in chain.requests)
    case = Case(
        chain,
        bundle,
        training,
        tuple(request for request in requests if isinstance(request, Request)),
        certificate,
        evidence,
        circuits,
        srs_1,
        max_radius,
    )
    found = verify(case, development)
    _check_released(found.parameters, bundle.manifests[certificate.post.tensor_root])
    who = ", ".join(sorted({accepted[digest] for digest in evidence.circuits}))
    size = sum(len(bundle.proofs[digest]) for digest in evidence.proofs)
    count = f"{len(evidence.proofs)} proofs" if len(evidence.proofs) > 1 else "a proof"
    names = ", ".join(digest[:16] for digest in evidence.circuits)
    string = "a DEVELOPMENT reference string" if development else "the perpetual powers of tau"
    head = f"{count} of {found.statement}, {size:,} bytes, by circuit {names} (accepted by {who}), with {string}"
    return replace(found, established=(head, *found.established))


def _optimum(case: Case, development: bool) -> Exclusion:
    """``exclusion-optimum/v1``: one proof."""
    if len(case.circuits) != 1 or len(case.evidence.proofs) != 1:
        raise ProofRefusedError(
            f"expected one circuit and one proof, {len(case.circuits)} and {len(case.evidence.proofs)} came"
        )
    [circuit] = case.circuits
    problem = description.parse(circuit.description.statement, circuit.description.parameters)
    if not isinstance(problem, Problem):
        raise ProofRefusedError(
            f"expected a circuit of {Problem.statement}, one of {circuit.description.statement} came"
        )
    _check_objective(case.training, problem)
    _check_alone(case.evidence)
    if problem.rows != case.training.dataset.count:
        raise ProofRefusedError(
            f"expected a proof about all {case.training.dataset.count} records, one about {problem.rows} came"
        )
    counts = [request.forget.count for request in case.requests]
    if list(problem.forgotten) != counts:
        raise ProofRefusedError(
            f"expected a proof about requests of {counts} records, one about {list(problem.forgotten)} came"
        )
    values = problem.rows * (problem.features + problem.outputs) + sum(counts) * problem.features
    if max(values, problem.features * problem.outputs) > MAX_VALUES:
        raise ProofRefusedError(f"expected a circuit of at most {MAX_VALUES:,} values, one of {values:,} came")
    layouts = problem.layouts
    commitments = [
        *points_of(case.training.zk, RECORDS, layouts[0], case),
        *points_of(case.evidence.commitments, WEIGHTS, layouts[1], case),
    ]
    for request, layout in zip(case.requests, layouts[2:], strict=True):
        commitments += points_of(request.zk, FORGOTTEN, layout, case)
    *gradient, kept = verify_proof(case, 0, circuit, commitments, param_scale=problem.fixed_point.param_scale)
    if len(gradient) != problem.features * problem.outputs:
        raise ProofRefusedError(
            f"expected a gradient of {problem.features} times {problem.outputs} and a count, {len(gradient) + 1} values came"
        )
    away = radius(gradient, scale_w=problem.scale_w, penalty=problem.penalty)
    check_kept(kept, problem.rows, case.removed)
    if away > case.max_radius:
        raise ProofRefusedError(
            f"the weights may be {away:.3g} from the optimum without the forgotten records, trust.toml allows {case.max_radius:g}"
        )
    near = math.sqrt(problem.tau) / problem.scale_x
    room = problem.features * problem.outputs * math.log2(1 + 2 * away * problem.scale_w)
    return Exclusion(
        statement=problem.statement,
        circuits=tuple(case.evidence.circuits),
        parameters=problem,
        development=development,
        kept=kept,
        records=problem.rows,
        established=(
            f"it is about the {problem.rows} records committed at entry {case.chain.training.index}, what the requests at "
            f"{', '.join(str(link.index) for link in case.chain.requests)} committed to, and the certificate's weights",
            f"{problem.rows - kept} records within {near:.3g} of a forgotten one are left out, {kept} count",
            f"the weights are within {away:.3g} of the one optimum of the {problem.loss} objective (penalty "
            f"{problem.penalty / problem.scale_x**2:g}) over these; trust.toml allows {case.max_radius:g}",
        ),
        limits=(
            f"Weights within that radius of the optimum could differ by about {room:.0f} bits in all: room for a "
            f"message of an operator that wants to hide one.",
            *_table_limits(problem),
        ),
        radius=away,
    )


def _table_limits(problem: Problem) -> list[str]:
    if not problem.table_scale:
        return []
    steps = f"2^-{problem.table_scale}"
    return [
        f"The logistic objective is one whose sigmoid goes in steps of {steps}: the optimum is that objective's own."
    ]


def _chain(case: Case, development: bool) -> Exclusion:
    """``exclusion-chain/v1``: many proofs."""
    from certify import exclusion_chain

    return exclusion_chain.verify(case, development)


def _step(case: Case, development: bool) -> Exclusion:
    """``step/v1``: one proof, of a step and no more."""
    from certify import exclusion_step

    return exclusion_step.verify(case, development)


_STATEMENTS: dict[str, Callable[[Case, bool], Exclusion]] = {
    Problem.statement: _optimum,
    ChainProblem.statement: _chain,
    StepProblem.statement: _step,
}


def points_of(stated: Commitments | None, name: str, layout: Layout, case: Case, *, count: int = 1) -> list[Points]:
    """The points of each of ``count`` tensors of that name, committed to in the layout that the circuit takes.

    With another count, one statement's tensors could stand in the place of another's.
    """
    found = [tensor for tensor in stated.tensors if tensor.name == name] if stated is not None else []
    if stated is None or not found:
        raise ProofRefusedError(f"no commitment to {name} is stated where the proof needs one")
    if len(found) != 1 or found[0].count != count:
        counts = " and ".join(str(tensor.count) for tensor in found)
        raise ProofRefusedError(
            f"expected one commitment to {name}, of {count} tensors, {len(found)} came, of {counts}"
        )
    [committed] = found
    if (stated.logrows, stated.srs) != (case.logrows, case.evidence.commitments.srs):
        raise ProofRefusedError(f"the commitment to {name} was made for another circuit size or reference string")
    shape = (committed.rows, committed.columns, stated.logrows, committed.proofs)
    expected = (layout.rows, layout.columns, layout.logrows, layout.proofs)
    if shape != expected:
        raise ProofRefusedError(
            f"expected {name} of (rows, columns, logrows, proofs) {expected}, {shape} are committed"
        )
    return split_points(case.bundle, committed, layout)


def split_points(bundle: Bundle, committed: Committed, layout: Layout) -> list[Points]:
    """The points behind a commitment, a tuple for each tensor."""
    data = bundle.points.get(committed.points)
    if data is None:
        raise ProofRefusedError(
            f"the bundle has no points/{committed.points[:16]}…, the commitment to {committed.name}"
        )
    size = layout.points * POINT
    if len(data) != size * committed.count:
        raise ProofRefusedError(
            f"expected {committed.count} times {layout.points} points of {committed.name}, {len(data)} bytes came"
        )
    tensors = [data[at : at + size] for at in range(0, len(data), size)]
    return [tuple(tensor[at : at + POINT] for at in range(0, size, POINT)) for tensor in tensors]


def verify_proof(
    case: Case, number: int, circuit: CircuitFiles, commitments: Sequence[Points], *, param_scale: int = 0
) -> tuple[int, ...]:
    """The public values of the case's proof ``number``, about exactly these commitments."""
    return zk_verifier.verify(
        case.proof(number),
        vk=circuit.vk,
        settings=circuit.settings,
        srs_1=case.srs_1,
        commitments=commitments,
        accepted={bytes.fromhex(circuit.description.vk)},
        accepted_srs={bytes.fromhex(case.evidence.commitments.srs)},
        param_scale=param_scale,
    )


def check_kept(kept: int, records: int, removed: int) -> None:
    if not 0 < kept <= records - removed:
        raise ProofRefusedError(
            f"the proof counts {kept} of {records} records, expected at most {records - removed}: {removed} are stated as "
            f"left out"
        )


def _check_objective(training: Training, problem: Problem) -> None:
    """The circuit computes what the training stated before anybody asked, on numbers that it said the meaning of."""
    check_encoding(training, problem.scale_x, problem.scale_y)
    stated, proven = training.recipe.parameters, description.describe(problem)
    names = sorted({*stated, *proven} - {"forgotten"})
    if training.recipe.name != problem.statement:
        raise ProofRefusedError(
            f"expected a training by {problem.statement}, one by {training.recipe.name[:80]!r} came"
        )
    for name in names:
        if name not in stated or name not in proven or stated[name] != proven[name]:
            raise ProofRefusedError(
                f"the training stated {name} {str(stated.get(name))[:80]}, the circuit has {proven.get(name)}"
            )


def check_encoding(training: Training, scale: int, target_scale: int) -> None:
    """The training says how records became the numbers that a circuit takes."""
    encoding = training.zk.encoding if training.zk is not None else None
    if encoding is None:
        raise ProofRefusedError("expected a training that says how records became numbers, this one does not")
    if (encoding.scale, encoding.target_scale) != (scale, target_scale):
        raise ProofRefusedError(
            f"the circuit takes data and targets at scales {scale} and {target_scale}, the training committed to "
            f"them at {encoding.scale} and {encoding.target_scale}"
        )


def _check_alone(evidence: Evidence) -> None:
    """The certificate commits to weights and to nothing else: data and what is forgotten were committed to before."""
    names = [tensor.name for tensor in evidence.commitments.tensors]
    if names != [WEIGHTS]:
        raise ProofRefusedError(f"expected evidence that commits to {WEIGHTS} alone, to {', '.join(names)[:200]} came")
    if evidence.seed is not None or evidence.start or evidence.commitments.encoding is not None:
        raise ProofRefusedError("expected evidence without seed, start or encoding, which an optimum has none of")


def _circuit(digest: str, evidence: Evidence, bundle: Bundle, accepted: Mapping[str, str]) -> CircuitFiles:
    circuit = bundle.circuits.get(digest)
    if circuit is None:
        raise ProofRefusedError(f"the bundle has no circuit {digest[:16]}, which the evidence names")
    if digest not in accepted:
        raise UnacceptedCircuitError(
            f"circuit {digest} is not accepted: build it yourself with 'certify circuit rebuild', then add it to trust.toml"
        )
    if (circuit.description.statement, circuit.description.srs) != (evidence.statement, evidence.commitments.srs):
        raise ProofRefusedError(f"circuit {digest[:16]} is of another statement or reference string than the evidence")
    return circuit


def _srs(evidence: Evidence, bundle: Bundle, allow_development: bool) -> tuple[bytes, bool]:
    """The 516 bytes, and whether they are not the ceremony's."""
    digest = evidence.commitments.srs
    data = bundle.srs.get(digest)
    if data is None or len(data) != REDUCED_SIZE:
        raise ProofRefusedError(f"the bundle has no reference string {digest[:16]} of {REDUCED_SIZE} bytes")
    development = digest != CEREMONY[1]
    if development and not allow_development:
        raise DevelopmentSrsError(
            f"the proof was made with reference string {digest[:16]}, not with the ceremony's: whoever made it can forge proofs. "
            f"--allow-development-srs goes on, and grades nothing by it"
        )
    return data, development


def _check_released(parameters: description.Parameters, manifest: Manifest) -> None:
    """The proof covers the whole model: what else it holds could remember."""
    expected = {name: ("F32", shape) for name, shape in parameters.released.items()}
    found = {tensor.name: (tensor.dtype, tensor.shape) for tensor in manifest.tensors}
    if found != expected:
        raise ProofRefusedError(
            f"the proof is about a model of {_show(expected)}, the certificate about one of {_show(found)}"
        )


def _show(tensors: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {dtype}{list(shape)}" for name, (dtype, shape) in list(tensors.items())[:6])


def begun_from(evidence: Evidence, earlier: Sequence[object]) -> list[Commitments]:
    """What the certificate before committed to, where a proof begins with its weights. ``earlier``: oldest first."""
    before = earlier[-1] if earlier else None
    if evidence.statement != StepProblem.statement or not isinstance(before, Unlearning) or before.evidence is None:
        return []
    return [before.evidence.commitments]


def _check_members(bundle: Bundle, chain: Chain, evidence: Evidence | None) -> None:
    """Nothing rides along unchecked."""
    stated = [
        link.statement.predicate.zk
        for link in (chain.training, *chain.requests, *([chain.start] if chain.start else []))
        if isinstance(link.statement.predicate, Training | Request)
    ]
    if evidence is not None:
        stated.append(evidence.commitments)
        stated += begun_from(evidence, [link.statement.predicate for link in chain.unlearnings[:-1]])
    points = {tensor.points for commitments in stated if commitments is not None for tensor in commitments.tensors}
    used: tuple[tuple[str, Mapping[str, object], set[str]], ...] = (
        ("circuits", bundle.circuits, set(evidence.circuits) if evidence else set()),
        ("points", bundle.points, points if evidence else set()),
        ("proofs", bundle.proofs, set(evidence.proofs) if evidence else set()),
        ("srs", bundle.srs, {evidence.commitments.srs} if evidence else set()),
    )
    for folder, parts, names in used:
        for name in parts:
            if name not in names:
                raise ProofRefusedError(f"the bundle has {folder}/{name[:16]}…, which belongs to no evidence in it")
    for name in evidence.proofs if evidence else ():
        if name not in bundle.proofs:
            raise ProofRefusedError(f"the bundle has no proofs/{name[:16]}…, which the evidence names")
    if evidence and len(set(evidence.proofs)) != len(evidence.proofs):
        raise ProofRefusedError("the evidence names a proof twice")
