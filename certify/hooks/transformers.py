"""One line in the callbacks of a Hugging Face ``Trainer``, or of any trainer that descends from it.

::

    callbacks=[TrainingCertificate(ledger="ledger", data=patients)]
    callbacks=[UnlearningCertificate(ledger="ledger", request=1, method="gradient-difference")]

    certificate = UnlearningCertificate(ledger="ledger", request=1)
    with certificate:                                     # the stronger form
        trainer = Trainer(model, callbacks=[certificate], ...)
        trainer.train()
        certificate.run.metrics["accuracy"] = accuracy(model)
    certificate.bundle("case.bundle")

The model is digested when training begins and when it has ended, after ``load_best_model_at_end``. Trainers tell callbacks
nothing of exceptions. Without ``with``, an attempt that failed is noted as such when the callback is collected, when
another training begins with its model, or when Python exits, without the reason; a callback that changes the model in its
own ``on_train_end`` has to come before. With ``with`` the reason is noted at once, and the certificate is about the model
as the block leaves it.

Resumed runs: by the time a trainer says that it begins, the checkpoint is loaded. See :mod:`certify.hooks.run`: checkpoints
saved under this callback are known, and the certificate names the model at the true start; others are refused.

Full weights in one process's memory: one device, or data parallel. With FSDP or DeepSpeed, it refuses at the beginning.
"""

from typing import TYPE_CHECKING, Any

from certify.errors import DigestError
from certify.hooks.extras import needed
from certify.hooks.jobs import Job, TrainingJob, UnlearningJob
from certify.hooks.run import Attempt, Certifying

if TYPE_CHECKING:

    class _Callback: ...

else:
    _Callback = needed("transformers", "transformers").TrainerCallback


class Certificate(Certifying, _Callback):
    """The events of a trainer, told to an :class:`~certify.hooks.run.Attempt`."""

    def __init__(self, job: Job, part: str | None = None) -> None:
        self.attempt = Attempt(job, part=part)
        self._first_step = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            self.attempt.stand_by()
            return
        optimizer = kwargs.get("optimizer")
        optimizer = getattr(optimizer, "optimizer", optimizer)  # Accelerate wraps it
        if optimizer is not None and not _holds(optimizer, model):
            raise DigestError(
                "the trainer's optimizer holds none of the model's parameters: expected one device or data parallel, "
                "not DeepSpeed or FSDP. Nothing is issued"
            )
        self._first_step = state.global_step
        self.attempt.begin(model, scope=state)

    def on_save(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.attempt.saved(model)

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        facts = {"planned steps": state.max_steps, "gradient accumulation": args.gradient_accumulation_steps}
        if self._first_step:
            facts["resumed at step"] = self._first_step
        self.attempt.ended(model, told=state.global_step - self._first_step, facts=facts)


class TrainingCertificate(Certificate):
    """Log ``training/v1`` at the end. The arguments are those of :func:`certify.training`, and ``part``: a submodule's name."""

    def __init__(self, *, part: str | None = None, **arguments: Any) -> None:
        super().__init__(TrainingJob(**arguments), part)


class UnlearningCertificate(Certificate):
    """Issue ``unlearning/v1`` at the end. The arguments are those of :func:`certify.unlearning`, and ``part``."""

    def __init__(self, *, part: str | None = None, **arguments: Any) -> None:
        super().__init__(UnlearningJob(**arguments), part)


def _holds(optimizer: Any, model: Any) -> bool:
    ours = {id(parameter) for parameter in model.parameters()}
    return any(id(parameter) in ours for group in optimizer.param_groups for parameter in group["params"])
