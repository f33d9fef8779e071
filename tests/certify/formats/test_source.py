"""What is exported is a case, and is verified only where somebody says whom to believe."""

import json
from base64 import b64encode

import pytest

from certify.bundle import Bundle
from certify.errors import BundleError, ChainError, UntrustedKeyError
from certify.formats.source import NOT_VERIFIED, Source, read
from tests.cases import LATER, NOW, POST, Case, certificate, operator, request, training, usual_case
from tests.certify.formats.conftest import CASE, trust_of


def test_without_trust_nothing_is_verified(stated: Source) -> None:
    assert stated.verified is None and stated.standing == NOT_VERIFIED
    assert "verified" in stated.limits[0]
    assert stated.digest == stated.envelope.digest


def test_with_trust_the_verifier_speaks(verified: Source) -> None:
    assert verified.verified is not None
    assert verified.standing.startswith("verified as attested on 2026-04-11T00:00:00Z with the trust file of SHA-256 ")
    assert verified.limits == verified.verified.report.limits
    assert verified.verified.report.certificate == verified.digest


def test_counts(stated: Source) -> None:
    assert stated.summary == "1 request to forget 2 records; 2 records left out of the 8 trained on"


def test_counts_of_what_is_no_record() -> None:
    case = Case()
    trained, asked = case.say(training()), case.say(request(scope="concept"))
    case.say(certificate(trained, asked, removed=None, retained=None))
    said = read(case.data()).summary
    assert said == "1 request to forget a concept, which is not a matter of single records"


def test_a_case_that_is_refused_is_no_source() -> None:
    with pytest.raises(UntrustedKeyError):
        read(CASE.data(), trust=trust_of(usual_case(operator("Other"))), now=NOW)


def test_what_is_no_bundle_and_no_case() -> None:
    with pytest.raises(BundleError, match="not a bundle"):
        read(b"nothing")
    bundle = CASE.bundle()
    with pytest.raises(ChainError, match="has 0 certificates"):
        read(Bundle(bundle.entries[:1], {}, {}, {}).to_bytes())
    case = Case()
    fields = json.loads(case.sign(training()).data)
    fields["payload"] = b64encode(b"{}").decode()
    case.shown.append(len(case.entries))
    case.entries.append(json.dumps(fields, separators=(",", ":"), sort_keys=True).encode())
    with pytest.raises(BundleError, match="not a case"):
        read(case.data())


def test_the_certificate_of_a_chain_is_the_last() -> None:
    case = Case(models=(*CASE.models, LATER))
    trained = case.say(training())
    first = case.certify(trained, case.say(request()))
    again = case.say(request((2,)))
    last = case.certify(first, again, positions=(2,), gone=(1, 4), pre=POST, post=LATER)
    found = read(case.data())
    assert found.digest == last.digest and [link.digest for link, _ in found.requests] == [again.digest]
    assert found.certificate.removed is not None and found.certificate.removed.count == 1
