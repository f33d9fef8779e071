"""Pictures of figures with intervals, as SVG that takes its colours from the page around it.

intervals([Row("original", "original", Estimate(0.64, 0.60, 0.68)), …], low=0.4, high=0.8, …)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from certify.audit.verdict import Estimate, Example
from certify.report.markup import Markup, tag

Look = Literal["original", "unlearned", "retrained"]
ROW, WIDTH, LEFT, RIGHT, FOOT = 26, 640, 130, 150, 40


@dataclass(frozen=True)
class Row:
    """A line of a chart: what it is called, whose colour it has, and the figure."""

    name: str
    look: Look
    value: Estimate
    said: str
    """The figure in words, at the right."""
    beside: float | None = None
    """A second value, drawn hollow."""


@dataclass(frozen=True)
class Scale:
    """From values to places across a chart."""

    low: float
    high: float

    def at(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        return LEFT + (inside - self.low) / (self.high - self.low) * (WIDTH - LEFT - RIGHT)


def intervals(
    rows: Sequence[Row],
    scale: Scale,
    *,
    title: str,
    under: str,
    ticks: Sequence[float],
    line: float | None = None,
    band: tuple[float, float] | None = None,
    track: float | None = None,
) -> Markup:
    """Each figure as a point on its interval. ``line``: a value drawn through all, ``band``: a stretch behind them, ``track``: as
    far as each could have reached from the left."""
    foot = len(rows) * ROW + 8
    parts: list[Markup] = []
    if band is not None:
        left, right = map(scale.at, band)
        parts.append(tag("rect", x=left, y=4, width=right - left, height=foot - 4, class_="band"))
    if line is not None:
        parts.append(tag("line", x1=scale.at(line), x2=scale.at(line), y1=4, y2=foot, class_="chance"))
    for place, row in enumerate(rows):
        y = place * ROW + 18
        if track is not None:
            parts.append(
                tag("line", x1=scale.at(scale.low), x2=scale.at(track), y1=y, y2=y, class_="track", stroke_width=3)
            )
        if row.beside is not None:
            parts.append(_point(row.look, scale.at(row.beside), y, " hollow"))
        parts += [
            tag("text", _cut(row.name), x=LEFT - 14, y=y + 4, text_anchor="end"),
            _stroke(row.look, scale.at(row.value.low), scale.at(row.value.high), y, 3),
            _point(row.look, scale.at(row.value.value), y),
            tag("text", row.said, x=WIDTH - RIGHT + 14, y=y + 4, class_="soft"),
        ]
    return _drawn([*parts, *_axis(scale, ticks, foot, under)], foot + FOOT, title)


def ranking(examples: Sequence[Example], scale: Scale, *, title: str, under: str, ticks: Sequence[float]) -> Markup:
    """Three scores of each record: those of the three arms."""
    foot = len(examples) * ROW + 8
    parts: list[Markup] = []
    for place, example in enumerate(examples):
        y = place * ROW + 18
        ends = sorted([scale.at(example.retrained), scale.at(example.unlearned)])
        parts += [
            tag("text", f"place {example.record}", x=LEFT - 14, y=y + 4, text_anchor="end"),
            tag("line", x1=ends[0], x2=ends[1], y1=y, y2=y, class_="axis"),
            _point("retrained", scale.at(example.retrained), y),
            _point("original", scale.at(example.original), y),
            _point("unlearned", scale.at(example.unlearned), y),
        ]
    key: list[Markup] = []
    looks: tuple[Look, ...] = ("original", "unlearned", "retrained")
    for place, look in enumerate(looks):
        y = place * ROW + 18
        key += [
            _point(look, WIDTH - RIGHT + 30, y),
            tag("text", look, x=WIDTH - RIGHT + 44, y=y + 4, class_="soft"),
        ]
    return _drawn([*parts, *key, *_axis(scale, ticks, foot, under)], foot + FOOT, title)


def _stroke(look: Look, start: float, end: float, y: float, width: float) -> Markup:
    return tag("line", x1=start, x2=end, y1=y, y2=y, class_=look, stroke_width=width, stroke_linecap="round")


def _point(look: Look, x: float, y: float, how: str = "") -> Markup:
    """A square, a disc, or a diamond: arms are told by shape as well."""
    if look == "original":
        return tag("rect", x=x - 5, y=y - 5, width=10, height=10, class_=f"{look}{how}")
    if look == "unlearned":
        return tag("circle", cx=x, cy=y, r=5.5, class_=f"{look}{how}")
    return tag("path", d=f"M{x:.2f} {y - 6:.2f}l6 6-6 6-6-6z", class_=f"{look}{how}")


def _axis(scale: Scale, ticks: Sequence[float], y: float, under: str) -> list[Markup]:
    return [
        tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="axis"),
        *(tag("text", f"{tick:g}", x=scale.at(tick), y=y + 16, text_anchor="middle", class_="soft") for tick in ticks),
        tag("text", under, x=(LEFT + WIDTH - RIGHT) / 2, y=y + 33, text_anchor="middle", class_="soft"),
    ]


def _drawn(parts: Sequence[Markup], height: float, title: str) -> Markup:
    box = f"0 0 {WIDTH} {height:g}"
    return tag("svg", tag("title", title), *parts, viewBox=box, role="img", xmlns="http://www.w3.org/2000/svg")


def _cut(name: str, most: int = 18) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
