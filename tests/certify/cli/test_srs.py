"""certify srs: what is here, how it came, and that a development file cannot be mistaken."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from certify.cli.exit_codes import exit_code
from circuits import errors
from circuits.srs import CEREMONY, load
from tests.certify.cli.conftest import certify_in
from tests.circuits.development import ceremony_file, development_srs

Srs = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "srs"


@pytest.fixture
def srs(tmp_path: Path, folder: Path) -> Srs:
    """``srs("status", …, expect=41)``, with ``folder`` as the only one looked into."""

    def run(*arguments: object, expect: int = 0, **environment: str) -> "subprocess.CompletedProcess[str]":
        return certify_in(tmp_path, "srs", *arguments, expect=expect, **{"CERTIFY_SRS": str(folder)} | environment)

    return run


def test_with_nothing_here_status_says_what_to_do(srs: Srs, folder: Path) -> None:
    shown = srs("status").stdout
    assert "no reference strings are here yet" in shown and "next: certify srs fetch 11" in shown
    assert "certify srs import" in shown
    assert json.loads(srs("status", "--json").stdout) == {
        "folders": [str(folder)],
        "filesGoTo": str(folder),
        "files": [],
        "ready": {"verify": False, "prove": []},
        "next": "certify srs fetch 11",
    }


def test_status_of_the_folders_that_are_looked_into_by_default(srs: Srs, tmp_path: Path) -> None:
    said = json.loads(srs("status", "--json", CERTIFY_SRS="", XDG_CACHE_HOME="", HOME=str(tmp_path)).stdout)
    assert said["folders"] == [f"{tmp_path}/.cache/unlearning-ledger/srs", f"{tmp_path}/.ezkl/srs"]
    assert said["filesGoTo"] == said["folders"][0]


def test_fetched_file_is_ready(srs: Srs, folder: Path) -> None:
    mirror = ceremony_file(11).parent.as_uri() + "/kzg{logrows}.srs"
    [fetched] = json.loads(srs("fetch", 11, "--url", mirror, "--json").stdout)
    assert fetched["kind"] == "ceremony" and fetched["path"] == str(folder / "kzg11.srs")
    said = json.loads(srs("status", "--json").stdout)
    assert said["ready"] == {"verify": True, "prove": [11]} and said["next"] is None
    assert [(item["logrows"], item["size"], item["kind"], item["sha256"]) for item in said["files"]] == [
        (1, 516, "ceremony", CEREMONY[1]),
        (11, 262404, "ceremony", CEREMONY[11]),
    ]
    assert "DEVELOPMENT" not in srs("status").stdout


def test_tampered_file_is_not_fetched(srs: Srs, folder: Path, tmp_path: Path) -> None:
    data = bytearray(ceremony_file(11).read_bytes())
    data[1000] ^= 1
    (tmp_path / "kzg11.srs").write_bytes(data)
    done = srs("fetch", 11, "--url", (tmp_path / "kzg11.srs").as_uri(), expect=41)
    assert "expected SHA-256" in done.stderr
    assert list(folder.iterdir()) == []


def test_no_network_says_what_to_do(srs: Srs, folder: Path) -> None:
    done = srs("fetch", 11, "--url", "http://127.0.0.1:1/kzg11.srs", expect=41, NO_PROXY="*")
    assert "certify srs import" in done.stderr and len(done.stderr.splitlines()) == 1
    assert list(folder.iterdir()) == []


def test_one_address_is_of_one_file(srs: Srs) -> None:
    assert "give one LOGROWS" in srs("fetch", 11, 12, "--url", "http://127.0.0.1:1/kzg11.srs", expect=2).stderr
    srs("fetch", 27, expect=2)


def test_genuine_file_is_imported(srs: Srs, folder: Path) -> None:
    assert "ceremony" in srs("import", ceremony_file(11)).stdout
    assert sorted(path.name for path in folder.iterdir()) == ["kzg1.srs", "kzg11.srs"]


def test_import_of_another_file_is_refused_unless_for_development(srs: Srs, folder: Path, tmp_path: Path) -> None:
    given = tmp_path / "kzg3.srs"
    given.write_bytes(development_srs(3, 7))
    done = srs("import", given, expect=41)
    assert "can forge" in done.stderr and "--development" in done.stderr
    assert not folder.exists()

    shown = srs("import", given, "--development").stdout
    assert "DEVELOPMENT" in shown and "--allow-development-srs" in shown
    assert [path.name for path in folder.iterdir()] == ["kzg3.development.srs"]
    [item] = json.loads(srs("import", given, "--development", "--json").stdout)
    assert item["kind"] == "development" and "forge" in item["warning"]


def test_development_file_is_marked_everywhere(srs: Srs, folder: Path) -> None:
    pytest.importorskip("ezkl", reason="install ezkl to make a development reference string")
    shown = srs("develop", 3).stdout
    path = folder / "kzg3.development.srs"
    assert "DEVELOPMENT" in shown and "can forge proofs" in shown and "nothing above attested" in shown
    assert load(path).development
    status = srs("status").stdout
    assert "DEVELOPMENT" in status and "can forge proofs" in status and "missing" in status
    said = json.loads(srs("status", "--json").stdout)
    assert said["files"][0]["kind"] == "development"
    assert said["ready"] == {"verify": False, "prove": []} and said["next"] == "certify srs fetch 11"
    said = json.loads(srs("develop", 2, "--json").stdout)
    assert said["kind"] == "development" and "forge" in said["warning"]
    assert "move it away" in srs("develop", 3, expect=41).stderr


def test_a_ceremony_s_name_makes_no_ceremony(srs: Srs, folder: Path) -> None:
    folder.mkdir()
    (folder / "kzg3.srs").write_bytes(development_srs(3, 7))
    (folder / "kzg1.srs").write_bytes(development_srs(1, 7))
    shown = srs("status").stdout
    assert "in spite of its name" in shown and "DEVELOPMENT" in shown
    assert json.loads(srs("status", "--json").stdout)["ready"] == {"verify": False, "prove": []}


def test_names_from_elsewhere_cannot_move_the_cursor(srs: Srs, tmp_path: Path) -> None:
    strange = tmp_path / "a\x1b[2J"
    strange.mkdir()
    (strange / "kzg3.srs").write_bytes(development_srs(3, 7))
    assert "\x1b" not in srs("status", CERTIFY_SRS=str(strange)).stdout


@pytest.mark.parametrize("command", ["fetch", "import", "develop"])
def test_folder_that_cannot_be_written(srs: Srs, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    arguments: dict[str, tuple[object, ...]] = {
        "fetch": (11, "--url", ceremony_file(11).as_uri()),
        "import": (ceremony_file(11),),
        "develop": (2,),
    }
    done = srs(command, *arguments[command], expect=41, CERTIFY_SRS=str(tmp_path / "file" / "srs"))
    assert "cannot write" in done.stderr and len(done.stderr.splitlines()) == 1
    assert "error" not in srs("status", CERTIFY_SRS=str(tmp_path / "file" / "srs")).stderr


def test_errors_of_circuits_have_exit_codes() -> None:
    expected = {
        errors.CircuitError: 40,
        errors.SrsError: 41,
        errors.CommitmentError: 42,
        errors.QuantizeError: 43,
        errors.ProverError: 44,
        errors.ResourceError: 45,
        errors.ZkProofError: 46,
    }
    assert {kind: exit_code(kind("x")) for kind in expected} == expected


def test_exit_codes_load_nothing_heavy() -> None:
    code = "import sys, certify.cli.exit_codes; print(*(name for name in sys.modules if name.startswith('circuits')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["circuits", "circuits.errors"]
