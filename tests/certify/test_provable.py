"""Fitting and forgetting: the weights by another solver, what is logged, and what is refused in plain words."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from certify import provable
from certify.errors import DatasetError, WorkspaceError
from certify.provable import Objective, fit
from certify.request import file_request
from certify.state_dict import digest_state_dict
from certify.statement import Training, Unlearning
from certify.trust import Trust
from certify.workspace import Workspace
from certify.zk import RECORDS, Column, Encoding
from circuits.errors import ProverError, SrsError
from circuits.problem import Problem
from circuits.srs import FOLDERS_VARIABLE
from tests.exclusion_cases import FIRST, SECOND, ceremony, ledger, new_workspace, people


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    with ceremony(), new_workspace() as workspace:
        yield workspace


def optimum(*without: str, loss: str = "squared-hinge") -> torch.Tensor:
    """By L-BFGS on the definition, with autograd, in float64."""
    rows = [record for name, record in people().items() if name not in without]
    x = torch.tensor([row[:5] for row in rows], dtype=torch.float64)
    y = torch.tensor([2.0 * row[5] - 1 for row in rows], dtype=torch.float64)
    w = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [w], max_iter=500, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        solver.zero_grad()
        z = x @ w
        part = (1 - y * z).clamp(min=0) if loss == "squared-hinge" else z - y
        value = part.square().sum() / 2 + w.square().sum() / 2
        value.backward()
        return value

    solver.step(closure)
    return w.detach()


@pytest.mark.parametrize(("made", "without"), [(0, ()), (1, (FIRST,)), (2, (FIRST, SECOND))])
def test_weights_are_the_optimum_without_what_was_forgotten(made: int, without: tuple[str, ...]) -> None:
    """What was forgotten first stays forgotten when something else is."""
    found = [ledger().trained, *ledger().forgot][made].weights["weight"][0].double()
    assert (found - optimum(*without)).norm() < 0.005
    assert torch.equal(found * (1 << 14), (found * (1 << 14)).round())


def test_forgetting_makes_a_difference() -> None:
    """Else the tests could not tell."""
    assert (optimum() - optimum(FIRST)).norm() > 0.05


def test_what_a_training_states() -> None:
    training = ledger().training
    assert training.recipe.name == "exclusion-optimum/v1" and training.recipe.parameters["tau"] == 163
    assert training.dataset.count == 40 and training.model.tensors == 1
    assert training.model.tensor_root == digest_state_dict(dict(ledger().trained.weights)).root().hex()
    assert training.zk is not None and training.zk.encoding == Encoding(128, Column("target"), classes=["0", "1"])
    assert [tensor.name for tensor in training.zk.tensors] == [RECORDS]
    score = ledger().trained.score
    assert score is not None and score > 0.8


def test_what_a_certificate_states() -> None:
    first, second = (made.logged.statement.predicate for made in ledger().forgot)
    assert isinstance(first, Unlearning) and isinstance(second, Unlearning)
    assert second.parent == ledger().forgot[0].logged.digest and second.pre == first.post
    assert first.evidence is not None and second.evidence is not None
    trust = Trust.load(ledger().workspace.path / "trust.toml")
    assert trust.circuits == {*first.evidence.circuits, *second.evidence.circuits} and len(trust.circuits) == 2


def test_what_would_be_proven_is_told_beforehand(workspace: Workspace) -> None:
    fit(workspace, people())
    with ceremony():
        asked = file_request(workspace, {FIRST: people()[FIRST], SECOND: people()[SECOND]}, ground="gdpr-17")
    before = len([*workspace.statements()])
    found, proofs = provable.problem_for(workspace, [asked])
    assert isinstance(found, Problem) and proofs == 1
    assert (found.rows, found.features, found.forgotten) == (40, 5, (2,)) and len([*workspace.statements()]) == before


def test_requests_that_nothing_can_be_proven_about(workspace: Workspace) -> None:
    early = file_request(workspace, {"p9": people()["p9"]}, ground="gdpr-17")
    other = file_request(workspace, {"cats": "all cats"}, ground="gdpr-17", scope="concept")
    unheard = "no training that was made for proofs .* has the requested records"
    with pytest.raises(WorkspaceError, match=unheard):
        provable.problem_for(workspace, [early])
    fitted = fit(workspace, people())
    with pytest.raises(WorkspaceError, match="commits to no numbers: it was filed before the training was logged"):
        provable.problem_for(workspace, [early])
    with pytest.raises(WorkspaceError, match=unheard):
        provable.problem_for(workspace, [other])
    with pytest.raises(WorkspaceError, match="is a training statement, expected a request"):
        provable.problem_for(workspace, [fitted.logged])
    with pytest.raises(WorkspaceError, match=unheard):
        provable.problem_for(workspace, [])
    assert not [*workspace.of_kind("unlearning")]


DATA: dict[str, tuple[Any, str]] = {
    "nothing": ({}, "at least one record"),
    "one class": ([[1.0, 0], [2.0, 0]], "2 to 64 classes, it has 1"),
    "lengths that differ": ([[1.0, 2.0, 0], [2.0, 1]], "of 3 numbers like the first"),
    "no target": ([{"a": 1.0}], "a column 'target'"),
    "words": ([["one", 0], ["two", 1]], "expected a number, 'one' came"),
    "true": ([[True, 0], [False, 1]], "expected a number, 'True' came"),
}


@pytest.mark.parametrize("name", DATA)
def test_data_that_no_model_is_fit_on(workspace: Workspace, name: str) -> None:
    data, reason = DATA[name]
    with pytest.raises(DatasetError, match=reason):
        fit(workspace, data)
    assert not [*workspace.statements()]


def test_named_columns_and_several_classes(workspace: Workspace) -> None:
    data = {
        name: {"a": x[0], "b": 100 + 10 * x[1], "kind": ["low", "mid", "high"][(x[0] > -0.5) + (x[0] > 0.5)]}
        for name, x in people().items()
    }
    fitted = fit(workspace, data, target="kind", objective=Objective(penalty=0.5))
    training = fitted.logged.statement.predicate
    assert isinstance(training, Training) and training.zk is not None and training.zk.encoding is not None
    assert training.zk.encoding.classes == ["high", "low", "mid"]
    assert [column.name for column in training.zk.encoding.columns] == ["a", "b"]
    assert fitted.weights["weight"].shape == (3, 2)
    assert training.recipe.parameters["outputs"] == 3 and training.recipe.parameters["penalty"] == 1 << 13


def test_ridge(workspace: Workspace) -> None:
    target = {name: [*x[:5], 2 * x[0] - x[1]] for name, x in people().items()}
    fitted = fit(workspace, target, objective=Objective("ridge", penalty=0.001))
    expected = torch.tensor([2.0, -1, 0, 0, 0])
    assert (fitted.weights["weight"][0] - expected).norm() < 0.01
    assert fitted.score is not None and fitted.score > 0.999


def test_weights_that_float32_cannot_hold(workspace: Workspace) -> None:
    with pytest.raises(ProverError, match="expected weights that float32 holds over"):
        fit(workspace, people(), objective=Objective(scale_w=1 << 30, scale_x=4))
    assert not [*workspace.statements()]


def test_no_reference_string(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv(FOLDERS_VARIABLE, str(tmp_path))
    with new_workspace() as workspace:
        for development in (False, True):
            with pytest.raises(SrsError, match=r"no kzg11.srs"):
                fit(workspace, people(), development=development)
        assert not [*workspace.statements()]


def test_progress_is_told(workspace: Workspace) -> None:
    heard: list[str] = []
    fit(workspace, people(), progress=lambda stage, left: heard.append(stage))
    assert heard == ["fitting", "committing to the data"]


def test_a_training_that_was_not_made_for_proofs() -> None:
    recipe = ledger().training.recipe
    for other in (
        replace(recipe, name="sisa"),
        replace(recipe, parameters={}),
        replace(recipe, parameters={"rows": 40}),
    ):
        with pytest.raises(WorkspaceError, match="the training was not made for proofs"):
            provable.problem_of(replace(ledger().training, recipe=other), [1])
