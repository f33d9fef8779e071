"""Attacks on certified runs: who tries to get a certificate for another model, another run or another beginning.

Told to :class:`certify.hooks.run.Attempt`, as every library's callback does; some of them again in a real trainer, in
tests/certify/hooks/test_transformers.py. Nothing helps against an operator who edits the hook: these certificates are attested.
"""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import certify  # noqa: E402
from certify.errors import DigestError, VerificationError, WorkspaceError  # noqa: E402
from certify.hooks.jobs import TrainingJob, UnlearningJob  # noqa: E402
from certify.hooks.run import Attempt  # noqa: E402
from certify.state_dict import digest_state_dict  # noqa: E402
from certify.trust import Trust  # noqa: E402
from certify.verifier import Given, verify  # noqa: E402
from certify.workspace import Workspace  # noqa: E402
from tests.certify.hooks.cases import PEOPLE, ask, errors, states  # noqa: E402


@pytest.fixture
def workspace(tmp_path: Path) -> Any:
    with Workspace.init(tmp_path / "ledger", origin="example.com/ledger", issuer="Clinic", password=None) as workspace:
        yield workspace


def network(seed: int = 1) -> Any:
    torch.manual_seed(seed)
    return torch.nn.Linear(3, 2)


def step(model: Any) -> None:
    model(torch.ones(3)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()


def trained(workspace: Workspace) -> Any:
    model = network()
    with certify.training(model, ledger=workspace, data=PEOPLE):
        step(model)
    return model


def attempt(workspace: Workspace, request: Any) -> Attempt:
    return Attempt(UnlearningJob(ledger=workspace, request=request, method="ascent"))


def root(model: Any) -> str:
    return digest_state_dict(model).root().hex()


def test_another_object_at_the_end_of_training(workspace: Workspace) -> None:
    """A model that never saw the data takes the trained one's place when the certificate is due."""
    model = trained(workspace)
    run = attempt(workspace, ask(workspace))
    run.begin(model)
    step(model)
    with pytest.raises(DigestError, match="another object than at the beginning"):
        run.ended(network(2), told=1)
    assert workspace.log.size() == 2 and "another object" in errors(workspace)[0]


def test_another_object_is_trained_meanwhile(workspace: Workspace) -> None:
    """The trainer trains a decoy, and hands over the model as it was before: nothing was forgotten by it."""
    model, decoy = trained(workspace), network(2)
    run = attempt(workspace, ask(workspace))
    run.begin(model)
    step(decoy)
    with pytest.raises(DigestError, match="reports 1 steps, but no torch optimizer"):
        run.ended(model, told=1)
    assert workspace.log.size() == 2


def test_weights_changed_after_the_end_and_before_issuing(workspace: Workspace, tmp_path: Path) -> None:
    """What is certified is what is there when it is signed: weights kept from the end of training do not match it."""
    model = trained(workspace)
    with attempt(workspace, ask(workspace)) as run:
        run.begin(model)
        step(model)
        run.ended(model, told=1)
        kept = {name: value.clone() for name, value in model.state_dict().items()}
        with torch.no_grad():
            model.weight.add_(1)
    trust = Trust.load(workspace.path / "trust.toml")
    data = run.bundle(tmp_path / "case.bundle").read_bytes()
    assert verify(data, trust, given=Given(weights=digest_state_dict(model))).tensor_root == root(model)
    with pytest.raises(VerificationError):
        verify(data, trust, given=Given(weights=digest_state_dict(kept)))


def test_weights_changed_after_issuing_are_not_those_certified(workspace: Workspace, tmp_path: Path) -> None:
    model = trained(workspace)
    run = attempt(workspace, ask(workspace))
    run.begin(model)
    step(model)
    run.ended(model, told=1)
    step(model)
    data = run.bundle(tmp_path / "case.bundle").read_bytes()
    with pytest.raises(VerificationError):
        verify(data, Trust.load(workspace.path / "trust.toml"), given=Given(weights=digest_state_dict(model)))


def test_the_callback_there_twice_issues_nothing(workspace: Workspace) -> None:
    """Two certificates for one run would look like two unlearnings."""
    model, request, loop = trained(workspace), ask(workspace), object()
    first, second = attempt(workspace, request), attempt(workspace, request)
    first.begin(model, scope=loop)
    with pytest.raises(WorkspaceError, match="is the callback there twice"):
        second.begin(model, scope=loop)
    for run in (first, second):
        run.ended(model)
        assert run.certificate is None
    again = attempt(workspace, request)
    again.begin(model, scope=loop)
    with pytest.raises(WorkspaceError, match="is the callback there twice"):
        again.begin(model, scope=loop)
    assert workspace.log.size() == 2 and ("unlearning", "issued") not in states(workspace)


def test_a_resumed_run_from_weights_of_elsewhere(workspace: Workspace) -> None:
    """The "checkpoint" is a model that somebody trained anywhere: it must not become the model before."""
    model, request = trained(workspace), ask(workspace)
    first = attempt(workspace, request)
    first.begin(model)
    step(model)
    first.saved(model)
    first.fail(RuntimeError("killed"))
    step(model)  # one step that no run took, and nobody noted
    with pytest.raises(WorkspaceError, match="which no training or unlearning in"):
        attempt(workspace, request).begin(model)
    assert workspace.log.size() == 2


def test_a_checkpoint_of_a_training_or_of_another_request_is_no_model_before(workspace: Workspace) -> None:
    model = network()
    training = Attempt(TrainingJob(ledger=workspace, data=PEOPLE))
    training.begin(model)
    step(model)
    training.saved(model)
    halfway = {name: value.clone() for name, value in model.state_dict().items()}
    step(model)
    training.ended(model)
    request, other = ask(workspace), ask(workspace, "patient-5")
    done = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(halfway)
    with pytest.raises(WorkspaceError, match="which no training or unlearning in"):
        attempt(workspace, request).begin(model)
    model.load_state_dict(done)
    first = attempt(workspace, request)
    first.begin(model)
    step(model)
    first.saved(model)
    first.fail(RuntimeError("killed"))
    with pytest.raises(WorkspaceError, match="answered other requests than this one"):
        attempt(workspace, other).begin(model)
    assert workspace.log.size() == 3


def test_an_exception_that_the_block_swallows(workspace: Workspace) -> None:
    """Training fails half-way, nobody hears of it, and the script goes on as if it had ended."""
    model = trained(workspace)
    with pytest.raises(WorkspaceError, match="no training came to its end inside the block"):
        with attempt(workspace, ask(workspace)) as run:
            try:
                run.begin(model)
                step(model)
                raise RuntimeError("out of memory")
            except RuntimeError:
                pass
    assert workspace.log.size() == 2 and run.certificate is None
    run.ended(model)  # too late
    assert workspace.log.size() == 2


def test_an_end_that_never_began(workspace: Workspace) -> None:
    model = trained(workspace)
    run = attempt(workspace, ask(workspace))
    run.ended(model, told=4)
    run.issue()
    assert workspace.log.size() == 2 and run.certificate is None


def test_an_exception_after_the_end_inside_the_block(workspace: Workspace) -> None:
    """Saving failed after training: the block did not do what it was for."""
    model = trained(workspace)
    with pytest.raises(OSError, match="disk full"), attempt(workspace, ask(workspace)) as run:
        run.begin(model)
        step(model)
        run.ended(model, told=1)
        raise OSError("disk full")
    assert workspace.log.size() == 2 and errors(workspace) == ["OSError: disk full"]
