"""A certified run whose beginning and end come as events: what the callbacks of every training library share.

::

    attempt = Attempt(UnlearningJob(ledger="ledger", request=1, method="retrain"))
    attempt.begin(model)          # digests, and refuses a model that the ledger does not know
    attempt.saved(model)          # a checkpoint: a later run may resume from it
    attempt.ended(model)          # the certificate, or, inside "with attempt:", when the block is left
    attempt.fail(error)           # or nothing is issued, and the vault says why

What a run was resumed from: a checkpoint's weights are no model that a statement names. The vault notes, for each tensor
root that :meth:`Attempt.saved` saw, the model that its run started from and the steps until then. A run that begins with
such weights continues that one: its certificate names the model at the true start. Weights that nobody noted are refused.

An attempt that hears of no end is noted as failed when it is collected, when another takes its model, or when Python exits.
"""

import weakref
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from certify.errors import DigestError, WorkspaceError
from certify.fields import Scalar
from certify.hooks.jobs import CHECKPOINTS, Job, Started
from certify.hooks.torch import HookRun, Model
from certify.state_dict import digest_state_dict
from certify.workspace import Logged

STEPS = "optimizer steps"
RESUMED = "resumed"


class StepCounter:
    """Steps of whatever torch optimizers hold a parameter of ``model``, from now on.

    Accumulated gradients are one step; a step that a gradient scaler skipped is none. Nothing is hashed.
    """

    def __init__(self, model: Model) -> None:
        tensors = model.parameters() if isinstance(model, torch.nn.Module) else model.values()
        self._parameters = {id(tensor) for tensor in tensors}
        self.steps = 0
        self._handle = register_optimizer_step_post_hook(self._stepped)

    def _stepped(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        held = (parameter for group in optimizer.param_groups for parameter in group["params"])
        if any(id(parameter) in self._parameters for parameter in held):
            self.steps += 1

    def close(self) -> None:
        self._handle.remove()


@dataclass(slots=True)
class Bystander:
    """What a process that is not the main one has for a run."""

    metrics: dict[str, float] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    detail: Any = None
    utility: Any = None
    certificate: None = None

    def bundle(self, path: str | Path) -> Path:
        """Writes nothing."""
        return Path(path)


_OPEN: "weakref.WeakKeyDictionary[torch.nn.Module, tuple[weakref.ref[Attempt], int | None]]" = (
    weakref.WeakKeyDictionary()
)


class Attempt:
    """See the module. ``part`` names a submodule (``"model"``) that is certified in the place of the whole.

    ``metrics`` and ``files`` of :attr:`run` are set between :meth:`begin` and the end.
    """

    def __init__(self, job: Job, *, part: str | None = None) -> None:
        self.job = job
        self.part = part
        self.run: HookRun | None = None
        self.bystander: Bystander | None = None
        self._inside = False
        self._ready = False
        self._scope: int | None = None
        self._started: Started | None = None
        self._counter: StepCounter | None = None
        self._finalizer: weakref.finalize[Any, Any] | None = None

    @property
    def is_open(self) -> bool:
        return self._started is not None

    @property
    def steps(self) -> int:
        """Optimizer steps from the true start until now."""
        before = int(self._started.note.get("steps", 0)) if self._started else 0
        return before + (self._counter.steps if self._counter else 0)

    def begin(self, model: Any, *, scope: object = None, counted: Model | None = None) -> HookRun:
        """``scope``: an object that stands for one call of the library's loop, to tell a callback that was added twice.
        ``counted``: the module that optimizers hold, where ``model`` is a copy of its weights.

        Raises WorkspaceError for a model that the ledger does not know, and for a model in two attempts at once.
        """
        model = self._part(model)
        self._supersede(model, scope)
        started = self.job.start(model)
        self.run = started.run.__enter__()
        self._counter = StepCounter(model if counted is None else counted)
        self._started, self._ready, self._scope = started, False, None if scope is None else id(scope)
        self._finalizer = weakref.finalize(self, _abandon, started.run, self._counter)
        if isinstance(model, torch.nn.Module):
            _OPEN[model] = (weakref.ref(self), self._scope)
        return self.run

    def stand_by(self) -> None:
        """In a process that is not the main one: nothing is digested, and the end of the block asks for nothing."""
        self.bystander = Bystander()

    def _supersede(self, model: Model, scope: object) -> None:
        """End the attempt that still has this model, or this attempt's earlier one, as failed."""
        reference, its_scope = _OPEN.get(model, (None, None)) if isinstance(model, torch.nn.Module) else (None, None)
        other = reference() if reference is not None else None
        earlier = [one for one in {id(one): one for one in (self, other)}.values() if one is not None and one.is_open]
        for one in earlier:
            one.fail(WorkspaceError("another run began before this one had ended"))
        if earlier and other is not None and scope is not None and its_scope == id(scope):
            raise WorkspaceError(
                "the model is in a certified run already: is the callback there twice? Nothing is issued"
            )

    def saved(self, model: Any) -> None:
        """Note a checkpoint, so that a run which resumes from it names the true start. Hashes the model once."""
        if self.run is None or self._started is None:
            return
        root = digest_state_dict(self._part(model)).root().hex()
        resumed = int(self._started.note.get(RESUMED, 0)) + bool(self._started.note)
        note = {**self._started.says, "run": self.run.id, "steps": self.steps, RESUMED: resumed}
        self.run.workspace.vault.put_notes({f"checkpoint/{root}": note, CHECKPOINTS: True})

    def ended(self, model: Any, *, told: int | None = None, facts: Mapping[str, Scalar] | None = None) -> None:
        """The training is over: issue, or inside ``with`` when that is left. ``told``: the steps by the library's own account.

        Raises DigestError if another object than at the beginning was trained: which it was nobody can tell any more.
        """
        if self.run is None or self._started is None or self._counter is None:
            return
        error: Exception | None = None
        if self._part(model) is not self.run.model:
            error = DigestError("the model at the end is another object than at the beginning: nothing is issued")
        elif told and not self._counter.steps:
            error = DigestError(
                f"the training reports {told} steps, but no torch optimizer that holds the model's parameters made one: "
                f"another model was trained, or the parameters are elsewhere (DeepSpeed, FSDP). Nothing is issued"
            )
        if error is not None:
            self.fail(error)
            raise error
        self.state(**(facts or {}))
        self._ready = True
        if not self._inside:
            self.issue()

    def state(self, **facts: Scalar) -> None:
        """Have the statement say these of the method, the steps, and how often it was resumed. What was set before stays."""
        if self.run is None or self._started is None:
            return
        if note := self._started.note:
            facts[RESUMED] = int(note.get(RESUMED, 0)) + 1
        for name, value in {STEPS: self.steps, **facts}.items():
            self.run.parameters.setdefault(name, value)

    def issue(self) -> None:
        """Digest the model, sign and log. Whatever is raised, the attempt is over."""
        started = self._close()
        if started is not None:
            started.run.__exit__(None, None, None)

    def fail(self, error: BaseException) -> None:
        """Issue nothing; the vault notes the error."""
        started = self._close()
        if started is not None:
            _leave(started.run, error)

    def _close(self) -> Started | None:
        started, self._started = self._started, None
        if self._finalizer is not None:
            self._finalizer.detach()
        if self._counter is not None:
            self._counter.close()
        if self.run is not None and isinstance(self.run.model, torch.nn.Module):
            _OPEN.pop(self.run.model, None)
        return started

    def _part(self, model: Any) -> Any:
        return model.get_submodule(self.part) if self.part is not None else model

    @property
    def certificate(self) -> Logged | None:
        return self.run.certificate if self.run is not None else None

    def bundle(self, path: str | Path) -> Path:
        """Write the case, ready for a verifier. Raises WorkspaceError if none has been issued."""
        if self.bystander is not None:
            return self.bystander.bundle(path)
        if self.run is None:
            raise WorkspaceError("no certificate has been issued: no training has begun")
        return self.run.bundle(path)

    def __enter__(self) -> Self:
        self._inside = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside = False
        if error is not None:
            self.fail(error)
        elif self._ready and self.is_open:
            self.issue()
        elif self.certificate is None and self.bystander is None:
            missing = WorkspaceError("no training came to its end inside the block: nothing is issued")
            self.fail(missing)
            raise missing


class Certifying:
    """What the callbacks of all libraries have: an attempt, and a block around it."""

    attempt: Attempt

    @property
    def run(self) -> Any:
        """From the beginning of the training on: set its ``metrics``, ``files``, ``detail`` before the end.

        A :class:`~certify.hooks.torch.HookRun`; in processes that are not the main one, a :class:`Bystander`.
        """
        return self.attempt.bystander or self.attempt.run

    def bundle(self, path: str | Path) -> Path:
        """Write the case, ready for a verifier. Raises WorkspaceError if none has been issued."""
        return self.attempt.bundle(path)

    def __enter__(self) -> Self:
        self.attempt.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.attempt.__exit__(kind, error, trace)


def _leave(run: AbstractContextManager[HookRun], error: BaseException) -> None:
    """Tell a context manager of an exception that goes its own way."""
    try:
        run.__exit__(type(error), error, error.__traceback__)
    except BaseException as raised:
        if raised is not error:
            raise


def _abandon(run: AbstractContextManager[HookRun], counter: StepCounter) -> None:
    counter.close()
    _leave(run, WorkspaceError("the run stopped without an end: an exception, most likely, that nobody told"))
