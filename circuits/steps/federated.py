"""Federated averaging, and what it takes for a client to leave: subtraction of its updates, then repair.

Every round, clients start from W_t and send what their weights moved by, Δ = W − W_t; n is a client's number of records::

    W_{t+1} = W_t + Σ_k n_k/n_t Δ_{t,k},   n_t = Σ_k n_k              McMahan et al. 2017 (arXiv 1602.05629), algorithm 1
    W' = W − Σ_t n_c/n_t Δ_{t,c}                                      "zero": as if c had sent nothing (Wu et al. 2022)
    W' = W − Σ_t (Σ_k n_k/n_t Δ_{t,k} − Σ_{k≠c} n_k/(n_t − n_c) Δ_{t,k})          "renormalised": as if c had not been there

Of one round "renormalised" is retraining without the client, exactly. Of more it is not: the others' later updates started from
weights that c had a part in. Wu et al. 2022 (arXiv 2201.09441) repair that by distillation, the model before as the teacher;
another way is some rounds more with the clients that stayed::

    sent = [Update(client, weight, local_update(model, x, y, rate=0.1)) for client, weight, x, y in clients]
    move(model, average(sent))                          # a round; keep what was sent, on disk if it is much
    move(model, removal(rounds, {3}), scale=-1)         # client 3 leaves
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = dict[str, Tensor]
Weighting = Literal["zero", "renormalised"]


@dataclass(frozen=True, slots=True)
class Update:
    """What a client sent in a round: its weights' movement by name, and its number of records."""

    client: int
    weight: int
    delta: Mapping[str, Tensor]


def state_of(model: nn.Module) -> State:
    """Copies of what is averaged: parameters and buffers of floating point."""
    return {name: value.detach().clone() for name, value in model.state_dict().items() if value.is_floating_point()}


def local_update(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    rate: float,
    epochs: int = 1,
    batch: int | None = None,
    seed: int = 0,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> State:
    """What a client's own training moves the weights by; ``model`` stays as it is. x: (n, …), y: (n, …).

    Plain gradient descent; all n at once where ``batch`` is None.
    """
    local = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(local.parameters(), lr=rate)
    for _ in range(epochs):
        order = torch.arange(len(x)) if batch is None else torch.randperm(len(x), generator=generator)
        for rows in order.split(batch or len(x)):
            optimizer.zero_grad()
            loss(local(x[rows]), y[rows]).backward()
            optimizer.step()
    before, after = state_of(model), state_of(local)
    return {name: after[name] - before[name] for name in before}


def average(updates: Sequence[Update]) -> State:
    """Σ n_k/n Δ_k, in float64. Raises ValueError if there is nothing to average."""
    total = sum(update.weight for update in updates)
    if not updates or total < 1 or any(update.weight < 1 for update in updates):
        raise ValueError("expected updates of one record or more each, got none or less")
    mean: State = {name: torch.zeros(value.shape, dtype=torch.float64) for name, value in updates[0].delta.items()}
    for update in updates:
        for name in mean:
            mean[name] += update.weight / total * update.delta[name].double()
    return mean


def removal(rounds: Iterable[Sequence[Update]], gone: Set[int], weighting: Weighting = "renormalised") -> State:
    """What clients' leaving takes from the weights, in float64; a round is looked at once. Raises ValueError.

    A round in which nobody else sent anything is taken back whole.
    """
    taken: State = {}
    found: set[int] = set()
    for sent in rounds:
        leaving = [update for update in sent if update.client in gone]
        if not leaving:
            continue
        found |= {update.client for update in leaving}
        staying = [update for update in sent if update.client not in gone]
        if weighting == "renormalised" or not staying:
            part = average(sent)
            kept = average(staying) if staying else {}
            part = {name: value - kept[name] if kept else value for name, value in part.items()}
        else:
            share = sum(update.weight for update in leaving) / sum(update.weight for update in sent)
            part = {name: share * value for name, value in average(leaving).items()}
        taken = {name: value + taken[name] if taken else value for name, value in part.items()}
    if missing := set(gone) - found:
        raise ValueError(f"expected updates of the clients that leave, got none of {sorted(missing)[:8]}")
    return taken


def move(model: nn.Module, delta: Mapping[str, Tensor], scale: float = 1.0) -> None:
    """W + scale·Δ, added in float64 and rounded once."""
    with torch.no_grad():
        state = model.state_dict()
        for name, value in delta.items():
            state[name].copy_(state[name].double() + scale * value)


def distil(
    model: nn.Module,
    teacher: nn.Module,
    x: Tensor,
    *,
    steps: int,
    rate: float,
    temperature: float = 3.0,
    batch: int = 64,
    seed: int = 0,
) -> float:
    """Teach ``model`` what ``teacher`` answers on the server's own unlabelled inputs; the last step's loss.

    T² KL(softmax(teacher/T) ‖ softmax(model/T)), Hinton et al. 2015 (arXiv 1503.02531). x: (n, …), outputs are logits.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    last = 0.0
    for _ in range(steps):
        rows = torch.randint(len(x), (min(batch, len(x)),), generator=generator)
        with torch.no_grad():
            wanted = F.log_softmax(teacher(x[rows]) / temperature, dim=-1)  # (b, classes)
        found = F.log_softmax(model(x[rows]) / temperature, dim=-1)  # (b, classes)
        value = temperature**2 * F.kl_div(found, wanted, reduction="batchmean", log_target=True)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        last = value.item()
    return last
