"""A ledger made by the command line, once, and copied for each test that changes it."""

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

PASSWORD = "correct horse"
Certify = Callable[..., "subprocess.CompletedProcess[str]"]


def certify_in(
    folder: Path, *arguments: object, expect: int = 0, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run the command in a process of its own."""
    variables = {**os.environ, "CERTIFY_PASSWORD": PASSWORD, "NO_COLOR": "", **environment}
    variables = {name: value for name, value in variables.items() if value}
    done = subprocess.run(
        [sys.executable, "-m", "certify", *map(str, arguments)],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == expect, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def make_files(folder: Path) -> None:
    """Patients and two models."""
    with (folder / "patients.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "age", "diagnosis"])
        rows.writerows([f"p{i}", 20 + i % 60, "benign" if i % 3 else "malign"] for i in range(100))
    torch.manual_seed(0)
    model = {"body.weight": torch.randn(8, 4), "head.weight": torch.randn(2, 8), "head.bias": torch.zeros(2)}
    save_file(model, folder / "model.safetensors")
    model["head.weight"] += 1
    save_file(model, folder / "forgot.safetensors")
    model["head.weight"] += 1
    save_file(model, folder / "later.safetensors")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files, a ledger with a case in it, and case.bundle. Not to be changed."""
    folder = tmp_path_factory.mktemp("cli")
    make_files(folder)
    certify_in(folder, "init", "--origin", "clinic.example/ledger", "--issuer", "Example Clinic")
    certify_in(folder, "train-commit", "--data", "patients.csv", "-w", "model.safetensors", "--method", "adam")
    certify_in(folder, "request", "--data", "patients.csv", "--id", "p17", "--id", "p42")
    post = ("--pre", "model.safetensors", "--post", "forgot.safetensors", "--method", "retrain")
    certify_in(folder, "issue", "-r", "1", *post)
    certify_in(folder, "bundle")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy to work in."""
    return Path(shutil.copytree(made, tmp_path / "work"))


@pytest.fixture
def certify(folder: Path) -> Certify:
    """``certify("verify", …, expect=11)`` in ``folder``."""

    def run(*arguments: object, expect: int = 0, **environment: str) -> "subprocess.CompletedProcess[str]":
        return certify_in(folder, *arguments, expect=expect, **environment)

    return run
