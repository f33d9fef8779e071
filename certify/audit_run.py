"""Making and following a plan: from an adapter and two models to figures, scores and the statements about them.

    plan = make_plan(target, loaded, rules, …)                # audit-plan/v1, to be logged before anything is attacked
    attack = prepare(plan, target, loaded, …)                 # refuses another model, other data or another adapter
    with attempt(workspace, key, logged_plan, attack) as say: # logs that it starts; however it ends, logs that too
        say(attack.run(folder))                               # figures, verdict, scores

The attack follows from the plan's seed: a plan that is run twice on one machine finds the same, and shadows that were trained
before an attempt was cut off are taken up again.
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import torch
from msgspec.structs import replace

from certify import audit_subject, environment
from certify.audit import arms, kpis, lira, probes, shadows, verdict
from certify.audit.adapter import Params
from certify.audit.probe_setting import Setting
from certify.audit.probes import Outcome
from certify.audit_probes import Also, check_planned
from certify.audit_salts import Salts
from certify.audit_subject import NOT_LINKED, Loaded
from certify.audit_terms import THREE_ARM_LIRA, Figures, Rules, one_line
from certify.auditing import Target, attempts, log
from certify.certificate import new_run_id
from certify.digest import Manifest
from certify.errors import InputError, MismatchError, StatementError
from certify.keys import StatementSigner
from certify.statement import Audit, AuditData, AuditPlan, Environment, Model, Run, Tree
from certify.times import format_time, now, parse_time
from certify.wire import canonical, decode
from certify.workspace import Logged, Workspace

SCORES_FORMAT = "unlearning-ledger/audit-scores/v1"
MAX_SCORES = 1 << 30
UNTESTED = (
    "other attacks than this one, and copies of data or model elsewhere",
    "what the recipe of the shadows, as the auditor knows it, has in common with how the model was trained",
)


def make_plan(
    origin: str,
    target: Target,
    loaded: Loaded,
    rules: verdict.Plan,
    held_out: Tree,
    *,
    stale_after_days: int,
    previous: str | None,
    also: Sequence[Also] = (),
    untested: Iterable[str] = (),
) -> AuditPlan:
    """What would be stated. Raises MismatchError where the adapter's records cannot be those of the certificate, and InputError
    where it lacks what a probe needs."""
    also = sorted(also, key=lambda one: one.name)
    check_planned(also)
    probes.check(also, loaded.subject, loaded.records, loaded.functions)
    data = AuditData(target.training, target.forget, held_out)
    _check_counts(loaded, data)
    certificate = target.certificate
    return AuditPlan(
        log=origin,
        certificate=target.logged.digest,
        original=certificate.pre,
        model=certificate.post,
        attack=THREE_ARM_LIRA,
        rules=Rules.of(rules),
        recipe=loaded.recipe(),
        data=data,
        adapter=loaded.digest,
        stale_after_days=stale_after_days,
        untested=[*UNTESTED, *(one_line(what) for what in (*loaded.untested, *untested))],
        planned=format_time(now()),
        previous=previous,
        also=also,
    )


def _check_counts(loaded: Loaded, data: AuditData) -> None:
    for what, found, expected in (
        ("to forget", len(loaded.records.forget), data.forget.count),
        ("held out", len(loaded.records.held_out), data.held_out.count),
    ):
        if found != expected:
            raise MismatchError(f"the adapter has {found} records {what}, expected {expected}")


@dataclass(frozen=True)
class Result:
    """What an attempt found. ``scores`` are for the auditor's files: with them anybody computes the figures again."""

    figures: verdict.Figures
    verdict: verdict.Verdict
    scores: bytes
    metrics: dict[str, float]
    probes: tuple[Outcome, ...] = ()
    raw: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    """The scores as numbers, (2 + r, m), for pictures."""


@dataclass(frozen=True)
class Attack:
    """A plan with all that it needs, checked."""

    plan: AuditPlan
    loaded: Loaded
    original: Params
    unlearned: Params
    models: tuple[Model, Model]
    data: AuditData
    untested: tuple[str, ...]
    unlearning_seconds: float
    environment: Environment = field(default_factory=environment.describe)
    threads: int = 1

    def run(self, folder: Path, progress: shadows.Progress | None = None) -> Result:
        """Train what is not in ``folder`` yet, attack, judge."""
        with shadows.on_threads(self.threads):
            return self._run(folder, progress)

    def _run(self, folder: Path, progress: shadows.Progress | None) -> Result:
        rules, subject, records = self.plan.rules.plan(), self.loaded.subject, self.loaded.records
        trained = shadows.run(
            subject,
            records.retain,
            records.candidates,
            shadows=rules.shadows,
            seed=rules.seed,
            folder=folder / "shadows",
            progress=progress,
            threads=self.threads,
        )
        began = time.monotonic()
        retrained = arms.retrain(subject, records, rules, threads=self.threads)
        seconds = (time.monotonic() - began) / len(retrained)
        figures = arms.audit(
            rules,
            subject,
            records,
            original=self.original,
            unlearned=self.unlearned,
            retrained=retrained,
            shadows=trained,
        )
        asked = [self.original, self.unlearned, *retrained]
        stacked = {name: [params[name] for params in asked] for name in self.original}
        confidences = np.concatenate(
            [
                shadows.confidences(
                    subject, {name: own[i].unsqueeze(0) for name, own in stacked.items()}, records.candidates
                )
                for i in range(len(asked))
            ]
        )
        attack = lira.online if rules.attack == "lira-online" else lira.offline
        scores = attack(lira.fit(trained), confidences)  # (2 + r, m)
        done = rules.shadows * subject.recipe.epochs
        found = []
        spent = (self.unlearning_seconds, seconds) if self.unlearning_seconds > 0 else None  # stated in whole seconds
        for one in self.plan.also:
            setting = Setting(
                rules,
                subject,
                records,
                self.original,
                self.unlearned,
                retrained,
                self.loaded.functions,
                folder,
                spent,
                None if progress is None else _after(progress, done, self.total),
            )
            found.append(probes.run(one, setting))
            done += probes.epochs([one], subject)
        judged = verdict.judge(rules, figures)
        metrics = self._metrics(figures, seconds)
        return Result(figures, judged, _written(scores, figures), metrics, tuple(found), scores)

    @property
    def total(self) -> int:
        """Epochs of one model that there are to train, those of the retrained models left out."""
        subject = self.loaded.subject
        return self.plan.rules.shadows * subject.recipe.epochs + probes.epochs(self.plan.also, subject)

    def _metrics(self, figures: verdict.Figures, seconds: float) -> dict[str, float]:
        """The three KPIs: forgetting is the verdict and the agreement, then utility, then efficiency."""
        retain, test = kpis.ratios(figures.unlearned.utility, [arm.utility for arm in figures.retrained])
        found = {
            "agreement": figures.unlearned.utility.agreement,
            "retain-ratio": retain,
            "test-ratio": test,
            "retraining-seconds": round(seconds, 3),
            "unlearning-seconds-stated": self.unlearning_seconds,
        }
        return {name: float(value) for name, value in found.items() if math.isfinite(value)}


def prepare(
    plan: AuditPlan,
    target: Target,
    loaded: Loaded,
    *,
    held_out_salts: bytes,
    original: Sequence[Path],
    unlearned: Sequence[Path],
    salts: Salts | None = None,
    threads: int = 1,
) -> Attack:
    """Everything that has to be as planned, before anything is attacked. Raises MismatchError or InputError."""
    if loaded.digest != plan.adapter:
        raise MismatchError(f"the adapter has SHA-256 {loaded.digest}, the plan says {plan.adapter}: make another plan")
    if loaded.recipe() != plan.recipe:
        raise MismatchError(f"the adapter's recipe is {loaded.recipe()}, the plan says {plan.recipe}")
    data = AuditData(target.training, target.forget, audit_subject.held_out(loaded, held_out_salts))
    if data != plan.data:
        raise MismatchError(
            f"the held-out records lead to root {data.held_out.root}, the plan says {plan.data.held_out.root}: they were changed"
        )
    _check_counts(loaded, data)
    untested = [NOT_LINKED] if salts is None else list(audit_subject.check_link(loaded, salts, data))
    arms_: list[Params] = []
    models: list[Model] = []
    for what, paths, expected in (
        ("original", original, target.certificate.pre),
        ("unlearned", unlearned, target.certificate.post),
    ):
        params, manifest, unused = audit_subject.read_model(loaded, paths)
        found = _model(manifest)
        if found != expected:
            raise MismatchError(
                f"the {what} model given has tensor root {found.tensor_root}, the certificate's is {expected.tensor_root}"
            )
        if unused and what == "unlearned":
            untested.append(f"tensors that the adapter does not use: {', '.join(unused)[:3000]}")
        arms_.append(params)
        models.append(found)
    run = target.certificate.run
    seconds = (parse_time(run.finished) - parse_time(run.started)).total_seconds()
    both = (models[0], models[1])
    where = _environment(loaded, threads)
    return Attack(
        plan, loaded, arms_[0], arms_[1], both, data, (*plan.untested, *untested), seconds, where, threads=threads
    )


def _environment(loaded: Loaded, threads: int) -> Environment:
    """Where the attack runs: on these threads, and on the device where the data are, whatever else there is."""
    with shadows.on_threads(threads):
        found = environment.describe()
    device = loaded.subject.x.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return replace(found, device=name)


def _after(progress: shadows.Progress, before: int, total: int) -> shadows.Progress:
    return lambda done, _: progress(before + done, total)


def _model(manifest: Manifest) -> Model:
    return Model(manifest.root().hex(), len(manifest.tensors), str(manifest.nbytes))


# -- attempts ------------------------------------------------------------------------------------------------------------


@dataclass
class Attempt:
    """An attempt that is logged as started."""

    workspace: Workspace
    key: StatementSigner
    started: Audit
    last: Logged
    resumed: bool
    environment: Environment
    """Where it goes on, which is where it started unless it was cut off."""
    logged: Logged | None = None
    """The end, once it is logged."""

    def finish(self, result: Result, untested: Sequence[str]) -> Logged:
        """Log what came out, whatever it is, and where: an attempt that was cut off may have ended on another machine."""
        return self._end(
            state="finished",
            environment=self.environment,
            figures=Figures.of(result.figures),
            scores=sha256(result.scores).hexdigest(),
            verdict=result.verdict.outcome,
            reasons=[one_line(reason) for reason in result.verdict.reasons],
            untested=list(dict.fromkeys(one_line(what) for what in untested)),
            metrics=result.metrics,
            probes=[outcome.probe for outcome in result.probes],
        )

    def stop(self, state: str, reason: str) -> Logged:
        """Log that there will be no result: ``interrupted`` or ``failed``."""
        return self._end(state=state, reason=one_line(reason))

    def _end(self, **changes: object) -> Logged:
        run = replace(self.started.run, finished=format_time(now()))
        ended = replace(self.started, run=run, previous=self.last.digest, **changes)
        self.logged = log(self.workspace, self.key, ended)
        return self.logged


@contextmanager
def attempt(
    workspace: Workspace, key: StatementSigner, chain: Sequence[Logged], plan: Logged, attack: Attack
) -> Iterator[Attempt]:
    """Log that an attempt starts, or go on with one that was cut off; log it too if it is interrupted or fails.

    A process that is killed logs nothing: its attempt stays open in the log, and the next run of the plan goes on with it.
    """
    made = attempts(chain, plan.digest)
    if made and made[-1].state == "started":
        begun = Attempt(workspace, key, made[-1], chain[-1], True, attack.environment)
    else:
        moment = format_time(now())
        statement = Audit(
            log=workspace.origin,
            run=Run(new_run_id(), moment, moment),
            plan=plan.digest,
            certificate=attack.plan.certificate,
            original=attack.models[0],
            model=attack.models[1],
            data=attack.data,
            adapter=attack.loaded.digest,
            seed=attack.plan.rules.seed,
            attempt=(made[-1].attempt if made else 0) + 1,
            state="started",
            previous=chain[-1].digest,
            environment=attack.environment,
        )
        begun = Attempt(workspace, key, statement, log(workspace, key, statement), False, attack.environment)
    try:
        yield begun
    except KeyboardInterrupt:
        if begun.logged is None:
            begun.stop("interrupted", "interrupted by hand")
        raise
    except Exception as error:
        if begun.logged is None:
            begun.stop("failed", f"{type(error).__name__}: {error}")
        raise


# -- scores --------------------------------------------------------------------------------------------------------------


class _Scores(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    forgotten: int
    scores: list[list[float]]
    utilities: list[verdict.Utility]


def _written(scores: np.ndarray, figures: verdict.Figures) -> bytes:
    utilities = [arm.utility for arm in (figures.original, figures.unlearned, *figures.retrained)]
    value = _Scores(SCORES_FORMAT, figures.forgotten, scores.tolist(), utilities)
    return canonical(msgspec.to_builtins(value), what="scores", error=StatementError)


def recompute(plan: verdict.Plan, data: bytes) -> tuple[verdict.Figures, np.ndarray]:
    """Figures from the scores alone, and the scores (2 + r, m). Raises InputError."""
    found = decode(data, _Scores, limit=MAX_SCORES, what="scores", error=InputError)
    if found.format != SCORES_FORMAT:
        raise InputError(f"expected {SCORES_FORMAT}, got {found.format[:80]!r}")
    try:
        scores = np.array(found.scores, dtype=np.float64)
        return arms.compare(plan, scores, found.forgotten, found.utilities), scores
    except (ValueError, IndexError) as error:
        raise InputError(f"scores that no figures follow from: {error}") from error


def check_scores(plan: AuditPlan, audit: Audit, data: bytes) -> np.ndarray:
    """That a logged audit is of these scores, and its figures follow from them. Raises MismatchError."""
    digest = sha256(data).hexdigest()
    if digest != audit.scores:
        raise MismatchError(f"the scores have SHA-256 {digest}, the audit is of {audit.scores}")
    figures, scores = recompute(plan.rules.plan(), data)
    if audit.figures is None or not _close(
        msgspec.to_builtins(Figures.of(figures)), msgspec.to_builtins(audit.figures)
    ):
        raise MismatchError("the figures of the audit do not follow from its scores")
    return scores


def _close(a: object, b: object) -> bool:
    """Equal but for the last digits, in which libraries' special functions differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_close(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_close(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)
    return a == b
