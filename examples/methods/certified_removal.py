"""Certified removal: a clinic answers one patient after the other from a removal budget, until retraining is due.

A logistic model of breast cancer (scikit-learn's 569 patients), trained with noise in its objective that nobody keeps. Each
removal is bounded, the bounds add up along the chain, and the verifier adds them up again; a step that would exceed the budget is
refused, and the clinic retrains. Run it with ``python examples/methods/certified_removal.py FOLDER [quick]``.
"""

import sys
from pathlib import Path

import click
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from patients import Patients, accuracy, open_clinic, told  # noqa: E402
from telling import run, say, story  # noqa: E402

import certify  # noqa: E402
from certify import removal_budget  # noqa: E402
from circuits.steps.certified_removal import RetrainingDue, Training  # noqa: E402
from circuits.steps.step import Task  # noqa: E402


def unit(x: torch.Tensor) -> torch.Tensor:
    """With a column for the intercept, each record scaled to norm 1: what the bound asks for."""
    with_one = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    return with_one / with_one.norm(dim=1, keepdim=True)


def main(folder: Path, quick: bool = False) -> None:
    chapter = story(4)
    chapter(1, "A clinic trains with noise in the objective, and keeps none of it")
    ledger, clinic = open_clinic(folder), Patients()
    clinic.x, clinic.test = unit(clinic.x), (unit(clinic.test[0]), clinic.test[1])
    recipe = Training(l2=1e-2, sigma=0.5 if quick else 1.0, epsilon=1.0, delta=1e-4)
    gone: list[int] = []
    model = torch.nn.Linear(31, 1, bias=False, dtype=torch.float64)
    told_of = {"l2": recipe.l2, "sigma": recipe.sigma}
    with certify.training(
        model, ledger=ledger, data=clinic.records, method="certified-removal/v1", parameters=told_of, seeds=[]
    ) as training:
        training.detail = removal_budget.trained(recipe.fit(model, clinic.x, clinic.y))
        training.metrics.update(clinic.figures(*clinic.parted([0]))(model))
    account = removal_budget.account(ledger, model)
    say(f"{training.metrics['test accuracy']:.1%} right on {len(clinic.test[0])} patients that it has not seen")
    say(f"removal budget {account.training.budget:.4f} for ε = {recipe.epsilon:g} and δ = {recipe.delta:g}")

    chapter(2, "Patients ask to be forgotten, one after the other")
    unlearning = None
    for place in range(len(clinic.x)):
        forget, retain = clinic.parted([place], gone)
        request = clinic.ask(ledger, [place])
        account = removal_budget.account(ledger, model)
        try:
            unlearning = certify.unlearn(
                model,
                account.step(),
                ledger=ledger,
                request=request,
                task=Task(forget, retain),
                gate=certify.Gate(lambda model, kept=retain: accuracy(model, kept), drop=0.02),
                metrics=clinic.figures(forget, retain),
            )
        except RetrainingDue as due:
            say(f"patient {place + 1}: {due}")
            break
        gone.append(place)
        spent = unlearning.certificate.statement.predicate.detail.bound
        say(f"patient {place + 1}: {spent:.4f} of the budget, {account.left - spent:.4f} are left")
    if unlearning is None:
        raise SystemExit("the first removal exceeded the budget: expected more noise")
    for name, after in unlearning.metrics.items():
        say(told(name, training.metrics[name], after))

    chapter(3, "A regulator verifies the last certificate, with the whole chain")
    unlearning.bundle("case.bundle")
    run("verify", "case.bundle", "--trust", "ledger/trust.toml", since=" 6 ")

    chapter(4, "Retraining: fresh noise, and a chain of its own")
    patients = [name for number, name in enumerate(clinic.records) if number not in {*gone, place}]
    (_, retain), retrained = clinic.parted([place], gone), torch.nn.Linear(31, 1, bias=False, dtype=torch.float64)
    with certify.training(
        retrained,
        ledger=ledger,
        data={name: clinic.records[name] for name in patients},
        method="certified-removal/v1",
        parameters=told_of,
        seeds=[],
    ) as again:
        again.detail = removal_budget.trained(recipe.fit(retrained, *retain))
    with certify.unlearning(model, ledger=ledger, request=request, method="retraining", seeds=[]) as answered:
        answered.model = retrained
        answered.metrics.update(clinic.figures(forget, retain)(retrained))
    answered.bundle("retrained.bundle")
    say(
        f"patient {place + 1} is answered by entry {answered.certificate.index}; training/v1 at entry {again.certificate.index}"
    )
    say(f"the budget of the new model: {removal_budget.account(ledger, retrained).left:.4f}")
    ledger.close()
    run("verify", "retrained.bundle", "--trust", "ledger/trust.toml", since="VERIFIED")
    click.secho("  done", fg="green")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "removal-out").resolve(), quick="quick" in sys.argv[2:])
