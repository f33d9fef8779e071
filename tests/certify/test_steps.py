"""Unlearning by a step in one call: what it says of itself, the gate, and what a verifier refuses."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import certify  # noqa: E402
from certify import sharding  # noqa: E402
from certify.bundle import Bundle  # noqa: E402
from certify.errors import ChainError, GateError, StatementError, WorkspaceError  # noqa: E402
from certify.hooks.torch import HookRun  # noqa: E402
from certify.methods import made  # noqa: E402
from certify.methods.own import Own  # noqa: E402
from certify.methods.sisa import Retrained, Sisa  # noqa: E402
from certify.statement import Statement, Unlearning  # noqa: E402
from certify.steps import Gate  # noqa: E402
from certify.trust import Trust  # noqa: E402
from certify.verifier import Report, verify  # noqa: E402
from certify.workspace import Workspace  # noqa: E402
from circuits.steps.step import Shown, Task, parameters_of  # noqa: E402

PEOPLE = {f"person {i}": {"x": i, "y": i % 2} for i in range(8)}
X = torch.arange(16.0).reshape(8, 2)
Y = torch.arange(8) % 2
TASK = Task(forget=(X[:1], Y[:1]), retain=(X[1:], Y[1:]))


@dataclass(frozen=True)
class Noise:
    name: ClassVar[str] = "noise"
    scale: float = 0.5
    seed: int = 4
    note: bytes = b""

    def run(self, model: torch.nn.Module, task: Task) -> Shown:
        generator = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            for weight in model.parameters():
                weight += self.scale * torch.randn(weight.shape, generator=generator)
        return Shown({"norm": 1.5})


def trained(workspace: Workspace) -> torch.nn.Module:
    torch.manual_seed(1)
    model = torch.nn.Linear(2, 2)
    with certify.training(model, ledger=workspace, data=PEOPLE, method="sgd"):
        pass
    return model


def ask(workspace: Workspace, person: str = "person 0") -> object:
    return certify.file_request(workspace, {person: PEOPLE[person]}, ground="gdpr-17")


def report(run: HookRun, tmp_path: Path) -> Report:
    return verify(run.bundle(tmp_path / "case.bundle").read_bytes(), Trust.load(run.workspace.path / "trust.toml"))


def predicate(run: HookRun) -> Unlearning:
    assert run.certificate is not None and isinstance(run.certificate.statement.predicate, Unlearning)
    return run.certificate.statement.predicate


@dataclass(frozen=True)
class Plain:
    name: ClassVar[str] = "noise"
    scale: float = 0.5
    seed: int = 4
    run = Noise.run


def test_own_method_gets_a_certificate_that_says_what_it_was_told_and_what_it_shows(
    workspace: Workspace, tmp_path: Path
) -> None:
    model = trained(workspace)
    run = certify.unlearn(model, Plain(), ledger=workspace, request=ask(workspace), task=TASK)
    stated = predicate(run)
    assert (stated.method.name, stated.method.parameters, stated.method.seeds) == ("noise", {"scale": 0.5}, ["4"])
    assert stated.detail == Own({"norm": 1.5}) and stated.changes.changed == 2
    found = report(run, tmp_path)
    assert any("by the operator's word, norm is 1.5" in line for line in found.steps[5].established)
    assert any("nobody but the operator has looked at it" in line for line in found.limits)


def test_parameters_that_no_certificate_can_state_are_refused_before_the_run(workspace: Workspace) -> None:
    model = trained(workspace)
    before = model.weight.clone()
    with pytest.raises(TypeError, match="parameter note to be a number, name or flag, got bytes"):
        certify.unlearn(model, Noise(), ledger=workspace, request=ask(workspace), task=TASK)
    assert torch.equal(model.weight, before)
    assert parameters_of(Plain(scale=2.0)) == {"scale": 2.0}


@pytest.mark.parametrize("gate", [{"floor": 0.9}, {"drop": 0.05}])
def test_model_that_lost_its_use_gets_no_certificate(workspace: Workspace, gate: dict[str, float]) -> None:
    figures = iter([0.95, 0.85])
    model, request = trained(workspace), ask(workspace)
    size = workspace.reader.size()
    with pytest.raises(GateError, match=r"retain accuracy fell from 0.95 to 0.85, expected 0.9 or more"):
        certify.unlearn(
            model, Plain(), ledger=workspace, request=request, task=TASK, gate=Gate(lambda _: next(figures), **gate)
        )
    assert workspace.reader.size() == size


def test_certificate_shows_the_gate_that_was_passed(workspace: Workspace, tmp_path: Path) -> None:
    figures = iter([0.95, 0.93])
    gate = Gate(lambda _: next(figures), floor=0.5, drop=0.05)
    model, request = trained(workspace), ask(workspace)
    run = certify.unlearn(model, Plain(), ledger=workspace, request=request, task=TASK, gate=gate)
    utility = predicate(run).utility
    assert utility is not None and (utility.before, utility.after) == (0.95, 0.93)
    assert utility.floor == pytest.approx(0.9)
    assert any(
        "retain accuracy was 0.95 before and 0.93 after" in line for line in report(run, tmp_path).steps[5].established
    )


def test_figure_that_is_not_a_number_does_not_pass_the_gate(workspace: Workspace) -> None:
    with pytest.raises(GateError, match="nan"):
        certify.unlearn(
            trained(workspace),
            Plain(),
            ledger=workspace,
            request=ask(workspace),
            task=TASK,
            gate=Gate(lambda _: float("nan"), floor=0.1),
        )


def test_certificate_below_its_own_floor_is_no_certificate(workspace: Workspace) -> None:
    figures = iter([0.95, 0.93])
    gate = Gate(lambda _: next(figures), floor=0.5)
    run = certify.unlearn(trained(workspace), Plain(), ledger=workspace, request=ask(workspace), task=TASK, gate=gate)
    stated = predicate(run)
    assert run.certificate is not None and stated.utility is not None
    lowered = msgspec_replace(stated, utility=msgspec_replace(stated.utility, after=0.4))
    with pytest.raises(StatementError, match=r"fell to 0\.4, below the floor of 0\.5"):
        Statement(run.certificate.statement.subjects, lowered).payload()


def msgspec_replace(record: object, **fields: object) -> object:
    import msgspec

    return msgspec.structs.replace(record, **fields)  # type: ignore[type-var]


def with_attachment(workspace: Workspace) -> HookRun:
    model, request = trained(workspace), ask(workspace)
    with certify.unlearning(model, ledger=workspace, request=request, method="mine") as run:
        with torch.no_grad():
            model.weight += 1
        run.detail = Own({"rounds": 3}, {"notes": workspace.attachments.put("details", b"what I did")})
    return run


def test_what_a_detail_refers_to_comes_along(workspace: Workspace, tmp_path: Path) -> None:
    run = with_attachment(workspace)
    data = run.bundle(tmp_path / "case.bundle").read_bytes()
    bundle = Bundle.parse(data)
    assert bundle.details == {sha256(b"what I did").hexdigest(): b"what I did"}
    assert bundle.to_bytes() == data
    report(run, tmp_path)


def test_bundle_without_what_a_detail_refers_to_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    run = with_attachment(workspace)
    bundle = Bundle.parse(run.bundle(tmp_path / "case.bundle").read_bytes())
    trust = Trust.load(workspace.path / "trust.toml")
    with pytest.raises(ChainError, match=r"entry 2 refers to .*, which is not in the bundle"):
        verify(replace(bundle, details={}).to_bytes(), trust)
    more: Mapping[str, bytes] = {**bundle.details, sha256(b"x").hexdigest(): b"x"}
    with pytest.raises(ChainError, match="belongs to no statement in it"):
        verify(replace(bundle, details=more).to_bytes(), trust)


def test_nothing_is_issued_for_a_detail_whose_attachment_is_gone(workspace: Workspace) -> None:
    model, request = trained(workspace), ask(workspace)
    with (
        pytest.raises(WorkspaceError),
        certify.unlearning(model, ledger=workspace, request=request, method="mine") as run,
    ):
        run.detail = Own({}, {"notes": "00" * 32})
    assert workspace.reader.size() == 2


SHARDED = (((1, 2), (3,)), ((0,), (4,)), ((5,), (6, 7)))
"""Person 0 is in slice 0 of shard 1."""


class Shards(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.shards = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(3))


def sharded(workspace: Workspace) -> torch.nn.Module:
    model = Shards()
    with certify.training(model, ledger=workspace, data=PEOPLE, method="sisa/v1") as run:
        run.detail = sharding.trained(workspace, SHARDED, prefix="shards.")
    return model


def test_other_shards_are_shown_to_be_the_same(workspace: Workspace, tmp_path: Path) -> None:
    model, request = sharded(workspace), ask(workspace)
    with certify.unlearning(model, ledger=workspace, request=request, method="sisa/v1") as run:
        with torch.no_grad():
            model.shards[1].weight += 1
        run.detail = sharding.retrained(workspace, workspace.find("0"), [request], {1: 0})
    assert any(
        "all tensors of the 2 others are the same to the bit" in line
        for line in report(run, tmp_path).steps[5].established
    )


@pytest.mark.parametrize(
    ("method", "detail", "changed", "why"),
    [
        ("sisa/v1", Sisa([Retrained(1, 0)]), (1, 2), "changed shards.2.weight, which is of none of the shards"),
        ("sisa/v1", Sisa([Retrained(3, 0)]), (1,), "expected some of 3, in order"),
        ("sisa/v1", Sisa([Retrained(1, 2)]), (1,), "a slice that is not among 2"),
        ("sisa/v1", None, (1,), "lacks what that has to show"),
    ],
)
def test_no_certificate_of_a_method_that_was_not_run(
    workspace: Workspace, method: str, detail: Sisa | None, changed: tuple[int, ...], why: str
) -> None:
    model, request = sharded(workspace), ask(workspace)
    with (
        pytest.raises(WorkspaceError, match=why),
        certify.unlearning(model, ledger=workspace, request=request, method=method) as run,
    ):
        with torch.no_grad():
            for shard in changed:
                model.shards[shard].weight += 1
        run.detail = detail


def test_detail_of_another_method_is_refused(workspace: Workspace) -> None:
    model, request = sharded(workspace), ask(workspace)
    with (
        pytest.raises(StatementError, match="the method is 'retrain', its detail is of sisa/v1"),
        certify.unlearning(model, ledger=workspace, request=request, method="retrain") as run,
    ):
        run.detail = Sisa([Retrained(1, 0)])
    with pytest.raises(StatementError, match="not a detail of sisa/v1"):
        made("sisa/v1", {"retrained": []})
