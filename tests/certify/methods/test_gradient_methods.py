"""Retraining, ascent, gradient difference and SCRUB from request to verified bundle: what each certificate says."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import certify  # noqa: E402
from certify.statement import Unlearning  # noqa: E402
from certify.workspace import Workspace  # noqa: E402
from circuits.steps.ascent import GradientAscent  # noqa: E402
from circuits.steps.gradient_difference import GradientDifference  # noqa: E402
from circuits.steps.retrain import Retrain  # noqa: E402
from circuits.steps.scrub import Scrub  # noqa: E402
from circuits.steps.step import UpdateStep  # noqa: E402
from tests.method_cases import asked, established, split, trained, verified  # noqa: E402

STEPS: list[UpdateStep] = [
    Retrain(epochs=2, batch=4, seed=1),
    GradientAscent(rate=0.05, steps=3),
    GradientDifference(rate=0.05, steps=3, weight=2.0),
    Scrub(rate=0.05, rounds=3, up=2, batch=4, seed=6),
]
MOVED = "4 of the 4 tensors that it works on changed, and none of the 0 others"
SAYS = {
    "retrain/v1": ["as many records as are retained: 15", "2 epochs, 8 steps"],
    "gradient-ascent/v1": ["as many records as are removed: 3", MOVED, "their loss before was"],
    "gradient-difference/v1": ["are removed: 3", "are retained: 15", MOVED, "and after"],
    "scrub/v1": ["are removed: 3", "are retained: 15", MOVED, "the divergence from the model before is"],
}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_from_request_to_verified_bundle(workspace: Workspace, tmp_path: Path, step: UpdateStep) -> None:
    model = trained(workspace)
    request = asked(workspace, "records")
    run = certify.unlearn(model, step, ledger=workspace, request=request, task=split("records"))
    text = established(run, tmp_path)
    for line in SAYS[step.name]:
        assert line in text
    assert f"{step.name} shows" in text
    assert any(f"{step.name} does not show" in limit for limit in verified(run, tmp_path).limits)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_numbers_of_records_are_the_operators_word_where_no_records_are_removed(
    workspace: Workspace, tmp_path: Path, step: UpdateStep
) -> None:
    model, request = trained(workspace), asked(workspace, "class")
    run = certify.unlearn(model, step, ledger=workspace, request=request, task=split("class"))
    assert "by the operator's word, it used" in established(run, tmp_path)
    assert run.certificate is not None and isinstance(run.certificate.statement.predicate, Unlearning)
    assert run.certificate.statement.predicate.removed is None
