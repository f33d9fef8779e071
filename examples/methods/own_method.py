"""Bring your own: a method that is not in the library, with a gate, a recipe, and a third party that runs it again.

A library digitises postcodes (scikit-learn's digits). Its classifier keeps sums by class, from which a record is taken out
exactly; nobody but its author knows this method. The ledger certifies it like any other, says that it vouches for nothing, and a
replayer then runs the recipe again and gets the same bits. Run it with ``python examples/methods/own_method.py FOLDER [quick]``.
"""

import json
import os
import secrets
import shutil
import sys
from pathlib import Path

import click
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "recipes")]

import class_means as recipe  # noqa: E402
from telling import run, say, story  # noqa: E402

import certify  # noqa: E402
from certify.errors import GateError  # noqa: E402
from circuits.steps.step import Task  # noqa: E402

SEED = 7
RECIPE = HERE / "recipes" / "class_means.py"


def accuracy(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    with torch.no_grad():
        return float((model(x).argmax(-1) == y).float().mean())


def main(folder: Path, quick: bool = False) -> None:
    chapter = story(6)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    os.environ["CERTIFY_PASSWORD"] = secrets.token_urlsafe()  # of the keys made below; nothing keeps it

    chapter(1, "A model, and the data that it learnt from")
    run("init", "ledger", "--origin", "library.example/ledger", "--issuer", "Example Library")
    ledger = certify.Workspace(Path("ledger"))
    data = load_digits()
    rows, others = train_test_split(
        range(len(data.data)), train_size=400 if quick else 1400, random_state=SEED, stratify=data.target
    )
    images = {
        f"image-{row:04d}": {"pixels": data.data[row].astype(int).tolist(), "digit": int(data.target[row])}
        for row in rows
    }
    with Path("images.jsonl").open("w", encoding="utf-8") as file:
        for name, image in images.items():
            file.write(json.dumps({"id": name, **image}) + "\n")
    x, y = recipe.tensors(list(images.values()))
    test = torch.tensor(data.data[others]), torch.tensor(data.target[others])
    gone = list(range(0, len(rows), len(rows) // 20))[:20]
    rest = sorted(set(range(len(rows))) - set(gone))
    forget, retain = (x[gone], y[gone]), (x[rest], y[rest])

    def figures(model: torch.nn.Module) -> dict[str, float]:
        named = (("retain accuracy", retain), ("forget accuracy", forget), ("test accuracy", test))
        return {name: accuracy(model, *records) for name, records in named}

    model = recipe.ClassMeans(10, 64)
    shape = {"classes": 10, "features": 64}
    with certify.training(
        model, ledger=ledger, data=images, method="class-means", parameters=shape, seeds=[], recipe=RECIPE
    ) as training:
        recipe.fit(model, x, y)
        training.batches = [range(i, min(i + recipe.BATCH, len(rows))) for i in range(0, len(rows), recipe.BATCH)]
        training.metrics.update(figures(model))
    say(f"{training.metrics['test accuracy']:.1%} right on {len(others)} images it has not seen")
    save_file(model.state_dict(), "before.safetensors")

    chapter(2, "Twenty images have to be forgotten, by a method of the library's own, and not at any price")
    ids = list(images)
    request = certify.file_request(ledger, {ids[i]: images[ids[i]] for i in gone}, ground="gdpr-17")
    gate = certify.Gate(lambda model: accuracy(model, *retain), drop=0.02)
    task = Task(forget=forget, retain=retain)
    spoilt = recipe.ClassMeans(10, 64)
    spoilt.load_state_dict(model.state_dict())
    try:
        certify.unlearn(spoilt, recipe.TakeOut(strength=40.0), ledger=ledger, request=request, task=task, gate=gate)
    except GateError as error:
        say(f"forty times over: {error}")
    unlearning = certify.unlearn(
        model,
        recipe.TakeOut(),
        ledger=ledger,
        request=request,
        task=task,
        gate=gate,
        metrics=figures,
        recipe=RECIPE,
    )
    say(f"once: {unlearning.metrics['retain accuracy']:.1%} right on the images kept; certificate at entry "
        f"{unlearning.certificate.index}")  # fmt: skip
    save_file(model.state_dict(), "after.safetensors")
    fresh = recipe.ClassMeans(10, 64)
    recipe.fit(fresh, *retain)
    same = all(torch.equal(a, b) for a, b in zip(fresh.state_dict().values(), model.state_dict().values(), strict=True))
    say(f"compared with a model that never saw them: {'the same to the bit' if same else 'it differs'}")
    unlearning.bundle("case.bundle")
    run("verify", "case.bundle", "--trust", "ledger/trust.toml", since="10 ok")

    chapter(3, "Which models saw an image? Which requests does this model satisfy?")
    run("trace", "--id", ids[gone[3]])
    run("satisfied", "after.safetensors")

    chapter(4, "Somebody else runs the recipe again")
    run("keygen", "replayer.pem")
    run("audit", "salts", "-o", "images.salts")
    replay = (
        "--data",
        "images.jsonl",
        "--key",
        "replayer.pem",
        "--salts",
        "images.salts",
        "--trust",
        "ledger/trust.toml",
    )
    shutil.copy(RECIPE, "recipe.py")
    run("replay", "case.bundle", "--recipe", "recipe.py", *replay)
    run("replay-log", "replay.dsse.json", "--replayer", "replayer.pem.pub")

    chapter(5, "A regulator who believes this replayer")
    ledger.close()
    shutil.copy("ledger/trust.toml", "trust.toml")
    public = Path("replayer.pem.pub").read_text(encoding="utf-8")
    with Path("trust.toml").open("a", encoding="utf-8") as file:
        file.write(f'\n[[replayer]]\nname = "Example Replays"\npublic_key = """\n{public}"""\n')
    run("bundle", "-o", "case.bundle")
    run("verify", "case.bundle", "--trust", "trust.toml", "--weights", "after.safetensors", since=" 8 ")

    chapter(6, "Another recipe than the certified one")
    changed = Path("changed.py")
    changed.write_text(RECIPE.read_text(encoding="utf-8").replace("sign=-self.strength", "sign=-2 * self.strength"))
    run("replay", "case.bundle", "--recipe", changed, *replay, "-o", "other.dsse.json", expect=19)
    click.secho(f"  everything is in {folder}", fg="green")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "own-method-out").resolve(), "quick" in sys.argv[2:])
