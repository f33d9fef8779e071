"""What probes work with: the models and records of an audit, and what several of them measure alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from certify.audit import roc
from certify.audit.adapter import Params, Subject
from certify.audit.arms import Records
from certify.audit.shadows import Progress, confidences
from certify.audit.verdict import Estimate, Plan

Functions = Mapping[str, Any]
"""Everything in an adapter file, by name."""
Found = dict[str, float]
Pair = tuple[np.ndarray, np.ndarray]
"""Scores of the forgotten (f,) and of the held-out records (h,)."""
NONE = np.zeros(0)
Measured = tuple[Found, np.ndarray, Any]
"""Figures, what makes each forgotten record stand out (f,) or nothing, and all the rest."""


@dataclass(frozen=True)
class Setting:
    """All that a probe may ask for. ``seconds``: of unlearning, as stated, and of retraining one model, as measured here."""

    rules: Plan
    subject: Subject
    records: Records
    original: Params
    unlearned: Params
    retrained: Sequence[Params]
    functions: Functions
    folder: Path | None = None
    seconds: tuple[float, float] | None = None
    progress: Progress | None = None

    @property
    def models(self) -> list[Params]:
        return [self.original, self.unlearned, *self.retrained]


def flat(name: str, estimate: Estimate) -> Found:
    """A figure and the ends of its interval, by their names."""
    return {name: estimate.value, f"{name}-low": estimate.low, f"{name}-high": estimate.high}


def three_arms(pairs: Sequence[Pair], confidence: float, of: str = "") -> Found:
    """AUCs of scores of (forgotten, held-out) records on the original, the unlearned and the retrained models."""
    own = [roc.auc(*pair, confidence) for pair in pairs]
    usual = [estimate.value for estimate in own[2:]]
    more = {"spread": float(np.var(usual, ddof=1)), "trained": len(usual)} if len(usual) > 1 else {}
    difference = roc.contrast(pairs, [0, 1, *[-1 / len(usual)] * len(usual)], confidence, **more)  # type: ignore[arg-type]
    return {
        f"{of}auc-original": own[0].value,
        **flat(f"{of}auc-unlearned", own[1]),
        f"{of}auc-retrained": float(np.mean(usual)),
        **flat(f"{of}difference", difference),
    }


def stack(models: Sequence[Params]) -> Params:
    """Models as one stack, (S, …) each."""
    return {name: torch.stack([params[name] for params in models]) for name in models[0]}


def sure(setting: Setting, places: np.ndarray) -> np.ndarray:
    """Confidences of all arms, model by model. -> (2 + r, n)"""
    return np.concatenate([confidences(setting.subject, stack([params]), places) for params in setting.models])


def places_of(subject: Subject, places: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(places).to(subject.x.device)


def inputs(setting: Setting, name: str, places: np.ndarray) -> np.ndarray:
    """(n, d), by the adapter's function of this name, where it has one."""
    if name in setting.functions:
        return np.asarray(setting.functions[name](places), np.float64)
    return setting.subject.x[places_of(setting.subject, places)].flatten(1).double().cpu().numpy()


def excess(values: np.ndarray) -> np.ndarray:
    """Of the unlearned model, less the retrained ones' mean. (2 + r, n) -> (n,)"""
    return np.asarray(values[1] - values[2:].mean(0))
