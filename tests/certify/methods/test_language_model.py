"""Language models that forget texts: what a verifier sees of it, and refuses."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import certify  # noqa: E402
from certify.errors import WorkspaceError  # noqa: E402
from certify.hooks.torch import HookRun  # noqa: E402
from certify.methods.generic_labels import GenericLabels as GenericLabelsDetail  # noqa: E402
from certify.methods.npo import Npo as NpoDetail  # noqa: E402
from certify.trust import Trust  # noqa: E402
from certify.verifier import verify  # noqa: E402
from certify.workspace import Workspace  # noqa: E402
from circuits.steps.generic_labels import GenericLabels  # noqa: E402
from circuits.steps.language_model import Gpt, sequences, token_loss  # noqa: E402
from circuits.steps.npo import Npo  # noqa: E402
from circuits.steps.step import Task, UpdateStep  # noqa: E402

torch.set_num_threads(1)
TEXTS = {f"text {number}": [1 + number, 3, 5, 7, number] for number in range(8)}
TASK = Task(
    sequences([TEXTS["text 0"], TEXTS["text 1"]], end=0), sequences(list(TEXTS.values())[2:], end=0), token_loss
)


def trained(workspace: Workspace) -> torch.nn.Module:
    torch.manual_seed(1)
    model = Gpt(12, 8, width=8, heads=2, layers=1)
    with certify.training(model, ledger=workspace, data=TEXTS, method="adam"):
        pass
    return model


def ask(workspace: Workspace) -> Any:
    return certify.file_request(workspace, {name: TEXTS[name] for name in ("text 0", "text 1")}, ground="gdpr-17")


def forget(workspace: Workspace, step: UpdateStep) -> HookRun:
    model = trained(workspace)
    return certify.unlearn(model, step, ledger=workspace, request=ask(workspace), task=TASK)


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (Npo(steps=2), "by the operator's word, the loss of a token of them before was"),
        (GenericLabels(reinforced=2, steps=2), "tokens got another label; file"),
    ],
)
def test_certificate_says_what_was_done(workspace: Workspace, tmp_path: Path, step: UpdateStep, line: str) -> None:
    run = forget(workspace, step)
    found = verify(run.bundle(tmp_path / "case.bundle").read_bytes(), Trust.load(workspace.path / "trust.toml"))
    lines = found.steps[5].established
    assert any(line in one for one in lines)
    assert any("as many records as are removed: 2" in one for one in lines)
    assert any(f"{step.name} does not show" in one for one in found.limits)


def test_label_file_is_not_in_the_bundle(workspace: Workspace, tmp_path: Path) -> None:
    from hashlib import sha256

    step = GenericLabels(reinforced=2, steps=2)
    run = forget(workspace, step)
    file = step.kept["labels"]
    assert run.detail is not None and run.detail.labels == sha256(file).hexdigest()  # type: ignore[union-attr]
    assert file not in run.bundle(tmp_path / "case.bundle").read_bytes()


@pytest.mark.parametrize(
    ("step", "fields", "why"),
    [
        (Npo(steps=2), {"steps": 3}, "was told steps 2, its detail says 3"),
        (Npo(steps=2), {"beta": 0.5}, r"was told beta 0\.1, its detail says 0\.5"),
        (Npo(steps=2), {"forgotten": 1}, "used 1 records as removed ones, 2 are removed"),
        (Npo(steps=2), {"tensors": ["norm.bias"]}, "which is not among the tensors that it works on"),
        (GenericLabels(reinforced=2, steps=2), {"alpha": 1.0}, "was told alpha 5, its detail says 1"),
        (GenericLabels(reinforced=2, steps=2), {"forgotten": 8}, "used 8 records as removed ones, 2 are removed"),
        (GenericLabels(reinforced=2, steps=2), {"replaced": 0}, "replaced 0 of 12 tokens"),
        (GenericLabels(reinforced=2, steps=2), {"replaced": 13}, "replaced 13 of 12 tokens"),
        (GenericLabels(reinforced=2, steps=2), {"tensors": ["norm.bias"]}, "not among the tensors that it works on"),
    ],
)
def test_certificate_of_another_run_is_refused(
    workspace: Workspace, step: UpdateStep, fields: dict[str, Any], why: str
) -> None:
    from certify.methods import made
    from circuits.steps.step import parameters_of

    model = trained(workspace)
    request = ask(workspace)
    with (
        pytest.raises(WorkspaceError, match=why),
        certify.unlearning(
            model, ledger=workspace, request=request, method=step.name, parameters=parameters_of(step), seeds=[0]
        ) as run,
    ):
        honest = made(step.name, step.run(model, TASK).fields)
        assert isinstance(honest, NpoDetail | GenericLabelsDetail)
        run.detail = msgspec.structs.replace(honest, **fields)
