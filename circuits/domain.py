"""Polynomials over F_r by their values at the n = 2**k-th roots of unity, as KZG openings need them.

The value at place i is the one at w**i, w the root of :func:`circuits.bn254.root_of_unity`::

    >>> divide([5, 5], 0)       # (5 - 5) / (X - 1)
    [0, 0]
"""

from collections.abc import Mapping, Sequence

from circuits.bn254 import R, root_of_unity


def roots(logrows: int) -> list[int]:
    """1, w, w**2, …: 2**logrows of them."""
    root = root_of_unity(logrows)
    powers = [1]
    for _ in range((1 << logrows) - 1):
        powers.append(powers[-1] * root % R)
    return powers


def divide(values: Sequence[int], row: int) -> list[int]:
    """(f - f(w**row)) / (X - w**row), by its values."""
    powers = roots(len(values).bit_length() - 1)
    # 1 / (w**i - w**row) = w**-row / (w**(i - row) - 1)
    inverses = [0, *invert([power - 1 for power in powers[1:]])]
    own, scale = values[row], powers[-row % len(powers)]
    quotient = [(value - own) * inverses[(place - row) % len(powers)] * scale % R for place, value in enumerate(values)]
    # At the row itself it is the derivative of f: minus the sum of all other values of the quotient times w**(i - row).
    quotient[row] = -sum(part * powers[(place - row) % len(powers)] for place, part in enumerate(quotient)) % R
    return quotient


def weights(rows: Sequence[int], logrows: int) -> list[int]:
    """1 / Z'(w**s) for each row s, Z the product of all X - w**s."""
    root = root_of_unity(logrows)
    points = [pow(root, row, R) for row in rows]
    products = []
    for point in points:
        product = 1
        for other in points:
            if other != point:
                product = product * (point - other) % R
        products.append(product)
    return invert(products)


def interpolate(values: Mapping[int, int], point: int, logrows: int) -> tuple[int, int]:
    """At ``point``: the polynomial of least degree that takes ``values``, given by row, and the product of all X - w**row."""
    root = root_of_unity(logrows)
    distances = [(point - pow(root, row, R)) % R for row in values]
    product = 1
    for distance in distances:
        product = product * distance % R
    terms = zip(values.values(), weights(list(values), logrows), invert(distances), strict=True)
    return sum(value * weight * inverse for value, weight, inverse in terms) * product % R, product


def evaluate(values: Sequence[int], point: int) -> int:
    """f at a point outside the domain, by its values: (X**n - 1) / n times the sum of all f_i w**i / (X - w**i)."""
    powers = roots(len(values).bit_length() - 1)
    inverses = invert([(point - power) % R for power in powers])
    total = sum(value * power % R * inverse for value, power, inverse in zip(values, powers, inverses, strict=True))
    return total * (pow(point, len(values), R) - 1) * pow(len(values), -1, R) % R


def invert(numbers: Sequence[int]) -> list[int]:
    """The inverse of each number, none of them 0, at the cost of one (Montgomery's trick)."""
    products = [1]
    for number in numbers:
        products.append(products[-1] * number % R)
    inverse = pow(products.pop(), -1, R)
    inverses = []
    for number, product in zip(reversed(numbers), reversed(products), strict=True):
        inverses.append(product * inverse % R)
        inverse = inverse * number % R
    return inverses[::-1]
