"""DeltaGrad: a clinic trains again along the path that it cached, and computes one gradient in five.

A logistic model of breast cancer (scikit-learn's 569 patients). The path is on disk and committed to; for each request it is
replayed without the patients, most gradients corrected by a quasi-Newton product, and the new path is left to the next request.
Run it with ``python examples/methods/deltagrad.py FOLDER [quick]``.
"""

import copy
import sys
import time
from pathlib import Path

import click
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from patients import Patients, accuracy, open_clinic, told  # noqa: E402
from telling import run, say, story  # noqa: E402

import certify  # noqa: E402
from certify import paths  # noqa: E402
from circuits.steps import deltagrad  # noqa: E402
from circuits.steps.deltagrad import KIND, Descent  # noqa: E402
from circuits.steps.step import Task, flat  # noqa: E402
from circuits.steps.trail import Trail  # noqa: E402

LOSS = torch.nn.functional.cross_entropy


def main(folder: Path, quick: bool = False) -> None:
    recipe = Descent(rate=0.1, steps=60 if quick else 400, l2=5e-3)
    chapter = story(3)
    chapter(1, "A clinic caches the path of a training")
    ledger, clinic = open_clinic(folder), Patients()
    torch.manual_seed(7)
    model = torch.nn.Linear(30, 2, dtype=torch.float64)
    start = copy.deepcopy(model)
    path = Trail.create("path", kind=KIND)
    told_of = {"rate": recipe.rate, "steps": recipe.steps, "l2": recipe.l2}
    with certify.training(
        model, ledger=ledger, data=clinic.records, method="deltagrad/v1", parameters=told_of, seeds=[7]
    ) as training:
        deltagrad.fit(model, clinic.x, clinic.y, LOSS, recipe, path)
        training.detail = paths.trained(ledger, recipe, path)
        training.metrics.update(clinic.figures(*clinic.parted([0]))(model))
    size = sum(piece.stat().st_size for piece in Path("path/pieces").iterdir())
    say(f"{training.metrics['test accuracy']:.1%} right on {len(clinic.test[0])} patients that it has not seen")
    say(f"{recipe.steps} steps, {size / 1e3:.0f} kB of weights and gradients on disk, committed to step by step")

    chapter(2, "Two requests, one after the other: each replays the path that the last one left")
    gone: list[int] = []
    for number, places in enumerate(([11, 100, 200], [31])):
        forget, retain = clinic.parted(places, gone)
        figures, before = clinic.figures(forget, retain), copy.deepcopy(model)
        request, into = clinic.ask(ledger, places), Trail.create(f"path-{number + 1}", kind=KIND)
        step = paths.step(ledger, model, request, recipe, path, into=into)
        began, was = time.perf_counter(), figures(model)
        unlearning = certify.unlearn(
            model,
            step,
            ledger=ledger,
            request=request,
            task=Task(forget, retain, LOSS),
            gate=certify.Gate(lambda model, kept=retain: accuracy(model, kept), drop=0.02),
            metrics=figures,
        )
        took, gone = time.perf_counter() - began, [*gone, *places]
        exact = copy.deepcopy(start)
        deltagrad.fit(exact, clinic.x, clinic.y, LOSS, recipe, without=gone)
        old, new, wanted = (flat(list(one.parameters())) for one in (before, model, exact))
        detail = unlearning.certificate.statement.predicate.detail
        say(f"{detail.computed} of {recipe.steps} gradients computed, {took:.2f} s with the certificate")
        say(
            f"distance to exact retraining: {float((old - wanted).norm()):.2e} before, {float((new - wanted).norm()):.2e} after"
        )
        for name, after in unlearning.metrics.items():
            say(told(name, was[name], after))
        for piece in range(len(path)):
            path.shred(piece)  # it would tell of the forgotten as the records do
        path = into

    chapter(3, "A regulator verifies the second")
    unlearning.bundle("case.bundle")
    ledger.close()
    run("verify", "case.bundle", "--trust", "ledger/trust.toml", since=" 6 ")
    click.secho("  done", fg="green")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "deltagrad-out").resolve(), quick="quick" in sys.argv[2:])
