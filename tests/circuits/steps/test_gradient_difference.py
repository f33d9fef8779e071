"""Gradient difference against numpy's closed form and ONNX Runtime; with no weight it is gradient ascent."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import numpy as np  # noqa: E402

from circuits.steps.ascent import GradientAscent  # noqa: E402
from circuits.steps.gradient import joined  # noqa: E402
from circuits.steps.gradient_difference import DifferenceOfLinear, GradientDifference  # noqa: E402
from tests.circuits.steps import linear as case  # noqa: E402

EXACT = 1e-12


def test_steps_are_the_closed_forms() -> None:
    model = case.fitted()
    start = w = joined(model).numpy()
    (xs, ys), (xr, yr) = case.arrays(case.GONE), case.arrays(case.REST)
    shown = GradientDifference(rate=0.2, steps=5, weight=1.5).run(model, case.task())
    for _ in range(5):
        w = w + 0.2 * (case.slope(w, xs, ys) - 1.5 * case.slope(w, xr, yr))
    assert np.abs(joined(model).numpy() - w).max() < EXACT
    module = DifferenceOfLinear(0.2, 5, 1.5)
    assert np.abs(module(*map(torch.tensor, (start, xs, ys, xr, yr))).numpy() - w).max() < EXACT
    assert np.abs(case.onnx_says(module, (start, xs, ys, xr, yr)) - w).max() < EXACT
    assert (shown.fields["forgotten"], shown.fields["retained"]) == (7, 33)


def test_it_keeps_what_ascent_alone_gives_up() -> None:
    """Why retained records are in it (Liu et al. 2022): as much is forgotten, and less of the rest is lost."""
    alone, both = case.fitted(), case.fitted()
    up = GradientAscent(rate=0.5, steps=20).run(alone, case.task()).fields
    difference = GradientDifference(rate=0.5, steps=20, weight=2.0).run(both, case.task()).fields
    rest = case.task().retain
    with torch.no_grad():
        lost = float(torch.nn.functional.cross_entropy(alone(rest[0]), rest[1]))
    assert difference["forgetLossAfter"] > difference["forgetLossBefore"]  # type: ignore[operator]
    assert up["lossAfter"] > up["lossBefore"]  # type: ignore[operator]
    assert difference["retainLossAfter"] < lost  # type: ignore[operator]


def test_without_weight_it_is_ascent() -> None:
    one, two = case.fitted(), case.fitted()
    GradientAscent(rate=0.1, steps=3).run(one, case.task())
    GradientDifference(rate=0.1, steps=3, weight=0.0).run(two, case.task())
    assert torch.equal(joined(one), joined(two))
