"""A network forgets: it learns handwritten digits by SGD, and forgets one of them with a proof of every step.

scikit-learn's digits (UCI, 8 x 8 pixels), one hidden layer. The network has no single optimum to be compared with, so the
proofs follow its training: public first weights, then each step on the batches committed to, without what is near the
forgotten digit. Run it with ``python examples/digits_chain.py FOLDER [quick]``: 24 steps of 64-16-10 on batches of 32 take
some eight minutes on two cores; ``quick`` averages the pixels four at a time, for 16-8-10 on batches of 16, and takes two.
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
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from telling import ceremony, progress, run, say, story

import certify
from certify import bundle, case
from certify.encoding import row_of
from certify.provable_sgd import Sgd, problem_of, score
from certify.records import record_bytes
from certify.zk import Column, Encoding

BATCHES, STEPS = 24, 24
FORGOTTEN = "digit-0040"
MIDDLE = 5  # of 16 shades of grey


def digits(quick: bool) -> dict[str, dict[str, Any]]:
    """Pixels by name, and which digit it is; shuffled once and for all."""
    data = load_digits()
    images = data.images.reshape(-1, 4, 2, 4, 2).mean((2, 4)) if quick else data.images
    order = np.random.default_rng(0).permutation(len(images))
    return {
        f"digit-{place:04d}": {
            **{f"pixel-{at}": float(value) for at, value in enumerate(images[index].ravel())},
            "digit": str(data.target[index]),
        }
        for place, index in enumerate(order)
    }


def main(folder: Path, size: str = "full") -> None:
    began = time.monotonic()
    chapter = story(5)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    os.environ["CERTIFY_PASSWORD"] = secrets.token_urlsafe()  # of the keys made below; the example keeps it nowhere

    chapter(1, "A network is trained in integers, on batches that are committed to")
    run("init", "ledger", "--origin", "post.example/ledger", "--issuer", "Example Post")
    genuine = ceremony(11)
    quick = size == "quick"
    hidden, batch = (8, 16) if quick else (16, 32)
    everything = digits(quick)
    learnt = dict(list(everything.items())[: batch * BATCHES])
    pixels = [name for name in everything[FORGOTTEN] if name != "digit"]
    encoding = Encoding(  # fixed beforehand: nothing about anybody is in it
        16, Column("digit"), columns=[Column(name, MIDDLE, 16) for name in pixels], classes=list("0123456789")
    )
    ledger = certify.Workspace(Path("ledger"))
    sgd = Sgd(hidden=hidden, batch=batch, steps=STEPS)
    fitted = certify.fit(
        ledger, learnt, target="digit", objective=sgd, encoding=encoding, development=not genuine, progress=progress
    )
    training = fitted.logged.statement.predicate
    problem, _, _ = problem_of(training, [1])
    unseen = [row_of(record_bytes(record), encoding) for record in list(everything.values())[len(learnt) :]]
    say(f"{len(pixels)}-{hidden}-10, {problem.size} parameters, {STEPS} steps of {batch} digits")
    say(f"learning rate {problem.learning_rate:.2f}; every number is an integer over {sgd.scale_w}")
    say(
        f"{score(problem, fitted.weights, unseen):.1%} of {len(unseen)} digits right that it has not seen; guessing gets 10 %"
    )
    say(
        f"training/v1 is entry {fitted.logged.index}: the seed, the steps and {BATCHES} batches are settled from here on"
    )

    chapter(2, f"The writer of {FORGOTTEN} asks to be forgotten")
    request = certify.file_request(ledger, {FORGOTTEN: learnt[FORGOTTEN]}, ground="gdpr-17")
    say(f"request/v1 is entry {request.index}")

    chapter(3, f"The {STEPS} steps are taken again without it, and each is proven")
    forgot = certify.forget(ledger, [request], progress=progress)
    say(f"unlearning/v1, the certificate, is entry {forgot.logged.index}")
    say(f"{score(problem, forgot.weights, unseen):.1%} of the same digits right")
    changed = sum(int((forgot.weights[name] != fitted.weights[name]).sum()) for name in forgot.weights)
    say(f"{changed} of {problem.size} parameters are different")
    save_file(dict(forgot.weights), "weights.safetensors")
    bundle.write(Path("case.bundle"), case.collect(ledger, forgot.logged))
    asked = Path("requested.jsonl")
    asked.write_bytes(record_bytes({"id": FORGOTTEN, **learnt[FORGOTTEN]}) + b"\n")
    run("receipt", "--request", request.index, "--data", asked, "--id", FORGOTTEN, "-o", "writer.json")
    ledger.close()

    chapter(4, "A regulator verifies the chain, the writer their digit, and the post office its weights")
    options = ["--trust", "ledger/trust.toml", *([] if genuine else ["--allow-development-srs"])]
    run("verify", "case.bundle", *options, "--weights", "weights.safetensors", "--receipt", "writer.json", since=" 7 ")

    chapter(5, "What remains")
    model = torch.nn.Sequential(torch.nn.Linear(len(pixels), hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 10))
    model.load_state_dict(dict(forgot.weights))
    say(f"everything is in {folder}; the weights load into an ordinary torch model")
    click.secho(f"  done in {time.monotonic() - began:.0f} s", fg="green")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "digits-out").resolve(), *sys.argv[2:3])
