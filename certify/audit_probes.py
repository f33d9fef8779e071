"""Probes: what an audit may look at beside the verdict, what each has to measure, and what that means in words.

A plan names its probes, with every parameter; a finished audit has the figures of exactly these, and nothing follows from them::

    Also("relearn", {"limit": 200.0})                                          # in audit-plan/v1
    Probe("relearn", {"steps-original": 0, "steps-unlearned": 1, "steps-retrained-low": 29, …})    # in audit/v1
    said(probe)         # "it takes 1 step until the unlearned model is as good on the forgotten records …"

The words are made from the figures by whoever reads them, so that no auditor can put others in their place. ``x-low`` and
``x-high`` are the ends of the interval of ``x``, at the plan's confidence. Nothing here imports torch: verifiers read it, too.
The probes themselves are run by :mod:`certify.audit.probes`.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

from msgspec import Meta

from certify.audit_probe_kinds import KINDS as KINDS
from certify.audit_probe_kinds import NAMES as NAMES
from certify.audit_probe_kinds import Name as Name
from certify.errors import StatementError
from certify.fields import Count, Label, Record

MAX_WORST = 10
"""Records that a probe tells one by one."""
MOST = 1e12
"""No figure is larger, on either side of 0."""


class Also(Record, frozen=True):
    """A planned probe, with all its parameters."""

    name: Name
    parameters: dict[Label, float]


class Worst(Record, frozen=True):
    """A forgotten record that stands out, by its place in the forget set; the larger the value, the more."""

    record: Count
    value: float


class Probe(Record, frozen=True):
    """What a probe measured: figures by name, and the records that stand out most, the worst first."""

    name: Name
    figures: dict[Label, float]
    worst: Annotated[list[Worst], Meta(max_length=MAX_WORST)]


def said(probe: Probe) -> str:
    """One sentence: what came out."""
    return KINDS[probe.name].says(probe.figures)


def limits(name: Name) -> str:
    """One sentence: what it does not show."""
    return KINDS[name].limits


def canaries_found(probes: Sequence[Probe]) -> bool:
    """Whether records that the auditor planted show in the unlearned model, beyond chance."""
    return any(probe.name == "canaries" and probe.figures["epsilon"] > 0 for probe in probes)


def planned(name: str, parameters: Mapping[str, float]) -> Also:
    """With the defaults of what is not given. Raises StatementError for what no probe has."""
    if name not in KINDS:
        raise StatementError(f"expected a probe, one of {', '.join(NAMES)}, got {name!r}")
    kind = KINDS[name]  # type: ignore[index]
    if unknown := sorted(set(parameters) - set(kind.defaults)):
        has = ", ".join(sorted(kind.defaults)) or "none"
        raise StatementError(f"the probe {name} has no parameter {unknown[0]!r}, expected one of: {has}")
    for what, value in parameters.items():
        if not 0 < value <= 1e6:
            raise StatementError(f"expected a {what} above 0 and up to 1,000,000 for the probe {name}, got {value:g}")
    return Also(name, {what: float(value) for what, value in {**kind.defaults, **parameters}.items()})  # type: ignore[arg-type]


def check_planned(also: Sequence[Also]) -> None:
    """Each once, in the order of their names, with all parameters and no others. Raises StatementError."""
    _check_order([one.name for one in also])
    for one in also:
        if planned(one.name, one.parameters) != one:
            raise StatementError(f"the probe {one.name} is planned without some of its parameters")


def check_found(probes: Sequence[Probe]) -> None:
    """Each once, in the order of their names, with the figures of its kind and no others. Raises StatementError."""
    _check_order([probe.name for probe in probes])
    for probe in probes:
        kind, names = KINDS[probe.name], frozenset(probe.figures)
        if missing := sorted(kind.figures - names):
            raise StatementError(f"the probe {probe.name} has no figure {missing[0]!r}")
        if unknown := sorted(names - kind.figures - kind.optional):
            raise StatementError(f"the probe {probe.name} has a figure that it does not measure, {unknown[0][:80]!r}")
        if any(not abs(value) <= MOST for value in (*probe.figures.values(), *(one.value for one in probe.worst))):
            raise StatementError(f"the probe {probe.name} has a figure that is not within ±{MOST:g}")
        for name in names:
            low, high = f"{name}-low", f"{name}-high"
            if {low, high} <= names and not probe.figures[low] <= probe.figures[name] <= probe.figures[high]:
                raise StatementError(f"the probe {probe.name} has a figure {name!r} outside its own interval")
        values = [one.value for one in probe.worst]
        if values != sorted(values, reverse=True):
            raise StatementError(f"the probe {probe.name} does not tell its worst records first")


def _check_order(names: Sequence[str]) -> None:
    if list(names) != sorted(set(names)):
        raise StatementError("probes are not in the order of their names, or one is there twice")
