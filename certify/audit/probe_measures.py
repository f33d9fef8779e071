"""Probes that measure: reconstruction from both models, key figures, near-copies and features, relearn time."""

from dataclasses import asdict
from math import prod
from typing import Any

import numpy as np
import torch

from certify.audit import inversion, kpis, neighbours, relearn, text
from certify.audit.adapter import Params, Subject
from certify.audit.arms import Records
from certify.audit.probe_setting import NONE, Found, Functions, Measured, Setting, flat, inputs, places_of
from certify.audit.seeds import seed_of
from certify.audit_probes import Also
from certify.errors import InputError


def inverted(parameters: Found, setting: Setting) -> Measured:
    own, others = (
        inputs(setting, "layer_inputs", places) for places in (setting.records.forget, setting.records.held_out)
    )
    before = _first_layer(setting.original, setting.subject, setting.functions)
    unlearned, *retrained = (
        inversion.probe(
            before,
            _first_layer(params, setting.subject, setting.functions),
            own,
            others,
            directions=int(parameters["directions"]),
            confidence=setting.rules.confidence,
        )
        for params in setting.models[1:]
    )
    best = unlearned.records[0]
    figures = {
        **flat("auc", unlearned.auc),
        "best": best.similarity,
        "control": unlearned.control,
        "best-retrained": float(np.mean([found.records[0].similarity for found in retrained])),
        "candidates": unlearned.candidates,
    }
    if best.error is not None:
        figures["error"] = best.error
    worst = np.empty(len(own))
    worst[[each.record for each in unlearned.records]] = [each.similarity for each in unlearned.records]
    return figures, worst, asdict(unlearned)


def check_inversion(_: Also, subject: Subject, records: Records, functions: Functions) -> None:
    _first_layer(subject.initial(0), subject, functions)


def _first_layer(params: Params, subject: Subject, functions: Functions) -> tuple[np.ndarray, np.ndarray | None]:
    if "first_layer" in functions:
        weight, bias = functions["first_layer"](params)
    else:
        inputs = prod(subject.x.shape[1:])
        fitting = [name for name, value in params.items() if value.dim() == 2 and value.shape[1] == inputs]
        if not fitting or not fitting[0].endswith("weight"):
            raise InputError(
                f"the probe inversion found no weight (o, {inputs}) that takes the inputs: it needs a function first_layer() in "
                f"the adapter, see certify/audit/probes.py"
            )
        weight, bias = params[fitting[0]], params.get(fitting[0].removesuffix("weight") + "bias")
    return tuple(None if value is None else torch.as_tensor(value).detach().cpu().numpy() for value in (weight, bias))  # type: ignore[return-value]


def key_figures(_: Found, setting: Setting) -> Measured:
    subject, records = setting.subject, setting.records
    fresh = subject.initial(seed_of(setting.rules.seed, "kpis/untrained"))
    untrained, unlearned, *retrained = (_answers(setting, params) for params in (fresh, *setting.models[1:]))
    y = subject.y.cpu().numpy()
    labels = kpis.Outputs(y[records.retain], y[records.test], y[records.forget])
    found = kpis.kpis(unlearned, retrained, labels, untrained=untrained, seconds=setting.seconds)
    assert found.zrf is not None
    figures = {
        "completeness": found.completeness.unlearned,
        "completeness-usual": found.completeness.usual,
        "forget-agreement": found.forget.unlearned,
        "forget-agreement-usual": found.forget.usual,
        "retain-ratio": found.retain_ratio,
        "test-ratio": found.test_ratio,
        "zrf": found.zrf.unlearned,
        "zrf-retrained-low": found.zrf.retrained_low,
        "zrf-retrained-high": found.zrf.retrained_high,
        "likeness": found.divergence.unlearned,
        "likeness-usual": found.divergence.usual,
    }
    if found.efficiency is not None:
        figures["efficiency"] = found.efficiency
    apart = [kpis.divergences(unlearned.forget, one.forget) for one in retrained]
    return figures, np.mean(apart, axis=0), asdict(found)


@torch.no_grad()
def _answers(setting: Setting, params: Params) -> kpis.Outputs:
    """Probabilities of the classes. Raises InputError for outputs that are none."""
    subject, sets = setting.subject, []
    for places in (setting.records.retain, setting.records.test, setting.records.forget):
        parts = torch.split(places_of(subject, places), 4096)
        outputs = torch.cat([subject.apply(params, subject.x[part]).cpu() for part in parts]).numpy()
        if outputs.ndim != 2:
            raise InputError(f"the probe kpis needs one row of logits for each record, got outputs {outputs.shape}")
        sets.append(kpis.probabilities(outputs))
    return kpis.Outputs(*sets)


def check_kpis(_: Also, subject: Subject, records: Records, functions: Functions) -> None:
    if isinstance(subject, text.Language):
        raise InputError("the probe kpis needs a model that gives classes: text models have the probe text")


def near_copies(parameters: Found, setting: Setting) -> Measured:
    subject, records = setting.subject, setting.records
    y = subject.y.cpu().numpy()
    own, kept = (inputs(setting, "embed", places) for places in (records.forget, records.retain))
    found = neighbours.neighbours(own, y[records.forget], kept, y[records.retain], share=parameters["share"])
    figures = {"near": found.near, "copies": found.copies, "nearest": found.records[0].distance}
    detail: dict[str, Any] = {"neighbours": asdict(found)}
    if (features := setting.functions.get("features")) is not None:
        seen = [
            tuple(np.asarray(features(params, places), np.float64) for places in (records.forget, records.held_out))
            for params in setting.models[1:]
        ]
        probe = neighbours.feature_leakage(
            seen[0],  # type: ignore[arg-type]
            seen[1:],  # type: ignore[arg-type]
            seed=setting.rules.seed,
            confidence=setting.rules.confidence,
        )
        figures |= flat("features", probe.unlearned) | flat("features-difference", probe.difference)
        detail["features"] = asdict(probe)
    worst = np.empty(len(own))
    worst[[each.record for each in found.records]] = [-each.distance for each in found.records]
    return figures, worst, detail


def check_neighbours(_: Also, subject: Subject, records: Records, functions: Functions) -> None:
    if not subject.x.is_floating_point() and not callable(functions.get("embed")):
        raise InputError(
            "the probe neighbours needs a function embed() in the adapter where inputs are no fractions: see "
            "certify/audit/probes.py"
        )


def relearn_time(parameters: Found, setting: Setting) -> Measured:
    found = relearn.compare(
        setting.subject,
        setting.records.forget,
        original=setting.original,
        unlearned=setting.unlearned,
        retrained=setting.retrained,
        limit=int(parameters["limit"]),
    )
    figures: Found = {
        "steps-original": found.original.steps or 0,
        "limit": found.limit,
        "loss-original": found.target,
        "loss-unlearned": found.unlearned.losses[0],
        "loss-retrained": float(np.mean([arm.losses[0] for arm in found.retrained])),
    }
    if found.unlearned.steps is not None:
        figures["steps-unlearned"] = found.unlearned.steps
    if found.usual is not None:
        figures["steps-retrained-low"], figures["steps-retrained-high"] = found.usual
    if found.index is not None:
        figures["index"] = found.index
    return figures, NONE, asdict(found)
