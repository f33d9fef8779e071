"""Claims of differential privacy that do not follow, or are about something else."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import certify  # noqa: E402
from certify.dp_answer import answer_by_guarantee  # noqa: E402
from certify.errors import StatementError, WorkspaceError  # noqa: E402
from certify.methods.dp import DpGuarantee, DpSgdTraining  # noqa: E402
from certify.workspace import Workspace  # noqa: E402

PEOPLE = {f"person {number}": {"x": number} for number in range(12)}
HONEST = DpSgdTraining.of(
    noise=4.0, rate=0.07, steps=150, clipping=1.0, delta=1e-5, accountant="opacus 1.6.0 rdp", reported=0.9
)


@pytest.fixture
def workspace(tmp_path: Path) -> Any:
    with Workspace.init(tmp_path / "ledger", origin="example.com/ledger", issuer="Clinic", password=None) as workspace:
        yield workspace


def private(workspace: Workspace, detail: Any = HONEST, seeds: Any = (), method: str = "dp-sgd/v1") -> Any:
    torch.manual_seed(1)
    model = torch.nn.Linear(2, 2)
    with certify.training(model, ledger=workspace, data=PEOPLE, method=method, seeds=seeds) as run:
        run.detail = detail
    return model


def answer(
    workspace: Workspace, model: Any, detail: Any, numbers: tuple[int, ...] = (3,), moved: float = 0.0, **request: Any
) -> None:
    people = {f"person {number}": PEOPLE[f"person {number}"] for number in numbers}
    asked = certify.file_request(workspace, people, ground="gdpr-17", **request)
    with certify.unlearning(model, ledger=workspace, request=asked, method="dp-guarantee/v1", seeds=[]) as run:
        model.weight.data += moved
        run.detail = detail


def changed(detail: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(detail, **fields)


def test_smaller_epsilon_than_the_noise_gives(workspace: Workspace) -> None:
    model = private(workspace, changed(HONEST, epsilon=0.5))
    with pytest.raises(WorkspaceError, match=r"states ε = 0\.5 at δ = 1e-05, but 0\.908428 follows"):
        answer(workspace, model, DpGuarantee.of(HONEST, group=1, delta=1e-5))


def test_smaller_delta_than_goes_with_the_epsilon(workspace: Workspace) -> None:
    model = private(workspace, changed(HONEST, delta=1e-9))
    with pytest.raises(WorkspaceError, match="at δ = 1e-09, but"):
        answer(workspace, model, DpGuarantee.of(HONEST, group=1, delta=1e-5))


def test_more_steps_than_were_accounted_for(workspace: Workspace) -> None:
    model = private(workspace, changed(HONEST, steps=1500))
    with pytest.raises(WorkspaceError, match=r"states ε = 0\.908428"):
        answer(workspace, model, DpGuarantee.of(HONEST, group=1, delta=1e-5))


def test_epsilon_of_one_record_for_a_group(workspace: Workspace) -> None:
    model = private(workspace)
    single = DpGuarantee.of(HONEST, group=1, delta=1e-5)
    with pytest.raises(WorkspaceError, match=r"states ε = 0\.908428 at δ = 1e-05 for 3 records, but 3\.\d+ follows"):
        answer(workspace, model, changed(single, group=3), (3, 4, 5))
    with pytest.raises(WorkspaceError, match="for 3 records"):  # k ε alone, with the δ of one
        answer(workspace, model, changed(single, group=3, epsilon=3 * single.epsilon), (3, 4, 5))


def test_group_smaller_than_what_was_asked_for(workspace: Workspace) -> None:
    model = private(workspace)
    with pytest.raises(WorkspaceError, match="is about a group of 2, it and those before it answer for 3 records"):
        answer(workspace, model, DpGuarantee.of(HONEST, group=2, delta=1e-5), (3, 4, 5))


def test_group_taken_one_by_one(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred requests of one record each are a group of a hundred."""
    private(workspace)
    for number, group in ((3, 1), (4, 2)):
        person = f"person {number}"
        request = certify.file_request(workspace, {person: PEOPLE[person]}, ground="gdpr-17")
        logged = answer_by_guarantee(workspace, [request], delta=1e-5)
        assert logged.statement.predicate.detail.group == group
    monkeypatch.setattr("certify.dp_answer.answered_before", lambda lineage: 0)
    request = certify.file_request(workspace, {"person 5": PEOPLE["person 5"]}, ground="gdpr-17")
    with pytest.raises(WorkspaceError, match="is about a group of 1, it and those before it answer for 3 records"):
        answer_by_guarantee(workspace, [request], delta=1e-5)


def test_seed_of_the_noise_is_published(workspace: Workspace) -> None:
    model = private(workspace, seeds=[7])
    with pytest.raises(WorkspaceError, match="noise that anybody can draw again protects nobody"):
        answer(workspace, model, DpGuarantee.of(HONEST, group=1, delta=1e-5))


def test_guarantee_for_a_training_without_noise(workspace: Workspace) -> None:
    model = private(workspace, None, method="sgd")
    with pytest.raises(WorkspaceError, match="its training is not by dp-sgd/v1"):
        answer(workspace, model, DpGuarantee.of(HONEST, group=1, delta=1e-5))


def test_weights_that_were_tuned_after_the_private_training(workspace: Workspace) -> None:
    model = private(workspace)
    with pytest.raises(WorkspaceError, match="changes the weights that the guarantee is about"):
        answer(workspace, model, DpGuarantee.of(HONEST, group=1, delta=1e-5), moved=0.1)


def test_weights_that_an_earlier_unlearning_tuned(workspace: Workspace) -> None:
    model = private(workspace)
    asked = certify.file_request(workspace, {"person 1": PEOPLE["person 1"]}, ground="gdpr-17")
    with certify.unlearning(model, ledger=workspace, request=asked, method="my tuning", seeds=[]):
        model.weight.data += 0.1
    with pytest.raises(WorkspaceError, match="for weights that an earlier certificate changed"):
        answer(workspace, model, DpGuarantee.of(HONEST, group=2, delta=1e-5))


def test_person_whose_records_nobody_counted(workspace: Workspace) -> None:
    """A guarantee for one record is none for a person with forty."""
    model = private(workspace)
    with pytest.raises(WorkspaceError, match="needs requests about records that can be counted"):
        answer(workspace, model, DpGuarantee.of(HONEST, group=1, delta=1e-5), scope="subject")


def test_figures_that_are_no_figures(workspace: Workspace) -> None:
    for fields in (
        {"noise_multiplier": 0.0},
        {"noise_multiplier": 1e300},
        {"sampling_rate": 2.0},
        {"steps": 0},
        {"delta": 0.0},
        {"delta": 1.0},
        {"epsilon": -1.0},
        {"epsilon": float("nan")},
        {"epsilon": float("inf")},
        {"sampling": "shuffled"},
        {"adjacency": "none"},
    ):
        with pytest.raises(StatementError):
            private(workspace, changed(HONEST, **fields))


def test_group_for_which_nothing_follows(workspace: Workspace) -> None:
    wild = changed(HONEST, steps=2**53 - 1, noise_multiplier=1e-3, epsilon=1e300)
    model = private(workspace, wild)
    with pytest.raises(WorkspaceError, match="states ε = 0"):
        answer(workspace, model, DpGuarantee(1024, 0.0, 1e-5), (3,))
