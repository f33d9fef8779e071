"""Running the probes that a plan names, on the models and records of its audit: from attacks to figures for the statement.

    check(also, subject, records, functions)            # before the plan is logged: what is missing, by name
    outcomes = [run(one, setting) for one in plan.also]

What a probe needs beyond model and data are functions of the adapter file::

    unlearn(params, forget, retain) -> params           # ulira, challenge: the method; forget and retain are places in x
    method = "ascent, 5 steps at rate 0.3"              # ulira: its name; change it when a parameter changes
    canaries() -> certify.audit.canaries.Canaries       # canaries: places, wrong labels, and the coins
    disturb(x, generator) -> x                          # label-only: another copy of inputs, instead of normal noise
    first_layer(params) -> (W, b)                       # inversion: instead of the first weight that fits the inputs
    layer_inputs(places) -> (n, d) array                # inversion: what that layer sees, instead of x
    embed(places) -> (n, k) array                       # neighbours: where near means alike, instead of x
    features(params, places) -> (n, k) array            # neighbours: probes what the model knows inside
    language_model(params) -> callable                  # text: from ids (B, T) to logits (B, T, V); not for text.Language
    texts(places) -> lists of token ids                 # text; not for text.Language

Everything random follows from the plan's seed. Every probe that has arms is made on the original, the unlearned and the
retrained models.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from certify.audit import (
    probe_attacks,
    probe_measures,
)
from certify.audit.adapter import Subject
from certify.audit.arms import Records
from certify.audit.probe_setting import (
    Found,
    Functions,
    Measured,
    Setting,
)
from certify.audit_probes import MAX_WORST, MOST, Also, Name, Probe, Worst
from certify.errors import InputError


@dataclass(frozen=True)
class Outcome:
    """``probe`` is for the statement; ``detail``, everything that was measured, for the auditor's files."""

    probe: Probe
    detail: Any


def check(also: Sequence[Also], subject: Subject, records: Records, functions: Functions) -> None:
    """That subject and adapter have what the probes need. Raises InputError, which names the function that is missing."""
    for one in also:
        for name in _NEEDS.get(one.name, ()):
            if not callable(functions.get(name)):
                raise InputError(
                    f"the probe {one.name} needs a function {name}() in the adapter: see certify/audit/probes.py"
                )
        if (more := _CHECKS.get(one.name)) is not None:
            more(one, subject, records, functions)


def run(one: Also, setting: Setting) -> Outcome:
    """One probe. Raises InputError where its figures are not finite numbers."""
    figures, worst, detail = _PROBES[one.name](one.parameters, setting)
    for name, value in figures.items():
        if not abs(value) <= MOST:
            raise InputError(f"expected finite figures of the probe {one.name}, up to {MOST:g}, got {value} for {name}")
    told = [Worst(int(place), float(worst[place])) for place in np.argsort(-worst, kind="stable")[:MAX_WORST]]
    return Outcome(Probe(one.name, {name: float(value) for name, value in figures.items()}, told), detail)


def epochs(also: Sequence[Also], subject: Subject) -> int:
    """How many epochs of one model the probes will train, for progress."""
    models = {"ulira": ("shadows", 1), "challenge": ("models", 3)}
    planned = [(one, *models[one.name]) for one in also if one.name in models]
    return sum(int(one.parameters[name]) * times for one, name, times in planned) * subject.recipe.epochs


_NEEDS: Mapping[Name, Sequence[str]] = {"ulira": ("unlearn",), "challenge": ("unlearn",), "canaries": ("canaries",)}


_CHECKS: Mapping[Name, Callable[[Also, Subject, Records, Functions], None]] = {
    "canaries": probe_attacks.check_canaries,
    "challenge": probe_attacks.check_challenge,
    "inversion": probe_measures.check_inversion,
    "kpis": probe_measures.check_kpis,
    "label-only": probe_attacks.check_label_only,
    "neighbours": probe_measures.check_neighbours,
    "population": probe_attacks.check_population,
    "text": probe_attacks.check_text,
    "ulira": probe_attacks.check_ulira,
}


_PROBES: Mapping[Name, Callable[[Found, Setting], Measured]] = {
    "canaries": probe_attacks.planted,
    "challenge": probe_attacks.challenged,
    "inversion": probe_measures.inverted,
    "kpis": probe_measures.key_figures,
    "label-only": probe_attacks.labels_alone,
    "neighbours": probe_measures.near_copies,
    "population": probe_attacks.by_confidence,
    "relearn": probe_measures.relearn_time,
    "text": probe_attacks.texts,
    "ulira": probe_attacks.unlearned_shadows,
}
