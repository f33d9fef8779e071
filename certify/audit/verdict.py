"""The verdict of an audit, by rules that are written down before the attack. Pure: figures in, one verdict and its reasons out.

Three arms suffer the same attack: the *original* model, the *unlearned* one, and models *retrained* without the forgotten
records. The first rule that applies decides, in this order:

1. FAIL              a claimed ε is below the lower bound that the attack shows
2. OVER-FORGOTTEN    it is right on the forgotten records less often than models that never saw them: this needs no attack
3. INCONCLUSIVE      the original is not detected, or lies within ``margin`` itself: an attack that misses what is known to be
                     there shows nothing
4. FAIL              the unlearned model gives more away than the retrained ones: on average (AUC) or for some records (tail)
5. OVER-FORGOTTEN    its scores of the forgotten records are below those of models that never saw them: AUC or tail
6. FAIL              it lost utility: RA_U / RA_R or TA_U / TA_R is below 1 − ``utility_margin``,
                     and the accuracy below that of every retrained model
7. INCONCLUSIVE      too few records to tell a difference of ``margin``, or the unlearned model from the original
8. PASS              AUC within ``margin`` of the retrained models' and nearer than the original's, shown by the whole interval,
                     and utility kept

A difference of AUC, as an interval [low, high] against the margin m, is always exactly one of::

    within   −m < low and high < m              more   high ≥ m and low > 0
    unclear  anything else                      less   low ≤ −m and high < 0

A model is *detected* if the interval of its AUC is above ½ and above what the retrained models have. An unclear difference
counts as more where the unlearned model is detected, and as less where the interval is below both.

This module needs no other: whoever holds plan and figures derives the verdict again.

>>> place(Estimate(0.01, -0.04, 0.06), margin=0.1)
'within'
>>> place(Estimate(0.14, 0.08, 0.20), margin=0.1)
'more'
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Final, Literal

PASS: Final = "PASS"
FAIL: Final = "FAIL"
INCONCLUSIVE: Final = "INCONCLUSIVE"
OVER_FORGOTTEN: Final = "OVER-FORGOTTEN"

Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE", "OVER-FORGOTTEN"]
Place = Literal["within", "more", "less", "unclear"]
Side = Literal["high", "low"]


@dataclass(frozen=True)
class Estimate:
    """A figure and its two-sided interval, at the plan's confidence."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:  # also where one is not a number
            raise ValueError(f"expected low <= value <= high, got {self.low}, {self.value}, {self.high}")


@dataclass(frozen=True)
class Claim:
    """An (ε, δ) that somebody vouches for: an accountant for the original's training, or whoever unlearned for the removal.

    Of the original: models with and without one record are (ε, δ)-indistinguishable. Of the unlearned: it is from models
    retrained without the records.
    """

    arm: Literal["original", "unlearned"]
    epsilon: float
    delta: float = 0.0

    def __post_init__(self) -> None:
        if not (isfinite(self.epsilon) and self.epsilon >= 0 and 0 <= self.delta < 1):
            raise ValueError(
                f"expected a claimed ε of at least 0 and δ in [0, 1), got ε = {self.epsilon} and δ = {self.delta}"
            )

    def __str__(self) -> str:
        return f"ε = {self.epsilon:g}, δ = {self.delta:g} of the {self.arm} model"


@dataclass(frozen=True)
class Plan:
    """Everything that could be chosen to please, chosen beforehand. Rates and margins are shares of 1."""

    seed: str
    attack: Literal["lira-online", "lira-offline"] = "lira-online"
    shadows: int = 64
    retrained: int = 8
    """At least so many; more make the reference steadier."""
    confidence: float = 0.95
    margin: float = 0.1
    """How far from the retrained models' AUC is still forgotten."""
    utility_margin: float = 0.05
    """How much of the retrained models' accuracy may be missing."""
    tail: float = 0.05
    """The share of retrained models' scores of held-out records that count as extreme, on either side."""
    delta: float = 1e-5
    claim: Claim | None = None

    def __post_init__(self) -> None:
        if self.shadows < 4 or self.shadows % 2:
            raise ValueError(f"expected an even number of at least 4 shadows, got {self.shadows}")
        if self.retrained < 2:
            raise ValueError(f"expected at least 2 retrained models, got {self.retrained}")
        for name in ("confidence", "margin", "utility_margin", "tail"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"expected {name} between 0 and 1, got {getattr(self, name)}")
        if not 0 <= self.delta < 1:
            raise ValueError(f"expected delta in [0, 1), got {self.delta}")
        if self.claim is not None and self.claim.delta > (1 - self.confidence) / 2:
            raise ValueError(
                f"expected a claimed δ of at most {(1 - self.confidence) / 2:g}, half of what may go wrong: with "
                f"{self.claim.delta:g} a model may give everything away by chance"
            )
        if self.claim is not None and self.claim.delta > self.delta:
            raise ValueError(
                f"expected delta to be at least the claim's: a bound at δ = {self.delta:g} says nothing of ε at "
                f"δ = {self.claim.delta:g}"
            )


@dataclass(frozen=True)
class TruePositives:
    """The true positive rate at a false positive rate, with the false alarms that there were."""

    at: float
    rate: Estimate
    false_positive_rate: Estimate


@dataclass(frozen=True)
class EpsilonBound:
    """A test fixed on one half of the records and made on the other: the ε that it refutes, and what it could have refuted."""

    lower: float
    greatest: float
    """What an attack without a mistake would have shown with so many records."""
    power: float
    """The chance to show any ε > 0, had this model given away as much as the original."""
    side: Side
    """Members score high, or, where records were pushed out, low."""
    threshold: float
    hits: int
    members: int
    false_alarms: int
    others: int


@dataclass(frozen=True)
class Tail:
    """The share of forgotten records beyond scores that retrained models rarely reach: above and below. And of held-out ones."""

    above: Estimate
    below: Estimate
    held_out_above: Estimate


@dataclass(frozen=True)
class Utility:
    """Accuracy on each set, and the share of test records that a retrained model labels the same."""

    retain: float
    test: float
    forget: Estimate
    agreement: float


@dataclass(frozen=True)
class Arm:
    """One model under the attack."""

    name: str
    auc: Estimate
    true_positives: tuple[TruePositives, ...]
    epsilon: EpsilonBound
    tail: Tail
    utility: Utility


@dataclass(frozen=True)
class Example:
    """One forgotten record, by its place in the forget set: the scores of the three arms, retrained as their mean."""

    record: int
    original: float
    unlearned: float
    retrained: float


@dataclass(frozen=True)
class Figures:
    """All that the attack found. Differences are AUC less the mean of the retrained models', on the same records."""

    attack: str
    forgotten: int
    held_out: int
    original: Arm
    unlearned: Arm
    retrained: tuple[Arm, ...]
    control: Estimate
    """Original less retrained: what there was to forget, as far as this attack sees it."""
    difference: Estimate
    """Unlearned less retrained: what was not forgotten."""
    power: float
    """The chance that a model which forgot nothing would have been told from the retrained ones, on average."""
    examples: tuple[Example, ...]
    """Every forgotten record, the ones that stand out most first."""


@dataclass(frozen=True)
class Verdict:
    """One outcome, what decided it first, and everything else that was found after it."""

    outcome: Outcome
    reasons: tuple[str, ...]


def place(difference: Estimate, margin: float) -> Place:
    """Where a difference lies, as the module says. Every interval has exactly one place; one that is not a number is unclear."""
    low, high = difference.low, difference.high
    if low > -margin and high < margin:
        return "within"
    if high >= margin and low > 0:
        return "more"
    if low <= -margin and high < 0:
        return "less"
    return "unclear"


def judge(plan: Plan, figures: Figures) -> Verdict:
    """The verdict that the plan's rules give. Every rule is tried; the first that applies decides, the others are reported."""
    found: list[tuple[Outcome, str]] = [(outcome, why) for outcome, rule in _RULES for why in rule(plan, figures)]
    if found:
        return Verdict(found[0][0], (*(why for _, why in found), *_kept(plan, figures), _shown(plan, figures)))
    return Verdict(
        PASS,
        (
            f"the AUC is within {plan.margin:g} of the retrained models': {_signed(figures.difference)}; "
            f"the original's is {_signed(figures.control)}",
            *_kept(plan, figures),
            _shown(plan, figures),
        ),
    )


def _contradicted(plan: Plan, figures: Figures) -> list[str]:
    if plan.claim is None:
        return []
    bound = _of_claim(plan.claim, figures)
    if bound.lower <= plan.claim.epsilon:
        return []
    return [
        f"the {plan.claim.arm} model's ε is at least {bound.lower:.2f}, and {plan.claim.epsilon:g} was claimed, at "
        f"δ = {plan.claim.delta:g}"
    ]


def _of_claim(claim: Claim, figures: Figures) -> EpsilonBound:
    return (figures.original if claim.arm == "original" else figures.unlearned).epsilon


def _kept(plan: Plan, figures: Figures) -> list[str]:
    """Of a claim that no rule contradicts: what that is worth."""
    if plan.claim is None or _contradicted(plan, figures):
        return []
    bound = _of_claim(plan.claim, figures)
    worth = (
        f"the greatest that so few records could have shown is {bound.greatest:.2f}, so that nothing could have contradicted it"
        if bound.greatest <= plan.claim.epsilon
        else f"at least {bound.lower:.2f} is shown, and {bound.greatest:.2f} could have been"
    )
    return [f"the claim of {plan.claim} is not contradicted, which does not prove it: {worth}"]


def _undetected(plan: Plan, figures: Figures) -> list[str]:
    if _detected(figures.original, figures) and place(figures.control, plan.margin) != "within":
        return []
    auc = figures.original.auc
    return [
        f"the attack does not detect the original: its AUC is {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f}), "
        f"{_signed(figures.control)} against the retrained models', expected one that is not within the margin of {plan.margin:g}"
    ]


def _detected(arm: Arm, figures: Figures) -> bool:
    return arm.auc.low > max(0.5, _usual(figures))


def _avoided(arm: Arm, figures: Figures) -> bool:
    return arm.auc.high < min(0.5, _usual(figures))


def _usual(figures: Figures) -> float:
    return sum(arm.auc.value for arm in figures.retrained) / len(figures.retrained)


def _where(plan: Plan, figures: Figures) -> Place:
    """As :func:`place`, with what is unclear decided where the model's own interval decides it."""
    found = place(figures.difference, plan.margin)
    if found != "unclear":
        return found
    if _detected(figures.unlearned, figures):
        return "more"
    return "less" if _avoided(figures.unlearned, figures) else "unclear"


def _known(plan: Plan, figures: Figures) -> list[str]:
    reasons = []
    if _where(plan, figures) == "more":
        reasons.append(f"the AUC is above the retrained models': {_signed(figures.difference)}")
    tail, usual = figures.unlearned.tail, max(arm.tail.above.high for arm in figures.retrained)
    if tail.above.low > max(
        usual, tail.held_out_above.high
    ):  # held-out records too: such a model is odd, and gives nothing away
        reasons.append(
            f"some forgotten records stand out: {_percent(tail.above)} score above {_share(1 - plan.tail)} of the retrained "
            f"models' scores, where at most {_share(usual)} of theirs do and {_percent(tail.held_out_above)} of those held out"
        )
    return reasons


def _pushed_out(plan: Plan, figures: Figures) -> list[str]:
    reasons = []
    if _where(plan, figures) == "less":
        reasons.append(f"the AUC is far below the retrained models': {_signed(figures.difference)}")
    below, usual = figures.unlearned.tail.below, max(arm.tail.below.high for arm in figures.retrained)
    if below.low > usual:
        reasons.append(
            f"some forgotten records stand out by being pushed away: {_percent(below)} score below {_share(1 - plan.tail)} "
            f"of the retrained models' scores, where at most {_share(usual)} of theirs do"
        )
    return reasons


def _wrong(plan: Plan, figures: Figures) -> list[str]:
    accuracy, least = figures.unlearned.utility.forget, min(arm.utility.forget.low for arm in figures.retrained)
    if accuracy.high >= least:
        return []
    return [
        f"the accuracy on the forgotten records is {_percent(accuracy)}, where models that never saw them have "
        f"at least {_share(least)}"
    ]


def _less_useful(plan: Plan, figures: Figures) -> list[str]:
    reasons = []
    for what, name in (("retained", "retain"), ("test", "test")):
        reached = getattr(figures.unlearned.utility, name)
        reference = [getattr(arm.utility, name) for arm in figures.retrained]
        expected = sum(reference) / len(reference)
        if reached < min((1 - plan.utility_margin) * expected, *reference):
            reasons.append(
                f"utility is lost: the accuracy on {what} records is {_share(reached)}, the retrained models' {_share(expected)}"
            )
    return reasons


def _too_few(plan: Plan, figures: Figures) -> list[str]:
    found = _where(plan, figures)
    if found == "unclear":
        what = f"a difference of {plan.margin:g}: {_signed(figures.difference)}"
    elif found == "within" and figures.difference.high >= figures.control.value:
        what = f"{_signed(figures.difference)} from the original's {_signed(figures.control)}"
    else:
        return []
    return [
        f"{figures.forgotten} forgotten and {figures.held_out} held-out records cannot tell {what}; take more records or more "
        f"retrained models"
    ]


_RULES: tuple[tuple[Outcome, Callable[[Plan, Figures], list[str]]], ...] = (
    (FAIL, _contradicted),
    (OVER_FORGOTTEN, _wrong),
    (INCONCLUSIVE, _undetected),
    (FAIL, _known),
    (OVER_FORGOTTEN, _pushed_out),
    (FAIL, _less_useful),
    (INCONCLUSIVE, _too_few),
)


def _shown(plan: Plan, figures: Figures) -> str:
    """The one sentence that every verdict ends with: what the attack showed of the unlearned model, and what it could have."""
    bound = figures.unlearned.epsilon
    verb = f"showed ε ≥ {bound.lower:.2f}" if bound.lower > 0 else "did not show ε > 0"
    return (
        f"attack {figures.attack} {verb} at {_share(plan.confidence)}, with power {bound.power:.2f} against a model that forgot "
        f"nothing; the greatest ε that {bound.members} and {bound.others} records could have shown is {bound.greatest:.2f}"
    )


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.3f} ({estimate.low:+.3f} to {estimate.high:+.3f})"


def _percent(estimate: Estimate) -> str:
    return f"{_share(estimate.value)} ({_share(estimate.low)} to {_share(estimate.high)})"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %" if isfinite(value) else str(value)
