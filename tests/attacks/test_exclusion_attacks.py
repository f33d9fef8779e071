"""Attacks on certificates with exclusion proofs, by an operator who signs and logs whatever suits.

The operator holds every key, and may prove whatever is true. Where a careless verifier (``ezkl.verify`` on what the bundle
holds) is fooled, the test shows that as well.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from hashlib import sha256
from random import Random
from typing import Any
from unittest import mock

import pytest
import torch
from msgspec.structs import replace as changed

from certify import case as cases_of
from certify import provable
from certify.digest import TensorSource, hash_tensors
from certify.errors import (
    BundleError,
    ChainError,
    DevelopmentSrsError,
    KeyValidityError,
    MismatchError,
    OrderError,
    ProofRefusedError,
    UnacceptedCircuitError,
)
from certify.keys import SigningKey
from certify.receipt import Receipt, ZkOpening, ZkOpenings
from certify.request import file_request
from certify.statement import Request, Training, Unlearning
from certify.trust import TrustedAuditor
from certify.zk import FORGOTTEN, RECORDS, WEIGHTS
from circuits import engine, optimum, srs_store
from circuits.opening import open_places
from circuits.srs import CEREMONY, FOLDERS_VARIABLE, load
from circuits.zk_proof import Proof
from tests import proving
from tests.exclusion_cases import (
    FIRST,
    Story,
    accept,
    accepted,
    another,
    circuit_statement,
    first,
    given,
    joined,
    ledger,
    naive,
    new_workspace,
    people,
    points_to,
    problem,
    refuse,
    released,
    second,
)

ANOTHER = "another commitment than .* for input {}"
DOES_NOT_HOLD = "expected a proof for this circuit, these commitments and these public values"
P3, P5, P7 = 3, 5, 7


def rows() -> list[list[int]]:
    """The data, without their salt."""
    return problem(first()).layouts[0].matrix(ledger().values(RECORDS))


@cache
def as_forgotten(*row: int) -> tuple[int, ...]:
    """A row, salted as what a request forgets is."""
    return proving.salted(problem(first()).layouts[2], torch.tensor([row]), 9)


def remembering() -> list[int]:
    """The weights from before the unlearning, as integers."""
    return [round(value * (1 << 14)) for value in ledger().trained.weights["weight"].flatten().tolist()]


def forgetting() -> list[int]:
    """Those from after the first one."""
    return [round(value * (1 << 14)) for value in ledger().forgot[0].weights["weight"].flatten().tolist()]


def test_honest_certificates_are_accepted() -> None:
    for told in (first(), second()):
        assert accept(told).grade == "exclusion proven"
        naive(told)


# -- what the proof is about ---------------------------------------------------------------------------------------------


def test_data_other_than_what_the_training_committed_to() -> None:
    values = list(ledger().values(RECORDS))
    values[0] += 1
    lie = first().with_points("training", points_to(values))
    naive(lie)  # which looks at no ledger
    refuse(lie, ProofRefusedError, ANOTHER.format(0))


def test_the_request_committed_to_another_record() -> None:
    lie = first().with_points("request", points_to(as_forgotten(*rows()[P7][:5])))
    naive(lie)
    refuse(lie, ProofRefusedError, ANOTHER.format(2))


def test_the_same_record_under_other_salt_is_another_request() -> None:
    lie = first().with_points("request", points_to(as_forgotten(*rows()[P3][:5])))
    naive(lie)
    refuse(lie, ProofRefusedError, ANOTHER.format(2))


def test_a_proof_replayed_for_another_request() -> None:
    story = first()
    points = second().requests[1].zk.tensors[0].points  # type: ignore[union-attr]
    asked = changed(second().requests[1], received=story.requests[0].received)
    lie = replace(story, requests=(asked,)).with_members(points={points: second().bundle.points[points]})
    naive(lie.tidied())
    refuse(lie.tidied(), ProofRefusedError, ANOTHER.format(2))


def test_the_certificate_commits_to_another_model() -> None:
    salted = proving.salted(problem(first()).layouts[1], torch.tensor(remembering())[:, None], 1)
    lie = first().with_points("evidence", points_to(salted))
    naive(lie)
    refuse(lie, ProofRefusedError, ANOTHER.format(1))


def test_evidence_of_an_earlier_certificate_for_a_later_request() -> None:
    lie = second().with_certificate(evidence=first().evidence)
    lie = lie.with_members(**{name: getattr(first().bundle, name) for name in ("points", "proofs", "circuits")})
    naive(lie.tidied())
    refuse(
        lie.tidied(), ProofRefusedError, r"expected a proof about requests of \[1, 1\] records, one about \[1\] came"
    )


def only_p5() -> list[int]:
    """The optimum with p3 in it again, and without p5."""
    p = problem(first())
    forgotten = torch.tensor([rows()[P5][:5]])
    weights = optimum.solve(optimum.module_of(p), torch.tensor(rows()), [forgotten])
    return [int(value) for value in weights.flatten().tolist()]


def test_a_second_unlearning_that_takes_the_first_record_in_again() -> None:
    """A true proof, by a circuit of the right shape, that leaves out the second record twice."""
    asked = ledger().values(FORGOTTEN, 1)
    attack = another(second(), weights=only_p5(), forgotten=[as_forgotten(*rows()[P5][:5]), asked])
    assert attack.instances[-1] == 39
    lie = second().with_proof(attack.proof, joined(attack.commitments[1]))
    naive(lie)
    refuse(lie, ProofRefusedError, ANOTHER.format(2))


def test_a_second_unlearning_by_the_circuit_of_one_request() -> None:
    asked = ledger().values(FORGOTTEN, 1)
    attack = another(first(), weights=only_p5(), forgotten=[asked])
    lie = (
        second()
        .with_proof(attack.proof, joined(attack.commitments[1]))
        .with_evidence(circuits=first().evidence.circuits)
    )
    lie = lie.with_members(circuits=first().bundle.circuits).tidied()
    naive(lie)
    refuse(lie, ProofRefusedError, r"expected a proof about requests of \[1, 1\] records")


def test_requests_that_share_a_commitment() -> None:
    stated = second().requests[0].zk
    refuse(second().with_request(1, zk=stated).tidied(), ProofRefusedError, "two that are equal")


@pytest.mark.parametrize("name", [RECORDS, FORGOTTEN, WEIGHTS, "diary"])
def test_commitments_of_the_evidence_that_shadow_those_of_the_ledger(name: str) -> None:
    stated = first().zk("evidence")
    shadow = changed(first().zk("training").tensors[0], name=name)
    for tensors in ([shadow, *stated.tensors], [*stated.tensors, shadow]):
        lie = first().with_commitments("evidence", changed(stated, tensors=tensors))
        naive(lie)
        refuse(lie, ProofRefusedError, "expected evidence that commits to weights alone")


@pytest.mark.parametrize("where", ["training", "request"])
def test_a_commitment_stated_twice(where: str) -> None:
    """Which of them counts would be for the reader to guess."""
    stated = first().zk(where)
    other = changed(stated.tensors[0], points=first().zk("evidence").tensors[0].points)
    lie = first().with_commitments(where, changed(stated, tensors=[*stated.tensors, other]))
    refuse(lie, ProofRefusedError, "expected one commitment to .*, 2 came")


def test_a_request_that_commits_to_nothing_and_evidence_that_fills_its_place() -> None:
    """What is forgotten is then chosen after the fact: the circuit's third tensor is the second of the weights'."""
    chosen = as_forgotten(*rows()[P7][:5])  # who hardly matters, for p3
    weights = optimum.solve(optimum.module_of(problem(first())), torch.tensor(rows()), [torch.tensor([rows()[P7][:5]])])
    attack = another(first(), weights=weights.flatten().tolist(), forgotten=[chosen])
    lie = first().with_proof(attack.proof, joined(attack.commitments[1]) + joined(attack.commitments[2]))
    lie = lie.with_zk("evidence", count=2).with_points("request", b"", count=0)
    naive(lie)
    every = [(tensor,) for tensors in attack.commitments for tensor in tensors]
    assert lie.bundle.points.keys() == {
        sha256(part).hexdigest() for part in (joined(every[0]), joined(every[1]) + joined(every[2]), b"")
    }
    circuit = lie.circuit  # and whoever only strings the points together:
    proving.check(
        attack, vk=circuit.vk, settings=circuit.settings, commitments=every, accepted={sha256(circuit.vk).digest()}
    )
    refuse(lie, ProofRefusedError, "expected one commitment to weights, of 1 tensors, 1 came, of 2")


# -- circuits ------------------------------------------------------------------------------------------------------------


def believing(story: Story) -> Any:
    """The trust of somebody who accepted whatever circuit the operator handed out."""
    return story.trust(circuits=frozenset({*story.evidence.circuits, *accepted()}))


def test_a_circuit_that_nobody_accepted() -> None:
    naive(first())
    refuse(
        first(), UnacceptedCircuitError, "is not accepted: build it yourself", trust=first().trust(circuits=frozenset())
    )
    assert UnacceptedCircuitError.exit_code == 27


def described(**parameters: Any) -> Story:
    return first().with_description(parameters=first().circuit.description.parameters | parameters)


LIES = {"penalty": 1, "tau": 0, "scale_w": 1 << 20, "loss": "ridge", "bits": 3}


@pytest.mark.parametrize("name", LIES)
def test_a_description_that_says_otherwise_of_the_same_key(name: str) -> None:
    lie = described(**{name: LIES[name]})
    naive(lie)  # which reads no description
    refuse(lie, UnacceptedCircuitError, "is not accepted")
    refuse(lie, ProofRefusedError, f"the training stated {name}", trust=believing(lie))


def test_an_objective_other_than_the_training_stated() -> None:
    """As the reverse: the circuit is the honest one."""
    recipe = first().training.recipe
    for lie, match in (
        (
            first().with_training(recipe=changed(recipe, parameters=recipe.parameters | {"tau": 0})),
            "stated tau 0, the circuit has",
        ),
        (first().with_training(recipe=changed(recipe, parameters=recipe.parameters | {"mercy": 1})), "stated mercy 1"),
        (first().with_training(recipe=changed(recipe, parameters={})), "the training stated bits None"),
        (first().with_training(recipe=changed(recipe, name="sisa")), "expected a training by exclusion-optimum/v1"),
    ):
        naive(lie)
        refuse(lie, ProofRefusedError, match)


@pytest.mark.parametrize("name", ["vk", "settings"])
def test_a_description_with_another_digest_of_what_comes_with_it(name: str) -> None:
    refuse(
        first().with_description(**{name + "": first().circuit.vk + b"\0"}), UnacceptedCircuitError, "is not accepted"
    )
    lie = first()
    forged = changed(lie.circuit.description, **{name: "00" * 32})
    lie = lie.with_evidence(circuits=[forged.digest])
    files = replace(lie.bundle.circuits[first().circuit.description.digest], description=forged)
    refuse(
        lie.with_members(circuits={forged.digest: files}).tidied(), BundleError, f"the {name} of circuit .* has SHA-256"
    )


def test_a_description_of_another_onnx() -> None:
    lie = first().with_description(onnx="00" * 32)
    naive(lie)
    refuse(lie, UnacceptedCircuitError, "is not accepted")


def test_a_description_of_another_statement_or_reference_string() -> None:
    for lie in (first().with_description(statement="exclusion-chain/v1"), first().with_description(srs="00" * 32)):
        refuse(lie, UnacceptedCircuitError, "is not accepted")
        refuse(lie, ProofRefusedError, "another statement or reference string", trust=believing(lie))


@cache
def lenient() -> tuple[Any, proving.Case]:
    """The circuit that leaves out exact duplicates only, and a proof by it."""
    p = replace(problem(first()), tau=0)
    made = proving.prove(
        p, proving.Inputs(ledger().values(RECORDS), ledger().values(WEIGHTS), (ledger().values(FORGOTTEN),))
    )
    return provable.circuit_files(p, made.circuit, made.vk, CEREMONY[1]), made


def test_another_accepted_circuit_named_for_the_proof() -> None:
    files, made = lenient()
    digest = files.description.digest
    lie = first().with_evidence(circuits=[digest]).with_members(circuits={digest: files}).tidied()
    trust = lie.trust(circuits=frozenset({digest, *accepted()}))
    refuse(lie, ProofRefusedError, "the training stated tau 163, the circuit has 0", trust=trust)
    recipe = first().training.recipe
    said = lie.with_training(recipe=changed(recipe, parameters=recipe.parameters | {"tau": 0}))
    refuse(said, ProofRefusedError, DOES_NOT_HOLD, trust=trust)
    naive(lie.with_proof(made.proof))  # a true proof, of less
    refuse(lie.with_proof(made.proof), ProofRefusedError, "the training stated tau", trust=trust)
    refuse(first().with_proof(made.proof), ProofRefusedError, DOES_NOT_HOLD, trust=trust)


def test_the_accepted_circuit_of_another_certificate() -> None:
    lie = first().with_evidence(circuits=second().evidence.circuits)
    refuse(
        lie.with_members(circuits=second().bundle.circuits).tidied(),
        ProofRefusedError,
        r"expected a proof about requests of \[1\] records, one about \[1, 1\] came",
    )


ODD: dict[str, dict[str, Any]] = {
    "a word for a number": {"rows": "40"},
    "a number for a list": {"forgotten": 1},
    "a list for a number": {"rows": [40]},
    "nobody forgotten": {"forgotten": []},
    "fewer than nobody": {"forgotten": [-1]},
    "another loss": {"loss": "hope"},
    "no rows": {"rows": 0},
    "rows beyond reason": {"rows": 2**53 - 1},
    "features beyond reason": {"features": 2**53 - 1},
    "features beyond reason in a large circuit": {"features": 2**53 - 1, "logrows": 26},
    "features just within reason": {"features": (1 << 24) // 41 - 1, "logrows": 18},
    "a scale that is no power of two": {"scale_x": 2**53 - 1},
    "one more": {"mask": 1},
    "a list beyond reason": {"forgotten": [1] * 4000},
}


@pytest.mark.parametrize("name", ODD)
def test_parameters_that_no_circuit_has(name: str) -> None:
    """Even for somebody who accepted the circuit, and where the training says the same."""
    lie = described(**ODD[name])
    parameters = {key: value for key, value in lie.circuit.description.parameters.items() if key != "forgotten"}
    lie = lie.with_training(recipe=changed(first().training.recipe, parameters=parameters))
    refuse(lie, ProofRefusedError, "expected|the proof|the circuit", trust=believing(lie))


@pytest.mark.parametrize("value", [b"1.5", b"true", b"null", b"9007199254740993", b'{"a":1}', b"[[1]]"])
def test_parameters_that_no_description_can_hold(value: bytes) -> None:
    """Of the same length, put into the file."""
    old, made = first().circuit.description, described(bits="".join("x" for _ in range(len(value) - 2)))
    data = made.data()
    text = f'"bits":"{"x" * (len(value) - 2)}"'.encode()
    at = data.index(text)
    description = made.circuit.description.to_json()
    forged = description.replace(text, b'"bits":' + value)
    assert at and len(forged) == len(description) and old != made.circuit.description
    renamed = data.replace(description, forged).replace(
        sha256(description).hexdigest().encode(), sha256(forged).hexdigest().encode()
    )
    refuse(renamed, BundleError, "circuit|bundle")


def test_two_circuits_or_two_proofs_for_one() -> None:
    both = {**second().bundle.circuits, **first().bundle.circuits}
    lie = first().with_evidence(circuits=list(both)).with_members(circuits=both)
    refuse(lie, ProofRefusedError, "expected one circuit and one proof, 2 and 1 came")
    both = {**first().bundle.proofs, **second().bundle.proofs}
    lie = first().with_evidence(proofs=list(both)).with_members(proofs=both)
    refuse(lie, ProofRefusedError, "expected one circuit and one proof, 1 and 2 came")
    refuse(first().with_evidence(proofs=first().evidence.proofs * 2), ProofRefusedError, "names a proof twice")
    refuse(first().with_evidence(circuits=first().evidence.circuits * 2), ProofRefusedError, "expected one circuit")


def test_a_statement_that_nobody_knows() -> None:
    for name in ("exclusion-optimum/v2", "exclusion-chain/v0", "x" * 256):
        refuse(first().with_evidence(statement=name), ProofRefusedError, "expected evidence of exclusion-optimum/v1")


def test_evidence_with_parts_that_an_optimum_has_no_use_for() -> None:
    odd: list[dict[str, Any]] = [{"seed": "7"}, {"start": ["00" * 32]}]
    for extra in odd:
        refuse(first().with_evidence(**extra), ProofRefusedError, "expected evidence without seed, start or encoding")
    lie = first().with_zk("evidence", encoding=first().zk("training").encoding)
    refuse(lie, ProofRefusedError, "expected evidence without seed, start or encoding")


def test_a_request_that_is_not_about_records() -> None:
    lie = first().with_request(scope="concept").with_certificate(removed=None, retained=None)
    lie = replace(lie, bundle=replace(lie.bundle, leaves={}), extra=lambda bundle: replace(bundle, removed={}))
    naive(lie)
    refuse(lie, ProofRefusedError, "other scopes cannot be proven")


# -- auditors ------------------------------------------------------------------------------------------------------------


@cache
def key(name: str) -> SigningKey:
    return SigningKey.generate("ed25519")


def audited(*signers: SigningKey, **circuit: Any) -> Story:
    return replace(first(), builders=((circuit_statement(first(), **circuit), signers),))


def trusting_auditor() -> Any:
    return first().trust(circuits=frozenset(), auditors=(TrustedAuditor("Example Audits", key("auditor").public),))


def test_a_circuit_that_a_trusted_auditor_built() -> None:
    report = accept(audited(key("auditor")), trusting_auditor())
    assert report.grade == "exclusion proven"
    assert "accepted by Example Audits" in report.steps[6].established[0]


def test_a_circuit_that_somebody_unknown_says_they_built() -> None:
    refuse(audited(key("friend")), UnacceptedCircuitError, "is not accepted", trust=trusting_auditor())
    refuse(audited(key("auditor"), key("friend")), UnacceptedCircuitError, "is not accepted", trust=trusting_auditor())


def test_a_circuit_that_the_operator_alone_says_they_built() -> None:
    refuse(audited(), UnacceptedCircuitError, "is not accepted", trust=trusting_auditor())


def test_an_auditor_who_built_another_circuit() -> None:
    for lie in (audited(key("auditor"), onnx="00" * 32), audited(key("auditor"), vk="00" * 32)):
        refuse(
            lie,
            ChainError,
            "the circuit statement at entry 4 has nothing to do with the case",
            trust=trusting_auditor(),
        )


def test_an_auditor_who_will_build_the_circuit() -> None:
    lie = audited(key("auditor"), built="2999-01-01T00:00:00Z")
    refuse(lie, KeyValidityError, "in the future", trust=trusting_auditor())


# -- reference strings ---------------------------------------------------------------------------------------------------


@cache
def developed() -> Story:
    """The same, with a reference string whose secret the operator may know. Proven anew in each run."""
    workspace = new_workspace()
    folder = workspace.path.parent / "srs"
    folder.mkdir()
    srs_store.develop(11, folder)
    with mock.patch.dict("os.environ", {FOLDERS_VARIABLE: str(folder)}), pytest.MonkeyPatch.context() as patch:
        patch.setattr(provable, "plan", proving.circuit_of)
        fitted = provable.fit(workspace, people(), development=True)
        asked = file_request(workspace, {FIRST: people()[FIRST]}, ground="gdpr-17")
        forgot = provable.forget(workspace, [asked], engine=engine.local(cache=proving.cache()))
        bundle = cases_of.collect(workspace, forgot.logged)
    training, request, certificate = (logged.statement.predicate for logged in (fitted.logged, asked, forgot.logged))
    assert isinstance(training, Training) and isinstance(request, Request) and isinstance(certificate, Unlearning)
    return Story(training, (request,), (certificate,), bundle, tuple(bundle.removed.values()))


@pytest.fixture
def development() -> Story:
    proving.srs(11)
    return developed()


def test_a_development_reference_string(development: Story) -> None:
    naive(development)
    refuse(
        development,
        DevelopmentSrsError,
        "not with the ceremony's: whoever made it can forge",
        trust=believing(development),
    )
    assert DevelopmentSrsError.exit_code == 28


def test_a_development_reference_string_that_is_allowed_shows_nothing(development: Story) -> None:
    report = accept(development, believing(development), allow_development_srs=True)
    assert report.grade == "attested" and report.development_srs
    assert any("DEVELOPMENT" in line for line in report.steps[6].established)
    assert any("DEVELOPMENT" in limit for limit in report.limits)


def test_a_development_proof_that_calls_its_reference_string_the_ceremonys(development: Story) -> None:
    """The digest is checked when the bundle is read; with the ceremony's own bytes, the proof does not hold."""
    lie = development.with_description(srs=CEREMONY[1])
    for where in ("training", "request", "evidence"):
        lie = lie.with_zk(where, srs=CEREMONY[1])
    [own] = development.bundle.srs.values()
    forged = replace(lie, bundle=replace(lie.bundle, srs={CEREMONY[1]: own}))
    naive(forged)
    refuse(forged, BundleError, "expected content of SHA-256", trust=believing(lie))
    lie = replace(lie, bundle=replace(lie.bundle, srs=first().bundle.srs))
    refuse(lie, ProofRefusedError, DOES_NOT_HOLD, trust=believing(lie))


def test_another_reference_string_for_an_honest_proof(development: Story) -> None:
    [(digest, own)] = development.bundle.srs.items()
    lie = first().with_zk("evidence", srs=digest).with_members(srs={digest: own}).tidied()
    refuse(lie, ProofRefusedError, "another statement or reference string", allow_development_srs=True)


def test_no_reference_string_or_one_of_another_size() -> None:
    refuse(first().without_members("srs"), ProofRefusedError, "the bundle has no reference string")
    [own] = first().bundle.srs.values()
    for data in (own[:-1], own + b"\0", b""):
        digest = sha256(data).hexdigest()
        lie = first().with_description(srs=digest)
        for where in ("training", "request", "evidence"):
            lie = lie.with_zk(where, srs=digest)
        lie = lie.with_members(srs={digest: data}).tidied()
        refuse(
            lie,
            ProofRefusedError,
            "no reference string .* of 516 bytes",
            trust=believing(lie),
            allow_development_srs=True,
        )


@pytest.mark.parametrize("where", ["training", "request"])
def test_commitments_under_two_reference_strings(where: str) -> None:
    lie = first().with_zk(where, srs="ab" * 32)
    naive(lie)
    refuse(lie, ProofRefusedError, "was made for another circuit size or reference string")


@pytest.mark.parametrize("where", ["training", "request", "evidence"])
@pytest.mark.parametrize("logrows", [0, 10, 12, 26, 2**53 - 1])
def test_logrows_lied_about(where: str, logrows: int) -> None:
    lie = first().with_zk(where, logrows=logrows)
    naive(lie)
    refuse(lie, ProofRefusedError, "was made for another circuit size or reference string")


def test_logrows_lied_about_everywhere() -> None:
    lie = first()
    for where in ("training", "request", "evidence"):
        lie = lie.with_zk(where, logrows=12)
    refuse(
        lie,
        ProofRefusedError,
        r"expected records of \(rows, columns, logrows, proofs\) \(40, 6, 11, 4\), \(40, 6, 12, 4\)",
    )


# -- points and layouts --------------------------------------------------------------------------------------------------

WHERE = {"training": RECORDS, "request": FORGOTTEN, "evidence": WEIGHTS}


@pytest.mark.parametrize("where", WHERE)
def test_points_missing_too_many_too_few(where: str) -> None:
    own = first().bundle.points[first().zk(where).tensors[0].points]
    other = first().bundle.points[first().zk("evidence" if where != "evidence" else "request").tensors[0].points]
    parts = {digest: data for digest, data in first().bundle.points.items() if data != own}
    refuse(
        replace(first(), bundle=replace(first().bundle, points=parts)), ProofRefusedError, "the bundle has no points/"
    )
    for points in (own + other, other + own, own[:-1], own + b"\0", b"", own * 100):
        lie = first().with_points(where, points)
        naive(lie)
        refuse(lie, ProofRefusedError, f"expected 1 times 1 points of {WHERE[where]}, {len(points)} bytes came")


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("count", [0, 2, 2**53 - 1])
def test_counts_lied_about(where: str, count: int) -> None:
    own = first().bundle.points[first().zk(where).tensors[0].points]
    refuse(first().with_zk(where, count=count), ProofRefusedError, f"of 1 tensors, 1 came, of {count}")
    refuse(first().with_points(where, own * min(count, 2), count=count), ProofRefusedError, f"1 came, of {count}")


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("name", ["rows", "columns", "proofs"])
@pytest.mark.parametrize("by", [-1, 1, 2**52])
def test_layouts_lied_about(where: str, name: str, by: int) -> None:
    """Fewer proofs, say, than the salt is for: then somebody would count wrongly how often it can still be used."""
    value = getattr(first().zk(where).tensors[0], name)
    lie = first().with_zk(where, **{name: value + by})
    naive(lie)
    refuse(lie, ProofRefusedError, r"\(rows, columns, logrows, proofs\)")


@pytest.mark.parametrize("where", WHERE)
def test_points_that_are_none(where: str) -> None:
    """Zero, beyond the field, and off the curve."""
    for points in (bytes(32), b"\xff" * 32, (4).to_bytes(32, "little")):
        refuse(first().with_points(where, points), ProofRefusedError, "expected a commitment to .* values for input")


@pytest.mark.parametrize("where", WHERE)
def test_commitments_under_another_name(where: str) -> None:
    match = "weights alone" if where == "evidence" else f"no commitment to {WHERE[where]} is stated"
    refuse(first().with_zk(where, name="states"), ProofRefusedError, match)


@pytest.mark.parametrize("where", ["training", "request"])
def test_statements_that_commit_to_nothing(where: str) -> None:
    lie = first().with_training(zk=None) if where == "training" else first().with_request(zk=None)
    naive(lie.tidied())
    refuse(lie.tidied(), ProofRefusedError, "expected a training that says|no commitment to forgotten is stated")


# -- what is in the bundle -----------------------------------------------------------------------------------------------


def riding(folder: str) -> dict[str, Any]:
    """A member of that folder that no statement names."""
    if folder == "circuits":
        return dict(described(bits=5).bundle.circuits)
    return {sha256(b"passenger").hexdigest(): b"passenger"}


@pytest.mark.parametrize("folder", ["circuits", "points", "proofs", "srs"])
def test_members_that_ride_along(folder: str) -> None:
    refuse(
        first().with_members(**{folder: riding(folder)}),
        ProofRefusedError,
        f"the bundle has {folder}/.*belongs to no evidence",
    )


@pytest.mark.parametrize("folder", ["circuits", "points", "proofs", "srs"])
def test_members_that_ride_along_with_a_certificate_that_proves_nothing(folder: str) -> None:
    plain = first().with_certificate(evidence=None)
    plain = replace(plain, bundle=replace(plain.bundle, circuits={}, points={}, proofs={}, srs={}))
    assert accept(plain).grade == "attested"
    lie = plain.with_members(**{folder: getattr(first().bundle, folder)})
    refuse(lie, ProofRefusedError, f"the bundle has {folder}/.*belongs to no evidence")


def test_members_that_are_missing() -> None:
    refuse(first().without_members("proofs"), ProofRefusedError, "the bundle has no proofs/")
    refuse(first().without_members("circuits"), ProofRefusedError, "the bundle has no circuit ")
    refuse(first().without_members("points"), ProofRefusedError, "the bundle has no points/")


def test_members_under_another_digest() -> None:
    for folder in ("points", "proofs", "srs"):
        parts = dict(getattr(first().bundle, folder))
        parts[next(iter(parts))] = b"something else"
        lie = replace(first(), bundle=replace(first().bundle, **{folder: parts}))
        refuse(lie, BundleError, "expected content of SHA-256")


def noise(size: int) -> bytes:
    return Random(size).randbytes(size)


def prefixed() -> bytes:
    """What the proof has of commitments, then noise."""
    proof = Proof.parse(next(iter(first().bundle.proofs.values())))
    return Proof(proof.instances, proof.transcript[:192] + noise(len(proof.transcript) - 192)).format()


PROOFS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda proof: b"",
    "noise": lambda proof: noise(len(proof)),
    "noise after its head": lambda proof: proof[:20] + noise(len(proof) - 20),
    "noise after its commitments": lambda proof: prefixed(),
    "cut by a byte": lambda proof: proof[:-1],
    "cut by an element": lambda proof: proof[:-32],
    "cut in half": lambda proof: proof[: len(proof) // 64 * 32],
    "longer by half an element": lambda proof: proof + bytes(16),
    "a million elements more": lambda proof: proof + bytes(32 << 20),
    "values without a proof": lambda proof: proof[: 20 + 32 * 6],
    "EZKL's own file": lambda proof: Proof.parse(proof).to_ezkl(),
}


@pytest.mark.parametrize("name", PROOFS)
def test_proofs_that_are_none(name: str) -> None:
    [own] = first().bundle.proofs.values()
    refuse(first().with_proof(PROOFS[name](own)), ProofRefusedError, "expected")


@pytest.mark.parametrize("place", [0, 4, 5])
def test_public_values_edited(place: int) -> None:
    """A gradient of zero would be the optimum itself; a lower count would leave more out."""
    proof = Proof.parse(next(iter(first().bundle.proofs.values())))
    values = list(proof.instances)
    values[place] = 0 if place < 5 else 38
    refuse(first().with_proof(Proof(tuple(values), proof.transcript).format()), ProofRefusedError, DOES_NOT_HOLD)


def test_public_values_added_or_left_out() -> None:
    proof = Proof.parse(next(iter(first().bundle.proofs.values())))
    for values in (proof.instances[:-1], (*proof.instances, 0), ()):
        refuse(
            first().with_proof(Proof(values, proof.transcript).format()), ProofRefusedError, "expected 6 public values"
        )


HOSTILE: dict[str, dict[str, bytes]] = {
    "a key of 64 MiB": {"vk": bytes([3, 11]) + bytes((64 << 20) - 2)},
    "a key of nothing": {"vk": bytes(7)},
    "a key of noise": {"vk": bytes([3, 11]) + noise(100_000)},
    "settings nested deeply": {"settings": b'{"a":' * 200_000},
    "settings of lists nested deeply": {"settings": b"[" * 1_000_000},
    "settings that are a list": {"settings": b"[]"},
    "settings that are noise": {"settings": noise(1000)},
    "settings of 5 MiB": {"settings": b'{"a":"' + b"a" * (5 << 20) + b'"}'},
    "settings with a number beyond reason": {"settings": b'{"run_args":' + b"9" * 100_000 + b"}"},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_keys_and_settings(name: str) -> None:
    """Refused unread by whoever did not accept them, and an error all the same for somebody who did."""
    lie = first().with_description(**HOSTILE[name])
    refuse(lie, UnacceptedCircuitError, "is not accepted")
    refuse(lie, ProofRefusedError, "expected", trust=believing(lie))


def test_a_key_larger_than_any() -> None:
    """Its packed form claims 65 MiB in a few bytes."""
    data = first().data()
    at = data.index(f"circuits/{first().circuit.description.digest}.vk".encode()) + len("circuits/.vk") + 64
    refuse(data[:at] + (65 << 20).to_bytes(4, "little") + data[at + 4 :], BundleError, "only form|packed")


# -- what was proven -----------------------------------------------------------------------------------------------------


def test_a_forgotten_record_that_is_nowhere_in_the_data() -> None:
    """Nothing is left out by the proof, while the certificate states that a record was."""
    nowhere = as_forgotten(900, -900, 900, -900, 900)
    attack = another(first(), weights=remembering(), forgotten=[nowhere])
    assert attack.instances[-1] == 40
    lie = (
        first()
        .with_proof(attack.proof, joined(attack.commitments[1]))
        .with_points("request", joined(attack.commitments[2]))
    )
    naive(lie)
    refuse(lie, ProofRefusedError, "the proof counts 40 of 40 records, expected at most 39: 1 are stated as left out")


def test_weights_that_remember() -> None:
    """Trained with the record. The proof is true, and its gradient says how far from the optimum they are."""
    attack = another(first(), weights=remembering())
    assert attack.instances[-1] == 39
    lie = first().with_proof(attack.proof, joined(attack.commitments[1]))
    naive(lie)
    refuse(
        lie, ProofRefusedError, r"may be 0.92\d from the optimum without the forgotten records, trust.toml allows 0.05"
    )
    assert accept(lie, lie.trust(max_radius=1.0)).grade == "exclusion proven"  # whoever allows that much


def test_the_trusted_radius_is_honoured() -> None:
    refuse(first(), ProofRefusedError, "trust.toml allows 1e-06", trust=first().trust(max_radius=1e-6))


# -- step 9: released weights --------------------------------------------------------------------------------------------


def nudged(by: float) -> Story:
    manifest, _ = released([forgetting()[0] + by, *forgetting()[1:]], 1 << 14)  # type: ignore[list-item]
    return first().with_model(manifest)


def test_released_weights_are_those_that_were_proven() -> None:
    report = accept(first(), has=given(ledger().forgot[0].weights))
    assert any("to the last bit" in line for line in report.steps[8].established)


@pytest.mark.parametrize("by", [1.0, -1.0])
def test_released_weights_that_differ_by_one_unit(by: float) -> None:
    """The certificate names them, the proof is about others."""
    lie = nudged(by)
    _, state = released([forgetting()[0] + by, *forgetting()[1:]], 1 << 14)  # type: ignore[list-item]
    report = accept(lie)
    assert any("that they are the model's is checked for those who give --weights" in limit for limit in report.limits)
    refuse(lie, MismatchError, "not those that the proof is about: .* do not hold", has=given(state))


def test_released_weights_between_two_units() -> None:
    _, state = released([forgetting()[0] + 0.5, *forgetting()[1:]], 1 << 14)  # type: ignore[list-item]
    refuse(nudged(0.5), MismatchError, "expected multiples of 1/16384 in weight", has=given(state))


@pytest.mark.parametrize("value", [-0.0, float("inf"), float("nan")])
def test_released_weights_that_are_no_integers(value: float) -> None:
    manifest, state = released([0.0, *forgetting()[1:]], 1 << 14)  # type: ignore[list-item]
    state["weight"][0, 0] = value
    manifest = hash_tensors([TensorSource.of("weight", "F32", (1, 5), state["weight"].numpy().tobytes())])
    lie = first().with_model(manifest)
    refuse(lie, MismatchError, "expected multiples of 1/16384 in weight", has=given(state))


def test_released_weights_of_another_shape_or_type() -> None:
    exact = torch.tensor([forgetting()], dtype=torch.float64) / (1 << 14)
    for tensor in (exact.float().T.contiguous(), exact.float()[0], exact):
        data = tensor.numpy().tobytes()
        dtype = "F64" if tensor.dtype == torch.float64 else "F32"
        lie = first().with_model(hash_tensors([TensorSource.of("weight", dtype, tuple(tensor.shape), data)]))
        refuse(lie, ProofRefusedError, "the proof is about a model of weight F32")


def test_a_model_with_more_tensors_than_the_proof_covers() -> None:
    """What could remember beside the weights."""
    for name in ("bias", "weight.1", "Weight"):
        manifest, _ = released(forgetting(), 1 << 14, **{name: torch.zeros(1)})
        naive(first().with_model(manifest))
        refuse(first().with_model(manifest), ProofRefusedError, f"the certificate about one of .*{name}")


def test_openings_of_the_weights_that_are_none() -> None:
    own = first().evidence.openings
    for openings in (
        own * 2,
        ["00" * 32],
        ["ff" * 64],
        [own[0][:64]],
        [own[0][64:] + own[0][:64]],
        second().evidence.openings,
    ):
        lie = first().with_evidence(openings=openings)
        refuse(lie, MismatchError, "not those that the proof is about", has=given(ledger().forgot[0].weights))


def test_weights_that_change_while_they_are_read() -> None:
    has = given(ledger().forgot[0].weights)
    for data in (bytes(20), bytes(19), b"", bytes(24)):
        refuse(
            first(),
            MismatchError,
            "not those that the proof is about",
            has=replace(has, read=lambda name, data=data: data),
        )


# -- step 9: receipts ----------------------------------------------------------------------------------------------------


@cache
def receipt(number: int = 0) -> Receipt:
    return ledger().receipt(number)


def opened(values: tuple[int, ...], layout: Any, row: int) -> ZkOpening:
    """What an operator who knows these values can open."""
    places = layout.places(row)
    openings = open_places(values, places, load(proving.srs(11)))
    return ZkOpening([values[place] for place in places], [part.to_bytes().hex() for part in openings.values()])


def opening_of(training: ZkOpening | None = None, request: ZkOpening | None = None) -> Receipt:
    own = receipt().zk
    assert own is not None
    return changed(receipt(), zk=ZkOpenings(request or own.request, training or own.training))


def test_the_receipt_of_whoever_asked() -> None:
    lines = accept(first(), has=given(receipts=[receipt()])).steps[8].established
    assert any("row 3 of the data that the proof is about holds the receipt's 5 numbers" in line for line in lines)
    assert any("these numbers are the receipt's record, encoded as the training states" in line for line in lines)


def test_the_receipt_of_another_person() -> None:
    refuse(first(), MismatchError, "belongs to none of the requests", has=given(receipts=[receipt(1)]))


def test_a_receipt_of_another_row() -> None:
    """Genuine openings of somebody else's numbers, under the record's own place in the dataset."""
    layout = problem(first()).layouts[0]
    lie = opening_of(training=opened(ledger().values(RECORDS), layout, P7))
    refuse(first(), MismatchError, "the receipt does not match: .* do not hold", has=given(receipts=[lie]))
    index = changed(receipt().training, index=P7)
    refuse(first(), MismatchError, "the receipt does not match", has=given(receipts=[changed(lie, training=index)]))


@pytest.mark.parametrize("index", [40, 41, 2**53 - 1])
def test_a_receipt_of_a_row_beyond_the_data(index: int) -> None:
    lie = changed(receipt(), training=changed(receipt().training, index=index))
    refuse(first(), MismatchError, "the receipt does not match", has=given(receipts=[lie]))


def test_a_receipt_with_numbers_edited() -> None:
    own = receipt().zk
    assert own is not None
    for values in (
        [own.training.values[0] + 1, *own.training.values[1:]],
        own.training.values[:-1],
        [*own.training.values, 0],
        [2**53 - 1] * 6,
    ):
        lie = opening_of(training=changed(own.training, values=values))
        refuse(first(), MismatchError, "the receipt does not match", has=given(receipts=[lie]))


def test_a_receipt_with_openings_swapped_or_made_up() -> None:
    own = receipt().zk
    assert own is not None
    for openings in (own.request.openings, own.training.openings * 2, ["00" * 64], ["ff" * 64], ["01" + "00" * 31]):
        lie = opening_of(training=changed(own.training, openings=openings))
        refuse(first(), MismatchError, "the receipt does not match", has=given(receipts=[lie]))


def test_a_receipt_that_opens_no_numbers() -> None:
    """Else the operator could hand out receipts that say nothing of what the proof is about."""
    refuse(first(), MismatchError, "opens none of the numbers", has=given(receipts=[changed(receipt(), zk=None)]))


def test_the_request_leaves_out_somebody_elses_row() -> None:
    """True of p7 instead of p3. Nobody can see that but who holds the receipt."""
    chosen = as_forgotten(*rows()[P7][:5])
    weights = optimum.solve(optimum.module_of(problem(first())), torch.tensor(rows()), [torch.tensor([rows()[P7][:5]])])
    attack = another(first(), weights=weights.flatten().tolist(), forgotten=[chosen])
    lie = (
        first()
        .with_proof(attack.proof, joined(attack.commitments[1]))
        .with_points("request", joined(attack.commitments[2]))
    )
    assert accept(lie).grade == "exclusion proven"
    asked = opened(chosen, problem(first()).layouts[2], 0)
    has = given(receipts=[opening_of(request=asked)])
    refuse(lie, MismatchError, "the row that the request committed to is not that of the training data", has=has)


def test_the_data_have_somebody_elses_numbers_in_the_records_place() -> None:
    """p3 and p7 have changed places in what was committed to for proofs; the dataset's tree is as it should be."""
    p = problem(first())
    swapped = [*rows()]
    swapped[P3], swapped[P7] = swapped[P7], swapped[P3]
    weights = optimum.solve(optimum.module_of(p), torch.tensor(swapped), [torch.tensor([swapped[P3][:5]])])
    inputs = proving.Inputs.of(p, torch.tensor(swapped), weights, torch.tensor([swapped[P3][:5]]))
    attack = proving.prove(p, inputs)
    lie = first().with_proof(attack.proof, joined(attack.commitments[1]))
    lie = lie.with_points("request", joined(attack.commitments[2])).with_points(
        "training", joined(attack.commitments[0])
    )
    assert accept(lie).grade == "exclusion proven"
    has = opening_of(opened(inputs.records, p.layouts[0], P3), opened(inputs.forgotten[0], p.layouts[2], 0))
    refuse(lie, MismatchError, "not those of its record, encoded as the training states", has=given(receipts=[has]))


def test_an_encoding_lied_about() -> None:
    encoding = first().zk("training").encoding
    assert encoding is not None
    lie = first().with_zk("training", encoding=changed(encoding, classes=encoding.classes[::-1]))
    refuse(lie, MismatchError, "not those of its record, encoded as", has=given(receipts=[receipt()]))


@pytest.mark.parametrize("change", [{"scale": 64}, {"scale": 0}, {"target_scale": 2}, {"target_scale": 2**53 - 1}])
def test_an_encoding_at_another_scale_than_the_circuits(change: dict[str, int]) -> None:
    """Then the radius would be that of another objective."""
    encoding = first().zk("training").encoding
    assert encoding is not None
    lie = first().with_zk("training", encoding=changed(encoding, **change))
    naive(lie)
    refuse(lie, ProofRefusedError, "the circuit takes data and targets at scales 128 and 1")


def test_no_encoding() -> None:
    """Then no receipt could be held against the numbers."""
    lie = first().with_zk("training", encoding=None)
    refuse(lie, ProofRefusedError, "expected a training that says how records became numbers")


# -- order ---------------------------------------------------------------------------------------------------------------


def test_a_request_logged_after_the_fact() -> None:
    lie = replace(first(), order=("training", "certificate0", "request0"))
    naive(lie)
    refuse(lie, OrderError, "the request is entry 3, after the unlearning at entry 2")


def test_data_committed_to_after_the_request() -> None:
    """What was to be forgotten could then be left out of the data already, or chosen by them."""
    refuse(
        replace(first(), order=("request0", "training", "certificate0")),
        OrderError,
        "the request is entry 1, before the training",
    )
    refuse(replace(first(), order=("request0", "certificate0", "training")), OrderError, "before its parent at entry")


def test_a_request_dated_before_the_training() -> None:
    refuse(first().with_request(received="2020-01-01T00:00:00Z"), OrderError, "before the model was trained")


# -- dictionary attacks --------------------------------------------------------------------------------------------------


@pytest.fixture
def again() -> Iterator[Request]:
    """Another request for p3, of the same data."""
    from tests.exclusion_cases import ceremony, seeded

    with ceremony():
        workspace = new_workspace()
        with seeded("ledger"):
            provable.fit(workspace, people())
        predicate = file_request(workspace, {FIRST: people()[FIRST]}, ground="gdpr-17").statement.predicate
        assert isinstance(predicate, Request) and predicate.zk is not None
        points = workspace.attachments.get("points", predicate.zk.tensors[0].points)
        assert points != first().bundle.points[first().zk("request").tensors[0].points]
    yield predicate


def test_two_requests_for_one_record_look_unrelated(again: Request) -> None:
    """Fresh salt: neither can the record be guessed from its commitment, nor the requests be told to be about the same one."""
    assert again.zk is not None and again.forget.root != first().requests[0].forget.root
    bare = points_to([*rows()[P3][:5]])
    for stated in (again.zk, first().zk("request")):
        assert stated.tensors[0].points != sha256(bare).hexdigest()


def test_the_opening_of_one_request_does_not_open_another() -> None:
    other = as_forgotten(*rows()[P3][:5])  # the same numbers under other salt
    lie = opening_of(request=opened(other, problem(first()).layouts[2], 0))
    assert lie.zk is not None and receipt().zk is not None and lie.zk.request.values == receipt().zk.request.values  # type: ignore[union-attr]
    refuse(first(), MismatchError, "do not hold", has=given(receipts=[lie]))
