"""SISA: forgetting is exact, isolated, and never looks at what is forgotten."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import numpy  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from circuits.steps.checkpoints import Checkpoints  # noqa: E402
from circuits.steps.sisa import Ensemble, Plan, Sisa, Standardize, plan, without  # noqa: E402

torch.set_num_threads(1)  # tiny models, several test processes
COUNT, FEATURES = 60, 4
X = torch.randn(COUNT, FEATURES, generator=torch.Generator().manual_seed(0)) * 5 + 2
Y = (X[:, 0] > 2).long()
PLAN = plan(COUNT, shards=4, slices=3, seed=7)


def build() -> Any:
    return torch.nn.Sequential(
        Standardize(FEATURES), torch.nn.Linear(FEATURES, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2)
    )


def fitted(parts: Plan = PLAN, x: Any = X) -> Sisa:
    sisa = Sisa(build, parts, seed=7, epochs=3, batch=8)
    sisa.fit(x, Y)
    return sisa


FITTED = fitted().ensemble.state_dict()


def same(a: Any, b: Any) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@given(st.integers(1, 200), st.integers(1, 8), st.integers(1, 4), st.integers(0, 2**32))
def test_plan_deals_every_record_out_exactly_once(count: int, shards: int, slices: int, seed: int) -> None:
    if shards * slices > count:
        with pytest.raises(ValueError, match="at least as many records"):
            plan(count, shards=shards, slices=slices, seed=seed)
        return
    dealt = plan(count, shards=shards, slices=slices, seed=seed)
    assert sorted(p for shard in dealt for part in shard for p in part) == list(range(count))
    sizes = [len(part) for shard in dealt for part in shard]
    assert (len(dealt), len(sizes)) == (shards, shards * slices)
    assert max(sizes) - min(sizes) <= 1
    assert dealt == plan(count, shards=shards, slices=slices, seed=seed)


def test_plan_depends_on_its_seed() -> None:
    assert plan(COUNT, shards=4, seed=1) != plan(COUNT, shards=4, seed=2)


@pytest.mark.parametrize("shape", [(0, 1), (1, 0), (-1, -1), (7, 10)])
def test_impossible_plans_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="need at least"):
        plan(COUNT, shards=shape[0], slices=shape[1])


def test_training_is_reproducible_to_the_bit() -> None:
    torch.manual_seed(123)  # whatever the global generator's state
    assert same(fitted().ensemble.state_dict(), FITTED)


def test_training_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fitted()
    assert torch.equal(torch.rand(3), expected)


@settings(max_examples=12)
@given(st.sets(st.integers(0, COUNT - 1), min_size=1, max_size=6))
def test_forgetting_is_training_without_the_records_to_the_bit(gone: set[int]) -> None:
    sisa = fitted()
    affected = sisa.forget(sorted(gone), X, Y)
    scratch = fitted(without(PLAN, gone))
    assert same(sisa.ensemble.state_dict(), scratch.ensemble.state_dict())
    assert sisa.checkpoints.digests == scratch.checkpoints.digests
    for shard, parts in enumerate(PLAN):
        holding = [i for i, part in enumerate(parts) if gone & set(part)]
        assert affected.get(shard) == (min(holding) if holding else None)


def test_untouched_shards_keep_their_bits() -> None:
    sisa = fitted()
    gone = PLAN[2][1][0]
    assert sisa.forget([gone], X, Y) == {2: 1}
    for shard in range(4):
        before = {name: value for name, value in FITTED.items() if name.startswith(f"constituents.{shard}.")}
        after = {name: value for name, value in sisa.ensemble.state_dict().items() if name in before}
        assert same(before, after) == (shard != 2)


def test_forgotten_rows_are_never_read() -> None:
    """NaN in their place gives the same weights; a single look at them would give NaN everywhere."""
    gone = [PLAN[0][0][0], PLAN[0][2][1], PLAN[3][1][2]]
    poisoned, labels = X.clone(), Y.clone()
    poisoned[gone], labels[gone] = float("nan"), -100_000
    clean, blind = fitted(), fitted()
    clean.forget(gone, X, Y)
    blind.forget(gone, poisoned, labels)
    assert same(clean.ensemble.state_dict(), blind.ensemble.state_dict())
    assert all(value.isfinite().all() for value in blind.ensemble.state_dict().values())
    assert not torch.isfinite(fitted(x=poisoned).ensemble.state_dict()["constituents.0.1.weight"]).all()


def test_forgetting_in_two_steps_is_forgetting_at_once() -> None:
    one, two = fitted(), fitted()
    gone = [PLAN[1][0][0], PLAN[1][2][0], PLAN[2][0][0]]
    one.forget(gone, X, Y)
    two.forget(gone[:1], X, Y)
    two.forget(gone[1:], X, Y)
    assert same(one.ensemble.state_dict(), two.ensemble.state_dict())


def test_forgetting_what_is_not_there_does_nothing() -> None:
    sisa = fitted()
    assert sisa.forget([COUNT + 5], X, Y) == {}
    assert same(sisa.ensemble.state_dict(), FITTED)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_whole_slice_may_be_forgotten(index: int) -> None:
    sisa = fitted()
    sisa.forget(PLAN[1][index], X, Y)
    scratch = fitted(without(PLAN, PLAN[1][index]))
    assert same(sisa.ensemble.state_dict(), scratch.ensemble.state_dict())
    assert all(value.isfinite().all() for value in sisa.ensemble.state_dict().values())


def test_whole_shard_may_be_forgotten() -> None:
    """Its constituent is then as untrained as it began."""
    sisa = fitted()
    sisa.forget([p for part in PLAN[3] for p in part], X, Y)
    assert same(sisa.ensemble.constituents[3].state_dict(), sisa._untrained(3).state_dict())
    sisa.forget([PLAN[1][0][0]], X, Y)
    assert sisa.ensemble(X).isfinite().all()


def test_standardize_is_its_equation() -> None:
    layer = Standardize(FEATURES)
    layer.fit(X)
    expected = (X - X.mean(0)) / X.std(0, correction=0)
    assert torch.allclose(layer(X), expected)
    layer.fit(torch.ones(5, FEATURES))  # constant features do not divide by zero
    assert layer(torch.ones(5, FEATURES)).isfinite().all()


def test_ensemble_is_the_mean_of_probabilities() -> None:
    parts = [torch.nn.Linear(FEATURES, 2) for _ in range(3)]
    expected = sum(part(X).softmax(-1) for part in parts) / 3
    assert torch.allclose(Ensemble(parts)(X), expected)
    assert torch.allclose(Ensemble(parts)(X).sum(-1), torch.ones(COUNT))


def test_progress_hears_of_every_shard() -> None:
    done: list[int] = []
    sisa = Sisa(build, PLAN, seed=7, epochs=1)
    sisa.fit(X, Y, done.append)
    assert done == [0, 1, 2, 3]
    sisa.forget([PLAN[2][0][0]], X, Y, done.append)
    assert done[4:] == [2]
    assert sisa.parameters() == {
        "shards": 4,
        "slices": 3,
        "epochs": 1,
        "rate": 0.01,
        "batch": 32,
        "aggregation": "mean",
    }


def test_majority_is_the_share_of_votes() -> None:
    parts = [torch.nn.Linear(FEATURES, 3) for _ in range(4)]
    votes = numpy.stack([part(X).detach().numpy().argmax(-1) for part in parts])  # (4, n)
    expected = numpy.stack([(votes == label).mean(0) for label in range(3)], axis=1)
    said = Ensemble(parts, "majority")(X)
    assert numpy.array_equal(said.numpy(), expected.astype("float32"))


def test_checkpoints_on_disk_give_the_same_bits_and_hold_one_state_at_a_time(tmp_path: Path) -> None:
    sisa = Sisa(build, PLAN, seed=7, epochs=3, batch=8, folder=tmp_path / "states")
    sisa.fit(X, Y)
    assert same(sisa.ensemble.state_dict(), FITTED) and not sisa.checkpoints._memory
    digests = [list(shard) for shard in sisa.checkpoints.digests]
    assert digests == fitted().checkpoints.digests
    files = {path.name: sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "states").iterdir()}
    assert files == {
        f"{k}-{i}-{digest}.safetensors": digest for k, shard in enumerate(digests) for i, digest in enumerate(shard)
    }
    later = Sisa(build, PLAN, seed=7, epochs=3, batch=8, folder=tmp_path / "states")  # another process, months later
    later.ensemble.load_state_dict(FITTED)
    gone = [PLAN[2][1][0]]
    assert later.forget(gone, X, Y) == {2: 1}
    scratch = fitted(without(PLAN, gone))
    assert same(later.ensemble.state_dict(), scratch.ensemble.state_dict())
    assert later.checkpoints.digests == scratch.checkpoints.digests
    assert later.checkpoints.digests[2][:2] == digests[2][:2] and later.checkpoints.digests[2][2] != digests[2][2]
    assert not list((tmp_path / "states").glob(f"2-2-{digests[2][2]}*"))  # it had seen the record


def test_checkpoint_that_was_altered_is_not_gone_back_to(tmp_path: Path) -> None:
    sisa = Sisa(build, PLAN, seed=7, epochs=1, folder=tmp_path)
    sisa.fit(X, Y)
    path = next(tmp_path.glob("2-1-*"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="the state before slice 1 of shard 2 was altered"):
        sisa.forget([PLAN[2][1][0]], X, Y)
    path.unlink()
    with pytest.raises(ValueError, match="no state before slice 1 of shard 2"):
        sisa.forget([PLAN[2][1][1]], X, Y)


def test_folder_with_two_states_of_one_slice_is_refused(tmp_path: Path) -> None:
    for digest in ("a" * 64, "b" * 64):
        (tmp_path / f"0-0-{digest}.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="two states before slice 0 of shard 0"):
        Checkpoints(tmp_path)
