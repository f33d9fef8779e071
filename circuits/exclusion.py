"""Which records a circuit leaves out: all within a distance of a forgotten one. No mask is an input, so none can be forged.

m_i = 1 if min_j ‖x_i − f_j‖² > tau, else 0, with ‖x_i − f_j‖² = ‖x_i‖² − 2 x_i·f_j + ‖f_j‖²: three products instead of
a difference for each element. All are integers, so the comparison is exact::

    mask([[3, 4], [0, 6]], [[[0, 0]]], tau=25) == [[0], [1]]      # 25 is within 25, 36 is not
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from circuits.layout import Layout


def without_salt(salted: Tensor, layout: Layout) -> Tensor:
    """The matrix in a committed one. (rows + salt rows, columns + salt columns) -> (rows, columns)"""
    return salted[: layout.rows, : layout.columns]


def distances(x: Tensor, f: Tensor) -> Tensor:
    """Squared distances. x: (n, d), f: (k, d) -> (n, k)"""
    xx = torch.einsum("id,id->i", x, x)[:, None]  # (n, 1)
    ff = torch.einsum("jd,jd->j", f, f)[None, :]  # (1, k)
    return xx - 2 * torch.einsum("id,jd->ij", x, f) + ff  # (n, k)


def mask(x: Tensor, forgotten: Sequence[Tensor], tau: float) -> Tensor:
    """1 for each record to keep, 0 for those within ``tau`` (squared) of any forgotten one.

    x: (n, d), forgotten: one (k, d) for each request -> (n, 1)
    """
    far = [(distances(x, f) > tau).to(x.dtype) for f in forgotten]  # (n, k) each
    kept: Tensor | None = None
    for part in far:
        for j in range(part.shape[1]):
            kept = part[:, j : j + 1] if kept is None else kept * part[:, j : j + 1]
    assert kept is not None
    return kept  # (n, 1)
