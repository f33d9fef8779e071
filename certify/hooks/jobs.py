"""What is to be certified, before there is a model: the arguments of :func:`certify.training` and :func:`certify.unlearning`.

::

    TrainingJob(ledger="ledger", data=patients, method="adam").start(model).run      # their context manager

A job knows a model that a run resumes from: see :mod:`certify.hooks.run` on checkpoints.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from certify.digest import Manifest
from certify.errors import WorkspaceError
from certify.fields import Scalar
from certify.hooks.torch import HookRun, Ledger, Model, new_run, requests_of, training, unlearning_from
from certify.state_dict import digest_state_dict
from certify.statement import Base
from certify.workspace import Logged, Workspace

CHECKPOINTS = "checkpoints"
"""The note that there are notes of checkpoints."""


@dataclass(frozen=True, slots=True)
class Started:
    """A run that is about to begin; ``note`` is what the vault says of the checkpoint that it resumes from."""

    run: AbstractContextManager[HookRun]
    says: Mapping[str, Any]
    """What the vault is to note of this run's own checkpoints."""
    note: Mapping[str, Any]


class Job(Protocol):
    """What is to be certified, before there is a model."""

    def start(self, model: Model) -> Started: ...


@dataclass(kw_only=True)
class TrainingJob:
    """The arguments of :func:`certify.training`, but for the model."""

    ledger: Ledger
    data: object
    method: str = "training"
    parameters: Mapping[str, Scalar | list[Scalar]] = field(default_factory=dict)
    seeds: Sequence[int] | None = None
    base: Sequence[Base] = ()
    recipe: str | Path | None = None

    def start(self, model: Model) -> Started:
        self.ledger = _opened(self.ledger)
        note: Mapping[str, Any] = {}
        if self.ledger.vault.note(CHECKPOINTS):  # otherwise no need to hash a model that is about to be trained
            note = self.ledger.vault.note(f"checkpoint/{digest_state_dict(model).root().hex()}") or {}
        run = training(
            model,
            ledger=self.ledger,
            data=self.data,
            method=self.method,
            parameters=self.parameters,
            seeds=self.seeds,
            base=self.base,
            recipe=self.recipe,
        )
        return Started(run, {"kind": "training"}, note if note.get("kind") == "training" else {})


@dataclass(kw_only=True)
class UnlearningJob:
    """The arguments of :func:`certify.unlearning`, but for the model."""

    ledger: Ledger
    request: Logged | str | int | Sequence[Logged | str | int]
    method: str = "unlearning"
    parameters: Mapping[str, Scalar | list[Scalar]] = field(default_factory=dict)
    seeds: Sequence[int] | None = None
    recipe: str | Path | None = None

    def start(self, model: Model) -> Started:
        self.ledger = workspace = _opened(self.ledger)
        run = new_run(workspace, model, self.method, self.parameters, self.seeds, self.recipe)
        requests = requests_of(workspace, self.request)
        named = sorted(request.digest for request in requests)
        pre = digest_state_dict(model)
        note: Mapping[str, Any] = {}
        if workspace.model(pre.root().hex()) is None:
            note = workspace.vault.note(f"checkpoint/{pre.root().hex()}") or {}
            if note.get("kind") == "unlearning":
                pre = _true_start(workspace, note, named)
        says = {"kind": "unlearning", "pre": pre.root().hex(), "requests": named}
        return Started(unlearning_from(pre, run, requests), says, note)


def _opened(ledger: Ledger) -> Workspace:
    return ledger if isinstance(ledger, Workspace) else Workspace(ledger)


def _true_start(workspace: Workspace, note: Mapping[str, Any], requests: list[str]) -> Manifest:
    """The model that the run of a checkpoint started from. Raises WorkspaceError if that run answered other requests."""
    if note["requests"] != requests:
        raise WorkspaceError(
            f"the model is a checkpoint of run {note['run']}, which answered other requests than this one: "
            f"resume with the same, or start from the model that was logged"
        )
    manifest = workspace.vault.note(f"manifest/{note['pre']}")
    if manifest is None:
        raise WorkspaceError(f"the vault has no manifest of {note['pre']}, which the checkpoint's run started from")
    return Manifest.parse(manifest.encode())
