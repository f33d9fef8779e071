"""Amnesiac unlearning: a post office takes back what the batches with certain images changed, repairs, and shows an auditor.

A network reads handwritten digits (scikit-learn's 1,797). What each batch changed is recorded on disk and committed to as it is
made. To forget images, the changes of all their batches are subtracted and the images that are kept repair the damage; that is
recorded too, as somebody else may ask later. An auditor who is given the deltas gets the same weights, to the bit. Run it with
``python examples/methods/amnesiac.py FOLDER [quick]``.
"""

import os
import secrets
import shutil
import sys
from pathlib import Path

import click
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from patients import accuracy, told  # noqa: E402
from telling import run, say, story  # noqa: E402

import certify  # noqa: E402
from certify import deltas  # noqa: E402
from certify.errors import ChainError  # noqa: E402
from circuits.steps.amnesiac import Recording  # noqa: E402
from circuits.steps.step import Task  # noqa: E402

SEED = 7


def main(folder: Path, quick: bool = False) -> None:
    epochs, chapter = 4 if quick else 12, story(5)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    os.environ["CERTIFY_PASSWORD"] = secrets.token_urlsafe()  # of the keys made below; nothing keeps it

    chapter(1, "A network learns to read, and what each batch changes is recorded")
    run("init", "ledger", "--origin", "post.example/ledger", "--issuer", "Example Post")
    ledger = certify.Workspace(Path("ledger"))
    data = load_digits()
    parts = train_test_split(data.data / 16, data.target, train_size=1200, random_state=SEED, stratify=data.target)
    x, test_x, y, test_y = (torch.tensor(part) for part in parts)
    x, test = x.float(), (test_x.float(), test_y)
    images = {f"image-{i:04d}": {"pixels": (16 * x[i]).int().tolist(), "digit": int(y[i])} for i in range(len(x))}
    ids = list(images)
    gone = [17, 400]
    rest = [i for i in range(len(x)) if i not in gone]
    forget, retain = (x[gone], y[gone]), (x[rest], y[rest])

    def figures(model: torch.nn.Module) -> dict[str, float]:
        named = (("retain accuracy", retain), ("forget accuracy", forget), ("test accuracy", test))
        return {name: accuracy(model, records) for name, records in named}

    torch.manual_seed(SEED)
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    recording = Recording.create("deltas")
    told_of = {"rate": 0.3, "epochs": epochs, "batch": 32}
    with certify.training(
        model, ledger=ledger, data=images, method="amnesiac/v1", parameters=told_of, seeds=[SEED]
    ) as training:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
        generator = torch.Generator().manual_seed(SEED)
        for _ in range(epochs):
            for rows in torch.randperm(len(x), generator=generator).split(32):
                with recording.batch(model, rows.tolist()):
                    optimizer.zero_grad()
                    torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
                    optimizer.step()
        training.detail = deltas.trained(ledger, recording, len(x))
        training.metrics.update(figures(model))
    size = sum(piece.stat().st_size for piece in Path("deltas/pieces").iterdir())
    say(f"{training.metrics['test accuracy']:.1%} right on {len(test_y)} images that it has not seen")
    say(f"{len(recording.trail)} batches: {size / 1e6:.1f} MB of deltas on disk, of which the log has commitments")
    before = {name: value.clone() for name, value in model.state_dict().items()}

    chapter(2, "Two images have to be forgotten: the changes of their batches are taken back, then repaired")
    request = certify.file_request(ledger, {ids[i]: images[ids[i]] for i in gone}, ground="gdpr-17")
    step = deltas.step(
        ledger, model, request, [recording], epochs=1, rate=0.1, seed=SEED, into=Recording.create("repair")
    )
    unlearning = certify.unlearn(
        model,
        step,
        ledger=ledger,
        request=request,
        task=Task(forget, retain),
        gate=certify.Gate(lambda model: accuracy(model, retain), drop=0.1),
        metrics=figures,
    )
    say(f"{sum(len(taken.batches) for taken in step.taken)} of {len(recording.trail)} batches held one of them")
    for name, after in unlearning.metrics.items():
        say(told(name, training.metrics[name], after))
    unlearning.bundle("case.bundle")
    ledger.close()

    chapter(3, "A regulator verifies it: these are all the batches, by what was committed to in training")
    run("verify", "case.bundle", "--trust", "ledger/trust.toml", since=" 6 ")

    chapter(4, "An auditor is given the weights before and the deltas")
    bundle = Path("case.bundle").read_bytes()
    deltas.recompute(bundle, before, [recording.trail.opening])
    say("the weights after the subtraction are those that the certificate states, to the bit")
    made_up = Path("deltas/pieces") / f"{step.taken[0].batches[0]:08d}.bin"
    whole = made_up.read_bytes()
    made_up.write_bytes(bytes(len(whole)))
    try:
        deltas.recompute(bundle, before, [recording.trail.opening])
    except ChainError as error:
        say(f"with a delta of zeros instead: refused, {error}")

    chapter(5, "The deltas that were taken back are destroyed: they tell of the images")
    for index in step.taken[0].batches:
        recording.trail.shred(index)
    left = len(list(Path("deltas/pieces").iterdir()))
    say(f"{left} of {len(recording.trail)} deltas are left, for those who ask later")
    click.secho("  done", fg="green")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "amnesiac-out").resolve(), quick="quick" in sys.argv[2:])
