"""Statements: in-toto Statement v1 with this project's predicates, as RFC 8785 canonical JSON.

A payload is parsed strictly: unknown, missing and duplicate fields, other spellings and other orders are refused, by decoding
into the records below and requiring that these, written out, give the bytes received. JSON Schemas are in certify/schemas.

>>> PREFIX + "training/v1"
'urn:unlearning-ledger:training/v1'
"""

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from certify.audit.verdict import Outcome
from certify.audit_probes import NAMES, Also, Probe, check_found, check_planned
from certify.audit_terms import Figures, Line, Recipe, Rules
from certify.errors import StatementError
from certify.fields import (
    MAX_INTEGER,
    Base64,
    Commit,
    Count,
    Decimal,
    Digest,
    Label,
    Origin,
    Record,
    RunId,
    Scalar,
    Text,
    Time,
)
from certify.fields import Tree as Tree
from certify.methods import AnyDetail, AnyTrainingDetail, check_named
from certify.times import parse_time
from certify.wire import canonical, check_depth, is_canonical
from certify.zk import CircuitDescription, Commitments, Evidence

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREFIX = "urn:unlearning-ledger:"
MAX_PAYLOAD_SIZE = 65_535

TENSOR_ROOT = "tensor-root/v1"
"""Name of the subject whose sha256 is a tensor root."""
OMS_ROOT = "oms-root/v1"
"""Name of the subject whose sha256 is an OpenSSF model-signing root."""
FORGET_ROOT = "forget-root/v1"
PUBLIC_KEY = "public-key/v1"
CIRCUIT = "circuit/v1"
"""Name of the subject whose sha256 is a circuit description's."""
MAX_STALE_DAYS = 3660
MAX_REMARKS = 24
MAX_DESTROYED = 256

Parameters = dict[Label, Scalar | list[Scalar]]

Scope = Literal["records", "subject", "class", "concept", "client"]


class DigestSet(Record, frozen=True):
    """in-toto's digest set, of one digest."""

    sha256: Digest


class Subject(Record, frozen=True):
    """Something that a statement is about, found by its digest."""

    name: Label
    digest: DigestSet

    @property
    def sha256(self) -> str:
        return self.digest.sha256


class Model(Record, frozen=True):
    """A model's weights: tensor root v1, the number of its tensors and their bytes."""

    tensor_root: Digest
    tensors: Count
    bytes: Decimal


class Code(Record, frozen=True):
    """The git commit that ran; ``modified`` if the working tree differed from it."""

    commit: Commit
    modified: bool


class Environment(Record, frozen=True):
    """What may affect the bits of a result: versions, threads, determinism flags, device, code."""

    python: Label
    platform: Label
    libraries: dict[Label, Label]
    threads: Count
    device: Label
    settings: dict[Label, Text]
    code: Code | None = None


class Run(Record, frozen=True):
    """One execution. ``started`` and ``finished`` are the operator's clock."""

    id: RunId
    started: Time
    finished: Time


class Method(Record, frozen=True):
    """How weights came about: the name of a recipe or unlearning method, its parameters and its seeds.

    ``recipe`` is the SHA-256 of a Python file that does it again (:mod:`certify.replay`).
    """

    name: Label
    parameters: Parameters = {}
    seeds: list[Decimal] = []
    recipe: Digest | None = None


class Base(Record, frozen=True):
    """A model that training started from, by its tensor root; ``licence`` as whoever trained on it understands it.

    ``statement`` is the SHA-256 of the envelope with which its maker certified or logged it, in the log of origin ``log``
    (:mod:`certify.upstream`).
    """

    name: Label
    digest: Digest
    licence: Label | None = None
    statement: Digest | None = None
    log: Origin | None = None


class Training(Record, frozen=True):
    """``training/v1``: what a model was trained on and how, logged before anybody asks to be forgotten.

    ``log``, here and in the others, is the origin of the log that the statement is made for: it counts in no other.
    ``batches`` is a root over the batches that each record was in (:mod:`certify.provenance`).
    """

    log: Origin
    run: Run
    dataset: Tree
    model: Model
    recipe: Method
    environment: Environment
    base: list[Base] = []
    metrics: dict[Label, float] = {}
    zk: Commitments | None = None
    detail: AnyTrainingDetail | None = None
    batches: Digest | None = None


class Utility(Record, frozen=True):
    """What must not be forgotten: a figure before and after, and the least that it may be after, set by the operator."""

    metric: Label
    before: float
    after: float
    floor: float


class Request(Record, frozen=True):
    """``request/v1``: what must be forgotten, as a commitment that only its opening links to anybody."""

    log: Origin
    scope: Scope
    forget: Tree
    ground: Label
    received: Time
    due: Time
    zk: Commitments | None = None


class Changes(Record, frozen=True):
    """How many tensors differ between the models before and after."""

    changed: Count
    unchanged: Count
    added: Count
    removed: Count


class Unlearning(Record, frozen=True):
    """``unlearning/v1``, the certificate: these weights came from those by this method, to answer these requests.

    ``parent`` is the statement (training or unlearning) whose model was the starting point, ``requests`` those answered, each
    by the SHA-256 of its envelope. ``removed`` and ``retained`` are trees over the leaves of the *training* dataset, in its
    order; both are absent when the scope isn't records.
    """

    log: Origin
    run: Run
    parent: Digest
    requests: Annotated[list[Digest], Meta(min_length=1)]
    pre: Model
    post: Model
    changes: Changes
    method: Method
    environment: Environment
    removed: Tree | None = None
    retained: Tree | None = None
    metrics: dict[Label, float] = {}
    evidence: Evidence | None = None
    detail: AnyDetail | None = None
    utility: Utility | None = None


class KeyRecord(Record, frozen=True):
    """A statement key and the time in which it may sign."""

    keyid: Digest
    algorithm: Literal["ecdsa-p256", "ed25519", "ml-dsa-65"]
    spki: Base64
    not_before: Time
    not_after: Time | None = None


class KeyChange(Record, frozen=True):
    """``key/v1``: a key hands over to ``successor`` (signed by both) or is revoked (signed by itself)."""

    log: Origin
    action: Literal["rotate", "revoke"]
    keyid: Digest
    effective: Time
    successor: KeyRecord | None = None
    reason: Literal["scheduled", "superseded", "compromised", "retired"] = "scheduled"


class Circuit(Record, frozen=True):
    """``circuit/v1``: whoever signs has built this circuit from its description, and got these keys."""

    log: Origin
    circuit: CircuitDescription
    built: Time


class AuditData(Record, frozen=True):
    """What an attack is made with. ``forget`` is the certificate's removed set, or the request's tree where it has none.

    ``training`` and ``forget`` are roots that the log knows; ``held_out`` is the auditor's own tree over salted records.
    """

    training: Tree
    forget: Tree
    held_out: Tree


class AuditPlan(Record, frozen=True):
    """``audit-plan/v1``: how a certificate will be attacked and judged, logged by the auditor before anybody knows how it ends.

    ``original`` is the certificate's model before, the positive control, and ``model`` the one after. ``adapter`` is the SHA-256
    of the file that says what model and data are. ``previous`` is the auditor's statement before this one about the same
    certificate, of any kind: the first plan has none. ``also`` are the probes beside the verdict (:mod:`certify.audit_probes`).
    """

    log: Origin
    certificate: Digest
    original: Model
    model: Model
    attack: Literal["three-arm-lira/v1"]
    rules: Rules
    recipe: Recipe
    data: AuditData
    adapter: Digest
    stale_after_days: Annotated[int, Meta(ge=1, le=MAX_STALE_DAYS)]
    untested: Annotated[list[Line], Meta(min_length=1, max_length=MAX_REMARKS // 2)]
    planned: Time
    previous: Digest | None = None
    also: Annotated[list[Also], Meta(max_length=len(NAMES))] = []


class Audit(Record, frozen=True):
    """``audit/v1``: an attempt at a plan. Logged as it starts, and again as it ends, however it ends.

    ``certificate``, ``original``, ``model``, ``data`` and ``seed`` are what the attack was made on and with, as it was found, not
    copied from the plan. ``previous`` is the auditor's statement before this one about the same certificate: plan, start, end,
    start, end, … are one chain. ``scores`` is the SHA-256 of all scores, which the auditor keeps. Figures and verdict are there
    when the state is finished, ``reason`` when it is interrupted or failed.
    """

    log: Origin
    run: Run
    plan: Digest
    certificate: Digest
    original: Model
    model: Model
    data: AuditData
    adapter: Digest
    seed: Line
    attempt: Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
    state: Literal["started", "finished", "interrupted", "failed"]
    previous: Digest
    environment: Environment
    figures: Figures | None = None
    scores: Digest | None = None
    verdict: Outcome | None = None
    reasons: Annotated[list[Line], Meta(max_length=MAX_REMARKS)] = []
    untested: Annotated[list[Line], Meta(max_length=MAX_REMARKS)] = []
    metrics: dict[Label, float] = {}
    reason: Line | None = None
    probes: Annotated[list[Probe], Meta(max_length=len(NAMES))] = []


class Replay(Record, frozen=True):
    """``replay/v1``: somebody ran a recipe again, and compared what came out with the certificate's model, bit for bit.

    ``recipe`` is the SHA-256 of the Python file that ran, ``model`` what it gave, ``differing`` how many tensors differ from the
    certificate's and ``names`` the first of them. ``data`` are the training data if they were checked against their commitments,
    but for ``unchecked`` records whose salts were not at hand. ``before`` says where the weights to start from came from.
    ``notPinned`` is what could not be made as it was.
    """

    log: Origin
    run: Run
    certificate: Digest
    recipe: Digest
    outcome: Literal["identical", "different"]
    model: Model
    environment: Environment
    before: Literal["none", "given", "trained"]
    differing: Count = 0
    names: Annotated[list[Label], Meta(max_length=MAX_REMARKS)] = []
    data: Tree | None = None
    unchecked: Count = 0
    not_pinned: Annotated[list[Line], Meta(max_length=2 * MAX_REMARKS)] = []


class Destroyed(Record, frozen=True):
    """Older weights, by their tensor root, of which copies were destroyed: when, and how, in the operator's words."""

    model: Digest
    when: Time
    how: Label


class Notified(Record, frozen=True):
    """Who was told, as a kind of people or bodies, and how many of them: nobody by name."""

    who: Label
    count: Count


class Deployment(Record, frozen=True):
    """``deployment/v1``: from ``since`` on these weights serve under ``name``, a service or environment.

    ``statement`` is the training or certificate whose model it is. ``rollback`` is the reason for which a model serves that
    precedes an unlearning which the ledger has. ``since``, ``stated`` and ``when`` are the operator's clock.
    """

    log: Origin
    name: Label
    model: Model
    statement: Digest
    since: Time
    stated: Time
    destroyed: Annotated[list[Destroyed], Meta(max_length=MAX_DESTROYED)] = []
    notified: Annotated[list[Notified], Meta(max_length=MAX_REMARKS)] = []
    rollback: Label | None = None


Predicate = Training | Request | Unlearning | Circuit | AuditPlan | Audit | Replay | Deployment | KeyChange
PREDICATES: dict[str, type[Predicate]] = {
    PREFIX + "training/v1": Training,
    PREFIX + "request/v1": Request,
    PREFIX + "unlearning/v1": Unlearning,
    PREFIX + "circuit/v1": Circuit,
    PREFIX + "audit-plan/v1": AuditPlan,
    PREFIX + "audit/v1": Audit,
    PREFIX + "replay/v1": Replay,
    PREFIX + "deployment/v1": Deployment,
    PREFIX + "key/v1": KeyChange,
}
_TYPE_OF: dict[type[Any], str] = {predicate: type_ for type_, predicate in PREDICATES.items()}


class _Wire(msgspec.Struct, forbid_unknown_fields=True):
    _type: str
    subject: list[Subject]
    predicateType: str
    predicate: msgspec.Raw


class Statement(msgspec.Struct, frozen=True):
    """Subjects, and what is said about them."""

    subjects: tuple[Subject, ...]
    predicate: Predicate

    @property
    def type(self) -> str:
        """The predicate type's URI."""
        return _TYPE_OF[type(self.predicate)]

    @property
    def kind(self) -> str:
        """``training``, ``request``, ``unlearning``, ``circuit``, ``audit-plan``, ``audit``, ``replay``, ``deployment`` or
        ``key``."""
        return self.type.removeprefix(PREFIX).removesuffix("/v1")

    def payload(self) -> bytes:
        """The bytes to sign. Raises StatementError if they would not parse again."""
        data = self._encode()
        if Statement.parse(data) != self:
            raise StatementError("the statement does not survive writing and reading")
        return data

    def _encode(self) -> bytes:
        return canonical(self._fields(), what="a statement", error=StatementError)

    def _fields(self) -> dict[str, Any]:
        return {
            "_type": STATEMENT_TYPE,
            "subject": msgspec.to_builtins(self.subjects),
            "predicateType": self.type,
            "predicate": msgspec.to_builtins(self.predicate),
        }

    @classmethod
    def parse(cls, payload: bytes) -> "Statement":
        """Raises StatementError for anything but a canonical statement of a known type that agrees with itself."""
        if len(payload) > MAX_PAYLOAD_SIZE:
            raise StatementError(f"a statement has {len(payload):,} bytes, expected at most {MAX_PAYLOAD_SIZE:,}")
        check_depth(payload, what="a statement", error=StatementError)
        try:
            wire = msgspec.json.decode(payload, type=_Wire)
            if wire._type != STATEMENT_TYPE:
                raise StatementError(f"statement type is {wire._type[:80]!r}, expected {STATEMENT_TYPE!r}")
            predicate_class = PREDICATES.get(wire.predicateType)
            if predicate_class is None:
                raise StatementError(
                    f"predicate type is {wire.predicateType[:80]!r}, expected one of {', '.join(sorted(PREDICATES))}"
                )
            predicate = msgspec.json.decode(wire.predicate, type=predicate_class)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise StatementError(f"not a statement: {error}") from error
        statement = cls(tuple(wire.subject), predicate)
        if not is_canonical(statement._fields(), payload, what="a statement", error=StatementError):
            raise StatementError("a statement is not in canonical form (RFC 8785), or has a field twice")
        _check(statement)
        return statement


def _check(statement: Statement) -> None:
    """What a schema cannot say: subjects that fit, times in order."""
    match statement.predicate:
        case Training(model=model, run=run):
            _check_subjects(statement, TENSOR_ROOT, model.tensor_root)
            _check_times(run.started, run.finished, "a run starts at", "finishes")
            check_named(statement.predicate)
            _check_bases(statement.predicate.base)
        case Unlearning(post=model, run=run) as certificate:
            _check_subjects(statement, TENSOR_ROOT, model.tensor_root)
            _check_times(run.started, run.finished, "a run starts at", "finishes")
            check_named(certificate)
            _check_utility(certificate.utility)
            if (certificate.removed is None) != (certificate.retained is None):
                raise StatementError("a certificate has only one of the removed and the retained set")
            if len(set(certificate.requests)) != len(certificate.requests):
                raise StatementError("a certificate names a request twice")
        case Request(forget=forget) as request:
            _check_subjects(statement, FORGET_ROOT, forget.root)
            _check_times(request.received, request.due, "a request is received at", "is due")
            if not forget.count:
                raise StatementError("a request names nothing that must be forgotten")
        case Circuit(circuit=circuit, built=built):
            _check_subjects(statement, CIRCUIT, circuit.digest)
            parse_time(built)
        case AuditPlan() as plan:
            _check_subjects(statement, TENSOR_ROOT, plan.model.tensor_root)
            parse_time(plan.planned)
            plan.rules.plan()
            check_planned(plan.also)
        case Audit(run=run, model=model) as audit:
            _check_subjects(statement, TENSOR_ROOT, model.tensor_root)
            _check_times(run.started, run.finished, "a run starts at", "finishes")
            _check_audit(audit)
        case Replay(run=run, model=model) as replay:
            _check_subjects(statement, TENSOR_ROOT, model.tensor_root)
            _check_times(run.started, run.finished, "a run starts at", "finishes")
            _check_replay(replay)
        case Deployment(model=model) as deployment:
            _check_subjects(statement, TENSOR_ROOT, model.tensor_root)
            _check_deployment(deployment)
        case KeyChange() as change:
            _check_subjects(statement, PUBLIC_KEY, change.keyid)
            parse_time(change.effective)
            if (change.action == "rotate") != (change.successor is not None):
                raise StatementError("a key is rotated to a successor, and revoked without one")
            if (successor := change.successor) is not None:
                last = successor.not_after if successor.not_after is not None else successor.not_before
                _check_times(successor.not_before, last, "a key is valid from", "until")


def _check_utility(utility: Utility | None) -> None:
    if utility is not None and utility.after < utility.floor:
        raise StatementError(
            f"{utility.metric} fell to {utility.after:g}, below the floor of {utility.floor:g} that the operator set"
        )


def _check_audit(audit: Audit) -> None:
    """An attempt says what belongs to its state, all of it and nothing else."""
    found = {
        "figures": audit.figures is not None,
        "scores": audit.scores is not None,
        "verdict": audit.verdict is not None,
        "reasons": bool(audit.reasons),
        "untested": bool(audit.untested),
    }
    finished = audit.state == "finished"
    if not all(found.values()) if finished else any(found.values()) or bool(audit.metrics or audit.probes):
        names = ", ".join(name for name, there in found.items() if there) or "none"
        expected = "all of figures, scores, verdict, reasons and untested" if finished else "none of them"
        raise StatementError(f"an attempt that is {audit.state} has {names}, expected {expected}")
    if (audit.reason is not None) != (audit.state in ("interrupted", "failed")):
        raise StatementError("an attempt gives a reason if and only if it was interrupted or failed")
    if audit.figures is not None:
        audit.figures.found()
    check_found(audit.probes)


def _check_replay(replay: Replay) -> None:
    """A replay that is identical names no difference; one that isn't names some."""
    if (replay.outcome == "identical") == bool(replay.differing) or len(replay.names) > replay.differing:
        raise StatementError(
            f"a replay is {replay.outcome} with {replay.differing} tensors that differ, {len(replay.names)} of them by name"
        )
    if replay.unchecked and (replay.data is None or replay.unchecked > replay.data.count):
        raise StatementError("a replay states more records that were not checked than data that were")


def _check_bases(bases: list[Base]) -> None:
    """A statement is found in a log."""
    for base in bases:
        if (base.statement is None) != (base.log is None):
            raise StatementError(f"base {base.name!r} has only one of its maker's statement and the log that it is in")


def _check_deployment(deployment: Deployment) -> None:
    """Nothing is stated before it happened, and what serves was not destroyed."""
    _check_times(deployment.since, deployment.stated, "weights serve since", "are stated to")
    for copy in deployment.destroyed:
        _check_times(copy.when, deployment.stated, "copies were destroyed at", "are stated to be")
        if copy.model == deployment.model.tensor_root:
            raise StatementError("a deployment states that copies of the very weights that serve were destroyed")
    for what, names in (
        ("destroyed model", [copy.model for copy in deployment.destroyed]),
        ("party notified", [party.who for party in deployment.notified]),
    ):
        if len(set(names)) != len(names):
            raise StatementError(f"a deployment names a {what} twice")


def _check_subjects(statement: Statement, name: str, digest: str) -> None:
    first = statement.subjects[0] if statement.subjects else None
    if first is None or first.name != name or first.sha256 != digest:
        raise StatementError(f"the first subject of a {statement.kind} statement is not its {name}, {digest}")
    names = [subject.name for subject in statement.subjects]
    if len(set(names)) != len(names):
        raise StatementError("two subjects have the same name")


def _check_times(first: str, second: str, a: str, b: str) -> None:
    if parse_time(first) > parse_time(second):
        raise StatementError(f"{a} {first} and {b} before, {second}")


R = TypeVar("R", bound=Record)


def checked(record: R) -> R:
    """``record``, if a statement could hold it; raises StatementError. Constructing a record checks nothing by itself."""
    what = type(record).__name__.lower()
    data = canonical(msgspec.to_builtins(record), what=f"a {what}", error=StatementError)
    try:
        return msgspec.json.decode(data, type=type(record))
    except msgspec.ValidationError as error:
        raise StatementError(f"not a {what} that a statement can hold: {error}") from error


def subject(name: str, digest: str) -> Subject:
    """A subject by its SHA-256 (hex)."""
    return Subject(name, DigestSet(digest))
