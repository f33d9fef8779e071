"""certify export on the command line: a real ledger, a real model, and others' programs as judges."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from certify.cli import main
from certify.workspace import Workspace
from tests.certify.cli.conftest import make_files

TRUST = ("--trust", "ledger/trust.toml", "--at", "2100-01-01T00:00:00Z")
NEEDED = "needs model-signing: pip install 'unlearning-ledger[test]'"
FORMATS = {
    "sigstore": "certificate.sigstore.json",
    "slsa": "provenance.intoto.json",
    "cyclonedx": "model.cdx.json",
    "croissant": "croissant.json",
    "claims": "claims.jsonl",
}


@dataclass
class Done:
    stdout: str
    stderr: str


Certify = Callable[..., Done]


def run(folder: Path, *arguments: str, expect: int = 0) -> Done:
    """The command in this process: starting one for each call would take most of the time."""
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["certify", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == expect, (arguments, out.getvalue(), err.getvalue())
    return Done(out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files, two ledgers with unencrypted keys, one of them with a case in it, and case.bundle. Not to be changed."""
    folder = tmp_path_factory.mktemp("export")
    make_files(folder)
    Workspace.init(folder / "ledger", origin="clinic.example/ledger", issuer="Example Clinic", password=None).close()
    Workspace.init(folder / "other", origin="other.example/ledger", issuer="Other", password=None).close()
    run(folder, "train-commit", "--data", "patients.csv", "-w", "model.safetensors", "--method", "adam")
    run(folder, "request", "--data", "patients.csv", "--id", "p17", "--id", "p42")
    run(folder, "issue", "-r", "1", "--pre", "model.safetensors", "--post", "forgot.safetensors", "--method", "retrain")
    run(folder, "bundle")
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "work"))


@pytest.fixture
def certify(folder: Path) -> Certify:
    def call(*arguments: str, expect: int = 0) -> Done:
        return run(folder, *arguments, expect=expect)

    return call


@pytest.fixture
def model(folder: Path) -> Path:
    (folder / "net").mkdir()
    (folder / "forgot.safetensors").rename(folder / "net" / "model.safetensors")
    (folder / "net" / "config.json").write_text("{}")
    return folder / "net"


def model_signing(folder: Path, *arguments: str) -> int:
    pytest.importorskip("model_signing", reason=NEEDED)
    done = subprocess.run(
        [sys.executable, "-m", "model_signing", *arguments], cwd=folder, capture_output=True, text=True
    )
    return done.returncode


def test_oms_verifies_with_model_signings_own_command(folder: Path, model: Path, certify: Certify) -> None:
    said = certify("export", "oms", "case.bundle", "net", "--public-key", "issuer.pub", "--json").stdout
    assert json.loads(said)["files"] == 2
    verify = ("verify", "key", "net", "--signature", "model.sig", "--public_key", "issuer.pub")
    assert model_signing(folder, *verify) == 0
    before = (folder / "model.sig").read_bytes()
    certify("export", "oms", "case.bundle", "net")
    assert (folder / "model.sig").read_bytes() == before
    (model / "config.json").write_text("{ }")
    assert model_signing(folder, *verify) == 1


def test_oms_with_the_signature_in_the_folder(folder: Path, model: Path, certify: Certify) -> None:
    arguments = ("export", "oms", "case.bundle", "net", "-o", "net/model.sig", "--public-key", "net/issuer.pub")
    certify(*arguments)
    certify(*arguments, "--ignore", "README.md")
    (model / "README.md").write_text("later")
    verifying = pytest.importorskip("model_signing.verifying", reason=NEEDED)
    verifying.Config().use_elliptic_key_verifier(public_key=model / "issuer.pub").verify(model, model / "model.sig")


def test_oms_of_one_file_that_the_certificate_names(folder: Path, certify: Certify) -> None:
    certify("export", "oms", "case.bundle", "forgot.safetensors", "--public-key", "issuer.pub")
    verifying = pytest.importorskip("model_signing.verifying", reason=NEEDED)
    config = verifying.Config().use_elliptic_key_verifier(public_key=folder / "issuer.pub")
    config.verify(folder / "forgot.safetensors", folder / "model.sig")


def test_oms_signs_no_other_model(folder: Path, model: Path, certify: Certify) -> None:
    said = certify("export", "oms", "case.bundle", "model.safetensors", expect=19).stderr
    assert "from before the unlearning" in said
    weights = load_file(model / "model.safetensors")
    weights["head.bias"] += 1
    save_file(weights, model / "model.safetensors")
    assert "nothing is signed" in certify("export", "oms", "case.bundle", "net", expect=19).stderr
    assert not (folder / "model.sig").exists()


def test_oms_and_slsa_sign_for_no_other_ledger(folder: Path, model: Path, certify: Certify) -> None:
    for arguments in (("oms", "case.bundle", "net"), ("slsa", "case.bundle", "--sign")):
        assert "no statements match" in certify("export", *arguments, "--ledger", "other", expect=9).stderr


def test_slsa_signed_and_not(folder: Path, certify: Certify) -> None:
    said = json.loads(certify("export", "slsa", "case.bundle", "--json").stdout)
    assert (said["signed"], said["verified"]) == (False, False)
    assert json.loads((folder / "provenance.intoto.json").read_text())["_type"] == "https://in-toto.io/Statement/v1"
    certify("export", "slsa", "case.bundle", "--sign", "-o", "signed.json")
    first = (folder / "signed.json").read_bytes()
    assert json.loads(first)["signatures"][0]["sig"]
    certify("export", "slsa", "case.bundle", "--sign", "-o", "signed.json")
    assert (folder / "signed.json").read_bytes() == first


@pytest.mark.parametrize(("name", "output"), FORMATS.items())
def test_a_bundle_is_enough(folder: Path, certify: Certify, name: str, output: str, tmp_path: Path) -> None:
    for kept in ("ledger", "forgot.safetensors", "patients.csv"):
        (folder / kept).rename(tmp_path / kept)
    said = json.loads(certify("export", name, "case.bundle", "--json").stdout)
    assert said["output"] == output and said["verified"] is False and "grade" not in said
    first = (folder / output).read_bytes()
    certify("export", name, "case.bundle")
    assert (folder / output).read_bytes() == first
    assert str(folder) not in first.decode() and b"p17" not in first and b"benign" not in first


@pytest.mark.parametrize(("name", "output"), FORMATS.items())
def test_with_trust_the_case_is_verified_first(folder: Path, certify: Certify, name: str, output: str) -> None:
    said = json.loads(certify("export", name, "case.bundle", *TRUST, "--json").stdout)
    assert said["verified"] is True
    (folder / output).unlink()
    certify("export", name, "case.bundle", "--trust", "other/trust.toml", expect=22)
    assert not (folder / output).exists()


def test_modelcard_in_place(folder: Path, certify: Certify) -> None:
    card = folder / "README.md"
    card.write_text("---\nlicense: mit\n---\n# Net\n")
    certify("export", "modelcard", "case.bundle", "README.md")
    assert "**Not verified here.**" in card.read_text()
    certify("export", "modelcard", "case.bundle", "README.md", *TRUST)
    assert "**Verified as attested**" in card.read_text() and "Not verified here" not in card.read_text()
    before = card.read_bytes()
    said = certify(
        "export", "modelcard", "case.bundle", "README.md", "--trust", "other/trust.toml", "--json", expect=22
    )
    assert json.loads(said.stdout)["verified"] is False
    assert card.read_bytes() == before
    certify("export", "modelcard", "case.bundle", "new.md")
    assert (folder / "new.md").read_text().startswith("---\n# >>> unlearning-ledger\n")


def test_a_card_that_is_a_link_is_not_replaced(folder: Path, certify: Certify) -> None:
    (folder / "README.md").symlink_to(folder / "blob")
    (folder / "blob").write_text("# Net\n")
    assert "symbolic link" in certify("export", "modelcard", "case.bundle", "README.md", expect=3).stderr
    assert (folder / "README.md").is_symlink() and (folder / "blob").read_text() == "# Net\n"


@pytest.mark.parametrize("path", ["/home/somebody", "../other", "a\nb"])
def test_paths_outside_of_the_model_are_not_written_down(model: Path, certify: Certify, path: str) -> None:
    assert (
        "expected a path in the model's folder"
        in certify("export", "oms", "case.bundle", "net", "--ignore", path, expect=3).stderr
    )


def test_a_time_needs_somebody_to_believe(certify: Certify) -> None:
    assert "give --trust too" in certify("export", "cyclonedx", "case.bundle", *TRUST[2:], expect=3).stderr


@pytest.mark.parametrize("name", ["sigstore", "slsa", "cyclonedx", "croissant", "claims"])
def test_what_is_read_is_not_written_over(folder: Path, certify: Certify, name: str) -> None:
    before = (folder / "case.bundle").read_bytes()
    assert "which is read" in certify("export", name, "case.bundle", "-o", "case.bundle", expect=3).stderr
    assert (folder / "case.bundle").read_bytes() == before


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "https://u:p@x.example/", "https://x.example/\n", "case.bundle", "https://[x"]
)
def test_addresses_that_are_none(certify: Certify, url: str) -> None:
    assert "not an address" in certify("export", "cyclonedx", "case.bundle", "--url", url, expect=3).stderr


def test_a_file_of_something_else_is_left(folder: Path, certify: Certify) -> None:
    (folder / "claims.jsonl").write_text("mine\n")
    assert "line 1 is not a claim" in certify("export", "claims", "case.bundle", expect=7).stderr
    assert (folder / "claims.jsonl").read_text() == "mine\n"


def test_help_teaches(certify: Certify) -> None:
    for name in ("oms", "modelcard", *FORMATS):
        assert "Example" in certify("export", name, "--help").stdout
