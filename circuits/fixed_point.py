"""How a circuit takes integers apart, stated in full: nothing is calibrated.

::

    fixed_point(bound=2**32, logrows=11) == FixedPoint(logrows=11, base=2040, legs=3)      # 2040**3 > 2**32

What is taken apart (range checks of inputs, comparisons, ReLU) must lie within ±base^legs. Every scale is 0: a circuit computes
with integers. One with a table (of the sigmoid) has a ``param_scale``: integers over 2^param_scale go into the table and come
out of it, and a constant that is an integer is one all the same. No torch.
"""

from dataclasses import dataclass
from typing import Any

from circuits.bn254 import R
from circuits.errors import ProverError

MAX_LEGS = 8


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """How a circuit takes integers apart: ``legs`` digits of ``base``.

    ``columns``: EZKL's inner columns. EZKL counts the rows of some loops in threads, and differently from run to run where a
    turn of the loop does not fill whole rows: comparisons do in two columns and not in one, floors in three and not in two.
    """

    logrows: int
    base: int
    legs: int
    columns: int = 2
    param_scale: int = 0
    table: int = 1
    """The table goes from -table to table; 1 where there is none but those of the digits."""

    def run_args(self) -> dict[str, Any]:
        return {
            "input_scale": 0,
            "param_scale": self.param_scale,
            "scale_rebase_multiplier": 1,
            "lookup_range": [-self.table, self.table],
            "rebase_frac_zero_constants": self.param_scale > 0,
            "logrows": self.logrows,
            "num_inner_cols": self.columns,
            "decomp_base": self.base,
            "decomp_legs": self.legs,
            "input_visibility": "polycommit",
            "param_visibility": "fixed",
            "output_visibility": "public",
            "ignore_range_check_inputs_outputs": False,
            "disable_freivalds": True,  # later than the audit of EZKL, and no gain for a vector
            "check_mode": "unsafe",  # mock is called by name
        }


def fixed_point(bound: int, logrows: int, *, param_scale: int = 0, table: int = 1, division: int = 0) -> FixedPoint:
    """The fewest digits, of a base whose table fits one column, that hold every integer within ±``bound``.

    ``division``: as many digits of 2^division, which EZKL rounds down by, must hold the table's integers times that.
    """
    if not 4 <= logrows <= 26 or bound < 1:
        raise ProverError(f"expected logrows from 4 to 26 and a bound of 1 at least, got {logrows} and {bound}")
    base = (1 << logrows) - 8
    above = -(-table.bit_length() // division) if division else 0  # digits above the one that is rounded off
    legs = next((legs for legs in range(2, MAX_LEGS + 1) if base**legs > bound and legs > above), None)
    if legs is None or 2 * bound * base >= R:
        raise ProverError(f"expected a bound that {MAX_LEGS} digits of base {base} hold, got {bound.bit_length()} bits")
    return FixedPoint(logrows, base, legs, columns=3 if division else 2, param_scale=param_scale, table=table)
