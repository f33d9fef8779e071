"""SCRUB: a student network obeys its teacher, the model before, on all images but twenty, which it contradicts.

Scikit-learn's digits. Run it with ``python examples/methods/scrub.py FOLDER [quick]``.
"""

import sys
from pathlib import Path

import click
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from images import Images, compared, fit, learnt, network, retrained, twenty
from patients import accuracy, open_clinic
from telling import run, say, story

import certify
from circuits.steps.scrub import Scrub
from circuits.steps.step import Task


def main(folder: Path, quick: bool = False) -> None:
    torch.set_num_threads(1)  # tiny models: threads would wait for each other
    chapter, images = story(3), Images(quick)
    gone = twenty(images)
    forget, retain = images.parted(gone)
    figures = images.figures(forget, retain)

    chapter(1, "A network learns to read digits")
    ledger = open_clinic(folder)
    model, before = learnt(ledger, images, figures)
    anew = retrained(network, fit, retain, figures)

    chapter(2, "Twenty images have to be forgotten: 25 rounds, 20 of which begin with steps up")
    ids = list(images.records)
    request = certify.file_request(ledger, {ids[i]: images.records[ids[i]] for i in gone}, ground="gdpr-17")
    task, gate = Task(forget, retain), certify.Gate(lambda model: accuracy(model, retain), drop=0.02)
    unlearning = certify.unlearn(
        model,
        Scrub(rate=0.5, rounds=25, up=20, alpha=0.5, gamma=1.0, batch=64, seed=7),
        ledger=ledger,
        request=request,
        task=task,
        gate=gate,
        metrics=lambda model: figures(model) | anew,
    )
    for line in compared(before, unlearning.metrics):
        say(line)
    detail = unlearning.certificate.statement.predicate.detail
    say(
        f"the student is {detail.forget_divergence:.2g} nats from its teacher on these, "
        f"{detail.retain_divergence:.2g} on the others"
    )

    chapter(3, "A regulator verifies it")
    unlearning.bundle("case.bundle")
    ledger.close()
    run("verify", "case.bundle", "--trust", "ledger/trust.toml", since=" 6 ")
    click.secho("  done", fg="green")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "scrub-out").resolve(), quick="quick" in sys.argv[2:])
