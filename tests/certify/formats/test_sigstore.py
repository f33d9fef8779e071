"""The certificate as a sigstore bundle: parsed by sigstore's models, its signature verified by sigstore-python."""

import json
from base64 import urlsafe_b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from certify.envelope import Envelope, sign
from certify.errors import StatementError
from certify.formats import sigstore
from certify.formats.source import Source, read
from certify.keys import SigningKey
from tests.cases import Case, rotation

NEEDED = "needs sigstore: pip install 'unlearning-ledger[test]'"


def test_sigstore_parses_it_and_verifies_the_signature(case: Case, stated: Source) -> None:
    models = pytest.importorskip("sigstore_models.bundle.v1", reason=NEEDED)
    dsse = pytest.importorskip("sigstore.dsse", reason=NEEDED)
    data = sigstore.of_certificate(stated)
    bundle = models.Bundle.from_json(data)
    assert bundle.media_type == sigstore.MEDIA_TYPE
    assert bundle.verification_material.public_key.hint == case.operator.key.public.keyid
    theirs = dsse.Envelope(bundle.dsse_envelope)
    key = case.operator.key.public.key
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert dsse._verify(key, theirs) == stated.envelope.payload
    statement = dsse.Statement(stated.envelope.payload)
    assert statement._inner.predicate_type == "urn:unlearning-ledger:unlearning/v1"
    with pytest.raises(Exception, match="invalid signature"):
        dsse._verify(ec.generate_private_key(ec.SECP256R1()).public_key(), theirs)


def test_a_changed_payload_is_refused_by_sigstore(case: Case, stated: Source) -> None:
    models = pytest.importorskip("sigstore_models.bundle.v1", reason=NEEDED)
    dsse = pytest.importorskip("sigstore.dsse", reason=NEEDED)
    fields = json.loads(sigstore.of_certificate(stated))
    payload = fields["dsseEnvelope"]["payload"]
    fields["dsseEnvelope"]["payload"] = payload[:-8] + "A" * 4 + payload[-4:]
    theirs = dsse.Envelope(models.Bundle.from_json(json.dumps(fields)).dsse_envelope)
    with pytest.raises(Exception, match="invalid signature"):
        dsse._verify(case.operator.key.public.key, theirs)


def test_it_is_the_logged_statement_and_always_the_same(case: Case, stated: Source) -> None:
    data = sigstore.of_certificate(stated)
    assert data == sigstore.of_certificate(read(case.data())) and data.isascii()
    fields = json.loads(data)["dsseEnvelope"]
    logged = json.loads(stated.envelope.data)
    assert fields == logged


def test_two_signatures_do_not_fit(case: Case) -> None:
    old, new = SigningKey.generate(), SigningKey.generate()
    with pytest.raises(StatementError, match="has 2 signatures"):
        sigstore.wrap(sign(rotation(old, new).payload(), [old, new]))


def test_a_signature_without_a_key_id_names_nobody(stated: Source) -> None:
    fields = json.loads(stated.envelope.data)
    del fields["signatures"][0]["keyid"]
    with pytest.raises(StatementError, match="expected a key id"):
        sigstore.wrap(Envelope.parse(json.dumps(fields, separators=(",", ":")).encode()))


def test_url_safe_base64_becomes_standard(stated: Source) -> None:
    """sigstore's models read the standard alphabet only."""
    fields = json.loads(stated.envelope.data)
    fields["payload"] = urlsafe_b64encode(stated.envelope.payload).decode()
    fields["signatures"][0]["sig"] = urlsafe_b64encode(stated.envelope.signatures[0].sig).decode()
    envelope = Envelope.parse(json.dumps(fields, separators=(",", ":")).encode())
    assert sigstore.wrap(envelope) == sigstore.wrap(stated.envelope)
