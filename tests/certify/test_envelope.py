"""DSSE envelopes: the specification's vector, other people's verifiers, and strict parsing."""

import json
import subprocess
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from certify.envelope import MAX_ENVELOPE_SIZE, PAYLOAD_TYPE, Envelope, pae, sign
from certify.errors import EnvelopeSignatureError, StatementError, UntrustedKeyError
from certify.keys import SigningKey
from tests.cases import operator, training

KEY = operator().key
STRANGER = SigningKey.generate("ed25519")
PAYLOAD = training().payload()
ENVELOPE = sign(PAYLOAD, [KEY])


def wire(**changes: Any) -> bytes:
    """The envelope's JSON with other fields."""
    return json.dumps(json.loads(ENVELOPE.data) | changes).encode()


def signature(**changes: Any) -> list[dict[str, Any]]:
    fields = json.loads(ENVELOPE.data)["signatures"][0] | changes
    return [{name: value for name, value in fields.items() if value is not None}]


def test_pae_vector_of_the_specification() -> None:
    assert (
        pae("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("é", b"") == "DSSEv1 2 é 0 ".encode()  # lengths are of bytes


def test_envelope_is_the_json_that_the_specification_shows() -> None:
    fields = json.loads(ENVELOPE.data)
    assert fields["payload"] == b64encode(PAYLOAD).decode()
    assert fields["payloadType"] == "application/vnd.in-toto+json"
    assert [set(s) for s in fields["signatures"]] == [{"keyid", "sig"}]
    assert fields["signatures"][0]["keyid"] == KEY.public.keyid


def test_sigstore_accepts_our_envelope_and_statement() -> None:
    dsse = pytest.importorskip("sigstore.dsse", reason="sigstore is not installed")
    key = KEY.public.key
    assert isinstance(key, ec.EllipticCurvePublicKey)
    theirs = dsse.Envelope._from_json(ENVELOPE.data)
    assert dsse._verify(key, theirs) == PAYLOAD
    assert theirs.pae() == pae(PAYLOAD_TYPE, PAYLOAD)
    assert dsse.Statement(PAYLOAD)._inner.predicate_type == "urn:unlearning-ledger:training/v1"
    with pytest.raises(Exception, match="invalid signature"):
        dsse._verify(ec.generate_private_key(ec.SECP256R1()).public_key(), theirs)


def test_openssl_verifies_the_signature_over_the_pae(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(KEY.public.pem())
    (tmp_path / "signature").write_bytes(ENVELOPE.signatures[0].sig)
    (tmp_path / "pae").write_bytes(pae(PAYLOAD_TYPE, PAYLOAD))
    verify = ["openssl", "dgst", "-sha256", "-verify", "key.pem", "-signature", "signature", "pae"]
    assert b"Verified OK" in subprocess.run(verify, cwd=tmp_path, check=True, capture_output=True).stdout


@pytest.mark.parametrize("encode", [b64encode, urlsafe_b64encode])
def test_both_alphabets_of_base64_are_read(encode: Any) -> None:
    data = wire(payload=encode(PAYLOAD).decode(), signatures=signature(sig=encode(ENVELOPE.signatures[0].sig).decode()))
    envelope = Envelope.parse(data)
    assert envelope.payload == PAYLOAD
    assert envelope.verify([STRANGER.public, KEY.public]) == [KEY.public]
    assert envelope.data == data  # what came is what counts


def test_key_id_may_be_missing() -> None:
    envelope = Envelope.parse(wire(signatures=signature(keyid=None)))
    assert envelope.verify([STRANGER.public, KEY.public]) == [KEY.public]
    with pytest.raises(UntrustedKeyError, match="of none of the trusted"):
        envelope.verify([STRANGER.public])


def test_key_id_of_another_trusted_key_is_refused() -> None:
    envelope = Envelope.parse(wire(signatures=signature(keyid=STRANGER.public.keyid)))
    with pytest.raises(EnvelopeSignatureError, match="wrong ed25519 signature"):
        envelope.verify([STRANGER.public, KEY.public])


def test_unknown_key_id_is_refused() -> None:
    with pytest.raises(UntrustedKeyError, match="not one of the trusted"):
        ENVELOPE.verify([STRANGER.public])
    with pytest.raises(UntrustedKeyError, match="none"):
        ENVELOPE.verify([])


def test_wrong_signature_is_refused() -> None:
    forged = b64encode(KEY.sign(b"something else")).decode()
    with pytest.raises(EnvelopeSignatureError, match="wrong ecdsa-p256 signature"):
        Envelope.parse(wire(signatures=signature(sig=forged))).verify([KEY.public])


def test_every_signature_has_to_be_of_a_known_key() -> None:
    both = sign(PAYLOAD, [KEY, STRANGER])
    assert both.verify([STRANGER.public, KEY.public]) == [KEY.public, STRANGER.public]
    with pytest.raises(UntrustedKeyError):
        both.verify([KEY.public])


def test_one_key_does_not_sign_twice() -> None:
    with pytest.raises(EnvelopeSignatureError, match="signed twice"):
        sign(PAYLOAD, [KEY, KEY]).verify([KEY.public])


DEEP = b"[" * 30_000
REFUSED = {
    "empty": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"payload":"\xff"}',
    "a list": b"[]",
    "null": b"null",
    "byte order mark": b"\xef\xbb\xbf" + ENVELOPE.data,
    "NaN": wire()[:-1] + b',"x":NaN}',
    "Infinity": wire()[:-1] + b',"x":-Infinity}',
    "huge integer": wire()[:-1] + b',"x":' + b"9" * 5000 + b"}",
    "lone surrogate": wire(signatures=signature(keyid="KEY")).replace(b"KEY", rb"\ud800"),
    "deep nesting": ENVELOPE.data[:-1] + b',"x":' + DEEP,
    "deep nesting, closed": ENVELOPE.data[:-1] + b',"x":' + DEEP + b"]" * 30_000 + b"}",
    "payload twice": ENVELOPE.data[:-1] + b',"payload":"e30="}',
    "payload twice, escaped": ENVELOPE.data[:-1] + rb',"p\u0061yload":"e30="}',
    "keyid twice": ENVELOPE.data.replace(b'"keyid"', b'"keyid":"aa","keyid"'),
    "unknown field": wire(extra=1),
    "unknown field in a signature": wire(signatures=signature(cert="x")),
    "no signature": wire(signatures=[]),
    "three signatures": wire(signatures=signature() * 3),
    "signature without sig": wire(signatures=[{"keyid": KEY.public.keyid}]),
    "another payload type": wire(payloadType="application/json"),
    "payload is an object": wire(payload={}),
    "payload with a space": wire(payload="e30 ="),
    "payload without padding": wire(payload="e30"),
    "payload with stray bits": wire(payload="e31="),
    "payload in both alphabets": wire(payload="_-+/"),
    "payload with a line feed": wire(payload="e30=\n"),
    "payload of letters": wire(payload="é30="),
    "oversized": wire(payload=b64encode(bytes(50_000)).decode()),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_malformed_envelope_is_refused(data: bytes) -> None:
    with pytest.raises(StatementError):
        Envelope.parse(data)


def test_payload_too_large_for_a_log_entry_is_not_signed() -> None:
    with pytest.raises(StatementError, match="at most 65,535"):
        sign(bytes(50_000), [KEY])
    assert MAX_ENVELOPE_SIZE == 65_535


@given(st.binary(max_size=300))
def test_bytes_are_an_envelope_or_an_error(data: bytes) -> None:
    with pytest.raises(StatementError):
        Envelope.parse(data)


@given(st.binary(max_size=1000))
def test_payload_survives(payload: bytes) -> None:
    envelope = Envelope.parse(sign(payload, [STRANGER]).data)
    assert envelope.payload == payload
    assert envelope.verify([STRANGER.public]) == [STRANGER.public]


@given(st.integers(0, 10_000), st.binary(max_size=3))
def test_altered_envelope_never_verifies_as_something_else(at: int, patch: bytes) -> None:
    at %= len(ENVELOPE.data)
    altered = ENVELOPE.data[:at] + patch + ENVELOPE.data[at + len(patch) :]
    try:
        envelope = Envelope.parse(altered)
        envelope.verify([KEY.public])
    except (StatementError, EnvelopeSignatureError, UntrustedKeyError):
        return
    assert envelope.payload == PAYLOAD
