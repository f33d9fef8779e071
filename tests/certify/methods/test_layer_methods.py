"""UNSIR, pruning and ablation from request to verified bundle: what is established, and what only where layers are revealed."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import certify  # noqa: E402
from certify.bundle import Bundle  # noqa: E402
from certify.errors import WorkspaceError  # noqa: E402
from certify.workspace import Workspace  # noqa: E402
from circuits.steps.ablation import Ablation  # noqa: E402
from circuits.steps.pruning import Pruning  # noqa: E402
from circuits.steps.step import UpdateStep  # noqa: E402
from circuits.steps.unsir import Unsir  # noqa: E402
from tests.method_cases import asked, established, network, split, trained  # noqa: E402


def said(workspace: Workspace, tmp_path: Path, step: UpdateStep, scope: str) -> str:
    model, request = trained(workspace), asked(workspace, scope)
    run = certify.unlearn(model, step, ledger=workspace, request=request, task=split(scope))
    return established(run, tmp_path)


def test_noise_comes_along(workspace: Workspace, tmp_path: Path) -> None:
    text = said(workspace, tmp_path, Unsir(noises=5, noise_steps=2, batch=4), "class")
    assert "the noise is 5 pieces of 4 finite numbers" in text
    bundle = Bundle.parse((tmp_path / "case.bundle").read_bytes())
    assert [len(data) for data in bundle.details.values()] == [5 * 4 * 4]


@pytest.mark.parametrize("reveal", [False, True])
def test_pruned_channels(workspace: Workspace, tmp_path: Path, reveal: bool) -> None:
    text = said(workspace, tmp_path, Pruning(layers=("0",), share=0.3, reveal=reveal), "class")
    assert "2 of the 2 tensors that it works on changed, and none of the 2 others" in text
    assert "2 of 6 channels of 0 score" in text
    assert ("and became zero; the others are the same to the bit" in text) == reveal
    assert ("by the operator's word, these became zero" in text) != reveal


@pytest.mark.parametrize("reveal", [False, True])
def test_ablated_layers(workspace: Workspace, tmp_path: Path, reveal: bool) -> None:
    text = said(workspace, tmp_path, Ablation(layers=("0", "2"), reveal=reveal), "concept")
    assert "2 of the 2 tensors that it works on changed, and none of the 2 others" in text
    assert "the direction for 2 has 6 numbers and norm 1" in text
    assert ("2.weight is what it was with that projected out, to 2e-06" in text) == reveal
    assert "12 that do not" in text


def test_method_for_another_scope_gets_no_certificate(workspace: Workspace) -> None:
    model, request = trained(workspace), asked(workspace, "records")
    with pytest.raises(WorkspaceError, match="is by a method for the scope class, a request is of records"):
        certify.unlearn(model, Pruning(layers=("0",)), ledger=workspace, request=request, task=split("records"))


def test_layer_without_bias(workspace: Workspace, tmp_path: Path) -> None:
    model = network()
    model[0] = torch.nn.Linear(4, 6, bias=False)
    with certify.training(model, ledger=workspace, data=["a"], method="sgd"):
        pass
    request = asked(workspace, "class")
    step = Pruning(layers=("0",), share=0.5, reveal=True)
    run = certify.unlearn(model, step, ledger=workspace, request=request, task=split("class"))
    assert "1 of the 1 tensors that it works on" in established(run, tmp_path)
