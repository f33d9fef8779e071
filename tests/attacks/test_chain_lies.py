"""Certificates with chains of proofs, well signed and well logged by an operator who lies in one place each."""

from dataclasses import replace

import pytest
import torch
from msgspec.structs import replace as changed

from certify.errors import MismatchError, ProofRefusedError, UnacceptedCircuitError
from certify.state_dict import digest_state_dict
from certify.zk import BATCHES, STATES
from circuits import chain, initial
from circuits.opening import open_known
from tests import chain_proofs, exclusion_cases
from tests.chain_cases import (
    SEED,
    accept,
    accepted,
    careless,
    chain_of,
    first,
    ledger,
    matrix,
    problem,
    recipe,
    refuse,
    second,
    told_by,
)
from tests.chain_proofs import Chain, salted
from tests.exclusion_cases import Story, given, joined

ANOTHER = "steps {}: .* another commitment than .* for input {}"


def weights_of(made: Chain, state: int = -1) -> list[int]:
    return chain_proofs.flat(made.problem, made.states[state])


def retrained(made: Chain, start: list[int] | None = None, *, seed: str = SEED, gone: list[list[list[int]]]) -> Chain:
    """The operator's other chain over the same committed batches, with something else forgotten or from other weights."""
    p = made.problem
    rows = [matrix(values, made) for values in made.batches]
    first_weights = start or initial.weights(seed, p)
    states = chain.train(p, rows, first_weights, steps=len(made.states) - 1, forgotten=gone)
    opening = tuple(initial.salted(seed, p)) if start is None else chain_proofs.state(p, start, "start")  # type: ignore[arg-type]
    return replace(made, states=(opening, *(chain_proofs.state(p, w, i) for i, w in enumerate(states[1:], 1))))


def gone(made: Chain) -> list[list[list[int]]]:
    p = made.problem
    return [layout.matrix(v) for layout, v in zip(p.layouts[2 * p.steps + 1 :], made.forgotten, strict=True)]


def test_honest_certificates_are_accepted() -> None:
    for story, made in ((first(), 0), (second(), 1)):
        careless(story)
        has = given(ledger().forgot[made].weights, [ledger().receipt(made)])
        report = accept(story, has)
        assert report.grade == "exclusion proven"
        told = " ".join(line for step in report.steps for line in step.established)
        assert "3 steps of SGD on the 2 batches of 6 records" in told and SEED in told
        assert f"{made + 1} of 12 records" in told


def test_the_story_retold_is_the_story() -> None:
    """What the attacks below are made with proves the truth as well."""
    made = chain_of()
    assert retrained(made, gone=gone(made)).states[0] == made.states[0]
    assert [weights_of(retrained(made, gone=gone(made)), i) for i in range(4)] == [
        weights_of(made, i) for i in range(4)
    ]
    assert accept(told_by(first(), made)).grade == "exclusion proven"


# -- the start -----------------------------------------------------------------------------------------------------------


def test_another_seed_than_the_training_stated() -> None:
    lie = first().with_evidence(seed="a better one")
    careless(lie)
    refuse(lie, ProofRefusedError, "expected the seed that the training stated, 'the draw of 1 May 2026', another came")
    refuse(first().with_evidence(seed=None), ProofRefusedError, "expected the seed that the training stated")


def test_a_training_that_states_another_seed() -> None:
    lie = recipe(first().with_evidence(seed="a better one"), seed="a better one")
    careless(lie)
    refuse(lie, ProofRefusedError, "the commitment is to another column than the known one")


def test_first_weights_that_know_the_record_already() -> None:
    """A true chain, from weights that were trained with everybody."""
    made = chain_of()
    rows = [matrix(values, made) for values in made.batches]
    remembering = chain.train(made.problem, rows, initial.weights(SEED, made.problem), steps=3)[-1]
    lie = told_by(first(), retrained(made, remembering, gone=gone(made)))
    careless(lie)
    refuse(lie, ProofRefusedError, "the commitment is to another column than the known one")


def test_openings_of_the_start() -> None:
    start = first().evidence.start
    other = open_known(chain_of().states[1], chain_proofs.string()).to_bytes().hex()
    assert len(start) == 1 and other != start[0]
    for lie, match in (
        ([], "expected 1 columns of first weights, got 1 and 0"),
        ([*start, *start], "expected 1 columns of first weights, got 1 and 2"),
        ([other], "another column than the known one"),
        ([start[0] * 2], "one of several rows came"),
        (first().evidence.openings[:1], "one of several rows came"),
    ):
        refuse(first().with_evidence(start=lie), ProofRefusedError, match)


# -- the steps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "match"), [(2, "of 3 tensors, 1 came, of 4"), (4, "of 5 tensors, 1 came, of 4")])
def test_another_number_of_steps_than_the_training_stated(steps: int, match: str) -> None:
    lie = recipe(first(), chain_steps=steps)
    careless(lie)
    refuse(lie, ProofRefusedError, f"expected one commitment to states, {match}")


@pytest.mark.parametrize("steps", [0, -1, 10**12, "3"])
def test_no_number_of_steps(steps: object) -> None:
    refuse(recipe(first(), chain_steps=steps), ProofRefusedError, "expected (one commitment to states|a training by)")


def test_a_count_of_states_lied_about() -> None:
    """The points are those of four."""
    lie = recipe(first(), chain_steps=4).with_zk("evidence", count=5)
    careless(lie)
    refuse(lie, ProofRefusedError, "expected 5 times 1 points of states, 128 bytes came")


def test_a_chain_that_stops_early() -> None:
    """Two steps proven of the three that were stated."""
    made = chain_of()
    short = replace(made, states=made.states[:3])
    lie = told_by(first(), short).with_evidence(circuits=first().evidence.circuits[:1]).tidied()
    careless(lie)
    refuse(lie, ProofRefusedError, "expected one commitment to states, of 4 tensors, 1 came, of 3")


def test_proofs_in_another_order_and_twice() -> None:
    one, two = first().evidence.proofs
    refuse(first().with_evidence(proofs=[two, one]), ProofRefusedError, "steps 0 to 1: expected")
    refuse(
        first().with_evidence(proofs=[one]).tidied(), ProofRefusedError, "expected 2 proofs of 3 steps, 2 each, got 1"
    )
    refuse(first().with_evidence(proofs=[one, one]).tidied(), ProofRefusedError, "names a proof twice")


def test_states_swapped() -> None:
    a, b, c, d = (chain_proofs.commit(values)[0] for values in chain_of().states)
    for order, match in (
        ((a, c, b, d), ANOTHER.format("0 to 1", 3)),
        ((a, b, d, c), ANOTHER.format("0 to 1", 4)),
        ((a, b, c, c), "two that are equal"),
        ((b, a, c, d), ANOTHER.format("0 to 1", 2)),
    ):
        lie = first().with_points("evidence", joined(order))
        careless(lie)
        refuse(lie, ProofRefusedError, match)


def test_the_batches_committed_to_in_another_order() -> None:
    one, two = (chain_proofs.commit(values)[0] for values in chain_of().batches)
    lie = first().with_points("training", joined([two, one]))
    assert lie.zk("training").tensors[0].name == BATCHES
    careless(lie)
    refuse(lie, ProofRefusedError, ANOTHER.format("0 to 1", 0))
    refuse(first().with_points("training", one, count=1), ProofRefusedError, "expected one commitment to batches, of 2")


def test_records_that_are_in_no_batch() -> None:
    """Of 13, one would be in none of the batches of six."""
    retained = first().certificate.retained
    assert retained is not None
    lie = first().with_training(dataset=changed(first().training.dataset, count=13))
    lie = lie.with_certificate(retained=changed(retained, count=12))
    lie = replace(lie, extra=lambda bundle: replace(bundle, removed={}, leaves={}))  # else step 5 sees it
    refuse(lie, ProofRefusedError, "some are in none")


# -- what is left out ----------------------------------------------------------------------------------------------------


def test_what_is_forgotten_at_another_scale() -> None:
    """The request commits to half of each number: true proofs, by the right circuits, that leave nobody out."""
    made = chain_of()
    half = [[[value // 2 for value in row] for row in gone(made)[0]]]
    layout = made.problem.layouts[-1]
    attack = replace(retrained(made, gone=half), forgotten=(salted(layout, half[0], "half"),))
    assert sum(each.instances[-1] for each in attack.groups) == 12
    lie = told_by(first(), attack).with_points("request", joined(chain_proofs.commit(attack.forgotten[0])))
    careless(lie)
    refuse(lie, ProofRefusedError, "counts 12 of 12 records, expected at most 11: 1 are stated as left out")


def test_somebody_else_is_left_out() -> None:
    """True proofs that leave p7 out, for the request about p3."""
    made = chain_of()
    other = [[matrix(made.batches[1], made)[1][: made.problem.features]]]
    attack = replace(retrained(made, gone=other), forgotten=(salted(made.problem.layouts[-1], other[0], "p7"),))
    lie = told_by(first(), attack)
    careless(lie)
    refuse(lie, ProofRefusedError, ANOTHER.format("0 to 1", 5))


def test_a_second_unlearning_that_takes_the_first_record_in_again() -> None:
    """The evidence of a chain that leaves out one request's record alone does not do for two requests."""
    lie = second().with_certificate(evidence=first().evidence)
    lie = lie.with_members(
        **{name: getattr(first().bundle, name) for name in ("points", "proofs", "circuits")}
    ).tidied()
    careless(lie)
    refuse(lie, ProofRefusedError, r"expected proofs about requests of \[1, 1\] records, ones about \[1\] came")


def test_a_second_unlearning_that_leaves_the_second_record_out_twice() -> None:
    """By circuits of the right shape."""
    made = chain_of(1)
    _, asked = gone(made)
    again = salted(made.problem.layouts[-2], asked, "again")
    attack = replace(retrained(made, gone=[asked, asked]), forgotten=(again, made.forgotten[1]))
    lie = told_by(second(), attack)
    careless(lie)
    refuse(lie, ProofRefusedError, ANOTHER.format("0 to 1", 5))


# -- the circuits --------------------------------------------------------------------------------------------------------


def test_circuits_that_nobody_accepted() -> None:
    refuse(first().with_description(vk=b"\x03" + bytes(500)), UnacceptedCircuitError, "is not accepted")


@pytest.mark.parametrize("change", [{"tau": 0}, {"rate": 2}, {"scale_w": 512}, {"batch": 4}, {"mercy": 1}])
def test_another_recipe_than_the_circuits(change: dict[str, int]) -> None:
    [name] = change
    refuse(recipe(first(), **change), ProofRefusedError, f"the training stated {name} {change[name]}, a circuit has")


def test_circuits_twice_or_one_missing() -> None:
    one, two = first().evidence.circuits
    refuse(first().with_evidence(circuits=[one, one]).tidied(), ProofRefusedError, "expected one circuit, or two of")
    refuse(first().with_evidence(circuits=[one]).tidied(), ProofRefusedError, r"expected circuits of \[1, 2\] steps")
    refuse(first().with_evidence(circuits=[two]).tidied(), ProofRefusedError, "expected 3 proofs of 3 steps, 1 each")
    assert accept(first().with_evidence(circuits=[two, one])).grade == "exclusion proven"  # in any order


def test_circuits_of_requests_of_different_sizes() -> None:
    more = [digest for digest in second().evidence.circuits if problem(second().bundle.circuits[digest]).steps == 1]
    one, _ = first().evidence.circuits
    lie = first().with_evidence(circuits=[one, *more]).with_members(circuits=second().bundle.circuits).tidied()
    refuse(lie, ProofRefusedError, "leave out the same numbers of records")


# -- other statements ----------------------------------------------------------------------------------------------------


def with_evidence_of(story: Story, other: Story) -> Story:
    lie = story.with_certificate(evidence=other.evidence)
    names = ("points", "proofs", "circuits")
    return lie.with_members(**{name: getattr(other.bundle, name) for name in names}).tidied()


def test_an_optimum_s_evidence_for_a_chain_s_training() -> None:
    lie = with_evidence_of(first(), exclusion_cases.first())
    exclusion_cases.naive(lie)
    match = "the circuit takes data and targets at scales 128 and 1, the training committed to them at 16 and 1"
    refuse(lie, ProofRefusedError, match, *exclusion_cases.accepted())


def test_a_chain_s_evidence_for_an_optimum_s_training() -> None:
    lie = with_evidence_of(exclusion_cases.first(), first())
    careless(lie)
    refuse(lie, ProofRefusedError, "committed to them at|expected a training by exclusion-chain/v1")


def test_evidence_that_says_it_is_of_another_statement() -> None:
    lie = first().with_evidence(statement="exclusion-optimum/v1")
    refuse(lie, ProofRefusedError, "is of another statement or reference string than the evidence")
    refuse(first().with_evidence(statement="exclusion-chain/v2"), ProofRefusedError, "expected evidence of")


def test_evidence_that_commits_to_more_than_states() -> None:
    stated = first().zk("evidence")
    for name in (BATCHES, STATES, "weights"):
        shadow = changed(first().zk("training").tensors[0], name=name)
        lie = first().with_commitments("evidence", changed(stated, tensors=[*stated.tensors, shadow]))
        refuse(lie, ProofRefusedError, "expected evidence that commits to states alone")


# -- the model -----------------------------------------------------------------------------------------------------------


def test_a_model_with_an_extra_tensor() -> None:
    """What the proofs do not cover could remember."""
    state = {**ledger().forgot[0].weights, "memory": torch.ones(4)}
    lie = first().with_model(digest_state_dict(state))
    careless(lie)
    refuse(lie, ProofRefusedError, "the proof is about a model of .*, the certificate about one of", has=given(state))


def test_released_weights_that_are_not_the_proven_ones() -> None:
    """Whoever has the weights sees it; one bit of one of them is enough."""
    for state in (
        dict(ledger().trained.weights),
        {**ledger().forgot[0].weights, "2.bias": ledger().forgot[0].weights["2.bias"] + 1 / 1024},
    ):
        lie = first().with_model(digest_state_dict(state))
        refuse(lie, MismatchError, "the weights given are not those that the proof is about", has=given(state))


def test_only_the_stories_circuits_are_believed() -> None:
    """Else the tests above would show less than they say."""
    assert len(accepted()) == 4 and not set(accepted()) & set(exclusion_cases.accepted())
