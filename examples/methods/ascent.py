"""Gradient ascent: a network unlearns twenty images by raising its loss on them, and not at any price.

With too bold a rate the network unlearns everything: the gate on what it knows of the other images refuses that, and nothing is
issued. Scikit-learn's digits. Run it with ``python examples/methods/ascent.py FOLDER [quick]``.
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
from certify.errors import GateError
from circuits.steps.ascent import GradientAscent
from circuits.steps.step import Task


def main(folder: Path, quick: bool = False) -> None:
    torch.set_num_threads(1)  # tiny models: threads would wait for each other
    chapter, images = story(4), Images(quick)
    gone = twenty(images)
    forget, retain = images.parted(gone)
    figures = images.figures(forget, retain)

    chapter(1, "A network learns to read digits")
    ledger = open_clinic(folder)
    model, before = learnt(ledger, images, figures)
    anew = retrained(network, fit, retain, figures)

    chapter(2, "Twenty images have to be forgotten: far too boldly at first")
    ids = list(images.records)
    request = certify.file_request(ledger, {ids[i]: images.records[ids[i]] for i in gone}, ground="gdpr-17")
    task, gate = Task(forget, retain), certify.Gate(lambda model: accuracy(model, retain), drop=0.02)
    bold = network()
    bold.load_state_dict(model.state_dict())
    try:
        certify.unlearn(bold, GradientAscent(rate=5.0, steps=10), ledger=ledger, request=request, task=task, gate=gate)
    except GateError as error:
        say(str(error))

    chapter(3, "Now in small steps")
    unlearning = certify.unlearn(
        model,
        GradientAscent(rate=0.02, steps=15),
        ledger=ledger,
        request=request,
        task=task,
        gate=gate,
        metrics=lambda model: figures(model) | anew,
    )
    for line in compared(before, unlearning.metrics):
        say(line)
    detail = unlearning.certificate.statement.predicate.detail
    say(f"the loss on these images was {detail.loss_before:.3g} and is {detail.loss_after:.3g}")

    chapter(4, "A regulator verifies it")
    unlearning.bundle("case.bundle")
    ledger.close()
    run("verify", "case.bundle", "--trust", "ledger/trust.toml", since=" 6 ")
    click.secho("  done", fg="green")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "ascent-out").resolve(), quick="quick" in sys.argv[2:])
