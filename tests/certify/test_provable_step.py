"""Steps end to end: what fitting, requests and certificates state, each method verified, circuits built anew."""

from typing import Any

import pytest
import torch

from certify import case, committed, provable
from certify.circuit_record import rebuild
from certify.circuit_words import explain
from certify.errors import DatasetError, WorkspaceError
from certify.proof_task import Provable
from certify.provable_sgd import Sgd
from certify.provable_step import Ascent, Mask, Newton, Own, Projection, Step, Subtraction, Updatable
from certify.statement import Training, Unlearning
from certify.trust import Trust
from certify.verifier import GRADES, Report, verify
from certify.workspace import Workspace
from certify.zk import Evidence
from circuits.errors import ProverError
from circuits.step_problem import StepProblem
from tests import proving
from tests.circuits.test_step import Halve
from tests.exclusion_cases import ceremony, given, new_workspace, seeded
from tests.step_cases import FIRST, SECOND, accept, ask, first, forget, ledger, people, problem, second, trained


def evidence(made: Provable) -> Evidence:
    certificate = made.logged.statement.predicate
    assert isinstance(certificate, Unlearning) and certificate.evidence is not None
    return certificate.evidence


def reported(workspace: Workspace, made: Provable) -> Report:
    trust = Trust.load(workspace.path / "trust.toml")
    return verify(case.collect(workspace, made.logged).to_bytes(), trust)


def test_what_a_training_states() -> None:
    training = ledger().trained.logged.statement.predicate
    assert isinstance(training, Training) and training.zk is not None
    assert training.recipe.name == "step/v1"
    assert {name: training.recipe.parameters[name] for name in ("network", "features", "scale_w", "fit_batch")} == {
        "network": "linear",
        "features": 3,
        "scale_w": 512,
        "fit_batch": 4,
    }
    assert [(tensor.name, tensor.count) for tensor in training.zk.tensors] == [
        ("records", 1),
        ("weights", 1),
        ("deltas", 3),
    ]


def test_a_request_commits_to_targets_as_well() -> None:
    zk: Any = ledger().requests[0].statement.predicate
    assert (zk.zk.tensors[0].rows, zk.zk.tensors[0].columns) == (1, 4)


def test_what_certificates_state() -> None:
    one, two = ledger().forgot
    for made in (one, two):
        found = evidence(made)
        assert (found.statement, len(found.proofs), len(found.circuits), found.seed) == ("step/v1", 1, 1, None)
        assert [(tensor.name, tensor.count) for tensor in found.commitments.tensors] == [("states", 2)]
        said: Any = made.logged.statement.predicate
        assert said.method.parameters["step"] == "ascent" and said.method.parameters["steps"] == 2
        assert abs(said.method.parameters["learning_rate"] - 0.5) < 1e-6


def test_the_grade_says_what_is_not_shown() -> None:
    report = accept(first())
    assert (report.grade, report.meaning) == ("step proven", GRADES["step proven"])
    assert "does not show that the forgotten data left no trace" in report.meaning
    assert any("the weights before had seen the records" in limit for limit in report.limits)
    assert any("is in that one's own bundle" in limit for limit in accept(second()).limits)


def test_ascent_is_what_torch_makes_of_the_released_weights() -> None:
    """SGD of torch.optim with the sign turned, on the record as the training encodes it, from the weights of the training."""
    from certify.encoding import row_of
    from certify.records import record_bytes

    training: Any = ledger().trained.logged.statement.predicate
    row = torch.tensor(row_of(record_bytes(people()[FIRST]), training.zk.encoding), dtype=torch.float64)
    model = torch.nn.Sequential(torch.nn.Linear(3, 1)).double()
    model.load_state_dict({name: value.double() for name, value in ledger().trained.weights.items()})
    optimizer = torch.optim.SGD(model.parameters(), lr=problem(first()).learning_rate, maximize=True)
    for _ in range(2):
        optimizer.zero_grad()
        (0.5 * (model(row[:3] / 16) - row[3:]).square().sum()).backward()
        optimizer.step()
    for name, value in model.state_dict().items():
        assert (value - ledger().forgot[0].weights[name]).abs().max() < 3 / 512  # rounded twice


def test_whoever_has_weights_and_receipt_is_told_that_they_fit() -> None:
    made = ledger()
    said = accept(second(), given(dict(made.forgot[1].weights), [made.receipt(1)])).steps[8].established
    assert any("are the integers that the proof is about, over 512" in line for line in said)
    assert any("these numbers are the receipt's record" in line for line in said)


def test_salt_is_counted() -> None:
    zk: Any = ledger().requests[0].statement.predicate
    assert committed._note(ledger().workspace, zk.zk.tensors[0])["proofs"] == 1
    assert committed._note(ledger().workspace, evidence(ledger().forgot[0]).commitments.tensors[0])["proofs"] == 2


def test_the_circuit_is_built_anew() -> None:
    described = first().circuit.description
    assert described.title == "step/v1, ascent"
    assert rebuild(described, folders=[proving.srs(11).parent]) is described
    words = dict(explain(described))
    assert (
        words["step"].startswith("gradient ascent")
        and words["rate"] == "2 in a row, learning rate 0.5 of the mean loss"
    )
    assert "not that these, or those after, hold nothing" in words["proves"]


@pytest.mark.parametrize(
    ("model", "step", "said"),
    [
        (Updatable(batch=4, steps=3, hidden=2), Ascent(1, 0.5), "one step of gradient ascent on this record"),
        (Updatable(batch=4, steps=3, loss="logistic"), Ascent(1, 0.5), "one step of gradient ascent on this record"),
        (
            Updatable(batch=4, steps=3),
            Projection((3, -4, 1)),
            "less their part along the circuit's direction of 3 numbers",
        ),
        (
            Updatable(batch=4, steps=3),
            Mask({"0.weight": torch.tensor([[1, 0, 1]]), "0.bias": torch.tensor([1])}),
            "1 of 4 weights are zero",
        ),
        (Updatable(batch=4, steps=3), Own("clinic.example/halve", Halve, records=False), "an operator's own method"),
    ],
    ids=["relu", "logistic", "projection", "mask", "own"],
)
def test_methods_from_request_to_bundle(model: Updatable, step: Step, said: str) -> None:
    with trained(model, "methods") as (workspace, _):
        report = reported(workspace, forget(workspace, [ask(workspace, FIRST)], step))
    assert report.grade == "step proven" and said in " ".join(report.steps[6].established)


def test_an_own_step_is_built_anew_from_its_onnx() -> None:
    with trained(Updatable(batch=4, steps=3), "methods") as (workspace, _):
        made = forget(workspace, [ask(workspace, FIRST)], Own("clinic.example/halve", Halve, records=False))
        described = workspace.attachments.get_circuit(evidence(made).circuits[0]).description
        onnx = workspace.attachments.get("onnx", described.onnx)
    assert dict(explain(described))["step"].startswith("an operator's own: only its ONNX says")
    remarks: list[str] = []
    assert rebuild(described, folders=[proving.srs(11).parent], onnx=[b"other", onnx], remark=remarks.append)
    assert not remarks


class Deaf(Halve):
    """Makes nothing of the records, and does not say so."""

    def __init__(self, problem: StepProblem) -> None:
        assert problem.forgotten


def test_what_cannot_be_asked_for() -> None:
    wide = {"0.weight": torch.zeros(2, 2)}
    with trained(Updatable(batch=4, steps=3), "cannot") as (workspace, _):
        asked = [ask(workspace, SECOND)]
        for step, error, match in (
            (Subtraction(), WorkspaceError, "committed to no deltas"),
            (Newton(), WorkspaceError, "expected a training with a penalty"),
            (Mask(wide), ProverError, "expected a mask of"),
            (Projection((1,)), ProverError, "expected 3 public numbers"),
            (Ascent(learning_rate=1e-12), DatasetError, "expected a learning rate of"),
            (Ascent(steps=65), ProverError, "up to 64 of ascent"),
            (Own("deaf", Deaf), ProverError, "uses each of its 3 inputs"),
        ):
            with pytest.raises(error, match=match):
                provable.forget(workspace, asked, step=step)  # type: ignore[arg-type]
        with pytest.raises(WorkspaceError, match="say which"):
            provable.forget(workspace, asked)
        assert len(list(workspace.statements())) == 2


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (Updatable(penalty=1.0, deltas=True), "training by SGD for what its batches changed"),
        (Updatable(penalty=1.0, hidden=3), "expected a linear model"),
        (Updatable(weights={"0.weight": torch.zeros(1, 2)}), "expected weights"),
    ],
)
def test_models_that_cannot_be_fitted(model: Updatable, match: str) -> None:
    with pytest.raises(DatasetError, match=match), trained(model, "models"):
        raise AssertionError("it was fitted")


def test_weights_that_were_trained_elsewhere() -> None:
    weights = {"0.weight": torch.tensor([[0.3, -0.1, 2.0]]), "0.bias": torch.tensor([0.25])}
    with trained(Updatable(weights=weights), "elsewhere") as (_, fitted):
        for name, value in weights.items():
            assert (fitted.weights[name] - value).abs().max() <= 1 / 1024
        assert float(fitted.weights["0.bias"]) == 0.25


def test_other_trainings_prove_exclusion() -> None:
    with ceremony(), seeded("others"):
        workspace = new_workspace()
        provable.fit(workspace, people(), objective=Sgd(hidden=0, batch=6, steps=1))
        with pytest.raises(WorkspaceError, match="did not prepare for proofs of steps"):
            provable.problem_for(workspace, [ask(workspace, FIRST)], Ascent())
