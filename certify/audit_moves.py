"""What changed from one audit to the next: of the same certificate, or of its parent's. Pure.

::

    for move in moves(before, after):
        print(move)                     # "AUC less the retrained models': +0.020 -> +0.180, worse, beyond both intervals"

Worse is only what no interval explains: an AUC difference whose interval is above the whole of the earlier one; a lower bound of
ε above what the earlier audit counted, interval left aside; an accuracy lower by more than a percentage point and by more than
twice its standard error, where the number of records is known, and by more than a percentage point where it is not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, log, sqrt

from certify.audit import verdict
from certify.audit_probes import Probe
from certify.audit_terms import EpsilonBound, Figures
from certify.errors import InputError
from certify.statement import Audit

POINT = 0.01
"""A fall of accuracy up to this is told and does not count as worse."""


@dataclass(frozen=True, slots=True)
class Move:
    """One figure, before and after, as they are to be shown."""

    what: str
    before: str
    after: str
    worse: bool
    why: str = ""

    def __str__(self) -> str:
        told = (
            f"{self.what}: {self.before} -> {self.after}"
            if self.before != self.after
            else f"{self.what}: still {self.after}"
        )
        return f"{told}, worse{f', {self.why}' if self.why else ''}" if self.worse else told


def moves(before: Audit, after: Audit) -> tuple[Move, ...]:
    """Verdict, AUC difference, ε and utility, worse or not; of probes that both have, what can be compared. Raises InputError."""
    if before.figures is None or after.figures is None:
        raise InputError("only finished audits can be compared")
    return (
        Move("verdict", str(before.verdict), str(after.verdict), before.verdict == "PASS" and after.verdict != "PASS"),
        _difference(before.figures, after.figures),
        _epsilon(before.figures.unlearned.epsilon, after.figures.unlearned.epsilon),
        *_utility(before, after),
        *_probes(before.probes, after.probes),
    )


def _difference(before: Figures, after: Figures) -> Move:
    old, new = before.difference, after.difference
    was, is_ = (f"{one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})" for one in (old, new))
    return Move(
        "AUC less the retrained models'", was, is_, new.low > old.high, "beyond both intervals: more is given away"
    )


def _epsilon(old: EpsilonBound, new: EpsilonBound) -> Move:
    worse = new.lower > max(old.lower, counted(old))
    return Move("lower bound of ε", f"{old.lower:.2f}", f"{new.lower:.2f}", worse, "above what was counted then")


def counted(bound: EpsilonBound | verdict.EpsilonBound, delta: float = 0.0) -> float:
    """ln((1 − δ − FNR) / FPR) of the counts themselves, as if they were no accident; inf where there is no false alarm."""
    found = bound.hits / bound.members - delta if bound.members else 0.0
    if found <= 0 or not bound.others:
        return 0.0
    return log(found * bound.others / bound.false_alarms) if bound.false_alarms else inf


def _utility(before: Audit, after: Audit) -> Iterator[Move]:
    assert before.figures is not None and after.figures is not None
    retained = [audit.data.training.count - audit.data.forget.count for audit in (before, after)]
    for what, counts in (("retain", retained), ("test", [0, 0])):
        was, is_ = (float(getattr(audit.figures.unlearned.utility, what)) for audit in (before, after))  # type: ignore[union-attr]
        errors = [share * (1 - share) / count for share, count in zip((was, is_), counts, strict=True) if count > 0]
        yield Move(
            f"accuracy on {'retained' if what == 'retain' else what} records",
            f"{100 * was:.1f} %",
            f"{100 * is_:.1f} %",
            was - is_ > max(POINT, 2 * sqrt(sum(errors))),
            "by more than chance",
        )


def _probes(before: list[Probe], after: list[Probe]) -> Iterator[Move]:
    """Those with an interval of a difference are judged by it, the others told."""
    earlier = {probe.name: probe.figures for probe in before}
    for probe in after:
        if (old := earlier.get(probe.name)) is None:
            continue
        new = probe.figures
        for name in sorted(new):
            if name.endswith("difference") and name in old:
                was, is_ = (
                    f"{one[name]:+.3f} ({one[f'{name}-low']:+.3f} to {one[f'{name}-high']:+.3f})" for one in (old, new)
                )
                worse = new[f"{name}-low"] > old[f"{name}-high"]
                yield Move(f"{probe.name}, {name}", was, is_, worse, "beyond both intervals")
        if probe.name == "canaries":
            yield Move(
                "canaries, lower bound of ε",
                f"{old['epsilon']:.2f}",
                f"{new['epsilon']:.2f}",
                new["epsilon"] > 0 and old["epsilon"] == 0,
                "planted canaries were not found before",
            )
