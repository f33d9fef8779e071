"""Differentially private training, and requests answered by its guarantee."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import certify  # noqa: E402
from certify import bundle, case  # noqa: E402
from certify.dp_answer import answer_by_guarantee  # noqa: E402
from certify.errors import StatementError, WorkspaceError  # noqa: E402
from certify.hooks.torch import HookRun  # noqa: E402
from certify.methods.dp import DpGuarantee, DpSgdTraining  # noqa: E402
from certify.rdp import epsilon  # noqa: E402
from certify.statement import Base, Unlearning  # noqa: E402
from certify.trust import Trust  # noqa: E402
from certify.verifier import Report, verify  # noqa: E402
from certify.workspace import Workspace  # noqa: E402

PEOPLE = {f"person {number}": {"x": number} for number in range(12)}
QUIET = {"noise": 4.0, "rate": 0.07, "steps": 150, "clipping": 1.0, "delta": 1e-5, "accountant": "opacus 1.6.0 rdp"}


def private(workspace: Workspace, detail: DpSgdTraining, base: list[Base] | None = None) -> torch.nn.Module:
    torch.manual_seed(1)
    model = torch.nn.Linear(2, 2)
    with certify.training(model, ledger=workspace, data=PEOPLE, method="dp-sgd/v1", seeds=[], base=base or []) as run:
        run.detail = detail
    return model


def answer(workspace: Workspace, model: torch.nn.Module, detail: DpGuarantee, *numbers: int) -> HookRun:
    people = {f"person {number}": PEOPLE[f"person {number}"] for number in numbers}
    request = certify.file_request(workspace, people, ground="gdpr-17")
    with certify.unlearning(model, ledger=workspace, request=request, method="dp-guarantee/v1", seeds=[]) as run:
        run.detail = detail
    return run


def report(run: HookRun, folder: Path) -> Report:
    return verify(run.bundle(folder / "case.bundle").read_bytes(), Trust.load(run.workspace.path / "trust.toml"))


def test_guarantee_answers_a_request_and_says_that_nothing_changed(workspace: Workspace, tmp_path: Path) -> None:
    detail = DpSgdTraining.of(**QUIET, reported=0.91)
    model = private(workspace, detail)
    found = report(answer(workspace, model, DpGuarantee.of(detail, group=1, delta=1e-5), 3), tmp_path)
    lines = found.steps[5].established
    assert any(
        "150 steps, which are the operator's word, give ε = 0.9084 at δ = 1e-05 for one record" in line
        for line in lines
    )
    assert any("for any 1 records together ε = 0.9084 at δ = 1e-05, recomputed" in line for line in lines)
    assert any("is right for at most 2.5% of models with them" in line for line in lines)
    assert any("by the operator's word, opacus 1.6.0 rdp reported ε = 0.91" in line for line in lines)
    assert any("did learn from those records" in line for line in found.limits)
    assert any("weights before and after entry 2 are the same" in line for line in found.limits)


def test_guarantee_is_for_all_who_asked_so_far(workspace: Workspace, tmp_path: Path) -> None:
    private(workspace, DpSgdTraining.of(**QUIET))
    for group, numbers in ((1, [3]), (3, [4, 5])):
        people = {f"person {number}": PEOPLE[f"person {number}"] for number in numbers}
        request = certify.file_request(workspace, people, ground="gdpr-17")
        logged = answer_by_guarantee(workspace, [request], delta=1e-5)
        certificate = logged.statement.predicate
        assert isinstance(certificate, Unlearning) and isinstance(certificate.detail, DpGuarantee)
        assert certificate.detail.group == group
    path = bundle.write(tmp_path / "case.bundle", case.collect(workspace, logged))
    found = verify(path.read_bytes(), Trust.load(workspace.path / "trust.toml"))
    lines = found.steps[5].established
    assert any("for any 3 records together" in line for line in lines)
    assert any("less exactly the 3 that certificates name" in line for line in lines)


def test_only_private_trainings_answer_by_guarantee(workspace: Workspace) -> None:
    with certify.training(torch.nn.Linear(2, 2), ledger=workspace, data=PEOPLE, method="sgd"):
        pass
    request = certify.file_request(workspace, {"person 3": PEOPLE["person 3"]}, ground="gdpr-17")
    with pytest.raises(WorkspaceError, match="holds no training by dp-sgd/v1"):
        answer_by_guarantee(workspace, [request], delta=1e-5)


def test_bound_that_excludes_nothing_says_so(workspace: Workspace, tmp_path: Path) -> None:
    detail = DpSgdTraining.of(**{**QUIET, "noise": 0.5})
    model = private(workspace, detail)
    found = report(answer(workspace, model, DpGuarantee.of(detail, group=1, delta=1e-5), 3), tmp_path)
    assert any("excludes next to nothing" in line for line in found.steps[5].established)


def test_what_was_learnt_before_is_said_not_to_be_covered(workspace: Workspace, tmp_path: Path) -> None:
    detail = DpSgdTraining.of(**QUIET)
    model = private(workspace, detail, [Base("encoder", "ab" * 32)])
    found = report(answer(workspace, model, DpGuarantee.of(detail, group=1, delta=1e-5), 3), tmp_path)
    assert "what the base model had learnt before is not covered by ε" in found.steps[5].established


def test_figures_are_those_that_follow() -> None:
    detail = DpSgdTraining.of(**QUIET)
    assert detail.epsilon == epsilon(1e-5, noise=4.0, rate=0.07, steps=150)
    assert DpGuarantee.of(detail, group=2, delta=1e-5).epsilon == epsilon(
        1e-5, noise=4.0, rate=0.07, steps=150, group=2
    )


@pytest.mark.parametrize("wrong", [{"noise": 0.0}, {"rate": 0.0}, {"steps": 0}, {"delta": 0.0}])
def test_no_guarantee_without_a_mechanism(wrong: dict[str, float]) -> None:
    with pytest.raises(StatementError, match="no guarantee: expected δ in"):
        DpSgdTraining.of(**{**QUIET, **wrong})
