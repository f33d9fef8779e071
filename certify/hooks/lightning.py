"""One line in the callbacks of a Lightning ``Trainer``.

::

    Trainer(callbacks=[TrainingCertificate(ledger="ledger", data=patients)]).fit(module)
    Trainer(callbacks=[UnlearningCertificate(ledger="ledger", request=1, part="model")]).fit(module)

The module is digested at ``on_fit_start`` and in ``teardown``: only there has everybody had their ``on_train_end``, weight
averaging and ``ModelCheckpoint`` too. ``part`` names a submodule: the network without the ``LightningModule`` around it,
whose names others know. An exception, Ctrl-C or SIGTERM reaches ``on_exception``: the attempt is noted as failed with its
reason, and nothing is issued. So it is where a fit made no step at all, because its checkpoint was the end already.

Resumed runs (``ckpt_path``): the checkpoint is loaded before ``on_fit_start``. One that was saved under this callback is
known to the vault, and the certificate names the model at the true start; others are refused (:mod:`certify.hooks.run`).

Full weights in one process's memory: one device or DDP, of which rank 0 issues.
"""

import sys
from typing import TYPE_CHECKING, Any

from certify.errors import DigestError, WorkspaceError
from certify.hooks.extras import needed
from certify.hooks.jobs import Job, TrainingJob, UnlearningJob
from certify.hooks.run import Attempt, Certifying

if TYPE_CHECKING:

    class _Callback: ...

elif "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:  # the same, under its older name
    _Callback = sys.modules["pytorch_lightning"].Callback
else:
    _Callback = needed("lightning.pytorch", "lightning").Callback


class Certificate(Certifying, _Callback):
    """The events of a trainer, told to an :class:`~certify.hooks.run.Attempt`."""

    def __init__(self, job: Job, part: str | None = None) -> None:
        self.attempt = Attempt(job, part=part)
        self._first_step = 0
        self._ended = False

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            self.attempt.stand_by()
            return
        if trainer.strategy.restore_checkpoint_after_setup:
            raise DigestError("the strategy keeps parts of the model in several processes: expected one device or DDP")
        self._ended = False
        self.attempt.begin(pl_module, scope=trainer)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._first_step = trainer.global_step

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Any) -> None:
        if trainer.is_global_zero:
            self.attempt.saved(pl_module)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._ended = True

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage != "fit" or not self.attempt.is_open:
            return
        if not self._ended:
            self.attempt.fail(WorkspaceError("the fit came to no end of a training"))
            return
        facts = {"gradient accumulation": trainer.accumulate_grad_batches}
        if trainer.max_steps > 0:
            facts["planned steps"] = trainer.max_steps
        if self._first_step:
            facts["resumed at step"] = self._first_step
        self.attempt.ended(pl_module, told=trainer.global_step - self._first_step, facts=facts)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.attempt.fail(exception)


class TrainingCertificate(Certificate):
    """Log ``training/v1`` at the end. The arguments are those of :func:`certify.training`, and ``part``: a submodule's name."""

    def __init__(self, *, part: str | None = None, **arguments: Any) -> None:
        super().__init__(TrainingJob(**arguments), part)


class UnlearningCertificate(Certificate):
    """Issue ``unlearning/v1`` at the end. The arguments are those of :func:`certify.unlearning`, and ``part``."""

    def __init__(self, *, part: str | None = None, **arguments: Any) -> None:
        super().__init__(UnlearningJob(**arguments), part)
