"""A case with a zero-knowledge proof, by the command line alone: fit, prove, verify, and circuits that others have built."""

import csv
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from safetensors.torch import load_file, save_file

from certify.bundle import Bundle, CircuitFiles
from certify.envelope import Envelope
from certify.keys import SigningKey
from tests.certify.cli.conftest import PASSWORD, Certify, certify_in
from tests.circuits.development import ceremony_file

TRUST = ("-t", "ledger/trust.toml")
Json = Callable[..., Any]


def make_patients(folder: Path, count: int = 40) -> None:
    """Three measurements, and a diagnosis that follows from them more or less."""
    draw = random.Random(3)
    with (folder / "patients.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "age", "pressure", "marker", "diagnosis"])
        for number in range(count):
            a, b, c = (draw.gauss(0, 1) for _ in range(3))
            sick = a + b - c + draw.gauss(0, 0.8) > 0
            measured = (round(50 + 12 * a, 1), round(120 + 15 * b, 1), round(1 + 0.4 * c, 3))
            rows.writerow([f"p{number}", *measured, "malign" if sick else "benign"])


def in_folder(folder: Path, srs: Path) -> Certify:
    def run(*arguments: object, expect: int = 0, **environment: str) -> "subprocess.CompletedProcess[str]":
        usual = {"CERTIFY_SRS": str(srs), "XDG_CACHE_HOME": str(folder / "cache")}
        return certify_in(folder, *arguments, expect=expect, **usual | environment)

    return run


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with a training, a request and a certificate with its proof, and case.bundle. Not to be changed."""
    srs = ceremony_file(11).parent
    folder = tmp_path_factory.mktemp("proven")
    make_patients(folder)
    certify = in_folder(folder, srs)
    certify("init", "--origin", "clinic.example/ledger", "--issuer", "Example Clinic")
    certify("fit", "--data", "patients.csv", "--target", "diagnosis")
    certify("request", "--data", "patients.csv", "--id", "p3")
    certify("prove", "--request", 1)
    certify("bundle")
    return folder


@pytest.fixture
def folder(proven: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(proven, tmp_path / "work"))


@pytest.fixture
def certify(folder: Path) -> Certify:
    return in_folder(folder, ceremony_file(11).parent)


@pytest.fixture
def said(certify: Certify) -> Json:
    """What a command says in JSON."""
    return lambda *arguments, **options: json.loads(certify(*arguments, "--json", **options).stdout)


def without_circuits(folder: Path, *tables: str) -> Path:
    """A trust file that accepts no circuit, with ``tables`` added."""
    text = (folder / "ledger/trust.toml").read_text().split("[[circuit]]")[0]
    path = folder / "own.toml"
    path.write_text("\n".join([text, *tables]))
    return path


def size_of(said: Json) -> int:
    return int(said("log", "checkpoint")["size"])


def test_exclusion_is_proven_to_a_stranger(certify: Certify, said: Json) -> None:
    shown = certify("verify", "case.bundle", *TRUST, CERTIFY_SRS="").stdout
    assert "VERIFIED  grade: exclusion proven: a zero-knowledge proof shows" in shown
    assert "DEVELOPMENT" not in shown
    report = said("verify", "case.bundle", *TRUST)
    assert report["verified"] and report["grade"] == "exclusion proven" and not report["development_srs"]
    assert any("39 count" in line for line in report["steps"][6]["established"])


def test_holders_of_weights_and_receipt_check_what_the_proof_is_about(
    certify: Certify, said: Json, folder: Path
) -> None:
    certify("receipt", "-r", 1, "--data", "patients.csv", "--id", "p3")
    report = said("verify", "case.bundle", *TRUST, "--weights", "forgot.safetensors", "--receipt", "receipt.json")
    lines = " ".join(report["steps"][8]["established"])
    assert "integers that the proof is about, over 16,384" in lines
    assert "row 3 of the data that the proof is about" in lines
    assert not any("--weights" in limit for limit in report["limits"])

    certify("verify", "case.bundle", *TRUST, "-w", "model.safetensors", expect=19)
    weights = load_file(folder / "forgot.safetensors")
    weights["weight"][0, 0] += 2**-14
    save_file(weights, folder / "nudged.safetensors")
    certify("verify", "case.bundle", *TRUST, "-w", "nudged.safetensors", expect=19)


def test_verifying_a_proof_loads_nothing_of_the_provers(folder: Path, certify: Certify) -> None:
    certify("receipt", "-r", 1, "--data", "patients.csv", "--id", "p3")
    blocked = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'numpy', 'onnx', 'safetensors', 'sqlalchemy', 'rich']))"
    )
    call = ["verify", "case.bundle", *TRUST, "-w", "forgot.safetensors", "-r", "receipt.json"]
    code = f"{blocked}; from certify.cli import main; sys.argv[1:] = {call}; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "exclusion proven" in done.stdout


def test_what_fit_and_prove_say(certify: Certify, said: Json, folder: Path) -> None:
    certify("request", "--data", "patients.csv", "--id", "p7")
    thought = said("prove", "--request", 3, "--estimate")
    assert thought["forgotten"] == [1, 1] and thought["fits"] and thought["cells"] > 10_000
    assert thought["referenceString"] == str(ceremony_file(11))
    assert size_of(said) == 4  # nothing was done
    made = said("prove", "--request", 3, "-o", "later.safetensors")
    assert made["tensorRoot"] == said("digest", "later.safetensors")["tensorRoot"]
    assert made["proofBytes"] == pytest.approx(thought["proofBytes"], rel=0.05)
    assert not made["developmentSrs"]
    certify("bundle", "-o", "later.bundle")
    assert said("verify", "later.bundle", *TRUST)["grade"] == "exclusion proven"


def test_requests_that_change_nothing_are_proven_one_after_the_other(certify: Certify, said: Json) -> None:
    before = said("digest", "forgot.safetensors")["tensorRoot"]
    for entry, patient in ((3, "p7"), (5, "p8")):  # neither is a support vector
        certify("request", "--data", "patients.csv", "--id", patient)
        assert said("prove", "--request", entry)["tensorRoot"] == before
    certify("bundle")
    report = said("verify", "case.bundle", *TRUST)
    assert report["grade"] == "exclusion proven" and any(
        "37 count" in line for line in report["steps"][6]["established"]
    )


def test_a_number_is_fitted(said: Json, folder: Path) -> None:
    numbers = [line.rsplit(",", 1)[0] for line in (folder / "patients.csv").read_text().splitlines()]
    (folder / "numbers.csv").write_text("\n".join(numbers))
    ridge = said(
        "fit", "--data", "numbers.csv", "--target", "age", "--loss", "ridge", "--proofs", 9, "-o", "age.safetensors"
    )
    assert 0 < ridge["R2"] < 1 and ridge["features"] == 2
    assert said("show", ridge["entry"])["content"]["predicate"]["zk"]["tensors"][0]["proofs"] == 9
    assert ridge["tensorRoot"] == said("digest", "age.safetensors")["tensorRoot"]


def test_nothing_is_logged_where_weights_cannot_be_written(certify: Certify, said: Json) -> None:
    certify("request", "--data", "patients.csv", "--id", "p7")
    assert "nowhere/w" in certify("prove", "-r", 3, "-o", "nowhere/w.safetensors", expect=3).stderr
    call = ("fit", "--data", "patients.csv", "--target", "diagnosis", "-o", "nowhere/w.safetensors")
    assert "nowhere/w" in certify(*call, expect=3).stderr
    assert size_of(said) == 4


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("prove",), 2, "--request"),
        (("prove", "--estimate"), 2, "--rows and --features"),
        (("prove", "-r", "1", "--penalty", "2"), 2, "--penalty describes data for an estimate"),
        (("prove", "-r", "1", "--estimate", "--rows", "9"), 2, "--rows describes data for an estimate"),
        (("prove", "-r", "1", "--ray-address", "host:1"), 2, "--engine ray"),
        (("prove", "--estimate", "--rows", "9000000", "--features", "9"), 2, "no machine"),
        (("prove", "--estimate", "--rows", "9", "--features", "9", "--penalty", "nan"), 2, "nan is not a number"),
        (("prove", "-r", "0"), 9, "expected a request"),
        (("fit", "--data", "patients.csv", "--target", "height"), 5, "height"),
        (("fit", "--data", "patients.csv", "--target", "diagnosis", "--loss", "ridge"), 5, "expected a number"),
        (("circuit", "show", "patients.csv"), 11, "not a bundle"),
        (("circuit", "rebuild", "case.bundle", "--add-to", "patients.csv"), 8, "trust file"),
        (("circuit", "rebuild", "case.bundle", "--key", "patients.csv"), 30, "patients.csv"),
        (("circuit", "log", "patients.csv"), 7, "envelope"),
    ],
)
def test_wrong_calls_get_a_clear_error(certify: Certify, arguments: tuple[str, ...], code: int, words: str) -> None:
    assert words in certify(*arguments, expect=code).stderr


def test_without_a_reference_string_nothing_is_fitted(certify: Certify, said: Json, tmp_path: Path) -> None:
    call = ("fit", "--data", "patients.csv", "--target", "diagnosis")
    assert "certify srs fetch 11" in certify(*call, expect=41, CERTIFY_SRS=str(tmp_path)).stderr
    assert size_of(said) == 3


def test_an_estimate_needs_neither_data_nor_ledger(tmp_path: Path) -> None:
    certify = in_folder(tmp_path, tmp_path)
    call = ("prove", "--estimate", "--rows", 60, "--features", 4, "--loss", "ridge")
    shown = certify(*call).stdout
    assert "60 records of 4 features" in shown and "certify srs fetch 11" in shown and "assumed" in shown
    small = json.loads(certify(*call, "--json").stdout)
    assert small["loss"] == "ridge" and small["referenceString"] is None
    wide = json.loads(certify(*call, "--forget", 3, "--json").stdout)
    assert wide["forgotten"] == [3] and wide["cells"] > small["cells"] and wide["proofBytes"] >= small["proofBytes"]


def test_show_says_in_words_what_a_circuit_proves(certify: Certify, said: Json) -> None:
    shown = certify("circuit", "show", "case.bundle").stdout
    for words in ("next to the one optimum", "squared-hinge, penalty 1", "40 of 3 features", "perpetual powers of tau"):
        assert words in shown
    assert "within distance 0.09" in shown and "certify circuit rebuild" in shown
    [circuit] = said("circuit", "show", "case.bundle")
    assert circuit["parameters"]["rows"] == 40 and circuit["vk"] in shown
    parts = said("show", "case.bundle")["content"]
    assert list(parts["circuits"]) == [circuit["digest"]] and list(parts["srs"].values()) == [
        "the perpetual powers of tau"
    ]
    assert len(parts["proofs"]) == 1 and len(parts["points"]) == 3


def test_parts_of_a_proof_can_be_looked_at(said: Json, folder: Path) -> None:
    kinds = {"proofs": "zk proof", "circuits": "circuit", "srs": "reference string"}
    for kind, expected in kinds.items():
        [path] = (folder / "ledger/zk" / kind).iterdir()
        assert said("show", path)["kind"] == expected


def test_a_rebuilt_circuit_is_accepted(certify: Certify, said: Json, folder: Path, tmp_path: Path) -> None:
    own = without_circuits(folder)
    assert "circuit rebuild" in certify("verify", "case.bundle", "-t", own, expect=27).stderr
    srs = ("--srs-folder", ceremony_file(11).parent)
    [built] = said("circuit", "rebuild", "case.bundle", *srs, "--add-to", own, CERTIFY_SRS=str(tmp_path))
    assert built["same"] and built["added"] and not built["developmentSrs"]
    assert built["digest"] in built["trust"] and built["trust"] in own.read_text()
    assert said("verify", "case.bundle", "-t", own)["grade"] == "exclusion proven"
    shown = certify("circuit", "rebuild", "case.bundle", "--add-to", own).stdout
    assert "the same" in shown and "accepted it already" in shown
    assert own.read_text().count("[[circuit]]") == 1


def test_a_key_that_stands_for_something_else_is_found_out(certify: Certify, folder: Path) -> None:
    bundle = Bundle.parse((folder / "case.bundle").read_bytes())
    [circuit] = bundle.circuits.values()
    stated = circuit.description
    lie = msgspec.structs.replace(stated, parameters={**stated.parameters, "penalty": 99999})
    lying = replace(bundle, circuits={lie.digest: CircuitFiles(lie, circuit.settings, circuit.vk)})
    (folder / "lying.bundle").write_bytes(lying.to_bytes())
    own = without_circuits(folder)
    before = own.read_text()
    refused = certify("circuit", "rebuild", "lying.bundle", "--add-to", own, expect=48).stderr
    assert "rebuilt onnx has SHA-256" in refused and "rebuilt vk has SHA-256" in refused
    assert own.read_text() == before


def test_an_auditor_who_built_the_circuit_is_believed(certify: Certify, said: Json, folder: Path) -> None:
    certify("keygen", "auditor.pem", "--algorithm", "ed25519")
    shown = certify("circuit", "rebuild", "case.bundle", "--key", "auditor.pem").stdout
    assert "certify circuit log circuit.dsse.json" in shown
    [logged] = said("circuit", "log", "circuit.dsse.json", "--auditor", "auditor.pem.pub")
    assert logged["entry"] == 3
    assert logged["checkedSigners"] == [SigningKey.load(folder / "auditor.pem", PASSWORD.encode()).public.keyid]
    assert "not checked" in certify("circuit", "log", "circuit.dsse.json").stdout
    certify("bundle", "-o", "audited.bundle")

    pem = (folder / "auditor.pem.pub").read_text()
    own = without_circuits(folder, f'[[auditor]]\nname = "Example Audits"\npublic_key = """\n{pem}"""\n')
    report = said("verify", "audited.bundle", "-t", own)
    assert report["grade"] == "exclusion proven"
    assert any("Example Audits has built circuit" in line for line in report["steps"][1]["established"])
    certify("verify", "case.bundle", "-t", own, expect=27)  # which was made before
    certify("verify", "audited.bundle", "-t", without_circuits(folder), expect=27)

    differs = said("diff", "case.bundle", "audited.bundle")
    assert differs["added"] == ["entry 3, circuit"] and not differs["changed"] and not differs["removed"]
    assert said("show", 3)["content"]["predicate"]["circuit"]["statement"] == "exclusion-optimum/v1"


def test_statements_about_circuits_that_help_nobody_are_not_logged(certify: Certify, said: Json, folder: Path) -> None:
    own_word = ("--key", "ledger/keys/issuer.pem", "-o", "own.json")
    certify("circuit", "rebuild", "case.bundle", *own_word)
    assert "issuer alone" in certify("circuit", "log", "own.json", expect=7).stderr

    certify("keygen", "auditor.pem")
    certify("circuit", "rebuild", "case.bundle", "--key", "auditor.pem")
    good = json.loads((folder / "circuit.dsse.json").read_bytes())
    good["signatures"][0]["sig"] = json.loads((folder / "own.json").read_bytes())["signatures"][0]["sig"]
    (folder / "forged.json").write_text(json.dumps(good))
    Envelope.parse((folder / "forged.json").read_bytes())
    certify("circuit", "log", "forged.json", "--auditor", "auditor.pem.pub", expect=12)

    certify("init", "other", "--origin", "other.example/ledger")
    assert "made for log" in certify("circuit", "log", "-l", "other", "circuit.dsse.json", expect=7).stderr
    certify("init", "same", "--origin", "clinic.example/ledger")
    assert "no certificate" in certify("circuit", "log", "-l", "same", "circuit.dsse.json", expect=9).stderr
    assert size_of(said) == 3


def test_development_reference_string_proves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("ezkl", reason="install ezkl to make a development reference string")
    make_patients(tmp_path, 20)
    certify = in_folder(tmp_path, tmp_path / "srs")
    certify("srs", "develop", 11)
    certify("init", "--origin", "clinic.example/ledger")
    call = ("fit", "--data", "patients.csv", "--target", "diagnosis")
    assert "certify srs fetch 11" in certify(*call, expect=41).stderr
    assert "DEVELOPMENT" in certify(*call, "--development-srs").stdout
    certify("request", "--data", "patients.csv", "--id", "p3")
    assert "DEVELOPMENT" in certify("prove", "-r", 1).stdout
    certify("bundle")
    assert "--allow-development-srs" in certify("verify", "case.bundle", *TRUST, expect=28).stderr
    allowed = ("verify", "case.bundle", *TRUST, "--allow-development-srs", "-w", "forgot.safetensors")
    shown = certify(*allowed).stdout
    assert "VERIFIED  grade: attested" in shown and "\nDEVELOPMENT  reference string" in shown
    report = json.loads(certify(*allowed, "--json").stdout)
    assert report["grade"] == "attested" and report["development_srs"]
    assert "DEVELOPMENT" in certify("circuit", "show", "case.bundle").stdout
    assert "DEVELOPMENT" in certify("circuit", "rebuild", "case.bundle").stdout

    shutil.move(tmp_path / "srs/kzg11.development.srs", tmp_path / "first.srs")
    certify("srs", "develop", 11)  # another secret
    assert "ask for the file" in certify("circuit", "rebuild", "case.bundle", expect=48).stderr


def test_stages_show_what_is_done_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from certify.cli import output

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with output.stages({"prove": "proving"}) as begin:
        begin("prove", 100.0)
    shown = terminal.getvalue()
    assert "proving" in shown and "0 s, about 1 min 40 s left" in shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.24, "0.2 s"), (0, "0 s"), (59.4, "59 s"), (185, "3 min 5 s"), (7800, "2 h 10 min")]
)
def test_durations_are_short(seconds: float, shown: str) -> None:
    from certify.cli.output import duration

    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(516, "516 bytes"), (8372, "8.37 KB"), (3.53e9, "3.53 GB"), (2.26e10, "22.6 GB")]
)
def test_sizes_are_short(count: float, shown: str) -> None:
    from certify.cli.output import size

    assert size(count) == shown
