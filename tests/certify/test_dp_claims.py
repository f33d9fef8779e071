"""Claims of privacy, from what an accountant says to what the verifier makes of it: a bound above the claim is a FAIL."""

import json
import shutil
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace as copy
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from click.testing import CliRunner
from msgspec.structs import replace
from safetensors.torch import save_file

from certify import audit_claims, audit_subject
from certify.audit import shadows, verdict
from certify.audit.verdict import Claim
from certify.cli import cli
from certify.envelope import Envelope
from certify.errors import AuditError, FailedAuditError, InputError, StatementError
from certify.methods.certified_removal import CertifiedRemoval
from certify.methods.dp import DpSgdTraining
from certify.statement import Statement, Training, Unlearning
from certify.trust import Trust
from certify.verifier import verify
from certify.wire import canonical
from tests.audit_cases import PASSED, PLAN, Auditor, trust
from tests.cases import NOW, Case, usual_case
from tests.certify.audit.private_models import epsilon_of
from tests.private_adapter import MOVED

THREE = copy(PLAN, claim=Claim("original", 3.0, 1e-5))
ADAPTER = Path(__file__).parents[1] / "private_adapter.py"


def showing(original: float) -> verdict.Figures:
    """What passes otherwise, with such a bound for the original."""
    arm = PASSED.original
    return copy(PASSED, original=copy(arm, epsilon=copy(arm.epsilon, lower=original, greatest=4.0)))


def case_of(rules: verdict.Plan, found: verdict.Figures, **changes: Any) -> Case:
    case = usual_case()
    auditor = Auditor(case)
    auditor.plan(rules)
    auditor.start()
    auditor.finish(found, **changes)
    return case


def test_bound_above_the_claim_is_a_failed_audit() -> None:
    case = case_of(THREE, showing(3.5))
    with pytest.raises(FailedAuditError, match=r"FAIL .*original model's ε is at least 3\.50, and 3 was claimed, at δ"):
        verify(case.data(), trust(case), now=NOW)


def test_bound_below_the_claim_passes_and_is_said_not_to_prove_it() -> None:
    case = case_of(THREE, showing(2.5))
    [audited] = verify(case.data(), trust(case), now=NOW).audits
    assert audited.verdict == "PASS"
    assert any("is not contradicted, which does not prove it: at least 2.50 is shown" in why for why in audited.reasons)


def test_claim_that_so_few_records_cannot_contradict_is_said_to_be_untested() -> None:
    found = verdict.judge(copy(PLAN, claim=Claim("original", 5.0, 1e-5)), showing(2.5))
    assert found.outcome == "PASS"
    assert any("4.00, so that nothing could have contradicted it" in why for why in found.reasons)


def test_auditor_cannot_state_a_pass_against_the_claim_of_its_plan() -> None:
    case = case_of(THREE, showing(3.5), verdict="PASS")
    with pytest.raises(AuditError, match="states PASS, from its figures and its plan follows FAIL"):
        verify(case.data(), trust(case), now=NOW)


def test_claim_at_another_delta_than_the_bounds_is_refused() -> None:
    """A bound at δ = 1e-5 is larger than one at the claim's δ: it would contradict what is true."""
    case = usual_case()
    plan = Auditor(case).plan(THREE).payload
    data = json.loads(plan)
    assert data["predicate"]["rules"]["claim"]["delta"] == 1e-5
    data["predicate"]["rules"]["claim"]["delta"] = 1e-3  # as somebody else's program may sign it
    with pytest.raises(StatementError, match="says nothing of ε at"):
        Statement.parse(canonical(data, what="a plan", error=StatementError))
    assert Statement.parse(canonical(json.loads(plan), what="a plan", error=StatementError))


def predicates() -> tuple[Training, Unlearning]:
    case = usual_case()
    said = [Statement.parse(Envelope.parse(case.entries[index]).payload).predicate for index in case.shown]
    [training] = [one for one in said if isinstance(one, Training)]
    [certificate] = [one for one in said if isinstance(one, Unlearning)]
    return training, certificate


def test_what_statements_claim_is_taken_over() -> None:
    training, certificate = predicates()
    assert audit_claims.stated(training, certificate) is None
    noise = DpSgdTraining.of(noise=4.0, rate=0.07, steps=150, clipping=1.0, delta=1e-5, accountant="some accountant")
    private = replace(training, detail=noise)
    found = audit_claims.stated(private, certificate)
    assert found == Claim("original", noise.epsilon, 1e-5)
    numbers: dict[str, Any] = {field.name: 1 for field in msgspec.structs.fields(CertifiedRemoval)}
    removal = CertifiedRemoval(**numbers | {"epsilon": 0.5, "delta": 1e-4})
    assert audit_claims.stated(private, replace(certificate, detail=removal)) == Claim("unlearned", 0.5, 1e-4)
    assert list(audit_claims.left_out(found, found)) == []
    [left] = audit_claims.left_out(found, Claim("unlearned", 1.0))
    assert "which the operator's own statements make" in left and "of the original model" in left


# -- by the command line, with models ------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def call(folder: Path, *arguments: object) -> Any:
    with chdir(folder):
        done = CliRunner().invoke(cli, [*map(str, arguments), "--json"], env={"CERTIFY_PASSWORD": "correct horse"})
    assert done.exit_code == 0, (arguments, done.output, done.exception)
    return json.loads(done.stdout)


MU = 0.25
WHO = ("--key", "auditor.pem", "--adapter", "adapter.py")
RULES = ("--seed", "2", "--shadows", "16", "--retrained", "2")
MODELS = ("--original", "original.safetensors", "--unlearned", "unlearned.safetensors")
CLAIM = ("--claim-epsilon", f"{epsilon_of(1e-4, MU):.6f}", "--claim-delta", "0.0001", "--claim-of", "original")


def made(folder: Path, noise: float) -> None:
    """A ledger with a certificate about two models of the private adapter, released with so much noise, and an auditor's key."""
    shutil.copy(ADAPTER, folder / "adapter.py")
    loaded = audit_subject.load(ADAPTER)
    drawn = torch.Generator().manual_seed(4)
    for name, places in (("original", loaded.training), ("unlearned", loaded.records.retain)):
        [params] = shadows.unstack(shadows.train(loaded.subject, [places], [name]))
        weight = params["weight"] + noise * MOVED * torch.randn(params["weight"].shape, generator=drawn)
        save_file({"weight": weight.contiguous()}, folder / f"{name}.safetensors")
    lines = [{"id": f"p{place}"} | json.loads(loaded.record(int(place))) for place in loaded.training]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ids = [part for place in loaded.records.forget for part in ("--id", f"p{place}")]
    call(folder, "init", "--origin", "clinic.example/ledger", "--issuer", "Clinic")
    call(folder, "train-commit", "--data", "rows.jsonl", "-w", "original.safetensors", "--method", "private")
    call(folder, "request", "--data", "rows.jsonl", *ids)
    weights = ("--pre", "original.safetensors", "--post", "unlearned.safetensors")
    call(folder, "issue", "-r", "1", *weights, "--method", "retrain")
    call(folder, "keygen", "auditor.pem")
    pem = (folder / "auditor.pem.pub").read_text()
    trusted = (folder / "ledger" / "trust.toml").read_text()
    table = f'\n[[auditor]]\nname = "Example Audits"\npublic_key = """\n{pem}"""\n'
    (folder / "trust.toml").write_text(trusted + table)


def test_noise_that_was_claimed_and_not_added_is_found(tmp_path: Path) -> None:
    """ε = 0.8 is claimed of weights without noise; from the command line to the verifier."""
    made(tmp_path, 0.0)
    planned = call(tmp_path, "audit", "plan", *WHO, *RULES, *CLAIM)
    assert planned["claim"].endswith("δ = 0.0001 of the original model")
    assert round(planned["greatest"], 2) == 2.34  # of 40 and 40 records
    torch.set_num_threads(2)
    run = call(tmp_path, "audit", "run", *WHO, *MODELS, "--device", "cpu")
    assert torch.get_num_threads() == 2  # as before, though the attack ran on one
    assert run["verdict"] == "FAIL"
    assert "the original model's ε is at least" in run["reasons"][0] and "was claimed" in run["reasons"][0]
    plan, started, finished = call(tmp_path, "audit", "show")["statements"]
    assert plan["rules"]["claim"]["arm"] == "original" and plan["rules"]["delta"] == 0.0001
    for said in (started, finished):
        assert (said["environment"]["device"], said["environment"]["threads"]) == ("cpu", 1)
    call(tmp_path, "bundle")
    trusted = Trust.load(tmp_path / "trust.toml")
    with pytest.raises(
        FailedAuditError, match=r"FAILED AUDIT: Example Audits found FAIL .* was claimed, at δ = 0\.0001"
    ):
        verify((tmp_path / "case.bundle").read_bytes(), trusted)


def test_noise_that_was_claimed_and_added_is_not_contradicted(tmp_path: Path) -> None:
    made(tmp_path, 1 / MU)
    call(tmp_path, "audit", "plan", *WHO, *RULES, *CLAIM)
    run = call(tmp_path, "audit", "run", *WHO, *MODELS, "--threads", "2")
    assert call(tmp_path, "audit", "show")["statements"][-1]["environment"]["threads"] == 2
    assert run["verdict"] != "FAIL"
    assert any("is not contradicted, which does not prove it" in reason for reason in run["reasons"])


def test_claims_and_devices_that_make_no_sense_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, 0.0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CERTIFY_PASSWORD", "correct horse")

    def refused(match: str, *arguments: str) -> None:
        with pytest.raises(InputError, match=match):
            cli.main(list(arguments), standalone_mode=False)

    refused("expected --claim-epsilon beside", "audit", "plan", *WHO, *RULES, "--claim-delta", "0.001")
    refused("expected a claimed ε", "audit", "plan", *WHO, *RULES, "--claim-epsilon", "-1")
    apart = ("--claim-epsilon", "1", "--claim-delta", "0.001", "--delta", "0.00001")
    refused("says nothing of ε at", "audit", "plan", *WHO, *RULES, *apart)
    assert call(tmp_path, "audit", "plan", *WHO, *RULES, "--claim-epsilon", "3")["greatest"] < 3
    refused("expected a device such as cpu, cuda", "audit", "run", *WHO, *MODELS, "--device", "gpu")
    refused("torch sees [0-9]+ CUDA devices, expected cuda:99", "audit", "run", *WHO, *MODELS, "--device", "cuda:99")
