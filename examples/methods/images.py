"""What several examples share: an archive with a ledger, scikit-learn's images of handwritten digits, and a small network."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent))

from patients import Records, accuracy
from telling import say

import certify

SEED = 7
Figures = Callable[[nn.Module], dict[str, float]]


class Images:
    """1,400 images to learn from (400 when quick) and the rest to test with: 64 shades from 0 to 1, and a digit."""

    def __init__(self, quick: bool) -> None:
        data = load_digits()
        rows, others = train_test_split(
            range(len(data.data)), train_size=400 if quick else 1400, random_state=SEED, stratify=data.target
        )
        x, y = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
        self.x, self.y = x[rows], y[rows]
        self.test: Records = x[others], y[others]
        self.records = {
            f"image-{row:04d}": {"pixels": data.data[row].astype(int).tolist(), "digit": int(data.target[row])}
            for row in rows
        }

    def of(self, digit: int) -> list[int]:
        """Places of all images of a digit."""
        return [place for place, shown in enumerate(self.y.tolist()) if shown == digit]

    def parted(self, gone: Sequence[int]) -> tuple[Records, Records]:
        """Records to forget, and those to retain."""
        rest = sorted(set(range(len(self.x))) - set(gone))
        return (self.x[list(gone)], self.y[list(gone)]), (self.x[rest], self.y[rest])

    def figures(self, forget: Records, retain: Records, without: int | None = None) -> Figures:
        """Accuracies of a model; those of the test set without the images of a forgotten digit."""
        kept = torch.ones(len(self.test[1]), dtype=torch.bool) if without is None else self.test[1] != without
        test = self.test[0][kept], self.test[1][kept]
        named = (("retain accuracy", retain), ("forget accuracy", forget), ("test accuracy", test))
        return lambda model: {name: accuracy(model, records) for name, records in named}


def network() -> nn.Module:
    torch.manual_seed(SEED)
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def fit(model: nn.Module, records: Records, rounds: int = 100) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(rounds):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(records[0]), records[1]).backward()
        optimizer.step()


def retrained(
    build: Callable[[], nn.Module], fit: Callable[[nn.Module, Records], None], retain: Records, figures: Figures
) -> dict[str, float]:
    """Figures of a model that never saw what is forgotten, for comparison, and the seconds that it took."""
    began, model = time.perf_counter(), build()
    fit(model, retain)
    seconds = time.perf_counter() - began
    return {f"retrained {name}": value for name, value in figures(model).items()} | {"retraining seconds": seconds}


def compared(before: dict[str, float], after: dict[str, float]) -> list[str]:
    """A line for each accuracy, before, after, and of a retrained model where there is one."""
    lines = []
    for name, was in before.items():
        anew = f", {after[f'retrained {name}']:.1%} retrained" if f"retrained {name}" in after else ""
        lines.append(f"{name}: {was:.1%} before, {after[name]:.1%} after{anew}")
    return lines


def learnt(ledger: certify.Workspace, images: Images, figures: Figures) -> tuple[nn.Module, dict[str, float]]:
    """A network that has learnt the images, logged as it was, and its figures."""
    model = network()
    with certify.training(model, ledger=ledger, data=images.records, method="adam", seeds=[SEED]) as training:
        fit(model, (images.x, images.y))
        training.metrics.update(figures(model))
    say(f"{training.metrics['test accuracy']:.1%} right on {len(images.test[0])} images that it has not seen")
    return model, training.metrics


def twenty(images: Images) -> list[int]:
    """Places of twenty images, from all over."""
    return list(range(0, len(images.x), len(images.x) // 20))[:20]
