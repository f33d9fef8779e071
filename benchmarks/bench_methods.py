"""All methods side by side: what each takes, what certifying adds, and what is left of the model, on the examples' real data.

    python benchmarks/bench_methods.py [NAME …] [--quick] [--out methods-out] [--json] [--seconds 900] [--read]

Each script of examples/methods runs in a process of its own, in which the hooks are timed from outside:

- method: the unlearning alone (the step's run, or the body of ``with certify.unlearning``). Evaluating gates and metrics of
  ``certify.unlearn`` counts for neither.
- certifying: everything else that ``certify.unlearn`` or the hook does: digests before and after, statement, signature, log, the
  rehearsal of the verifier. The examples' runs take milliseconds to seconds, of which any share is large, so that it is also
  given as a share of a run of one minute.
- training: the body of ``with certify.training``, on all records; where the example retrained without the forgotten ones, as it
  states in "retraining seconds", that. This is what full retraining takes.

Accuracies are the operator's, from the statements: "retain accuracy", "forget accuracy", "test accuracy" of the training (before)
and of the certificate (after), and "retrained …" where the example has them. Sizes are of the certificate's envelope and of the
bundle. ``methods.png`` shows forget against retain accuracy, the bubble's area the method's time. What is missing is said.
"""

import argparse
import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import cos, sin
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples" / "methods"
NAMES = (
    "retrain",
    "sisa",
    "ascent",
    "scrub",
    "gradient_difference",
    "unsir",
    "pruning",
    "ablation",
    "newton",
    "certified_removal",
    "amnesiac",
    "deltagrad",
    "federated",
    "dp_sgd",
    "language_model",
    "data_protection",
    "own_method",
)
ACCURACIES = ("retain accuracy", "forget accuracy", "test accuracy")


# -- in the example's process --------------------------------------------------------------------------------------------


@dataclass
class Timed:
    """Seconds of one training or unlearning: the method's own, of evaluation, and in all."""

    kind: str
    method: float = 0.0
    evaluation: float = 0.0
    whole: float = 0.0


@dataclass
class Clock:
    """Measures what runs inside the hooks."""

    runs: list[Timed] = field(default_factory=list)
    stepping: Timed | None = None
    """The run of a call of ``certify.unlearn`` that is under way, which times its step and its evaluation itself."""

    def hook(self, kind: str, hook: Callable[..., Any]) -> Callable[..., Any]:
        """A training or unlearning hook whose body is timed."""

        @contextmanager
        def timed(*arguments: Any, **options: Any) -> Iterator[Any]:
            if self.stepping is not None:
                with hook(*arguments, **options) as run:
                    yield run
                return
            one, began = Timed(kind), time.perf_counter()
            with hook(*arguments, **options) as run:
                inside = time.perf_counter()
                yield run
                one.method = time.perf_counter() - inside
            one.whole = time.perf_counter() - began
            self.runs.append(one)

        return timed

    def unlearn(self, unlearn: Callable[..., Any]) -> Callable[..., Any]:
        """``certify.unlearn``, with its step and its measures timed."""
        from dataclasses import replace

        def timed(model: Any, step: Any, **options: Any) -> Any:
            one = self.stepping = Timed("unlearning")
            kind = type(step)
            run, began = kind.run, time.perf_counter()
            if options.get("gate") is not None:
                gate = options["gate"]
                options["gate"] = replace(gate, measure=self._within(gate.measure, one, "evaluation"))
            if options.get("metrics") is not None:
                options["metrics"] = self._within(options["metrics"], one, "evaluation")
            kind.run = self._within(run, one, "method")
            try:
                made = unlearn(model, step, **options)
            finally:
                kind.run, self.stepping = run, None
            one.whole = time.perf_counter() - began
            self.runs.append(one)
            return made

        return timed

    @staticmethod
    def _within(function: Callable[..., Any], one: Timed, name: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                setattr(one, name, getattr(one, name) + time.perf_counter() - began)

        return timed


def child(name: str, folder: Path, quick: bool) -> None:
    """Run an example with the hooks timed, and write down what they took."""
    sys.path[:0] = [str(EXAMPLES), str(EXAMPLES.parent), str(ROOT)]
    import certify.hooks.torch as hooks

    clock, times = Clock(), folder.with_suffix(".times.json")
    hooks.training = clock.hook("training", hooks.training)  # before certify.steps takes its own
    hooks.unlearning = clock.hook("unlearning", hooks.unlearning)
    import certify.steps as steps

    steps.unlearn = clock.unlearn(steps.unlearn)
    script = EXAMPLES / f"{name}.py"
    sys.argv = [str(script)]
    main = runpy.run_path(str(script), run_name="example")["main"]
    main(folder, quick)
    times.write_text(json.dumps([vars(one) for one in clock.runs]))


# -- what came out -------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """One method. Seconds, accuracies from 0 to 1, bytes; None where there is none."""

    name: str
    method: str = ""
    seconds: float | None = None
    certifying: float | None = None
    training: float | None = None
    retrained: bool = False
    """``training`` is of a model retrained without the records, as the example states it."""
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    fresh: dict[str, float] = field(default_factory=dict)
    certificate: int | None = None
    bundle: int | None = None
    grade: str = ""
    missing: str = ""


def measure(name: str, out: Path, quick: bool, limit: float, *, again: bool = True) -> Row:
    """Run one example, or read what an earlier run left."""
    from certify.errors import CertifyError

    row = Row(name)
    if not (EXAMPLES / f"{name}.py").exists():
        row.missing = "there is no such example"
        return row
    if again and (reason := _run(name, out, quick, limit)):
        row.missing = reason
        return row
    folder = out / name
    if not folder.with_suffix(".times.json").exists():
        row.missing = f"there is nothing of it in {out}"
        return row
    runs = [Timed(**one) for one in json.loads(folder.with_suffix(".times.json").read_text())]
    unlearnings = [one for one in runs if one.kind == "unlearning"]
    trainings = [one for one in runs if one.kind == "training"]
    if unlearnings:
        last = unlearnings[-1]
        row.seconds, row.certifying = last.method, last.whole - last.method - last.evaluation
    row.training = trainings[0].method if trainings else None
    try:
        _read(row, folder)
    except CertifyError as error:
        row.missing = f"its bundle cannot be read: {error}"[:120]
    return row


def _run(name: str, out: Path, quick: bool, limit: float) -> str:
    """Why it did not end well; empty if it did."""
    command = [sys.executable, __file__, "--child", name, "--out", str(out), *(["--quick"] if quick else [])]
    (out / name).with_suffix(".times.json").unlink(missing_ok=True)
    with (out / f"{name}.log").open("w") as log:
        try:
            code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, timeout=limit).returncode
        except subprocess.TimeoutExpired:
            return f"it took more than {limit:.0f} s"
    return f"it ended with {code}: see {log.name}" if code else ""


def _read(row: Row, folder: Path) -> None:
    """What statements and bundle say."""
    from certify import chain as chains
    from certify.bundle import Bundle
    from certify.chain import Link
    from certify.errors import CertifyError
    from certify.statement import Statement, Training, Unlearning
    from certify.trust import Trust
    from certify.verifier import verify

    path = folder / "case.bundle"
    if not path.exists():
        row.missing = "it leaves no case.bundle"
        return
    data = path.read_bytes()
    bundle = Bundle.parse(data)
    links = [
        Link(entry.index, entry.envelope.digest, Statement.parse(entry.envelope.payload)) for entry in bundle.entries
    ]
    chain = chains.build(links)
    training, certificate = chain.training.statement.predicate, chain.case.statement.predicate
    assert isinstance(training, Training) and isinstance(certificate, Unlearning)
    row.method = certificate.method.name
    stated = certificate.metrics
    parent = chain.unlearnings[-2].statement.predicate if len(chain.unlearnings) > 1 else training
    assert isinstance(parent, Training | Unlearning)
    earlier = {**training.metrics, **parent.metrics}
    row.before = {name: earlier[name] for name in ACCURACIES if name in earlier}
    row.after = {name: stated[name] for name in ACCURACIES if name in stated}
    row.fresh = {name: stated[f"retrained {name}"] for name in ACCURACIES if f"retrained {name}" in stated}
    if "retraining seconds" in stated:
        row.training, row.retrained = stated["retraining seconds"], True
    row.certificate = next(len(entry.data) for entry in bundle.entries if entry.index == chain.case.index)
    row.bundle = len(data)
    try:
        believed = folder / "trust.toml"  # where an example has one that believes more than the operator
        trust = Trust.load(believed if believed.exists() else folder / "ledger" / "trust.toml")
        row.grade = verify(data, trust, allow_development_srs=True, allow_failed_audit=True).grade
    except CertifyError as error:
        row.grade = f"refused: {error}"[:60]


# -- table and picture ---------------------------------------------------------------------------------------------------

COLUMNS = (
    "example",
    "method s",
    "certifying s",
    "share",
    "of a minute",
    "full training s",
    "retain",
    "forget",
    "test",
    "retrained: retain, forget, test",
    "certificate",
    "bundle",
    "grade",
)


def cells(row: Row) -> list[str]:
    """A line of the table."""
    if row.missing:
        return [row.name, *("–" for _ in COLUMNS[1:-1]), row.missing]
    share = "–"
    if row.certifying is not None and row.seconds is not None and row.seconds + row.certifying > 0:
        share = f"{row.certifying / (row.seconds + row.certifying):.0%}"
    minute = f"{row.certifying / (60 + row.certifying):.2%}" if row.certifying is not None else "–"
    training = "–" if row.training is None else f"{'' if row.retrained else '~'}{row.training:.2f}"
    fresh = ", ".join(_percent(row.fresh.get(name)) for name in ACCURACIES) if row.fresh else "–"
    return [
        row.name,
        _seconds(row.seconds),
        _seconds(row.certifying),
        share,
        minute,
        training,
        *(f"{_percent(row.before.get(name))} → {_percent(row.after.get(name))}" for name in ACCURACIES),
        fresh,
        "–" if row.certificate is None else f"{row.certificate / 1000:.1f} KB",
        "–" if row.bundle is None else f"{row.bundle / 1000:.0f} KB",
        row.grade,
    ]


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def markdown(rows: list[Row]) -> str:
    """The table as text, columns aligned."""
    table = [list(COLUMNS), *(cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(COLUMNS))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in table
    ]
    rule = "| " + " | ".join("-" * width for width in widths) + " |"
    return "\n".join([lines[0], rule, *lines[1:]])


def plot(rows: list[Row], path: Path) -> int:
    """Forget against retain accuracy; how many methods are in it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    retain, forget, _ = ACCURACIES
    shown = [row for row in rows if retain in row.after and forget in row.after]
    figure, axes = pyplot.subplots(figsize=(11, 7), layout="constrained")
    named = []
    for place, row in enumerate(shown):
        colour = pyplot.get_cmap("tab20")(place % 20)
        x, y = row.after[forget], row.after[retain]
        area = 40 + 400 * min((row.seconds or 0.0), 30.0) ** 0.5
        axes.scatter(x, y, s=area, color=colour, alpha=0.55, edgecolor="black", linewidth=0.6)
        if retain in row.before and forget in row.before:
            start = (row.before[forget], row.before[retain])
            axes.annotate("", (x, y), start, arrowprops={"arrowstyle": "->", "color": colour, "alpha": 0.6})
            axes.scatter(*start, s=18, facecolor="white", edgecolor=colour)
        if retain in row.fresh and forget in row.fresh:
            axes.scatter(row.fresh[forget], row.fresh[retain], s=45, marker="x", color=colour)
        around = (9 * cos(2.4 * place), 9 * sin(2.4 * place))  # numbers of bubbles on one place do not cover each other
        axes.annotate(str(place + 1), (x, y), xytext=around, textcoords="offset points", ha="center", va="center")
        named.append(
            axes.scatter([], [], s=40, color=colour, label=f"{place + 1} {row.name}, {_seconds(row.seconds)} s")
        )
    axes.set_xlabel("accuracy on the forgotten records")
    axes.set_ylabel("accuracy on the retained records")
    axes.set_title("After unlearning, by each example. Circles: before. Crosses: retrained. Area: the method's time")
    axes.margins(0.08)
    axes.grid(alpha=0.25)
    if named:
        figure.legend(handles=named, loc="outside right center", frameon=False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
    return len(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="examples; by default all")
    parser.add_argument("--quick", action="store_true", help="the examples' small setting")
    parser.add_argument("--out", type=Path, default=Path("methods-out"))
    parser.add_argument("--seconds", type=float, default=900.0, help="the most that one example may take")
    parser.add_argument("--read", action="store_true", help="run nothing: show what lies in --out")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    out = asked.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if asked.child:
        child(asked.child, out / asked.child, asked.quick)
        return
    rows = []
    for name in asked.names or NAMES:
        print(f"{name} …", file=sys.stderr, flush=True)
        rows.append(measure(name, out, asked.quick, asked.seconds, again=not asked.read))
    (out / "methods.md").write_text(markdown(rows) + "\n")
    if asked.json:
        print(json.dumps([vars(row) for row in rows], indent=2))
    else:
        print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {'quick' if asked.quick else 'full'} setting")
        print(markdown(rows))
    count = plot(rows, out / "methods.png")
    print(f"{count} methods in {out / 'methods.png'}", file=sys.stderr)


if __name__ == "__main__":
    main()
