"""What a certificate of a Newton removal says, and which ones a verifier refuses."""

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from msgspec.structs import replace  # noqa: E402

import certify  # noqa: E402
from certify.methods.newton import Newton  # noqa: E402
from certify.trust import Trust  # noqa: E402
from certify.verifier import verify  # noqa: E402
from certify.workspace import Workspace  # noqa: E402
from circuits.steps import newton  # noqa: E402
from circuits.steps.step import Task  # noqa: E402
from tests.lying import Liar, lines  # noqa: E402

X = torch.randn(12, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = torch.arange(12) % 2
PEOPLE = {f"person {i}": {"x": X[i].tolist(), "y": int(Y[i])} for i in range(12)}
TASK = Task(forget=(X[:2], Y[:2]), retain=(X[2:], Y[2:]))
STATED = Newton(
    damping=0.0,
    forgotten=2,
    gradient=1.5,
    iterations=4,
    left=0.1,
    residual=1e-9,
    retained=10,
    tolerance=1e-3,
)


def story(workspace: Workspace) -> tuple[Any, Any]:
    model = torch.nn.Linear(3, 2, dtype=torch.float64)
    with certify.training(model, ledger=workspace, data=PEOPLE, method="sgd"):
        pass
    asked = {name: PEOPLE[name] for name in ("person 0", "person 1")}
    return model, certify.file_request(workspace, asked, ground="gdpr-17")


def test_certificate_states_the_damping_and_the_residual(workspace: Workspace) -> None:
    model, request = story(workspace)
    run = certify.unlearn(model, newton.Newton(l2=0.1, damping=0.5), ledger=workspace, request=request, task=TASK)
    data = run.bundle(workspace.path / "case.bundle").read_bytes()
    said = lines(verify(data, Trust.load(workspace.path / "trust.toml")))
    assert "damping 0.5" in said and "by the operator's word, ‖HΔ − g‖ is " in said
    assert "it used as many records as are removed: 2" in said and "as are retained: 10" in said
    assert "newton/v1 does not show that the new weights are those of a retrained model" in said


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"residual": 0.5}, r"a residual of 0\.5, expected at most its tolerance of 0\.001"),
        ({"forgotten": 1}, "used 1 records as removed ones, 2 are removed"),
        ({"retained": 12}, "used 12 records as retained ones, 10 are retained"),
        ({"damping": 3.0}, "was told damping 0"),
    ],
)
def test_detail_that_contradicts_its_certificate_is_refused(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], why: str
) -> None:
    model, request = story(workspace)
    liar = Liar(workspace, monkeypatch)
    with liar.unlearning(model, request, "newton/v1", replace(STATED, **changed), damping=0.0), torch.no_grad():
        model.weight += 1
    liar.refused(why, Newton)


def test_step_that_moved_nothing_is_refused(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    model, request = story(workspace)
    liar = Liar(workspace, monkeypatch)
    with liar.unlearning(model, request, "newton/v1", STATED):
        pass
    liar.refused("states a step, its weights are the same before and after", Newton)


def test_step_that_adds_a_tensor_is_refused(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    model, request = story(workspace)
    liar = Liar(workspace, monkeypatch)
    with liar.unlearning(model, request, "newton/v1", STATED) as run:
        run.model = torch.nn.Sequential(torch.nn.Linear(3, 2))
    liar.refused("keeps every tensor's shape", Newton)
