"""The quantiser: exact, ties to even, the error bound, arrays to the same bits, and what is refused."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from circuits.errors import QuantizeError
from circuits.quantize import (
    LIMIT,
    dequantize,
    dequantize_array,
    error_bound,
    integers_of,
    limit_of,
    quantize,
    quantize_array,
    snap,
    sum_limit,
)

SCALES = st.integers(0, 40)
REALS = st.floats(-2048, 2048)
TIES = st.builds(lambda odd, scale: (2 * odd + 1) / 2 ** (scale + 1), st.integers(-1000, 1000), SCALES)


@given(st.one_of(REALS, TIES), SCALES)
def test_error_is_within_the_bound(value: float, scale: int) -> None:
    number = quantize(value, scale)
    assert number == round(Fraction(value) * 2**scale)  # Python rounds fractions half to even
    assert abs(Fraction(dequantize(number, scale)) - Fraction(value)) <= error_bound(scale)


@given(st.integers(-LIMIT, LIMIT), SCALES)
def test_integers_come_back(number: int, scale: int) -> None:
    assert quantize(dequantize(number, scale), scale) == number


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@given(data=st.data(), scale=SCALES)
def test_arrays_and_scalars_agree_to_the_bit(dtype: Any, data: st.DataObject, scale: int) -> None:
    width = np.dtype(dtype).itemsize * 8
    elements = st.one_of(st.floats(-2048, 2048, width=width), st.sampled_from([0.5, 1.5, -2.5, 2.0**-9]))
    values = data.draw(arrays.arrays(dtype, arrays.array_shapes(max_dims=3), elements=elements))
    numbers = quantize_array(values, scale)
    assert numbers.dtype == np.int64 and numbers.shape == values.shape
    assert numbers.ravel().tolist() == [quantize(value, scale) for value in values.astype(np.float64).ravel().tolist()]
    back = dequantize_array(numbers, scale)
    assert back.ravel().tolist() == [dequantize(number, scale) for number in numbers.ravel().tolist()]


def test_ties_go_to_the_even_integer() -> None:
    halves = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]
    assert (
        [quantize(half, 0) for half in halves] == [-2, -2, 0, 0, 2, 2] == quantize_array(np.array(halves), 0).tolist()
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300, 2.0**52, 1 + 2**-11, -1.0002])
def test_numbers_out_of_range_are_refused_never_clipped(value: float) -> None:
    with pytest.raises(QuantizeError, match=r"expected a finite number|expected at most 4096"):
        quantize(value, 12, limit=4096)
    with pytest.raises(QuantizeError, match=r"expected finite numbers|expected at most 4096"):
        quantize_array(np.array([0.5, value]), 12, limit=4096)


def test_range_includes_its_limit() -> None:
    assert quantize(1.0, 12, limit=4096) == 4096 == quantize(1 + 2**-13, 12, limit=4096)
    assert quantize_array(np.array([-1.0]), 12, limit=4096).tolist() == [-4096]


@pytest.mark.parametrize(("scale", "limit"), [(-1, 5), (41, 5), (10, 0), (10, LIMIT + 1)])
def test_scales_and_limits_out_of_range(scale: int, limit: int) -> None:
    with pytest.raises(QuantizeError, match=r"expected a (scale|limit)"):
        quantize(0.0, scale, limit=limit)


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(QuantizeError, match="expected float16, float32 or float64, int64 came"):
        quantize_array(np.array([1]), 3)
    with pytest.raises(QuantizeError, match="expected int64, float64 came"):
        dequantize_array(np.array([1.0]), 3)
    for number in (LIMIT + 1, -LIMIT - 1):
        with pytest.raises(QuantizeError, match="expected at most"):
            dequantize(number, 3)
        with pytest.raises(QuantizeError, match="expected at most"):
            dequantize_array(np.array([number]), 3)


@given(arrays.arrays(np.float32, (4, 3), elements=st.floats(-8, 8, width=32)))
def test_released_weights_are_their_integers(weights: Any) -> None:
    released = snap(weights, 12)
    assert released.dtype == np.float32
    assert integers_of(released, 12).tolist() == quantize_array(weights, 12).tolist()
    assert snap(released, 12).tobytes() == released.tobytes()
    assert [Fraction(float(value)) * 4096 for value in released.ravel()] == integers_of(released, 12).ravel().tolist()


def test_released_zero_has_one_form() -> None:
    assert snap(np.array([-0.0, -1e-9], np.float32), 12).tobytes() == bytes(8)


@pytest.mark.parametrize(
    ("value", "scale", "dtype"),
    [(2**23 + 0.5, 1, np.float32), (70000.0, 0, np.float16), (2.0**-30, 30, np.float16), (1.0, 3, np.int64)],
)
def test_weights_that_a_narrower_dtype_cannot_hold(value: float, scale: int, dtype: Any) -> None:
    assert snap(np.array([value]), scale).tolist() == [value]
    with pytest.raises(QuantizeError, match=r"can hold at scale|expected float16, float32 or float64"):
        snap(np.array([0.5, value]), scale, dtype=dtype)


@pytest.mark.parametrize("value", [0.3, 2.0**-13, -0.0, 1 + 2.0**-23])
def test_shipped_weights_that_are_not_the_circuit_s(value: float) -> None:
    with pytest.raises(QuantizeError, match="expected multiples of"):
        integers_of(np.array([0.5, value], np.float32), 12)


def test_limits_of_sums() -> None:
    assert limit_of(-1.5, 4) == 24
    assert sum_limit(30, limit_of(8, 10), limit_of(2, 10)) == 30 * 8192 * 2048
    with pytest.raises(QuantizeError, match="within"):
        sum_limit(1 << 50, LIMIT, LIMIT, LIMIT, LIMIT)
    with pytest.raises(QuantizeError, match="no negative"):
        sum_limit(3, -1)
