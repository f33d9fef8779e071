"""The operator's side of a federation: what clients signed becomes the detail of a training, or of a client's leaving.

::

    with certify.training(model, ledger=ledger, data={name: name for name in keys}, method="federated/v1", seeds=[]) as run:
        …                                                    # rounds: lists of envelopes, from certify.client.sign
        run.detail = trained(run.workspace, keys, rounds)
    request = certify.file_request(ledger, {name: name}, ground="gdpr-17", scope="client")
    with certify.unlearning(model, ledger=ledger, request=request, method="federated/v1", seeds=[]) as run:
        move(model, removal(history, {3}), scale=-1)         # circuits.steps.federated
        run.detail = subtracted(run.workspace, training, [request])
"""

from collections.abc import Mapping, Sequence

from certify import client
from certify.client_index import Index
from certify.envelope import Envelope
from certify.errors import WorkspaceError
from certify.keys import PublicKey
from certify.methods.federated import Federated, FederatedTraining, Leaving
from certify.statement import Request, Training
from certify.workspace import Logged, Workspace


def trained(
    workspace: Workspace, keys: Mapping[str, PublicKey], rounds: Sequence[Sequence[Envelope]]
) -> FederatedTraining:
    """The detail of a training with these clients (key by pseudonym) and what they signed in each round, whatever its order."""
    ordered = [_in_order(sent) for sent in rounds]
    index = Index(
        {name: keys[name] for name in sorted(keys)},
        [{client.update_of(envelope).client: envelope.digest for envelope in sent} for sent in ordered],
    )
    put = workspace.attachments.put
    return FederatedTraining(
        clients=len(keys),
        updates=index.updates,
        index=put("details", index.to_json()),
        signed=[put("details", client.join(sent)) for sent in ordered],
    )


def subtracted(
    workspace: Workspace,
    training: Logged,
    requests: Sequence[Logged],
    *,
    weighting: str = "renormalised",
    repair: Sequence[Sequence[Envelope]] = (),
    distilled: int = 0,
) -> Federated:
    """The detail of an unlearning that took back all that the leaving clients signed; others signed the ``repair``."""
    detail = _detail_of(training)
    index = Index.parse(workspace.attachments.get("details", detail.index))
    leaving = leaving_of(workspace, requests)
    if weighting not in ("zero", "renormalised"):
        raise WorkspaceError(f"no weighting {weighting!r}, expected 'zero' or 'renormalised'")
    return Federated(
        index=detail.index,
        way="subtraction",
        leaving=leaving,
        subtracted=[digest for one in leaving for digest in index.of(one.client)],
        weighting="zero" if weighting == "zero" else "renormalised",
        repair=[workspace.attachments.put("details", client.join(_in_order(sent))) for sent in repair],
        distilled=distilled,
    )


def at_home(
    workspace: Workspace, training: Logged, requests: Sequence[Logged], statements: Sequence[Envelope]
) -> Federated:
    """The detail of an unlearning that the requests' clients did themselves, with what each signed of it."""
    leaving = leaving_of(workspace, requests)
    by_client = {client.unlearning_of(envelope).client: envelope for envelope in statements}
    missing = [one.client for one in leaving if one.client not in by_client]
    if missing:
        raise WorkspaceError(f"client {missing[0]} signed nothing of its unlearning: ask it for its statement")
    signed = client.join([by_client[one.client] for one in leaving])
    return Federated(
        index=_detail_of(training).index,
        way="local",
        leaving=leaving,
        statements=workspace.attachments.put("details", signed),
    )


def leaving_of(workspace: Workspace, requests: Sequence[Logged]) -> list[Leaving]:
    """The clients that requests are about, with the salts that the vault has: opening pseudonyms, and no names."""
    leaving = []
    for request in requests:
        predicate = request.statement.predicate
        if not isinstance(predicate, Request) or predicate.scope != "client":
            raise WorkspaceError(f"entry {request.index} is not a request about a client")
        openings = workspace.vault.openings(predicate.forget.root)
        leaving += [
            Leaving(opening.record_id, opening.salt.hex())
            for opening in sorted(openings, key=lambda opening: opening.position)
        ]
    return leaving


def _in_order(sent: Sequence[Envelope]) -> list[Envelope]:
    return sorted(sent, key=lambda envelope: client.update_of(envelope).client)


def _detail_of(training: Logged) -> FederatedTraining:
    predicate = training.statement.predicate
    if not isinstance(predicate, Training) or not isinstance(predicate.detail, FederatedTraining):
        raise WorkspaceError(f"entry {training.index} is not a training by federated/v1")
    return predicate.detail
