"""A loop of Accelerate, certified: accumulated gradients, files of a saved state, an exception, a resumed run."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")

from certify.hooks.accelerate import Bystander, training, unlearning  # noqa: E402
from certify.state_dict import digest_state_dict  # noqa: E402
from certify.trust import Trust  # noqa: E402
from certify.verifier import Given, verify  # noqa: E402
from certify.workspace import Workspace  # noqa: E402
from tests.certify.hooks.cases import PEOPLE, ask, errors, states, verified  # noqa: E402


class Loop:
    def __init__(self, accumulate: int = 1) -> None:
        self.accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
        torch.manual_seed(1)
        model = torch.nn.Linear(3, 2)
        rows = [torch.tensor(person["tokens"]).float() for person in PEOPLE.values()]
        loader = torch.utils.data.DataLoader(rows, batch_size=2)
        self.model, self.optimizer, self.loader = self.accelerator.prepare(
            model, torch.optim.SGD(model.parameters(), lr=0.01), loader
        )

    def epoch(self, fail_at: int | None = None) -> None:
        for number, batch in enumerate(self.loader):
            if number == fail_at:
                raise RuntimeError("the cluster went away")
            with self.accelerator.accumulate(self.model):
                self.accelerator.backward(self.model(batch).square().mean())
                self.optimizer.step()
                self.optimizer.zero_grad()


@pytest.fixture
def trained(workspace: Workspace) -> Loop:
    loop = Loop(accumulate=2)
    with training(loop.accelerator, loop.model, ledger=workspace, data=PEOPLE, method="sgd") as run:
        loop.epoch()
    assert run.certificate is not None
    assert run.certificate.statement.predicate.recipe.parameters == {"optimizer steps": 2, "gradient accumulation": 2}
    return loop


def test_a_block_makes_a_case_with_the_files_of_the_saved_state(
    workspace: Workspace, trained: Loop, tmp_path: Path
) -> None:
    with unlearning(trained.accelerator, trained.model, ledger=workspace, request=ask(workspace)) as run:
        trained.epoch()
        trained.accelerator.save_state(str(tmp_path / "early"))
        trained.epoch()
        trained.accelerator.save_state(str(tmp_path / "last"))
    assert isinstance(run.metrics, dict) and run.files == [tmp_path / "last" / "model.safetensors"]
    assert run.certificate is not None
    names = [subject.name for subject in run.certificate.statement.subjects]
    assert names == ["tensor-root/v1", "model.safetensors", "oms-root/v1"]
    given = Given(weights=digest_state_dict(trained.accelerator.unwrap_model(trained.model)))
    assert verified(workspace, run, tmp_path, given).grade == "attested"


def test_files_of_an_earlier_state_are_left_out(workspace: Workspace, trained: Loop, tmp_path: Path) -> None:
    with unlearning(trained.accelerator, trained.model, ledger=workspace, request=ask(workspace)) as run:
        trained.accelerator.save_state(str(tmp_path / "early"))
        trained.epoch()
    assert run.files == [] and verified(workspace, run, tmp_path).grade == "attested"


def test_an_exception_then_a_resumed_run(workspace: Workspace, trained: Loop, tmp_path: Path) -> None:
    request = ask(workspace)
    parent = workspace.latest("training").digest
    with pytest.raises(RuntimeError, match="the cluster"):
        with unlearning(trained.accelerator, trained.model, ledger=workspace, request=request):
            trained.epoch()
            trained.accelerator.save_state(str(tmp_path / "saved"))
            trained.epoch(fail_at=1)
    assert errors(workspace) == ["RuntimeError: the cluster went away"]
    trained.accelerator.load_state(str(tmp_path / "saved"))
    with unlearning(trained.accelerator, trained.model, ledger=workspace, request=request) as run:
        trained.epoch()
    assert run.certificate is not None
    said = run.certificate.statement.predicate
    assert said.parent == parent
    assert (said.method.parameters["optimizer steps"], said.method.parameters["resumed"]) == (4, 1)
    assert states(workspace) == [("training", "issued"), ("unlearning", "failed"), ("unlearning", "issued")]
    assert verified(workspace, run, tmp_path).grade == "attested"


def test_other_processes_stand_by(workspace: Workspace, trained: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """They gather the weights as often as the main one does, or it would wait for ever."""
    gathered: list[Any] = []
    monkeypatch.setattr(type(trained.accelerator), "is_main_process", property(lambda self: False))
    monkeypatch.setattr(trained.accelerator, "get_state_dict", gathered.append)
    with unlearning(trained.accelerator, trained.model, ledger=workspace, request=1) as run:
        run.metrics["accuracy"] = 1.0
    assert isinstance(run, Bystander) and len(gathered) == 2
    assert workspace.log.size() == 1


def test_two_processes_issue_one_certificate(workspace: Workspace, trained: Loop, tmp_path: Path) -> None:
    """Over gloo: the loop above on two ranks, of which one signs what both trained."""
    script = """
        import sys
        from certify.hooks.accelerate import unlearning
        from tests.certify.hooks.test_accelerate import Loop

        loop = Loop()
        loop.model.module.load_state_dict(__import__("torch").load("model.pt"))
        assert loop.accelerator.num_processes == 2
        with unlearning(loop.accelerator, loop.model, ledger="ledger", request=1) as run:
            loop.epoch()
            loop.accelerator.save_state("saved")
            run.metrics["accuracy"] = 0.5
        run.bundle("case.bundle")
        loop.accelerator.end_training()
    """
    ask(workspace)
    torch.save(trained.accelerator.unwrap_model(trained.model).state_dict(), tmp_path / "model.pt")
    (tmp_path / "loop.py").write_text(textwrap.dedent(script))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "loop.py"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert workspace.log.size() == 3
    said = workspace.entry(2).statement
    assert said.predicate.method.parameters["optimizer steps"] == 2
    assert [subject.name for subject in said.subjects][1] == "model.safetensors"
    report = verify((tmp_path / "case.bundle").read_bytes(), Trust.load(workspace.path / "trust.toml"))
    assert (report.grade, report.index) == ("attested", 2)
