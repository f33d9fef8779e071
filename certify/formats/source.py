"""What is exported: a case as it is stated, and what the verifier made of it, if it was asked.

Without a trust file the case is only parsed: then a document says ``not verified here``, and no grade. With one, the verifier
runs first, and a case that it refuses is not exported at all.
"""

from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256

from certify import chain as chains
from certify.bundle import Bundle, Entry
from certify.chain import Chain, Link
from certify.envelope import Envelope
from certify.errors import BundleError, StatementError
from certify.statement import OMS_ROOT, TENSOR_ROOT, Request, Statement, Training, Unlearning
from certify.times import format_time
from certify.trust import Trust
from certify.verifier import Report, verify

NOT_VERIFIED = "not verified here"
NOT_SHOWN = (
    "Nothing of this was verified when it was written: it is what the case states. Verify the case with a trust file.",
    "Nothing shows that the operator told the truth about the training data when it committed to them.",
    "It speaks of these tensors, not of copies of the data or model elsewhere.",
)
"""What is said where there is no report with limits of its own."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A report, and what it was made with: ``trust`` is the SHA-256 of the trust file, ``at`` the time of the verification."""

    report: Report
    trust: str
    at: datetime

    def __str__(self) -> str:
        return f"verified as {self.report.grade} on {format_time(self.at)} with the trust file of SHA-256 {self.trust[:16]}"


@dataclass(frozen=True, slots=True)
class Source:
    """A case. ``data`` are the bundle's bytes, ``name`` its file's name, ``links`` its statements in the log's order."""

    data: bytes = field(repr=False)
    name: str
    bundle: Bundle = field(repr=False)
    links: tuple[Link, ...] = field(repr=False)
    chain: Chain = field(repr=False)
    verified: Verified | None = None

    @property
    def digest(self) -> str:
        """The certificate's: SHA-256 of its envelope."""
        return self.chain.case.digest

    @property
    def envelope(self) -> Envelope:
        return self.entry(self.chain.case).envelope

    @property
    def certificate(self) -> Unlearning:
        predicate = self.chain.case.statement.predicate
        assert isinstance(predicate, Unlearning)
        return predicate

    @property
    def training(self) -> Training:
        predicate = self.chain.training.statement.predicate
        assert isinstance(predicate, Training)
        return predicate

    @property
    def requests(self) -> list[tuple[Link, Request]]:
        """Those that the certificate answers, in the log's order."""
        return [
            (link, link.statement.predicate)
            for link in sorted(self.chain.requests, key=lambda link: link.index)
            if link.digest in self.certificate.requests and isinstance(link.statement.predicate, Request)
        ]

    @property
    def files(self) -> dict[str, str]:
        """name -> SHA-256 of the files that the certificate names."""
        named = {subject.name: subject.sha256 for subject in self.chain.case.statement.subjects}
        return {name: digest for name, digest in named.items() if name not in (TENSOR_ROOT, OMS_ROOT)}

    @property
    def standing(self) -> str:
        """In words, whether somebody verified this."""
        return NOT_VERIFIED if self.verified is None else str(self.verified)

    @property
    def limits(self) -> tuple[str, ...]:
        return NOT_SHOWN if self.verified is None else self.verified.report.limits

    @property
    def summary(self) -> str:
        """In counts, what the certificate states was forgotten."""
        certificate = self.certificate
        requests = _count(len(certificate.requests), "request")
        if certificate.removed is None:
            scopes = ", ".join(sorted({f"a {request.scope}" for _, request in self.requests}))
            return f"{requests} to forget {scopes}, which is not a matter of single records"
        asked = sum(request.forget.count for _, request in self.requests)
        removed, trained = _count(certificate.removed.count, "record"), f"{self.training.dataset.count:,}"
        return f"{requests} to forget {_count(asked, 'record')}; {removed} left out of the {trained} trained on"

    def entry(self, link: Link) -> Entry:
        return next(entry for entry in self.bundle.entries if entry.index == link.index)


def read(data: bytes, *, name: str = "case.bundle", trust: bytes | None = None, now: datetime | None = None) -> Source:
    """Parse a bundle; verify it as of ``now``, if ``trust`` (a trust file's bytes) is given.

    Raises the verifier's errors, also for what only looks like a case; TrustError.
    """
    verified = None
    if trust is not None:
        assert now is not None, "a document that says verified says when"
        verified = Verified(verify(data, Trust.parse(trust), now=now), sha256(trust).hexdigest(), now)
    bundle = Bundle.parse(data)
    try:
        links = tuple(
            Link(entry.index, entry.envelope.digest, Statement.parse(entry.envelope.payload))
            for entry in bundle.entries
        )
    except StatementError as error:
        raise BundleError(f"not a case: {error}") from error
    return Source(data, name, bundle, links, chains.build(links), verified)


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
