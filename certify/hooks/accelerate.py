"""A certified block in a training loop of Hugging Face Accelerate.

::

    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    with unlearning(accelerator, model, ledger="ledger", request=1, method="ascent") as run:
        for batch in loader:
            with accelerator.accumulate(model):
                ...
        accelerator.save_state("checkpoint")
        run.metrics["accuracy"] = accuracy(model)

What is certified are the full weights, ``accelerator.get_state_dict(model)``, which may gather them from all processes:
every process enters the block and leaves it. The main process alone digests, signs and logs; the others get a
:class:`Bystander` as ``run``, which takes what is set and does nothing. An exception in the main process: nothing is
issued, and the attempt is noted as failed. One in another process has to end the main one too, as launchers see to.

``save_state`` is noted, so that a run which loads it with ``load_state`` *before* the block resumes it
(:mod:`certify.hooks.run`). Weights files of the last ``save_state`` become subjects of the certificate if they hold the
very weights at the end.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from certify.digest import Manifest
from certify.errors import DigestError
from certify.hooks.extras import needed
from certify.hooks.jobs import Job, TrainingJob, UnlearningJob
from certify.hooks.run import Attempt, Bystander
from certify.hooks.torch import HookRun, Model, holds
from certify.state_dict import digest_state_dict

needed("accelerate", "accelerate")


@contextmanager
def training(accelerator: Any, model: Any, **arguments: Any) -> Iterator[HookRun | Bystander]:
    """Log ``training/v1`` for what the block trains. The arguments are those of :func:`certify.training`."""
    with _certified(accelerator, model, TrainingJob(**arguments)) as run:
        yield run


@contextmanager
def unlearning(accelerator: Any, model: Any, **arguments: Any) -> Iterator[HookRun | Bystander]:
    """Issue ``unlearning/v1`` for what the block does. The arguments are those of :func:`certify.unlearning`."""
    with _certified(accelerator, model, UnlearningJob(**arguments)) as run:
        yield run


@contextmanager
def _certified(accelerator: Any, model: Any, job: Job) -> Iterator[HookRun | Bystander]:
    weights = accelerator.get_state_dict(model)
    if not accelerator.is_main_process:
        yield Bystander()
        accelerator.get_state_dict(model)  # the main process gathers
        return
    attempt = Attempt(job)
    saves = _Saves(accelerator, model, attempt)
    run = attempt.begin(weights, counted=model)
    handle = accelerator.register_save_state_pre_hook(saves.hook)
    try:
        yield run
        run.model = accelerator.get_state_dict(model)
        attempt.state(**{"gradient accumulation": accelerator.gradient_accumulation_steps})
        run.files.extend(saves.files_of(run.model))
    except BaseException as error:
        attempt.fail(error)
        raise
    finally:
        handle.remove()
    attempt.issue()


class _Saves:
    """What ``save_state`` wrote while the block ran."""

    def __init__(self, accelerator: Any, model: Any, attempt: Attempt) -> None:
        self._accelerator, self._model, self._attempt = accelerator, model, attempt
        self._last: tuple[Path, Manifest] | None = None

    def hook(self, models: list[Any], weights: list[Mapping[str, Any]], folder: str) -> None:
        """Before the files are written. ``weights`` are empty where the files are written in parts."""
        for each, tensors in zip(models, weights, strict=False):
            if self._accelerator.unwrap_model(each) is self._accelerator.unwrap_model(self._model):
                self._attempt.saved(tensors)
                self._last = (Path(folder), digest_state_dict(tensors))

    def files_of(self, model: Model) -> list[Path]:
        """The weights files of the last save, if they hold this model."""
        if self._last is None or self._last[1].root() != digest_state_dict(model).root():
            return []
        files = sorted(self._last[0].glob("model*.safetensors"))
        try:
            return files if files and holds(files, self._last[1], model) else []
        except DigestError:  # several models in one folder, for one
            return []
