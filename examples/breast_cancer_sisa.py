"""A real case from end to end: a hospital's classifier forgets three patients, and a regulator checks it.

The data are scikit-learn's 569 breast-cancer patients (Wisconsin). Run it with ``make demo``, or
``python examples/breast_cancer_sisa.py FOLDER``; everything it makes stays in FOLDER to look at.
"""

import os
import secrets
import shutil
import sys
import time
from pathlib import Path

import click
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from telling import run, say, story
from torch import Tensor, nn

import certify
from certify import sharding
from circuits.steps.sisa import Sisa, Standardize, plan

SEED = 7
SHARDS, SLICES = 5, 2


def constituent() -> nn.Module:
    return nn.Sequential(Standardize(30), nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 2))


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float((model(x).argmax(-1) == y).float().mean())


def flip(path: Path, position: int) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def main(folder: Path) -> None:
    began = time.monotonic()
    chapter = story(9)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    os.environ["CERTIFY_PASSWORD"] = secrets.token_urlsafe()  # of the keys made below; the demo keeps it nowhere

    chapter(1, "The hospital makes a ledger")
    run("init", "ledger", "--origin", "hospital.example/ledger", "--issuer", "Example Hospital")
    ledger = certify.Workspace(Path("ledger"))

    chapter(2, "It trains a classifier on its patients, and logs what it trained on before anybody asks")
    data = load_breast_cancer()
    x_all = torch.tensor(data.data, dtype=torch.float32)
    y_all = torch.tensor(data.target)
    rows, held_out = train_test_split(range(len(x_all)), test_size=114, random_state=SEED, stratify=data.target)
    x, y, x_test, y_test = x_all[rows], y_all[rows], x_all[held_out], y_all[held_out]
    patients = {
        f"patient-{row:03d}": {"measurements": data.data[row], "benign": bool(data.target[row])} for row in rows
    }
    ids = list(patients)
    torch.manual_seed(SEED)
    sisa = Sisa(constituent, plan(len(x), shards=SHARDS, slices=SLICES, seed=SEED), seed=SEED)
    say(f"{len(x)} patients in {SHARDS} shards of {SLICES} slices; a small network learns from each shard alone (SISA)")
    with certify.training(
        sisa.ensemble, ledger=ledger, data=patients, method="sisa/v1", parameters=sisa.parameters(), seeds=[SEED]
    ) as training:
        sisa.fit(x, y)
        training.detail = sharding.trained(ledger, sisa.plan, checkpoints=sisa.checkpoints.digests)
        training.metrics["test accuracy"] = accuracy(sisa.ensemble, x_test, y_test)
    say(f"{training.metrics['test accuracy']:.1%} right on {len(x_test)} patients it has not seen")
    say(f"training/v1 is entry {training.certificate.index} of the log: salted commitments, no patient's data,")
    say("not even to who is in which shard")
    save_file(sisa.ensemble.state_dict(), "before.safetensors")

    chapter(3, "Three patients ask to be forgotten")
    positions = [sisa.plan[1][0][4], sisa.plan[1][1][0], sisa.plan[1][1][9]]
    asked = {ids[position]: patients[ids[position]] for position in positions}
    request = certify.file_request(ledger, asked, ground="gdpr-17")
    say(f"{', '.join(asked)}: the log gets a commitment that names none of them")
    say(f"request/v1 is entry {request.index}, due on {request.statement.predicate.due[:10]}")

    chapter(4, "The shard that learnt from them is retrained without them")
    with certify.unlearning(
        sisa.ensemble,
        ledger=ledger,
        request=request,
        method="sisa/v1",
        parameters=sisa.parameters(),
        seeds=[SEED],
    ) as unlearning:
        affected = sisa.forget(positions, x, y)
        unlearning.detail = sharding.retrained(
            ledger, training.certificate, [request], affected, checkpoints=sisa.checkpoints.digests
        )
        unlearning.metrics["test accuracy"] = accuracy(sisa.ensemble, x_test, y_test)
        save_file(sisa.ensemble.state_dict(), "weights.safetensors")
        unlearning.files.append(Path("weights.safetensors"))
    for shard, slice_ in affected.items():
        say(
            f"shard {shard} went back to before slice {slice_} and learnt the rest again; the other shards were not touched"
        )
    say(f"{unlearning.metrics['test accuracy']:.1%} right on the same {len(x_test)} patients")
    say(f"unlearning/v1, the certificate, is entry {unlearning.certificate.index}")

    chapter(5, "The case goes into one file")
    unlearning.bundle("case.bundle")
    run(
        "receipt",
        "--request",
        request.index,
        "--data",
        _as_jsonl(asked),
        "--id",
        next(iter(asked)),
        "-o",
        "patient.json",
    )
    ledger.close()
    regulator = Path("regulator")
    regulator.mkdir()
    for name in (Path("case.bundle"), Path("ledger/trust.toml")):
        shutil.copy(name, regulator / name.name)
    say("the regulator gets case.bundle and, over another channel, trust.toml: no weights, no data")

    chapter(6, "The regulator verifies it, offline")
    case, trust = regulator / "case.bundle", regulator / "trust.toml"
    run("verify", case, "--trust", trust)

    chapter(7, "So can whoever has the weights, and the patient who has a receipt")
    run("verify", case, "--trust", trust, "--weights", "weights.safetensors", "--receipt", "patient.json", since=" 9 ")

    chapter(8, "Somebody tampers")
    say("one bit of the bundle:")
    shutil.copy(case, "tampered.bundle")
    flip(Path("tampered.bundle"), len(case.read_bytes()) // 2)
    run("verify", "tampered.bundle", "--trust", trust, expect=11)
    say("one bit of the weights:")
    shutil.copy("weights.safetensors", "tampered.safetensors")
    flip(Path("tampered.safetensors"), Path("tampered.safetensors").stat().st_size - 3)
    run("verify", case, "--trust", trust, "--weights", "tampered.safetensors", expect=19, since=" NO ")
    say("the weights from before, passed off as the new ones:")
    run("verify", case, "--trust", trust, "--weights", "before.safetensors", expect=19, since=" NO ")
    say("one bit of a logged entry, in the log's database:")
    shutil.copytree("ledger", "tampered")
    database = Path("tampered/log.db")
    flip(database, database.read_bytes().index(request.envelope.data[100:140]))
    run("log", "prove", request.index, "--ledger", "tampered", expect=32)
    run("log", "fsck", "--ledger", "tampered", expect=39)

    chapter(9, "What remains")
    say(f"everything is in {folder}; look at it with 'certify show {folder / 'case.bundle'}'")
    click.secho(f"  done in {time.monotonic() - began:.0f} s", fg="green")


def _as_jsonl(records: dict[str, dict[str, object]]) -> Path:
    """The requested records as a file, for the command line."""
    from certify.records import record_bytes

    path = Path("requested.jsonl")
    with path.open("wb") as file:
        for record_id, record in records.items():
            file.write(b'{"id":"%b",' % record_id.encode() + record_bytes(record)[1:] + b"\n")
    return path


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-out").resolve())
