"""LiRA, the likelihood ratio attack: is this confidence more like that of models which learnt the record, or which did not?

Carlini, Chien, Nasr, Song, Terzis and Tramèr, "Membership Inference Attacks From First Principles" (2022). For each record the
shadows give two normal distributions of the logit confidence φ, with it and without it::

    online    ln N(φ; μ_in, σ²) − ln N(φ; μ_out, σ²)          offline    (φ − μ_out) / σ_out

The offline score has the order of the paper's 1 − P[Z > φ] and does not run out of digits. Online, the variance is one for each
record, that of in and out together, which few shadows give well enough, and a record whose shadows are no surer with it than
without it scores 0. So no score falls as φ rises, and a model that was driven far below anything known scores low: with the
paper's own formula it may score as high as a member. With fewer than 16 shadows on a side, records share one variance as well
(the paper's advice for few shadows). ``variance="each"`` and ``monotone=False`` give the paper's form.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import norm

from certify.audit.shadows import Shadows

Variance = Literal["auto", "each", "record", "all"]
"""Its own for in and out of each record, one for each record, one for all records on each side; auto as the module says."""

ENOUGH = 16
_LEAST = 1e-6  # of a standard deviation, for records on which all shadows agree


@dataclass(frozen=True)
class Normals:
    """Two normal distributions of each candidate's confidence, (m,) each."""

    mean_in: np.ndarray
    mean_out: np.ndarray
    deviation_in: np.ndarray
    deviation_out: np.ndarray


def fit(shadows: Shadows, variance: Variance = "auto") -> Normals:
    """The distributions of every candidate. Needs two shadows with and two without it."""
    inside, outside = (~shadows.members, shadows.members)
    n_in, n_out = shadows.members.sum(0), (~shadows.members).sum(0)  # (m,)
    if min(n_in.min(), n_out.min()) < 2:
        raise ValueError("expected at least two shadows with and two without every candidate")
    if not np.isfinite(shadows.confidences).all():
        raise ValueError("expected finite confidences, got a shadow whose training diverged: lower the recipe's rate")
    of_in, of_out = (np.ma.masked_array(shadows.confidences, mask) for mask in (inside, outside))
    squares_in, squares_out = (np.asarray(side.var(0)) * n for side, n in ((of_in, n_in), (of_out, n_out)))
    if variance == "auto":
        variance = "record" if min(n_in.min(), n_out.min()) >= ENOUGH else "all"
    if variance == "each":
        var_in, var_out = squares_in / (n_in - 1), squares_out / (n_out - 1)
    elif variance == "record":
        var_in = var_out = (squares_in + squares_out) / (n_in + n_out - 2)
    else:
        var_in = np.full_like(squares_in, squares_in.sum() / (n_in - 1).sum())
        var_out = np.full_like(squares_out, squares_out.sum() / (n_out - 1).sum())
    deviations = [np.maximum(np.sqrt(var), _LEAST) for var in (var_in, var_out)]
    return Normals(np.asarray(of_in.mean(0)), np.asarray(of_out.mean(0)), *deviations)


def online(normals: Normals, confidences: np.ndarray, *, monotone: bool = True) -> np.ndarray:
    """The log likelihood ratio of every candidate; high speaks for a member. (…, m) -> (…, m)"""
    inside = norm.logpdf(confidences, normals.mean_in, normals.deviation_in)
    outside = norm.logpdf(confidences, normals.mean_out, normals.deviation_out)
    return (
        np.where(normals.mean_in > normals.mean_out, inside - outside, 0.0)
        if monotone
        else np.asarray(inside - outside)
    )


def offline(normals: Normals, confidences: np.ndarray) -> np.ndarray:
    """How far a candidate's confidence is above that of models which never saw it, in standard deviations. (…, m) -> (…, m)"""
    return np.asarray((confidences - normals.mean_out) / normals.deviation_out)
