"""SLSA provenance, parsed by the in-toto attestation package's own provenance and statement messages."""

import json
from typing import Any

import pytest

from certify.envelope import PAYLOAD_TYPE, pae
from certify.formats import slsa
from certify.formats.source import Source, read
from certify.keys import ALGORITHMS, PublicKey, SigningKey
from tests.cases import Case, operator, usual_case

NEEDED = "needs in-toto-attestation, which model-signing brings: pip install 'unlearning-ledger[test]'"


def parsed(statement: bytes) -> Any:
    """As its own project parses it. Unknown fields are the vendor's extension, which SLSA allows."""
    json_format = pytest.importorskip("google.protobuf.json_format", reason=NEEDED)
    messages = pytest.importorskip("in_toto_attestation.predicates.provenance.v1.provenance_pb2", reason=NEEDED)
    statements = pytest.importorskip("in_toto_attestation.v1.statement", reason=NEEDED)
    pb2 = pytest.importorskip("in_toto_attestation.v1.statement_pb2", reason=NEEDED)
    message = json_format.Parse(statement, pb2.Statement())
    statements.Statement.copy_from_pb(message).validate()
    predicate = json.loads(statement)["predicate"]
    assert [key for key in predicate if "_" in key] == [slsa.LABEL]
    del predicate[slsa.LABEL]
    return json_format.ParseDict(predicate, messages.Provenance())


def test_in_totos_own_messages_parse_it(source: Source) -> None:
    found = parsed(slsa.unsigned(source))
    certificate = source.certificate
    by_name = {resource.name: resource.digest["sha256"] for resource in found.build_definition.resolved_dependencies}
    assert by_name == {
        "pre-model": certificate.pre.tensor_root,
        "pre-model-statement": certificate.parent,
        "request": certificate.requests[0],
        "training-data": source.training.dataset.root,
        "retained-data": certificate.retained.root,
    }
    assert found.build_definition.build_type == slsa.BUILD_TYPE
    assert found.build_definition.external_parameters["method"] == "sisa-retrain"
    assert found.run_details.builder.id == f"urn:unlearning-ledger:key:{source.envelope.signatures[0].keyid}"
    assert found.run_details.metadata.invocation_id == certificate.run.id
    assert found.run_details.metadata.finished_on.ToJsonString() == certificate.run.finished
    assert [each.digest["sha256"] for each in found.run_details.byproducts] == [source.digest]


def test_unsigned_says_so(stated: Source) -> None:
    fields = json.loads(slsa.unsigned(stated))
    assert "signatures" not in fields
    label = fields["predicate"][slsa.LABEL]
    assert label["document"].startswith("unsigned") and label["case"] == "not verified here"
    assert "no SLSA level" in label["content"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_signed_by_the_issuer(stated: Source, algorithm: Any) -> None:
    key = SigningKey.generate(algorithm)
    envelope = json.loads(slsa.provenance(stated, key))
    payload, signature = from_envelope(envelope)
    PublicKey.from_pem(key.public.pem()).verify(signature, pae(PAYLOAD_TYPE, payload))
    parsed(payload)
    assert json.loads(payload)["predicate"][slsa.LABEL]["document"].startswith("signed by the issuer's key")


def from_envelope(envelope: dict[str, Any]) -> tuple[bytes, bytes]:
    from base64 import b64decode

    return b64decode(envelope["payload"]), b64decode(envelope["signatures"][0]["sig"])


def test_sigstore_verifies_the_signature(case: Case, stated: Source) -> None:
    dsse = pytest.importorskip("sigstore.dsse", reason="needs sigstore: pip install 'unlearning-ledger[test]'")
    data = slsa.provenance(stated, case.operator.key)
    theirs = dsse.Envelope._from_json(data)
    assert json.loads(dsse._verify(case.operator.key.public.key, theirs))["predicateType"] == slsa.PREDICATE_TYPE


@pytest.mark.parametrize("algorithm", ["ecdsa-p256", "ed25519"])
def test_the_same_case_gives_the_same_bytes(algorithm: Any) -> None:
    made = usual_case(operator(algorithm=algorithm))
    first, second = read(made.data()), read(made.data())
    assert slsa.unsigned(first) == slsa.unsigned(second)
    assert slsa.provenance(first, made.operator.key) == slsa.provenance(second, made.operator.key)


def test_no_grade_and_no_level_is_claimed(stated: Source) -> None:
    text = slsa.unsigned(stated).decode()
    for word in ("attested", "replayed", "step proven", "exclusion proven", "SLSA_BUILD_LEVEL"):
        assert word not in text
