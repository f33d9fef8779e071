"""A language model of Hugging Face learns from letters, is told to forget one writer's, and stops half-way: one line each time.

A small GPT-2 from scratch, over bytes. Nothing is downloaded. It needs ``pip install 'unlearning-ledger[transformers]'``.
Run it with ``python examples/pipelines/transformers_trainer.py FOLDER [quick]``.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "methods"))

import click
import torch
from patients import open_clinic
from telling import run, say, story
from transformers import GPT2Config, GPT2LMHeadModel, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging

import certify
from certify.hooks.transformers import TrainingCertificate, UnlearningCertificate

LETTERS = {
    f"{writer}-{i}": f"Dear doctor, {words} {i} days. Yours, {writer}"
    for writer, words in (("Ann", "my knee hurts since"), ("Bob", "I cough for"), ("Cleo", "the rash came back after"))
    for i in range(2, 10)
}
LENGTH = 48


def encoded(letters: list[str]) -> list[dict[str, torch.Tensor]]:
    rows = [torch.tensor(list(letter.encode().ljust(LENGTH)[:LENGTH])) for letter in letters]
    return [{"input_ids": row, "labels": row} for row in rows]


class Ascent(Trainer):
    """Unlearning by gradient ascent, as a descendant of the Trainer: another loss, the same loop."""

    def compute_loss(self, model, *args, **kwargs):
        loss = super().compute_loss(model, *args, **kwargs)
        return -loss if model.training else loss


class PowerCut(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 2:
            raise ConnectionError("the machine was taken away")


def trainer(kind, model, letters: list[str], steps: int, rate: float, *callbacks):
    arguments = TrainingArguments(
        kind.__name__, max_steps=steps, learning_rate=rate, per_device_train_batch_size=8, gradient_accumulation_steps=2,
        save_strategy="steps", save_steps=1, save_total_limit=2, logging_strategy="no", report_to="none",
        disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    made = kind(model, arguments, train_dataset=encoded(letters), callbacks=list(callbacks))
    made.remove_callback(PrinterCallback)
    return made


def main(folder: Path, quick: bool = False) -> None:
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    chapter = story(4)
    ledger = open_clinic(folder)

    chapter(1, "A language model learns from 24 letters")
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=128, n_positions=LENGTH, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    )
    training = TrainingCertificate(ledger=ledger, data=LETTERS, method="adamw")
    trainer(Trainer, model, list(LETTERS.values()), 6 if quick else 60, 5e-3, training).train()
    stated = training.run.certificate.statement.predicate.recipe.parameters
    say(f"entry 0 states {stated['optimizer steps']} steps, {stated['gradient accumulation']} batches each")

    chapter(2, "Bob withdraws his letters; the machine is taken away in the middle of it")
    gone = {id_: letter for id_, letter in LETTERS.items() if id_.startswith("Bob")}
    request = certify.file_request(ledger, gone, ground="gdpr-17")
    learner = UnlearningCertificate(ledger=ledger, request=request, method="gradient-ascent")
    try:
        with learner:
            trainer(Ascent, model, list(gone.values()), 4, 1e-3, learner, PowerCut()).train()
    except ConnectionError:
        noted = ledger.vault.note(f"run/{learner.run.id}")
        say(f"nothing is issued, the attempt is noted as {noted['state']}: {noted['error']}")

    chapter(3, "It goes on from its last checkpoint, and the certificate names the model at the true start")
    resumed = UnlearningCertificate(ledger=ledger, request=request, method="gradient-ascent")
    with resumed:
        again = trainer(Ascent, model, list(gone.values()), 4, 1e-3, resumed)
        again.train(resume_from_checkpoint=True)
        resumed.run.metrics["loss on Bob's letters"] = again.evaluate(encoded(list(gone.values())))["eval_loss"]
        again.save_model("forgot")
        resumed.run.files = [Path("forgot/model.safetensors")]
    said = resumed.run.certificate.statement.predicate
    say(f"{said.method.parameters['optimizer steps']} steps, resumed {said.method.parameters['resumed']} time")
    say("its model before is entry 0's: " + str(said.parent == training.run.certificate.digest))

    chapter(4, "A regulator verifies it")
    resumed.bundle("case.bundle")
    ledger.close()
    run("verify", "case.bundle", "--trust", "ledger/trust.toml", since=" 6 ")
    click.secho("  done", fg="green")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "transformers-out").resolve(), quick="quick" in sys.argv[2:])
