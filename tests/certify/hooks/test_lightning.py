"""The callback in real Lightning trainers: a small classifier that is trained, resumed, stopped early and made to forget."""

import signal
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
lightning = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")

from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, StochasticWeightAveraging  # noqa: E402

from certify.errors import WorkspaceError  # noqa: E402
from certify.hooks.lightning import TrainingCertificate, UnlearningCertificate  # noqa: E402
from certify.state_dict import digest_state_dict  # noqa: E402
from certify.verifier import Given  # noqa: E402
from certify.workspace import Workspace  # noqa: E402
from tests.certify.hooks.cases import PEOPLE, ask, errors, parameters, said, states, verified  # noqa: E402


class Network(lightning.LightningModule):  # type: ignore[misc,name-defined]
    fail_at: int | None = None

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.model = torch.nn.Linear(3, 2)

    def training_step(self, batch: Any, index: int) -> Any:
        if self.fail_at is not None and self.global_step >= self.fail_at:
            raise RuntimeError("the cluster went away")
        loss = self.model(batch).square().mean()
        self.log("loss", loss)
        return loss

    def on_train_end(self) -> None:
        with torch.no_grad():
            self.model.bias.add_(1)  # after every callback's on_train_end

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(module: Any, folder: Path, *callbacks: Any, path: Path | None = None, **options: Any) -> Any:
    rows = torch.utils.data.DataLoader([torch.tensor(p["tokens"]).float() for p in PEOPLE.values()], batch_size=2)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    if not any(isinstance(callback, ModelCheckpoint) for callback in callbacks):
        quiet["enable_checkpointing"] = False
    trainer = lightning.Trainer(
        default_root_dir=folder, callbacks=list(callbacks), **quiet, **{"max_epochs": 1, **options}
    )
    trainer.fit(module, rows, ckpt_path=path)
    return trainer


def trained(workspace: Workspace, tmp_path: Path) -> tuple[Any, TrainingCertificate]:
    module, certificate = Network(), TrainingCertificate(ledger=workspace, data=PEOPLE, part="model")
    fit(module, tmp_path, certificate, accumulate_grad_batches=2)
    return module, certificate


def test_training_and_unlearning_make_a_case_that_verifies(workspace: Workspace, tmp_path: Path) -> None:
    module, training = trained(workspace, tmp_path)
    assert parameters(training) == {"optimizer steps": 2, "gradient accumulation": 2}
    certificate = UnlearningCertificate(ledger=workspace, request=ask(workspace), part="model")
    averaging = StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1)
    fit(module, tmp_path, certificate, averaging, max_epochs=3)  # both change the weights when training has ended
    report = verified(workspace, certificate, tmp_path, Given(weights=digest_state_dict(module.model)))
    assert report.grade == "attested"
    assert said(certificate).parent == training.run.certificate.digest
    assert parameters(certificate)["optimizer steps"] == 12
    assert states(workspace) == [("training", "issued"), ("unlearning", "issued")]


def test_early_stopping_is_an_end(workspace: Workspace, tmp_path: Path) -> None:
    certificate = TrainingCertificate(ledger=workspace, data=PEOPLE)
    stop = EarlyStopping("loss", patience=1, mode="max", check_on_train_epoch_end=True)
    stopped = fit(Network(), tmp_path, certificate, stop, max_epochs=9, max_steps=30).global_step
    assert 0 < stopped < 30
    assert parameters(certificate) == {"optimizer steps": stopped, "planned steps": 30, "gradient accumulation": 1}


@pytest.mark.parametrize("error", [RuntimeError("the cluster went away"), KeyboardInterrupt()])
def test_an_exception_issues_nothing(workspace: Workspace, tmp_path: Path, error: BaseException) -> None:
    module, _ = trained(workspace, tmp_path)
    request = ask(workspace)

    def fail(*_: Any, **__: Any) -> None:
        raise error

    module.configure_gradient_clipping = fail
    interrupted = signal.getsignal(signal.SIGINT)  # which Lightning changes for good
    with pytest.raises((RuntimeError, SystemExit)):
        fit(module, tmp_path, UnlearningCertificate(ledger=workspace, request=request, part="model"))
    signal.signal(signal.SIGINT, interrupted)
    assert errors(workspace) == [f"{type(error).__name__}: {error}"]
    assert workspace.log.size() == 2


def test_a_resumed_run_names_the_model_at_the_true_start(workspace: Workspace, tmp_path: Path) -> None:
    module, training = trained(workspace, tmp_path)
    request = ask(workspace)
    module.fail_at = 3
    saving = ModelCheckpoint(tmp_path / "saved", every_n_train_steps=1, save_top_k=-1, filename="{step}")
    with pytest.raises(RuntimeError, match="the cluster"):
        fit(module, tmp_path, UnlearningCertificate(ledger=workspace, request=request, part="model"), saving)
    fresh, resumed = Network(), UnlearningCertificate(ledger=workspace, request=request, part="model")
    fit(fresh, tmp_path, resumed, path=tmp_path / "saved" / "step=2.ckpt")
    found = parameters(resumed)
    assert (found["optimizer steps"], found["resumed"], found["resumed at step"]) == (4, 1, 2)
    assert said(resumed).parent == training.run.certificate.digest
    assert verified(workspace, resumed, tmp_path, Given(weights=digest_state_dict(fresh.model))).grade == "attested"

    unknown = UnlearningCertificate(ledger=workspace, request=request, part="model")
    with pytest.raises(WorkspaceError, match="which no training or unlearning in "):
        fit(Network(), tmp_path, unknown)
