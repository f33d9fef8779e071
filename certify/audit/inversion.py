"""Gradient inversion: how much of a forgotten record can be read off the difference between the weights before and after?

Whoever holds both models holds what unlearning took away. For a layer z = W x + b, one record's gradient is an outer product,
and its input is a quotient (Phong et al. 2017; Geiping et al. 2020)::

    ∂ℓ/∂W = g xᵀ, ∂ℓ/∂b = g        =>        x = ΔW_i / Δb_i for every row i with Δb_i ≠ 0

Hu, Wang, Dong, Zhong and Sun (2024, arXiv 2404.03233) turn this against unlearning. Several records make a sum of such products:
the quotients are then mixtures, and the leading right singular vectors of ΔW span them. Bertran, Tang, Kearns, Morgenstern,
Roth and Wu (2024, arXiv 2405.20272) show that *exact retraining* of a convex model gives the record away too: its optimum moves
by H⁻¹ g xᵀ, which ``curvature``, the matrix H of the inputs from public data, undoes.

So this probe is about publishing both models, not about whether the second forgot: a perfect unlearning can fail it. Each
record is compared with every candidate by the absolute cosine; held-out records are the control, because a candidate near the
middle of the data resembles everybody. It looks at the first layer alone; a weak result may be a weak probe.

>>> x = np.array([[1.0, 2.0, -1.0]])
>>> g = np.array([0.3, -0.3])
>>> round(float(similarities(candidates(np.outer(g, x), g), x)[0]), 6)
1.0
"""

from dataclasses import dataclass

import numpy as np

from certify.audit import roc
from certify.audit.verdict import Estimate

_TINY = 1e-12  # relative to the greatest |Δb|: below it a quotient is rounding


@dataclass(frozen=True)
class Reconstruction:
    """One forgotten record."""

    record: int
    similarity: float
    """The best absolute cosine with any candidate, 1 at best."""
    error: float | None
    """‖x̂ − x‖ / ‖x‖ of the best quotient, None without biases: directions have no scale."""
    closest: float
    """The share of control records that resemble a candidate at least as much: small if the record stands out."""


@dataclass(frozen=True)
class Inversion:
    """All records, those that are given away most first, and the control."""

    candidates: int
    auc: Estimate
    """Of similarity, forgotten against held-out records: 0.5 if nothing was read off."""
    records: tuple[Reconstruction, ...]
    control: float
    """The greatest similarity of any held-out record."""


def candidates(
    weight: np.ndarray, bias: np.ndarray | None = None, *, directions: int = 4, curvature: np.ndarray | None = None
) -> np.ndarray:
    """What the inputs may have been: quotients of ΔW (o, d) and Δb (o,), then directions up to scale. -> (c, d)

    Weights that did not change give none, (0, d).
    """
    quotients, vectors = _quotients(weight, bias), _directions(weight, directions)
    if curvature is not None:
        return np.concatenate([quotients, vectors, _directions(weight @ curvature, directions)])
    return np.concatenate([quotients, vectors])


def similarities(found: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The best absolute cosine of each record with any candidate, 0 without candidates. (c, d), (n, d) -> (n,)"""
    if not len(found):
        return np.zeros(len(x))
    return np.asarray(np.abs(_unit(x) @ _unit(found).T).max(1))


def probe(
    before: tuple[np.ndarray, np.ndarray | None],
    after: tuple[np.ndarray, np.ndarray | None],
    forget: np.ndarray,
    held_out: np.ndarray,
    *,
    directions: int = 4,
    curvature: np.ndarray | None = None,
    confidence: float = 0.95,
) -> Inversion:
    """The first layer's (W, b) of both models against inputs as the layer sees them. forget: (f, d), held_out: (h, d)"""
    weight = np.asarray(before[0], np.float64) - after[0]
    bias = None if before[1] is None or after[1] is None else np.asarray(before[1], np.float64) - after[1]
    if weight.ndim != 2 or not weight.shape[1] == forget.shape[1] == held_out.shape[1]:
        raise ValueError(f"expected W (o, d) and inputs (n, d), got {weight.shape}, {forget.shape}, {held_out.shape}")
    forget, held_out = np.asarray(forget, np.float64), np.asarray(held_out, np.float64)
    found, quotients = candidates(weight, bias, directions=directions, curvature=curvature), _quotients(weight, bias)
    own, control = similarities(found, forget), similarities(found, held_out)
    records = [
        Reconstruction(i, float(own[i]), _error(quotients, forget[i]), float((control >= own[i]).mean()))
        for i in np.argsort(-own, kind="stable").tolist()
    ]
    return Inversion(len(found), roc.auc(own, control, confidence), tuple(records), float(control.max()))


def _quotients(weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    if bias is None or not np.abs(bias).max():
        return np.empty((0, weight.shape[1]))
    moved = np.abs(bias) > _TINY * np.abs(bias).max()
    return np.asarray(weight[moved] / bias[moved, None])


def _directions(weight: np.ndarray, count: int) -> np.ndarray:
    _, strengths, vectors = np.linalg.svd(weight, full_matrices=False)
    kept = strengths > max(weight.shape) * np.finfo(np.float64).eps * max(strengths[0], 1e-300)
    return np.asarray(vectors[kept][:count])


def _error(quotients: np.ndarray, x: np.ndarray) -> float | None:
    if not len(quotients) or not x.any():
        return None
    return float(np.linalg.norm(quotients - x, axis=1).min() / np.linalg.norm(x))


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300))
