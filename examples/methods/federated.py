"""A federation of post offices: one leaves, its signed updates are taken back, the others repair; another unlearns at home.

Six offices read handwritten digits together (scikit-learn's digits, each office with more of some digits than of others). The
server sees weights, never images; each office signs what it sends, with its own key. The certificate shows whose updates were
taken back, and that these are all that it ever signed. Run it with ``python examples/methods/federated.py FOLDER [quick]``.
"""

import os
import secrets
import shutil
import sys
import time
from pathlib import Path

import click
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from telling import run, say, story

import certify
from certify import federation
from certify.client import ClientUnlearning, ClientUpdate, pseudonym, sign
from certify.dataset import new_salt
from certify.envelope import Envelope
from certify.keys import SigningKey
from certify.state_dict import digest_state_dict
from certify.statement import Utility
from circuits.steps.federated import Update, average, local_update, move, removal

OFFICES, REPAIR, RATE, SEED = 6, 3, 0.2, 5
Records = tuple[torch.Tensor, torch.Tensor]


class Office:
    """A client: its images and its key stay here."""

    def __init__(self, number: int, records: Records) -> None:
        self.number, (self.x, self.y) = number, records
        self.key = SigningKey.generate()
        self.name = pseudonym(f"office {number}", new_salt())

    def send(self, model: torch.nn.Module, log: str, run_id: str, round_: int) -> tuple[Update, Envelope]:
        """What it learnt from its images, starting from the server's model, and what it signs of that."""
        delta = local_update(model, self.x, self.y, rate=RATE, epochs=2, batch=32, seed=SEED + round_)
        said = ClientUpdate(log, run_id, self.name, round_, root_of(model), root_of(delta), len(self.x))
        return Update(self.number, len(self.x), delta), sign(said, self.key)


def root_of(weights: object) -> str:
    return digest_state_dict(weights).root().hex()


def build() -> torch.nn.Module:
    torch.manual_seed(SEED)
    return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))


def accuracy(model: torch.nn.Module, records: Records) -> float:
    with torch.no_grad():
        return float((model(records[0]).argmax(-1) == records[1]).float().mean())


def deal(x: torch.Tensor, y: torch.Tensor) -> list[Records]:
    """Half of the images by digit, so that offices differ, the rest in turn."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(SEED))
    place = torch.empty(len(x), dtype=torch.long)
    place[order] = torch.arange(len(x))
    office = torch.where(place % 2 == 0, y * OFFICES // 10, (place // 2) % OFFICES)
    return [(x[office == number], y[office == number]) for number in range(OFFICES)]


def main(folder: Path, quick: bool = False) -> None:
    rounds = 4 if quick else 12
    chapter = story(4)
    torch.set_num_threads(1)  # tiny models: threads would wait for each other
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    os.environ["CERTIFY_PASSWORD"] = secrets.token_urlsafe()  # of the keys made below; nothing keeps it

    chapter(1, f"{OFFICES} offices learn together for {rounds} rounds, and sign what they send")
    run("init", "ledger", "--origin", "post.example/ledger", "--issuer", "Example Post")
    ledger = certify.Workspace(Path("ledger"))
    images = load_digits()
    parts = train_test_split(images.data / 16, images.target, random_state=SEED, stratify=images.target)
    x, test_x, y, test_y = (torch.tensor(part) for part in parts)
    offices = [Office(number, records) for number, records in enumerate(deal(x.float(), y))]
    leaver, others = offices[3], [*offices[:3], *offices[4:]]
    kept = (torch.cat([one.x for one in others]), torch.cat([one.y for one in others]))
    test = (test_x.float(), test_y)

    def figures(model: torch.nn.Module, prefix: str = "") -> dict[str, float]:
        named = (("retain accuracy", kept), ("forget accuracy", (leaver.x, leaver.y)), ("test accuracy", test))
        return {prefix + name: accuracy(model, records) for name, records in named}

    def learn(
        model: torch.nn.Module, who: list[Office], run_id: str, count: int
    ) -> list[list[tuple[Update, Envelope]]]:
        history = []
        for number in range(count):
            history.append([one.send(model, ledger.origin, run_id, number) for one in who])
            move(model, average([update for update, _ in history[-1]]))
        return history

    model = build()
    members = {one.name: one.name for one in offices}  # the dataset is who takes part: the server knows no image
    told = {"rounds": rounds, "rate": RATE, "epochs": 2, "batch": 32}
    with certify.training(
        model, ledger=ledger, data=members, method="federated/v1", parameters=told, seeds=[SEED]
    ) as training:
        history = learn(model, offices, training.id, rounds)
        signed = [[envelope for _, envelope in sent] for sent in history]
        training.detail = federation.trained(ledger, {one.name: one.key.public for one in offices}, signed)
        training.metrics.update(figures(model))
    say(f"{training.metrics['test accuracy']:.1%} right on {len(test_y)} images that no office has")
    say(f"{OFFICES * rounds} signed updates are committed to, {len(x)} images stay at the offices")

    chapter(2, "Office 3 leaves: its updates are taken back, and the others repair")
    request = certify.file_request(ledger, {leaver.name: leaver.name}, ground="gdpr-17", scope="client")
    say(f"request/v1 about client {leaver.name[:16]}… is entry {request.index}")
    gate = certify.Gate(lambda model: accuracy(model, kept), drop=0.05)
    before = gate.measure(model)
    told = {"weighting": "renormalised", "repair": REPAIR, "rate": RATE}
    with certify.unlearning(
        model, ledger=ledger, request=request, method="federated/v1", parameters=told, seeds=[SEED]
    ) as leaving:
        move(model, removal(([update for update, _ in sent] for sent in history), {leaver.number}), scale=-1)
        taken = accuracy(model, kept)
        repair = learn(model, others, leaving.id, REPAIR)
        after = gate.measure(model)
        if after < gate.least(before):
            raise SystemExit(f"the gate was not passed: {after:.1%} of {before:.1%}")
        leaving.utility = Utility(gate.metric, before, after, gate.least(before))
        leaving.detail = federation.subtracted(
            ledger,
            training.certificate,
            [request],
            repair=[[envelope for _, envelope in sent] for sent in repair],
        )
        leaving.metrics.update(figures(model))
        began = time.monotonic()
        fresh = build()
        learn(fresh, others, "00" * 16, rounds)
        leaving.metrics["retraining seconds"] = time.monotonic() - began
        leaving.metrics.update(figures(fresh, "retrained "))
    say(
        f"retain accuracy: {before:.1%} before, {taken:.1%} after subtraction, {after:.1%} after {REPAIR} rounds of repair"
    )
    say(f"of a federation without office 3 from the start: {leaving.metrics['retrained retain accuracy']:.1%}")
    leaving.bundle("leaving.bundle")
    run("verify", "leaving.bundle", "--trust", "ledger/trust.toml", since=" 6 ")

    chapter(3, "Office 1 unlearns ten of its images at home, and signs that it did")
    office = offices[1]
    request = certify.file_request(ledger, {office.name: office.name}, ground="gdpr-17", scope="client")
    with certify.unlearning(model, ledger=ledger, request=request, method="federated/v1", seeds=[SEED]) as home:
        start = root_of(model)
        rest = local_update(model, office.x[10:], office.y[10:], rate=RATE, epochs=2, batch=32, seed=SEED)
        move(model, rest, scale=1 / OFFICES)
        said = ClientUnlearning(
            ledger.origin, home.id, office.name, request.digest, start, root_of(rest), "fine-tuning", 10
        )
        home.detail = federation.at_home(ledger, training.certificate, [request], [sign(said, office.key)])
        home.metrics.update(figures(model))
    home.bundle("case.bundle")
    run("verify", "case.bundle", "--trust", "ledger/trust.toml", since=" 6 ")

    chapter(4, "What remains")
    say("the updates themselves stay with the server: data can be reconstructed from them. Their digests are signed")
    click.secho(f"  everything is in {folder}", fg="green")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "federated-out").resolve(), "quick" in sys.argv[2:])
