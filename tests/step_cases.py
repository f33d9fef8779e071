"""One ledger whose certificates carry proofs of steps, and what its operator could prove and sign instead.

::

    story = first()                             # a training, a request for p3, two steps of ascent on it
    accept(story)                               # step proven
    told_by(story, attack)                      # the same certificate with a proof of something else, which is true

Made once in a process, by the product itself, as in :mod:`tests.exclusion_cases`, whose stories these are.
"""

import json
import os
import random
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from typing import Any
from unittest import mock

from certify import case, committed, provable, provable_step
from certify.bundle import Bundle, CircuitFiles
from certify.errors import VerificationError
from certify.exclusion_step import stated
from certify.proof_task import Provable, circuit_files
from certify.provable_step import Ascent, Step, Updatable
from certify.receipt import Receipt
from certify.records import record_bytes
from certify.request import file_request, make_receipt
from certify.statement import Method, Request, Training, Unlearning
from certify.trust import Trust
from certify.verifier import Given as Has
from certify.verifier import Report, verify
from certify.workspace import Logged, Workspace
from certify.zk import FORGOTTEN, WEIGHTS
from circuits import description, prover
from circuits.opening import Opening, open_places
from circuits.srs import CEREMONY, Srs, reduced
from circuits.step_problem import StepProblem
from tests import cases, chain_proofs, exclusion_cases, proving
from tests.chain_cases import Engine
from tests.exclusion_cases import Story, ceremony, joined, new_workspace, seeded

FIRST, SECOND = "p3", "p5"
MODEL = Updatable(batch=4, steps=6, deltas=True)
STEPS: tuple[Step, Step] = (Ascent(2, 0.5), Ascent(2, 0.5))
Values = tuple[int, ...]


def people() -> dict[str, list[float]]:
    """12 records of three numbers and a class. p3 is far out."""
    drawn = random.Random(5)
    made: dict[str, list[float]] = {}
    for number in range(12):
        x = [round(drawn.gauss(0, 2 if number == 3 else 1), 2) for _ in range(3)]
        made[f"p{number}"] = [*x, int((sum(x) > 0) != (number == 3))]
    return made


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

    def values(self, name: str, number: int = 0) -> Values:
        """Salted: the weights of the training, what a request forgets, or the last weights of a certificate."""
        said: Any = {WEIGHTS: (self.trained.logged,), FORGOTTEN: self.requests}.get(name)
        predicate = said[number].statement.predicate if said else self.forgot[number].logged.statement.predicate
        stated_here = predicate.zk if said else predicate.evidence.commitments
        return tuple(committed.recall(self.workspace, stated_here.find(name))[-1])


@contextmanager
def trained(model: Updatable = MODEL, seed: str = "step") -> Any:
    """A workspace of its own, with a training, the same in each run."""
    with ceremony(), seeded(seed):
        workspace = new_workspace()
        yield workspace, provable.fit(workspace, people(), objective=model)


def ask(workspace: Workspace, *names: str) -> Logged:
    return file_request(workspace, {name: people()[name] for name in names}, ground="gdpr-17")


def forget(workspace: Workspace, requests: Sequence[Logged], step: Step) -> Provable:
    with mock.patch.object(provable_step, "open_places", openings_of):
        return provable.forget(workspace, requests, step=step, engine=Engine())


@cache
def _made() -> tuple[Ledger, tuple[Bundle, ...]]:
    with trained() as (workspace, fitted):
        requests, forgot = [], []
        for name, step in zip((FIRST, SECOND), STEPS, strict=True):
            requests.append(ask(workspace, name))
            forgot.append(forget(workspace, requests[-1:], step))
        bundles = tuple(case.collect(workspace, made.logged) for made in forgot)
        return Ledger(workspace, fitted, tuple(requests), tuple(forgot)), bundles


def ledger() -> Ledger:
    proving.srs(11)  # skip each test, not only the first
    return _made()[0]


def story_of(trained: Provable, requests: Sequence[Logged], forgot: Sequence[Provable], bundle: Bundle) -> Story:
    """Certificate i answers request i."""
    training = trained.logged.statement.predicate
    assert isinstance(training, Training)
    asked = [logged.statement.predicate for logged in requests]
    unlearnings = [item.logged.statement.predicate for item in forgot]
    return Story(
        training,
        tuple(item for item in asked if isinstance(item, Request)),
        tuple(item for item in unlearnings if isinstance(item, Unlearning)),
        bundle,
        tuple(bundle.removed[item.logged.digest] for item in forgot),
    )


def _story(count: int) -> Story:
    made = ledger()
    return story_of(made.trained, made.requests[:count], made.forgot[:count], _made()[1][count - 1])


def first() -> Story:
    """p3 is forgotten, by two steps."""
    return _story(1)


def second() -> Story:
    """Then p5 is, by two more from there on."""
    return _story(2)


# -- what else could be proven -----------------------------------------------------------------------------------------------


def problem(story: Story) -> StepProblem:
    circuit = story.circuit.description
    found = description.parse(circuit.statement, circuit.parameters)
    assert isinstance(found, StepProblem)
    return found


@dataclass(frozen=True)
class Proven:
    """A true proof by the circuit of a problem, about these salted values; the states come last."""

    problem: StepProblem
    inputs: tuple[Values, ...]
    circuit: prover.Circuit

    @property
    def proof(self) -> bytes:
        return chain_proofs.proven(self.circuit, self.inputs)[0]

    @property
    def files(self) -> CircuitFiles:
        vk = chain_proofs.proven(self.circuit, self.inputs)[1]
        return circuit_files(self.problem, self.circuit, vk, CEREMONY[1])

    @property
    def states(self) -> tuple[Values, ...]:
        return self.inputs[-self.problem.steps :]


@cache
def circuit_of(p: StepProblem) -> prover.Circuit:
    return description.build(p)


def proven(p: StepProblem, inputs: Sequence[Sequence[int]]) -> Proven:
    return Proven(p, tuple(map(tuple, inputs)), circuit_of(p))


def salted(p: StepProblem, weights: Sequence[int], place: object) -> Values:
    """Weights as they are committed to, with the same salt in each run."""
    return chain_proofs.salted(p.state_layout, p.chain.matrix(weights), ("step", place))


def flat(p: StepProblem, values: Sequence[int]) -> list[int]:
    return [value for row in p.state_layout.matrix(values) for value in row][: p.size]


def openings_of(values: Sequence[int], places: Sequence[int], string: Srs) -> dict[int, Opening]:
    """:func:`circuits.opening.open_places`, which takes seconds, kept between runs like proofs."""
    content = json.dumps([list(values), list(places)]).encode() + reduced(string)
    stored = prover.cache_folder().with_name("test-proofs") / f"openings-{sha256(content).hexdigest()}.json"
    if stored.is_file():
        return {int(at): Opening.parse(bytes.fromhex(text)) for at, text in json.loads(stored.read_bytes()).items()}
    found = open_places(values, places, string)
    stored.parent.mkdir(parents=True, exist_ok=True)
    new = stored.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps({str(at): part.to_bytes().hex() for at, part in found.items()}))
    new.replace(stored)
    return found


def told_by(story: Story, made: Proven, *, points: bool = True, **method: Any) -> Story:
    """The story with another proof and its circuit, about that proof's own weights after where ``points``. ``method``: what the
    certificate says of it, what is true where nothing is said. Openings, which step 9 looks at, stay as they are."""
    files, proof = made.files, made.proof
    digest = sha256(proof).hexdigest()
    told = story.with_evidence(circuits=[files.description.digest], proofs=[digest])
    told = told.with_members(circuits={files.description.digest: files}, proofs={digest: proof})
    told = told.with_certificate(method=Method("step/v1", stated(made.problem) | method))
    if points:
        data = joined(point for values in made.states for point in chain_proofs.commit(values))
        told = told.with_points("evidence", data, count=made.problem.steps)
    return with_those_before(story, told.tidied())


def with_those_before(story: Story, told: Story) -> Story:
    """``told``, with the points that the certificate before committed to, which :meth:`Story.tidied` has dropped."""
    before = [item.evidence for item in story.certificates[:-1][-1:] if item.evidence is not None]
    points = {tensor.points for evidence in before for tensor in evidence.commitments.tensors}
    kept = {name: data for name, data in story.bundle.points.items() if name in points}
    return replace(told, bundle=replace(told.bundle, points={**told.bundle.points, **kept}))


# -- how it is judged --------------------------------------------------------------------------------------------------------


def trust(*circuits: str, **changes: Any) -> Trust:
    """Believes the operator's keys, in the circuits of the honest stories, and in these."""
    honest = [digest for bundle in _made()[1] for digest in bundle.circuits]
    return replace(cases.Case().trust(), circuits=frozenset({*honest, *circuits}), **changes)


def accept(story: Story, has: Has | None = None, *circuits: str) -> Report:
    return verify(story.data(), trust(*circuits), given=has)


def refuse(story: Story, error: type[VerificationError], match: str, *circuits: str, has: Has | None = None) -> None:
    """Expect this error and no other, at its step, whoever believes in these circuits besides."""
    exclusion_cases.refuse(story, error, match, trust=trust(*circuits), has=has)


def careless(story: Story) -> None:
    """``ezkl.verify`` with the key that came along; raises ValueError when it refuses."""
    exclusion_cases.naive(story)
