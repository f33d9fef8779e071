"""What several examples share: a clinic with a ledger, and scikit-learn's 569 breast-cancer patients (Wisconsin)."""

import os
import secrets
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from telling import run

import certify

SEED = 7
Records = tuple[torch.Tensor, torch.Tensor]


def open_clinic(folder: Path) -> certify.Workspace:
    """A new ledger in an empty ``folder``, which becomes the current one."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    os.environ["CERTIFY_PASSWORD"] = secrets.token_urlsafe()  # of the keys made below; nothing keeps it
    run("init", "ledger", "--origin", "clinic.example/ledger", "--issuer", "Example Clinic")
    return certify.Workspace(Path("ledger"))


class Patients:
    """455 patients to learn from and 114 to test with, float64; ``records`` is what the ledger commits to.

    The measurements are standardised with round figures, so that the patients' own means are no part of the model.
    """

    def __init__(self) -> None:
        data = load_breast_cancer()
        rows, held_out = train_test_split(range(569), test_size=114, random_state=SEED, stratify=data.target)
        centre = torch.tensor([float(f"{value:.1g}") for value in data.data.mean(0)], dtype=torch.float64)
        width = torch.tensor([float(f"{value:.1g}") for value in data.data.std(0)], dtype=torch.float64)
        x, y = (torch.tensor(data.data) - centre) / width, torch.tensor(data.target)
        self.x, self.y = x[rows], y[rows]
        self.test: Records = x[held_out], y[held_out]
        self.records = {
            f"patient-{row:03d}": {"measurements": data.data[row], "benign": bool(data.target[row])} for row in rows
        }

    def ask(self, ledger: certify.Workspace, places: Sequence[int]) -> Any:
        """Log the request of the patients at these places of the training set."""
        ids = list(self.records)
        return certify.file_request(ledger, {ids[i]: self.records[ids[i]] for i in places}, ground="gdpr-17")

    def parted(self, gone: Sequence[int], earlier: Sequence[int] = ()) -> tuple[Records, Records]:
        """Records to forget, and those to retain."""
        absent = {*gone, *earlier}
        rest = [place for place in range(len(self.x)) if place not in absent]
        return (self.x[list(gone)], self.y[list(gone)]), (self.x[rest], self.y[rest])

    def figures(self, forget: Records, retain: Records) -> Callable[[torch.nn.Module], dict[str, float]]:
        """Accuracy on what is retained, on what is forgotten and on the test set, of a model with one logit or one a class."""
        named = (("retain accuracy", retain), ("forget accuracy", forget), ("test accuracy", self.test))
        return lambda model: {name: accuracy(model, records) for name, records in named}


def accuracy(model: torch.nn.Module, records: Records) -> float:
    with torch.no_grad():
        out = model(records[0])
    found = (out[:, 0] > 0).long() if out.shape[1] == 1 else out.argmax(-1)
    return float((found == records[1]).double().mean())


def told(name: str, before: float, after: float) -> str:
    return f"{name}: {before:.1%} before, {after:.1%} after"
