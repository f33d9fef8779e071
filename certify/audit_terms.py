"""What the statements of audits are made of: the rules that were fixed beforehand, the data, and the figures that were found.

Each record has the fields of its namesake in :mod:`certify.audit.verdict`, written out: none has a default, so that a statement
means the same whatever a later version takes for granted. :meth:`Rules.plan` and :meth:`Figures.found` lead back there::

    judge(plan.rules.plan(), audit.figures.found())         # the verdict, by whoever holds both statements
"""

from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from certify.audit import verdict
from certify.errors import StatementError
from certify.fields import Count, Label, Record

THREE_ARM_LIRA: Literal["three-arm-lira/v1"] = "three-arm-lira/v1"
"""The attack: :mod:`certify.audit.arms`."""
MAX_RETRAINED = 16
MAX_EXAMPLES = 10
"""Records that a statement tells one by one. The digest of all scores is beside them."""

T = TypeVar("T")
Share = Annotated[float, Meta(ge=0, le=1)]
Line = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]+$(?!\n)", max_length=4096, description="words in one line")]
Attack = Literal["lira-online", "lira-offline"]


class Claim(Record, frozen=True):
    """An (ε, δ) that somebody vouches for."""

    arm: Literal["original", "unlearned"]
    epsilon: float
    delta: float


class Rules(Record, frozen=True):
    """Everything that decides, fixed before the attack: see :class:`certify.audit.verdict.Plan`."""

    seed: Line
    attack: Attack
    shadows: Count
    retrained: Count
    confidence: Share
    margin: Share
    utility_margin: Share
    tail: Share
    delta: Share
    claim: Claim | None = None

    @classmethod
    def of(cls, plan: verdict.Plan) -> "Rules":
        """Raises StatementError for what a statement cannot hold."""
        return _converted(plan, cls, "the rules of an audit")

    def plan(self) -> verdict.Plan:
        """Raises StatementError for rules that nobody could follow."""
        return _converted(self, verdict.Plan, "the rules of an audit")


class Recipe(Record, frozen=True):
    """How shadows and retrained models learn, and the network that does: a name of the auditor's for it."""

    network: Line
    epochs: Count
    batch: Count
    optimiser: Literal["sgd", "adam"]
    rate: float
    momentum: float
    decay: float


class Estimate(Record, frozen=True):
    """A figure and its interval."""

    value: float
    low: float
    high: float


class TruePositives(Record, frozen=True):
    """The true positive rate at a false positive rate."""

    at: Share
    rate: Estimate
    false_positive_rate: Estimate


class EpsilonBound(Record, frozen=True):
    """The ε that a test refutes, the greatest that it could have, and the counts that both come from."""

    lower: float
    greatest: float
    power: Share
    side: Literal["high", "low"]
    threshold: float
    hits: Count
    members: Count
    false_alarms: Count
    others: Count


class Tail(Record, frozen=True):
    """The share of forgotten records beyond what retrained models' scores reach, and of held-out ones."""

    above: Estimate
    below: Estimate
    held_out_above: Estimate


class Utility(Record, frozen=True):
    """Accuracy on the retained, the test and the forgotten records, and agreement with a retrained model on the test records."""

    retain: Share
    test: Share
    forget: Estimate
    agreement: Share


class Arm(Record, frozen=True):
    """One model under the attack."""

    name: Label
    auc: Estimate
    true_positives: Annotated[list[TruePositives], Meta(max_length=8)]
    epsilon: EpsilonBound
    tail: Tail
    utility: Utility


class Example(Record, frozen=True):
    """One forgotten record, by its place in the forget set, and its scores."""

    record: Count
    original: float
    unlearned: float
    retrained: float


class Figures(Record, frozen=True):
    """All that the attack found; of the records one by one, the few that stand out most."""

    attack: Attack
    forgotten: Count
    held_out: Count
    original: Arm
    unlearned: Arm
    retrained: Annotated[list[Arm], Meta(min_length=2, max_length=MAX_RETRAINED)]
    control: Estimate
    difference: Estimate
    power: Share
    examples: Annotated[list[Example], Meta(max_length=MAX_EXAMPLES)]

    @classmethod
    def of(cls, figures: verdict.Figures) -> "Figures":
        """Raises StatementError for what a statement cannot hold, like a figure that is not a number."""
        worst = replace(figures, examples=figures.examples[:MAX_EXAMPLES])
        return _converted(worst, cls, "the figures of an audit")

    def found(self) -> verdict.Figures:
        """Raises StatementError for figures that contradict themselves, like an interval that leaves out its value."""
        return _converted(self, verdict.Figures, "the figures of an audit")


def one_line(text: str) -> str:
    """Words as a statement can hold them."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:4096] or "nothing was said"


def _converted(value: Any, type_: type[T], what: str) -> T:
    try:
        return msgspec.convert(value, type_, from_attributes=True)
    except ValueError as error:  # msgspec's own is one
        raise StatementError(f"{what}: {error}") from error
