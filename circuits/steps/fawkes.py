"""Cloaking, as Fawkes does it (Shan et al. 2020, arXiv 2002.08327): images are changed a little before anybody trains on them.

Each image moves, in the features of some network Φ, towards images of another class, and looks the same; a model that learns from
such images learns the wrong features, and does worse on images as they are::

    min_δ ‖Φ(x_T) − Φ(x + δ)‖² + λ max(0, DSSIM(x, x + δ) − ρ),      |δ| ≤ limit, 0 ≤ x + δ ≤ 1

x_T is an image of the class that is farthest from x's own by the mean of its features. What is over budget in the end is drawn
back towards x, so that both bounds hold. It is preventive: no model forgets anything by it, and one that was not fooled stays so
(Radiya-Dixit et al. 2022, arXiv 2106.14851)::

    cloaked = Fawkes(limit=0.2, budget=0.05).cloak(features, x, y, own={3})        # x: (n, 1, h, w) in 0..1
"""

from collections.abc import Set
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WINDOW = 5


def dssim(a: Tensor, b: Tensor, window: int = WINDOW) -> Tensor:
    """(1 − SSIM)/2 of images in 0..1, (n, 1, h, w) each -> (n,)

    SSIM: Wang et al. 2004, equation 13, over uniform windows that lie inside the image.
    """
    mean_a, mean_b = F.avg_pool2d(a, window, 1), F.avg_pool2d(b, window, 1)  # (n, 1, h', w')
    var_a = F.avg_pool2d(a * a, window, 1) - mean_a**2
    var_b = F.avg_pool2d(b * b, window, 1) - mean_b**2
    both = F.avg_pool2d(a * b, window, 1) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    ssim = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return (1 - ssim.flatten(1).mean(1)) / 2


@dataclass(frozen=True)
class Fawkes:
    """``limit`` bounds each pixel's change, ``budget`` is ρ, ``penalty`` λ; ``steps`` of Adam at ``rate``."""

    name: ClassVar[str] = "fawkes/v1"
    limit: float = 0.2
    budget: float = 0.05
    penalty: float = 100.0
    rate: float = 0.05
    steps: int = 60
    seed: int = 0

    def cloak(self, features: nn.Module, x: Tensor, y: Tensor, own: Set[int]) -> Tensor:
        """x with the images of the classes ``own`` cloaked. ``features``: (n, 1, h, w) -> (n, f). x: (n, 1, h, w), y: (n,)"""
        classes = sorted(set(y.tolist()))
        if not 0 < self.limit <= 1 or not 0 < self.budget < 1 or len(classes) < 2:
            raise ValueError(
                f"expected bounds in 0 to 1 and two classes or more, got {self.limit}, {self.budget} and {classes}"
            )
        with torch.no_grad():
            found = features(x)  # (n, f)
            means = torch.stack([found[y == one].mean(0) for one in classes])  # (c, f)
        generator = torch.Generator().manual_seed(self.seed)
        cloaked = x.clone()
        for one in sorted(own & set(classes)):
            mine = y == one
            far = classes[int((means - means[classes.index(one)]).norm(dim=1).argmax())]
            others = found[y == far]
            chosen = torch.randint(len(others), (int(mine.sum()),), generator=generator)
            cloaked[mine] = self._towards(features, x[mine], others[chosen])
        return cloaked

    def _towards(self, features: nn.Module, x: Tensor, wanted: Tensor) -> Tensor:
        """(m, 1, h, w), (m, f) -> (m, 1, h, w)"""
        delta = torch.zeros_like(x, requires_grad=True)
        optimizer = torch.optim.Adam([delta], lr=self.rate)
        for _ in range(self.steps):
            moved = (x + delta).clamp(0, 1)
            over = torch.relu(dssim(x, moved) - self.budget)  # (m,)
            loss = ((features(moved) - wanted) ** 2).sum(1) + self.penalty * over  # (m,)
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            with torch.no_grad():
                delta.clamp_(-self.limit, self.limit)
        return self._within(x, delta.detach())

    def _within(self, x: Tensor, delta: Tensor) -> Tensor:
        """The most of each δ that keeps to both bounds, by bisection."""
        least, most = torch.zeros(len(x), 1, 1, 1), torch.ones(len(x), 1, 1, 1)
        if bool((dssim(x, (x + delta).clamp(0, 1)) <= self.budget).all()):
            return (x + delta).clamp(0, 1)
        for _ in range(20):
            middle = (least + most) / 2
            fits = (dssim(x, (x + middle * delta).clamp(0, 1)) <= self.budget)[:, None, None, None]
            least, most = torch.where(fits, middle, least), torch.where(fits, most, middle)
        return (x + least * delta).clamp(0, 1)
