"""Which records a circuit leaves out: all within a distance of a forgotten one. No mask is an input, so none can be forged.

m_i = 1 if min_j ‖x_i − f_j‖² > tau, else 0, with ‖x_i − f_j‖² = ‖x_i‖² − 2 x_i·f_j + ‖f_j‖²: three products instead of
a difference for each element. All are integers, so the comparison is exact::

    mask([[3, 4], [0, 6]], [[0, 0]], tau=25) == [[0], [1]]      # 25 is within 25, 36 is not
"""

import torch
from torch import Tensor


def without_salt(salted: Tensor, rows: int) -> Tensor:
    """The matrix in a committed one (:mod:`circuits.layout`). (rows + salt rows, columns + 1) -> (rows, columns)"""
    return salted[:rows, :-1]


def distances(x: Tensor, f: Tensor) -> Tensor:
    """Squared distances. x: (n, d), f: (k, d) -> (n, k)"""
    xx = torch.einsum("id,id->i", x, x)[:, None]  # (n, 1)
    ff = torch.einsum("jd,jd->j", f, f)[None, :]  # (1, k)
    return xx - 2 * torch.einsum("id,jd->ij", x, f) + ff  # (n, k)


def mask(x: Tensor, f: Tensor, tau: float) -> Tensor:
    """1 for each record to keep, 0 for those within ``tau`` (squared) of any forgotten one. x: (n, d), f: (k, d) ->
    (n, 1)
    """
    far = (distances(x, f) > tau).to(x.dtype)  # (n, k)
    kept = far[:, :1]
    for j in range(1, f.shape[0]):
        kept = kept * far[:, j : j + 1]
    return kept  # (n, 1)
