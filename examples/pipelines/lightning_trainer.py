"""A Lightning module learns from a clinic's patients and learns anew without three of them: one callback each.

It needs ``pip install 'unlearning-ledger[lightning]' scikit-learn``. Run it with
``python examples/pipelines/lightning_trainer.py FOLDER [quick]``.
"""

import logging
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "methods"))

import click
import lightning.pytorch as lightning
import torch
from patients import Patients, accuracy, open_clinic
from telling import run, say, story
from torch.utils.data import DataLoader, TensorDataset

from certify.hooks.lightning import TrainingCertificate, UnlearningCertificate

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="lightning")


class Classifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = torch.nn.Sequential(torch.nn.Linear(30, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2)).double()

    def training_step(self, batch, _):
        loss = torch.nn.functional.cross_entropy(self.model(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.005)


def fit(module, records, epochs: int, *callbacks) -> None:
    trainer = lightning.Trainer(
        max_epochs=epochs, callbacks=list(callbacks), accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, accumulate_grad_batches=2,
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(*records), batch_size=32))


def main(folder: Path, quick: bool = False) -> None:
    torch.set_num_threads(1)
    chapter, clinic = story(3), Patients()
    gone, epochs = [11, 100, 200], 3 if quick else 30
    _, retain = clinic.parted(gone)
    ledger = open_clinic(folder)

    chapter(1, "A clinic's network learns from 455 patients")
    torch.manual_seed(7)
    module = Classifier()
    training = TrainingCertificate(ledger=ledger, data=clinic.records, method="adam", part="model")
    fit(module, (clinic.x, clinic.y), epochs, training)
    stated = training.run.certificate.statement.predicate.recipe.parameters
    say(f"entry 0 states {stated['optimizer steps']} steps, {stated['gradient accumulation']} batches each")

    chapter(2, "Three patients ask to be forgotten: it learns anew from the other 452")
    request = clinic.ask(ledger, gone)
    unlearning = UnlearningCertificate(ledger=ledger, request=request, method="retrain", part="model")

    class Anew(lightning.Callback):
        def on_train_start(self, trainer, pl_module) -> None:
            for layer in pl_module.model:
                layer.reset_parameters() if hasattr(layer, "reset_parameters") else None

    with unlearning:
        fit(module, retain, epochs, unlearning, Anew())
        unlearning.run.metrics["test accuracy"] = accuracy(module.model, clinic.test)
    say(f"{unlearning.run.metrics['test accuracy']:.1%} right on patients that it has not seen")

    chapter(3, "A regulator verifies it")
    unlearning.bundle("case.bundle")
    ledger.close()
    run("verify", "case.bundle", "--trust", "ledger/trust.toml", since=" 6 ")
    click.secho("  done", fg="green")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "lightning-out").resolve(), quick="quick" in sys.argv[2:])
