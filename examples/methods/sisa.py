"""SISA: a clinic trains in shards and slices, keeps checkpoints on disk, and retrains from the right one what saw a patient.

The map of patients to shards and the digests of all checkpoints are committed to in training. The certificate opens the places of
three patients; one that leaves a shard as it was which held one of them is refused. Run it with
``python examples/methods/sisa.py FOLDER [quick]``.
"""

import sys
from pathlib import Path

import click
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent))

from patients import SEED, Patients, open_clinic, told
from telling import run, say, story

import certify
from certify import sharding
from certify.errors import WorkspaceError
from circuits.steps.sisa import Ensemble, Sisa, plan


def main(folder: Path, quick: bool = False) -> None:
    torch.set_num_threads(1)  # tiny models: threads would wait for each other
    chapter, clinic = story(4), Patients()

    chapter(1, "A clinic's ensemble learns in 5 shards of 3 slices, each network from one shard only")
    ledger = open_clinic(folder)
    sisa = Sisa(
        lambda: nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 2)).double(),
        plan(len(clinic.x), shards=5, slices=3, seed=SEED),
        seed=SEED,
        epochs=5 if quick else 30,
        aggregation="majority",
        folder=Path("checkpoints"),
    )
    gone = [sisa.plan[1][2][0], sisa.plan[1][2][4], sisa.plan[4][1][7]]
    forget, retain = clinic.parted(gone)
    figures = clinic.figures(forget, retain)
    with certify.training(
        sisa.ensemble,
        ledger=ledger,
        data=clinic.records,
        method="sisa/v1",
        parameters=sisa.parameters(),
        seeds=[SEED],
    ) as training:
        sisa.fit(clinic.x, clinic.y)
        digests = sisa.checkpoints.digests
        training.detail = sharding.trained(ledger, sisa.plan, aggregation="majority", checkpoints=digests)
        training.metrics.update(figures(sisa.ensemble))
    say(f"{len(list(Path('checkpoints').iterdir()))} checkpoints on disk, one state at a time in memory")
    with torch.no_grad():
        mean = Ensemble(sisa.ensemble.constituents)(clinic.test[0]).argmax(-1)
    right = float((mean == clinic.test[1]).double().mean())
    say(f"{training.metrics['test accuracy']:.1%} right by majority on patients it has not seen, {right:.1%} by mean")

    chapter(2, "Three patients ask to be forgotten")
    request = clinic.ask(ledger, gone)
    say("somebody who retrains for two of them only gets no certificate:")
    try:
        with certify.unlearning(sisa.ensemble, ledger=ledger, request=request, method="sisa/v1") as lazy:
            lazy.detail = sharding.retrained(ledger, training.certificate, [request], {1: 2}, checkpoints=digests)
    except WorkspaceError as error:
        say(str(error).split(": ", 1)[-1])

    chapter(3, "Their shards go back to before the slices that held them, and learn the rest again")
    with certify.unlearning(
        sisa.ensemble,
        ledger=ledger,
        request=request,
        method="sisa/v1",
        parameters=sisa.parameters(),
        seeds=[SEED],
    ) as unlearning:
        affected = sisa.forget(gone, clinic.x, clinic.y)
        digests = sisa.checkpoints.digests
        unlearning.detail = sharding.retrained(ledger, training.certificate, [request], affected, checkpoints=digests)
        unlearning.metrics.update(figures(sisa.ensemble))
    for shard, first in affected.items():
        say(f"shard {shard} from slice {first} on")
    for name, after in unlearning.metrics.items():
        say(told(name, training.metrics[name], after))

    chapter(4, "A regulator verifies it")
    unlearning.bundle("case.bundle")
    ledger.close()
    run("verify", "case.bundle", "--trust", "ledger/trust.toml", since=" 6 ")
    click.secho("  done", fg="green")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "sisa-out").resolve(), quick="quick" in sys.argv[2:])
