"""Chains: which steps are proven together, training that others can repeat, and the verifier on what is honest."""

import pytest
import torch

from circuits import chain, initial
from circuits.chain_verifier import verify_start
from circuits.commitment import split
from circuits.errors import ProverError, ZkProofError
from circuits.opening import open_known
from tests.chain_proofs import SEED, batches_for, check, commit, flat, honest, problem, record, srs_1, string


@pytest.mark.parametrize(
    ("together", "steps", "expected"),
    [(1, 3, [(0, 1), (1, 1), (2, 1)]), (2, 5, [(0, 2), (2, 2), (4, 1)]), (3, 3, [(0, 3)]), (4, 2, [(0, 2)])],
)
def test_plan(together: int, steps: int, expected: list[tuple[int, int]]) -> None:
    groups = list(chain.plan(problem(steps=together), steps))
    assert [(group.first, group.problem.steps) for group in groups] == expected
    covered = [group.first + i for group in groups for i in range(group.problem.steps)]
    assert covered == list(range(steps))


def test_plan_of_nothing() -> None:
    with pytest.raises(ProverError, match="1 step at least, got 0"):
        list(chain.plan(problem(), 0))


def test_what_a_group_is_about() -> None:
    """Batches in turn, the states from before its first step to after its last, all that is forgotten."""
    group = list(chain.plan(problem(steps=2), 6))[1]
    assert group.batches(3) == [2, 0]
    found = group.inputs([(10,), (11,), (12,)], [(i,) for i in range(7)], [(20,), (21,)])
    assert found == ((12,), (10,), (2,), (3,), (4,), (20,), (21,))


def test_training_is_of_batches_in_turn() -> None:
    p = problem()
    batches, start = batches_for(p), initial.weights(SEED, p)
    whole = chain.train(p, batches, start, steps=5, forgotten=[record(batches, p)])
    assert len(whole) == 6 and whole[0] == start
    again = chain.train(p, batches[2:] + batches[:2], whole[2], steps=3, forgotten=[record(batches, p)])
    assert again == whole[2:]
    assert chain.train(p, batches, start, steps=5) != whole
    assert chain.train(p, batches, start, steps=0) == [start]


def test_who_is_forgotten_leaves_no_trace() -> None:
    """The same weights, whatever the record and its near-duplicates said."""
    p = problem()
    batches, start = batches_for(p), initial.weights(SEED, p)
    gone = [record(batches, p)]
    expected = chain.train(p, batches, start, steps=6, forgotten=gone)
    for batch, place in ((0, 2), (1, 1), (2, 2)):
        batches[batch][place][p.features :] = batches[batch][place][p.features :][::-1]  # another class
    assert chain.train(p, batches, start, steps=6, forgotten=gone) == expected
    assert chain.train(p, batches, start, steps=6) != chain.train(p, batches_for(p), start, steps=6)


def test_training_learns() -> None:
    p = problem(batch=32, rate=1)
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-16, 17, (2, 32, 4), generator=generator)
    y = torch.nn.functional.one_hot((x.sum(2) > 0).long(), 2)
    batches = torch.cat([x, y], 2).tolist()

    def loss(weights: list[int]) -> float:
        w = torch.tensor(weights, dtype=torch.float64) / p.scale_w
        w1, b1, w2, b2 = w[:12].view(3, 4), w[12:15], w[15:21].view(2, 3), w[21:]
        return float(((x.view(64, 4).double() / 16 @ w1.T + b1).relu() @ w2.T + b2 - y.view(64, 2)).square().mean())

    states = chain.train(p, batches, initial.weights(SEED, p), steps=60)
    assert loss(states[-1]) < loss(states[0]) / 2


@pytest.mark.parametrize(
    ("changes", "start"),
    [({"rate": 1 << 20}, 1000), ({}, 1 << 20), ({}, 1 << 60), ({"network": "linear", "rate": 1 << 23}, 1)],
)
def test_numbers_that_float64_would_round_are_refused(changes: dict[str, object], start: int) -> None:
    p = problem(**changes)
    with pytest.raises(ProverError, match=r"those of step . are too large: a smaller rate will do"):
        chain.train(p, batches_for(p), [start] * p.size, steps=9)


def test_sums_that_cancel_out_are_refused_as_well() -> None:
    """Terms beyond 2^53 whose sum is small: float64 gives some integer, not the right one."""
    p = problem(network="linear", outputs=1, rate=1)
    x, y = [1 << 14, -(1 << 14), 1 << 14, 0], [(1 << 31) + 1]
    with pytest.raises(ProverError, match="too large"):
        chain.train(p, [[[*x, *y], [*(-v for v in x), *y]] * 3], [0] * p.size, steps=1)


def test_features_that_no_proof_could_compare_are_refused() -> None:
    p = problem()
    batches = batches_for(p)
    batches[1][3][0] = 1 << 16
    with pytest.raises(ProverError, match="squared distances are below 8489664000"):
        chain.train(p, batches, initial.weights(SEED, p), steps=1)
    with pytest.raises(ProverError, match="squared distances"):
        chain.train(p, batches_for(p), initial.weights(SEED, p), steps=1, forgotten=[[[1 << 16, 0, 0, 0]]])


def test_no_batches() -> None:
    with pytest.raises(ProverError, match="expected a batch at least"):
        chain.train(problem(), [], [0] * 23, steps=1)


@pytest.mark.parametrize("together", [1, 2])
def test_an_honest_chain(together: int) -> None:
    """The record goes, and its near-duplicate in each of the other batches."""
    made = honest(together)
    assert check(made) == [5, 5, 5]
    assert len(made.groups) == (3 if together == 1 else 2)


def test_the_same_weights_however_many_steps_are_in_a_proof() -> None:
    assert honest(1).weights == honest(2).weights


def test_the_public_start() -> None:
    made = honest()
    start = [open_known(column, string()) for column in split(made.states[0], 11)]
    verify_start(commit(made.states[0]), SEED, start, made.problem, srs_1())
    assert flat(made.problem, made.states[0]) == initial.weights(SEED, made.problem)
    for openings in ([], start * 2):
        with pytest.raises(ZkProofError, match="expected 1 columns of first weights, got 1 and"):
            verify_start(commit(made.states[0]), SEED, openings, made.problem, srs_1())
