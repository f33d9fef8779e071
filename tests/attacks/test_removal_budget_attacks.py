"""Certified removal by an operator who would rather not retrain: budgets that are spent twice, reset, enlarged or passed by."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from msgspec.structs import replace  # noqa: E402

import certify  # noqa: E402
from certify import removal_budget  # noqa: E402
from certify.errors import WorkspaceError  # noqa: E402
from certify.methods.certified_removal import CertifiedRemoval, CertifiedTraining  # noqa: E402
from certify.workspace import Workspace  # noqa: E402
from circuits.steps import certified_removal  # noqa: E402
from circuits.steps.certified_removal import RetrainingDue, Training  # noqa: E402
from circuits.steps.step import Task  # noqa: E402
from tests.lying import Liar, lines  # noqa: E402

COUNT = 40
X = torch.nn.functional.normalize(
    torch.randn(COUNT, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64), dim=1
)
Y = (X[:, 0] > 0).long()
PEOPLE = {f"person {i}": {"x": X[i].tolist(), "y": int(Y[i])} for i in range(COUNT)}
RECIPE = Training(l2=0.05, sigma=0.1, epsilon=1.0, delta=1e-4)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.init(tmp_path / "ledger", origin="example.com/ledger", issuer="Clinic", password=None) as workspace:
        yield workspace


def trained(workspace: Workspace, seeds: list[int] | None = None) -> Any:
    model = torch.nn.Linear(3, 1, bias=False, dtype=torch.float64)
    with certify.training(
        model, ledger=workspace, data=PEOPLE, method="certified-removal/v1", seeds=seeds or []
    ) as run:
        run.detail = removal_budget.trained(RECIPE.fit(model, X, Y, seed=8))
    return model


def ask(workspace: Workspace, number: int) -> Any:
    name = f"person {number}"
    return certify.file_request(workspace, {name: PEOPLE[name]}, ground="gdpr-17")


def task(number: int) -> Task:
    """Persons are forgotten in the order of their numbers."""
    return Task((X[number : number + 1], Y[number : number + 1]), (X[number + 1 :], Y[number + 1 :]))


def remove(workspace: Workspace, model: Any, number: int) -> Any:
    step = removal_budget.account(workspace, model).step()
    return certify.unlearn(model, step, ledger=workspace, request=ask(workspace, number), task=task(number))


def stated(run: Any) -> CertifiedRemoval:
    detail = run.certificate.statement.predicate.detail
    assert isinstance(detail, CertifiedRemoval)
    return detail


def used_up(workspace: Workspace) -> tuple[Any, int]:
    """A model, honestly unlearnt until retraining is due, and the next person."""
    model = trained(workspace)
    for number in range(COUNT):
        try:
            remove(workspace, model, number)
        except RetrainingDue:
            return model, number
    raise AssertionError("expected the budget to be used up")


def lie(liar: Liar, model: Any, number: int, **changed: Any) -> None:
    """An honest step with a dishonest detail."""
    account = removal_budget.account(liar.workspace, model)
    with liar.monkeypatch.context() as patch:
        patch.setattr(certified_removal, "budget", lambda **_: float("inf"))
        request = ask(liar.workspace, number)
        with liar.unlearning(model, request, "certified-removal/v1", None) as run:
            fields = account.step().run(model, task(number)).fields
            run.detail = replace(CertifiedRemoval(**fields), **changed)  # type: ignore[arg-type]


def test_budget_is_spent_removal_by_removal_until_retraining_is_due(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained(workspace)
    first, second = remove(workspace, model, 0), remove(workspace, model, 1)
    assert stated(second).spent == pytest.approx(stated(first).spent + stated(first).bound)
    liar = Liar(workspace, monkeypatch)
    liar.run = second
    said = lines(liar.report())
    assert "make a removal budget of 0.0228" in said and "were spent before" in said
    assert "anything against those who also saw the weights before" in said


def test_step_refuses_once_the_budget_is_used_up_and_leaves_the_model_alone(workspace: Workspace) -> None:
    model, number = used_up(workspace)
    assert number > 2
    before, size = model.weight.clone(), workspace.reader.size()
    with pytest.raises(RetrainingDue, match=r"retraining is due: this removal takes .* are left"):
        remove(workspace, model, number)
    assert torch.equal(model.weight, before)
    assert workspace.reader.size() == size + 1  # the request alone


def test_removal_beyond_the_budget(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    model, number = used_up(workspace)
    liar = Liar(workspace, monkeypatch)
    lie(liar, model, number)
    liar.refused(r"takes the removal budget to .* of 0\.0228: retraining was due", CertifiedRemoval)


def test_budget_spent_twice(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second certificate spends from the same balance as the first."""
    model = trained(workspace)
    first = remove(workspace, model, 0)
    liar = Liar(workspace, monkeypatch)
    lie(liar, model, 1, spent=stated(first).spent)
    liar.refused("of the removal budget was spent before, it was", CertifiedRemoval)


def test_certificate_that_resets_the_budget(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    model, number = used_up(workspace)
    liar = Liar(workspace, monkeypatch)
    lie(liar, model, number, spent=0.0)
    liar.refused("says that 0 of the removal budget was spent before", CertifiedRemoval)


def test_certificate_after_one_that_reset_the_budget(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lie is further back in the chain, and the certificate that is shown goes on from it correctly."""
    model, number = used_up(workspace)
    liar = Liar(workspace, monkeypatch)
    lie(liar, model, number, step=1e-9, moved=1e-9, residual=0.0, spent=0.0)
    lie(liar, model, number + 1, step=1e-9, moved=1e-9, residual=0.0)
    liar.refused("says that 0 of the removal budget was spent before", CertifiedRemoval)


@pytest.mark.parametrize(
    "changed",
    [{"sigma": 50.0}, {"epsilon": 0.9}, {"delta": 1e-2}, {"l2": 0.5}],
    ids=lambda changed: next(iter(changed)),
)
def test_certificate_with_other_terms_than_its_training(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, changed: dict[str, float]
) -> None:
    model = trained(workspace)
    liar = Liar(workspace, monkeypatch)
    lie(liar, model, 0, **changed)
    name = next(iter(changed))
    liar.refused(f"has {name} .*, its training", CertifiedRemoval)


def test_removal_by_another_method_that_the_budget_does_not_count(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained(workspace)
    account = removal_budget.account(workspace, model)
    with certify.unlearning(model, ledger=workspace, request=ask(workspace, 0), method="mine"), torch.no_grad():
        model.weight += 0.1
    request = ask(workspace, 1)
    liar = Liar(workspace, monkeypatch)
    with liar.unlearning(model, request, "certified-removal/v1", None) as run:
        run.detail = CertifiedRemoval(**account.step().run(model, task(1)).fields)  # type: ignore[arg-type]
    liar.refused("certificate 1 of the chain is by mine, which nobody has a bound for", CertifiedRemoval)


def test_norms_that_no_data_have(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained(workspace)
    liar = Liar(workspace, monkeypatch)
    lie(liar, model, 0, step=1e-12)
    liar.refused("states norms that no 39 records of norm 1 have", CertifiedRemoval)


def test_step_of_length_zero_that_moved_the_weights(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained(workspace)
    liar = Liar(workspace, monkeypatch)
    lie(liar, model, 0, step=0.0, moved=0.0)
    liar.refused("states a step of 0, which its weights before and after belie", CertifiedRemoval)


def test_training_that_publishes_the_seed_of_its_noise(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the seed anybody draws b again, and nothing is hidden."""
    model = trained(workspace, seeds=[8])
    liar = Liar(workspace, monkeypatch)
    lie(liar, model, 0)
    liar.refused("publishes seeds, from which the noise could be drawn again", CertifiedTraining)


def test_model_that_was_trained_without_noise(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Linear(3, 1, bias=False, dtype=torch.float64)
    with certify.training(model, ledger=workspace, data=PEOPLE, method="sgd"):
        by = RECIPE.fit(model, X, Y)
    with pytest.raises(WorkspaceError, match="it has no removal budget"):
        removal_budget.account(workspace, model)
    liar = Liar(workspace, monkeypatch)
    with liar.unlearning(model, ask(workspace, 0), "certified-removal/v1", None) as run:
        step = certified_removal.CertifiedRemoval.after(by, spent=0.0)
        run.detail = CertifiedRemoval(**step.run(model, task(0)).fields)  # type: ignore[arg-type]
    liar.refused("its training had no noise in its objective", CertifiedRemoval)
