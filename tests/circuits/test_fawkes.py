"""Cloaking: the bounds hold, structural similarity is scipy's, and models do what the paper says."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from scipy.ndimage import uniform_filter  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402

from circuits.steps.fawkes import WINDOW, Fawkes, dssim  # noqa: E402

torch.set_num_threads(1)
DIGITS = load_digits()
X = torch.tensor(DIGITS.images / 16, dtype=torch.float32)[:, None]  # (1797, 1, 8, 8)
Y = torch.tensor(DIGITS.target)
TRAIN, TEST, PUBLIC = slice(0, 600), slice(600, 1000), slice(1000, 1797)
OWN = 3


@pytest.fixture(scope="module")
def features() -> torch.nn.Module:
    """Of a network that was trained on other images."""
    torch.manual_seed(0)
    inner = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.Tanh())
    model = torch.nn.Sequential(inner, torch.nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(80):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(X[PUBLIC]), Y[PUBLIC]).backward()
        optimizer.step()
    return inner.requires_grad_(False)


@pytest.fixture(scope="module")
def cloaked(features: torch.nn.Module) -> torch.Tensor:
    return Fawkes(limit=0.5, budget=0.2).cloak(features, X[TRAIN], Y[TRAIN], own={OWN})


def by_scipy(a: np.ndarray, b: np.ndarray) -> float:
    def mean(image: np.ndarray) -> np.ndarray:
        edge = WINDOW // 2
        return uniform_filter(image.astype(np.float64), WINDOW)[edge:-edge, edge:-edge]

    ma, mb = mean(a), mean(b)
    va, vb, ab = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    ssim = (2 * ma * mb + 1e-4) * (2 * ab + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
    return float((1 - ssim.mean()) / 2)


def test_structural_dissimilarity_is_that_of_scipy() -> None:
    a, b = X[:20].double(), X[20:40].double()
    wanted = [by_scipy(one[0].numpy(), other[0].numpy()) for one, other in zip(a, b, strict=True)]
    assert np.allclose(dssim(a, b).numpy(), wanted, atol=1e-9)
    assert float(dssim(a, a).abs().max()) < 1e-12


@pytest.mark.parametrize(("limit", "budget"), [(0.5, 0.2), (0.1, 0.2), (0.5, 0.01)])
def test_bounds_hold_for_every_image(features: torch.nn.Module, limit: float, budget: float) -> None:
    x, y = X[:120], Y[:120]
    found = Fawkes(limit=limit, budget=budget, steps=15).cloak(features, x, y, own={OWN, 5})
    mine = (y == OWN) | (y == 5)
    assert torch.equal(found[~mine], x[~mine])
    assert not torch.equal(found[mine], x[mine])
    assert float((found - x).abs().max()) <= limit + 1e-6
    assert float(dssim(x, found).max()) <= budget + 1e-6
    assert float(found.min()) >= 0 and float(found.max()) <= 1


def test_features_move_to_another_class_and_images_hardly(features: torch.nn.Module, cloaked: torch.Tensor) -> None:
    """What cloaking is to do: Shan et al. 2020, their section on computing cloaks."""
    x, y = X[TRAIN], Y[TRAIN]
    means = torch.stack([features(x[y == one]).mean(0) for one in range(10)])
    target = int((means - means[OWN]).norm(dim=1).argmax())
    before, after = features(x[y == OWN]), features(cloaked[y == OWN])
    to_own = [(part - means[OWN]).norm(dim=1).mean() for part in (before, after)]
    to_target = [(part - means[target]).norm(dim=1).mean() for part in (before, after)]
    assert to_target[1] < 0.6 * to_target[0] and to_target[1] < to_own[1]


def test_model_that_learns_from_cloaked_images_fails_on_plain_ones(
    features: torch.nn.Module, cloaked: torch.Tensor
) -> None:
    """Shan et al. 2020: a tracker on the same features. The other classes are as well known as before."""
    right = []
    for learnt in (X[TRAIN], cloaked):
        tracker = LogisticRegression(max_iter=500).fit(features(learnt).numpy(), Y[TRAIN].numpy())
        found = tracker.predict(features(X[TEST]).numpy())
        wanted = Y[TEST].numpy()
        right.append([(found == wanted)[part].mean() for part in (wanted == OWN, wanted != OWN)])
    assert right[0][0] > 0.8 and right[1][0] < 0.4
    assert right[1][1] > right[0][1] - 0.1


def test_same_seed_same_cloak(features: torch.nn.Module) -> None:
    step = Fawkes(steps=3)
    assert torch.equal(*(step.cloak(features, X[:60], Y[:60], own={OWN}) for _ in range(2)))


def test_bounds_that_bound_nothing_are_refused(features: torch.nn.Module) -> None:
    for step in (Fawkes(limit=0), Fawkes(limit=1.5), Fawkes(budget=0), Fawkes(budget=1)):
        with pytest.raises(ValueError, match="expected bounds in 0 to 1"):
            step.cloak(features, X[:60], Y[:60], own={OWN})
