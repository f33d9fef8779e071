"""The key commands: show, list, rotate, revoke, finish, give-up, add-post-quantum, and keys made in tokens."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from certify.times import format_time, now
from tests.certify.cli.conftest import Certify
from tests.tokens import PIN, new_reference, tokens


def test_show_and_list(certify: Certify, folder: Path) -> None:
    shown = json.loads(certify("key", "show", "--json").stdout)
    assert shown["held"] == "ledger/keys/issuer.pem" and shown["public"].startswith("-----BEGIN PUBLIC KEY-----")
    soon, later = (format_time(now() + timedelta(days=days, hours=1)) for days in (10, 100))
    certify("key", "rotate", "--not-after", soon)
    listed = json.loads(certify("key", "list", "--json").stdout)
    first, second = listed["keys"]
    assert (first["keyid"], first["ended"], first["daysLeft"]) == (shown["keyid"], "rotated", None)
    assert (second["current"], second["ended"], second["daysLeft"], second["notAfter"]) == (True, None, 10, soon)
    assert [second["keyid"][:16] in line and "expires in 10 days" in line for line in listed["warnings"]] == [True]
    assert "expires in 10 days" in certify("key", "list").stdout
    certify("key", "rotate", "--not-after", later)
    listed = json.loads(certify("key", "list", "--json").stdout)
    assert [key["daysLeft"] for key in listed["keys"]] == [None, 10, 100] and listed["warnings"] == []


def test_nothing_to_finish_or_give_up(certify: Certify, folder: Path) -> None:
    assert "nothing was cut off" in certify("key", "finish").stdout
    assert "nothing to give up" in certify("key", "give-up", expect=9).stderr


def test_post_quantum_key_is_added(certify: Certify, folder: Path) -> None:
    certify("verify", "case.bundle", "--trust", "ledger/trust.toml")
    old = (folder / "ledger" / "trust.toml").read_text()
    added = json.loads(certify("key", "add-post-quantum", "--json").stdout)
    assert added["key"] in (folder / "ledger" / "trust.toml").read_text()
    assert "ML-DSA-44" in certify("verify", "case.bundle", "--trust", "ledger/trust.toml", expect=14).stderr
    (folder / "old.toml").write_text(old)
    certify("verify", "case.bundle", "--trust", "old.toml")
    certify("bundle", "-o", "again.bundle")
    certify("verify", "again.bundle", "--trust", "ledger/trust.toml")
    certify("verify", "again.bundle", "--trust", "old.toml")
    certify("log", "fsck")


def test_case_of_an_issuer_whose_keys_are_in_a_token(certify: Certify, folder: Path) -> None:
    tokens()
    held, log = "hsm:901?label=Clinic", "hsm:902?label=Clinic"
    made = json.loads(certify("keygen", "clinic", "--in", held, "--json", CERTIFY_PIN=PIN).stdout)
    certify("keygen", "log", "--in", log, "--algorithm", "ed25519", CERTIFY_PIN=PIN)
    assert not (folder / "clinic").exists() and (folder / "clinic.pub").exists()
    certify("keygen", "other", "--in", held, expect=55, CERTIFY_PIN=PIN)
    certify("init", "held", "--issuer-key", held, "--log-key", log, CERTIFY_PIN=PIN)
    for arguments in (
        ("train-commit", "--data", "patients.csv", "-w", "model.safetensors", "--method", "adam"),
        ("request", "--data", "patients.csv", "--id", "p17"),
        ("key", "rotate", "--to", new_reference()),
        (
            "issue",
            "--request",
            "1",
            "--pre",
            "model.safetensors",
            "--post",
            "forgot.safetensors",
            "--method",
            "retrain",
        ),
    ):
        certify(*arguments, CERTIFY_PIN=PIN, CERTIFY_LEDGER="held")
    certify("bundle", "-o", "held.bundle", CERTIFY_LEDGER="held")
    verified = certify("verify", "held.bundle", "--trust", "held/trust.toml")  # no PIN, no token
    assert made["keyid"][:16] in verified.stdout
    shown = certify("key", "show", CERTIFY_LEDGER="held").stdout
    assert "hsm:" in shown and made["keyid"] not in shown


@pytest.mark.parametrize("reference", ["hsm:2?label=Nowhere", "hsm:5?label=Clinic", "elsewhere:1"])
def test_key_that_is_not_there(reference: str, certify: Certify, folder: Path) -> None:
    tokens()
    for arguments in (("init", "none", "--issuer-key", reference), ("key", "rotate", "--to", reference)):
        error = json.loads(certify(*arguments, "--json", expect=55, CERTIFY_PIN=PIN).stdout)
        assert error["error"] == "SignerError" and PIN not in error["message"]
    assert not (folder / "none").exists()
