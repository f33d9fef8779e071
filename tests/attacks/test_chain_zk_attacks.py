"""Attacks on chains of proofs by a prover who trains, proves and leaves out whatever suits.

Each proof alone is true, and a careless verifier (``ezkl.verify`` on each) takes all of them. What they are about is another
matter: the commitments come from the ledger, not from the prover.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from circuits import chain, initial, zk_verifier
from circuits.chain_verifier import verify_start
from circuits.commitment import split
from circuits.errors import CommitmentError, ProverError, ZkProofError
from circuits.opening import Opening, open_known
from circuits.zk_proof import Proof
from tests.chain_proofs import (
    SEED,
    Chain,
    Proven,
    Rows,
    batches_for,
    check,
    commit,
    honest,
    make,
    naive,
    problem,
    prove,
    record,
    salted,
    srs_1,
    state,
    string,
)

DOES_NOT_HOLD = "expected a proof for this circuit, these commitments and these public values"


def another(step: int, number: int) -> str:
    """The refusal at that step, about input ``number``: the batch, weights before and after, what is forgotten."""
    return f"steps {step} to {step}: .* another commitment than .* for input {number}"


def step_of(
    before: tuple[int, ...], batch: int = 0, *, batches: Sequence[Rows] | None = None, gone: Rows | None = None
) -> Chain:
    """One true step from any salted weights, on any batch, without any record."""
    p = problem()
    data = batches or batches_for(p)
    weights = [value for row in p.state_layout.matrix(before) for value in row][: p.size]
    forgotten = gone or record(data, p)
    made = make(p, [data[batch]], [forgotten], steps=1, start=weights)
    return replace(
        made, states=(before, made.states[1]), batches=(salted(p.batch_layout, data[batch], ("batch", batch)),)
    )


def in_step(made: Chain, number: int, other: Proven) -> list[bytes]:
    """The chain's proofs, one of them another."""
    return [other.proof if place == number else each.proof for place, each in enumerate(made.groups)]


def remembering() -> list[int]:
    """Weights after three steps with everybody."""
    p = problem()
    return chain.train(p, batches_for(p), initial.weights(SEED, p), steps=3)[-1]


def refuse(made: Chain, match: str, *careless: Proven, **changes: Any) -> None:
    naive(*careless)
    with pytest.raises(ZkProofError, match=match):
        check(made, **changes)


def states(*salted: tuple[int, ...]) -> list[tuple[bytes, ...]]:
    return [commit(each) for each in salted]


def test_a_gap() -> None:
    """In the middle the weights are those that remember. Every step is true; they are no chain."""
    made, p = honest(), problem()
    first, _, _ = made.groups
    jump = step_of(state(p, remembering(), 7), 1)
    refuse(made, another(1, 1), first, jump.group(0), proofs=in_step(made, 1, jump.group(0)))
    told = states(*made.states[:2], jump.states[1], made.states[3])  # nor if the ledger says so
    refuse(made, another(1, 1), proofs=in_step(made, 1, jump.group(0)), states=told)


def test_a_step_that_nobody_proved() -> None:
    made = honest()
    first, _, last = made.groups
    refuse(made, "expected 3 proofs of 3 steps, 1 each, got 2", first, last, proofs=[first.proof, last.proof])
    shorter = states(made.states[0], made.states[1], made.states[3])
    refuse(made, another(1, 0), proofs=[first.proof, last.proof], states=shorter)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_fewer_proofs_or_more(count: int) -> None:
    made = honest()
    proofs = [each.proof for each in (*made.groups, *made.groups)][:count]
    refuse(made, f"expected 3 proofs of 3 steps, 1 each, got {count}", proofs=proofs)


def test_two_proofs_swapped() -> None:
    made = honest()
    first, second, third = made.groups
    refuse(made, another(0, 0), first, second, third, proofs=[second.proof, first.proof, third.proof])
    refuse(made, another(1, 0), proofs=[first.proof, third.proof, second.proof])


def test_a_proof_used_twice() -> None:
    made = honest()
    first, second, _ = made.groups
    refuse(made, another(1, 0), first, first, second, proofs=[first.proof, first.proof, second.proof])
    same = states(*made.states[:2], *made.states[1:3])
    refuse(made, "two that are equal", proofs=[first.proof, first.proof, second.proof], states=same)


def test_another_record_is_forgotten_in_one_of_the_steps() -> None:
    """Then the near-duplicate in that batch counts, and its step moves the weights towards it."""
    made, p = honest(), problem()
    lie = step_of(made.states[1], 1, gone=record(batches_for(p), p, 0, 4))
    attack = lie.group(0)
    assert attack.instances == (0, 6) and made.group(1).instances == (0, 5)
    naive(attack)
    told = states(*made.states[:2], lie.states[1], made.states[3])
    refuse(made, another(1, 3), proofs=in_step(made, 1, attack), states=told)


def test_other_data_in_one_of_the_steps() -> None:
    """The near-duplicate is moved out of reach."""
    made, p = honest(), problem()
    data = batches_for(p)
    data[1][1][0] += 8
    lie = step_of(made.states[1], 1, batches=data)
    assert lie.group(0).instances == (0, 6)
    told = states(*made.states[:2], lie.states[1], made.states[3])
    refuse(made, another(1, 0), lie.group(0), proofs=in_step(made, 1, lie.group(0)), states=told)


def test_the_same_data_under_other_salt() -> None:
    made, p = honest(), problem()
    other = salted(p.batch_layout, batches_for(p)[1], "another")
    lie = replace(made, batches=(made.batches[0], other, made.batches[2]))
    attack = lie.group(1)
    assert check(lie, proofs=in_step(made, 1, attack)) == [5, 5, 5]  # true, of another commitment
    refuse(made, another(1, 0), attack, proofs=in_step(made, 1, attack))


def test_batches_in_another_order_than_committed() -> None:
    """The order is a choice as well: of many, one may give the weights that were wanted."""
    made = honest()
    lie = step_of(made.states[0], 1)
    assert lie.batches[0] == made.batches[1] and lie.forgotten == made.forgotten
    told = states(made.states[0], lie.states[1], *made.states[2:])
    refuse(made, another(0, 0), lie.group(0), proofs=in_step(made, 0, lie.group(0)), states=told)


@cache
def start_of(values: tuple[int, ...]) -> list[Opening]:
    return [open_known(column, string()) for column in split(values, 11)]


def started(made: Chain, openings: list[Opening] | None = None) -> None:
    verify_start(commit(made.states[0]), SEED, openings or start_of(made.states[0]), made.problem, srs_1())


def test_the_first_weights_know_the_record_already() -> None:
    """Masked steps take nothing out of weights that were trained with it. The steps are true, the start is not public."""
    lie = step_of(state(problem(), remembering(), 7))
    naive(lie.group(0))
    assert check(lie) == [5]
    for openings in (start_of(lie.states[0]), start_of(honest().states[0])):
        with pytest.raises(CommitmentError, match="another column than the known one"):
            started(lie, openings)
    started(honest())


def test_first_weights_of_another_seed() -> None:
    """Of many seeds, one may suit; the training stated which."""
    p = problem()
    batches = batches_for(p)
    lie = make(p, batches, [record(batches, p)], steps=1, seed="a better one")
    naive(lie.group(0))
    assert check(lie) == [5]
    verify_start(commit(lie.states[0]), "a better one", start_of(lie.states[0]), p, srs_1())
    with pytest.raises(CommitmentError, match="another column than the known one"):
        started(lie)


def test_public_weights_under_salt_of_ones_own() -> None:
    """The salt of the start is public as well: else it could be another column's."""
    p = problem()
    lie = step_of(state(p, initial.weights(SEED, p), 7))
    with pytest.raises(CommitmentError, match="another column than the known one"):
        started(lie)


def test_the_last_weights_are_not_the_certificates() -> None:
    made = honest()
    certified = state(problem(), remembering(), 3)
    refuse(made, another(2, 2), *made.groups, states=states(*made.states[:3], certified))


def moved(off: int, place: int = 13) -> Chain:
    """One step to weights of which one is off."""
    p, made = problem(), honest()
    values = list(made.states[1])
    values[p.state_layout.places(0)[place]] += off
    return replace(made, states=(made.states[0], tuple(values)), batches=made.batches[:1])


def test_a_parameter_rounded_up_shows() -> None:
    """Rounding as one likes could hide a message, or the record, in the low bits."""
    lie = moved(1)
    attack = lie.group(0)
    deficit, kept = attack.instances
    assert 0 < deficit < problem().unit and kept == 5
    naive(attack)  # a proof like any other
    refuse(lie, "expected the weights after step 0 to be what SGD makes of those before", proofs=[attack.proof])


@pytest.mark.parametrize("off", [-1, -5, 2, 1 << 20])
def test_a_parameter_further_off_has_no_proof(off: int) -> None:
    """What is left over does not fit the circuit's digits."""
    with pytest.raises(ProverError):
        moved(off).group(0)


def test_a_deficit_of_zero_claimed() -> None:
    lie = moved(1)
    proof = Proof.parse(lie.group(0).proof)
    forged = Proof((0, *proof.instances[1:]), proof.transcript).format()
    with pytest.raises(ValueError, match=r"constraint system is not satisfied|verif"):
        naive(replace(lie.group(0), proof=forged))
    refuse(lie, DOES_NOT_HOLD, proofs=[forged], circuits=[honest().group(0).circuit])


def by_circuit(step: int, **changes: Any) -> Chain:
    """A true step by a circuit that differs."""
    p, made = problem(**changes), honest()
    batches = batches_for(p)
    weights = [value for row in p.state_layout.matrix(made.states[step]) for value in row][: p.size]
    lie = make(p, [batches[step]], [record(batches, p)], steps=1, start=weights)
    return replace(
        lie, batches=(made.batches[step],), states=(made.states[step], lie.states[1]), forgotten=made.forgotten
    )


@pytest.mark.parametrize("changes", [{"rate": 5}, {"tau": 0}])
def test_a_step_by_another_circuit(changes: dict[str, int]) -> None:
    """With a larger rate, a step forgets less or more; with tau 0 the near-duplicate counts. The commitments are all right."""
    made, lie = honest(), by_circuit(1, **changes)
    attack = lie.group(0)
    assert attack.instances == (0, 6 if "tau" in changes else 5)
    told = states(*made.states[:2], lie.states[1], made.states[3])
    naive(attack)  # with the key that came along
    refuse(made, f"steps 1 to 1: {DOES_NOT_HOLD}", proofs=in_step(made, 1, attack), states=told)
    for circuits in ([made.group(0).circuit, attack.circuit], [attack.circuit]):
        with pytest.raises(ZkProofError, match=f"expected one circuit, or two of different|{DOES_NOT_HOLD}"):
            check(made, proofs=in_step(made, 1, attack), states=told, circuits=circuits)


def test_the_circuit_of_the_last_steps_differs_in_more_than_their_number() -> None:
    """Two circuits are needed where the last proof is shorter; the second must not be a laxer one."""
    made, lie = honest(2), by_circuit(2, tau=0)
    attack = lie.group(0)
    told = states(*made.states[:3], lie.states[1])
    assert attack.instances == (0, 6)
    refuse(
        made,
        "circuits that differ in their number of steps alone",
        attack,
        proofs=[made.group(0).proof, attack.proof],
        circuits=[made.group(0).circuit, attack.circuit],
        states=told,
    )


def test_circuits_of_other_numbers_of_steps() -> None:
    one, two = honest(1), honest(2)
    by_one, by_two = one.group(0).circuit, two.group(0).circuit
    for made, circuits, match in (
        (one, [by_two], r"expected 2 proofs of 3 steps, 2 each, got 3"),
        (two, [by_one], r"expected 3 proofs of 3 steps, 1 each, got 2"),
        (two, [by_two], r"expected circuits of \[1, 2\] steps, got \[2\]"),
        (one, [], "expected one circuit, or two .* got 0"),
        (one, [by_one, by_one], "expected one circuit, or two of different numbers of steps, got 2"),
        (one, [by_one, by_two, replace(by_two, problem=problem(steps=3))], "got 3"),
        (one, [replace(by_one, problem=problem(steps=3))], "expected 1 proofs of 3 steps, 3 each, got 3"),
    ):
        refuse(made, match, circuits=circuits)
    told = states(*two.states[:2])  # a single step, and a circuit that no proof is by
    refuse(
        one,
        r"expected circuits of \[1\] steps|2 each",
        proofs=[one.group(0).proof],
        circuits=[by_one, by_two],
        states=told,
    )


def test_a_key_under_the_description_of_more_steps() -> None:
    """One step where the ledger would have three of them."""
    made = honest()
    lying = replace(made.group(0).circuit, problem=problem(steps=3))
    proof = made.group(0).proof
    refuse(made, "expected a commitment for each of 4 tensors, got 8", made.group(0), proofs=[proof], circuits=[lying])


def test_more_steps_in_a_proof_than_batches() -> None:
    """A batch would stand in it twice, and its commitment as well."""
    made = honest(2)
    match = "expected no more steps in a proof than the 1 batches, got 2"
    refuse(made, match, batches=[commit(made.batches[0])])


@pytest.mark.parametrize("values", [(0, 7), (0, -1), (0, 1 << 200)])
def test_counts_that_no_mask_gives(values: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """No honest circuit says so, and no count may make up for another's."""
    made = honest()
    monkeypatch.setattr(zk_verifier, "verify", lambda *_, **__: values)
    with pytest.raises(ZkProofError, match="expected counts from 0 to 6"):
        check(made)
    monkeypatch.setattr(zk_verifier, "verify", lambda *_, **__: (0, 5, 5))
    with pytest.raises(ZkProofError, match="expected 2 public values, got 3"):
        check(made)


def test_a_count_changed_in_the_proof() -> None:
    made = honest()
    proof = Proof.parse(made.group(1).proof)
    forged = Proof((0, 4), proof.transcript).format()
    with pytest.raises(ZkProofError, match=DOES_NOT_HOLD):
        check(made, proofs=[made.group(0).proof, forged, made.group(2).proof])


def test_what_is_forgotten_at_another_scale() -> None:
    """Half of each number: nobody is near, and the circuit leaves nobody out. The request committed to the record itself."""
    made, p = honest(), problem()
    half = [[value // 2 for value in record(batches_for(p), p)[0]]]
    lie = step_of(made.states[0], 0, gone=half)
    assert lie.group(0).instances == (0, 6)
    told = states(made.states[0], lie.states[1], *made.states[2:])
    refuse(made, another(0, 3), lie.group(0), proofs=in_step(made, 0, lie.group(0)), states=told)


def test_near_duplicates_are_left_out_of_every_step_and_those_beyond_tau_of_none() -> None:
    """Jitter of 1 in two features is within tau 4; of 2 in two is not."""
    assert [each.instances[-1] for each in honest().groups] == [5, 5, 5]
    p = problem()
    data = batches_for(p)
    for place in (0, 1):
        data[1][1][place] = record(data, p)[0][place] + 2
    lie = step_of(honest().states[1], 1, batches=data, gone=record(data, p))
    assert lie.group(0).instances == (0, 6)  # what tau is for, stated with the training


def test_equal_commitments() -> None:
    """EZKL panics at them; one batch that stands for two could be proven about once."""
    made = honest(2)
    first, second, third = (commit(values) for values in made.batches)
    for changes in (
        {"batches": [first, first, third]},
        {"batches": [first, commit(made.forgotten[0]), third]},
        {"states": [*states(*made.states[:2]), commit(made.states[1]), commit(made.states[3])]},
        {"forgotten": [second]},
    ):
        refuse(made, "two that are equal", **changes)


def test_proofs_of_one_chain_in_another() -> None:
    """Another request about the same training: nothing of it can be used again."""
    made, p = honest(), problem()
    batches = batches_for(p)
    other = make(p, batches, [record(batches, p, 0, 4)], steps=1)
    naive(other.group(0))
    assert check(other, batches=[commit(values) for values in made.batches]) == [5]
    told = states(other.states[0], other.states[1], *made.states[2:])
    refuse(made, another(0, 3), proofs=in_step(made, 0, other.group(0)), states=told)


def test_the_second_request_alone() -> None:
    """Two requests: a circuit of one tensor for what is forgotten cannot be told about two."""
    made = honest()
    both = [commit(made.forgotten[0]), commit(salted(problem().layouts[3], [[1, 2, 3, 4]], "g"))]
    refuse(made, "expected a commitment for each of 4 tensors, got 5", *made.groups, forgotten=both)
    refuse(made, "expected a commitment for each of 4 tensors, got 3", forgotten=[])


def test_two_requests_in_another_order() -> None:
    """Both are left out whatever their order, yet each stands for its own."""
    p = problem(forgotten=(1, 1))
    batches = batches_for(p)
    made = make(p, batches, [record(batches, p), record(batches, p, 0, 4)], steps=1)
    assert check(made) == [4]
    one, two = (commit(values) for values in made.forgotten)
    refuse(made, another(0, 3), *made.groups, forgotten=[two, one])
    refuse(made, "two that are equal", forgotten=[one, one])


def test_a_proof_of_nothing() -> None:
    refuse(honest(), "expected 0 proofs of 0 steps|expected one circuit", states=states(honest().states[0]), proofs=[])


def test_prove_is_cached_by_what_it_is_about() -> None:
    """Else a test of an attack could be shown an honest proof."""
    lie = moved(1)
    [group] = chain.plan(lie.problem, 1)
    assert prove(group.problem, group.inputs(lie.batches, lie.states, lie.forgotten)).proof != honest().group(0).proof
