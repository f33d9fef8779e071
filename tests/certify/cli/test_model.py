"""certify deploy, certify model, and chains of models on the command line, as two organisations call them."""

import json
import shutil
from contextlib import chdir
from pathlib import Path

import pytest
from click.testing import CliRunner

from certify.cli import cli
from tests.certify.cli.conftest import PASSWORD, make_files
from tests.certify.cli.test_replay import call

POST = ("--pre", "model.safetensors", "--post", "forgot.safetensors", "--method", "retrain")


def exits(folder: Path, *arguments: object) -> tuple[int, str]:
    """The exit code that the command itself chose, and what it printed."""
    with chdir(folder):
        done = CliRunner().invoke(cli, [*map(str, arguments)], env={"CERTIFY_PASSWORD": PASSWORD})
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labs has a case of model and forgot; Clinic, in the folder clinic, has trained later.safetensors from forgot."""
    folder = tmp_path_factory.mktemp("models")
    make_files(folder)
    call(folder, "init", "--origin", "labs.example/log", "--issuer", "Labs")
    call(folder, "train-commit", "--data", "patients.csv", "-w", "model.safetensors", "--method", "adam")
    call(folder, "bundle", "0", "-o", "pretrained.bundle")
    call(folder, "request", "--data", "patients.csv", "--id", "p17")
    call(folder, "issue", "-r", "1", *POST)
    call(folder, "bundle", "-o", "base.bundle")
    call(folder, "init", "clinic", "--origin", "clinic.example/log", "--issuer", "Clinic")
    base = ("--base", "vision=base.bundle", "--base-trust", "ledger/trust.toml", "--licence", "apache-2.0")
    data = ("--ledger", "clinic", "--data", "patients.csv")
    call(folder, "train-commit", *data, "-w", "later.safetensors", "--method", "lora", *base)
    call(folder, "request", *data, "--id", "p42")
    how = ("--pre", "later.safetensors", "--post", "tuned.safetensors", "--method", "retrain")
    shutil.copy(folder / "forgot.safetensors", folder / "tuned.safetensors")
    call(folder, "issue", "--ledger", "clinic", "-r", "1", *how)
    call(folder, "bundle", "--ledger", "clinic")
    return folder


@pytest.fixture
def folder(world: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world, tmp_path / "work"))


# -- chains of models ----------------------------------------------------------------------------------------------------

CASE = ("verify", "case.bundle", "--trust", "clinic/trust.toml")
UP = ("--upstream", "base.bundle", "--upstream-trust", "ledger/trust.toml")


def test_a_base_is_named_from_its_makers_bundle(world: Path) -> None:
    shown = call(world, "show", "0", "--ledger", "clinic")["content"]["predicate"]["base"][0]
    labs = call(world, "show", "2")["content"]
    assert shown == {
        "name": "vision",
        "digest": labs["predicate"]["post"]["tensorRoot"],
        "licence": "apache-2.0",
        "statement": labs["digest"],
        "log": "labs.example/log",
    }


def test_verify_follows_the_chain_under_each_trust(world: Path) -> None:
    report = call(world, *CASE, *UP)
    [one] = report["upstream"]
    assert (one["issuer"], one["grade"], one["licence"]) == ("Labs", "attested", "apache-2.0")
    assert report["grade"] == "attested" and report["issuer"] == "Clinic"
    printed = call(world, *CASE, *UP, text=True)
    assert (
        "base        vision by Labs, attested (certificate at entry 2 of labs.example/log), licence apache-2.0"
        in printed
    )
    assert "VERIFIED" in printed and "The weakest link of the chain of models is vision by Labs: attested." in printed


def test_verify_says_what_it_does_not_follow(world: Path) -> None:
    printed = call(world, *CASE, text=True)
    assert "base        vision: not verified, licence apache-2.0" in printed
    assert "was not verified: give its bundle with --upstream." in printed


def test_another_base_than_named_has_an_exit_code_of_its_own(world: Path) -> None:
    call(world, *CASE, "--upstream", "pretrained.bundle", "--upstream-trust", "ledger/trust.toml", expect=62)
    call(world, *CASE, "--upstream", "base.bundle", "--upstream-trust", "clinic/trust.toml", expect=62)
    call(world, *CASE, "--upstream", "base.bundle", expect=62)  # by default as --trust, which does not know Labs
    call(world, *CASE, *UP, "--upstream", "pretrained.bundle", expect=3)  # not paired


def test_report_shows_the_chain(world: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    call(world, "report", "case.bundle", "--trust", "clinic/trust.toml", *UP, "-o", page)
    text = page.read_text()
    assert "Models that this one was made from" in text and "apache-2.0" in text and "Labs" in text
    assert "--upstream base.bundle --upstream-trust trust.toml" in text


def test_bases_of_trainings_alone(folder: Path) -> None:
    base = ("--base", "pretrained.bundle", "--base-trust", "ledger/trust.toml")
    made = call(
        folder,
        "train-commit",
        "--ledger",
        "clinic",
        "--data",
        "patients.csv",
        "-w",
        "tuned.safetensors",
        "--method",
        "x",
        *base,
    )
    shown = call(folder, "show", made["entry"], "--ledger", "clinic")["content"]["predicate"]["base"][0]
    assert (shown["name"], shown["log"]) == ("pretrained", "labs.example/log") and "licence" not in shown
    assert shown["statement"] == call(folder, "show", "0")["content"]["digest"]


def test_bases_that_cannot_be_named_are_refused(folder: Path) -> None:
    train = ("train-commit", "--data", "patients.csv", "-w", "later.safetensors", "--method", "x")
    call(folder, *train, "--base", "nothing.bundle", expect=3)
    call(folder, *train, "--base", "vision=not a digest", expect=7)
    call(folder, *train, "--base", "base.bundle", "--licence", "a", "--licence", "b", expect=3)
    call(folder, *train, "--base", "base.bundle", "--base-trust", "clinic/trust.toml", expect=62)
    call(folder, *train, "--base", "patients.csv", expect=11)


def test_the_bundle_of_a_training_is_no_case(world: Path) -> None:
    said = call(world, "verify", "pretrained.bundle", "--trust", "ledger/trust.toml", expect=16)
    assert "it is for --upstream" in json.dumps(said)


# -- deployments and versions ----------------------------------------------------------------------------------------------


def test_deploy_logs_what_serves(folder: Path) -> None:
    made = call(
        folder, "deploy", "--weights", "forgot.safetensors", "--name", "production",
        "--destroyed", "model.safetensors", "--how", "keys erased", "--notified", "people who asked=2",
    )  # fmt: skip
    said = call(folder, "show", made["entry"])["content"]["predicate"]
    assert said["destroyed"][0]["how"] == "keys erased" and said["notified"] == [
        {"who": "people who asked", "count": 2}
    ]
    assert call(folder, "model", "deployed")[0]["wrong"] is False
    call(folder, "bundle")
    printed = call(folder, "verify", "case.bundle", "--trust", "ledger/trust.toml", text=True)
    assert "deployed    production serves the model of entry 2" in printed and "VERIFIED" in printed


def test_a_rollback_is_refused_logged_with_its_reason_and_never_a_plain_success(folder: Path, tmp_path: Path) -> None:
    rollback = ("deploy", "-w", "model.safetensors", "--name", "production")
    call(folder, *rollback, expect=64)
    made = call(folder, *rollback, "--rollback", "outage")
    assert made["rollback"] == "outage"
    code, printed = exits(folder, "model", "deployed")
    assert code == 64 and "ROLLBACK" in printed and "outage" in printed
    call(folder, "bundle")
    printed = call(folder, "verify", "case.bundle", "--trust", "ledger/trust.toml", text=True)
    assert "AUTHENTIC" in printed and "VERIFIED" not in printed and "ROLLBACK" in printed
    page = tmp_path / "page.html"
    told = call(folder, "report", "case.bundle", "--trust", "ledger/trust.toml", "-o", page, text=True)
    assert "ROLLBACK" in told and "VERIFIED" not in told
    assert "✗ ROLLBACK" in page.read_text()


def test_a_served_model_that_an_unlearning_has_overtaken_is_flagged(folder: Path) -> None:
    call(folder, "deploy", "-w", "forgot.safetensors", "--name", "production")
    call(folder, "request", "--data", "patients.csv", "--id", "p5")
    how = ("--pre", "forgot.safetensors", "--post", "later.safetensors", "--method", "retrain")
    call(folder, "issue", "-r", "4", *how)
    code, printed = exits(folder, "model", "deployed")
    assert code == 64 and "precedes the unlearning of entry 5" in printed


def test_the_monitor_reports_a_rollback(folder: Path) -> None:
    call(folder, "deploy", "-w", "model.safetensors", "--name", "production", "--rollback", "outage")
    call(folder, "log", "export", "mirror")
    code, printed = exits(folder, "monitor", "mirror", "--trust", "ledger/trust.toml")
    assert code == 58 and "rollback  entry 3" in printed and "stated as one: outage" in printed


def test_model_log_shows_every_version(folder: Path) -> None:
    call(folder, "deploy", "-w", "forgot.safetensors", "--name", "production")
    value = call(folder, "model", "log", "model.safetensors")
    assert [one["entry"] for one in value["versions"]] == [0, 2] and value["entries"] == [0]
    printed = call(folder, "model", "log", value["versions"][1]["tensor_root"][:8], text=True)
    assert "* entry 2" in printed and "request at entry 1" in printed and "deployment at entry 3" in printed
    assert call(folder, "model", "log", "2") == call(folder, "model", "log", value["versions"][1]["digest"][:12])
    assert "base vision" in call(folder, "model", "log", "0", "--ledger", "clinic", text=True)


def test_models_that_are_none_are_refused(folder: Path) -> None:
    for name in ("ab" * 32, "nonsense", "1"):
        call(folder, "model", "log", name, expect=3)
    call(folder, "deploy", "-w", "later.safetensors", "--name", "production", expect=9)
    call(folder, "deploy", "-w", "forgot.safetensors", "--name", "x", "--notified", "people=many", expect=3)
    assert exits(folder, "model", "deployed")[0] == 0
