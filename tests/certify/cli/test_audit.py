"""certify audit, as an auditor and an operator call it."""

import json
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from certify import audit_subject
from certify.audit import shadows
from certify.cli import cli
from certify.cli.exit_codes import AUDITS_DUE
from certify.errors import CertifyError, InputError, MismatchError, StatementError, WorkspaceError
from certify.trust import format_trust
from tests.audit_cases import FAILED, audited_case, key
from tests.certify.cli.conftest import PASSWORD, certify_in

ADAPTER = Path(__file__).parents[2] / "audit_adapter.py"
RULES = ("--seed", "2", "--shadows", "16", "--retrained", "2", "--margin", "0.2", "--utility-margin", "0.3")
ALSO = ("--also", "relearn:limit=300", "--also", "kpis", "--also", "population:at=0.1,gamma=1.5")
MODELS = ("--original", "original.safetensors", "--unlearned", "unlearned.safetensors")
WHO = ("--key", "auditor.pem", "--adapter", "adapter.py")


def call(folder: Path, *arguments: object, expect: int = 0) -> Any:
    """In JSON, in this process: starting torch for each takes long."""
    with chdir(folder):
        done = CliRunner().invoke(cli, [*map(str, arguments), "--json"], env={"CERTIFY_PASSWORD": PASSWORD})
    assert done.exit_code == expect, (arguments, done.output, done.exception)
    return json.loads(done.stdout)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for one another on a busy machine take a hundred times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with a certificate about real weights, and a plan. Not to be changed."""
    folder = tmp_path_factory.mktemp("audit-cli")
    shutil.copy(ADAPTER, folder / "adapter.py")
    loaded = audit_subject.load(ADAPTER)
    for name, places in (("original", loaded.training), ("unlearned", loaded.records.retain)):
        [made] = shadows.unstack(shadows.train(loaded.subject, [places], [name]))
        save_file({tensor: value.contiguous() for tensor, value in made.items()}, folder / f"{name}.safetensors")
    lines = [{"id": f"p{place}", "row": json.loads(loaded.record(int(place)))} for place in loaded.training]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ids = [part for place in loaded.records.forget for part in ("--id", f"p{place}")]
    call(folder, "init", "--origin", "clinic.example/ledger", "--issuer", "Clinic")
    call(folder, "train-commit", "--data", "rows.jsonl", "-w", "original.safetensors", "--method", "adam")
    call(folder, "request", "--data", "rows.jsonl", *ids)
    weights = ("--pre", "original.safetensors", "--post", "unlearned.safetensors")
    call(folder, "issue", "-r", "1", *weights, "--method", "retrain")
    adapter = folder / "adapter.py"
    adapter.write_text(adapter.read_text().replace("    return [*x", '    return {"row": [*x').replace("])]", "])]}"))
    call(folder, "keygen", "auditor.pem")
    call(folder, "audit", "salts", "-o", "audit.salts")
    planned = call(folder, "audit", "plan", *WHO, *RULES, *ALSO)
    assert planned["entry"] == 3 and planned["also"] == ["kpis", "population", "relearn"]
    pem = (folder / "auditor.pem.pub").read_text()
    trust = (folder / "ledger" / "trust.toml").read_text()
    table = f'\n[[auditor]]\nname = "Example Audits"\npublic_key = """\n{pem}"""\n\n[audits]\nrequired = true\n'
    (folder / "trust.toml").write_text(trust + table)
    return folder


@pytest.fixture
def folder(world: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world, tmp_path / "work"))


def test_plan_run_bundle_verify(folder: Path) -> None:
    due = call(folder, "audit", "due", "-t", "trust.toml", expect=AUDITS_DUE)
    assert [(item["entry"], item["verdict"]) for item in due] == [(2, None)]
    made = call(folder, "audit", "run", *WHO, *MODELS, "--salts", "audit.salts")
    assert (made["verdict"], made["entry"], made["attempt"], made["resumed"]) == ("PASS", 5, 1, False)
    assert json.loads((folder / made["figures"]).read_text())["power"] == made["power"]
    assert [probe["name"] for probe in made["probes"]] == ["kpis", "population", "relearn"]
    assert all(probe["said"] and probe["limits"] for probe in made["probes"])
    details = json.loads((folder / "audit" / "probes.json").read_text())
    assert [one["detail"].keys() >= {"auc", "threshold"} for one in details] == [False, True, False]
    assert details[2]["figures"]["limit"] == 300
    assert [Path(name).name for name in made["pictures"]] == [
        "roc.png",
        "histograms.png",
        "epsilon.png",
        "ranking.png",
    ]
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in made["pictures"])
    assert made["comparedWith"] is None and made["moves"] == []
    shown = call(folder, "audit", "show", "-t", "trust.toml", "--scores", made["scores"])
    assert [item["kind"] for item in shown["statements"]] == ["audit-plan", "audit", "audit"]
    assert {item["auditor"] for item in shown["statements"]} == {"Example Audits"}
    assert shown["scoresChecked"] == 5
    words = certify_in(folder, "audit", "show", "-t", "trust.toml").stdout
    assert "PASS" in words and "16 shadows" in words and "Example Audits" in words
    assert "worst record" in words and "in retrained models" in words
    assert "kpis, population, relearn" in words and "+ relearn: it takes" in " ".join(words.split())
    assert [one.keys() & {"moves"} for one in shown["statements"]] == [set()] * 3
    [status] = call(folder, "audit", "schedule", "-t", "trust.toml")
    assert (status["verdict"], status["due"]) == ("PASS", False)
    assert call(folder, "audit", "due", "-t", "trust.toml") == []
    assert call(folder, "audit", "due", "-t", "trust.toml", "--at", "2040-01-01T00:00:00Z", expect=AUDITS_DUE)
    certify_in(folder, "bundle")
    report = call(folder, "verify", "case.bundle", "-t", "trust.toml")
    assert [(audit["auditor"], audit["verdict"]) for audit in report["audits"]] == [("Example Audits", "PASS")]
    said = certify_in(folder, "verify", "case.bundle", "-t", "trust.toml").stdout
    assert "audited" in said and "PASS by Example Audits, power" in said and "lower bound" in said
    assert "beside, relearn: it takes" in said and [len(audit["probes"]) for audit in report["audits"]] == [3]
    stale = certify_in(folder, "verify", "case.bundle", "-t", "trust.toml", "--at", "2040-01-01T00:00:00Z", expect=18)
    assert "stale" in stale.stderr


def test_audits_are_compared_with_the_one_before(folder: Path) -> None:
    """A second attempt at the same plan finds the same; the first audit of the next certificate is compared with it."""
    first = call(folder, "audit", "run", *WHO, *MODELS)
    again = call(folder, "audit", "run", *WHO, *MODELS)
    assert (again["comparedWith"], again["regressions"]) == (first["entry"], [])
    told = {move["what"]: move for move in again["moves"]}
    assert told["lower bound of ε"]["before"] == told["lower bound of ε"]["after"]
    assert {"verdict", "AUC less the retrained models'", "accuracy on test records"} <= told.keys()
    shown = call(folder, "audit", "show", "-t", "trust.toml")["statements"]
    assert [one.get("comparedWith") for one in shown] == [None, None, None, None, first["entry"]]
    words = certify_in(folder, "audit", "show", "-t", "trust.toml").stdout
    assert f"since the audit at entry {first['entry']}:" in words and "verdict: still PASS" in words


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ("relern", "expected a probe, one of canaries, challenge"),
        ("relearn:steps=3", "has no parameter 'steps'"),
        ("relearn:limit", "expected NAME:PARAMETER=NUMBER"),
        ("relearn:limit=many", "expected NAME:PARAMETER=NUMBER"),
        ("relearn:limit=-1", "above 0"),
    ],
)
def test_probes_that_nobody_can_plan(folder: Path, given: str, match: str) -> None:
    done = certify_in(folder, "audit", "plan", *WHO, "--folder", "new", "--also", given, expect=2)
    assert match in " ".join(done.stderr.split())


def test_probe_whose_function_the_adapter_lacks(here: Path) -> None:
    for name, function in (("ulira", "unlearn"), ("challenge", "unlearn"), ("canaries", "canaries")):
        match = rf"the probe {name} needs a function {function}\(\) in the adapter"
        refused(InputError, match, "audit", "plan", *WHO, "--folder", "new", "--also", name)
    refused(StatementError, "twice", "audit", "plan", *WHO, "--folder", "new", "--also", "kpis", "--also", "kpis")
    assert not (here / "new").exists() or not list((here / "new").iterdir())


def test_failed_audit_is_not_to_be_overlooked(tmp_path: Path) -> None:
    case = audited_case(FAILED)
    (tmp_path / "case.bundle").write_bytes(case.data())
    auditor = f'\n[[auditor]]\nname = "Example Audits"\npublic_key = """\n{key().public.pem()}"""\n'
    (tmp_path / "trust.toml").write_text(format_trust(case.trust().logs, case.trust().issuers) + auditor)
    failed = certify_in(tmp_path, "verify", "case.bundle", "-t", "trust.toml", expect=18)
    assert "FAILED AUDIT: Example Audits found FAIL" in failed.stderr
    assert "REFUSED at step 8. The bundle is authentic; the model is not shown to have forgotten." in failed.stdout
    said = certify_in(tmp_path, "verify", "case.bundle", "-t", "trust.toml", "--allow-failed-audit").stdout
    assert "FAILED AUDIT  FAIL by Example Audits" in said and "AUTHENTIC" in said and "VERIFIED" not in said


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CERTIFY_PASSWORD", PASSWORD)
    return folder


def refused(error: type[CertifyError], match: str, *arguments: str) -> None:
    with pytest.raises(error, match=match):
        cli.main(list(arguments), standalone_mode=False)


def test_run_refuses_what_was_not_planned(here: Path) -> None:
    swapped = ("--original", "original.safetensors", "--unlearned", "original.safetensors")
    refused(MismatchError, "the unlearned model given has tensor root", "audit", "run", *WHO, *swapped)
    refused(InputError, "give the folder", "audit", "run", *WHO, *MODELS, "--folder", "elsewhere")
    call(here, "keygen", "other.pem")
    other = ("--key", "other.pem", "--adapter", "adapter.py")
    refused(WorkspaceError, "certify audit plan comes first", "audit", "run", *other, *MODELS)
    with (here / "adapter.py").open("a") as file:
        file.write("# kinder\n")
    refused(MismatchError, "make another plan", "audit", "run", *WHO, *MODELS)
    shown = call(here, "audit", "show")
    assert [item["kind"] for item in shown["statements"]] == ["audit-plan"]
    assert shown["statements"][0]["auditor"] is None  # the ledger's own trust file names nobody


def test_plan_refuses_impossible_rules_and_a_used_folder(here: Path) -> None:
    refused(InputError, "even number", "audit", "plan", *WHO, "--shadows", "5", "--folder", "new")
    refused(InputError, "a plan was made with audit: give another one", "audit", "plan", *WHO)
    assert call(here, "audit", "plan", *WHO, "--folder", "new", "--claimed-epsilon", "3")["entry"] == 4
    first, plan = call(here, "audit", "show")["statements"]
    assert "previous" not in first and plan["previous"]
    assert plan["rules"]["claim"] == {"arm": "unlearned", "epsilon": 3, "delta": 0}


def test_audit_signed_elsewhere_is_logged_by_the_operator(folder: Path) -> None:
    """The plan of a ledger that went back to before it: the operator logs it again, as it came."""
    from certify.workspace import Workspace

    with Workspace(folder / "ledger", PASSWORD.encode()) as workspace:
        data = workspace.entry(3).envelope.data
    (folder / "plan.dsse.json").write_bytes(data)
    [logged] = call(folder, "audit", "log", "plan.dsse.json", "--auditor", "auditor.pem.pub")
    assert logged["entry"] == 3 and logged["checkedSigner"]
    [logged] = call(folder, "audit", "log", "plan.dsse.json")
    assert logged["checkedSigner"] is None
