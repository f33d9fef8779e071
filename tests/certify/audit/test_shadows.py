"""Stacked training is training one by one; shadows are balanced, go on where they were cut off, and keep to their plan."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from certify.audit import shadows
from certify.audit.adapter import Params, Recipe, Torch, mlp
from certify.audit.seeds import generator, seed_of
from certify.errors import InputError

RETAIN, CANDIDATES = np.arange(40, 70), np.arange(40)


def subject(**changes: object) -> Torch:
    rng = np.random.default_rng(0)
    x, y = torch.from_numpy(rng.normal(size=(70, 6))).float(), torch.from_numpy(rng.integers(0, 3, 70))
    return mlp(x, y, Recipe(**{"epochs": 4, "rate": 0.1, "batch": 8} | changes), hidden=10)  # type: ignore[arg-type]


def run(folder: Path | None = None, *, seed: str = "s", chunk: int = 4, **options: object) -> shadows.Shadows:
    return shadows.run(subject(), RETAIN, CANDIDATES, shadows=8, seed=seed, folder=folder, chunk=chunk, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "recipe",
    [{}, {"momentum": 0.9}, {"decay": 0.01, "rate": 0.3}, {"optimiser": "adam", "rate": 0.01}, {"batch": 7}],
)
def test_stacked_models_are_those_of_an_ordinary_loop(recipe: dict[str, object]) -> None:
    own = subject(**recipe)
    records = [np.arange(0, 50), np.arange(20, 70), np.arange(10, 60)]
    seeds = ["a", "b", "c"]
    trained = list(shadows.unstack(shadows.train(own, records, seeds)))
    for model, places, seed in zip(trained, records, seeds, strict=True):
        torch.manual_seed(seed_of(seed, "initial"))
        plain = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 3))
        settings = own.recipe
        optimiser: torch.optim.Optimizer = torch.optim.SGD(
            plain.parameters(), settings.rate, momentum=settings.momentum, weight_decay=settings.decay
        )
        if settings.optimiser == "adam":
            optimiser = torch.optim.Adam(plain.parameters(), settings.rate)
        order = generator(seed, "order")
        for _ in range(settings.epochs):
            for batch in torch.from_numpy(order.permutation(places)).split(settings.batch):
                optimiser.zero_grad()
                nn.functional.cross_entropy(plain(own.x[batch]), own.y[batch]).backward()
                optimiser.step()
        for name, value in plain.named_parameters():
            torch.testing.assert_close(model[name], value.detach(), rtol=1e-3, atol=1e-4)


@given(st.integers(2, 60), st.integers(1, 10))
def test_every_candidate_is_in_half_of_the_shadows(candidates: int, pairs: int) -> None:
    drawn = shadows.halves(candidates, 2 * pairs, "s")
    assert set(drawn.sum(1)) == {candidates // 2}
    both = drawn[::2].astype(int) + drawn[1::2]
    assert (both <= 1).all()
    assert ((both == 0).sum(1) == candidates % 2).all()


def test_an_odd_number_of_shadows_is_refused() -> None:
    with pytest.raises(ValueError, match="even"):
        shadows.halves(10, 5, "s")


def test_chunks_and_threads_change_nothing_but_rounding() -> None:
    whole = run(chunk=8)
    np.testing.assert_allclose(run(chunk=3).confidences, whole.confidences, atol=1e-4)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    np.testing.assert_array_equal(run(chunk=8).confidences, whole.confidences)
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


def test_no_thread_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one thread"), shadows.on_threads(0):
        pass


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("changes", [{}, {"optimiser": "adam", "rate": 0.01}])
def test_gpu_trains_the_same_shadows_but_for_rounding(changes: dict[str, object]) -> None:
    own = subject(**changes)
    here, there = (
        shadows.run(one, RETAIN, CANDIDATES, shadows=8, seed="s", chunk=4).confidences for one in (own, own.to("cuda"))
    )
    np.testing.assert_allclose(there, here, atol=1e-2)
    assert np.corrcoef(there.ravel(), here.ravel())[0, 1] > 0.9999


def test_members_are_surer_of_their_own() -> None:
    own = subject(epochs=200)
    made = shadows.run(own, RETAIN, CANDIDATES, shadows=8, seed="s")
    assert made.confidences[made.members].mean() > made.confidences[~made.members].mean() + 1


def test_a_run_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if done > 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["shadows-00000.npz"]
    first = (tmp_path / "shadows-00000.npz").read_bytes()
    resumed = run(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert (tmp_path / "shadows-00000.npz").read_bytes() == first
    np.testing.assert_array_equal(resumed.confidences, run().confidences)
    assert seen[-1] == (32, 32)


def test_finished_chunks_are_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = run(tmp_path)
    monkeypatch.setattr(shadows, "train", lambda *_, **__: pytest.fail("trained again"))
    np.testing.assert_array_equal(run(tmp_path).confidences, made.confidences)


@pytest.mark.parametrize("change", [{"seed": "t"}, {"chunk": 2}])
def test_shadows_of_another_plan_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    run(tmp_path)
    with pytest.raises(InputError, match="expected shadows of this plan"):
        run(tmp_path, **change)  # type: ignore[arg-type]


def test_shadows_that_lied_about_are_refused(tmp_path: Path) -> None:
    """Confidences of other records under the same name."""
    run(tmp_path)
    with pytest.raises(InputError, match="expected shadows of this plan"):
        shadows.run(subject(), RETAIN, CANDIDATES[::-1].copy(), shadows=8, seed="s", folder=tmp_path, chunk=4)


def test_a_damaged_chunk_says_what_to_do(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "shadows-00004.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="delete it"):
        run(tmp_path)


def test_something_can_be_done_to_every_shadow() -> None:
    def forget_everything(params: Params, members: np.ndarray) -> Params:
        assert members.shape == (4, 40)
        return {name: torch.zeros_like(value) for name, value in params.items()}

    np.testing.assert_allclose(run(after=forget_everything).confidences, np.log(1 / 2))


def test_unequal_sets_are_not_stacked() -> None:
    with pytest.raises(ValueError, match="as many records"):
        shadows.train(subject(), [np.arange(5), np.arange(6)], ["a", "b"])
