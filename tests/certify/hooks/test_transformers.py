"""The callback in real trainers of transformers: a tiny GPT-2 that is trained, resumed, stopped early and made to forget."""

import gc
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed: the Trainer needs it")

import transformers.trainer  # noqa: E402
from transformers import (  # noqa: E402
    EarlyStoppingCallback,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from certify.errors import DigestError, WorkspaceError  # noqa: E402
from certify.hooks import activate  # noqa: E402
from certify.hooks.transformers import TrainingCertificate, UnlearningCertificate  # noqa: E402
from certify.state_dict import digest_state_dict  # noqa: E402
from certify.verifier import Given  # noqa: E402
from certify.workspace import Workspace  # noqa: E402
from tests.certify.hooks.cases import PEOPLE, ask, errors, parameters, said, states, verified  # noqa: E402


class Texts(torch.utils.data.Dataset):  # type: ignore[name-defined,misc]
    def __init__(self, gone: tuple[str, ...] = ()) -> None:
        self.rows = [torch.tensor(person["tokens"]) for id_, person in PEOPLE.items() if id_ not in gone]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


class Ascent(Trainer):  # type: ignore[misc]
    """As OpenUnlearning's trainers do: another loss, the same loop."""

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(model, *args, **kwargs)
        return -loss if model.training else loss


class FailAt(TrainerCallback):  # type: ignore[misc]
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise RuntimeError("the cluster went away")


def gpt2() -> Any:
    torch.manual_seed(1)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=16, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    )


def trainer(model: Any, folder: Path, *callbacks: Any, kind: Any = Trainer, **options: Any) -> Any:
    chosen: dict[str, Any] = {"max_steps": 4, "per_device_train_batch_size": 2, "save_strategy": "no", **options}
    arguments = TrainingArguments(
        str(folder),
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        learning_rate=1e-2,
        logging_strategy="no",
        **chosen,
    )
    return kind(model, arguments, train_dataset=Texts(), eval_dataset=Texts(), callbacks=list(callbacks))


def trained(workspace: Workspace, tmp_path: Path, **options: Any) -> tuple[Any, TrainingCertificate]:
    model, certificate = gpt2(), TrainingCertificate(ledger=workspace, data=PEOPLE, method="adamw")
    trainer(model, tmp_path / "training", certificate, **options).train()
    return model, certificate


def test_a_trainer_and_a_descendant_of_it_make_a_case_that_verifies(workspace: Workspace, tmp_path: Path) -> None:
    model, training = trained(workspace, tmp_path, gradient_accumulation_steps=2)
    assert parameters(training) == {"optimizer steps": 4, "planned steps": 4, "gradient accumulation": 2}
    request = ask(workspace)
    certificate = UnlearningCertificate(ledger=workspace, request=request, method="ascent")
    with certificate:
        learner = trainer(model, tmp_path / "out", certificate, kind=Ascent, max_steps=3)
        learner.train()
        assert certificate.run is not None and certificate.run.certificate is None
        learner.save_model(str(tmp_path / "saved"))  # without the tied head's name, as transformers does
        certificate.run.files = [tmp_path / "saved" / "model.safetensors"]
        certificate.run.metrics["loss"] = learner.evaluate()["eval_loss"]
    report = verified(workspace, certificate, tmp_path, Given(weights=digest_state_dict(model)))
    assert report.grade == "attested"
    assert said(certificate).metrics["loss"] > 0
    assert said(certificate).parent == training.run.certificate.digest
    assert parameters(certificate)["optimizer steps"] == 3
    assert "model.safetensors" in [subject.name for subject in certificate.run.certificate.statement.subjects]
    assert states(workspace) == [("training", "issued"), ("unlearning", "issued")]


def test_early_stopping_and_the_best_model(workspace: Workspace, tmp_path: Path) -> None:
    """The certificate is about the model that was loaded at the end, not the one of the last step."""
    every = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    certificate = TrainingCertificate(ledger=workspace, data=PEOPLE)
    stop, model = EarlyStoppingCallback(early_stopping_patience=2), gpt2()
    best = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "save_only_model": True}
    learner = trainer(model, tmp_path / "out", stop, certificate, kind=Ascent, max_steps=6, **every, **best)
    learner.train()  # the loss only grows: the first is best
    assert learner.state.best_model_checkpoint.endswith("checkpoint-1")
    assert parameters(certificate)["optimizer steps"] == 3
    assert parameters(certificate)["planned steps"] == 6
    ask(workspace)
    assert workspace.model(digest_state_dict(model).root().hex()).digest == certificate.run.certificate.digest


def test_an_exception_in_the_middle_issues_nothing(workspace: Workspace, tmp_path: Path) -> None:
    model, _ = trained(workspace, tmp_path)
    request, kept = ask(workspace), {name: value.clone() for name, value in model.state_dict().items()}
    size = workspace.log.size()
    told = UnlearningCertificate(ledger=workspace, request=request)
    with pytest.raises(RuntimeError, match="the cluster"), told:
        trainer(model, tmp_path / "a", told, FailAt(2)).train()
    assert errors(workspace) == ["RuntimeError: the cluster went away"]
    model.load_state_dict(kept)
    untold = UnlearningCertificate(ledger=workspace, request=request)
    learner = trainer(model, tmp_path / "b", untold, FailAt(2))
    with pytest.raises(RuntimeError, match="the cluster"):
        learner.train()
    assert states(workspace)[-1] == ("unlearning", "running")  # nobody told the callback
    del learner, untold
    gc.collect()
    assert states(workspace) == [("training", "issued"), ("unlearning", "failed"), ("unlearning", "failed")]
    assert "an exception, most likely" in "".join(errors(workspace))
    assert workspace.log.size() == size


def test_a_resumed_run_names_the_model_at_the_true_start(workspace: Workspace, tmp_path: Path) -> None:
    model, training = trained(workspace, tmp_path)
    request = ask(workspace)
    saving = {"save_strategy": "steps", "save_steps": 1, "max_steps": 4}
    first = UnlearningCertificate(ledger=workspace, request=request)
    with pytest.raises(RuntimeError), first:
        trainer(model, tmp_path / "out", first, FailAt(3), **saving).train()
    resumed = UnlearningCertificate(ledger=workspace, request=request)
    fresh = gpt2()
    trainer(fresh, tmp_path / "out", resumed, **saving).train(resume_from_checkpoint=True)
    found = parameters(resumed)
    assert (found["optimizer steps"], found["resumed"], found["resumed at step"]) == (4, 1, 2)
    assert said(resumed).parent == training.run.certificate.digest
    assert verified(workspace, resumed, tmp_path, Given(weights=digest_state_dict(fresh))).grade == "attested"

    other = UnlearningCertificate(ledger=workspace, request=ask(workspace, "patient-5"))
    with pytest.raises(WorkspaceError, match="answered other requests than this one"):
        trainer(gpt2(), tmp_path / "out", other, **saving).train(str(tmp_path / "out" / "checkpoint-2"))


def test_a_callback_there_twice_and_a_decoy_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    certificate = TrainingCertificate(ledger=workspace, data=PEOPLE)
    with pytest.raises(WorkspaceError, match="is the callback there twice"):
        trainer(gpt2(), tmp_path / "out", certificate, TrainingCertificate(ledger=workspace, data=PEOPLE)).train()
    learner = trainer(gpt2(), tmp_path / "out", certificate)
    learner.create_optimizer(gpt2())  # which steps another model than the one that the callback is shown
    with pytest.raises(DigestError, match="optimizer holds none of the model's parameters"):
        learner.train()
    assert workspace.log.size() == 0


def test_a_script_that_trains_nothing_is_not_passed_over(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the environment set (:mod:`certify.hooks.activate`)."""
    (tmp_path / "records.jsonl").write_text('{"x": 1}\n')
    (tmp_path / "train.py").write_text("")
    monkeypatch.setenv("CERTIFY_LEDGER", str(workspace.path))
    monkeypatch.setenv("CERTIFY_DATA", str(tmp_path / "records.jsonl"))
    monkeypatch.setattr(transformers.trainer, "DEFAULT_CALLBACKS", list(transformers.trainer.DEFAULT_CALLBACKS))
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(WorkspaceError, match="made no Trainer of transformers or Lightning train"):
        activate.main([str(tmp_path / "train.py")])
