"""A proof from end to end: a classifier of breast cancer forgets a patient, and a regulator checks that it did.

All 569 patients of scikit-learn's data (Wisconsin), and one of them a second time with a little noise, as copies in other
databases have it. The classifier is the optimum of a convex objective, so that a zero-knowledge proof can show what it learnt
from. Run it with ``make demo``, or ``python examples/breast_cancer_exclusion.py FOLDER [LOSS [quick]]``: a loss of
squared-hinge (the default), logistic or ridge; quick takes 120 of the patients. Everything it makes stays in FOLDER.
"""

import os
import secrets
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from safetensors.torch import save_file
from sklearn.datasets import load_breast_cancer
from telling import ceremony, progress, run, say, story

import certify
from certify import bundle, case
from certify.encoding import row_of
from certify.records import record_bytes

FORGOTTEN = "patient-297"
DOUBLE = "patient-297-copy"
LOGROWS = {"squared-hinge": 11, "ridge": 11, "logistic": 15}


def patients(rows: range) -> dict[str, dict[str, Any]]:
    """Some of the 569 patients and a jittered copy of one: measurements by name, and a diagnosis."""
    data = load_breast_cancer()
    found = {
        f"patient-{row:03d}": {
            **dict(zip(data.feature_names.tolist(), values.tolist(), strict=True)),
            "diagnosis": str(data.target_names[target]),
        }
        for row, (values, target) in enumerate(zip(data.data, data.target, strict=True))
        if row in rows
    }
    noise = iter(np.random.default_rng(7).normal(scale=1e-3, size=64).tolist())
    copy = {
        name: value * (1 + next(noise)) if isinstance(value, float) else value
        for name, value in found[FORGOTTEN].items()
    }
    return {**found, DOUBLE: copy}


def accuracy(made: Any, records: dict[str, dict[str, Any]]) -> float:
    """Share of the records that the weights get right."""
    encoding = made.logged.statement.predicate.zk.encoding
    rows = np.array([row_of(record_bytes(record), encoding) for record in records.values()])
    margins = rows[:, :-1] @ made.weights["weight"][0].double().numpy()
    return float((np.sign(margins) == rows[:, -1]).mean())


def main(folder: Path, loss: Any = "squared-hinge", size: str = "all") -> None:
    began = time.monotonic()
    chapter = story(6)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    os.environ["CERTIFY_PASSWORD"] = secrets.token_urlsafe()  # of the keys made below; the demo keeps it nowhere

    chapter(1, "The hospital fits a classifier, and commits to its patients before anybody asks")
    run("init", "ledger", "--origin", "hospital.example/ledger", "--issuer", "Example Hospital")
    genuine = ceremony(LOGROWS[loss])
    records = patients(range(240, 360) if size == "quick" else range(569))
    ledger = certify.Workspace(Path("ledger"))
    objective = certify.Objective(loss=loss, logrows=LOGROWS[loss])
    fitted = certify.fit(
        ledger, records, target="diagnosis", objective=objective, development=not genuine, progress=progress
    )
    say(
        f"{accuracy(fitted, records):.1%} of {len(records)} patients right, with 30 measurements and the {loss} objective"
    )
    say(
        f"training/v1 is entry {fitted.logged.index}: salted commitments to patients and numbers, which show nobody's data"
    )

    chapter(2, f"{FORGOTTEN} asks to be forgotten")
    request = certify.file_request(ledger, {FORGOTTEN: records[FORGOTTEN]}, ground="gdpr-17")
    say(f"request/v1 is entry {request.index}: a commitment that names nobody")
    say(f"the hospital does not know that {DOUBLE} is the same person")

    chapter(3, "It computes the optimum without them, and proves that this is what it is")
    forgot = certify.forget(ledger, [request], progress=progress)
    certificate = forgot.logged.statement.predicate
    say(f"unlearning/v1, the certificate, is entry {forgot.logged.index}")
    moved = (forgot.weights["weight"] - fitted.weights["weight"]).norm()
    say(f"the weights moved by {moved:.4f} of {fitted.weights['weight'].norm():.2f}")
    save_file(dict(fitted.weights), "before.safetensors")
    save_file(dict(forgot.weights), "weights.safetensors")
    bundle.write(Path("case.bundle"), case.collect(ledger, forgot.logged))
    asked = Path("requested.jsonl")
    asked.write_bytes(record_bytes({"id": FORGOTTEN, **records[FORGOTTEN]}) + b"\n")
    run("receipt", "--request", request.index, "--data", asked, "--id", FORGOTTEN, "-o", "patient.json")
    ledger.close()

    chapter(4, "A regulator verifies it: no weights, no data, no network")
    options = ["--trust", "ledger/trust.toml", *([] if genuine else ["--allow-development-srs"])]
    run("verify", "case.bundle", *options)
    if not genuine:
        say("without that option it refuses:")
        run("verify", "case.bundle", *options[:2], expect=28, since=" NO ")

    chapter(5, "So do the patient, with their receipt, and whoever has the weights")
    run("verify", "case.bundle", *options, "--weights", "weights.safetensors", "--receipt", "patient.json", since=" 9 ")
    say("the weights from before, passed off as the new ones:")
    run("verify", "case.bundle", *options, "--weights", "before.safetensors", expect=19, since=" NO ")

    chapter(6, "What remains")
    assert certificate.evidence is not None
    say(f"everything is in {folder}; 'certify circuit rebuild case.bundle' builds the circuit anew and compares")
    click.secho(f"  done in {time.monotonic() - began:.0f} s", fg="green")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-out").resolve(), *sys.argv[2:4])
