"""Gradient difference: up on three patients, down on the other 452, in one step.

A logistic model of scikit-learn's breast-cancer patients. Beside gradient ascent alone it shows what the second term is for. Run
it with ``python examples/methods/gradient_difference.py FOLDER [quick]``.
"""

import copy
import sys
from pathlib import Path

import click
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from images import compared, retrained
from patients import Patients, Records, accuracy, open_clinic
from telling import run, say, story

import certify
from circuits.steps.ascent import GradientAscent
from circuits.steps.gradient_difference import GradientDifference
from circuits.steps.step import Task


def build() -> torch.nn.Module:
    torch.manual_seed(7)
    return torch.nn.Linear(30, 2, dtype=torch.float64)


def main(folder: Path, quick: bool = False) -> None:
    torch.set_num_threads(1)  # tiny models: threads would wait for each other
    chapter, clinic, rounds = story(3), Patients(), 200 if quick else 2000
    gone = [11, 100, 200]
    forget, retain = clinic.parted(gone)
    figures = clinic.figures(forget, retain)

    def fit(model: torch.nn.Module, records: Records) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(rounds):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(records[0]), records[1]).backward()
            optimizer.step()

    chapter(1, "A clinic's model learns from 455 patients")
    ledger = open_clinic(folder)
    model = build()
    with certify.training(model, ledger=ledger, data=clinic.records, method="sgd", seeds=[7]) as training:
        fit(model, (clinic.x, clinic.y))
        training.metrics.update(figures(model))
    anew, alone = retrained(build, fit, retain, figures), copy.deepcopy(model)

    chapter(2, "Three patients ask to be forgotten")
    task, step = Task(forget, retain), GradientDifference(rate=0.05, steps=40, weight=2.0)
    unlearning = certify.unlearn(
        model,
        step,
        ledger=ledger,
        request=clinic.ask(ledger, gone),
        task=task,
        gate=certify.Gate(lambda model: accuracy(model, retain), drop=0.02),
        metrics=lambda model: figures(model) | anew,
    )
    for line in compared(training.metrics, unlearning.metrics):
        say(line)
    detail = unlearning.certificate.statement.predicate.detail
    say(f"loss of the three: {detail.forget_loss_before:.3g} before, {detail.forget_loss_after:.3g} after")
    say(f"loss of the others: {detail.retain_loss_before:.3g} before, {detail.retain_loss_after:.3g} after")
    GradientAscent(rate=step.rate, steps=step.steps).run(alone, task)
    with torch.no_grad():
        lost = float(torch.nn.functional.cross_entropy(alone(retain[0]), retain[1]))
    say(f"by ascent alone, as many steps of that size, theirs would be {lost:.3g}")

    chapter(3, "A regulator verifies it")
    unlearning.bundle("case.bundle")
    ledger.close()
    run("verify", "case.bundle", "--trust", "ledger/trust.toml", since=" 6 ")
    click.secho("  done", fg="green")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "gradient-difference-out").resolve(), quick="quick" in sys.argv[2:])
