"""UNSIR: a network forgets a digit without anybody looking at an image of it: noise stands in for the class.

The noise that the network errs on most is learnt as if it were threes, and the damage mended with the other digits. The noise
comes along with the certificate. Scikit-learn's digits. Run it with ``python examples/methods/unsir.py FOLDER [quick]``.
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
from circuits.steps.step import Task
from circuits.steps.unsir import Unsir


def main(folder: Path, quick: bool = False) -> None:
    torch.set_num_threads(1)  # tiny models: threads would wait for each other
    chapter, images, digit = story(3), Images(quick), 3
    gone = images.of(digit)
    forget, retain = images.parted(gone)
    figures = images.figures(forget, retain, digit)

    chapter(1, "A network learns to read digits")
    ledger = open_clinic(folder)
    model, before = learnt(ledger, images, figures)
    anew = retrained(network, fit, retain, figures)

    chapter(2, "It has to forget the three")
    request = certify.file_request(ledger, {"digit 3": {"is": digit}}, ground="gdpr-17", scope="class")
    task, gate = Task(forget, retain), certify.Gate(lambda model: accuracy(model, retain), drop=0.05)
    unlearning = certify.unlearn(
        model,
        Unsir(noises=100, impair_rate=0.2, repair_rate=0.2, repair_epochs=2, seed=7),
        ledger=ledger,
        request=request,
        task=task,
        gate=gate,
        metrics=lambda model: figures(model) | anew,
    )
    for line in compared(before, unlearning.metrics):
        say(line)
    detail = unlearning.certificate.statement.predicate.detail
    say(f"{detail.noises} pieces of noise, {detail.steps} steps; SHA-256 of the noise {detail.noise[:16]}")

    chapter(3, "A regulator verifies it")
    unlearning.bundle("case.bundle")
    ledger.close()
    run("verify", "case.bundle", "--trust", "ledger/trust.toml", since=" 6 ")
    click.secho("  done", fg="green")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "unsir-out").resolve(), quick="quick" in sys.argv[2:])
