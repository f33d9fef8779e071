"""Pictures of an audit: ROC on log axes, scores of the three arms, ε beside what so few records could have shown, the ranking.

    for name, picture in pictures(plan, figures, scores).items():
        (folder / f"{name}.png").write_bytes(png(picture))

The same figures give the same bytes: no times, no random identifiers. Colours are Okabe and Ito's (2008), which people with any
colour vision tell apart, and no arm is told by its colour alone: each has a line, a marker and a place of its own. Records are
shown by their place in the forget set, nothing else about them.

This module needs matplotlib, and raises MissingExtra without it.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, inf, log, log10
from typing import Any

import numpy as np

from certify.audit import roc
from certify.audit.verdict import Arm, EpsilonBound, Figures, Plan
from certify.errors import MissingExtra

try:
    from matplotlib import rc_context
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] != "matplotlib":
        raise
    raise MissingExtra("expected the package matplotlib: pip install 'unlearning-ledger[audit]'") from error

SHOWN = 20
"""Records in the ranking."""
_INK, _FAINT = "#222222", "#b9b9b9"
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],  # the first is matplotlib's own
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": "#8a8a8a",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "text.parse_math": False,  # names are not formulas
    "svg.fonttype": "none",  # text stays text, for screen readers and searching
    "svg.hashsalt": "unlearning-ledger",
}


@dataclass(frozen=True)
class _Look:
    colour: str
    line: str
    marker: str
    name: str


_LOOKS = (
    _Look("#D55E00", "-", "s", "original"),
    _Look("#0072B2", "--", "o", "unlearned"),
    _Look("#555555", ":", "D", "retrained"),
)


def pictures(plan: Plan, figures: Figures, scores: np.ndarray | None = None) -> dict[str, Figure]:
    """By name: ``epsilon`` and ``ranking``, and with all scores, as :func:`certify.audit.arms.compare` takes them, ``roc`` and
    ``histograms``. scores: (2 + r, m), the forgotten records' columns first.
    """
    found = {"epsilon": epsilon(plan, figures), "ranking": ranking(figures)}
    if scores is None:
        return found
    if scores.shape != (2 + len(figures.retrained), figures.forgotten + figures.held_out):
        raise ValueError(f"expected scores of these arms and records, got {scores.shape}")
    return {"roc": curves(figures, scores), "histograms": histograms(figures, scores), **found}


def curves(figures: Figures, scores: np.ndarray) -> Figure:
    """ROC curves of all arms on log axes, where the few false alarms that matter can be seen. scores: (2 + r, m)"""
    with rc_context(_STYLE):
        made = Figure(figsize=(6.2, 5.6), layout="constrained")
        axes: Axes = made.add_subplot()
        least = 10 ** floor(log10(1 / max(figures.forgotten, figures.held_out)))
        axes.plot([least, 1], [least, 1], color=_FAINT, linewidth=1.2, label="chance")
        if 1 / figures.held_out > least:
            axes.axvspan(least, 1 / figures.held_out, color="#f1f1f1", zorder=0, linewidth=0)
        for row in reversed(range(len(scores))):  # the unlearned and the original on top
            look = _LOOKS[min(row, 2)]
            found = roc.curve(*_sides(scores[row], figures))
            axes.step(
                np.maximum(found.false_positive_rate, least / 10),
                np.maximum(found.true_positive_rate, least / 10),
                where="post",
                color=look.colour,
                linestyle=look.line,
                linewidth=1.2 if row > 1 else 2.2,
                label=_area(figures, row),
            )
        axes.set(xscale="log", yscale="log", xlim=(least, 1), ylim=(least, 1), aspect="equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
        axes.grid(color="#ececec", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_xlabel(f"false alarms among {figures.held_out} held-out records (shaded: fewer than one)")
        axes.set_ylabel(f"found of {figures.forgotten} forgotten records")
        axes.set_title("Who can tell the forgotten records?")
        shown = {str(line.get_label()): line for line in axes.get_lines() if not str(line.get_label()).startswith("_")}
        names = [_area(figures, row) for row in range(3)] + ["chance"]
        legend = axes.legend([shown[name] for name in names], names, loc="lower right", handlelength=2.6, frameon=True)
        legend.get_frame().set(edgecolor="none", facecolor="white", alpha=0.9)
        return made


def histograms(figures: Figures, scores: np.ndarray) -> Figure:
    """Scores of forgotten and of held-out records, one panel an arm, all on one axis. scores: (2 + r, m)"""
    low, high = np.percentile(scores, [2.5, 97.5])  # a few far-off scores go into the outermost bins
    edges = np.linspace(low, high if high > low else low + 1, 37)
    with rc_context(_STYLE):
        made = Figure(figsize=(6.2, 6.2), layout="constrained")
        panels: Sequence[Axes] = made.subplots(3, 1, sharex=True, sharey=True)
        for axes, look, rows in zip(panels, _LOOKS, (scores[:1], scores[1:2], scores[2:]), strict=True):
            sides = [np.concatenate(part) for part in zip(*(_sides(row, figures) for row in rows), strict=True)]
            for values, filled in zip(sides, (True, False), strict=True):
                counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
                axes.stairs(
                    counts / len(values),
                    edges,
                    fill=filled,
                    color=look.colour if filled else _INK,
                    alpha=0.55 if filled else 1.0,
                    linewidth=0 if filled else 1.4,
                    label="forgotten" if filled else "held out",
                )
            who = look.name if len(rows) == 1 else f"{look.name}, {len(rows)} models"
            axes.set_title(who, fontsize=10, pad=4)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
            axes.yaxis.set_major_locator(MaxNLocator(3))
            axes.legend(loc="upper right")
        panels[-1].set_xlabel(
            "score: how much the answer is like that of a model that learnt the record\n"
            "(what lies outside is in the outermost bins)"
        )
        panels[1].set_ylabel("share of records")
        made.suptitle("Where the scores lie", x=0.01, ha="left", fontsize=12, fontweight="bold")
        return made


def epsilon(plan: Plan, figures: Figures) -> Figure:
    """The ε that each arm's test refutes, up to which nothing can be claimed, and the greatest that it could have shown."""
    arms = _arms(figures)
    greatest = max(arm.epsilon.greatest for arm in arms)
    with rc_context(_STYLE):
        made = Figure(figsize=(6.2, 1.75 + 0.42 * len(arms)), layout="constrained")
        axes: Axes = made.add_subplot()
        axes.axvline(greatest, color=_INK, linewidth=1.2, linestyle=(0, (4, 3)))
        for place, arm in enumerate(arms):
            look, bound = _LOOKS[min(place, 2)], arm.epsilon
            axes.hlines(place, 0, greatest, color="#ececec", linewidth=6, zorder=1)
            axes.hlines(place, 0, bound.lower, color=look.colour, linewidth=6, zorder=2)
            axes.plot(bound.lower, place, look.marker, color=look.colour, markersize=8, zorder=4, clip_on=False)
            counted = _counted(bound, plan.delta)
            if 0 <= counted <= greatest * 1.25:
                axes.plot(
                    counted, place, look.marker, color=look.colour, markerfacecolor="white", markersize=7, zorder=3
                )
        axes.set_yticks(range(len(arms)), [f"{arm.name}   ε ≥ {arm.epsilon.lower:.2f}" for arm in arms])
        axes.set(ylim=(len(arms) - 0.4, -0.9), xlim=(-0.02 * greatest, greatest * 1.28))
        axes.text(greatest * 1.015, -0.72, f"greatest that could\nbe shown: {greatest:.2f}", va="top", fontsize=9)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0, labelcolor=_INK)
        axes.set_xlabel(
            f"ε, with δ = {plan.delta:g}\n"
            f"filled: no less, at {100 * plan.confidence:g} %   hollow: as counted, which may be accident"
        )
        axes.set_title("The privacy loss that the attack shows")
        return made


def ranking(figures: Figures, shown: int = SHOWN) -> Figure:
    """The forgotten records that stand out most, by their place in the forget set."""
    examples = figures.examples[:shown]
    with rc_context(_STYLE):
        made = Figure(figsize=(6.2, 1.6 + 0.26 * max(len(examples), 2)), layout="constrained")
        axes: Axes = made.add_subplot()
        places = range(len(examples))
        axes.hlines(
            places,
            [min(each.retrained, each.unlearned) for each in examples],
            [max(each.retrained, each.unlearned) for each in examples],
            color=_LOOKS[1].colour,
            linewidth=2,
            alpha=0.35,
        )
        for look in _LOOKS:
            axes.plot(
                [getattr(each, look.name) for each in examples],
                places,
                look.marker,
                color=look.colour,
                markerfacecolor="white" if look.name == "retrained" else look.colour,
                markersize=6,
                linestyle="none",
                label=look.name if look.name != "retrained" else "retrained (mean)",
            )
        axes.set_yticks(places, [f"{each.record}" for each in examples])
        axes.set_ylim(len(examples) - 0.4, -0.6)
        axes.grid(axis="y", color="#f1f1f1")
        axes.set_axisbelow(True)
        axes.set_xlabel("score: right of the retrained models' is more than they could know")
        axes.set_ylabel("place in the forget set")
        axes.set_title(f"The {len(examples)} of {figures.forgotten} records that stand out most")
        made.legend(loc="outside lower center", ncols=3)
        return made


def png(picture: Figure, *, dpi: int = 160) -> bytes:
    """The same bytes for the same picture."""
    return _written(picture, FigureCanvasAgg(picture), format="png", dpi=dpi, metadata={"Software": None})


def svg(picture: Figure) -> str:
    """The same text for the same picture, complete in itself."""
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    return _written(picture, FigureCanvasSVG(picture), format="svg", metadata=nothing).decode()


def _written(picture: Figure, canvas: Any, **how: Any) -> bytes:
    buffer = io.BytesIO()
    with rc_context(_STYLE):
        picture.set_canvas(canvas)
        picture.savefig(buffer, **how)
    return buffer.getvalue()


def _arms(figures: Figures) -> list[Arm]:
    return [figures.original, figures.unlearned, *figures.retrained]


def _sides(row: np.ndarray, figures: Figures) -> tuple[np.ndarray, np.ndarray]:
    return row[: figures.forgotten], row[figures.forgotten :]


def _area(figures: Figures, row: int) -> str:
    """``unlearned, AUC 0.51 (0.46 to 0.56)``; for all but the first of the retrained ones nothing, as a legend wants it."""
    if row > 2:
        return f"_{row}"
    if row == 2:
        areas = [arm.auc.value for arm in figures.retrained]
        return f"{len(areas)} retrained, AUC {min(areas):.2f} to {max(areas):.2f}"
    auc = _arms(figures)[row].auc
    return f"{_LOOKS[row].name}, AUC {auc.value:.2f} ({auc.low:.2f} to {auc.high:.2f})"


def _counted(bound: EpsilonBound, delta: float) -> float:
    """ln((1 − δ − FNR) / FPR) of the counts themselves, as if they were no accident; inf where there is no false alarm."""
    hits, alarms = bound.hits / bound.members - delta, bound.false_alarms / bound.others
    if hits <= 0:
        return -inf
    return log(hits / alarms) if alarms else inf
