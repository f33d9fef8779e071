"""DP-SGD (Abadi et al. 2016, arXiv 1607.00133) by Opacus: training whose weights tell little of any one record.

    W ← W − rate/b (Σ_{i in batch} g_i min(1, C/‖g_i‖) + N(0, σ²C² I)),     each record in the batch with probability q

b is the expected number of records in a batch, q n. The noise is seeded by the operating system, and the seed is kept nowhere:
whoever could draw the noise again could take it off::

    spent = train(model, x, y, noise=4.0, clipping=1.0, rate=0.5, batch=32, epochs=10)
    spent.steps, spent.sampling_rate, spent.reported(1e-5)
"""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Spent:
    """What was accounted for: one kind of step, ``steps`` times."""

    noise_multiplier: float
    sampling_rate: float
    steps: int
    clipping: float
    accountant: str
    reported: Callable[[float], float]
    """ε at a δ, as the accountant has it."""


def train(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    noise: float,
    clipping: float,
    rate: float,
    batch: int,
    epochs: int,
    loss: nn.Module | None = None,
    progress: Callable[[float], None] = lambda done: None,
) -> Spent:
    """Train ``model`` in place. x: (n, …), y: (n, …). ``noise``: σ over ``clipping``. ``loss``: a mean over records.

    Raises ImportError without Opacus, and ValueError for a model whose gradients it cannot tell apart by record (batch norm).
    """
    try:
        import opacus  # type: ignore[import-untyped, unused-ignore]
        from opacus.validators import ModuleValidator  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise ImportError("expected the package opacus: pip install 'unlearning-ledger[dp]'") from error
    if found := ModuleValidator.validate(model, strict=False):
        raise ValueError(f"expected a model that Opacus takes, got: {found[0]}")
    criterion = loss or nn.CrossEntropyLoss()
    generator = torch.Generator().manual_seed(int.from_bytes(os.urandom(7)))
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=batch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's hooks, and that the generator is not a cryptographic one
        engine = opacus.PrivacyEngine(accountant="rdp")
        private, optimizer, loader = engine.make_private(
            module=model.train(),
            optimizer=torch.optim.SGD(model.parameters(), lr=rate),
            data_loader=data,
            noise_multiplier=noise,
            max_grad_norm=clipping,
            noise_generator=generator,
        )
        for epoch in range(epochs):
            for part, wanted in loader:
                optimizer.zero_grad()
                criterion(private(part), wanted).backward()
                optimizer.step()
            progress((epoch + 1) / epochs)
    _release(private)
    (used, sampling_rate, steps) = engine.accountant.history[0]
    return Spent(
        noise_multiplier=float(used),
        sampling_rate=float(sampling_rate),
        steps=int(steps),
        clipping=clipping,
        accountant=f"opacus {opacus.__version__} rdp",
        reported=lambda delta: float(engine.get_epsilon(delta)),
    )


def _release(private: Any) -> None:
    """Take Opacus' hooks and per-record gradients off the model again."""
    private.remove_hooks()
    for parameter in private.parameters():
        parameter.grad = None
        for name in ("grad_sample", "summed_grad"):
            if hasattr(parameter, name):
                delattr(parameter, name)
