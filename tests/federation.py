"""A small federation: three clinics, two rounds of a linear model, each update signed by its clinic."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

import certify
from certify.client import ClientUnlearning, ClientUpdate, pseudonym, sign
from certify.envelope import Envelope
from certify.federation import subtracted, trained
from certify.hooks.torch import HookRun
from certify.keys import SigningKey
from certify.methods.federated import Federated
from certify.state_dict import digest_state_dict
from certify.workspace import Logged, Workspace
from circuits.steps.federated import Update, average, local_update, move, removal

torch.set_num_threads(1)
NAMES = [pseudonym(f"clinic {number}", bytes([number]) * 32) for number in range(3)]
KEYS = {name: SigningKey.generate("ed25519" if number else "ecdsa-p256") for number, name in enumerate(NAMES)}
PUBLIC = {name: key.public for name, key in KEYS.items()}
GENERATOR = torch.Generator().manual_seed(3)
X = [torch.randn(6 + 2 * number, 4, generator=GENERATOR) for number in range(3)]
Y = [x @ torch.tensor([[1.0], [-2.0], [0.5], [0.0]]) for x in X]


def root_of(state: Any) -> str:
    return digest_state_dict(state).root().hex()


def a_round(
    model: torch.nn.Module, log: str, run: str, number: int, who: list[int]
) -> tuple[list[Update], list[Envelope]]:
    """What these clinics send, and sign."""
    updates, signed = [], []
    for one in who:
        delta = local_update(model, X[one], Y[one], rate=0.1, loss=F.mse_loss)
        said = ClientUpdate(log, run, NAMES[one], number, root_of(model), root_of(delta), len(X[one]))
        updates.append(Update(one, len(X[one]), delta))
        signed.append(sign(said, KEYS[NAMES[one]]))
    return updates, signed


@dataclass
class Federation:
    workspace: Workspace
    model: torch.nn.Module
    training: Logged
    history: list[list[Update]]
    rounds: list[list[Envelope]] = field(default_factory=list)


def federation(workspace: Workspace, count: int = 2, detail: Any = None) -> Federation:
    """Trained and logged. ``detail``: makes another detail from the rounds than it should be."""
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    history: list[list[Update]] = []
    rounds: list[list[Envelope]] = []
    data = {name: name for name in NAMES}
    with certify.training(model, ledger=workspace, data=data, method="federated/v1", seeds=[]) as run:
        for number in range(count):
            updates, signed = a_round(model, workspace.origin, run.id, number, [0, 1, 2])
            move(model, average(updates))
            history.append(updates)
            rounds.append(signed)
        run.detail = (detail or (lambda rounds, run: trained(workspace, PUBLIC, rounds)))(rounds, run)
    assert run.certificate is not None
    return Federation(workspace, model, run.certificate, history, rounds)


def ask(made: Federation, who: int = 2) -> Logged:
    return certify.file_request(made.workspace, {NAMES[who]: NAMES[who]}, ground="gdpr-17", scope="client")


def leave(
    made: Federation,
    request: Logged,
    *,
    who: frozenset[int] = frozenset({2}),
    change: Any = lambda detail: detail,
    repair: int = 0,
) -> HookRun:
    """A clinic leaves. ``change``: what becomes of an honest detail."""
    others = [number for number in range(3) if number not in who]
    method = "federated/v1"
    with certify.unlearning(made.model, ledger=made.workspace, request=request, method=method, seeds=[]) as run:
        move(made.model, removal(made.history, who), scale=-1)
        repairs = []
        for number in range(repair):
            updates, signed = a_round(made.model, made.workspace.origin, run.id, number, others)
            move(made.model, average(updates))
            repairs.append(signed)
        run.detail = change(subtracted(made.workspace, made.training, [request], repair=repairs))
    return run


def at_home_statement(made: Federation, run: HookRun, request: Logged, key: SigningKey, other: Any = None) -> Envelope:
    """What clinic 2 signs of its unlearning at home."""
    fields = {
        "log": made.workspace.origin,
        "run": run.id,
        "client": NAMES[2],
        "request": request.digest,
        "start": root_of(made.model),
        "update": "ab" * 32,
        "method": "retrain",
        "records": 3,
    }
    return sign(ClientUnlearning(**{**fields, **(other or {})}), key)


def detail_of(run: HookRun) -> Federated:
    assert run.certificate is not None
    detail = run.certificate.statement.predicate.detail
    assert isinstance(detail, Federated)
    return detail


def written(run: HookRun, folder: Path) -> bytes:
    return run.bundle(folder / "case.bundle").read_bytes()
