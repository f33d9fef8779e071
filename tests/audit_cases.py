"""Audited cases made by hand, so that an attack can make any part otherwise. See tests.cases. ::

case = audited_case()                                  # the usual case, then plan, start and end of an attempt: PASS
verify(case.data(), trust(case), now=NOW)
"""

from dataclasses import replace as copy
from functools import cache
from hashlib import sha256
from typing import Any

from msgspec.structs import replace

from certify.audit import verdict
from certify.audit.verdict import Arm, EpsilonBound, Estimate, Example, Plan, Tail, TruePositives, Utility
from certify.audit_probes import KINDS, NAMES, Also, Probe, Worst, planned
from certify.audit_terms import Figures, Recipe, Rules
from certify.envelope import Envelope
from certify.keys import SigningKey
from certify.statement import TENSOR_ROOT, Audit, AuditData, AuditPlan, Run, Statement, Tree, Unlearning, subject
from certify.trust import AuditPolicy, Trust, TrustedAuditor
from tests.cases import ENVIRONMENT, ORIGIN, TREE, Case, stamp, usual_case

HELD_OUT = Tree(sha256(b"held out").hexdigest(), 100)
PLAN = Plan(seed="drawn by the auditor", shadows=16, retrained=2)


def key(name: str = "auditor") -> SigningKey:
    return _key(name)


@cache
def _key(name: str) -> SigningKey:
    return SigningKey.generate("ed25519")


def around(value: float, width: float = 0.04) -> Estimate:
    return Estimate(value, value - width, value + width)


def arm(name: str, auc: float = 0.5, accuracy: float = 0.9, epsilon: float = 0.0) -> Arm:
    rare = Estimate(0.05, 0.0, 0.2)
    return Arm(
        name,
        around(auc),
        (TruePositives(0.01, rare, Estimate(0.01, 0.0, 0.05)),),
        EpsilonBound(epsilon, 2.5, 0.8, "high", 1.5, 10, 50, 2, 50),
        Tail(rare, rare, rare),
        Utility(accuracy, accuracy, around(0.85), 0.95),
    )


def figures(
    unlearned: float = 0.5, *, original: float = 0.8, accuracy: float = 0.9, forgotten: int = 2
) -> verdict.Figures:
    """AUCs of the arms; the retrained ones have 0.5."""
    return verdict.Figures(
        attack="lira-online",
        forgotten=forgotten,
        held_out=HELD_OUT.count,
        original=arm("original", original, epsilon=1.0),
        unlearned=arm("unlearned", unlearned, accuracy),
        retrained=(arm("retrained 1"), arm("retrained 2")),
        control=around(original - 0.5),
        difference=around(unlearned - 0.5),
        power=0.93,
        examples=tuple(Example(i, 2.0, 0.1, 0.0) for i in range(forgotten)),
    )


PASSED, FAILED = figures(), figures(0.75)
OVER, UNSEEN = figures(0.2), figures(original=0.52)


def probe(name: str = "relearn", value: float = 0.5, **changes: float) -> Probe:
    """Every figure is ``value`` but for those in ``changes``, underscores for hyphens; a bound of ε is 0."""
    kind = KINDS[name]  # type: ignore[index]
    figures = dict.fromkeys(sorted(kind.figures | kind.optional), value)
    figures |= {"epsilon": 0.0} if "epsilon" in figures else {}
    figures |= {name: to for name, to in kind.defaults.items() if name in figures}
    worst = [Worst(1, 2.0), Worst(0, 1.0)] if kind.worst else []
    return Probe(name, figures | {key.replace("_", "-"): float(to) for key, to in changes.items()}, worst)  # type: ignore[arg-type]


PROBES = [probe(name) for name in sorted(NAMES)]
ALSO: list[Also] = [planned(name, {}) for name in sorted(NAMES)]


class Auditor:
    """Says what an auditor says about a case, one statement after another; ``changes`` are to what would be honest."""

    def __init__(self, case: Case, name: str = "auditor", certificate: Envelope | None = None) -> None:
        self.case, self.key = case, key(name)
        self.certificate = certificate or Envelope.parse(case.entries[-1])
        said = Statement.parse(self.certificate.payload).predicate
        assert isinstance(said, Unlearning) and said.removed is not None
        self.unlearning, self.removed = said, said.removed
        self.last: Envelope | None = None
        self.made: Envelope | None = None
        self.attempt = 0
        self.rules = PLAN

    def say(self, said: AuditPlan | Audit, *, by: list[SigningKey] | None = None, shown: bool = True) -> Envelope:
        statement = Statement((subject(TENSOR_ROOT, said.model.tensor_root),), said)
        self.last = self.case.log(self.case.sign(statement, *(by or [self.key])), shown=shown)
        return self.last

    def plan(self, rules: Plan = PLAN, day: int = 22, by: list[SigningKey] | None = None, **changes: Any) -> Envelope:
        plan = AuditPlan(
            log=ORIGIN,
            certificate=self.certificate.digest,
            original=self.unlearning.pre,
            model=self.unlearning.post,
            attack="three-arm-lira/v1",
            rules=Rules.of(rules),
            recipe=Recipe("mlp 4-8-2", 10, 32, "sgd", 0.1, 0.0, 0.0),
            data=AuditData(TREE, self.removed, HELD_OUT),
            adapter=sha256(b"adapter").hexdigest(),
            stale_after_days=180,
            untested=["copies elsewhere"],
            planned=stamp(day),
            previous=self.last.digest if self.last is not None else None,
        )
        self.rules, self.attempt = rules, 0
        self.made = self.say(replace(plan, **changes), by=by)
        return self.made

    def _audit(self, day: int, **changes: Any) -> Audit:
        assert self.made is not None and self.last is not None
        audit = Audit(
            log=ORIGIN,
            run=Run(f"{day:032x}", stamp(day), stamp(day)),
            plan=self.made.digest,
            certificate=self.certificate.digest,
            original=self.unlearning.pre,
            model=self.unlearning.post,
            data=AuditData(TREE, self.removed, HELD_OUT),
            adapter=sha256(b"adapter").hexdigest(),
            seed=self.rules.seed,
            attempt=self.attempt,
            state="started",
            previous=self.last.digest,
            environment=ENVIRONMENT,
        )
        return replace(audit, **changes)

    def start(self, day: int = 23, *, shown: bool = True, **changes: Any) -> Envelope:
        self.attempt += 1
        return self.say(self._audit(day, **changes), shown=shown)

    def finish(
        self,
        found: verdict.Figures = PASSED,
        day: int = 24,
        *,
        shown: bool = True,
        by: list[SigningKey] | None = None,
        **changes: Any,
    ) -> Envelope:
        judged = verdict.judge(self.rules, found)
        fields: dict[str, Any] = {
            "run": Run(f"{self.attempt:032x}", stamp(day - 1), stamp(day)),
            "state": "finished",
            "figures": Figures.of(found),
            "scores": sha256(b"scores").hexdigest(),
            "verdict": judged.outcome,
            "reasons": list(judged.reasons),
            "untested": ["copies elsewhere"],
            "metrics": {"retain-ratio": 1.0},
        }
        return self.say(self._audit(day, **(fields | changes)), shown=shown, by=by)

    def stop(self, day: int = 24, state: str = "interrupted", **changes: Any) -> Envelope:
        return self.say(self._audit(day, state=state, reason="a power cut", **changes))

    def whole(self, found: verdict.Figures = PASSED, day: int = 22) -> Envelope:
        """Plan, start and end."""
        self.plan(day=day)
        self.start(day + 1)
        return self.finish(found, day + 2)


def audited_case(found: verdict.Figures = PASSED) -> Case:
    case = usual_case()
    Auditor(case).whole(found)
    return case


def trust(case: Case, *names: str, policy: AuditPolicy | None = None, **window: Any) -> Trust:
    """Believes the case's operator, and auditors with the keys of these names; by default "auditor" alone."""
    auditors = tuple(
        TrustedAuditor(f"Example Audits {name}".removesuffix(" auditor"), key(name).public, **window)
        for name in names or ("auditor",)
    )
    return copy(case.trust(), auditors=auditors, audits=policy or AuditPolicy())
