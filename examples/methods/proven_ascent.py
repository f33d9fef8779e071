"""Gradient ascent that is proven: the weights after are those before and five steps up the loss of three patients, no others.

A linear model of scikit-learn's breast-cancer patients (Wisconsin), in integers. The proof is of the step: it says nothing about
what the weights still know, and its grade says so. It costs what the records to forget cost, not what all patients do. Run it
with ``python examples/methods/proven_ascent.py FOLDER [quick]``; ``quick`` takes 120 patients and ten measurements.
"""

import sys
import time
from pathlib import Path
from typing import Any

import click
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_breast_cancer

sys.path.insert(0, str(Path(__file__).resolve().parent))

from patients import open_clinic, told
from telling import ceremony, progress, run, say, story

import certify
from certify import bundle, case
from certify.encoding import row_of
from certify.provable_step import Ascent, Updatable
from certify.records import record_bytes
from certify.zk import Encoding

GONE = ("patient-007", "patient-040", "patient-099")


def patients(quick: bool) -> dict[str, dict[str, Any]]:
    data = load_breast_cancer()
    count, width = (120, 10) if quick else (569, 30)
    names = [str(name).replace(" ", "-") for name in data.feature_names[:width]]
    return {
        f"patient-{row:03d}": {
            **dict(zip(names, map(float, data.data[row]), strict=False)),
            "benign": str(data.target[row]),
        }
        for row in range(count)
    }


def figures(state: Any, rows: torch.Tensor) -> tuple[float, float]:
    """Mean loss and the share that is right. rows: (n, d + 1), encoded"""
    z = rows[:, :-1] / 16 @ state["0.weight"].double().T + state["0.bias"].double()  # (n, 1)
    y = rows[:, -1:]
    return float(0.5 * (z - y).square().mean()), float((z * y > 0).double().mean())


def encoded(records: dict[str, dict[str, Any]], encoding: Encoding) -> torch.Tensor:
    return torch.tensor([row_of(record_bytes(record), encoding) for record in records.values()], dtype=torch.float64)


def main(folder: Path, quick: bool = False) -> None:
    began, chapter, everybody = time.monotonic(), story(4), patients(quick)

    chapter(1, "A clinic fits a model that it will be able to prove steps of")
    ledger = open_clinic(folder)
    genuine = ceremony(11)
    model = Updatable(batch=len(everybody) // 4, steps=60, learning_rate=0.05, scale_w=4096)
    fitted = certify.fit(
        ledger, everybody, target="benign", objective=model, development=not genuine, progress=progress
    )
    say(f"training/v1 is entry {fitted.logged.index}; it commits to the records and to the weights")

    chapter(2, "Three patients ask to be forgotten")
    gone = {name: everybody[name] for name in GONE}
    request = certify.file_request(ledger, gone, ground="gdpr-17")
    say(f"request/v1 is entry {request.index}; it commits to their measurements and to their diagnoses")

    chapter(3, "Five steps of gradient ascent on them, and a proof of these")
    proving = time.monotonic()
    forgot = certify.forget(ledger, [request], step=Ascent(steps=5, learning_rate=0.02), progress=progress)
    say(f"unlearning/v1 is entry {forgot.logged.index}, after {time.monotonic() - proving:.0f} s")
    training: Any = fitted.logged.statement.predicate
    rest = {name: record for name, record in everybody.items() if name not in gone}
    for name, records in (("forget", gone), ("retain", rest)):
        rows = encoded(records, training.zk.encoding)
        (loss, right), (later, still) = (figures(made.weights, rows) for made in (fitted, forgot))
        say(told(f"{name} accuracy", right, still) + f"; loss {loss:.3f} before, {later:.3f} after")
    save_file(dict(forgot.weights), "weights.safetensors")
    bundle.write(Path("case.bundle"), case.collect(ledger, forgot.logged))
    asked = Path("requested.jsonl")
    asked.write_bytes(record_bytes({"id": GONE[0], **gone[GONE[0]]}) + b"\n")
    run("receipt", "--request", request.index, "--data", asked, "--id", GONE[0], "-o", "patient.json")
    ledger.close()

    chapter(4, "A regulator verifies it, with the weights in use and a patient's receipt")
    options = ["--trust", "ledger/trust.toml", *([] if genuine else ["--allow-development-srs"])]
    run("verify", "case.bundle", *options, "--weights", "weights.safetensors", "--receipt", "patient.json", since=" 7 ")
    click.secho(f"  done in {time.monotonic() - began:.0f} s", fg="green")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "proven-ascent-out").resolve(), quick="quick" in sys.argv[2:])
