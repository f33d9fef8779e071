"""Concept ablation: a model of diabetes is made blind to what its hidden layer says of a patient's sex.

442 patients (scikit-learn), ten measurements of which one is the sex; the network predicts who gets worse than the median. The
direction in which the sexes differ is projected out of what the last layer sees, and the verifier computes that again from the
layer before and after. "forget accuracy" is here that of a linear probe for the sex, on what the last layer sees of held-out
patients: guessing the more frequent one gets a little more than half. Run it with
``python examples/methods/ablation.py FOLDER [quick]``.
"""

import sys
from pathlib import Path

import click
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LogisticRegression
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent))

from images import compared
from patients import accuracy, open_clinic
from telling import run, say, story

import certify
from circuits.steps.ablation import Ablation
from circuits.steps.step import Task

SEX, TRAINED = 1, 342


def main(folder: Path, quick: bool = False) -> None:
    torch.set_num_threads(1)  # tiny models: threads would wait for each other
    chapter, data = story(3), load_diabetes()
    order = torch.randperm(442, generator=torch.Generator().manual_seed(7))
    x = torch.tensor(data.data[order] * 20, dtype=torch.float64)
    y = torch.tensor((data.target > sorted(data.target)[221]).astype(int)[order])
    sex = x[:, SEX] > 0
    retain, test = (x[:TRAINED], y[:TRAINED]), (x[TRAINED:], y[TRAINED:])
    records = {f"patient-{i:03d}": {"measurements": x[i].tolist(), "worse": int(y[i])} for i in range(TRAINED)}
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 2)).double()

    def probe(model: nn.Module) -> float:
        """How well a linear model tells the sex from what the last layer makes of its input."""
        with torch.no_grad():
            last, inside = model[2].weight, model[:2](x)
            seen = (inside @ torch.linalg.pinv(last) @ last).numpy()  # all of its input that the layer can see
        found = LogisticRegression(max_iter=1000).fit(seen[:TRAINED], sex[:TRAINED])
        return float(found.score(seen[TRAINED:], sex[TRAINED:]))

    def figures(model: nn.Module) -> dict[str, float]:
        return {
            "retain accuracy": accuracy(model, retain),
            "forget accuracy": probe(model),
            "test accuracy": accuracy(model, test),
        }

    chapter(1, "A network learns who gets worse")
    ledger = open_clinic(folder)
    with certify.training(model, ledger=ledger, data=records, method="adam", seeds=[7]) as training:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.01)
        for _ in range(100 if quick else 300):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(retain[0]), retain[1]).backward()
            optimizer.step()
        training.metrics.update(figures(model))
    say(
        f"a probe tells {training.metrics['forget accuracy']:.1%} of held-out patients' sex by what the last layer sees"
    )

    chapter(2, "It has to be blind to that")
    request = certify.file_request(ledger, {"sex": {"is": "column 1"}}, ground="gdpr-17", scope="concept")
    with_it = sex[:TRAINED]
    task = Task(forget=(retain[0][with_it], retain[1][with_it]), retain=(retain[0][~with_it], retain[1][~with_it]))
    unlearning = certify.unlearn(
        model,
        Ablation(layers=("2",), reveal=True),
        ledger=ledger,
        request=request,
        task=task,
        gate=certify.Gate(lambda model: accuracy(model, retain), drop=0.05),
        metrics=figures,
    )
    for line in compared(training.metrics, unlearning.metrics):
        say(line)

    chapter(3, "A regulator verifies it")
    unlearning.bundle("case.bundle")
    ledger.close()
    run("verify", "case.bundle", "--trust", "ledger/trust.toml", since=" 6 ")
    click.secho("  done", fg="green")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "ablation-out").resolve(), quick="quick" in sys.argv[2:])
