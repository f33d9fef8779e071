"""The radius against exact numbers."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuits.vicinity import radius


def test_the_radius_is_rounded_upwards() -> None:
    assert 0.25 <= radius((3, 4), scale_w=10, penalty=2) < 0.25 + 1e-15
    assert radius((0,), scale_w=1, penalty=1) < 1e-300
    with pytest.raises(ValueError, match="1 at least"):
        radius((1,), scale_w=0, penalty=1)


@given(
    st.lists(st.integers(-(1 << 60), 1 << 60), min_size=1, max_size=6), st.integers(1, 1 << 20), st.integers(1, 1 << 20)
)
def test_it_is_never_below_the_norm_and_hardly_above(gradient: list[int], scale_w: int, penalty: int) -> None:
    stated = Fraction(radius(gradient, scale_w=scale_w, penalty=penalty)) * scale_w * penalty
    square = sum(value * value for value in gradient)
    assert stated**2 >= square
    assert math.isclose(float(stated), math.sqrt(square), rel_tol=1e-12, abs_tol=1e-12)
