"""U-LiRA: LiRA whose shadows go through the unlearning as well, so that the attacker knows what the method leaves behind.

Hayes, Shumailov, Triantafillou, Khalifa and Papernot, "Inexact Unlearning Needs More Careful Evaluations to Avoid a False Sense
of Privacy" (2024, arXiv 2403.01218). For each record, two distributions of the confidence φ::

    in    shadows that learnt the record and then unlearned it, by the method that is audited
    out   shadows that never learnt it

Each shadow learns the retained records and half of the candidates, as in :mod:`certify.audit.shadows`, and then unlearns that
half. A plain LiRA compares with models that still know the record, and takes any push away from them for forgetting.

    method = lambda params, forget, retain: ascend(params, forget, steps=5)
    found = attack(subject, records, method, "ascent, 5 steps", unlearned=…, retrained=[…], shadows=64, seed=plan.seed)

The test is fixed: a likelihood ratio above 1 says "was unlearned". The method must be the one that made the unlearned model,
with its own parameters: another one makes the attack weaker and the audit kinder, and nothing here can notice. Shadows unlearn
half of the candidates at once: a method whose effect depends on their number wants as many held-out as forgotten records.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from certify.audit import intervals, lira, roc
from certify.audit.adapter import Params, Subject
from certify.audit.arms import Records
from certify.audit.intervals import CONFIDENCE, Counts
from certify.audit.shadows import Progress, Shadows, confidences, run, unstack
from certify.audit.verdict import Estimate
from certify.errors import InputError

Method = Callable[[Params, np.ndarray, np.ndarray], Params]
"""Unlearns one model: parameters, places to forget, places retained -> parameters"""


@dataclass(frozen=True)
class Ranked:
    """One forgotten record, by its place in the forget set: its log likelihood ratio, and the mean of the retrained models'."""

    record: int
    unlearned: float
    retrained: float


@dataclass(frozen=True)
class ULira:
    """What the likelihood ratios say of the unlearned model, beside models that were retrained."""

    method: str
    shadows: int
    forgotten: int
    held_out: int
    unlearned: Estimate
    """AUC of forgotten against held-out records."""
    retrained: tuple[Estimate, ...]
    difference: Estimate
    """Unlearned less the mean of the retrained models', on the same records."""
    epsilon: float
    greatest: float
    separation: float
    """The mean over candidates of |μ_in − μ_out| / σ: how far unlearning leaves shadows from never having learnt."""
    examples: tuple[Ranked, ...]
    """Every forgotten record, the ones that stand out most first."""


def shadows(
    subject: Subject,
    records: Records,
    method: Method,
    name: str,
    *,
    count: int,
    seed: str,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Shadows:
    """Shadows that were trained and then unlearned what they learnt of the candidates.

    ``name`` says what the method is, with its parameters: chunks in the folder are used again only under the same name.
    """
    candidates = records.candidates

    def unlearn(stacked: Params, members: np.ndarray) -> Params:
        done = [
            method({key: value.clone() for key, value in params.items()}, candidates[row], records.retain)
            for params, row in zip(unstack(stacked), members, strict=True)
        ]
        return {key: torch.stack([params[key].detach() for params in done]) for key in stacked}

    unlearn.__qualname__ = f"ulira: {name}"
    return run(
        subject,
        records.retain,
        candidates,
        shadows=count,
        seed=f"{seed}/ulira",
        folder=folder,
        after=unlearn,
        progress=progress,
    )


def attack(
    subject: Subject,
    records: Records,
    method: Method,
    name: str,
    *,
    unlearned: Params,
    retrained: Sequence[Params],
    count: int = 64,
    seed: str,
    folder: Path | None = None,
    progress: Progress | None = None,
    delta: float = 1e-5,
    confidence: float = CONFIDENCE,
) -> ULira:
    """Train and unlearn the shadows, then ask the unlearned and the retrained models. Raises InputError for bad records."""
    records.check(subject)
    if len(retrained) < 2:
        raise InputError(f"expected at least 2 retrained models, got {len(retrained)}")
    made = shadows(subject, records, method, name, count=count, seed=seed, folder=folder, progress=progress)
    normals = lira.fit(made)
    models = [unlearned, *retrained]
    stacked = {key: torch.stack([params[key] for params in models]) for key in unlearned}
    # What was unlearned may be known by less confidence than what was never learnt: scores may fall as it rises.
    scores = lira.online(normals, confidences(subject, stacked, records.candidates), monotone=False)  # (1 + r, m)
    f = len(records.forget)
    pairs = [(row[:f], row[f:]) for row in scores]
    weights = [1.0] + [-1 / len(retrained)] * len(retrained)
    said = Counts(int((pairs[0][0] > 0).sum()), f, int((pairs[0][1] > 0).sum()), scores.shape[1] - f)
    usual = scores[1:, :f].mean(0)
    order = np.argsort(-(scores[0, :f] - usual), kind="stable")
    return ULira(
        method=name,
        shadows=count,
        forgotten=f,
        held_out=scores.shape[1] - f,
        unlearned=roc.auc(*pairs[0], confidence),
        retrained=tuple(roc.auc(*pair, confidence) for pair in pairs[1:]),
        difference=roc.contrast(pairs, weights, confidence),
        epsilon=intervals.epsilon(said, delta=delta, confidence=confidence),
        greatest=intervals.greatest_epsilon(said.members, said.others, delta=delta, confidence=confidence),
        separation=float((np.abs(normals.mean_in - normals.mean_out) / normals.deviation_out).mean()),
        examples=tuple(Ranked(int(i), float(scores[0, i]), float(usual[i])) for i in order),
    )
