"""``exclusion-chain/v1``, the verifier's side: many proofs, one chain, no gaps. No torch.

::

    kept = verify_chain(proofs, circuits, batches=…, states=…, forgotten=…, srs_1=…, accepted_srs=…)
    verify_start(states[0], seed, openings, problem, srs_1)

Proof i takes up where proof i − 1 ended. Every commitment comes from the caller: the batches as they were committed to before
anybody asked, in their order; what is forgotten, the same in every proof; and the states, each the end of one step and the
beginning of the next. A gap, a swap or a repeat is a proof about other commitments than these, and does not hold.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from circuits import initial, zk_verifier
from circuits.chain_problem import ChainProblem
from circuits.commitment import split
from circuits.errors import ZkProofError
from circuits.opening import Opening, verify_known

Points = Sequence[bytes]


@dataclass(frozen=True, slots=True)
class ChainCircuit:
    """An accepted circuit with what it takes to verify its proofs."""

    problem: ChainProblem
    vk: bytes
    settings: bytes


def verify_chain(
    proofs: Sequence[bytes],
    circuits: Sequence[ChainCircuit],
    *,
    batches: Sequence[Points],
    states: Sequence[Points],
    forgotten: Sequence[Points],
    srs_1: bytes,
    accepted_srs: Collection[bytes],
) -> list[int]:
    """Records that count in each step, once every step is proven. Raises ZkProofError.

    ``circuits``: accepted ones, each of another number of steps and otherwise the same. The first proofs are of the largest
    number, the last one of what is left.
    """
    by_steps = {circuit.problem.steps: circuit for circuit in circuits}
    steps = len(states) - 1
    _check_circuits(circuits, by_steps, steps, len(proofs), len(batches))
    most = max(by_steps)
    kept: list[int] = []
    for number, proof in enumerate(proofs):
        first = number * most
        circuit = by_steps[min(most, steps - first)]
        count = circuit.problem.steps
        expected = [
            *(batches[step % len(batches)] for step in range(first, first + count)),
            *states[first : first + count + 1],
            *forgotten,
        ]
        try:
            values = zk_verifier.verify(
                proof,
                vk=circuit.vk,
                settings=circuit.settings,
                srs_1=srs_1,
                commitments=expected,
                accepted={zk_verifier.sha256(circuit.vk)},
                accepted_srs=accepted_srs,
                param_scale=circuit.problem.table_scale,
            )
        except ZkProofError as error:
            raise ZkProofError(f"steps {first} to {first + count - 1}: {error}") from error
        kept += _kept(values, circuit.problem, first)
    return kept


def _check_circuits(
    circuits: Sequence[ChainCircuit], by_steps: dict[int, ChainCircuit], steps: int, proofs: int, batches: int
) -> None:
    if not circuits or len(by_steps) != len(circuits) or len(circuits) > 2:
        raise ZkProofError(f"expected one circuit, or two of different numbers of steps, got {len(circuits)}")
    if len({replace(circuit.problem, steps=1) for circuit in circuits}) != 1:
        raise ZkProofError("expected circuits that differ in their number of steps alone, got ones that differ in more")
    most = max(by_steps)
    if steps < 1 or proofs != -(-steps // most):
        raise ZkProofError(f"expected {-(-steps // most)} proofs of {steps} steps, {most} each, got {proofs}")
    if most > batches:
        raise ZkProofError(f"expected no more steps in a proof than the {batches} batches, got {most}")
    needed = {min(most, steps - first) for first in range(0, steps, most)}
    if set(by_steps) != needed:
        raise ZkProofError(f"expected circuits of {sorted(needed)} steps, got {sorted(by_steps)}")


def _kept(values: Sequence[int], problem: ChainProblem, first: int) -> list[int]:
    """Records that count in each step of a proof, if all its rounding is right."""
    if len(values) != 2 * problem.steps:
        raise ZkProofError(f"expected {2 * problem.steps} public values, got {len(values)}")
    deficits, kept = values[: problem.steps], list(values[problem.steps :])
    for step, deficit in enumerate(deficits, first):
        if deficit:
            raise ZkProofError(
                f"expected the weights after step {step} to be what SGD makes of those before, they are not"
            )
    if any(not 0 <= count <= problem.batch for count in kept):
        raise ZkProofError(f"expected counts from 0 to {problem.batch}, got {kept}")
    return kept


def verify_start(
    points: Points,
    seed: str,
    openings: Sequence[Opening],
    problem: ChainProblem,
    srs_1: bytes,
    *,
    allow_development: bool = False,
) -> None:
    """That a chain begins with the weights that a public seed gives. Raises CommitmentError, ZkProofError."""
    columns = split(initial.salted(seed, problem), problem.logrows)
    if not len(columns) == len(points) == len(openings):
        raise ZkProofError(f"expected {len(columns)} columns of first weights, got {len(points)} and {len(openings)}")
    for column, point, opening in zip(columns, points, openings, strict=True):
        verify_known(point, opening, column, srs_1, logrows=problem.logrows, allow_development=allow_development)
