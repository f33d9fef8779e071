"""SCRUB against numpy's closed form, scipy's divergence and ONNX Runtime."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")

import numpy as np  # noqa: E402

from circuits.steps.gradient import joined  # noqa: E402
from circuits.steps.scrub import Scrub, ScrubOfLinear, divergence  # noqa: E402
from tests.circuits.steps import linear as case  # noqa: E402

EXACT = 1e-12


def test_divergence_is_scipys() -> None:
    p, q = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    expected = np.mean(stats.entropy(case.softmax(p.numpy()), case.softmax(q.numpy()), axis=1))
    assert float(divergence(p, q)) == pytest.approx(float(expected), abs=EXACT)
    assert float(divergence(p, p)) == 0


def test_rounds_are_the_closed_forms() -> None:
    """On full batches, whose order does not matter."""
    model = case.fitted()
    v = w = joined(model).numpy()
    (xs, _), (xr, yr) = case.arrays(case.GONE), case.arrays(case.REST)
    step = Scrub(rate=0.3, rounds=4, up=2, alpha=0.7, gamma=0.9, batch=1000)
    shown = step.run(model, case.task())
    module, after_two = ScrubOfLinear(0.3, 0.7, 0.9), None
    for number in range(4):
        if number < 2:
            w = w + 0.3 * case.slope(w, xs, case.softmax(xs @ v.T))
        w = w - 0.3 * (0.7 * case.slope(w, xr, case.softmax(xr @ v.T)) + 0.9 * case.slope(w, xr, yr))
        if number == 0:
            inputs = (w, v, xs, xr, yr)
        if number == 1:
            after_two = w
    assert np.abs(joined(model).numpy() - w).max() < EXACT
    assert np.abs(module(*map(torch.tensor, inputs)).numpy() - after_two).max() < EXACT
    assert np.abs(case.onnx_says(module, inputs) - after_two).max() < EXACT
    assert shown.fields["steps"] == 4 + 2


def test_first_step_up_moves_nothing() -> None:
    """The student is then its teacher, and a divergence is least where it is zero."""
    x = torch.tensor(case.arrays(case.GONE)[0])
    w = joined(case.fitted())
    moved = ScrubOfLinear(0.5, 0.0, 0.0)(w, w, x, x, torch.eye(3, dtype=torch.float64)[case.Y[case.GONE]])
    assert torch.equal(moved, w)


def test_student_contradicts_on_what_is_forgotten_and_obeys_elsewhere() -> None:
    """What the authors are after: forget error up, retain error as it was."""
    shown = Scrub(rate=0.5, rounds=30, up=25, alpha=1.0, gamma=0.5, batch=1000).run(case.fitted(), case.task()).fields
    assert shown["forgetDivergence"] > 2 * shown["retainDivergence"]  # type: ignore[operator]


def test_batches_are_those_of_the_seed() -> None:
    one, two, other = case.fitted(), case.fitted(), case.fitted()
    step = Scrub(rate=0.1, rounds=2, up=1, batch=5, seed=4)
    shown = step.run(one, case.task())
    assert step.run(two, case.task()) == shown and torch.equal(joined(one), joined(two))
    Scrub(rate=0.1, rounds=2, up=1, batch=5, seed=5).run(other, case.task())
    assert not torch.equal(joined(one), joined(other))
    assert shown.fields["steps"] == 2 * 7 + 1 * 2


def test_more_rounds_up_than_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 2 rounds up, got 3"):
        Scrub(rounds=2, up=3).run(case.linear(), case.task())
