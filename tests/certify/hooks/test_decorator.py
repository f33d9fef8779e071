"""Functions that are certified each time they are called; attempts that end in no ordinary way."""

import gc
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import certify  # noqa: E402
from certify.bundle import Bundle  # noqa: E402
from certify.errors import DigestError, MissingExtra, WorkspaceError  # noqa: E402
from certify.hooks.extras import needed  # noqa: E402
from certify.hooks.jobs import TrainingJob  # noqa: E402
from certify.hooks.run import Attempt, StepCounter  # noqa: E402
from certify.state_dict import digest_state_dict  # noqa: E402
from certify.trust import Trust  # noqa: E402
from certify.verifier import Given, verify  # noqa: E402
from certify.workspace import Workspace  # noqa: E402
from tests.certify.hooks.cases import PEOPLE, ask, errors, states  # noqa: E402


def network() -> Any:
    torch.manual_seed(2)
    return torch.nn.Linear(3, 2)


def steps(model: Any, count: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(count):
        model(torch.ones(3)).sum().backward()
        optimizer.step()


def test_functions_train_and_forget(workspace: Workspace, tmp_path: Path) -> None:
    @certify.certified(ledger=workspace, data=PEOPLE, method="sgd")
    def fit(model: Any, count: int) -> str:
        steps(model, count)
        return "done"

    case = tmp_path / "case.bundle"

    @certify.certified(ledger=workspace, request=1, method="descent", bundle=case)
    def forget(count: int, *, model: Any, run: Any) -> None:
        steps(model, count)
        run.metrics["accuracy"] = 0.5

    model = network()
    assert fit(model, 2) == "done"
    ask(workspace)
    forget(3, model=model)
    report = verify(
        case.read_bytes(), Trust.load(workspace.path / "trust.toml"), given=Given(weights=digest_state_dict(model))
    )
    assert report.grade == "attested"
    said = workspace.entry(2).statement.predicate
    assert said.metrics == {"accuracy": 0.5} and said.method.parameters == {"optimizer steps": 3}
    assert len(Bundle.parse(case.read_bytes()).entries) == 3
    with pytest.raises(WorkspaceError, match="which no training or unlearning in "):
        forget(1, model=network())


def test_what_cannot_be_certified_is_refused_where_it_stands(workspace: Workspace) -> None:
    with pytest.raises(WorkspaceError, match="either data"):
        certify.certified(ledger=workspace)
    with pytest.raises(TypeError, match="methd"):
        certify.certified(ledger=workspace, data=PEOPLE, methd="sgd")
    decorate = certify.certified(ledger=workspace, data=PEOPLE)
    with pytest.raises(WorkspaceError, match="has no argument 'model'"):
        decorate(lambda net: None)

    async def later(model: Any) -> None: ...

    with pytest.raises(WorkspaceError, match="before its work is done"):
        decorate(later)


def test_an_exception_and_another_model_issue_nothing(workspace: Workspace) -> None:
    decorate = certify.certified(ledger=workspace, data=PEOPLE)

    def fail(model: Any) -> None:
        raise ValueError("no gradient")

    with pytest.raises(ValueError, match="no gradient"):
        decorate(fail)(network())
    with pytest.raises(DigestError, match="another model than it was given"):
        decorate(lambda model: network())(network())
    assert workspace.log.size() == 0
    assert sorted(error.split(":")[0] for error in errors(workspace)) == ["DigestError", "ValueError"]
    other = network()
    certify.certified(ledger=workspace, data=PEOPLE, result=True)(lambda model: other)(network())
    assert workspace.model(digest_state_dict(other).root().hex()) is not None


def test_steps_are_those_of_optimizers_that_hold_the_model() -> None:
    ours, other = network(), network()
    counter = StepCounter(ours)
    steps(ours, 3)
    steps(other, 2)
    counter.close()
    steps(ours, 1)
    assert counter.steps == 3


def test_an_attempt_without_an_end_is_noted_as_failed(workspace: Workspace) -> None:
    attempt = Attempt(TrainingJob(ledger=workspace, data=PEOPLE))
    attempt.begin(network())
    assert states(workspace) == [("training", "running")]
    del attempt
    gc.collect()
    assert states(workspace) == [("training", "failed")]
    model = network()
    stale = Attempt(TrainingJob(ledger=workspace, data=PEOPLE))
    stale.begin(model)
    again = Attempt(TrainingJob(ledger=workspace, data=PEOPLE))
    again.begin(model)  # a notebook's cell, run again
    again.ended(model)
    assert states(workspace) == [("training", "failed"), ("training", "failed"), ("training", "issued")]
    assert "another run began" in "".join(errors(workspace))
    with pytest.raises(WorkspaceError, match="no certificate has been issued"):
        stale.bundle("case.bundle")


def test_an_attempt_is_noted_as_failed_when_python_exits(workspace: Workspace) -> None:
    script = """
        import sys, torch
        from certify.hooks.jobs import TrainingJob
        from certify.hooks.run import Attempt
        attempt = Attempt(TrainingJob(ledger=sys.argv[1], data=["a", "b"]))
        attempt.begin(torch.nn.Linear(3, 2))
        raise RuntimeError("nobody told")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(workspace.path)], capture_output=True, text=True
    )
    assert done.returncode == 1 and "nobody told" in done.stderr
    assert states(workspace) == [("training", "failed")]


def test_a_missing_library_is_named_with_its_extra() -> None:
    with pytest.raises(MissingExtra, match=r"no_such_library: pip install 'unlearning-ledger\[lightning\]'"):
        needed("no_such_library.pytorch", "lightning")


def test_a_resumed_training_counts_the_steps_of_the_run_before(workspace: Workspace) -> None:
    model = network()
    first = Attempt(TrainingJob(ledger=workspace, data=PEOPLE))
    first.begin(model)
    steps(model, 3)
    first.saved(model)
    first.fail(RuntimeError("killed"))
    second = Attempt(TrainingJob(ledger=workspace, data=PEOPLE))
    second.begin(model)
    steps(model, 2)
    second.ended(model, told=2)
    assert second.certificate is not None
    said = second.certificate.statement.predicate
    assert said.recipe.parameters == {"optimizer steps": 5, "resumed": 1}
