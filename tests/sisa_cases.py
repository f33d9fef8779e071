"""A model in shards, its ledger, and an operator who may lie about either."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

import certify
from certify import sharding
from certify.hooks.torch import HookRun
from certify.workspace import Logged, Workspace
from circuits.steps.sisa import Sisa, plan

torch.set_num_threads(1)
COUNT, SHARDS, SLICES = 24, 4, 2
X = torch.randn(COUNT, 3, generator=torch.Generator().manual_seed(1))
Y = (X[:, 0] > 0).long()
PEOPLE = {f"person {i}": {"x": X[i].tolist()} for i in range(COUNT)}
PLAN = plan(COUNT, shards=SHARDS, slices=SLICES, seed=3)


def fitted() -> Sisa:
    sisa = Sisa(lambda: nn.Linear(3, 2), PLAN, seed=3, epochs=3)
    sisa.fit(X, Y)
    return sisa


def trained(workspace: Workspace, sisa: Sisa, *, checkpoints: bool = True) -> Logged:
    with certify.training(sisa.ensemble, ledger=workspace, data=PEOPLE, method="sisa/v1") as run:
        run.detail = sharding.trained(workspace, PLAN, checkpoints=sisa.checkpoints.digests if checkpoints else None)
    assert run.certificate is not None
    return run.certificate


def asked(workspace: Workspace, positions: Iterable[int]) -> Logged:
    return certify.file_request(workspace, {f"person {i}": PEOPLE[f"person {i}"] for i in positions}, ground="gdpr-17")


def forgotten(workspace: Workspace, sisa: Sisa, parent: Logged, positions: list[int], request: Logged) -> HookRun:
    """An honest run."""
    with certify.unlearning(sisa.ensemble, ledger=workspace, request=request, method="sisa/v1") as run:
        affected = sisa.forget(positions, X, Y)
        digests = sisa.checkpoints.digests
        run.detail = sharding.retrained(workspace, parent, [request], affected, checkpoints=digests)
    return run


def bundled(run: HookRun, tmp_path: Path) -> bytes:
    return run.bundle(tmp_path / "case.bundle").read_bytes()
