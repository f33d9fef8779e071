"""Probes that attack: planted canaries, the challenge score, labels alone, confidence alone, token probabilities, U-LiRA."""

from collections.abc import Callable
from dataclasses import asdict
from math import isfinite

import numpy as np
import torch

from certify.audit import canaries, label_only, population, text, ulira
from certify.audit import challenge as challenges
from certify.audit.adapter import Params, Subject
from certify.audit.arms import Records
from certify.audit.probe_setting import (
    NONE,
    Found,
    Functions,
    Measured,
    Setting,
    excess,
    flat,
    places_of,
    sure,
    three_arms,
)
from certify.audit.shadows import CHUNK, confidences, train, unstack
from certify.audit_probes import Also
from certify.errors import InputError


def planted(parameters: Found, setting: Setting) -> Measured:
    planted, rules = setting.functions["canaries"](), setting.rules
    guesses = 2 * max(1, round(parameters["guessed"] * len(planted.places) / 2))
    subject = canaries.replaced(setting.subject, planted)  # type: ignore[type-var]
    before, after = (
        canaries.audit(subject, planted, params, guesses=guesses, delta=rules.delta, confidence=rules.confidence)
        for params in (setting.original, setting.unlearned)
    )
    figures = {
        "records": after.records,
        "guesses": after.guesses,
        "correct": after.correct,
        "epsilon": after.epsilon,
        "greatest": after.greatest,
        "chance": after.chance,
        "correct-original": before.correct,
        "epsilon-original": before.epsilon,
    }
    return figures, NONE, {"original": asdict(before), "unlearned": asdict(after)}


def check_canaries(one: Also, subject: Subject, records: Records, functions: Functions) -> None:
    planted = functions["canaries"]()
    if not isinstance(planted, canaries.Canaries):
        raise InputError(f"expected canaries() to return certify.audit.canaries.Canaries, got {type(planted).__name__}")
    out = planted.places[~planted.included]
    if not np.isin(planted.learnt, records.forget).all() or np.isin(out, [*records.forget, *records.retain]).any():
        raise InputError(
            "expected all canaries that were planted among the records to forget, and the others among none that were learnt"
        )
    if one.parameters["guessed"] > 1:
        raise InputError(f"expected a share of canaries to guess, up to 1, got {one.parameters['guessed']:g}")


def challenged(parameters: Found, setting: Setting) -> Measured:
    """Three kinds of models: unlearned, retrained, and retrained again."""
    subject, records, seed = setting.subject, setting.records, f"{setting.rules.seed}/challenge"
    count, learnt = int(parameters["models"]), np.concatenate([records.retain, records.forget])
    sure: list[np.ndarray] = []
    accuracies: list[tuple[float, float]] = []
    for kind, (name, places) in enumerate(
        (("original", learnt), ("retrained", records.retain), ("again", records.retain))
    ):
        parts, right = [], []
        for first in range(0, count, CHUNK):
            seeds = [f"{seed}/{name}/{i}" for i in range(first, min(first + CHUNK, count))]
            models = train(subject, [places] * len(seeds), seeds, _after(setting, (kind * count + first)))
            if name == "original":
                forgotten = [
                    setting.functions["unlearn"](params, records.forget, records.retain) for params in unstack(models)
                ]
                models = {key: torch.stack([one[key].detach() for one in forgotten]) for key in models}
            parts.append(confidences(subject, models, records.forget))
            right.append([_right(subject, models, own) for own in (records.retain, records.test)])
        sure.append(np.concatenate(parts))
        accuracies.append(tuple(np.concatenate(own).mean() for own in zip(*right, strict=True)))
    retain, test = (accuracies[0][i] / accuracies[1][i] for i in (0, 1))
    found = challenges.challenge(*sure, retain_ratio=retain, test_ratio=test)
    figures = {
        "models": count,
        "quality": found.unlearned.quality,
        "quality-retrained": found.retrained.quality,
        "final": found.unlearned.final,
        "final-retrained": found.retrained.final,
        "retain-ratio": retain,
        "test-ratio": test,
    }
    medians = {"median": found.unlearned.median, "median-retrained": found.retrained.median}
    return figures | {name: value for name, value in medians.items() if isfinite(value)}, NONE, asdict(found)


def check_challenge(one: Also, subject: Subject, records: Records, functions: Functions) -> None:
    if one.parameters["models"] < 2 or one.parameters["models"] % 1:
        raise InputError(f"expected at least 2 models for the probe challenge, got {one.parameters['models']:g}")


def _after(setting: Setting, models: int) -> Callable[[int], object] | None:
    """Progress of models that are trained after so many others."""
    if setting.progress is None:
        return None
    progress, before = setting.progress, models * setting.subject.recipe.epochs
    return lambda done: progress(before + done, 0)


@torch.no_grad()
def _right(subject: Subject, models: Params, places: np.ndarray) -> np.ndarray:
    """The accuracy of each model of a stack. -> (S,)"""
    at, count = places_of(subject, places), len(next(iter(models.values())))
    hits = torch.zeros(count, device=at.device)
    for part in torch.split(at, 512):
        x = subject.x[part].expand(count, *[-1] * subject.x.dim())
        hits += (subject.predict(subject.stacked(models, x)) == subject.y[part]).sum(1)
    return np.asarray((hits / len(places)).cpu().numpy(), np.float64)


def labels_alone(parameters: Found, setting: Setting) -> Measured:
    subject, records, rules = setting.subject, setting.records, setting.rules
    disturb = setting.functions.get("disturb")
    if disturb is None:
        learnt = subject.x[places_of(subject, records.retain)]
        disturb = label_only.noise(parameters["noise"] * float(learnt.std()))
    copies = int(parameters["copies"])
    found = [
        label_only.attack(
            subject, params, records.forget, records.held_out, disturb=disturb, copies=copies, seed=rules.seed,
            delta=rules.delta, confidence=rules.confidence,
        )
        for params in setting.models
    ]  # fmt: skip
    f = len(records.forget)
    robust = [
        label_only.robustness(subject, params, records.candidates, disturb=disturb, copies=copies, seed=rules.seed)
        for params in setting.models
    ]
    figures = {
        **three_arms([(row[:f], row[f:]) for row in robust], rules.confidence),
        "gap-unlearned": found[1].gap.value,
        "epsilon": found[1].epsilon,
        "greatest": found[1].greatest,
    }
    return figures, excess(np.array(robust)[:, :f]), [asdict(one) for one in found]


def check_label_only(_: Also, subject: Subject, records: Records, functions: Functions) -> None:
    if not subject.x.is_floating_point() and not callable(functions.get("disturb")):
        raise InputError(
            "the probe label-only needs a function disturb() in the adapter where inputs are no fractions: see "
            "certify/audit/probes.py"
        )


def by_confidence(parameters: Found, setting: Setting) -> Measured:
    """The test records are the population. RMIA's references are every other retrained model, the rest are its arms."""
    records, rules, f = setting.records, setting.rules, len(setting.records.forget)
    asked, theirs = sure(setting, records.candidates), sure(setting, records.test)
    found = population.attack(
        asked[1, :f], asked[1, f:], theirs[1], at=parameters["at"], delta=rules.delta, confidence=rules.confidence
    )
    logs, population_logs = (-np.logaddexp(0, -values) for values in (asked, theirs))  # ln p of a logit
    references, arms = slice(2, None, 2), [0, 1, *range(3, len(asked), 2)]
    ratios = [
        population.rmia(
            logs[arm], logs[references], population_logs[arm], population_logs[references], gamma=parameters["gamma"]
        )
        for arm in arms
    ]
    figures = {
        **three_arms([(row[:f], row[f:]) for row in asked], rules.confidence),
        "found": found.true_positive_rate.value,
        "false-alarms": found.false_positive_rate.value,
        "epsilon": found.epsilon,
        "greatest": found.greatest,
        **three_arms([(row[:f], row[f:]) for row in ratios], rules.confidence, "rmia-"),
    }
    return figures, excess(asked[:, :f]), asdict(found)


def check_population(one: Also, subject: Subject, records: Records, functions: Functions) -> None:
    at = one.parameters["at"]
    if not at < 1 or len(records.test) < 1 / at:
        raise InputError(
            f"the probe population needs a share of false alarms below 1 and at least {1 / at:.0f} test records as the "
            f"population, got {at:g} and {len(records.test)}"
        )


def texts(parameters: Found, setting: Setting) -> Measured:
    subject, records = setting.subject, setting.records
    if isinstance(subject, text.Language):
        device = str(subject.x.device)
        own, others = (subject.texts(places) for places in (records.forget, records.held_out))
        models: list[text.Model] = [lambda ids, p=params: subject.logits(p, ids) for params in setting.models]  # type: ignore[misc]
    else:
        device = "cpu"
        own, others = (setting.functions["texts"](places) for places in (records.forget, records.held_out))
        models = [setting.functions["language_model"](params) for params in setting.models]
    share, confidence = parameters["share"], setting.rules.confidence
    scores = [tuple(text.score(model, side, share=share, device=device) for side in (own, others)) for model in models]
    figures: Found = {}
    for name, of, sign in (
        ("loss", "loss", -1), ("min-k", "min_k", 1), ("min-k-plus", "min_k_plus", 1), ("memorised", "memorised", 1)
    ):  # fmt: skip
        pairs = [(sign * getattr(mine, of), sign * getattr(theirs, of)) for mine, theirs in scores]
        figures |= three_arms(pairs, confidence, f"{name}-")
    detail = [asdict(text.attack(*pair, share=share, confidence=confidence)) for pair in scores]
    return figures, excess(np.array([-mine.loss for mine, _ in scores])), detail


def check_text(one: Also, subject: Subject, records: Records, functions: Functions) -> None:
    if one.parameters["share"] > 1:
        raise InputError(f"expected a share of tokens up to 1 for the probe text, got {one.parameters['share']:g}")
    if isinstance(subject, text.Language):
        return
    for name in ("language_model", "texts"):
        if not callable(functions.get(name)):
            raise InputError(
                f"the probe text needs a function {name}() in the adapter, or a subject certify.audit.text.Language: see "
                f"certify/audit/probes.py"
            )


def unlearned_shadows(parameters: Found, setting: Setting) -> Measured:
    rules = setting.rules
    found = ulira.attack(
        setting.subject,
        setting.records,
        setting.functions["unlearn"],
        str(setting.functions["method"]),
        unlearned=setting.unlearned,
        retrained=setting.retrained,
        count=int(parameters["shadows"]),
        seed=rules.seed,
        folder=None if setting.folder is None else setting.folder / "ulira",
        progress=setting.progress,
        delta=rules.delta,
        confidence=rules.confidence,
    )
    figures = {
        **flat("auc", found.unlearned),
        "auc-retrained": float(np.mean([one.value for one in found.retrained])),
        **flat("difference", found.difference),
        "separation": found.separation,
        "shadows": found.shadows,
        "epsilon": found.epsilon,
        "greatest": found.greatest,
    }
    worst = np.empty(found.forgotten)
    worst[[each.record for each in found.examples]] = [each.unlearned - each.retrained for each in found.examples]
    return figures, worst, asdict(found)


def check_ulira(one: Also, subject: Subject, records: Records, functions: Functions) -> None:
    if not isinstance(functions.get("method"), str):
        raise InputError('the probe ulira needs a name for unlearn() in the adapter, like method = "ascent, 5 steps"')
    if one.parameters["shadows"] % 2 or one.parameters["shadows"] < 4:
        raise InputError(f"expected an even number of at least 4 shadows for ulira, got {one.parameters['shadows']:g}")
