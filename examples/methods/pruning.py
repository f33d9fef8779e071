"""Class-discriminative pruning: the channels that speak of one digit are set to zero, and anybody can check exactly that.

Scores, threshold and mask come along with the certificate, and so does the layer as it was: the verifier zeroes the channels
itself and compares digests. Scikit-learn's digits. Run it with ``python examples/methods/pruning.py FOLDER [quick]``.
"""

import sys
from pathlib import Path

import click
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from images import Images, compared, fit, learnt, network, retrained
from patients import accuracy, open_clinic
from telling import run, say, story

import certify
from circuits.steps.pruning import Pruning
from circuits.steps.step import Task


def main(folder: Path, quick: bool = False) -> None:
    torch.set_num_threads(1)  # tiny models: threads would wait for each other
    chapter, images, digit = story(3), Images(quick), 1
    gone = images.of(digit)
    forget, retain = images.parted(gone)
    figures = images.figures(forget, retain, digit)

    chapter(1, "A network learns to read digits")
    ledger = open_clinic(folder)
    model, before = learnt(ledger, images, figures)
    anew = retrained(network, fit, retain, figures)

    chapter(2, "It has to forget the one")
    request = certify.file_request(ledger, {"digit 1": {"is": digit}}, ground="gdpr-17", scope="class")
    task, gate = Task(forget, retain), certify.Gate(lambda model: accuracy(model, retain), drop=0.1)
    unlearning = certify.unlearn(
        model,
        Pruning(layers=("0",), share=0.2, reveal=True),
        ledger=ledger,
        request=request,
        task=task,
        gate=gate,
        metrics=lambda model: figures(model) | anew,
    )
    for line in compared(before, unlearning.metrics):
        say(line)
    (layer,) = unlearning.certificate.statement.predicate.detail.layers
    say(f"channels of the hidden layer that score {layer.threshold:.3g} or more for this digit are zero")

    chapter(3, "A regulator verifies it")
    unlearning.bundle("case.bundle")
    ledger.close()
    run("verify", "case.bundle", "--trust", "ledger/trust.toml", since=" 6 ")
    click.secho("  done", fg="green")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "pruning-out").resolve(), quick="quick" in sys.argv[2:])
