"""How far released weights can be from the optimum without the forgotten records, given the gradient that a proof made
public.

The objective is Λ-strongly convex, so its gradient G at w satisfies ‖w − w*‖ ≤ ‖G‖/Λ: w* is the one optimum, whatever
path led to w. The circuit computes with the very integers that the data and the weights are (x = X/s_x, w = W/s_w) and
never divides, so what it makes public is s_x²·s_w·G exactly. With the penalty P = Λ·s_x², an integer too:

    ‖w − w*‖ ≤ ‖s_x² s_w G‖ / (s_w P)            slack of the fixed point: none

Where the loss has a table, w* is the optimum of the convex objective that it makes: see :class:`circuits.optimum.Logistic`.

``radius((3, 4), scale_w=10, penalty=2) == 0.25`` up to one rounding, upwards. No torch.
"""

import math
from collections.abc import Sequence


def radius(gradient: Sequence[int], *, scale_w: int, penalty: int) -> float:
    """An upper bound on ‖w − w*‖ (Frobenius, in units of the weights), rounded up. gradient: the circuit's integers,
    all of them.
    """
    if scale_w < 1 or penalty < 1:
        raise ValueError(f"expected a scale and a penalty of 1 at least, got {scale_w} and {penalty}")
    square = sum(value * value for value in gradient)
    fine = 1 << 64
    root = math.isqrt(square * fine * fine)
    root += root * root < square * fine * fine
    return math.nextafter(root / (fine * scale_w * penalty), math.inf)
