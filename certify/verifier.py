"""The verifier: what a bundle shows to somebody who believes nothing but their own ``trust.toml``.

A pure function of bytes, trust and time. It opens no socket and does not import torch; EZKL runs in a process of its own,
with limits. The steps, as in SPEC.md:

(1) the bundle is well-formed               (6) the chain of statements agrees
(2) signatures by trusted keys              (7) zero-knowledge proofs
(3) every entry is included                 (8) audits, replays and deployments
(4) the checkpoint is signed and cosigned   (9) given weights, files or receipts match
(5) the order is right                      (10) grade and limits
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from certify import audits, deployments, methods, replays, upstream
from certify import chain as chains
from certify import exclusion as exclusions
from certify.audits import Audited
from certify.bundle import Bundle
from certify.chain import Chain, Established, Link
from certify.deployments import Deployed
from certify.digest import Manifest, diff
from certify.envelope import Envelope
from certify.errors import (
    BundleError,
    ChainError,
    CheckpointError,
    DatasetError,
    InclusionError,
    MismatchError,
    RevokedKeyError,
    StatementError,
    VerificationError,
)
from certify.exclusion import Exclusion
from certify.keyring import CLOCK_SKEW, KeyRing, Signer
from certify.openings import Read, match_receipt, match_weights
from certify.receipt import Receipt
from certify.replays import Replayed
from certify.seen import Seen, by_timestamps, by_witnesses, earliest
from certify.statement import (
    OMS_ROOT,
    Audit,
    AuditPlan,
    Circuit,
    KeyChange,
    Replay,
    Request,
    Statement,
    Training,
    Unlearning,
)
from certify.times import format_time, parse_time
from certify.trust import Trust
from certify.upstream import Bundled, Upstream, Verified
from ledger.errors import LedgerError
from ledger.proof import TlogProof
from ledger.signed_checkpoint import SignedCheckpoint, open_checkpoint

TITLES = {
    1: "the bundle is well-formed",
    2: "signatures are by trusted keys",
    3: "every entry is included",
    4: "the checkpoint is signed, and cosigned as trust.toml asks",
    5: "the order is right",
    6: "the chain of statements agrees",
    7: "zero-knowledge proofs",
    8: "audits, replays and deployments",
    9: "given weights, files and receipts match",
    10: "grade and limits",
}

GRADES = {
    "attested": "the operator says so, signed, logged, and cannot take it back",
    "replayed": "a named party ran the recipe again and got bit-identical weights",
    "step proven": "a zero-knowledge proof shows that the weights follow from earlier ones by the stated steps; it does not show "
    "that the forgotten data left no trace",
    "exclusion proven": "a zero-knowledge proof shows that the weights come from the data committed before the request, less "
    "every record near a forgotten one",
}

OUTSIDE = (Circuit, AuditPlan, Audit, Replay)
"""What others than the issuer state."""


@dataclass(frozen=True, slots=True)
class Given:
    """What the verifier has besides the bundle, for step 9."""

    weights: Manifest | None = None
    files: Sequence[tuple[str, str]] = ()
    """(name, SHA-256 in hex) of each file."""
    receipts: Sequence[bytes] = ()
    read: Read | None = None
    """A tensor's bytes by its name, of the same weights: compared with what a proof is about."""
    upstream: Sequence[Bundled] = ()
    """Bundles of the models that training started from, each with whom to believe about it."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step that did not fail, and what it established, in words: nothing, if there was nothing to check."""

    number: int
    title: str
    established: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """A verified case."""

    certificate: str
    index: int
    issuer: str
    grade: str
    meaning: str
    method: str
    tensor_root: str
    steps: tuple[Step, ...]
    limits: tuple[str, ...]
    development_srs: bool = False
    """There is a proof, and it counts for nothing: its reference string is not the ceremony's."""
    audits: tuple[Audited, ...] = ()
    """What trusted auditors found, beside the grade."""
    replays: tuple[Replayed, ...] = ()
    """What trusted replayers got: the grade, or beside a higher one."""
    deployments: tuple[Deployed, ...] = ()
    """Where which model of the chain serves, as the operator says: the last deployment of each name."""
    upstream: tuple[Upstream, ...] = ()
    """The models that training started from, and theirs, as far as they were followed."""

    @property
    def rolled_back(self) -> bool:
        """Somewhere a model serves that precedes an unlearning, and the operator says so."""
        return any(one.state == "rollback" for one in self.deployments)


def verify(
    data: bytes,
    trust: Trust,
    *,
    now: datetime | None = None,
    given: Given | None = None,
    allow_development_srs: bool = False,
    allow_failed_audit: bool = False,
    allow_failed_replay: bool = False,
) -> Report:
    """Verify a bundle's bytes at the time ``now`` (default: the clock's).

    ``allow_development_srs`` goes on where a proof was made with a reference string that is not the ceremony's; it then counts
    for nothing. ``allow_failed_audit`` goes on where a trusted auditor found FAIL or OVER-FORGOTTEN, ``allow_failed_replay``
    where a trusted replayer got other weights; the report says so.

    Raises a VerificationError whose class and ``exit_code`` say which step failed and how, and whose ``passed`` are the steps
    before it.
    """
    steps: list[Step] = []
    try:
        moment = now or datetime.now(UTC)
        allowed = (allow_development_srs, allow_failed_audit, allow_failed_replay)
        return _verify(data, trust, moment, given or Given(), *allowed, steps)
    except VerificationError as error:
        error.passed = tuple(steps)
        raise


def _verify(
    data: bytes,
    trust: Trust,
    now: datetime,
    given: Given,
    allow_development: bool,
    allow_failed: bool,
    allow_failed_replay: bool,
    steps: list[Step],
) -> Report:
    def passed(*established: str) -> None:
        number = len(steps) + 1
        steps.append(Step(number, TITLES[number], established))

    bundle = Bundle.parse(data)  # (1)
    links = _statements(bundle)
    passed(f"{len(links)} statements, {len(data):,} bytes, in the one form a bundle has")

    ring = KeyRing(trust, now)  # (2)
    signers, outside = _signers(bundle, links, ring)
    builders = _builders(links, outside)
    issuer = _one_issuer(signers)
    keys = ", ".join(sorted({f"{signer.key.keyid[:16]} ({signer.key.algorithm})" for signer in signers}))
    changed = [
        f"entry {link.index}: {change.action} of key {change.keyid[:16]}, {change.reason}"
        for link in links
        if isinstance(change := link.statement.predicate, KeyChange)
    ]
    built = [
        f"entry {link.index}: {_built_by(link, builders)}"
        for link in links
        if isinstance(link.statement.predicate, Circuit)
    ]
    count = f"all {len(links)}" if not outside else f"{len(signers)} of {len(links)}"
    passed(f"{count} statements are signed by {issuer}, key {keys}", *changed, *built)

    checkpoint = _included(bundle)  # (3)
    indices = ", ".join(str(link.index) for link in links)
    passed(f"entries {indices} are in the tree under one checkpoint")

    signed = _checkpoint(checkpoint, trust)  # (4)
    _made_for(signed.checkpoint.origin, links)
    witnessed = _witnessed(signed, trust, now)
    stamped, stamps = by_timestamps(bundle.timestamps, signed.checkpoint.format(), trust, now)
    seen = earliest(by_witnesses(witnessed), stamped)
    passed(*_describe_checkpoint(signed, trust, witnessed), *stamps)

    chain = chains.build(links)  # the links that (5) and (6) are about
    chains.check_order(chain, seen)  # (5)
    _check_revoked([*signers, *(signer for signer in outside.values() if signer is not None)], seen)
    passed(*_describe_order(chain))

    established = chains.check(chain, bundle)  # (6)
    shown = methods.check(chain, bundle.manifests, bundle.details)
    passed(*_describe_chain(chain, established), *shown.established)
    accepted = dict.fromkeys(trust.circuits, "trust.toml") | builders
    exclusion = exclusions.check(
        chain, bundle, accepted, max_radius=trust.max_radius, allow_development=allow_development
    )  # (7)
    passed(*(exclusion.established if exclusion is not None else ()))
    own = {link.index for link in links if link.index in outside and ring.is_issuers(_envelope(bundle, link))}  # (8)
    audited = audits.check(
        chain, links, outside, own=own, issuer=issuer, trust=trust, seen=seen, now=now, allow_failed=allow_failed
    )
    replayed = replays.check(
        chain, links, outside, own=own, issuer=issuer, seen=seen, now=now, allow_failed=allow_failed_replay
    )
    deployed = deployments.check(chain, links, seen)
    passed(*audited.lines, *replayed.lines, *deployed.lines)

    proven = exclusion is not None and not exclusion.development
    grade = exclusion.grade if exclusion is not None and proven else "replayed" if replayed.replayed else "attested"
    matches = _matches(chain, bundle, given, exclusion)  # (9)
    allowed = (allow_development, allow_failed, allow_failed_replay)
    bases = upstream.follow(
        chain, grade, given.upstream, lambda one: _verify_upstream(one, now, allowed), tuple(GRADES)
    )
    passed(*matches, *bases.lines)

    beside = (  # (10)
        *(f"audited: {audit}" for audit in audited.audits),
        *(f"replayed: {replay}" for replay in replayed.replays),
        *(f"deployed: {one}" for one in deployed.deployments),
    )
    passed(f"{grade}: {GRADES[grade]}", *beside)
    case = chain.case
    certificate = case.statement.predicate
    assert isinstance(certificate, Unlearning)
    return Report(
        certificate=case.digest,
        index=case.index,
        issuer=issuer,
        grade=grade,
        meaning=GRADES[grade],
        method=certificate.method.name,
        tensor_root=certificate.post.tensor_root,
        steps=tuple(steps),
        limits=(
            *_limits(chain, links, established, given, witnessed is not None, seen, exclusion, replayed),
            *shown.limits,
            *audited.limits,
            *replayed.limits,
            *deployed.limits,
            *bases.limits,
        ),
        development_srs=exclusion is not None and exclusion.development,
        audits=audited.audits,
        replays=replayed.replays,
        deployments=deployed.deployments,
        upstream=bases.upstream,
    )


def verify_training(data: bytes, trust: Trust, *, now: datetime | None = None) -> tuple[str, Link]:
    """Verify the bundle of a training that no certificate follows: steps 1 to 4, and the model's manifest. Its issuer and itself.

    Raises VerificationError.
    """
    moment = now or datetime.now(UTC)
    bundle = Bundle.parse(data)
    links = _statements(bundle)
    training = upstream.only_training(links)
    signers, _ = _signers(bundle, links, KeyRing(trust, moment))
    issuer = _one_issuer(signers)
    signed = _checkpoint(_included(bundle), trust)
    _made_for(signed.checkpoint.origin, links)
    witnessed = _witnessed(signed, trust, moment)
    stamped, _ = by_timestamps(bundle.timestamps, signed.checkpoint.format(), trust, moment)
    seen = earliest(by_witnesses(witnessed), stamped)
    _check_revoked(signers, seen)
    chains.check_training(training, bundle, seen)
    methods.check_training(training, bundle.manifests, bundle.details)
    return issuer, training


def verify_upstream(given: Bundled, *, now: datetime | None = None) -> Verified:
    """Verify a base model's bundle by itself, as a case that names it does. Raises UpstreamError."""
    return upstream.verified_by(
        given, lambda one: _verify_upstream(one, now or datetime.now(UTC), (False, False, False))
    )


def _verify_upstream(given: Bundled, now: datetime, allowed: tuple[bool, bool, bool]) -> Verified:
    """A base model's bundle, by its own trust; ``allowed`` as for the case. Raises VerificationError."""
    links = _statements(Bundle.parse(given.data))
    if any(isinstance(link.statement.predicate, Unlearning) for link in links):
        development, audit, replay = allowed
        report = verify(
            given.data,
            given.trust,
            now=now,
            allow_development_srs=development,
            allow_failed_audit=audit,
            allow_failed_replay=replay,
        )
        chain = chains.build(links)
        models, issuer, grade, start = (chain.training, *chain.unlearnings), report.issuer, report.grade, chain.start
        beside = tuple(str(one) for one in (*report.audits, *report.replays, *report.deployments))
    else:
        issuer, training = verify_training(given.data, given.trust, now=now)
        models, grade, beside, start = (training,), "attested", (), None
    last = models[-1]
    said = last.statement.predicate
    assert isinstance(said, Training | Unlearning)
    kind = "training" if isinstance(said, Training) else "certificate"
    root, finished = upstream.model_of(last).tensor_root, parse_time(said.run.finished)
    return Verified(last.digest, kind, last.index, issuer, grade, root, said.log, finished, models, beside, start)


def _statements(bundle: Bundle) -> list[Link]:
    links: list[Link] = []
    for entry in bundle.entries:
        try:
            links.append(Link(entry.index, entry.envelope.digest, Statement.parse(entry.envelope.payload)))
        except StatementError as error:
            raise BundleError(f"entry {entry.index}: {error}") from error
    if not links:
        raise BundleError("the bundle has no statement")
    if len({link.digest for link in links}) != len(links):
        raise BundleError("the bundle has a statement twice")
    return links


def _signers(bundle: Bundle, links: Sequence[Link], ring: KeyRing) -> tuple[list[Signer], dict[int, Signer | None]]:
    """Who signed, in the log's order; and the auditor or replayer behind each statement that is not the issuer's to make, by
    index: None for nobody that is trusted."""
    signers: list[Signer] = []
    outside: dict[int, Signer | None] = {}
    for link, entry in zip(links, bundle.entries, strict=True):
        if isinstance(link.statement.predicate, OUTSIDE):
            outsider = ring.replayer if isinstance(link.statement.predicate, Replay) else ring.auditor
            outside[link.index] = outsider(link.index, entry.envelope, link.statement)
        else:
            signers.append(ring.admit(link.index, entry.envelope, link.statement))
    return signers, outside


def _envelope(bundle: Bundle, link: Link) -> Envelope:
    return next(entry.envelope for entry in bundle.entries if entry.index == link.index)


def _builders(links: Sequence[Link], outside: Mapping[int, Signer | None]) -> dict[str, str]:
    """Digests of the circuits that trusted auditors have built, and their names."""
    found: dict[str, str] = {}
    for link in links:
        circuit = link.statement.predicate
        if isinstance(circuit, Circuit) and (signer := outside[link.index]) is not None:
            found[circuit.circuit.digest] = signer.issuer
    return found


def _built_by(link: Link, builders: Mapping[str, str]) -> str:
    circuit = link.statement.predicate
    assert isinstance(circuit, Circuit)
    name = builders.get(circuit.circuit.digest)
    what = f"circuit {circuit.circuit.digest[:16]}"
    return (
        f"{name} has built {what}"
        if name
        else f"somebody that trust.toml does not name has built {what}: it counts for nothing"
    )


def _one_issuer(signers: Sequence[Signer]) -> str:
    names = {signer.issuer for signer in signers}
    if len(names) != 1:
        raise ChainError(f"the statements are by {', '.join(sorted(names))}, expected one issuer")
    return names.pop()


def _included(bundle: Bundle) -> bytes:
    """The checkpoint bytes that every entry's inclusion proof leads to."""
    checkpoint: bytes | None = None
    for entry in bundle.entries:
        proof = TlogProof.parse(entry.proof)
        if checkpoint is not None and proof.checkpoint != checkpoint:
            raise InclusionError(f"entry {entry.index} is proven under another checkpoint than the entries before it")
        checkpoint = proof.checkpoint
        if proof.index != entry.index or proof.extra is not None:
            raise InclusionError(f"the proof of entry {entry.index} is of entry {proof.index}, or has extra data")
        try:
            proof.verify_inclusion(entry.data)
        except LedgerError as error:
            raise InclusionError(f"entry {entry.index}: {error}") from error
    assert checkpoint is not None
    return checkpoint


def _checkpoint(data: bytes, trust: Trust) -> SignedCheckpoint:
    reason: LedgerError | None = None
    claimed = data.split(b"\n", 1)[0]
    for log in sorted(trust.logs, key=lambda log: log.origin.encode() != claimed):  # the one it claims to be, first
        try:
            return open_checkpoint(
                data, log_keys=log.keys, origin=log.origin, witness_keys=trust.witnessing.witness_keys
            )
        except LedgerError as error:
            reason = reason or error
    raise CheckpointError(f"the checkpoint is not one of a trusted log: {reason}") from reason


def _made_for(origin: str, links: Sequence[Link]) -> None:
    """Statements count in the log that they name: nobody can log them elsewhere, in an order that suits better."""
    for link in links:
        if link.statement.predicate.log != origin:
            raise CheckpointError(
                f"the {link.statement.kind} statement at entry {link.index} is made for log {link.statement.predicate.log!r}, "
                f"the checkpoint is of {origin!r}"
            )


def _witnessed(signed: SignedCheckpoint, trust: Trust, now: datetime) -> datetime | None:
    """When a quorum of witnesses had seen the checkpoint; None if no witness is required."""
    policy = trust.witnessing
    if not policy.satisfied(signed.cosigned):
        names = ", ".join(sorted(signed.cosigned)) or "none"
        raise CheckpointError(
            f"the checkpoint is cosigned by {len(signed.cosigned)} trusted witnesses ({names}), expected {policy.describe()}"
        )
    seconds = policy.time(signed.cosigned)
    if seconds is None:
        return None
    time = _moment(seconds)
    if time is None:
        raise CheckpointError(f"the checkpoint is cosigned at an impossible time, {seconds}")
    if time > now + CLOCK_SKEW:
        raise CheckpointError(
            f"the checkpoint is cosigned at {format_time(time)}, in the future (now {format_time(now)})"
        )
    return time


def _moment(seconds: int) -> datetime | None:
    """POSIX seconds as a time, if there is one."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _check_revoked(signers: Sequence[Signer], seen: Seen | None) -> None:
    """A key that trust.toml calls revoked counts only for what others than the operator saw before."""
    for signer in signers:
        if signer.revoked is not None and (seen is None or seen.time >= signer.revoked):
            raise RevokedKeyError(
                f"key {signer.key.keyid[:16]} of {signer.issuer} was revoked on {signer.revoked}, and no quorum of witnesses "
                f"shows that its statements were logged before, nor does a time stamp"
            )


def _matches(chain: Chain, bundle: Bundle, given: Given, exclusion: Exclusion | None) -> list[str]:
    certificate = chain.case.statement.predicate
    assert isinstance(certificate, Unlearning)
    lines: list[str] = []
    if given.weights is not None:
        _match_weights(given.weights, certificate, bundle)
        lines.append(
            f"the weights given are those of the certificate: all {certificate.post.tensors} tensors, bit for bit"
        )
        if exclusion is not None and given.read is not None:
            lines.append(match_weights(given.read, certificate, exclusion, bundle))
    subjects = {
        subject.name: subject.sha256 for subject in chain.case.statement.subjects[1:] if subject.name != OMS_ROOT
    }
    for name, digest in given.files:
        if digest not in subjects.values():
            expected = subjects.get(name)
            reason = (
                f"expected {expected}" if expected else f"the certificate names {', '.join(subjects) or 'no files'}"
            )
            raise MismatchError(f"file {name} has SHA-256 {digest}; {reason}")
        lines.append(f"file {name} is one that the certificate names, by its SHA-256")
    for data in given.receipts:
        lines += _match_receipt(data, chain, bundle, exclusion)
    return lines


def _match_weights(weights: Manifest, certificate: Unlearning, bundle: Bundle) -> None:
    root = weights.root().hex()
    if root == certificate.post.tensor_root:
        return
    if root == certificate.pre.tensor_root:
        raise MismatchError("the weights given are those from before the unlearning")
    changes = diff(bundle.manifests[certificate.post.tensor_root], weights)
    parts = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for what, names in (
            ("differ", changes.changed),
            ("are missing", changes.removed),
            ("are not in it", changes.added),
        )
        if names
    ]
    raise MismatchError(
        f"the weights given have tensor root {root}, the certificate is about {certificate.post.tensor_root}: "
        f"of the tensors, {', '.join(parts)}"
    )


def _match_receipt(data: bytes, chain: Chain, bundle: Bundle, exclusion: Exclusion | None) -> list[str]:
    training = chain.training.statement.predicate
    assert isinstance(training, Training)
    try:
        receipt = Receipt.parse(data)
        receipt.training.verify(receipt.record, training.dataset.root, training.dataset.count)
        for link in chain.requests:
            request = link.statement.predicate
            assert isinstance(request, Request)
            if request.forget.root == receipt.request.root:
                receipt.request.verify(receipt.record, request.forget.root, request.forget.count)
                break
        else:
            raise MismatchError("the receipt belongs to none of the requests in this bundle")
    except DatasetError as error:
        raise MismatchError(f"the receipt does not match: {error}") from error
    lines = [
        f"the record in the receipt was in the training data (entry {chain.training.index}) "
        f"and is one that the request at entry {link.index} asked to forget"
    ]
    removed = [
        bundle.removed.get(certificate.digest)
        for certificate in chain.until_answered(link)
        if isinstance(said := certificate.statement.predicate, Unlearning) and said.removed is not None
    ]
    if any(positions is not None and receipt.training.index in positions for positions in removed):
        lines.append("it is among the records that the certificate says were left out")
    elif None not in removed:
        raise MismatchError("the record in the receipt is not among those that the certificate says were left out")
    if exclusion is not None:
        lines += match_receipt(receipt, training, request, bundle)
    return lines


def _describe_checkpoint(signed: SignedCheckpoint, trust: Trust, witnessed: datetime | None) -> list[str]:
    checkpoint = signed.checkpoint
    lines = [f"log {checkpoint.origin}, {checkpoint.size} entries, root {checkpoint.root.hex()}"]
    if witnessed is None:
        lines.append("trust.toml asks for no witness")
    else:
        for name, seconds in sorted(signed.cosigned.items(), key=lambda item: (item[1], item[0])):
            time = _moment(seconds)
            lines.append(f"cosigned by {name} at {format_time(time) if time else f'an impossible time, {seconds}'}")
        lines.append(f"required: {trust.witnessing.describe()}; reached at {format_time(witnessed)}")
    return lines


def _describe_order(chain: Chain) -> list[str]:
    lines = [f"training is entry {chain.training.index}"]
    requests = {link.digest: link for link in chain.requests}
    for link in chain.unlearnings:
        certificate = link.statement.predicate
        assert isinstance(certificate, Unlearning)
        for digest in certificate.requests:
            request = requests[digest].statement.predicate
            assert isinstance(request, Request)
            late = parse_time(certificate.run.finished) > parse_time(request.due)
            when = f"after it was due on {request.due}" if late else f"before it was due on {request.due}"
            lines.append(
                f"request at entry {requests[digest].index} was answered by entry {link.index}, "
                f"stated as finished {certificate.run.finished}, {when}"
            )
    return lines


def _describe_chain(chain: Chain, established: Established) -> list[str]:
    certificate = chain.case.statement.predicate
    assert isinstance(certificate, Unlearning)
    training = chain.training.statement.predicate
    assert isinstance(training, Training)
    changes = established.changes
    names = ", ".join(changes.changed[:4]) + (", …" if len(changes.changed) > 4 else "")
    lines = [
        f"{len(changes.changed)} of {certificate.pre.tensors} tensors changed ({names or 'none'}), "
        f"{len(changes.unchanged)} are the same to the bit, {len(changes.added)} were added, {len(changes.removed)} removed"
    ]
    if established.retained_checked and certificate.removed is not None and certificate.retained is not None:
        lines.append(
            f"the retained set as stated is the dataset committed at training time, {training.dataset.count} records, "
            f"less exactly the {training.dataset.count - certificate.retained.count} that certificates name as left out"
        )
    return lines


def _limits(
    chain: Chain,
    links: Sequence[Link],
    established: Established,
    given: Given,
    witnessed: bool,
    seen: Seen | None,
    exclusion: Exclusion | None,
    replayed: replays.Found,
) -> tuple[str, ...]:
    certificate = chain.case.statement.predicate
    assert isinstance(certificate, Unlearning)
    limits = [
        *_proof_limits(exclusion, given, replayed),
        "Nothing shows that the operator told the truth about the training data when it committed to them.",
        "It speaks of these tensors, not of copies of the data or model elsewhere, nor of a record's double under another id.",
    ]
    if not witnessed:
        times = ", and every time is the operator's own" if seen is None else ""
        limits.append(f"trust.toml asks for no witness: the log could show others another history{times}.")
    if seen is not None:
        limits.append(
            f"All was logged by {format_time(seen.time)}: {seen.how}. Every other time is the operator's own."
        )
    limits += [
        f"Key {link.statement.predicate.keyid[:16]} was revoked as compromised at entry {link.index}: somebody else may have "
        f"signed with it before."
        for link in links
        if isinstance(link.statement.predicate, KeyChange) and link.statement.predicate.reason == "compromised"
    ]
    if certificate.removed is None:
        limits.append(
            "The request is not about single records: what had to be forgotten is the operator's description."
        )
    elif not established.retained_checked:
        limits.append(
            "The bundle does not hold what it takes to recompute the retained set: its root is the operator's word."
        )
    limits += [f"The weights before and after entry {index} are the same." for index in established.unchanged]
    if given.weights is None:
        limits.append("The weights in use were not compared with the certificate: give them with --weights.")
    asked = _asked(chain)
    if certificate.removed is not None and certificate.removed.count < asked:
        limits.append(f"The certificate names {certificate.removed.count} records as left out, {asked} were requested.")
    if not given.receipts:
        limits.append(
            "That the records left out are those requested is the operator's word, but to whoever holds a receipt (--receipt)."
        )
    return tuple(limits)


def _proof_limits(exclusion: Exclusion | None, given: Given, replayed: replays.Found) -> list[str]:
    if exclusion is None and replayed.replayed:
        return ["No proof shows the computation: that a recipe gives these weights is the word of who ran it again."]
    if exclusion is None:
        return ["That the computation took place as stated is the operator's word: no proof and no replay shows it."]
    limits = list(exclusion.limits)
    if exclusion.development:
        limits.append(
            "DEVELOPMENT reference string: whoever made it can forge such proofs. The zero-knowledge proof shows nothing."
        )
    if given.weights is None:
        limits.append(
            "The proof speaks of weights that were committed to: that they are the model's is checked for those who "
            "give --weights."
        )
    limits.append(
        "The proof speaks of committed numbers: that they are the people's records is the operator's word, but to holders of "
        "receipts."
    )
    return limits


def _asked(chain: Chain) -> int:
    """How many records the case's own requests name."""
    certificate = chain.case.statement.predicate
    assert isinstance(certificate, Unlearning)
    requests = (link.statement.predicate for link in chain.requests if link.digest in certificate.requests)
    return sum(request.forget.count for request in requests if isinstance(request, Request))
