"""The hook for torch code: digest before, digest after, and a signed statement in the log.

::

    with certify.training(model, ledger="ledger", data=patients, method="adam") as run:
        fit(model, patients)

    with certify.unlearning(model, ledger="ledger", request=request, method="retrain") as run:
        fit(model, remaining)
        run.metrics["accuracy"] = accuracy(model)
    run.bundle("case.bundle")

If the block raises, nothing is issued, the attempt is recorded as failed in the vault, and the exception goes on.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from certify import bundle, case, environment
from certify.certificate import (
    Made,
    forgotten_by,
    log_training,
    log_unlearning,
    new_run_id,
    parent_of,
)
from certify.digest import Manifest
from certify.errors import DigestError, WorkspaceError
from certify.fields import Scalar
from certify.inputs import MAX_RECIPE, read_file
from certify.methods import AnyDetail, AnyTrainingDetail
from certify.methods.detail import Detail, TrainingDetail
from certify.records import records_of
from certify.safetensors import digest_weights
from certify.state_dict import digest_state_dict
from certify.statement import Base, Method, Run, Utility, checked
from certify.times import format_time, now
from certify.workspace import Logged, Workspace

Model = torch.nn.Module | Mapping[str, torch.Tensor]
Ledger = Workspace | str | Path


@dataclass(slots=True)
class HookRun:
    """What the block may still say of its run; afterwards ``certificate`` is the logged statement."""

    workspace: Workspace
    model: Model
    """Assign another model if the block replaces the object instead of changing it."""
    method: str
    parameters: dict[str, Scalar | list[Scalar]]
    seeds: list[int]
    metrics: dict[str, float] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    """Files that the weights were saved to: their SHA-256 and the model-signing root become subjects."""
    detail: AnyDetail | AnyTrainingDetail | None = None
    """What the method shows of itself (:mod:`certify.methods`); what it refers to is in the ledger's attachments."""
    utility: Utility | None = None
    recipe: str | None = None
    """SHA-256 of a Python file that does it again (:mod:`certify.replay`)."""
    batches: Sequence[Iterable[int]] | None = None
    """Of a training: the positions of the records in each batch, in order (:mod:`certify.batches`)."""
    id: str = field(default_factory=new_run_id)
    certificate: Logged | None = None

    def bundle(self, path: str | Path) -> Path:
        """Write the case, ready for a verifier. After the block only."""
        if self.certificate is None:
            raise WorkspaceError("no certificate has been issued: the run isn't over, or it failed")
        data = case.collect(self.workspace, self.certificate)
        return bundle.write(Path(path), data)


@contextmanager
def training(
    model: Model,
    *,
    ledger: Ledger,
    data: object,
    method: str = "training",
    parameters: Mapping[str, Scalar | list[Scalar]] | None = None,
    seeds: Sequence[int] | None = None,
    base: Sequence[Base] = (),
    recipe: str | Path | None = None,
) -> Iterator[HookRun]:
    """Log ``training/v1`` for what the block trains. ``data``: id to record, or a sequence of records.

    Records are bytes or anything that JSON can say (numpy rows too). ``seeds`` default to torch's initial seed. ``recipe``: a
    Python file that does it again, which the statement then names by its SHA-256.
    """
    records = records_of(data)
    run = new_run(ledger, model, method, parameters, seeds, recipe)
    with _attempt(run, "training") as started:
        yield run
        assert run.detail is None or isinstance(run.detail, TrainingDetail)
        run.certificate = log_training(
            run.workspace, _made(run, started), records, base, detail=run.detail, batches=run.batches
        )


@contextmanager
def unlearning(
    model: Model,
    *,
    ledger: Ledger,
    request: Logged | str | int | Sequence[Logged | str | int],
    method: str = "unlearning",
    parameters: Mapping[str, Scalar | list[Scalar]] | None = None,
    seeds: Sequence[int] | None = None,
    recipe: str | Path | None = None,
) -> Iterator[HookRun]:
    """Issue ``unlearning/v1`` for what the block does to ``model``, which answers ``request``.

    A request is what :func:`certify.request.file_request` returned, or an index or digest in the log; several are fine.
    ``recipe``: a Python file that does it again, for whoever replays it.

    Raises WorkspaceError before the block runs if the model is not one that the ledger logged, or if nothing that was
    requested is in its training set.
    """
    run = new_run(ledger, model, method, parameters, seeds, recipe)
    with unlearning_from(digest_state_dict(model), run, requests_of(run.workspace, request)):
        yield run


@contextmanager
def unlearning_from(pre: Manifest, run: HookRun, requests: Sequence[Logged]) -> Iterator[HookRun]:
    """The same, from a model that need not be in memory any more: a run that was resumed (:mod:`certify.hooks.run`)."""
    forgotten_by(run.workspace, parent_of(run.workspace, pre), requests)
    with _attempt(run, "unlearning") as started:
        yield run
        assert run.detail is None or isinstance(run.detail, Detail)
        run.certificate = log_unlearning(
            run.workspace, _made(run, started), pre=pre, requests=requests, detail=run.detail, utility=run.utility
        )


def requests_of(workspace: Workspace, request: Logged | str | int | Sequence[Logged | str | int]) -> list[Logged]:
    """Requests as they stand in the log. Raises WorkspaceError for what is not there."""
    named = [request] if isinstance(request, Logged | str | int) else list(request)
    return [item if isinstance(item, Logged) else workspace.find(str(item)) for item in named]


def new_run(
    ledger: Ledger,
    model: Model,
    method: str,
    parameters: Mapping[str, Scalar | list[Scalar]] | None,
    seeds: Sequence[int] | None,
    recipe: str | Path | None,
) -> HookRun:
    """A run that has not begun. Raises WorkspaceError or StatementError for what could not be stated at its end."""
    workspace = ledger if isinstance(ledger, Workspace) else Workspace(ledger)
    chosen = list(seeds) if seeds is not None else [torch.initial_seed()]
    named = sha256(read_file(Path(recipe), MAX_RECIPE)).hexdigest() if recipe is not None else None
    run = HookRun(workspace, model, method, dict(parameters or {}), chosen, recipe=named)
    _method(run)  # so that what cannot be stated is refused before the block has worked for hours
    return run


def _method(run: HookRun) -> Method:
    """What a statement says of the method. Raises StatementError for what it cannot say."""
    parameters = {name: list(value) if isinstance(value, tuple) else value for name, value in run.parameters.items()}
    return checked(Method(run.method, parameters, [str(seed) for seed in run.seeds], run.recipe))


@contextmanager
def _attempt(run: HookRun, kind: str) -> Iterator[datetime]:
    """Record the attempt, whatever becomes of it."""
    started = now()
    vault = run.workspace.vault
    attempt = {"kind": kind, "started": format_time(started), "state": "running"}
    vault.put_note(f"run/{run.id}", attempt)
    try:
        yield started
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}"[:1000]
        vault.put_note(f"run/{run.id}", attempt | {"state": "failed", "error": reason, "ended": format_time(now())})
        raise
    assert run.certificate is not None
    done = {"state": "issued", "entry": run.certificate.index, "ended": format_time(now())}
    vault.put_note(f"run/{run.id}", attempt | done)


def _made(run: HookRun, started: datetime) -> Made:
    manifest = digest_state_dict(run.model)
    _check_files(run.files, manifest, run.model)
    return Made(
        manifest=manifest,
        method=_method(run),
        run=Run(run.id, format_time(started), format_time(max(started, now()))),
        environment=environment.describe(),
        files=run.files,
        metrics={name: float(value) for name, value in run.metrics.items()},
    )


def _check_files(files: Sequence[Path], manifest: Manifest, model: Model) -> None:
    """Weights files have to hold the very model that the statement is about."""
    weights: list[Any] = [path for path in files if Path(path).suffix == ".safetensors"]
    if weights and not holds(weights, manifest, model):
        raise DigestError(
            f"the files {', '.join(str(path) for path in weights)} do not hold the model in memory: "
            f"save it at the end of the block, or leave them out"
        )


def holds(weights: Sequence[Path], manifest: Manifest, model: Model) -> bool:
    """Whether safetensors files hold the model of ``manifest``. Names that a writer dropped count if ``model`` ties them."""
    found = digest_weights(weights)
    if dropped := _tied(model, {tensor.name for tensor in found.tensors}):
        found = digest_weights(weights, tied=dropped)
    return found.root() == manifest.root()


def _tied(model: Model, stored: set[str]) -> dict[str, str]:
    """Names that a file dropped because another name in it has the same tensor: dropped name to stored name."""
    tensors = model.state_dict() if isinstance(model, torch.nn.Module) else model
    at = {_place(tensors[name]): name for name in sorted(stored & set(tensors))}
    return {name: at[_place(tensor)] for name, tensor in tensors.items() if name not in stored and _place(tensor) in at}


def _place(tensor: torch.Tensor) -> tuple[object, ...]:
    return tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()
