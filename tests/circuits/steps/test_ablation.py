"""Concept ablation: the projection in numpy, torch and ONNX Runtime, and what a probe finds afterwards."""

import struct

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402

from circuits.steps.ablation import Ablation, Projected, direction  # noqa: E402
from circuits.steps.step import Task  # noqa: E402
from tests.circuits.steps import linear as case  # noqa: E402

EXACT = 1e-12


def test_projection_is_numpys() -> None:
    generator = np.random.default_rng(0)
    w, v = generator.normal(size=(5, 7)), generator.normal(size=7)
    v /= np.linalg.norm(v)
    expected = w @ (np.eye(7) - np.outer(v, v))
    for found in (Projected()(torch.tensor(w), torch.tensor(v)).numpy(), case.onnx_says(Projected(), (w, v))):
        assert np.abs(found - expected).max() < EXACT
        assert np.abs(found @ v).max() < EXACT  # nothing along v is seen


def network() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)).double()


def test_layer_is_ablated_with_what_went_into_it() -> None:
    model, task = network(), case.task()
    w = model[2].weight.detach().clone().numpy()
    with torch.no_grad():
        inside = [np.tanh(model[0](x).numpy()).mean(0) for x in (task.forget[0], task.retain[0])]
    v = (inside[0] - inside[1]) / np.linalg.norm(inside[0] - inside[1])
    others = {name: value.clone() for name, value in model.state_dict().items() if name != "2.weight"}
    shown = Ablation(layers=("2",), reveal=True).run(model, task)
    assert np.abs(np.array(struct.unpack("<6d", shown.attachments[0])) - v).max() < EXACT
    assert np.abs(model[2].weight.detach().numpy() - (w - np.outer(w @ v, v))).max() < EXACT
    assert all(torch.equal(model.state_dict()[name], value) for name, value in others.items())
    assert shown.attachments[1] == w.tobytes() and shown.attachments[2] == model[2].weight.detach().numpy().tobytes()
    assert shown.fields["probes"] == [7, 33]


def test_means_differ_in_nothing_that_the_layer_sees() -> None:
    model, task = network(), case.task()
    Ablation(layers=("2",)).run(model, task)
    with torch.no_grad():
        seen = [model[:3](x).mean(0) for x in (task.forget[0], task.retain[0])]
    assert float((seen[0] - seen[1]).abs().max()) < EXACT


def test_a_second_projection_changes_nothing_more() -> None:
    v = direction(case.X[:7], case.X[7:])
    once = Projected()(torch.randn(3, 4, dtype=torch.float64), v)
    assert torch.allclose(Projected()(once, v), once, rtol=0, atol=EXACT)


def test_probe_falls_to_guessing() -> None:
    """Ravfogel et al. 2020, section 5: what a linear classifier could tell, it cannot afterwards."""
    models = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    generator = torch.Generator().manual_seed(0)
    concept = torch.arange(400) % 2 == 0
    x = torch.randn(400, 8, generator=generator, dtype=torch.float64)
    x[concept] += 2 * torch.tensor([1, 0, 1, 0, 0, 0, 0, 0], dtype=torch.float64)
    model = nn.Sequential(nn.Linear(8, 8, bias=False)).double()

    def probe() -> float:
        with torch.no_grad():
            seen = model(x).numpy()
        return float(models.LogisticRegression().fit(seen[:200], concept[:200]).score(seen[200:], concept[200:]))

    assert probe() > 0.85
    Ablation(layers=("0",)).run(model, Task((x[concept], concept[concept]), (x[~concept], concept[~concept])))
    assert probe() < 0.6


def test_what_cannot_be_ablated_is_refused() -> None:
    with pytest.raises(ValueError, match="expected '1' to be a Linear, got Tanh"):
        Ablation(layers=("1",)).run(network(), case.task())
    task = Task((case.X, case.Y), (case.X, case.Y))
    with pytest.raises(ValueError, match="inputs that differ in their means"):
        Ablation(layers=("0",)).run(network(), task)
    twice = nn.Sequential(layer := nn.Linear(4, 4), layer).double()
    with pytest.raises(ValueError, match="use the layer 0 once, it used it 2 times"):
        Ablation(layers=("0",)).run(twice, case.task())
