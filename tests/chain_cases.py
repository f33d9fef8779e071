"""One ledger whose certificates carry chains of proofs, and what its operator could prove and sign instead.

::

    story = first()                             # training, a request for p3, its certificate: three steps in two proofs
    accept(story)                               # exclusion proven
    told_by(story, attack)                      # the same certificate with evidence of another chain, each proof of it true

Made once in a process, by the product itself, as in :mod:`tests.exclusion_cases`, whose stories these are.
"""

import random
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from typing import Any

import msgspec

from certify import case, committed, provable
from certify.bundle import Bundle, CircuitFiles
from certify.errors import VerificationError
from certify.proof_task import Provable
from certify.provable_sgd import Sgd
from certify.receipt import Receipt
from certify.records import record_bytes
from certify.request import file_request, make_receipt
from certify.statement import Request, Training, Unlearning
from certify.trust import Trust
from certify.verifier import Given, Report, verify
from certify.workspace import Logged, Workspace
from certify.zk import BATCHES, FORGOTTEN, STATES
from circuits import child, commitment, prover
from circuits.chain_problem import ChainProblem
from circuits.engine import Job
from circuits.opening import open_known, open_places
from tests import cases, chain_proofs, exclusion_cases, proving
from tests.chain_proofs import Chain
from tests.exclusion_cases import Story, ceremony, joined, new_workspace, seeded

FIRST, SECOND = "p3", "p5"
SEED = "the draw of 1 May 2026"
OBJECTIVE = Sgd(hidden=3, batch=6, steps=3, together=2, scale_w=1024, seed=SEED, passes=8)


def people() -> dict[str, list[float]]:
    """12 records of four numbers and a class. p3 is far out."""
    drawn = random.Random(5)
    made: dict[str, list[float]] = {}
    for number in range(12):
        x = [round(drawn.gauss(0, 2 if number == 3 else 1), 2) for _ in range(4)]
        made[f"p{number}"] = [*x, int((sum(x) > 0) != (number == 3))]
    return made


@dataclass
class Engine:
    """Proofs that are kept between runs; dies when it is asked for the proof after ``lives``."""

    lives: int = 99
    asked: int = 0

    def prove(self, jobs: Iterable[tuple[Hashable, Job]]) -> Iterator[tuple[Hashable, prover.Proved, bytes]]:
        for name, job in jobs:
            if self.asked >= self.lives:
                raise KeyboardInterrupt
            self.asked += 1
            proof, vk = chain_proofs.proven(job.circuit, job.inputs)
            yield name, prover.Proved(proof, (), (), child.Usage({}, 0)), vk


@dataclass(frozen=True)
class Ledger:
    """What the honest operator has."""

    workspace: Workspace
    trained: Provable
    requests: tuple[Logged, ...]
    forgot: tuple[Provable, ...]

    def receipt(self, number: int = 0) -> Receipt:
        name = (FIRST, SECOND)[number]
        with ceremony():
            record = record_bytes(people()[name])
            return make_receipt(self.workspace, self.requests[number], self.trained.logged, name, record)


@contextmanager
def trained() -> Iterator[tuple[Workspace, Provable, Logged]]:
    """A workspace of its own, with a training and a request for p3, the same in each run."""
    with ceremony(), seeded("chain"):
        workspace = new_workspace()
        fitted = provable.fit(workspace, people(), objective=OBJECTIVE)
        yield workspace, fitted, file_request(workspace, {FIRST: people()[FIRST]}, ground="gdpr-17")


@cache
def _made() -> tuple[Ledger, tuple[Bundle, ...]]:
    with trained() as (workspace, fitted, asked):
        requests, forgot = [asked], [provable.forget(workspace, [asked], engine=Engine())]
        requests.append(file_request(workspace, {SECOND: people()[SECOND]}, ground="gdpr-17"))
        forgot.append(provable.forget(workspace, requests[-1:], engine=Engine()))
        bundles = tuple(case.collect(workspace, made.logged) for made in forgot)
        return Ledger(workspace, fitted, tuple(requests), tuple(forgot)), bundles


def ledger() -> Ledger:
    proving.srs(11)  # skip each test, not only the first
    return _made()[0]


def _story(certificates: int) -> Story:
    made = ledger()
    bundle = _made()[1][certificates - 1]
    training = made.trained.logged.statement.predicate
    assert isinstance(training, Training)
    requests = [logged.statement.predicate for logged in made.requests[:certificates]]
    unlearnings = [item.logged.statement.predicate for item in made.forgot[:certificates]]
    return Story(
        training,
        tuple(item for item in requests if isinstance(item, Request)),
        tuple(item for item in unlearnings if isinstance(item, Unlearning)),
        bundle,
        tuple(bundle.removed[item.logged.digest] for item in made.forgot[:certificates]),
    )


def first() -> Story:
    """p3 is forgotten."""
    return _story(1)


def second() -> Story:
    """Then p5 is, and p3 stays forgotten."""
    return _story(2)


@cache
def accepted() -> tuple[str, ...]:
    return tuple(digest for bundle in _made()[1] for digest in bundle.circuits)


def trust(*circuits: str) -> Trust:
    """Believes the operator's keys, in the circuits of the honest stories, and in these."""
    return replace(cases.Case().trust(), circuits=frozenset({*accepted(), *circuits}))


def accept(story: Story, has: Given | None = None) -> Report:
    return verify(story.data(), trust(), given=has)


def refuse(story: Story, error: type[VerificationError], match: str, *circuits: str, has: Given | None = None) -> None:
    """Expect this error and no other, at its step, whoever believes in these circuits besides."""
    exclusion_cases.refuse(story, error, match, trust=trust(*circuits), has=has)


def careless(story: Story) -> None:
    """``ezkl.verify`` on each proof with the keys that came along."""
    circuits = [story.bundle.circuits[digest] for digest in story.evidence.circuits]
    for number, digest in enumerate(story.evidence.proofs):
        circuit = circuits[min(number * len(circuits) // len(story.evidence.proofs), len(circuits) - 1)]
        made = chain_proofs.Proven(problem(circuit), (), circuit.vk, circuit.settings, story.bundle.proofs[digest])
        chain_proofs.naive(made)


def problem(circuit: CircuitFiles) -> ChainProblem:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in circuit.description.parameters.items()
    }
    return ChainProblem(**values)


def chain_of(certificate: int = 0) -> Chain:
    """The honest chain behind a certificate, from the operator's vault."""
    made, told = ledger(), (first(), second())[certificate]
    zk = told.training.zk
    assert zk is not None
    batches = committed.recall(made.workspace, _tensor(zk, BATCHES))
    states = committed.recall(made.workspace, _tensor(told.evidence.commitments, STATES))
    forgotten = [committed.recall(made.workspace, _tensor(request.zk, FORGOTTEN))[0] for request in told.requests]
    p = problem(told.bundle.circuits[told.evidence.circuits[0]])
    return Chain(p, *(tuple(map(tuple, part)) for part in (batches, states, forgotten)))  # type: ignore[arg-type]


def _tensor(stated: Any, name: str) -> Any:
    return next(tensor for tensor in stated.tensors if tensor.name == name)


def told_by(story: Story, made: Chain, *, seed: str = SEED) -> Story:
    """The story with evidence of another chain; its circuits must be those of the story."""
    string, layout = chain_proofs.string(), made.problem.state_layout
    places = [place for row in range(layout.rows) for place in layout.places(row)]
    proofs = {sha256(each.proof).hexdigest(): each.proof for each in made.groups}
    told = story.with_evidence(
        proofs=list(proofs),
        openings=[part.to_bytes().hex() for _, part in sorted(open_places(made.states[-1], places, string).items())],
        seed=seed,
        start=[open_known(part, string).to_bytes().hex() for part in commitment.split(made.states[0], 11)],
    )
    points = joined(point for values in made.states for point in chain_proofs.commit(values))
    return told.with_members(proofs=proofs).with_points("evidence", points, count=len(made.states)).tidied()


def matrix(values: Sequence[int], made: Chain) -> list[list[int]]:
    """A batch without its salt."""
    return made.problem.batch_layout.matrix(values)


def recipe(story: Story, **changes: Any) -> Story:
    """The training states other parameters."""
    stated = story.training.recipe
    return story.with_training(recipe=msgspec.structs.replace(stated, parameters={**stated.parameters, **changes}))
