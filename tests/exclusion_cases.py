"""One ledger whose certificates carry zero-knowledge proofs, and every lie that its operator could sign and log about it.

::

    honest = first()                                       # training, a request for p3, its certificate
    verify(honest.data(), honest.trust())                  # exclusion proven
    lie = honest.with_training(zk=None)                    # signed and logged again, like all that follows from it
    refuse(lie, ProofRefusedError, "no commitment")

The operator holds the keys of the issuer and of the log, so each lie is well signed and well logged. The ledger is made once in a
process, by the product itself; its salts are the same in each run, so that proofs are found again (:mod:`tests.proving`).
"""

import os
import random
import tempfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest
import torch

from certify import case, committed, provable
from certify.bundle import Bundle, CircuitFiles
from certify.digest import Manifest, diff
from certify.errors import ChainError, VerificationError
from certify.keys import SigningKey
from certify.receipt import Receipt
from certify.records import record_bytes
from certify.request import file_request, make_receipt
from certify.state_dict import digest_state_dict
from certify.statement import CIRCUIT as CIRCUIT_SUBJECT
from certify.statement import (
    FORGET_ROOT,
    TENSOR_ROOT,
    Changes,
    Circuit,
    Request,
    Statement,
    Training,
    Unlearning,
    subject,
)
from certify.times import format_time, now
from certify.trust import Trust
from certify.verifier import Given, Report, verify
from certify.workspace import Logged, Workspace
from certify.zk import FORGOTTEN, RECORDS, WEIGHTS, CircuitDescription, Commitments, Evidence
from circuits import child, prover
from circuits.commitment import SALT_BITS
from circuits.engine import Job
from circuits.problem import Problem
from circuits.srs import FOLDERS_VARIABLE, load
from circuits.zk_proof import Proof
from tests import cases, proving

ORIGIN = cases.ORIGIN
FIRST, SECOND = "p3", "p5"
"""Who asks to be forgotten: somebody who matters to the model, then somebody else."""


def people() -> dict[str, list[float]]:
    """40 records of five numbers and a class. p3 is far out and hard to fit, so that the model remembers it."""
    drawn = random.Random(11)
    true = [drawn.gauss(0, 1) for _ in range(5)]
    made: dict[str, list[float]] = {}
    for number in range(40):
        x = [round(drawn.gauss(0, 3 if number == 3 else 1) * 128) / 128 for _ in range(5)]
        sick = sum(a * b for a, b in zip(x, true, strict=True)) + drawn.gauss(0, 0.5) > 0
        made[f"p{number}"] = [*x, int(sick != (number == 3))]
    return made


@contextmanager
def ceremony() -> Iterator[None]:
    """The product finds the ceremony's files where tests do; skips where there are none."""
    folder = str(proving.srs(11).parent)
    proving.srs(1)
    with mock.patch.dict(os.environ, {FOLDERS_VARIABLE: folder}):
        yield


@dataclass(frozen=True)
class Engine:
    """Proofs that are kept between runs."""

    problem: Problem

    def prove(self, jobs: Iterable[tuple[Hashable, Job]]) -> Iterator[tuple[Hashable, prover.Proved, bytes]]:
        for name, job in jobs:
            records, weights, *forgotten = job.inputs
            made = proving.prove(self.problem, proving.Inputs(records, weights, tuple(forgotten)))
            yield (
                name,
                prover.Proved(made.proof, made.instances, tuple(made.commitments), child.Usage({}, 0)),
                made.vk,
            )


def forget(workspace: Workspace, requests: Sequence[Logged]) -> provable.Provable:
    with mock.patch.object(provable, "plan", proving.circuit_of):
        problem, _ = provable.problem_for(workspace, requests)
        assert isinstance(problem, Problem)
        return provable.forget(workspace, requests, engine=Engine(problem))


@dataclass(frozen=True)
class Ledger:
    """What the honest operator has."""

    workspace: Workspace
    trained: provable.Provable
    requests: tuple[Logged, ...]
    forgot: tuple[provable.Provable, ...]

    @property
    def training(self) -> Training:
        predicate = self.trained.logged.statement.predicate
        assert isinstance(predicate, Training)
        return predicate

    def values(self, name: str, number: int = 0) -> tuple[int, ...]:
        """Salted: the records, the weights of a certificate, or what a request forgets."""
        stated = [self.training.zk] if name == RECORDS else []
        if name == FORGOTTEN:
            stated += [logged.statement.predicate.zk for logged in self.requests]  # type: ignore[union-attr]
        if name == WEIGHTS:
            stated += [made.logged.statement.predicate.evidence.commitments for made in self.forgot]  # type: ignore[union-attr]
        found = stated[number]
        assert found is not None
        tensor = found.find(name)
        assert tensor is not None
        return tuple(committed.recall(self.workspace, tensor)[0])

    def receipt(self, number: int = 0) -> Receipt:
        """Of the one who made that request."""
        name = (FIRST, SECOND)[number]
        with ceremony():
            record = record_bytes(people()[name])
            return make_receipt(self.workspace, self.requests[number], self.trained.logged, name, record)


def new_workspace() -> Workspace:
    """In a temporary folder that goes with the process."""
    folder = tempfile.TemporaryDirectory(prefix="exclusion-tests-")
    _kept.append(folder)
    return Workspace.init(Path(folder.name) / "ledger", origin=ORIGIN, issuer="Clinic", password=None)


_kept: list["tempfile.TemporaryDirectory[str]"] = []


@contextmanager
def seeded(seed: str) -> Iterator[None]:
    """Salts are drawn anew by each tensor, and in each run alike."""
    drawn = random.Random(seed)
    with mock.patch("circuits.layout.salts", lambda count: [drawn.getrandbits(SALT_BITS) for _ in range(count)]):
        yield


@cache
def _made() -> tuple[Ledger, tuple[Bundle, ...]]:
    """The bundle of each certificate as well: whoever shreds something later leaves these alone."""
    with ceremony(), seeded("ledger"):
        workspace = new_workspace()
        trained = provable.fit(workspace, people())
        requests: list[Logged] = []
        forgot: list[provable.Provable] = []
        for name in (FIRST, SECOND):
            requests.append(file_request(workspace, {name: people()[name]}, ground="gdpr-17"))
            forgot.append(forget(workspace, requests[-1:]))
        bundles = tuple(case.collect(workspace, made.logged) for made in forgot)
        return Ledger(workspace, trained, tuple(requests), tuple(forgot)), bundles


def ledger() -> Ledger:
    proving.srs(11)  # skip each test, not only the first
    return _made()[0]


# -- what the operator says ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Story:
    """Statements before they are signed, and what comes with them. Certificate i answers request i."""

    training: Training
    requests: tuple[Request, ...]
    certificates: tuple[Unlearning, ...]
    bundle: Bundle
    """Its entries and lists of removed positions are made anew."""
    removed: tuple[tuple[int, ...], ...]
    order: tuple[str, ...] = ()
    """As in "training request0 certificate0", which is also what it is where nothing is said."""
    builders: tuple[tuple[Circuit, tuple[SigningKey, ...]], ...] = ()
    """Statements circuit/v1 and who signs them."""
    extra: Callable[[Bundle], Bundle] = field(default=lambda bundle: bundle)

    @property
    def certificate(self) -> Unlearning:
        return self.certificates[-1]

    @property
    def evidence(self) -> Evidence:
        assert self.certificate.evidence is not None
        return self.certificate.evidence

    @property
    def circuit(self) -> CircuitFiles:
        return self.bundle.circuits[self.evidence.circuits[0]]

    # each of these is another story

    def with_training(self, **changes: Any) -> "Story":
        return replace(self, training=msgspec.structs.replace(self.training, **changes))

    def with_request(self, number: int = 0, **changes: Any) -> "Story":
        requests = list(self.requests)
        requests[number] = msgspec.structs.replace(requests[number], **changes)
        return replace(self, requests=tuple(requests))

    def with_certificate(self, **changes: Any) -> "Story":
        last = msgspec.structs.replace(self.certificate, **changes)
        return replace(self, certificates=(*self.certificates[:-1], last))

    def with_evidence(self, **changes: Any) -> "Story":
        return self.with_certificate(evidence=msgspec.structs.replace(self.evidence, **changes))

    def with_members(self, **folders: Mapping[str, Any]) -> "Story":
        """Members of the bundle beside those that are there: points, proofs, srs, circuits or manifests."""
        parts = {name: {**getattr(self.bundle, name), **members} for name, members in folders.items()}
        return replace(self, bundle=replace(self.bundle, **parts))

    def without_members(self, folder: str) -> "Story":
        return replace(self, bundle=replace(self.bundle, **{folder: {}}))

    def tidied(self) -> "Story":
        """Without members that nothing names any more."""
        zk = [self.training.zk, *(request.zk for request in self.requests), self.evidence.commitments]
        points = {tensor.points for stated in zk if stated for tensor in stated.tensors}
        roots = {self.training.model.tensor_root} | {made.post.tensor_root for made in self.certificates}
        used = {"points": points, "proofs": {*self.evidence.proofs}, "circuits": {*self.evidence.circuits}}
        used |= {"srs": {self.evidence.commitments.srs}, "manifests": roots}
        parts = {name: {k: v for k, v in getattr(self.bundle, name).items() if k in use} for name, use in used.items()}
        return replace(self, bundle=replace(self.bundle, **parts))

    def with_zk(self, where: str, number: int = 0, **changes: Any) -> "Story":
        """Changes to the first committed tensor of training, request or evidence, or to what is said of all of them."""
        stated = self.zk(where, number)
        of_tensor = {name: changes.pop(name) for name in list(changes) if name in stated.tensors[0].__struct_fields__}
        tensors = [msgspec.structs.replace(stated.tensors[0], **of_tensor), *stated.tensors[1:]]
        return self.with_commitments(where, msgspec.structs.replace(stated, **({"tensors": tensors} | changes)), number)

    def zk(self, where: str, number: int = 0) -> Commitments:
        stated = {
            "training": self.training.zk,
            "request": self.requests[number].zk,
            "evidence": self.evidence.commitments,
        }
        found = stated[where]
        assert found is not None
        return found

    def with_commitments(self, where: str, stated: Commitments, number: int = 0) -> "Story":
        if where == "training":
            return self.with_training(zk=stated)
        return self.with_request(number, zk=stated) if where == "request" else self.with_evidence(commitments=stated)

    def with_points(self, where: str, points: bytes, number: int = 0, **changes: Any) -> "Story":
        """Other points behind the first tensor of training, request or evidence."""
        digest = sha256(points).hexdigest()
        told = self.with_zk(where, number, points=digest, **changes).with_members(points={digest: points})
        return told.tidied()

    def with_proof(self, proof: bytes, weights: bytes | None = None) -> "Story":
        """Another proof, about other weights' points if there are any."""
        digest = sha256(proof).hexdigest()
        told = self.with_evidence(proofs=[digest]).with_members(proofs={digest: proof})
        return (told.with_points("evidence", weights) if weights is not None else told).tidied()

    def with_description(self, settings: bytes | None = None, vk: bytes | None = None, **changes: Any) -> "Story":
        """The circuit's description and files otherwise."""
        old = self.circuit
        settings, vk = settings or old.settings, vk or old.vk
        digests = {"settings": sha256(settings).hexdigest(), "vk": sha256(vk).hexdigest()}
        fields = msgspec.structs.asdict(old.description) | digests | changes
        new = CircuitFiles(CircuitDescription(**fields), settings, vk)
        told = self.with_evidence(circuits=[new.description.digest])
        return told.with_members(circuits={new.description.digest: new}).tidied()

    def with_model(self, manifest: Manifest) -> "Story":
        """Other released weights than those that were proven."""
        root = manifest.root().hex()
        model = cases.model(manifest)
        found = diff(self.bundle.manifests[self.certificate.pre.tensor_root], manifest)
        changes = Changes(len(found.changed), len(found.unchanged), len(found.added), len(found.removed))
        return self.with_certificate(post=model, changes=changes).with_members(manifests={root: manifest}).tidied()

    # and told to others

    def told(self) -> tuple[cases.Case, Bundle]:
        made = cases.Case()
        sign = made.sign
        said = {"training": sign(Statement((subject(TENSOR_ROOT, self.training.model.tensor_root),), self.training))}
        parent = said["training"]
        for number, request in enumerate(self.requests):
            statement = Statement((subject(FORGET_ROOT, request.forget.root),), request)
            said[f"request{number}"] = sign(statement)
        removed = {}
        for number, certificate in enumerate(self.certificates):
            asked = [said[f"request{number}"].digest]
            certificate = msgspec.structs.replace(certificate, parent=parent.digest, requests=asked)
            statement = Statement((subject(TENSOR_ROOT, certificate.post.tensor_root),), certificate)
            parent = said[f"certificate{number}"] = sign(statement)
            removed[parent.digest] = self.removed[number]
        usual = [
            "training",
            *(f"{what}{number}" for number in range(len(self.certificates)) for what in ("request", "certificate")),
        ]
        for name in self.order or usual:
            made.log(said[name])
        for circuit, keys in self.builders:
            made.say(Statement((subject(CIRCUIT_SUBJECT, circuit.circuit.digest),), circuit), *keys)
        bundle = replace(self.bundle, entries=made.bundle().entries, removed=removed)
        return made, self.extra(bundle)

    def data(self) -> bytes:
        return self.told()[1].to_bytes()

    def trust(self, **changes: Any) -> Trust:
        """Believes the operator's keys, and in the circuits that the honest stories use."""
        fields = {"circuits": frozenset(accepted())} | changes
        return replace(cases.Case().trust(), **fields)


@cache
def accepted() -> tuple[str, ...]:
    return tuple(digest for bundle in _made()[1] for digest in bundle.circuits)


def _story(certificates: int) -> Story:
    made = ledger()
    bundle = _made()[1][certificates - 1]
    predicates = [entry.statement.predicate for entry in (*made.requests, *(item.logged for item in made.forgot))]
    requests = tuple(item for item in predicates if isinstance(item, Request))[:certificates]
    unlearnings = tuple(item for item in predicates if isinstance(item, Unlearning))[:certificates]
    removed = tuple(bundle.removed[item.logged.digest] for item in made.forgot[:certificates])
    return Story(made.training, requests, unlearnings, bundle, removed)


def first() -> Story:
    """p3 is forgotten."""
    return _story(1)


def second() -> Story:
    """Then p5 is, and p3 stays forgotten."""
    return _story(2)


def problem(story: Story) -> Problem:
    parameters = story.circuit.description.parameters
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in parameters.items()}
    return Problem(**values)


def another(
    story: Story, *, weights: Sequence[int] | None = None, forgotten: Sequence[Sequence[int]] | None = None
) -> proving.Case:
    """A genuine proof by the story's circuit, about other weights (without salt), or with something else forgotten (with it)."""
    made, p = ledger(), problem(story)
    asked = [made.values(FORGOTTEN, number) for number in range(len(story.requests))]
    left = [tuple(values) for values in forgotten or asked]
    salted = made.values(WEIGHTS, len(story.certificates) - 1)
    if weights is not None:
        salted = proving.salted(p.layouts[1], torch.tensor(weights)[:, None], 1)
    return proving.prove(p, proving.Inputs(made.values(RECORDS), salted, tuple(left)))


def joined(points: Iterable[bytes]) -> bytes:
    return b"".join(points)


def points_to(values: Sequence[int]) -> bytes:
    """The commitment to flattened, salted values."""
    from circuits.commitment import commit

    return b"".join(commit(values, load(proving.srs(11))))


def released(integers: Sequence[int], scale: int, **others: torch.Tensor) -> tuple[Manifest, dict[str, torch.Tensor]]:
    state = {"weight": (torch.tensor([list(integers)], dtype=torch.float64) / scale).float()} | others
    return digest_state_dict(state), state


def circuit_statement(story: Story, *, built: str | None = None, **changes: Any) -> Circuit:
    described = msgspec.structs.replace(story.circuit.description, **changes)
    return Circuit(ORIGIN, described, built or format_time(now()))


# -- how it is judged ----------------------------------------------------------------------------------------------------


def given(state: Mapping[str, torch.Tensor] | None = None, receipts: Sequence[Receipt] = ()) -> Given:
    """What somebody has who holds weights or receipts."""
    if state is None:
        return Given(receipts=[receipt.to_json() for receipt in receipts])
    tensors = dict(state)
    return Given(
        weights=digest_state_dict(tensors),
        read=lambda name: tensors[name].numpy().tobytes(),
        receipts=[receipt.to_json() for receipt in receipts],
    )


def accept(story: Story, trust: Trust | None = None, has: Given | None = None, **options: Any) -> Report:
    return verify(story.data(), trust or story.trust(), given=has, **options)


def refuse(
    story: Story | bytes,
    error: type[VerificationError],
    match: str,
    trust: Trust | None = None,
    has: Given | None = None,
    **options: Any,
) -> None:
    """Expect this error and no other, at its step, after all steps before it. The chain is put together before step 5."""
    data = story if isinstance(story, bytes) else story.data()
    trust = trust or first().trust()
    with pytest.raises(error, match=match) as caught:
        verify(data, trust, given=has, **options)
    assert type(caught.value) is error
    passed = len(caught.value.passed)
    assert passed == error.step - 1 or (error is ChainError and passed == 4)


def naive(story: Story) -> None:
    """``ezkl.verify`` with what the bundle itself says; raises ValueError when it refuses."""
    bundle = story.told()[1]
    [proof] = bundle.proofs.values()
    [circuit] = bundle.circuits.values()
    [srs] = bundle.srs.values()
    with child.folder() as work:
        (work / "vk").write_bytes(circuit.vk)
        (work / "settings").write_bytes(circuit.settings)
        (work / "srs").write_bytes(srs)
        (work / "proof").write_bytes(Proof.parse(proof).to_ezkl())
        paths = {"proof_path": "proof", "settings_path": "settings", "vk_path": "vk", "srs_path": "srs"}
        child.run([child.Call("verify", {**paths, "reduced_srs": True})], work, seconds=60, error=ValueError)
