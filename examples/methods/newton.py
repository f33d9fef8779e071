"""Influence functions: a clinic's model takes one Newton step away from three patients, and the equation is checked.

A logistic model of breast cancer (scikit-learn's 569 patients). The step solves HΔ = g by conjugate gradients and states the
residual of the weights as they are stored; a model retrained to the optimum shows how near one step comes. Run it with
``python examples/methods/newton.py FOLDER [quick]``.
"""

import copy
import sys
import time
from pathlib import Path

import click
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from patients import Patients, Records, accuracy, open_clinic, told  # noqa: E402
from telling import run, say, story  # noqa: E402

import certify  # noqa: E402
from circuits.steps.newton import Newton  # noqa: E402
from circuits.steps.step import Task, flat  # noqa: E402

L2 = 1e-2


def fit(model: torch.nn.Module, records: Records, rounds: int) -> None:
    """To the optimum of the mean loss with weight decay: the step starts from there, and so does its formula."""
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=rounds, tolerance_grad=1e-10, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        penalty = sum((value * value).sum() for value in model.parameters())
        loss = torch.nn.functional.cross_entropy(model(records[0]), records[1]) + L2 / 2 * penalty
        loss.backward()
        return loss

    optimizer.step(closure)


def main(folder: Path, quick: bool = False) -> None:
    chapter, rounds = story(4), 200 if quick else 2000
    chapter(1, "A clinic's model learns from 455 patients")
    ledger, clinic = open_clinic(folder), Patients()
    gone = [11, 100, 200]
    forget, retain = clinic.parted(gone)
    figures = clinic.figures(forget, retain)
    model = torch.nn.Linear(30, 2, dtype=torch.float64)
    with certify.training(model, ledger=ledger, data=clinic.records, method="lbfgs", parameters={"l2": L2}) as training:
        fit(model, (clinic.x, clinic.y), rounds)
        training.metrics.update(figures(model))
    original = copy.deepcopy(model)
    say(f"{training.metrics['test accuracy']:.1%} right on {len(clinic.test[0])} patients that it has not seen")

    chapter(2, "Three patients ask to be forgotten: one Newton step")
    request = clinic.ask(ledger, gone)
    began = time.perf_counter()
    unlearning = certify.unlearn(
        model,
        Newton(l2=L2, tolerance=1e-6),
        ledger=ledger,
        request=request,
        task=Task(forget, retain),
        gate=certify.Gate(lambda model: accuracy(model, retain), drop=0.02),
        metrics=figures,
    )
    say(f"certificate at entry {unlearning.certificate.index}, {time.perf_counter() - began:.2f} s with all of it")
    detail = unlearning.certificate.statement.predicate.detail
    say(
        f"residual {detail.residual:.1e} of ‖g‖ = {detail.gradient:.3g} after {detail.iterations} products with the Hessian"
    )
    for name, after in unlearning.metrics.items():
        say(told(name, training.metrics[name], after))

    chapter(3, "How near is that to retraining?")
    retrained = copy.deepcopy(original)
    fit(retrained, retain, rounds)
    start, end, wanted = (flat(list(one.parameters())) for one in (original, model, retrained))
    far, near = float((start - wanted).norm()), float((end - wanted).norm())
    say(f"the original is {far:.2e} from the retrained weights, the unlearned {near:.2e}")
    say(f"the certificate's bound: no further than {detail.left / (L2 * detail.retained):.2e}")

    chapter(4, "A regulator verifies it")
    unlearning.bundle("case.bundle")
    ledger.close()
    run("verify", "case.bundle", "--trust", "ledger/trust.toml", since=" 6 ")
    click.secho("  done", fg="green")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "newton-out").resolve(), quick="quick" in sys.argv[2:])
