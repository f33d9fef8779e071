"""The size of a sigmoid's table: what a margin loses before it goes in, and where the table ends. No torch.

::

    finest(14) == 10                # steps of 2^-10: the finest table that fits one column of 2^14 rows
    limit(10) == 7808               # arguments from -7808 to 7808; at the ends and beyond the sigmoid rounds to 0 and 1
    division(10, 2**21) == 11       # a margin in units of 2^-21 loses 11 bits on its way in

:mod:`circuits.sigmoid` is what the circuit does with it.
"""

import math

from circuits.errors import ProverError

MAX_SCALE = 20


def limit(scale: int) -> int:
    """The largest argument: its value, and that of all beyond, is 1 once it is rounded to a multiple of 2^-scale."""
    return math.ceil(math.log((2 << scale) - 1) * (1 << scale))


def finest(logrows: int) -> int:
    """The largest scale whose table fits one column: a second one takes twice the time and memory. 10 for 14 and 15."""
    fitting = [scale for scale in range(1, min(logrows - 1, MAX_SCALE) + 1) if 2 * limit(scale) < (1 << logrows) - 8]
    if not fitting:
        raise ProverError(f"expected logrows that a table of the sigmoid fits, got {logrows}")
    return fitting[-1]


def division(scale: int, unit: int) -> int:
    """Bits that a margin in units of 1/unit loses."""
    return unit.bit_length() - 1 - scale


def check(scale: int, unit: int, logrows: int) -> None:
    """Raise ProverError unless margins in units of 1/unit can be looked up in a table of this scale."""
    most = min(logrows - 1, MAX_SCALE)
    if not 1 <= scale <= most:
        raise ProverError(f"expected a table_scale from 1 to {most} for a logistic loss, got {scale}")
    lowest = 2 << scale
    highest = lowest << (scale - 1)  # beyond, EZKL would divide what it rounded down, either way
    if unit & (unit - 1) or not lowest <= unit <= highest:
        raise ProverError(
            f"expected scale_x times scale_w to be a power of two from {lowest} to {highest} for a table_scale of {scale}, "
            f"got {unit}"
        )
