"""What stays although a record is gone: its near-copies among the retained, and features that still tell it apart.

*Neighbours.* A record whose double is retained cannot be forgotten by any method, retraining included, and an attack that finds
it is not to blame on the unlearning. Each forgotten record's nearest retained one is looked up by Euclidean distance after
scaling every input to unit variance. "Near" is what is unusual among the retained themselves: less than the ``share`` quantile
of their distances to one another's nearest. (Deduplication as in Lee et al. 2022, by distance instead of text.)

*Feature leakage.* A model may give the right labels and still know the records inside. A linear probe (Alain and Bengio 2017) is
trained to tell forgotten from held-out records by the model's features, and asked about records that it was not trained on,
fold by fold. An AUC above the retrained models' is what those features kept. As in Golatkar et al. (2020), outputs are not all.

The limits: distances in raw inputs miss doubles that look different (a rotated picture, a paraphrase): give embeddings instead;
the probe is linear, and with few records and many features it sees little; folds share training records, so that the probe's
interval is somewhat too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from certify.audit import roc
from certify.audit.intervals import CONFIDENCE
from certify.audit.seeds import generator
from certify.audit.verdict import Estimate


@dataclass(frozen=True)
class Neighbour:
    """A forgotten record and the retained one nearest to it, by their places in the two sets."""

    record: int
    retained: int
    distance: float
    same_label: bool
    near: bool


@dataclass(frozen=True)
class Neighbours:
    """All forgotten records, those with the nearest double first."""

    limit: float
    """Distances up to it are near."""
    near: int
    copies: int
    """Of distance 0 up to rounding."""
    records: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Probe:
    """How well features tell forgotten from held-out records, out of fold."""

    unlearned: Estimate
    retrained: tuple[Estimate, ...]
    difference: Estimate
    """Unlearned less the mean of the retrained models', on the same records."""
    folds: int


def neighbours(
    forget: np.ndarray, forget_y: np.ndarray, retain: np.ndarray, retain_y: np.ndarray, *, share: float = 0.01
) -> Neighbours:
    """The nearest retained record of each forgotten one. Inputs (f, …) and (r, …), labels (f,) and (r,)"""
    if not len(forget) or len(retain) < 2 or not 0 < share < 1:
        raise ValueError("expected forgotten records, two retained ones and a share between 0 and 1")
    flat = [torch.from_numpy(np.asarray(x, np.float64)).flatten(1) for x in (forget, retain)]
    scale = flat[1].std(0)
    scale[scale == 0] = 1.0
    own, kept = (x / scale for x in flat)
    distances, places = _nearest(own, kept)
    among, _ = _nearest(kept, kept, apart=True)
    limit = float(np.quantile(among, share))
    small = 1e-9 * float(kept.norm(dim=1).mean())
    found = [
        Neighbour(i, int(places[i]), float(distances[i]), bool(forget_y[i] == retain_y[places[i]]), bool(near))
        for i, near in enumerate(distances <= max(limit, small))
    ]
    found.sort(key=lambda one: one.distance)
    return Neighbours(limit, sum(one.near for one in found), int((distances <= small).sum()), tuple(found))


def feature_leakage(
    unlearned: tuple[np.ndarray, np.ndarray],
    retrained: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    seed: str,
    folds: int = 5,
    ridge: float = 1.0,
    confidence: float = CONFIDENCE,
) -> Probe:
    """Features of (forgotten, held-out) records, (f, k) and (h, k), from each model. The folds are the same for all models."""
    if not retrained:
        raise ValueError("expected at least one retrained model to compare with")
    arms = [_out_of_fold(*features, seed, folds, ridge) for features in (unlearned, *retrained)]
    weights = [1.0] + [-1 / len(retrained)] * len(retrained)
    own, *others = (roc.auc(*arm, confidence) for arm in arms)
    return Probe(own, tuple(others), roc.contrast(arms, weights, confidence), folds)


def _nearest(x: torch.Tensor, others: torch.Tensor, *, apart: bool = False, block: int = 512) -> tuple[np.ndarray, ...]:
    """Distance to and place of the nearest of others, (n,) each; with ``apart``, x are the others and no one is its own."""
    parts = []
    for begin in range(0, len(x), block):
        # Differences, not products of matrices: those round the distance of equal records to about 1e-7.
        distances = torch.cdist(x[begin : begin + block], others, compute_mode="donot_use_mm_for_euclid_dist")
        if apart:
            rows = torch.arange(len(distances))
            distances[rows, rows + begin] = torch.inf
        parts.append(distances.min(1))
    return torch.cat([part.values for part in parts]).numpy(), torch.cat([part.indices for part in parts]).numpy()


def _out_of_fold(
    forgotten: np.ndarray, held_out: np.ndarray, seed: str, folds: int, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a ridge regression on ±1, each record's by the probe of the other folds. -> (f,), (h,)"""
    x = np.concatenate([forgotten, held_out]).astype(np.float64)  # (n, k)
    y = np.repeat([1.0, -1.0], [len(forgotten), len(held_out)])
    sizes = [len(forgotten), len(held_out)]
    if not 2 <= folds <= min(sizes):
        raise ValueError(f"expected between 2 and {min(sizes)} folds, got {folds}")
    fold = np.concatenate([generator(seed, f"probe/{i}").permutation(n) % folds for i, n in enumerate(sizes)])
    scores = np.empty(len(x))
    for i in range(folds):
        learnt = fold != i
        middle, spread = x[learnt].mean(0), x[learnt].std(0)
        scaled = (x - middle) / np.where(spread > 0, spread, 1.0)
        # Both kinds weigh the same, however many there are of each.
        weight = np.where(y > 0, 0.5 / (y[learnt] > 0).mean(), 0.5 / (y[learnt] < 0).mean())[learnt, None]
        own = np.hstack([scaled, np.ones((len(x), 1))])
        gram = own[learnt].T @ (weight * own[learnt]) + ridge * np.eye(own.shape[1])
        scores[~learnt] = own[~learnt] @ np.linalg.solve(gram, own[learnt].T @ (weight[:, 0] * y[learnt]))
    # Probes of different folds have different zeros; ranks within a fold are comparable, and a fold has both kinds.
    for i in range(folds):
        inside = fold == i
        scores[inside] = (np.argsort(np.argsort(scores[inside])) + 0.5) / inside.sum()
    return scores[: len(forgotten)], scores[len(forgotten) :]
