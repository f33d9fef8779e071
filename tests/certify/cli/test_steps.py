"""Steps on the command line: fit a model that can be updated, take a step on what is forgotten, and prove that."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from certify.cli import cli
from tests.certify.cli.conftest import Certify
from tests.certify.cli.test_proofs import TRUST, in_folder, make_patients
from tests.circuits.development import ceremony_file


@pytest.fixture
def certify(tmp_path: Path) -> Certify:
    make_patients(tmp_path)
    run = in_folder(tmp_path, ceremony_file(11).parent)
    run("init", "--origin", "clinic.example/ledger", "--issuer", "Example Clinic")
    return run


FIT = ("fit", "--data", "patients.csv", "--target", "diagnosis", "--for-steps")


def test_ascent_from_fit_to_verify(certify: Certify) -> None:
    certify(*FIT, "--batch", 20, "--steps", 4)
    certify("request", "--data", "patients.csv", "--id", "p3")
    step = ("prove", "--request", 1, "--step", "ascent", "--steps", 2, "--learning-rate", 0.5)
    estimate = json.loads(certify(*step, "--estimate", "--json").stdout)
    assert (estimate["method"], estimate["steps"], estimate["fits"]) == ("ascent", 2, True)
    assert "say which" in certify("prove", "--request", 1, expect=9).stderr
    certify(*step)
    certify("bundle")
    report = json.loads(certify("verify", "case.bundle", *TRUST, "--json").stdout)
    assert report["grade"] == "step proven"
    assert any("2 steps of gradient ascent" in line for line in report["steps"][6]["established"])
    shown = certify("circuit", "show", "case.bundle").stdout
    assert "gradient ascent on the records to forget" in shown and "learning rate 0.5 of the mean loss" in shown


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ((*FIT[:-1], "--deltas"), "--deltas is of --for-steps"),
        ((*FIT, "--penalty", 3), "--penalty is of --loss ridge"),
        (("prove", "--request", 1, "--steps", 3), "--steps is of --step ascent"),
        (("prove", "--request", 1, "--step", "newton", "--learning-rate", 3), "--learning-rate is of --step ascent"),
        (("prove", "--request", 1, "--step", "projection"), "expected --direction"),
        (("prove", "--request", 1, "--step", "projection", "--direction", "1,x"), "expected --direction"),
        (("prove", "--request", 1, "--step", "mask"), "expected --mask"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, command: tuple[object, ...], message: str) -> None:
    (tmp_path / "patients.csv").write_text("age,diagnosis\n1,yes\n2,no\n")
    arguments = [str(tmp_path / part) if part == "patients.csv" else str(part) for part in command]
    done = CliRunner().invoke(cli, [*arguments, "--ledger", str(tmp_path)])
    assert done.exit_code == 2 and message in done.output
