"""Class-discriminative pruning: scores against numpy, the mask against ONNX Runtime, and what the authors report."""

import struct

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402

from circuits.steps.pruning import Masked, Pruning, discrimination  # noqa: E402
from circuits.steps.step import Task  # noqa: E402
from tests.circuits.steps import linear as case  # noqa: E402


def by_hand(f: np.ndarray) -> np.ndarray:
    """TF · IDF, term by term. (classes, channels)"""
    classes, channels = f.shape
    score = np.zeros_like(f)
    for k in range(channels):
        speaks = sum(f[c, k] >= f[c].mean() for c in range(classes))
        for c in range(classes):
            score[c, k] = f[c, k] / f[c].sum() * np.log((1 + classes) / (1 + speaks))
    return score


def test_scores_are_term_by_term() -> None:
    outputs = torch.randn(40, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    f = np.stack([outputs[c == case.Y].clamp_min(0).mean(0).numpy() for c in range(3)])
    assert np.abs(discrimination(outputs, case.Y).numpy() - by_hand(f)).max() < 1e-15


def test_scores_of_a_convolution_are_over_places_too() -> None:
    outputs = torch.randn(40, 6, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    f = np.stack([outputs[c == case.Y].clamp_min(0).mean((0, 2, 3)).numpy() for c in range(3)])
    assert np.abs(discrimination(outputs, case.Y).numpy() - by_hand(f)).max() < 1e-15


def test_channel_that_speaks_of_one_class_alone_scores_highest_for_it() -> None:
    outputs = torch.full((40, 3), 0.1, dtype=torch.float64)
    outputs[case.Y == 1, 2] = 5.0
    outputs[:, 0] = 1.0
    scores = discrimination(outputs, case.Y)
    assert scores[1].argmax() == 2 and scores[1, 2] > 5 * max(scores[1, 0], scores[0, 2], scores[2, 2])


@pytest.mark.parametrize("shape", [(6, 4), (6,), (6, 2, 3, 3)])
def test_mask_is_by_channel_in_torch_and_onnx_runtime(shape: tuple[int, ...]) -> None:
    w = torch.randn(shape, dtype=torch.float64)
    mask = np.array([1, 0, 1, 1, 0, 1.0])
    expected = w.numpy() * mask.reshape(-1, *[1] * (len(shape) - 1))
    assert np.array_equal(Masked()(w, torch.tensor(mask)).numpy(), expected)
    assert np.array_equal(case.onnx_says(Masked(), (w, mask)), expected)


def digits() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    data = datasets.load_digits()
    x, y = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model, x, y


def test_class_suffers_most() -> None:
    """As the authors report: pruning a class's channels costs that class, and the others far less."""
    model, x, y = digits()
    gone = y == 0
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def accuracy(of: torch.Tensor) -> float:
        return float((model(x[of]).argmax(1) == y[of]).float().mean())

    was = accuracy(gone), accuracy(~gone)
    shown = Pruning(layers=("0",), share=0.2).run(model, Task((x[gone], y[gone]), (x[~gone], y[~gone])))
    lost = was[0] - accuracy(gone), was[1] - accuracy(~gone)
    assert min(was) > 0.9 and lost[0] > 0.5 and lost[1] < 0.1
    (said,) = shown.fields["layers"]  # type: ignore[misc]
    scores, mask = struct.unpack("<128d", shown.attachments[0]), struct.unpack("<128B", shown.attachments[1])
    assert (
        list(mask) == [int(score < said["threshold"]) for score in scores] and mask.count(0) == 26
    )  # a fifth, rounded up
    for name, value in model.state_dict().items():
        expected = before[name].clone()
        if name.startswith("0."):
            expected[[k for k in range(128) if not mask[k]]] = 0
        assert torch.equal(value, expected)


def test_layers_that_cannot_be_pruned_are_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    for layers, why in [
        ((), "names of some layers"),
        (("0", "0"), "each once"),
        (("1",), "expected '1' to be a Linear or Conv1d or Conv2d or Conv3d, got ReLU"),
        (("9",), "got NoneType"),
    ]:
        with pytest.raises(ValueError, match=why):
            Pruning(layers=layers).run(model, case.task())
    with pytest.raises(ValueError, match="a share above 0"):
        Pruning(layers=("0",), share=0).run(model, case.task())
