"""A clinic trains with differential privacy, and answers patients by the guarantee: the weights tell little of any one of them.

A classifier of breast cancer (scikit-learn's 569 patients) is trained by DP-SGD through Opacus. When patients ask to be
forgotten, the certificate says how little the weights can tell of whether they were learnt from, which the verifier computes
itself, and says that nothing was removed. A model without noise has no such guarantee. Run it with ``pip install opacus`` and
``python examples/methods/dp_sgd.py FOLDER [quick]``.
"""

import os
import secrets
import shutil
import sys
from pathlib import Path

import click
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from telling import run, say, story

import certify
from certify import bundle, case
from certify.dp_answer import answer_by_guarantee
from certify.errors import CertifyError
from certify.methods.dp import DpSgdTraining
from certify.rdp import best_test
from circuits.steps.dp_sgd import train

NOISE, CLIPPING, RATE, BATCH, DELTA = 6.0, 1.0, 2.0, 64, 1e-5
RANGES = [32, 64, 256, 4096, 0.25, 0.5, 0.5, 0.25, 0.5, 0.125, 4, 8, 32, 1024, 0.0625]
RANGES += [0.25, 0.5, 0.0625, 0.125, 0.0625, 64, 64, 256, 4096, 0.25, 2, 2, 0.5, 1, 0.25]
"""Of the measurements, as round figures: the patients' own extremes would cost privacy."""
Records = tuple[torch.Tensor, torch.Tensor]


def accuracy(model: torch.nn.Module, records: Records) -> float:
    with torch.no_grad():
        return float((model(records[0]).argmax(-1) == records[1]).float().mean())


def main(folder: Path, quick: bool = False) -> None:
    epochs = 6 if quick else 20
    chapter = story(4)
    torch.set_num_threads(1)  # tiny models: threads would wait for each other
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    os.environ["CERTIFY_PASSWORD"] = secrets.token_urlsafe()  # of the keys made below; nothing keeps it

    chapter(1, "A clinic trains with noise, and says how much")
    run("init", "ledger", "--origin", "clinic.example/ledger", "--issuer", "Example Clinic")
    ledger = certify.Workspace(Path("ledger"))
    cancer = load_breast_cancer()
    parts = train_test_split(cancer.data, cancer.target, test_size=0.2, random_state=0, stratify=cancer.target)
    rows, test_rows, labels, test_labels = parts
    patients = {
        f"patient {number}": {"measurements": row.tolist(), "benign": int(label)}
        for number, (row, label) in enumerate(zip(rows, labels, strict=True))
    }
    x, test_x = (2 * torch.tensor(part) / torch.tensor(RANGES) - 0.5 for part in (rows, test_rows))
    x, test_x, y, test_y = x.float(), test_x.float(), torch.tensor(labels), torch.tensor(test_labels)
    gone = ["patient 5", "patient 17", "patient 80"]
    places = [int(name.split()[1]) for name in gone]
    rest = sorted(set(range(len(x))) - set(places))

    def figures(model: torch.nn.Module) -> dict[str, float]:
        named = (
            ("retain accuracy", (x[rest], y[rest])),
            ("forget accuracy", (x[places], y[places])),
            ("test accuracy", (test_x, test_y)),
        )
        return {name: accuracy(model, records) for name, records in named}

    torch.manual_seed(0)
    model = torch.nn.Linear(x.shape[1], 2)
    with certify.training(model, ledger=ledger, data=patients, method="dp-sgd/v1", seeds=[]) as training:
        spent = train(model, x, y, noise=NOISE, clipping=CLIPPING, rate=RATE, batch=BATCH, epochs=epochs)
        training.detail = DpSgdTraining.of(
            noise=spent.noise_multiplier,
            rate=spent.sampling_rate,
            steps=spent.steps,
            clipping=spent.clipping,
            delta=DELTA,
            accountant=spent.accountant,
            reported=spent.reported(DELTA),
        )
        training.metrics["test accuracy"] = accuracy(model, (test_x, test_y))  # figures on the patients are not private
    detail = training.detail
    say(f"{training.metrics['test accuracy']:.1%} right on {len(test_y)} patients that it has not seen")
    say(f"{spent.steps} steps, noise {NOISE:g}: epsilon = {detail.epsilon:.3f} at delta = {DELTA:g} for one patient")
    say(f"{spent.accountant} says {detail.reported:.3f}")

    chapter(2, "Three patients ask to be forgotten, and are answered by the guarantee")
    request = certify.file_request(ledger, {name: patients[name] for name in gone}, ground="gdpr-17")
    logged = answer_by_guarantee(ledger, [request], delta=DELTA)
    guarantee = logged.statement.predicate.detail
    say(f"for the three together: epsilon = {guarantee.epsilon:.3f} at delta = {DELTA:g}")
    most = best_test(guarantee.epsilon, guarantee.delta)
    say(f"a test that is wrong for 1 % of models without them notices at most {most:.1%} of those with them")
    bundle.write(Path("case.bundle"), case.collect(ledger, logged))
    now = figures(model)
    say(
        "kept here, as it would tell of the patients: "
        + ", ".join(f"{name} {value:.1%}" for name, value in now.items())
    )

    chapter(3, "A regulator verifies it: nothing was removed, and that is said")
    run("verify", "case.bundle", "--trust", "ledger/trust.toml", since=" 6 ")

    chapter(4, "The same for a training without noise")
    plain = torch.nn.Linear(x.shape[1], 2)
    with certify.training(plain, ledger=ledger, data=patients, method="sgd", seeds=[]) as bare:
        optimizer = torch.optim.SGD(plain.parameters(), lr=RATE)
        for _ in range(20):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(plain(x), y).backward()
            optimizer.step()
    again = certify.file_request(ledger, {"patient 9": patients["patient 9"]}, ground="gdpr-17")
    try:
        answer_by_guarantee(ledger, [again], delta=DELTA, training=bare.certificate)
    except CertifyError as error:
        say(f"refused: {error}")
    click.secho(f"  everything is in {folder}", fg="green")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "dp-out").resolve(), "quick" in sys.argv[2:])
