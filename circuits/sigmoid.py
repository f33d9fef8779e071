"""The sigmoid as a circuit has it: a table of integers, so that a logistic loss is one of integers too.

Margins z come in units of 2^-(k + d). They are held within ±limit and rounded to multiples of 2^-k, halves upwards ::

    q = ⌊(z + 2^(d-1)) / 2^d⌋, from -limit to limit        s(q) = round(2^k σ(q / 2^k))        s(±limit) = 2^k, 0

    arguments(2500, k=10, d=11, limit=7808) == 1 / 1024;      table(1 / 1024, k=10) == 512 / 1024

Both are functions that never fall. EZKL has no witness for an argument outside of its table, so margins are held within it; s is
the same beyond. And EZKL's prover can do its division by 2^d either way, up or down. So none here is: EZKL's floor takes a margin
apart into digits, which are unique, and what it divides then is a multiple of 2^d.
"""

import torch
from torch import Tensor


def arguments(z: Tensor, *, k: int, d: int, limit: int) -> Tensor:
    """q / 2^k for integer margins z, any shape. EZKL carries it as multiples of 2^-(k + d) until it is multiplied by integers."""
    edge = float(limit << d)
    above = torch.relu(z + (edge + 2 ** (d - 1)))  # from 0
    held = edge - torch.relu(2 * edge - above)  # from -edge to edge
    return torch.floor(held * 2.0**-d) * 2.0**-k


def table(q: Tensor, *, k: int) -> Tensor:
    """s / 2^k for arguments that are multiples of 2^-k. The ONNX says sigmoid and does not round; EZKL does."""
    value = torch.sigmoid(q)
    return value if torch.onnx.is_in_onnx_export() else torch.floor(value * 2**k + 0.5) * 2.0**-k
