"""Cases by methods of the library: a small model, requests of each scope, and an operator who may lie."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

import certify
from certify import certificate, methods
from certify.errors import ChainError
from certify.hooks.torch import HookRun
from certify.trust import Trust
from certify.verifier import Report, verify
from certify.workspace import Logged, Workspace
from circuits.steps.step import Task, UpdateStep, parameters_of, seeds_of

torch.set_num_threads(1)
COUNT, GONE = 18, (3, 7, 8)
X = torch.randn(COUNT, 4, generator=torch.Generator().manual_seed(5))
Y = torch.arange(COUNT) % 3
PEOPLE = {f"person {i}": {"x": X[i].tolist(), "y": int(Y[i])} for i in range(COUNT)}


def split(scope: str) -> Task:
    """The records of a request, or of class 2, and the others."""
    gone = torch.zeros(COUNT, dtype=torch.bool)
    gone[list(GONE)] = True
    if scope != "records":
        gone = Y == 2
    return Task(forget=(X[gone], Y[gone]), retain=(X[~gone], Y[~gone]))


def network() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def trained(workspace: Workspace) -> nn.Module:
    model = network()
    with certify.training(model, ledger=workspace, data=PEOPLE, method="sgd"):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(20):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(X), Y).backward()
            optimizer.step()
    return model


def asked(workspace: Workspace, scope: str) -> Logged:
    what = {f"person {i}": PEOPLE[f"person {i}"] for i in GONE} if scope == "records" else {f"{scope} 2": {"is": 2}}
    return certify.file_request(workspace, what, ground="gdpr-17", scope=scope)  # type: ignore[arg-type]


def verified(run: HookRun, tmp_path: Path) -> Report:
    return verify(run.bundle(tmp_path / "case.bundle").read_bytes(), Trust.load(run.workspace.path / "trust.toml"))


def established(run: HookRun, tmp_path: Path) -> str:
    """What step 6 established, a line each."""
    return "\n".join(verified(run, tmp_path).steps[5].established)


@dataclass
class Said:
    """What is about to be stated: for a liar to change."""

    fields: dict[str, Any]
    attachments: list[bytes]
    model: nn.Module
    parameters: dict[str, Any]


Lie = Callable[[Said], None]


def lying(workspace: Workspace, step: UpdateStep, scope: str, lie: Lie, monkeypatch: pytest.MonkeyPatch) -> HookRun:
    """A certificate by an operator whose software checks nothing."""
    model, request = trained(workspace), asked(workspace, scope)
    with monkeypatch.context() as patched:
        patched.setattr(certificate, "rehearse", lambda *_: None)
        with certify.unlearning(
            model,
            ledger=workspace,
            request=request,
            method=step.name,
            parameters=parameters_of(step),
            seeds=seeds_of(step),
        ) as run:
            shown = step.run(model, split(scope))
            said = Said(dict(shown.fields), list(shown.attachments), model, run.parameters)
            lie(said)
            for data in said.attachments:
                workspace.attachments.put("details", data)
            run.detail = methods.made(step.name, said.fields)
    return run


def refused(run: HookRun, tmp_path: Path, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verifier refuses the case for that reason; without the method's check it would not."""
    data, trust = run.bundle(tmp_path / "case.bundle").read_bytes(), Trust.load(run.workspace.path / "trust.toml")
    with pytest.raises(ChainError, match=why):
        verify(data, trust)
    assert isinstance(run.detail, msgspec.Struct)
    with monkeypatch.context() as patched:
        patched.setattr(type(run.detail), "check", lambda *_: [])
        verify(data, trust)
