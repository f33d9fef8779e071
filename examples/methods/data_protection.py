"""Images are cloaked before anybody trains on them, and the training says so: preventive, and no unlearning.

Whoever writes the threes among scikit-learn's digits has them cloaked (as Fawkes does it) before a company trains on them. The
training commits to them as they were and as they were trained on; a model that learnt the cloaked ones knows few plain threes.
Later somebody asks to be forgotten all the same, and the model is trained again without them: only that is a certificate. Run it
with ``python examples/methods/data_protection.py FOLDER [quick]``.
"""

import os
import secrets
import shutil
import sys
from pathlib import Path

import click
import torch
from sklearn.datasets import load_digits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from telling import run, say, story

import certify
from certify.methods.data_protection import DataProtection
from certify.records import records_of
from circuits.steps.fawkes import Fawkes, dssim

OWN, SEED = 3, 1


def network(outputs: int) -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, outputs)
    )


def fit(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int) -> None:
    optimizer = torch.optim.Adam([value for value in model.parameters() if value.requires_grad], lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


def accuracy(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    with torch.no_grad():
        return float((model(x).argmax(-1) == y).float().mean())


def main(folder: Path, quick: bool = False) -> None:
    steps = 80 if quick else 200
    chapter = story(4)
    torch.set_num_threads(1)  # tiny models: threads would wait for each other
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    os.environ["CERTIFY_PASSWORD"] = secrets.token_urlsafe()  # of the keys made below; nothing keeps it

    chapter(1, "Threes are cloaked before anybody trains on them")
    run("init", "ledger", "--origin", "readers.example/ledger", "--issuer", "Example Readers")
    ledger = certify.Workspace(Path("ledger"))
    digits = load_digits()
    x, y = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None], torch.tensor(digits.target)
    learnt, unseen, public = slice(0, 600), slice(600, 1000), slice(1000, None)
    torch.manual_seed(SEED)
    extractor = network(10)
    fit(extractor, x[public], y[public], steps)
    features = extractor[:3].requires_grad_(False)
    step = Fawkes(limit=0.5, budget=0.2)
    cloaked = step.cloak(features, x[learnt], y[learnt], own={OWN})
    mine = y[learnt] == OWN
    most = float((cloaked - x[learnt]).abs().max()), float(dssim(x[learnt], cloaked).max())
    say(f"{int(mine.sum())} of {len(mine)} images; no pixel by more than {most[0]:.2f}, DSSIM at most {most[1]:.2f}")

    def as_records(images: torch.Tensor, chosen: torch.Tensor) -> dict[str, dict[str, object]]:
        return {
            f"image-{row:04d}": {"pixels": images[row].reshape(-1).tolist(), "digit": int(y[row])}
            for row in chosen.nonzero()[:, 0].tolist()
        }

    chapter(2, "A company trains on them, and commits to both")
    everyone = torch.ones_like(mine)
    records = as_records(cloaked, everyone)
    gone, rest = mine.nonzero()[:5, 0].tolist(), [row for row in range(len(mine)) if row not in mine.nonzero()[:5, 0]]

    def figures(model: torch.nn.Module) -> dict[str, float]:
        named = (("retain accuracy", cloaked[rest], rest), ("forget accuracy", cloaked[gone], gone))
        return {name: accuracy(model, images, y[learnt][rows]) for name, images, rows in named} | {
            "test accuracy": accuracy(model, x[unseen], y[unseen])
        }

    def build() -> torch.nn.Module:
        torch.manual_seed(SEED)
        return torch.nn.Sequential(features, torch.nn.Linear(32, 10))

    model = build()
    with certify.training(model, ledger=ledger, data=records, method="data-protection/v1", seeds=[SEED]) as training:
        fit(model, cloaked, y[learnt], steps)
        vault = ledger.vault
        training.detail = DataProtection(
            label="preventive",
            tool=step.name,
            originals=vault.put_records(records_of(as_records(x[learnt], mine))),
            transformed=vault.put_records(records_of(as_records(cloaked, mine))),
            limit=step.limit,
            limit_found=most[0],
            budget=step.budget,
            budget_found=most[1],
        )
        training.metrics.update(figures(model))
    plain = build()
    fit(plain, x[learnt], y[learnt], steps)
    threes = y[unseen] == OWN
    for name, one in (("plain", plain), ("cloaked", model)):
        share = accuracy(one, x[unseen][threes], y[unseen][threes])
        others = accuracy(one, x[unseen][~threes], y[unseen][~threes])
        say(f"having learnt {name} threes, it knows {share:.0%} of plain threes and {others:.0%} of other digits")

    chapter(3, "Five images have to be forgotten all the same: by training again, not by cloaks")
    ids = [f"image-{row:04d}" for row in gone]
    request = certify.file_request(ledger, {name: records[name] for name in ids}, ground="gdpr-17")
    with certify.unlearning(model, ledger=ledger, request=request, method="retraining", seeds=[SEED]) as unlearning:
        fresh = build()
        fit(fresh, cloaked[rest], y[learnt][rest], steps)
        model.load_state_dict(fresh.state_dict())
        unlearning.metrics.update(figures(model))
    unlearning.bundle("case.bundle")
    run("verify", "case.bundle", "--trust", "ledger/trust.toml", since=" 6 ")

    chapter(4, "What remains")
    say(
        "a model that learnt from the images before they were cloaked, or that is not fooled by cloaks, knows them still"
    )
    click.secho(f"  everything is in {folder}", fg="green")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data-protection-out").resolve(), "quick" in sys.argv[2:])
