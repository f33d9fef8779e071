"""Federated learning (McMahan et al. 2017) and clients that leave it (Wu et al. 2022) or unlearn something at home.

The training commits to every client's key and to every update that was sent, each signed by its client: an index
(:mod:`certify.client_index`) and a file of envelopes a round (:mod:`certify.client`). The updates themselves, from which data can
be reconstructed, stay with the operator; who is given one can compare its tensor root. A certificate names the clients that leave
by opening the request, and the updates that were subtracted; the verifier sees that these are all that they signed, and nobody
else's::

    {"index":"41…","leaving":[{"client":"9c…","salt":"e0…"}],"repair":["5d…"],"subtracted":["b7…","02…"],"type":"federated/v1",
    "way":"subtraction","weighting":"renormalised"}
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Annotated, Literal, TypeVar

from msgspec import Meta

from certify import client
from certify.client_index import MAX_CLIENTS, MAX_ROUNDS, Index
from certify.dataset import commit_record
from certify.envelope import Envelope
from certify.errors import ChainError, EnvelopeSignatureError, StatementError, UntrustedKeyError
from certify.fields import Count, Digest, Record, Tree
from certify.methods.detail import Case, Detail, Trained, TrainingDetail
from certify.records import record_bytes
from ledger.merkle import leaf_hash, root

MAX_REPAIR = 64

Said = TypeVar("Said", client.ClientUpdate, client.ClientUnlearning)


class FederatedTraining(TrainingDetail, frozen=True, tag="federated/v1"):
    """``updates`` is the root over what all signed, ``index`` the SHA-256 of the index, ``signed`` that of each round's file."""

    clients: Annotated[int, Meta(ge=1, le=MAX_CLIENTS)]
    updates: Tree
    index: Digest
    signed: Annotated[list[Digest], Meta(min_length=1, max_length=MAX_ROUNDS)]

    SHOWS = "which clients took part, and what each signed in which round, before anybody asked to leave"
    DOES_NOT_SHOW = "that the model is the average of what was signed"

    @property
    def attachments(self) -> tuple[str, ...]:
        return (self.index, *self.signed)

    def check(self, trained: Trained) -> list[str]:
        where = f"entry {trained.index}"
        index = _index(where, trained.attached[self.index])
        if (len(index.keys), len(index.rounds), index.updates) != (self.clients, len(self.signed), self.updates):
            raise ChainError(
                f"{where} states {self.clients} clients, {len(self.signed)} rounds and updates {self.updates.root[:16]}, "
                f"its index has {len(index.keys)}, {len(index.rounds)} and {index.updates.root[:16]}"
            )
        training = trained.training
        for number, digest in enumerate(self.signed):
            sent = _round(where, number, trained.attached[digest], index, log=training.log, run=training.run.id)
            if sent != index.rounds[number]:
                raise ChainError(f"{where}: what was signed in round {number} is not what its index names")
        return [
            f"{self.updates.count} updates of {len(self.signed)} rounds are signed by the {self.clients} clients "
            f"that sent them, under keys committed to before any request"
        ]


class Leaving(Record, frozen=True):
    """A client by its pseudonym, and the salt that the request committed to it with."""

    client: Digest
    salt: Digest


class Federated(Detail, frozen=True, tag="federated/v1"):
    """``leaving`` opens the requests, in their order. By ``way``:

    "subtraction": ``subtracted`` names the envelopes of the updates that were taken back, client after client, ``weighting`` how
    (:mod:`circuits.steps.federated`), ``repair`` the files of what the others signed in each round of repair, ``distilled`` the
    steps by which the model before taught the one after.

    "local": ``statements`` is the file of what the clients signed of their unlearning at home, in the order of ``leaving``.
    """

    index: Digest
    way: Literal["subtraction", "local"]
    leaving: Annotated[list[Leaving], Meta(min_length=1, max_length=64)]
    subtracted: Annotated[list[Digest], Meta(max_length=MAX_ROUNDS)] = []
    weighting: Literal["zero", "renormalised"] | None = None
    repair: Annotated[list[Digest], Meta(max_length=MAX_REPAIR)] = []
    distilled: Count = 0
    statements: Digest | None = None

    SHOWS = (
        "whose request it answers, and that what it names as subtracted is all that those clients signed in training and "
        "nobody else's, or that the clients themselves signed that they unlearned at home"
    )
    DOES_NOT_SHOW = (
        "that the weights are what the subtraction gives, that others' updates hold nothing learnt from the client "
        "by way of the weights they started from, what a client did at home, or who holds a client's key"
    )

    @property
    def attachments(self) -> tuple[str, ...]:
        return (self.index, *self.repair, *([self.statements] if self.statements else []))

    def check(self, case: Case) -> list[str]:
        where = f"entry {case.index}"
        training = case.training.detail
        if not isinstance(training, FederatedTraining):
            raise ChainError(f"{where} is by federated/v1, its training committed to no clients")
        if self.index != training.index:
            raise ChainError(
                f"{where} goes by the clients' index {self.index[:16]}, the training by {training.index[:16]}"
            )
        index = _index(where, case.attached[self.index])
        names = [one.client for one in self.leaving]
        self._check_requests(where, case, index)
        left = {
            one.client
            for certificate in case.earlier
            if isinstance(certificate.detail, Federated) and certificate.detail.way == "subtraction"
            for one in certificate.detail.leaving
        }
        if again := sorted(left & set(names)):
            raise ChainError(f"{where} is about client {again[0][:16]}, which had left before")
        if self.way == "local":
            return self._check_local(where, case, index)
        return self._check_subtraction(where, case, index, left | set(names))

    def _check_requests(self, where: str, case: Case, index: Index) -> None:
        """The requests are about these clients, and each took part."""
        names = [one.client for one in self.leaving]
        if len(set(names)) != len(names):
            raise ChainError(f"{where} names a client twice")
        for name in names:
            if name not in index.keys:
                raise ChainError(f"{where} is about client {name[:16]}, which is none of the training's")
        at = 0
        for request in case.requests:
            if request.scope != "client":
                raise ChainError(f"{where} answers a request about {request.scope}, expected one about a client")
            part = self.leaving[at : at + request.forget.count]
            leaves = [leaf_hash(commit_record(record_bytes(one.client), bytes.fromhex(one.salt))) for one in part]
            if len(part) != request.forget.count or root(leaves).hex() != request.forget.root:
                raise ChainError(f"{where}: the request is about other clients than {', '.join(n[:16] for n in names)}")
            at += len(part)
        if at != len(self.leaving):
            raise ChainError(f"{where} names {len(self.leaving)} clients, its requests are about {at}")

    def _check_subtraction(self, where: str, case: Case, index: Index, gone: set[str]) -> list[str]:
        if self.statements is not None or self.weighting is None:
            raise ChainError(f"{where} subtracts: expected a weighting, and no statements of unlearning at home")
        wanted = [digest for one in self.leaving for digest in index.of(one.client)]
        for digest in self.subtracted:
            if digest not in wanted:
                raise ChainError(f"{where} subtracts update {digest[:16]}, which the leaving clients did not sign")
        if self.subtracted != wanted:
            raise ChainError(
                f"{where} subtracts {len(self.subtracted)} updates, the leaving clients signed {len(wanted)}: "
                f"expected each once, in the index's order"
            )
        lines = [
            f"the {len(wanted)} updates it names as subtracted are all that the leaving signed in training, "
            f"{len(self.leaving)} of {len(index.keys)} clients; by the operator's word they were taken back ({self.weighting})"
        ]
        helpers: set[str] = set()
        for number, digest in enumerate(self.repair):
            log, run = case.certificate.log, case.certificate.run.id
            helpers |= set(_round(where, number, case.attached[digest], index, log=log, run=run))
        if taught := sorted(helpers & gone):
            raise ChainError(f"{where} is repaired with an update of client {taught[0][:16]}, which has left")
        if helpers:
            lines.append(
                f"{len(self.repair)} rounds of repair are signed by {len(helpers)} clients, none of which left"
            )
        if self.distilled:
            lines.append(
                f"by the operator's word, the model before taught the one after for {self.distilled} steps: it had learnt "
                f"from the leaving clients"
            )
        return lines

    def _check_local(self, where: str, case: Case, index: Index) -> list[str]:
        if self.subtracted or self.repair or self.distilled or self.weighting or self.statements is None:
            raise ChainError(f"{where} was unlearned by clients at home: expected their statements and nothing else")
        envelopes = _envelopes(where, case.attached[self.statements])
        if len(envelopes) != len(self.leaving):
            raise ChainError(f"{where} has {len(envelopes)} clients' statements, expected {len(self.leaving)}")
        requests = iter(case.certificate.requests)
        left, request = 0, ""
        about = iter(case.requests)
        lines = []
        for one, envelope in zip(self.leaving, envelopes, strict=True):
            if not left:
                left, request = next(about).forget.count, next(requests)
            left -= 1
            said = _said(where, envelope, client.unlearning_of)
            _check_signed(where, envelope, said.client, index)
            found = (said.log, said.run, said.client, said.request, said.start)
            certificate = case.certificate
            if found != (certificate.log, certificate.run.id, one.client, request, certificate.pre.tensor_root):
                raise ChainError(f"{where}: a client's statement is of another run, client, request or model before")
            lines.append(
                f"client {one.client[:16]} signed, under the key that the training committed to, that it unlearned "
                f"{said.records} of its records at home by {said.method}"
            )
        return lines


def _index(where: str, data: bytes) -> Index:
    try:
        return Index.parse(data)
    except StatementError as error:
        raise ChainError(f"{where}: {error}") from error


def _envelopes(where: str, data: bytes) -> list[Envelope]:
    try:
        return client.split(data, most=MAX_CLIENTS)
    except StatementError as error:
        raise ChainError(f"{where}: {error}") from error


def _round(where: str, number: int, data: bytes, index: Index, *, log: str, run: str) -> dict[str, str]:
    """Sender and SHA-256 of what each signed in a round, all from one model. Raises ChainError."""
    sent: dict[str, str] = {}
    starts: set[str] = set()
    for envelope in _envelopes(where, data):
        said = _said(where, envelope, client.update_of)
        _check_signed(where, envelope, said.client, index)
        if (said.log, said.run, said.round) != (log, run, number):
            raise ChainError(
                f"{where}: client {said.client[:16]} signed for round {said.round} of run {said.run[:16]}, expected round "
                f"{number} of {run[:16]}"
            )
        if sent and said.client <= list(sent)[-1]:
            raise ChainError(f"{where}: clients of round {number} are not in order, or one is there twice")
        sent[said.client] = sha256(envelope.data).hexdigest()
        starts.add(said.start)
    if len(starts) > 1:
        raise ChainError(f"{where}: clients of round {number} started from {len(starts)} different models")
    return sent


def _said(where: str, envelope: Envelope, read: Callable[[Envelope], Said]) -> Said:
    try:
        return read(envelope)
    except StatementError as error:
        raise ChainError(f"{where}: {error}") from error


def _check_signed(where: str, envelope: Envelope, name: str, index: Index) -> None:
    key = index.keys.get(name)
    if key is None:
        raise ChainError(f"{where}: client {name[:16]} signed, which is none of the training's")
    try:
        envelope.verify([key])
    except (EnvelopeSignatureError, UntrustedKeyError) as error:
        raise ChainError(f"{where}: what client {name[:16]} sent is not signed by its key: {error}") from error
