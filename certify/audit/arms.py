"""The default audit: one attack on three arms, the original model, the unlearned one and models retrained without the records.

    figures = audit(plan, subject, records, original=…, unlearned=…, retrained=[…], shadows=run(…))
    verdict = judge(plan, figures)

Every arm is asked how sure it is of the records to forget and of records held out, which none of them learnt. Half A of both
fixes the tests, half B is tested; the halves follow from the plan's seed. Comparisons are of scores on the same records.

- *AUC*, on all records, no threshold. A difference between arms has DeLong's paired variance, for the choice of records, and
  that of the retrained models' own AUCs, for the luck of one training; degrees of freedom as Welch and Satterthwaite have it.
- *ε*: side and threshold are the ones that show the most on half A, tested on half B (:class:`EpsilonBound`).
- *Tails*: thresholds are quantiles of the retrained models' scores of held-out records; the shares are of forgotten ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.stats import norm

from certify.audit import intervals, lira, roc
from certify.audit.adapter import Params, Subject
from certify.audit.intervals import Counts
from certify.audit.seeds import generator
from certify.audit.shadows import Shadows, confidences, run, train, unstack
from certify.audit.verdict import Arm, EpsilonBound, Estimate, Example, Figures, Plan, Side, Tail, Utility
from certify.errors import InputError

FALSE_POSITIVE_RATES = (0.001, 0.01)

Pair = tuple[np.ndarray, np.ndarray]
"""Scores of the forgotten (f,) and of the held-out records (h,)."""


@dataclass(frozen=True)
class Records:
    """Places in a subject's x and y. Held-out records are of the same kind as those to forget; nobody learns ``test`` either."""

    retain: np.ndarray
    forget: np.ndarray
    held_out: np.ndarray
    test: np.ndarray

    @property
    def candidates(self) -> np.ndarray:
        """What is attacked: the forget set, then the held-out records."""
        return np.concatenate([self.forget, self.held_out])

    def check(self, subject: Subject) -> None:
        """Raises InputError if sets are too small or share a record, or if a held-out record is equal to one learnt."""
        named = {name: getattr(self, name) for name in ("retain", "forget", "held_out", "test")}
        for name, least in (("retain", 1), ("forget", 8), ("held_out", 8), ("test", 1)):
            if len(named[name]) < least:
                raise InputError(f"expected at least {least} records to be in '{name}', got {len(named[name])}")
        every = np.concatenate(list(named.values()))
        if len(np.unique(every)) != len(every) or every.min() < 0 or every.max() >= len(subject.y):
            raise InputError("expected every record in at most one of retain, forget, held_out and test")
        learnt = set(_contents(subject, np.concatenate([self.retain, self.forget])))
        copies = sum(record in learnt for record in _contents(subject, self.held_out))
        if copies:
            raise InputError(
                f"expected held-out records that nobody learnt, got {copies} equal to learnt ones: leave them out"
            )


def split(count: int, seed: str, *, forget: int, held_out: int, test: int) -> Records:
    """Records of all four sets drawn at random, the rest to retain. For experiments: a real forget set is not drawn."""
    order = generator(seed, "split").permutation(count)
    if forget + held_out + test >= count:
        raise ValueError(f"expected records left to retain, got {forget} + {held_out} + {test} of {count}")
    ends = np.cumsum([forget, held_out, test])
    parts = np.split(order, ends)
    return Records(retain=parts[3], forget=parts[0], held_out=parts[1], test=parts[2])


def retrain(subject: Subject, records: Records, plan: Plan, *, threads: int = 1) -> list[Params]:
    """As many models as the plan says, trained from fresh seeds on what is retained. ``threads`` as in :func:`shadows.run`."""
    seeds = [f"{plan.seed}/retrained/{i}" for i in range(plan.retrained)]
    return list(unstack(train(subject, [records.retain] * plan.retrained, seeds, threads=threads)))


def greatest(plan: Plan, forgotten: int, held_out: int) -> float:
    """The ε that an attack without a mistake would show of so many records. Half of them are tested."""
    tested = (count - count // 2 for count in (forgotten, held_out))
    return intervals.greatest_epsilon(*tested, delta=plan.delta, confidence=plan.confidence)


def audit(
    plan: Plan,
    subject: Subject,
    records: Records,
    *,
    original: Params,
    unlearned: Params,
    retrained: Sequence[Params],
    shadows: Shadows | None = None,
) -> Figures:
    """The same attack on every arm, and everything that the verdict needs. Without shadows, they are trained here.

    Raises InputError for records or arms that an audit cannot rest on.
    """
    records.check(subject)
    if len(retrained) < plan.retrained:
        raise InputError(f"expected at least {plan.retrained} retrained models, as the plan says, got {len(retrained)}")
    if shadows is None:
        shadows = run(subject, records.retain, records.candidates, shadows=plan.shadows, seed=plan.seed)
    if shadows.confidences.shape != (plan.shadows, len(records.candidates)):
        raise InputError(f"expected {plan.shadows} shadows of these candidates, got {shadows.confidences.shape}")
    models = [original, unlearned, *retrained]
    asked = np.concatenate([confidences(subject, _stack(params), records.candidates) for params in models])  # (a, m)
    if not np.isfinite(asked).all():
        raise InputError("expected models with finite outputs, got NaN or infinity: such a model cannot be released")
    attack = lira.online if plan.attack == "lira-online" else lira.offline
    scores = attack(lira.fit(shadows), asked)  # (a, m)
    predictions = [_predict(subject, params, records.test) for params in models]
    utilities = [_utility(subject, params, records, plan) for params in models]
    return compare(plan, scores, len(records.forget), _agreeing(utilities, predictions))


def compare(plan: Plan, scores: np.ndarray, forgotten: int, utilities: Sequence[Utility]) -> Figures:
    """Figures from scores alone: row 0 the original's, row 1 the unlearned's, then the retrained ones'; first forgotten columns.

    scores: (2 + r, m)
    """
    pairs: list[Pair] = [(row[:forgotten], row[forgotten:]) for row in scores]  # (f,), (h,) each
    reference = len(pairs) - 2
    held_out = scores.shape[1] - forgotten
    halves = [_halves(forgotten, plan.seed, "forget"), _halves(held_out, plan.seed, "held-out")]
    first, second = ([(pair[0][halves[0][i]], pair[1][halves[1][i]]) for pair in pairs] for i in (0, 1))
    tests = [_fix(pair, plan) for pair in first]
    bounds = np.quantile(np.concatenate([others for _, others in pairs[2:]]), [plan.tail, 1 - plan.tail])
    counts = [_count(pair, *test) for pair, test in zip(second, tests, strict=True)]
    power = _test_power(counts[0], plan)
    names = ["original", "unlearned", *(f"retrained {i + 1}" for i in range(reference))]
    made = [
        Arm(
            name=name,
            auc=roc.auc(*pairs[i], plan.confidence),
            true_positives=tuple(roc.true_positives(*pairs[i], at, plan.confidence) for at in FALSE_POSITIVE_RATES),
            epsilon=_bound(counts[i], tests[i], power, plan),
            tail=_tail(pairs[i], bounds, plan),
            utility=utilities[i],
        )
        for i, name in enumerate(names)
    ]
    mean = [-1 / reference] * reference
    spread = float(np.var([arm.auc.value for arm in made[2:]], ddof=1))
    control, difference = (
        roc.contrast(pairs, weights, plan.confidence, spread=spread, trained=reference)
        for weights in ([1, 0, *mean], [0, 1, *mean])
    )
    return Figures(
        attack=plan.attack,
        forgotten=forgotten,
        held_out=held_out,
        original=made[0],
        unlearned=made[1],
        retrained=tuple(made[2:]),
        control=control,
        difference=difference,
        power=_power(control, plan),
        examples=_ranked(scores[:, :forgotten]),
    )


def _halves(count: int, seed: str, label: str) -> tuple[np.ndarray, np.ndarray]:
    order = generator(seed, f"halves/{label}").permutation(count)
    return order[: count // 2], order[count // 2 :]


def _fix(pair: Pair, plan: Plan) -> tuple[Side, float]:
    """The side and the threshold that show the most ε on these records; among equals, the one that is right most often."""
    members, others = pair
    tail = (1 - plan.confidence) / 2
    sides: tuple[tuple[Side, int], ...] = (("high", 1), ("low", -1))
    options = []
    for side, sign in sides:
        found = roc.curve(sign * members, sign * others)
        hits, alarms = found.true_positive_rate[1:], found.false_positive_rate[1:]
        missed = len(members) - np.rint(hits * len(members)).astype(int)
        fnr = intervals.upper(missed, len(members), tail)
        fpr = intervals.upper(np.rint(alarms * len(others)).astype(int), len(others), tail)
        shown = intervals.refuted(fnr, fpr, plan.delta)
        at = int(np.lexsort((hits - alarms, shown))[-1])
        options.append((float(shown[at]), float(hits[at] - alarms[at]), side, sign * float(found.thresholds[1:][at])))
    _, _, side, threshold = max(options, key=lambda option: option[:2])
    return side, threshold


def _count(pair: Pair, side: Side, threshold: float) -> Counts:
    hits, alarms = (int((values >= threshold if side == "high" else values <= threshold).sum()) for values in pair)
    return Counts(hits, len(pair[0]), alarms, len(pair[1]))


def _test_power(original: Counts, plan: Plan) -> float:
    """The chance to show any ε with tests of this size, were an arm's rates those of the original's test."""
    rates = (original.hits / original.members, original.false_alarms / original.others)
    return intervals.power(original.members, original.others, *rates, delta=plan.delta, confidence=plan.confidence)


def _bound(counts: Counts, test: tuple[Side, float], power: float, plan: Plan) -> EpsilonBound:
    members, others = counts.members, counts.others
    return EpsilonBound(
        lower=intervals.epsilon(counts, delta=plan.delta, confidence=plan.confidence),
        greatest=intervals.greatest_epsilon(members, others, delta=plan.delta, confidence=plan.confidence),
        power=power,
        side=test[0],
        threshold=test[1],
        hits=counts.hits,
        members=members,
        false_alarms=counts.false_alarms,
        others=others,
    )


def _tail(pair: Pair, bounds: np.ndarray, plan: Plan) -> Tail:
    (low, high), (forgotten, held_out) = bounds, pair
    return Tail(
        above=intervals.rate(int((forgotten > high).sum()), len(forgotten), plan.confidence),
        below=intervals.rate(int((forgotten < low).sum()), len(forgotten), plan.confidence),
        held_out_above=intervals.rate(int((held_out > high).sum()), len(held_out), plan.confidence),
    )


def _power(control: Estimate, plan: Plan) -> float:
    """The chance that the interval of a difference such as the control's is above 0, at the control's precision."""
    quantile = float(norm.ppf((1 + plan.confidence) / 2))
    error = (control.high - control.low) / 2 / quantile
    return float(norm.cdf(control.value / error - quantile)) if error else float(control.value > 0)


def _ranked(scores: np.ndarray) -> tuple[Example, ...]:
    """Forgotten records, those whose unlearned score is furthest above the retrained models' first. scores: (2 + r, f)"""
    usual = scores[2:].mean(0)
    order = np.argsort(-(scores[1] - usual), kind="stable")
    return tuple(Example(int(i), float(scores[0, i]), float(scores[1, i]), float(usual[i])) for i in order)


@torch.no_grad()
def _predict(subject: Subject, params: Params, places: np.ndarray) -> np.ndarray:
    parts = torch.split(torch.from_numpy(places).to(subject.x.device), 4096)
    answers = [subject.predict(subject.apply(params, subject.x[part])).cpu() for part in parts]
    return torch.cat(answers).numpy()


def _utility(subject: Subject, params: Params, records: Records, plan: Plan) -> Utility:
    right = {
        name: _predict(subject, params, places) == subject.y.cpu().numpy()[places]
        for name, places in (("retain", records.retain), ("test", records.test), ("forget", records.forget))
    }
    forget = intervals.rate(int(right["forget"].sum()), len(records.forget), plan.confidence)
    return Utility(float(right["retain"].mean()), float(right["test"].mean()), forget, agreement=0.0)


def _agreeing(utilities: list[Utility], predictions: list[np.ndarray]) -> list[Utility]:
    """With the agreement filled in: with the first retrained model, and of that one with the second."""
    with_whom = [2] * len(predictions)
    with_whom[2] = 3
    return [
        replace(utility, agreement=float((own == predictions[other]).mean()))
        for utility, own, other in zip(utilities, predictions, with_whom, strict=True)
    ]


def _stack(params: Params) -> Params:
    return {name: value.unsqueeze(0) for name, value in params.items()}


def _contents(subject: Subject, places: np.ndarray) -> list[bytes]:
    x, y = subject.x.cpu().numpy(), subject.y.cpu().numpy()
    return [x[place].tobytes() + y[place].tobytes() for place in places]
