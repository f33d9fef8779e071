"""Networks on the command line: fit by SGD, forget with a proof of every step."""

import json
from pathlib import Path

import pytest

from tests.certify.cli.conftest import Certify
from tests.certify.cli.test_proofs import TRUST, in_folder, make_patients
from tests.circuits.development import ceremony_file


@pytest.fixture
def certify(tmp_path: Path) -> Certify:
    make_patients(tmp_path)
    run = in_folder(tmp_path, ceremony_file(11).parent)
    run("init", "--origin", "clinic.example/ledger", "--issuer", "Example Clinic")
    return run


def test_a_logistic_model_by_sgd(certify: Certify) -> None:
    fit = ["fit", "--data", "patients.csv", "--target", "diagnosis", "--hidden", 0, "--loss", "logistic"]
    certify(*fit, "--batch", 20, "--steps", 2, "--learning-rate", 2)
    certify("request", "--data", "patients.csv", "--id", "p3")
    estimate = json.loads(certify("prove", "--request", 1, "--estimate", "--json").stdout)
    assert (estimate["network"], estimate["proofs"], estimate["fits"]) == ("logistic", 2, True)
    certify("prove", "--request", 1)
    certify("bundle")
    report = json.loads(certify("verify", "case.bundle", *TRUST, "--weights", "forgot.safetensors", "--json").stdout)
    assert report["grade"] == "exclusion proven"
    assert any("about 2 steps of SGD on the 2 batches of 20" in line for line in report["steps"][6]["established"])
    shown = certify("circuit", "show", "case.bundle").stdout
    assert "linear, 3 → 1, by the logistic loss" in shown and "learning rate 2" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", 3], "--steps is of a network: give --hidden as well"),
        (["--learning-rate", 0.1], "--learning-rate is of a network: give --hidden as well"),
        (["--hidden", 4, "--loss", "logistic"], "--loss logistic is of a network without a hidden layer"),
        (["--hidden", 0, "--loss", "ridge"], "--loss is of a linear model, --hidden of a network"),
        (["--hidden", 4, "--penalty", 2], "--penalty is of a linear model, --hidden of a network"),
        (["--hidden", 4, "--learning-rate", "nan"], "not a number"),
    ],
)
def test_options_that_do_not_go_together(certify: Certify, options: list[object], message: str) -> None:
    failed = certify("fit", "--data", "patients.csv", "--target", "diagnosis", *options, expect=2)
    assert message in failed.stderr


def test_a_learning_rate_that_integers_cannot_express(certify: Certify) -> None:
    options = ["--hidden", 4, "--batch", 20, "--learning-rate", "1e-9"]
    failed = certify("fit", "--data", "patients.csv", "--target", "diagnosis", *options, expect=5)
    assert "expected a learning rate of 0.16 at least for these scales, got 1e-09" in failed.stderr
