"""The audits of a case: verdict, power, reasons, figures with their intervals, and what was tried before.

The figures are those of the auditor's signed statement, from which the verifier derived the verdict again. The scores of all
records are not in it, only their digest: ROC curves and histograms are here for whoever has them from the auditor.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from math import ceil, floor, log10

from certify.audit import verdict
from certify.audit_moves import counted
from certify.audit_probes import KINDS, canaries_found, said
from certify.audits import Audited
from certify.chain import Link
from certify.report import chart
from certify.report.chart import Row, Scale
from certify.report.markup import Markup, join, section, table, tag
from certify.report.words import LOOKS, VERDICTS, estimate, figure, figure_of, percent
from certify.statement import Audit, AuditPlan

_MOST = 1e6
"""Figures beyond are drawn at the edge."""


Pictures = Mapping[int, Mapping[str, str]]
"""SVG texts by name, for the audit at an entry."""
_PICTURES = {
    "roc": "ROC curves on log axes: the share of forgotten records that the attack finds, at each share of false alarms.",
    "histograms": "The scores of forgotten and of held-out records under each model: where they differ, the attack tells them.",
}


def audits(found: Sequence[Audited], links: Sequence[Link], pictures: Pictures) -> Markup:
    """A section; ``links`` are the statements of the bundle that verified."""
    if not found:
        return section(
            "Audits", tag("p", "No auditor that the trust file names has attacked this model, or none in this case.")
        )
    by_index = {link.index: link.statement.predicate for link in links}
    plans = {link.digest: link.statement.predicate for link in links}
    parts: list[Markup] = []
    for audited in found:
        audit = by_index[audited.index]
        parts.append(_heading(audited))
        if isinstance(audit, Audit) and audit.figures is not None:
            plan = plans[audit.plan]
            assert isinstance(plan, AuditPlan)
            parts += _figures(audited, audit.figures.found(), plan.rules.plan())
            parts += [_picture(name, svg) for name, svg in pictures.get(audited.index, {}).items()]
            if audit.metrics:
                rows = [(name, f"{value:g}") for name, value in sorted(audit.metrics.items())]
                parts.append(table(f"Measured by {audited.auditor} besides.", ("Measure", "Value"), rows))
            parts += _beside(audited)
            parts += _moved(audited)
        parts.append(_details("What was not tested", audited.untested))
        parts.append(_details(f"Every plan and attempt of {audited.auditor}", audited.history))
    return section("Audits", parts)


def _heading(audited: Audited) -> Markup:
    mark = tag("span", audited.verdict, class_=f"mark {LOOKS[audited.verdict]}")
    stale = tag("span", f"stale: {audited.age_days} days old", class_="mark warn") if audited.stale else None
    reasons = tag("ul", (tag("li", reason) for reason in audited.reasons)) if audited.reasons else None
    power = (
        tag(
            "p", f"Power {figure(audited.power)}: the chance that a model which forgot nothing would have been noticed."
        )
        if audited.finished
        else None
    )
    planted = tag("span", "planted canaries found", class_="mark bad") if canaries_found(audited.probes) else None
    worse = tag("span", "worse than before", class_="mark bad") if any(move.worse for move in audited.moves) else None
    named = tag("h3", audited.auditor, *(part for one in (mark, stale, planted, worse) if one for part in (" ", one)))
    return join(named, tag("p", VERDICTS[audited.verdict]), power, reasons)


def _beside(audited: Audited) -> Iterator[Markup]:
    """What the probes came to: planned beforehand, told whatever came out, and without a say in the verdict."""
    if not audited.probes:
        return
    yield tag("h4", "Beside the verdict")
    yield tag(
        "p",
        "Planned before the attack, and told whatever came out. Nothing of it changes the verdict. The words are made from the "
        "figures.",
        class_="soft",
    )
    for probe in audited.probes:
        kind = KINDS[probe.name]
        rows = [(name, figure_of(value)) for name, value in sorted(probe.figures.items())]
        shown: list[Markup] = [table("Every figure, those of intervals by their ends.", ("Figure", "Value"), rows)]
        if probe.worst:
            places = [(f"place {one.record}", figure_of(one.value)) for one in probe.worst]
            shown.append(table(f"Forgotten records that stand out most: {kind.worst}.", ("Record", "Value"), places))
        loud = canaries_found([probe])
        said_ = tag(
            "p",
            tag("strong", f"{probe.name}: {kind.asks}"),
            " ",
            _sentence(said(probe)),
            class_="bad" if loud else None,
        )
        yield join(said_, tag("p", f"{kind.limits}.", class_="soft"))
        yield tag("details", tag("summary", f"All {len(rows)} figures of {probe.name}"), *shown)


def _moved(audited: Audited) -> Iterator[Markup]:
    """Against the same auditor's finished audit before this one, or against the one before the certificate."""
    if not audited.moves:
        return
    rows = [
        (
            move.what,
            move.before,
            move.after,
            tag("strong", f"worse{f': {move.why}' if move.why else ''}") if move.worse else "–",
        )
        for move in audited.moves
    ]
    caption = (
        f"Since the audit by {audited.auditor} before this one, of this certificate or of the one that it followed. Worse is "
        f"only what the intervals of both do not explain."
    )
    yield table(caption, ("Figure", "Before", "Now", "Change"), rows)


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _figures(audited: Audited, figures: verdict.Figures, plan: verdict.Plan) -> Iterator[Markup]:
    arms = [figures.original, figures.unlearned, *figures.retrained]
    yield _areas(arms, figures, plan)
    yield _epsilons(arms, plan)
    yield _table(audited, arms, figures)
    if figures.examples:
        yield _examples(figures)


def _areas(arms: Sequence[verdict.Arm], figures: verdict.Figures, plan: verdict.Plan) -> Markup:
    usual = sum(_within(arm.auc.value, 0, 1) for arm in figures.retrained) / len(figures.retrained)
    ends = [_within(end, 0, 1) for arm in arms for end in (arm.auc.low, arm.auc.high)]
    low = floor(10 * _within(min(0.5, usual - plan.margin, *ends), 0, 1)) / 10
    high = ceil(10 * _within(max(0.5, usual + plan.margin, *ends), 0, 1)) / 10
    ticks = [round(low + place / 10, 1) for place in range(round(10 * (high - low)) + 1)]
    drawn = chart.intervals(
        [Row(arm.name, _look(place), arm.auc, estimate(arm.auc)) for place, arm in enumerate(arms)],
        Scale(low, high),
        title=f"Area under the ROC curve of {len(arms)} models with intervals",
        under="area under the ROC curve (AUC)",
        ticks=ticks,
        line=0.5,
        band=(usual - plan.margin, usual + plan.margin),
    )
    caption = (
        f"How well the attack tells {figures.forgotten:,} forgotten records from {figures.held_out:,} that nobody learnt, with "
        f"{percent(plan.confidence)} intervals. Dashed: 0.5, mere guessing. Grey: within the margin of {plan.margin:g} of the "
        f"models retrained without them, where the unlearned model should be. The original, which learnt them, should stand "
        f"out: if it does not, the attack shows nothing."
    )
    return tag("figure", drawn, tag("figcaption", caption))


def _epsilons(arms: Sequence[verdict.Arm], plan: verdict.Plan) -> Markup:
    greatest = _within(max(arm.epsilon.greatest for arm in arms), 0, _MOST)
    step = _step(greatest)
    drawn = chart.intervals(
        [
            Row(
                arm.name,
                _look(place),
                _from_zero(arm.epsilon.lower),
                f"ε ≥ {figure(arm.epsilon.lower)}",
                as_counted if (as_counted := counted(arm.epsilon, plan.delta)) <= greatest * 1.1 else None,
            )
            for place, arm in enumerate(arms)
        ],
        Scale(0.0, greatest * 1.1 or 1.0),
        title=f"Lower bounds of the privacy loss of {len(arms)} models",
        under="privacy loss ε, at least",
        ticks=[place * step for place in range(int(greatest * 1.1 / step) + 1)],
        line=greatest,
        track=greatest,
    )
    caption = (
        f"The privacy loss ε that the attack shows at {percent(plan.confidence)}: no less than this, perhaps more. Hollow: as "
        f"counted, which may be accident; left out where no false alarm was counted. Dashed: "
        f"{figure(greatest)}, the greatest that an attack without a mistake could have shown with so few records. Nothing here "
        f"is an upper bound."
    )
    return tag("figure", drawn, tag("figcaption", caption))


def _table(audited: Audited, arms: Sequence[verdict.Arm], figures: verdict.Figures) -> Markup:
    rates = [found.at for found in figures.unlearned.true_positives]
    rows = []
    for arm in arms:
        found = {each.at: each.rate for each in arm.true_positives}
        rows.append(
            (
                arm.name,
                *(percent(found[at].value) if at in found else "–" for at in rates),
                percent(arm.utility.retain),
                percent(arm.utility.test),
                percent(arm.utility.forget.value),
                percent(arm.utility.agreement),
            )
        )
    columns = ("Model", *(f"Found at {100 * at:g} %" for at in rates), "Retained", "Test", "Forgotten", "Agrees")
    kept = ", ".join(
        f"{percent(ratio)} on {what} records"
        for what, ratio in (("retained", _kept(figures, "retain")), ("test", _kept(figures, "test")))
    )
    caption = (
        f"Entry {audited.index}. Found: forgotten records told at that share of false alarms. Retained, test, forgotten: "
        f"accuracy on those records. Agrees: with a retrained model, on test records. Of the retrained models' accuracy, the "
        f"unlearned keeps {kept}."
    )
    return table(caption, columns, rows)


def _examples(figures: verdict.Figures) -> Markup:
    scores = [score for each in figures.examples for score in (each.original, each.unlearned, each.retrained)]
    low, high = _within(min(scores), -_MOST, _MOST), _within(max(scores), -_MOST, _MOST)
    step = _step(high - low)
    low, high = floor(low / step) * step, ceil(high / step) * step
    drawn = chart.ranking(
        figures.examples,
        Scale(low, high if high > low else low + 1),
        title=f"Scores of the {len(figures.examples)} forgotten records that stand out most",
        under="score: the further right, the more like a model that learnt it",
        ticks=[low + place * step for place in range(round((high - low) / step) + 1)],
    )
    caption = "The forgotten records that stand out most from the retrained models, by their place in the forget set."
    return tag("figure", drawn, tag("figcaption", caption))


def _picture(name: str, svg: str) -> Markup:
    """As an image, in which nothing can run or be fetched."""
    told = f"{_PICTURES[name]} From the scores that the auditor keeps, whose digest is signed."
    source = f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"
    return tag("figure", tag("img", src=source, alt=_PICTURES[name]), tag("figcaption", told))


def _details(title: str, lines: Sequence[str]) -> Markup:
    return tag("details", tag("summary", title), tag("ul", (tag("li", line) for line in lines))) if lines else join()


def _look(place: int) -> chart.Look:
    return ("original", "unlearned", "retrained")[min(place, 2)]


def _within(value: float, low: float, high: float) -> float:
    """Statements hold any number: what is drawn has to stay on the page."""
    return min(max(value, low), high)


def _from_zero(value: float) -> verdict.Estimate:
    return verdict.Estimate(value, min(0.0, value), value)


def _kept(figures: verdict.Figures, name: str) -> float:
    usual = sum(getattr(arm.utility, name) for arm in figures.retrained) / len(figures.retrained)
    return float(getattr(figures.unlearned.utility, name) / usual) if usual else 1.0


def _step(span: float) -> float:
    """1, 2 or 5 times a power of ten, so that there are about five of them in a span."""
    if span < 1e-9:
        return 1.0
    power = 10.0 ** floor(log10(span / 5))
    return next(power * times for times in (1, 2, 5, 10) if power * times >= span / 5.5)
