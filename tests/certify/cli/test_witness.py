"""The command line of witnesses, and a ledger whose log needs them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ledger.note import VerifierKey
from tests.certify.cli.conftest import PASSWORD, certify_in


@contextmanager
def served(folder: Path, name: str) -> Iterator[str]:
    """A witness in a process of its own; its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "certify", "witness", "serve", name, "--port", "0"],
        cwd=folder,
        env=os.environ | {"CERTIFY_PASSWORD": PASSWORD},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert " at http://127.0.0.1:" in line
        yield line.split(" at ")[1].split(",")[0]
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()  # type: ignore[union-attr]


def show(folder: Path, name: str) -> dict[str, object]:
    shown: dict[str, object] = json.loads(certify_in(folder, "witness", "show", name, "--json").stdout)
    return shown


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("witness")
    (folder / "patients.csv").write_text("id,age\n" + "".join(f"p{i},{i}\n" for i in range(9)))
    certify_in(folder, "init", "--origin", "clinic.example/ledger")
    certify_in(folder, "witness", "init", "w1", "--name", "w1.example", "--post-quantum")
    assert "following clinic.example/ledger" in certify_in(folder, "witness", "add", "w1", log_key(folder)).stdout
    return folder


def log_key(folder: Path) -> str:
    return (folder / "ledger" / "trust.toml").read_text().split('keys = ["')[1].split('"')[0]


def test_from_a_new_witness_to_a_ledger_that_needs_it(folder: Path) -> None:
    key = str(show(folder, "w1")["keys"][0])  # type: ignore[index]
    assert VerifierKey.parse(key).name == "w1.example"
    policy = folder / "ledger" / "policy.txt"
    ask = ("request", "--what", "all of it", "--scope", "concept", "--ground", "gdpr-17")
    with served(folder, "w1") as url:
        policy.write_text(f"witness w1 {key} {url}\nquorum w1\n")
        certify_in(folder, *ask)
        value = json.loads(certify_in(folder, "log", "cosign", "--json").stdout)
        assert (value["size"], value["cosigned"]) == (1, ["w1.example"])
        note = certify_in(folder, "log", "checkpoint").stdout
        assert note == value["note"] and "— w1.example " in note
    certify_in(folder, "witness", "init", "w2", "--name", "w2.example")
    other = str(show(folder, "w2")["keys"][0])  # type: ignore[index]
    with served(folder, "w1") as one, served(folder, "w2") as two:
        policy.write_text(f"witness w1 {key} {one}\nwitness w2 {other} {two}\ngroup q all w1 w2\nquorum q\n")
        failed = json.loads(certify_in(folder, *ask, "--json", expect=50).stdout)
        assert failed["error"] == "WitnessError"
        assert "w2.example: status 404" in failed["message"] and "run 'certify log cosign'" in failed["message"]
        certify_in(folder, "log", "checkpoint", expect=50)  # nothing is cosigned by both, so nothing is shown
        certify_in(folder, "witness", "add", "w2", log_key(folder))
        assert "2 entries, cosigned by w1.example, w2.example" in certify_in(folder, "log", "cosign").stdout
    assert len(json.loads(certify_in(folder, "log", "entries", "--json").stdout)) == 2
    logs = show(folder, "w1")["logs"]
    assert isinstance(logs, list) and (logs[0]["size"], logs[0]["fork"]) == (2, None)
    assert "clinic.example/ledger" in certify_in(folder, "witness", "show", "w1").stdout


def test_errors(folder: Path, tmp_path: Path) -> None:
    certify_in(folder, "witness", "init", "w1", "--name", "w1.example", expect=30)
    certify_in(folder, "witness", "show", "nowhere", expect=30)
    certify_in(folder, "witness", "add", "w1", "nonsense", expect=34)
    certify_in(folder, "witness", "serve", "w1", expect=30, CERTIFY_PASSWORD="wrong")
    certify_in(tmp_path, "init")
    assert "no witness policy" in certify_in(tmp_path, "log", "cosign", expect=1).stderr
    (tmp_path / "ledger" / "policy.txt").write_text("quorum w9\n")
    assert "line 1 of a policy" in certify_in(tmp_path, "log", "cosign", expect=34).stderr
