"""What certificates say of each method, and what a verifier can check of that: a module a method.

A method's name is its detail's type: whoever names a method that is here has to bring its detail. Other names, those of users'
own methods, may bring :class:`certify.methods.own.Own` or nothing.

To add a method: a module here with its detail (and, if it needs one, its training's), then the lists below and
``python -m certify.schema``.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from certify.errors import ChainError, StatementError
from certify.methods.ablation import Ablation
from certify.methods.amnesiac import Amnesiac, AmnesiacTraining
from certify.methods.ascent import GradientAscent
from certify.methods.certified_removal import CertifiedRemoval, CertifiedTraining
from certify.methods.data_protection import DataProtection
from certify.methods.deltagrad import DeltaGrad, DeltaGradTraining
from certify.methods.detail import Case, Detail, Trained, TrainingDetail
from certify.methods.dp import DpGuarantee, DpSgdTraining
from certify.methods.federated import Federated, FederatedTraining
from certify.methods.generic_labels import GenericLabels
from certify.methods.gradient_difference import GradientDifference
from certify.methods.newton import Newton
from certify.methods.npo import Npo
from certify.methods.own import Own
from certify.methods.pruning import Pruning
from certify.methods.retrain import Retrain
from certify.methods.scrub import Scrub
from certify.methods.sisa import Sisa, SisaTraining
from certify.methods.unsir import Unsir
from certify.wire import canonical

if TYPE_CHECKING:
    from certify.chain import Chain, Link
    from certify.digest import Manifest
    from certify.statement import Training, Unlearning

AnyTrainingDetail = (
    SisaTraining
    | FederatedTraining
    | CertifiedTraining
    | DpSgdTraining
    | AmnesiacTraining
    | DeltaGradTraining
    | DataProtection
)
AnyDetail = (
    Own
    | GenericLabels
    | Npo
    | DpGuarantee
    | Sisa
    | Federated
    | Newton
    | CertifiedRemoval
    | Ablation
    | GradientAscent
    | GradientDifference
    | Pruning
    | Retrain
    | Scrub
    | Unsir
    | Amnesiac
    | DeltaGrad
)
_DETAILS: tuple[type[Detail], ...] = (
    Own,
    GenericLabels,
    Npo,
    Sisa,
    Federated,
    Newton,
    CertifiedRemoval,
    Ablation,
    GradientAscent,
    GradientDifference,
    Pruning,
    Retrain,
    Scrub,
    Unsir,
    DpGuarantee,
    Amnesiac,
    DeltaGrad,
)
NAMES = frozenset(str(detail.__struct_config__.tag) for detail in _DETAILS if detail is not Own)
"""Methods that have a detail of their own."""


MAX_ATTACHED = 128 << 20
"""Bytes that all details of a case may refer to, counted each time: what is attached is read by Python, number by number."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the details of a case established, and what they do not show."""

    established: tuple[str, ...]
    limits: tuple[str, ...]


def check_named(training_or_certificate: "Training | Unlearning") -> None:
    """A detail and the name of the method agree. Raises StatementError."""
    detail: AnyTrainingDetail | AnyDetail | None = training_or_certificate.detail
    name = (
        training_or_certificate.recipe.name
        if hasattr(training_or_certificate, "recipe")
        else training_or_certificate.method.name
    )
    if detail is not None and not isinstance(detail, Own) and detail.type != name:
        raise StatementError(f"the method is {name[:80]!r}, its detail is of {detail.type}")
    if isinstance(detail, Own) and name in NAMES:
        raise StatementError(f"the method {name} has a detail of its own, another came")


def check(chain: "Chain", manifests: "Mapping[str, Manifest]", attached: Mapping[str, bytes]) -> Found:
    """Step 6, for details: each agrees with the case, and everything attached belongs to one. Raises ChainError."""
    from certify.statement import Request, Training, Unlearning

    limits: list[str] = []
    given = _Given(attached)
    established = _check_training(chain.training, manifests, given)
    training = chain.training.statement.predicate
    assert isinstance(training, Training)
    requests = {link.digest: link.statement.predicate for link in chain.requests}
    earlier: list[Unlearning] = []
    for link in chain.unlearnings:
        certificate = link.statement.predicate
        assert isinstance(certificate, Unlearning)
        detail = certificate.detail
        if detail is None and certificate.method.name in NAMES:
            raise ChainError(
                f"entry {link.index} says it is by {certificate.method.name}, and lacks what that has to show"
            )
        if (utility := certificate.utility) is not None:
            established.append(
                f"entry {link.index}: by the operator's word, {utility.metric} was {utility.before:.4g} before and "
                f"{utility.after:.4g} after, of at least {utility.floor:.4g} that was set"
            )
        if detail is not None:
            answered = [request for digest in certificate.requests if isinstance(request := requests[digest], Request)]
            case = Case(
                link.index,
                training,
                tuple(earlier),
                certificate,
                answered,
                manifests[certificate.pre.tensor_root],
                manifests[certificate.post.tensor_root],
                given.to(link.index, detail),
            )
            with _as_chain_error(link.index):
                established += [f"entry {link.index}: {line}" for line in detail.check(case)]
            if link is chain.case:
                established.append(f"{detail.type} shows {detail.SHOWS}")
                limits.append(f"{detail.type} does not show {detail.DOES_NOT_SHOW}.")
        earlier.append(certificate)
    given.refuse_others()
    return Found(tuple(established), tuple(limits))


def check_training(training: "Link", manifests: "Mapping[str, Manifest]", attached: Mapping[str, bytes]) -> list[str]:
    """The same for the bundle of a training that no certificate follows. Raises ChainError."""
    given = _Given(attached)
    established = _check_training(training, manifests, given)
    given.refuse_others()
    return established


def _check_training(link: "Link", manifests: "Mapping[str, Manifest]", given: "_Given") -> list[str]:
    from certify.statement import Training

    training = link.statement.predicate
    assert isinstance(training, Training)
    if training.detail is None:
        return []
    attached = given.to(link.index, training.detail)
    with _as_chain_error(link.index):
        return training.detail.check(Trained(link.index, training, manifests[training.model.tensor_root], attached))


class _Given:
    """What is attached, handed out to the details that name it."""

    def __init__(self, attached: Mapping[str, bytes]) -> None:
        self._attached = attached
        self._used: set[str] = set()
        self._bytes = 0

    def to(self, index: int, detail: Detail | TrainingDetail) -> dict[str, bytes]:
        """Raises ChainError for what is missing, or too much."""
        missing = [digest for digest in detail.attachments if digest not in self._attached]
        if missing:
            raise ChainError(f"entry {index} refers to {missing[0]}, which is not in the bundle")
        self._used.update(detail.attachments)
        self._bytes += sum(len(self._attached[digest]) for digest in detail.attachments)
        if self._bytes > MAX_ATTACHED:
            raise ChainError(
                f"entry {index} takes what details refer to beyond {MAX_ATTACHED:,} bytes, counted each time: reveal less"
            )
        return {digest: self._attached[digest] for digest in detail.attachments}

    def refuse_others(self) -> None:
        others = sorted(set(self._attached) - self._used)
        if others:
            raise ChainError(f"the bundle has details/{others[0][:16]}…, which belongs to no statement in it")


@contextmanager
def _as_chain_error(index: int) -> Iterator[None]:
    """What a detail's own arithmetic cannot cope with is a reason to refuse it."""
    try:
        yield
    except (ArithmeticError, LookupError, ValueError, struct.error) as error:
        raise ChainError(f"entry {index} has a detail that cannot be worked out: {error!r}"[:500]) from error


def attachments_of(predicates: "Sequence[Training | Unlearning]") -> set[str]:
    """SHA-256 of all that their details refer to."""
    return {
        digest for predicate in predicates if predicate.detail is not None for digest in predicate.detail.attachments
    }


def made(name: str, fields: Mapping[str, Any], kind: Any = AnyDetail) -> Any:
    """The detail of that type with these fields; one of :class:`Own` where the name is nobody's. Raises StatementError."""
    known = kind is not AnyDetail or name in NAMES
    wanted = {"type": name, **fields} if known else {"type": "own/v1", "shown": dict(fields)}
    data = canonical(wanted, what=f"the detail of {name[:80]}", error=StatementError)
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise StatementError(f"not a detail of {name[:80]}: {error}") from error
