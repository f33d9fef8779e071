"""Attacks on proofs of steps by an operator who holds all keys, and proves and signs whatever suits.

Each proof is true, of something; ``ezkl.verify`` with what came along takes all of them (``careless``). What a proof has to be
about is what the ledger committed to; by which circuit it may be is the verifier's own choice.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest
import torch

from certify import case, committed, provable_step
from certify.bundle import CircuitFiles
from certify.circuit_record import rebuild
from certify.errors import (
    CircuitMismatchError,
    DevelopmentSrsError,
    MismatchError,
    ProofRefusedError,
    UnacceptedCircuitError,
    WorkspaceError,
)
from certify.exclusion_step import stated
from certify.provable_step import Newton, Own, Subtraction, Updatable
from certify.state_dict import digest_state_dict
from certify.statement import Method
from certify.verifier import verify
from certify.zk import FORGOTTEN, WEIGHTS
from circuits import description, prover, srs_store
from circuits.commitment import commit
from circuits.errors import ProverError
from circuits.srs import load, reduced
from circuits.step_problem import StepProblem
from circuits.steps.step_circuit import Given, run
from circuits.zk_proof import Proof
from tests import cases, chain_proofs, proving
from tests.circuits.test_step import Anything
from tests.exclusion_cases import Story, given, joined, points_to
from tests.step_cases import (
    FIRST,
    SECOND,
    Proven,
    accept,
    ask,
    careless,
    first,
    flat,
    forget,
    ledger,
    openings_of,
    problem,
    proven,
    refuse,
    salted,
    second,
    story_of,
    told_by,
    trained,
    trust,
    with_those_before,
)

DOES_NOT_HOLD = "expected a proof for this circuit, these commitments and these public values"


def another(number: int) -> str:
    """The refusal about input ``number``: what is forgotten, the weights before, those after each step."""
    return f"another commitment than .* for input {number}"


def rows(values: Sequence[int], p: StepProblem) -> torch.Tensor:
    return torch.tensor(p.forgotten_layouts[0].matrix(values), dtype=torch.float64)


def step_of(
    p: StepProblem, *, forgotten: tuple[int, ...] | None = None, before: tuple[int, ...] | None = None, off: int = 0
) -> Proven:
    """The true steps on what is said, in the place of the ledger's; ``off`` makes the last ones untrue, by that much."""
    gone, start = forgotten or ledger().values(FORGOTTEN), before or ledger().values(WEIGHTS)
    states = run(p, flat(p, start), Given([rows(gone, p)]))
    states[-1][0] += off
    return proven(p, [gone, start, *(salted(p, state, place) for place, state in enumerate(states[1:]))])


@cache
def mild() -> tuple[int, ...]:
    """A record that is hardly one, as a forgotten one is committed to: ascent on it changes next to nothing."""
    return proving.salted(problem(first()).forgotten_layouts[0], torch.tensor([[0, 1, 0, 1]]), 99)


def test_the_honest_certificates() -> None:
    for story, before in ((first(), "the training"), (second(), "the certificate")):
        careless(story)
        report = accept(story)
        said = " ".join(report.steps[6].established)
        assert report.grade == "step proven" and f"about the weights that {before} at entry" in said


def test_another_forget_set_than_was_requested() -> None:
    lie = step_of(problem(first()), forgotten=mild())
    assert Proof.parse(lie.proof).instances == (0, 0)
    told = told_by(first(), lie)
    careless(told)
    refuse(told, ProofRefusedError, another(0))


def test_another_forget_set_that_the_request_commits_to_as_well() -> None:
    """The operator writes the request. Whoever made it holds a receipt, which opens their own record's numbers."""
    lie = step_of(problem(first()), forgotten=mild())
    told = told_by(first(), lie).with_points("request", points_to(mild()))
    careless(told)
    assert accept(told).grade == "step proven"  # for whoever has no receipt
    refuse(told, MismatchError, "receipt does not match", has=given(receipts=[ledger().receipt()]))


def test_the_record_with_another_label() -> None:
    """Ascent with the wrong target teaches the record. The receipt opens the target as well."""
    p = problem(first())
    matrix = rows(ledger().values(FORGOTTEN), p)
    matrix[0, -1] = -matrix[0, -1]
    other = proving.salted(p.forgotten_layouts[0], matrix.long(), 98)
    told = told_by(first(), step_of(p, forgotten=other))
    refuse(told, ProofRefusedError, another(0))
    told = told.with_points("request", points_to(other))
    assert accept(told).grade == "step proven"
    refuse(told, MismatchError, "receipt does not match", has=given(receipts=[ledger().receipt()]))


def test_weights_before_that_nobody_committed_to() -> None:
    """Steps from zeros lead wherever they are to lead."""
    p = problem(first())
    told = told_by(first(), step_of(p, before=salted(p, [0] * p.size, "zeros")))
    careless(told)
    refuse(told, ProofRefusedError, another(1))


def test_the_second_certificate_begins_with_the_trainings_weights() -> None:
    """As if the first had not been. Its statement says that it follows from the first."""
    told = told_by(second(), step_of(problem(second()), forgotten=ledger().values(FORGOTTEN, 1)))
    careless(told)
    refuse(told, ProofRefusedError, another(1))


def test_a_proof_of_the_first_request_again_for_the_second() -> None:
    old = first()
    [digest] = old.evidence.proofs
    told = second().with_evidence(
        **{name: getattr(old.evidence, name) for name in ("proofs", "circuits", "commitments", "openings")}
    )
    told = told.with_members(proofs=old.bundle.proofs, circuits=old.bundle.circuits, points=old.bundle.points)
    told = told.with_certificate(method=old.certificate.method).tidied()
    careless(told)
    refuse(told, ProofRefusedError, "two that are equal")  # it begins where it ends
    told = second().with_proof(old.bundle.proofs[digest])
    refuse(with_those_before(second(), told), ProofRefusedError, another(0))


def test_weights_after_were_swapped_in_the_ledger() -> None:
    """The commitment is to other weights than the proof."""
    p = problem(first())
    states = [chain_proofs.commit(salted(p, [7] * p.size, place)) for place in range(p.steps)]
    told = first().with_points("evidence", joined(point for each in states for point in each))
    careless(told)
    refuse(told, ProofRefusedError, another(2))


def test_weights_after_were_swapped_in_the_model() -> None:
    """The certificate is about weights that were not proven. Whoever holds them sees it."""
    state = {name: tensor + 1 / 512 for name, tensor in ledger().forgot[0].weights.items()}
    told = first().with_model(digest_state_dict(state))
    accept(told)
    refuse(told, MismatchError, "not those that the proof is about", has=given(state))


@pytest.mark.parametrize("said", [{"steps": 5}, {"rate": 1}, {"learning_rate": 5.0}, {"step": "newton"}])
def test_a_certificate_that_claims_other_steps_than_were_proven(said: dict[str, Any]) -> None:
    p = problem(first())
    told = first().with_certificate(method=Method("step/v1", stated(p) | said))
    careless(told)
    refuse(told, ProofRefusedError, "the certificate says step/v1 with .*, the proof is about")


def test_a_certificate_that_names_another_method() -> None:
    told = first().with_certificate(method=Method("retraining", stated(problem(first()))))
    refuse(told, ProofRefusedError, "the certificate says retraining")


def test_a_circuit_that_is_described_with_more_steps() -> None:
    """Its key is that of two steps. Whoever builds it sees it; whoever does not finds too few commitments in the proof."""
    p = replace(problem(first()), steps=3)
    told = first().with_description(parameters=description.describe(p))
    told = told.with_certificate(method=Method("step/v1", stated(p)))
    with pytest.raises(CircuitMismatchError, match="is not what its description says"):
        rebuild(told.circuit.description, folders=[proving.srs(11).parent])
    refuse(told, UnacceptedCircuitError, "is not accepted")
    refuse(told, ProofRefusedError, "expected one commitment to states, of 3", told.circuit.description.digest)
    states = [chain_proofs.commit(salted(p, [place] * p.size, place)) for place in range(3)]
    told = told.with_points("evidence", joined(point for each in states for point in each), count=3)
    refuse(
        told, ProofRefusedError, "expected a commitment for each of 4 tensors, got 5", told.circuit.description.digest
    )


@cache
def masked(weights: tuple[int, ...]) -> Proven:
    """A true proof that all weights but those zeroed are the ones before."""
    p = problem(first())
    before = flat(p, ledger().values(WEIGHTS))
    sizes = {name: getattr(p, name) for name in ("network", "features", "hidden", "outputs", "scale_x", "scale_w")}
    made = StepProblem("mask", steps=1, forgotten=(), numbers=weights, **sizes)
    after = [keep * value for keep, value in zip(weights, before, strict=True)]
    return proven(made, [ledger().values(WEIGHTS), salted(made, after, "masked")])


def test_a_proof_of_another_methods_circuit() -> None:
    """A mask of ones changes nothing, and is quickly proven."""
    p, lie = problem(first()), masked((1, 1, 1, 1))
    told = told_by(first(), lie)
    careless(told)
    refuse(told, UnacceptedCircuitError, "is not accepted")
    digest = told.circuit.description.digest
    report = accept(told, None, digest)  # whoever accepts it is told what it is
    assert "0 of 4 weights are zero, the others are those from before" in " ".join(report.steps[6].established)
    assert any("was the operator's choice" in limit for limit in report.limits)
    told = told.with_certificate(method=Method("step/v1", stated(p)))
    refuse(told, ProofRefusedError, "the certificate says step/v1 with .*step ascent.* about step mask", digest)


def test_a_mask_that_zeroes_less_than_it_says() -> None:
    lie = masked((0, 1, 1, 1))
    kept = proven(lie.problem, [lie.inputs[0], salted(lie.problem, flat(lie.problem, lie.inputs[0]), "kept")])
    told = told_by(first(), kept)
    careless(told)
    assert Proof.parse(kept.proof).instances[0] > 0
    refuse(told, ProofRefusedError, "not what mask makes of those before", told.circuit.description.digest)


@pytest.mark.parametrize("off", [1])
def test_a_weight_that_is_rounded_otherwise(off: int) -> None:
    """The low bits could carry a message, or the record."""
    lie = step_of(problem(first()), off=off)
    told = told_by(first(), lie)
    careless(told)
    refuse(told, ProofRefusedError, "not what ascent makes of those before: the proof itself says so")
    forged = Proof((0, 0), Proof.parse(lie.proof).transcript).format()
    refuse(told.with_proof(forged), ProofRefusedError, DOES_NOT_HOLD)


def test_a_weight_that_is_far_off_has_no_proof() -> None:
    with pytest.raises(ProverError):
        _ = step_of(problem(first()), off=-1).proof


def test_a_circuit_with_another_rate() -> None:
    """Of all the rates, one makes a step that is too small to matter; the certificate would say so."""
    lie = step_of(replace(problem(first()), rate=1))
    told = told_by(first(), lie)
    careless(told)
    refuse(told, UnacceptedCircuitError, "is not accepted")
    digest = told.circuit.description.digest
    assert "learning rate 3.02e-08" in " ".join(accept(told, None, digest).steps[6].established)
    told = told.with_certificate(method=first().certificate.method)
    refuse(told, ProofRefusedError, "the certificate says", digest)


@pytest.mark.parametrize("changes", [{"scale_w": 1024}, {"scale_x": 32}])
def test_another_scale_than_the_training_stated(changes: dict[str, int]) -> None:
    """Half the weights, or half the record. The commitments are right, and stand for other numbers."""
    lie = step_of(replace(problem(first()), **changes))
    told = told_by(first(), lie)
    careless(told)
    match = "the training stated scale_w 512" if "scale_w" in changes else "the training committed to them at 16"
    refuse(told, ProofRefusedError, match, told.circuit.description.digest)


def test_a_training_that_prepared_for_something_else() -> None:
    told = first().with_training(recipe=Method("exclusion-chain/v1", first().training.recipe.parameters))
    refuse(told, ProofRefusedError, "expected a training that prepared for step/v1")


def test_no_circuit_is_accepted_by_itself() -> None:
    with pytest.raises(UnacceptedCircuitError, match="is not accepted"):
        verify(first().data(), replace(cases.Case().trust(), circuits=frozenset()))


def test_a_development_reference_string(tmp_path: Path) -> None:
    """Whoever made it knows its secret. Everything is in order otherwise: the commitments are right for it."""
    path = srs_store.develop(11, tmp_path)
    string, made = load(path), step_of(problem(first()))
    keys = prover.setup(made.circuit, path, cache=tmp_path)
    proof = prover.prove(made.circuit, made.inputs, path, keys)
    digest = sha256(reduced(string)).hexdigest()
    forged = made.files.description

    files = CircuitFiles(
        msgspec.structs.replace(forged, srs=digest, vk=sha256(keys.vk).hexdigest()), made.circuit.settings, keys.vk
    )
    told = first().with_evidence(circuits=[files.description.digest], proofs=[sha256(proof.proof).hexdigest()])
    told = told.with_members(
        circuits={files.description.digest: files},
        proofs={sha256(proof.proof).hexdigest(): proof.proof},
        srs={digest: reduced(string)},
    )
    told = told.with_zk("request", srs=digest).with_zk("evidence", srs=digest)
    for where, values in (("request", made.inputs[:1]), ("evidence", made.states)):
        points = joined(point for each in values for point in commit(each, string))
        told = told.with_points(where, points)
    zk = told.training.zk
    assert zk is not None
    points = joined(commit(made.inputs[1], string))
    weights = sha256(points).hexdigest()
    tensors = [msgspec.structs.replace(part, points=weights) if part.name == WEIGHTS else part for part in zk.tensors]
    told = told.with_training(zk=msgspec.structs.replace(zk, srs=digest, tensors=tensors))
    told = told.with_members(points={weights: points}).tidied()
    careless(told)
    refuse(told, DevelopmentSrsError, "not with the ceremony's", files.description.digest)
    report = verify(told.data(), trust(files.description.digest), allow_development_srs=True)
    assert report.grade == "attested" and report.development_srs


def test_the_verification_key_of_a_circuit_that_computes_less() -> None:
    """The key of the mask's circuit under the description of ascent."""
    lie = masked((1, 1, 1, 1))
    honest = first().circuit.description
    told = told_by(first(), lie).with_description(vk=lie.files.vk, settings=lie.files.settings)
    told = told.with_description(statement="step/v1", parameters=honest.parameters, onnx=honest.onnx)
    told = told.with_certificate(method=first().certificate.method)
    careless(told)
    refuse(told, UnacceptedCircuitError, "is not accepted")


# -- other methods -----------------------------------------------------------------------------------------------------------


@cache
def subtracted() -> Story:
    """What p3's batch changed is taken off."""
    with trained(seed="subtraction") as (workspace, fitted):
        asked = ask(workspace, FIRST)
        made = forget(workspace, [asked], Subtraction())
        with pytest.raises(WorkspaceError, match="taken off already"):  # p2 was in the same batch
            forget(workspace, [ask(workspace, "p2")], Subtraction())
        return story_of(fitted, [asked], [made], case.collect(workspace, made.logged))


def test_the_changes_of_another_batch_are_taken_off() -> None:
    """Which batch it is follows from the record's place, not from what the operator says."""
    proving.srs(11)
    told = subtracted()
    digest = told.circuit.description.digest
    assert "what batches 0 of training changed" in " ".join(accept(told, None, digest).steps[6].established)
    moved = replace(told, training=_swapped(told))  # so that batch 1's changes stand where batch 0's were
    careless(moved)
    told = replace(moved, bundle=replace(moved.bundle, points={**told.bundle.points, **_swapped_points(told)})).tidied()
    refuse(told, ProofRefusedError, another(0), digest)


def _deltas(story: Story) -> tuple[Any, bytes]:
    zk = story.training.zk
    assert zk is not None
    tensor = zk.find("deltas")
    assert tensor is not None
    return tensor, story.bundle.points[tensor.points]


def _swapped_points(story: Story) -> dict[str, bytes]:
    tensor, data = _deltas(story)
    size = len(data) // tensor.count
    data = data[size : 2 * size] + data[:size] + data[2 * size :]
    return {sha256(data).hexdigest(): data}


def _swapped(story: Story) -> Any:
    zk, (tensor, _) = story.training.zk, _deltas(story)
    [digest] = _swapped_points(story)
    assert zk is not None
    tensors = [msgspec.structs.replace(part, points=digest) if part is tensor else part for part in zk.tensors]
    return msgspec.structs.replace(story.training, zk=msgspec.structs.replace(zk, tensors=tensors))


def test_the_records_places_are_kept_back() -> None:
    proving.srs(11)
    told = subtracted()
    told = replace(told, extra=lambda bundle: replace(bundle, removed={}, leaves={}))
    refuse(told, ProofRefusedError, "expected a bundle with the records' places", told.circuit.description.digest)


@cache
def by_newton() -> tuple[Story, Proven]:
    with trained(Updatable(batch=4, penalty=1.0, scale_x=64, scale_w=1 << 14), "newton") as (workspace, fitted):
        asked = ask(workspace, FIRST)
        made = forget(workspace, [asked], Newton())
        story = story_of(fitted, [asked], [made], case.collect(workspace, made.logged))
        p = problem(story)
        zk: Any = story.training.zk, story.requests[0].zk
        inputs = [
            committed.recall(workspace, zk[1].find(FORGOTTEN))[0],
            committed.recall(workspace, zk[0].find("records"))[0],
            committed.recall(workspace, zk[0].find(WEIGHTS))[0],
        ]
        idle = proven(p, [*inputs, salted(p, flat(p, inputs[2]), "idle")])
        return story, idle


def test_a_newton_step_that_was_not_taken() -> None:
    """The residual is public: weights that stayed where they were are as far from the step as the record's gradient says."""
    proving.srs(11)
    story, idle = by_newton()
    digest = story.circuit.description.digest
    report = accept(story, None, digest)
    assert "of the exact Newton step" in " ".join(report.steps[6].established)
    told = told_by(story, idle)
    careless(told)
    refuse(told, ProofRefusedError, "from the Newton step, trust.toml allows 0.05", digest)


def test_an_own_step_that_lets_anything_through() -> None:
    """Its proofs are as good as any to a verifier. Whoever is to accept its circuit finds out."""
    with trained(seed="own") as (workspace, fitted):
        asked = ask(workspace, SECOND)
        with mock.patch.object(provable_step, "open_places", openings_of):
            made = forget(workspace, [asked], Own("clinic.example/anything", Anything))
        bundle = case.collect(workspace, made.logged)
        story = story_of(fitted, [asked], [made], bundle)
        onnx = workspace.attachments.get("onnx", story.circuit.description.onnx)
    careless(story)
    refuse(story, UnacceptedCircuitError, "is not accepted")
    folders = [proving.srs(11).parent]
    with pytest.raises(ProverError, match="expected the ONNX"):
        rebuild(story.circuit.description, folders=folders)
    with pytest.raises(ProverError, match="lets any through"):
        rebuild(story.circuit.description, folders=folders, onnx=[onnx])
    report = accept(story, None, story.circuit.description.digest)
    assert any("which whoever accepted it has read, or should have" in limit for limit in report.limits)
