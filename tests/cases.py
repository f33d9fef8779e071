"""Cases to test with, made by hand below the level of workspace and hook, so that an attack can make any part otherwise.

::

    case = usual_case()                                   # entry 0 is somebody else's, then training, request, certificate
    verify(case.data(), case.trust(), now=NOW)

    case = Case()                                         # another order
    asked = case.sign(request())
    trained = case.log(case.sign(training()))
    case.log(case.sign(certificate(trained, asked)))
    case.log(asked)
"""

import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from certify import dataset
from certify.bundle import Bundle, Entry
from certify.dataset import RecordOpening
from certify.digest import Manifest, TensorSource, diff, hash_tensors
from certify.envelope import Envelope, sign
from certify.keys import Algorithm, SigningKey
from certify.receipt import Opening, Receipt
from certify.statement import (
    FORGET_ROOT,
    PUBLIC_KEY,
    TENSOR_ROOT,
    Changes,
    Environment,
    KeyChange,
    KeyRecord,
    Method,
    Model,
    Request,
    Run,
    Statement,
    Training,
    Tree,
    Unlearning,
    subject,
)
from certify.times import format_time
from certify.trust import Trust, TrustedIssuer, TrustedLog
from ledger.checkpoint import Checkpoint
from ledger.cosignature import cosign
from ledger.log_key import LogKey
from ledger.merkle import inclusion_path, leaf_hash, root
from ledger.note import COSIGNATURE_ED25519, Note, VerifierKey
from ledger.proof import TlogProof

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=100)
ORIGIN = "example.com/ledger"


def day(number: int) -> datetime:
    """Training takes day 1, the request comes on day 10, unlearning takes day 20; witnesses cosign on day 30 or later."""
    return START + timedelta(days=number)


def stamp(number: int) -> str:
    return format_time(day(number))


def manifest(**tensors: bytes) -> Manifest:
    """A model of F32 vectors."""
    return hash_tensors([TensorSource.of(name, "F32", (len(data) // 4,), data) for name, data in tensors.items()])


PRE = manifest(head=b"\1" * 8, body=b"\2" * 16)
POST = manifest(head=b"\1" * 8, body=b"\3" * 16)
LATER = manifest(head=b"\4" * 8, body=b"\3" * 16)
RECORDS = tuple((f"patient-{i}", f'{{"age":{40 + i}}}'.encode()) for i in range(8))
DATASET = dataset.commit(record for _, record in RECORDS)
TREE = Tree(DATASET.root().hex(), DATASET.count)
ENVIRONMENT = Environment(
    python="3.11.7", platform="Linux x86_64", libraries={"torch": "2.8"}, threads=2, device="cpu", settings={}
)


# -- who ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operator:
    name: str
    key: SigningKey
    log_key: LogKey


@cache
def operator(
    name: str = "Clinic",
    *,
    algorithm: Algorithm = "ecdsa-p256",
    origin: str = ORIGIN,
    post_quantum: bool = False,
) -> Operator:
    return Operator(name, SigningKey.generate(algorithm), LogKey.generate(origin, post_quantum=post_quantum))


@dataclass(frozen=True)
class Witness:
    name: str
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def public(self) -> VerifierKey:
        return VerifierKey(self.name, COSIGNATURE_ED25519, self.key.public_key().public_bytes_raw())

    def cosign(self, note: bytes, when: datetime) -> bytes:
        """The note with this witness's line added."""
        parsed = Note.parse(note)
        line = cosign(self.public, self.key.sign, Checkpoint.parse(parsed.text), int(when.timestamp()))
        return Note(parsed.text, (*parsed.signatures, line)).format()


# -- what they say -----------------------------------------------------------------------------------------------------


def model(manifest: Manifest) -> Model:
    return Model(manifest.root().hex(), len(manifest.tensors), str(manifest.nbytes))


def run(first: int, last: int) -> Run:
    return Run(f"{first:032x}", stamp(first), stamp(last))


def training(weights: Manifest = PRE, **changes: Any) -> Statement:
    predicate = Training(ORIGIN, run(0, 1), TREE, model(weights), Method("sisa", {"shards": 2}, ["7"]), ENVIRONMENT)
    predicate = replace(predicate, **changes)
    return Statement((subject(TENSOR_ROOT, predicate.model.tensor_root),), predicate)


@cache
def forget_set(positions: tuple[int, ...]) -> dataset.Commitments:
    return dataset.commit(RECORDS[i][1] for i in positions)


def request(positions: tuple[int, ...] = (1, 4), **changes: Any) -> Statement:
    forget = Tree(forget_set(positions).root().hex(), len(positions))
    predicate = replace(Request(ORIGIN, "records", forget, "gdpr-17", stamp(10), stamp(40)), **changes)
    return Statement((subject(FORGET_ROOT, predicate.forget.root),), predicate)


def certificate(
    parent: Envelope,
    *requests: Envelope,
    positions: Iterable[int] = (1, 4),
    gone: Iterable[int] = (),
    pre: Manifest = PRE,
    post: Manifest = POST,
    **changes: Any,
) -> Statement:
    """``positions`` are left out now, ``gone`` were before."""
    found = diff(pre, post)
    left, count = dataset.retained(DATASET.leaves, [*positions, *gone])
    removed = sorted(positions)
    predicate = Unlearning(
        log=ORIGIN,
        run=run(19, 20),
        parent=parent.digest,
        requests=[asked.digest for asked in requests],
        pre=model(pre),
        post=model(post),
        changes=Changes(len(found.changed), len(found.unchanged), len(found.added), len(found.removed)),
        method=Method("sisa-retrain", {"shards": 2}, ["7"]),
        environment=ENVIRONMENT,
        removed=Tree(dataset.subset_root(DATASET.leaves, removed).hex(), len(removed)),
        retained=Tree(left.hex(), count),
    )
    predicate = replace(predicate, **changes)
    return Statement((subject(TENSOR_ROOT, predicate.post.tensor_root),), predicate)


def key_record(key: SigningKey, *, not_before: str = stamp(0), not_after: str | None = None) -> KeyRecord:
    public = key.public
    return KeyRecord(public.keyid, public.algorithm, b64encode(public.spki).decode(), not_before, not_after)


def rotation(old: SigningKey, new: SigningKey, **changes: Any) -> Statement:
    predicate = replace(KeyChange(ORIGIN, "rotate", old.public.keyid, stamp(5), key_record(new)), **changes)
    return Statement((subject(PUBLIC_KEY, predicate.keyid),), predicate)


def revocation(key: SigningKey, **changes: Any) -> Statement:
    predicate = replace(KeyChange(ORIGIN, "revoke", key.public.keyid, stamp(5), reason="compromised"), **changes)
    return Statement((subject(PUBLIC_KEY, predicate.keyid),), predicate)


def receipt(position: int = 1, forgotten: tuple[int, ...] = (1, 4), record: bytes | None = None) -> Receipt:
    """The receipt of the record at ``position`` of the dataset."""
    openings: list[Opening] = []
    for commitments, index in ((forget_set(forgotten), forgotten.index(position)), (DATASET, position)):
        opening: RecordOpening = dataset.open_record(commitments, index)
        openings.append(Opening.of(commitments.root().hex(), opening))
    return Receipt(record if record is not None else RECORDS[position][1], *openings)


# -- where they say it -------------------------------------------------------------------------------------------------


@dataclass
class Case:
    """A log in memory, and a bundle of those of its entries that are shown."""

    operator: Operator = field(default_factory=operator)
    entries: list[bytes] = field(default_factory=lambda: [b"somebody else's entry"])
    shown: list[int] = field(default_factory=list)
    removed: dict[str, tuple[int, ...]] = field(default_factory=dict)
    models: tuple[Manifest, ...] = (PRE, POST)
    cosigners: list[tuple[Witness, datetime]] = field(default_factory=list)

    def sign(self, statement: Statement, *keys: SigningKey) -> Envelope:
        return sign(statement.payload(), keys or [self.operator.key])

    def log(self, envelope: Envelope, *, shown: bool = True) -> Envelope:
        if shown:
            self.shown.append(len(self.entries))
        self.entries.append(envelope.data)
        return envelope

    def say(self, statement: Statement, *keys: SigningKey) -> Envelope:
        return self.log(self.sign(statement, *keys))

    def certify(
        self, parent: Envelope, *requests: Envelope, positions: Sequence[int] = (1, 4), **changes: Any
    ) -> Envelope:
        """Log a certificate, and show what it left out."""
        envelope = self.say(certificate(parent, *requests, positions=positions, **changes))
        self.removed[envelope.digest] = tuple(positions)
        return envelope

    def note(self) -> bytes:
        leaves = [leaf_hash(entry) for entry in self.entries]
        checkpoint = Checkpoint(self.operator.log_key.name, len(leaves), root(leaves))
        note = self.operator.log_key.sign(checkpoint, int(time.time()))
        for witness, when in self.cosigners:
            note = witness.cosign(note, when)
        return note

    def bundle(self) -> Bundle:
        leaves = [leaf_hash(entry) for entry in self.entries]
        note = self.note()
        entries = [
            Entry(i, self.entries[i], TlogProof(i, tuple(inclusion_path(leaves, i)), note).format()) for i in self.shown
        ]
        manifests = {known.root().hex(): known for known in self.models}
        return Bundle(tuple(entries), manifests, {TREE.root: DATASET.leaves}, dict(self.removed))

    def data(self) -> bytes:
        return self.bundle().to_bytes()

    def trust(
        self,
        *,
        witnesses: Sequence[Witness] = (),
        quorum: int = 0,
        **window: datetime,
    ) -> Trust:
        log = TrustedLog(self.operator.log_key.name, self.operator.log_key.verifier_keys)
        issuer = TrustedIssuer(self.operator.name, self.operator.key.public, **window)
        return Trust((log,), (issuer,), tuple(witness.public for witness in witnesses), quorum)


def usual_case(
    operator: Operator | None = None,
    *,
    says_training: Callable[[], Statement] = training,
    says_request: Callable[[], Statement] = request,
    positions: Sequence[int] = (1, 4),
    **changes: Any,
) -> Case:
    """Training at entry 1, request at 2, certificate at 3; ``changes`` are to the certificate."""
    case = Case(operator) if operator is not None else Case()
    trained = case.say(says_training())
    asked = case.say(says_request())
    case.certify(trained, asked, positions=positions, **changes)
    return case
