"""What proving begins with: which training a request is about, what was left out before, and what comes of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING

from certify import committed, environment
from certify.bundle import CircuitFiles
from certify.certificate import Made, new_run_id
from certify.digest import Manifest
from certify.errors import WorkspaceError
from certify.statement import Method, Request, Run, Training, Unlearning
from certify.times import format_time, now
from certify.workspace import Logged, Workspace
from certify.zk import FORGOTTEN, CircuitDescription, Committed
from circuits import description, prover

if TYPE_CHECKING:
    import torch

Progress = Callable[[str, float], None]
"""Called with what begins and the seconds that are thought to be left, 0 where nobody knows."""


def silent(stage: str, left: float) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Provable:
    """A logged statement and its model's weights, float32.

    ``score`` of a model that was fitted: the share of its own records that it gets right or, for a target that is a number, R².
    """

    logged: Logged
    weights: "Mapping[str, torch.Tensor]"
    score: float | None = None


def circuit_files(parameters: description.Parameters, circuit: prover.Circuit, vk: bytes, srs_1: str) -> CircuitFiles:
    """A circuit with what its description names. ``srs_1``: SHA-256 of the 516 bytes."""
    onnx, settings, key = (sha256(part).hexdigest() for part in (circuit.onnx, circuit.settings, vk))
    stated = CircuitDescription(parameters.statement, description.describe(parameters), onnx, settings, key, srs_1)
    return CircuitFiles(stated, circuit.settings, vk)


def made_now(manifest: Manifest, method: Method, started: datetime) -> Made:
    run = Run(new_run_id(), format_time(started), format_time(max(started, now())))
    return Made(manifest=manifest, method=method, run=run, environment=environment.describe())


def training_of(workspace: Workspace, requests: Sequence[Logged]) -> Logged:
    """The training with all the records that requests name."""
    record_ids: list[str] = []
    for logged in requests:
        request = logged.statement.predicate
        if not isinstance(request, Request):
            raise WorkspaceError(f"entry {logged.index} is a {logged.statement.kind} statement, expected a request")
        record_ids += [opening.record_id for opening in workspace.vault.openings(request.forget.root)]
    found = committed.training_with(workspace, record_ids) if record_ids else None
    if found is None:
        raise WorkspaceError(
            "no training that was made for proofs ('certify fit' makes such ones) has the requested records"
        )
    return found[0]


def latest(workspace: Workspace, training: Logged) -> Logged:
    """The last statement about the model that the training began with."""
    for logged in reversed(list(workspace.of_kind("unlearning"))):
        if workspace.lineage(logged)[0].index == training.index:
            return logged
    return training


def answered(workspace: Workspace, parent: Logged) -> list[Logged]:
    """The requests that certificates up to ``parent`` have answered, in their order."""
    found: list[Logged] = []
    for logged in workspace.lineage(parent)[1:]:
        certificate = logged.statement.predicate
        assert isinstance(certificate, Unlearning)
        found += [workspace.find(digest) for digest in certificate.requests]
    return found


def forgotten_in(logged: Logged) -> Committed:
    request = logged.statement.predicate
    assert isinstance(request, Request)
    stated = request.zk.find(FORGOTTEN) if request.zk is not None else None
    if stated is None:
        raise WorkspaceError(
            f"the request at entry {logged.index} commits to no numbers: it was filed before the training was logged"
        )
    return stated


def manifest_of(workspace: Workspace, logged: Logged) -> Manifest:
    predicate = logged.statement.predicate
    assert isinstance(predicate, Training | Unlearning)
    model = predicate.model if isinstance(predicate, Training) else predicate.post
    text = workspace.vault.note(f"manifest/{model.tensor_root}")
    if text is None:
        raise WorkspaceError(f"the vault has no manifest of the model with tensor root {model.tensor_root}")
    return Manifest.parse(text.encode())
