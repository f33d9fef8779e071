"""The one quantiser between real numbers and the integers that circuits compute with.

A real x at scale s is the integer nearest to x * 2**s, ties to the even one, so that ::

    abs(dequantize(quantize(x, s), s) - x) <= 2**-(s + 1)

It is computed on integers, exactly, the same on every machine; arrays take a shorter way to the same bits. (EZKL's own
quantiser rounds ties away from zero: hand it integers, and it has nothing to round.) ::

    >>> quantize(0.3, 4), quantize(0.09375, 4), quantize(0.15625, 4)     # 4.8, 1.5, 2.5
    (5, 2, 2)

NaN, infinities and integers beyond ``limit`` are refused, never clipped. A limit is stated by whoever knows the data's range
(:func:`limit_of`), and what a circuit adds up follows from limits and shapes (:func:`sum_limit`). Released weights *are*
integers over 2**s: :func:`snap` makes them so, and :func:`integers_of` reads them back without rounding anything.
"""

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from circuits.bn254 import R
from circuits.errors import QuantizeError

if TYPE_CHECKING:
    from numpy import float64, floating, int64
    from numpy.typing import DTypeLike, NDArray

MAX_SCALE = 40
LIMIT = 1 << 52
"""The widest limit: integers up to it are exact as float64, and sums of two as int64."""


def quantize(value: float, scale: int, *, limit: int = LIMIT) -> int:
    """The integer nearest to value * 2**scale, ties to even. Raises QuantizeError when beyond ±limit or not finite."""
    _check(scale, limit)
    try:
        numerator, denominator = value.as_integer_ratio()
    except (ValueError, OverflowError):
        raise QuantizeError(f"expected a finite number, {value} came") from None
    nearest, rest = divmod(numerator << scale, denominator)
    if 2 * rest > denominator or (2 * rest == denominator and nearest & 1):
        nearest += 1
    if abs(nearest) > limit:
        raise QuantizeError(f"expected at most {limit} in magnitude at scale {scale}, {value} came, which is {nearest}")
    return nearest


def dequantize(number: int, scale: int) -> float:
    """number / 2**scale, exactly. Raises QuantizeError beyond ±2**52."""
    _check(scale, LIMIT)
    if abs(number) > LIMIT:
        raise QuantizeError(f"expected at most {LIMIT} in magnitude, {number} came")
    return math.ldexp(number, -scale)


def limit_of(largest: float, scale: int) -> int:
    """The limit for data known to lie in -largest to largest. Raises QuantizeError."""
    return quantize(abs(largest), scale)


def sum_limit(terms: int, *limits: int) -> int:
    """The largest magnitude of a sum of so many products, one factor from within each limit.

    A circuit's values are integers modulo r: raises QuantizeError where such a sum could pass (r - 1) / 2 and wrap around. ::

        sum_limit(30, limit_of(8.0, 10), limit_of(2.0, 10))      # |x . w| for 30 features at scale 20
    """
    largest = math.prod(limits, start=terms)
    if terms < 0 or any(limit < 0 for limit in limits):
        raise QuantizeError(f"expected no negative count or limit, {terms} and {limits} came")
    if largest > (R - 1) // 2:
        raise QuantizeError(f"expected sums within (r - 1) / 2, about 2**253, up to 2**{largest.bit_length()} came")
    return largest


def quantize_array(values: "NDArray[Any]", scale: int, *, limit: int = LIMIT) -> "NDArray[int64]":
    """:func:`quantize` of every element of a float16, float32 or float64 array, to the bit. Raises QuantizeError."""
    import numpy as np

    _check(scale, limit)
    wide = _float64(values)
    if not np.isfinite(wide).all():
        raise QuantizeError(f"expected finite numbers, {wide[~np.isfinite(wide)][0]} came")
    with np.errstate(over="ignore"):  # an infinity is refused below
        scaled = np.rint(np.ldexp(wide, scale))  # ldexp is exact here: it only raises the exponent
    beyond = np.abs(scaled) > limit
    if beyond.any():
        raise QuantizeError(f"expected at most {limit} in magnitude at scale {scale}, {wide[beyond][0]} came")
    return scaled.astype(np.int64)


def dequantize_array(numbers: "NDArray[int64]", scale: int) -> "NDArray[float64]":
    """number / 2**scale for every element, exactly. Raises QuantizeError beyond ±2**52 or for another dtype than int64."""
    import numpy as np

    _check(scale, LIMIT)
    if numbers.dtype != np.int64:
        raise QuantizeError(f"expected int64, {numbers.dtype} came")
    beyond = (numbers > LIMIT) | (numbers < -LIMIT)
    if beyond.any():
        raise QuantizeError(f"expected at most {LIMIT} in magnitude, {numbers[beyond][0]} came")
    return np.ldexp(numbers.astype(np.float64), -scale)


def snap(
    weights: "NDArray[Any]", scale: int, *, limit: int = LIMIT, dtype: "DTypeLike | None" = None
) -> "NDArray[floating[Any]]":
    """The weights to release, of ``dtype`` or else of the same one: each an integer over 2**scale, no negative zero.

    Raises QuantizeError where a narrower dtype cannot hold one: float32 has 24 bits. The same dtype always can.
    """
    import numpy as np

    exact = dequantize_array(quantize_array(weights, scale, limit=limit), scale)
    with np.errstate(over="ignore"):  # an infinity is refused below
        snapped: NDArray[floating[Any]] = exact.astype(weights.dtype if dtype is None else dtype)
    lost = _float64(snapped) != exact
    if lost.any():
        number = int(math.ldexp(float(exact[lost][0]), scale))
        raise QuantizeError(f"expected integers that {snapped.dtype} can hold at scale {scale}, {number} came")
    return snapped


def integers_of(weights: "NDArray[Any]", scale: int, *, limit: int = LIMIT) -> "NDArray[int64]":
    """The integers that released weights are, over 2**scale. Raises QuantizeError unless all of them are, to the bit."""
    import numpy as np

    numbers = quantize_array(weights, scale, limit=limit)
    wide = _float64(weights)
    rounded = (dequantize_array(numbers, scale) != wide) | (np.signbit(wide) & (wide == 0))
    if rounded.any():
        raise QuantizeError(f"expected multiples of 2**-{scale} and no negative zero, {wide[rounded][0]} came")
    return numbers


def error_bound(scale: int) -> Fraction:
    """2**-(scale + 1): how far a quantised number is from the real one, at most."""
    _check(scale, LIMIT)
    return Fraction(1, 1 << scale + 1)


def _float64(values: "NDArray[Any]") -> "NDArray[float64]":
    import numpy as np

    if values.dtype not in (np.float16, np.float32, np.float64):
        raise QuantizeError(f"expected float16, float32 or float64, {values.dtype} came")
    return values.astype(np.float64)


def _check(scale: int, limit: int) -> None:
    if not 0 <= scale <= MAX_SCALE:
        raise QuantizeError(f"expected a scale from 0 to {MAX_SCALE}, {scale} came")
    if not 0 < limit <= LIMIT:
        raise QuantizeError(f"expected a limit from 1 to {LIMIT}, {limit} came")
