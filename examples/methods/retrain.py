"""Full retraining: a clinic's network learns anew, without three patients. Dear, exact, and the yardstick of everything else.

The model was trained by the very recipe that retrains it, on scikit-learn's breast-cancer patients. The certificate states the
digests of the initial weights and of the order of records, so that whoever has the data can run it again and compare bits. Run it
with ``python examples/methods/retrain.py FOLDER [quick]``.
"""

import sys
from pathlib import Path

import click
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent))

from patients import SEED, Patients, open_clinic, told
from telling import run, say, story

import certify
from circuits.steps.retrain import Retrain
from circuits.steps.step import Task, parameters_of


def main(folder: Path, quick: bool = False) -> None:
    torch.set_num_threads(1)  # tiny models: threads would wait for each other
    chapter, clinic = story(3), Patients()
    gone = [11, 100, 200]
    forget, retain = clinic.parted(gone)
    everybody = (clinic.x, clinic.y)
    figures = clinic.figures(forget, retain)

    chapter(1, "A clinic's network learns from 455 patients")
    ledger = open_clinic(folder)
    recipe = Retrain(epochs=5 if quick else 40, rate=0.005, batch=32, seed=SEED)
    model = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 2)).double()
    with certify.training(
        model, ledger=ledger, data=clinic.records, method="adam", parameters=parameters_of(recipe), seeds=[SEED]
    ) as training:
        first = recipe.run(model, Task(forget, everybody))
        training.metrics.update(figures(model))
    say(f"{training.metrics['test accuracy']:.1%} right on {len(clinic.test[0])} patients that it has not seen")

    chapter(2, "Three patients ask to be forgotten: it learns anew from the other 452")
    unlearning = certify.unlearn(
        model, recipe, ledger=ledger, request=clinic.ask(ledger, gone), task=Task(forget, retain), metrics=figures
    )
    for name, after in unlearning.metrics.items():
        say(told(name, training.metrics[name], after))
    detail = unlearning.certificate.statement.predicate.detail
    same = "the same" if detail.initial == first.fields["initial"] else "other"
    say(f"{detail.steps} steps from {same} initial weights as in training, {detail.initial[:16]}")

    chapter(3, "A regulator verifies it")
    unlearning.bundle("case.bundle")
    ledger.close()
    run("verify", "case.bundle", "--trust", "ledger/trust.toml", since=" 6 ")
    click.secho("  done", fg="green")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "retrain-out").resolve(), quick="quick" in sys.argv[2:])
