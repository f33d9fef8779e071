"""The ML-BOM, validated with the schema of CycloneDX 1.7 in the project's own library, and read by it."""

import json
from hashlib import sha256
from typing import Any

import pytest

from certify.formats import cyclonedx
from certify.formats.source import Source, read
from tests.cases import NOW, Case, usual_case
from tests.certify.formats.conftest import trust_of

URL = "https://clinic.example/case.bundle"
NEEDED = "needs cyclonedx-python-lib: pip install 'unlearning-ledger[test]'"


def validate(data: bytes) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json", reason=NEEDED)
    schema = pytest.importorskip("cyclonedx.schema", reason=NEEDED)
    assert validation.JsonStrictValidator(schema.SchemaVersion.V1_7).validate_str(data.decode()) is None


def component(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(data)["metadata"]["component"]
    return found


def properties(of: dict[str, Any]) -> dict[str, str]:
    return {each["name"].removeprefix("unlearning-ledger:"): each["value"] for each in of["properties"]}


@pytest.mark.parametrize("options", [{}, {"name": "net", "url": URL}])
def test_the_schema_of_1_7_accepts_it(source: Source, options: dict[str, str]) -> None:
    validate(cyclonedx.bom(source, **options))


def test_the_schema_would_refuse_something_else(stated: Source) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json", reason=NEEDED)
    schema = pytest.importorskip("cyclonedx.schema", reason=NEEDED)
    fields = json.loads(cyclonedx.bom(stated))
    fields["metadata"]["component"]["hashes"][0]["content"] = "short"
    assert validation.JsonStrictValidator(schema.SchemaVersion.V1_7).validate_str(json.dumps(fields)) is not None


def test_the_librarys_own_model_reads_it(stated: Source) -> None:
    model = pytest.importorskip("cyclonedx.model.bom", reason=NEEDED)
    bom = model.Bom.from_json(json.loads(cyclonedx.bom(stated, url=URL)))
    read = bom.metadata.component
    assert read.type.value == "machine-learning-model"
    assert [each.content for each in read.hashes] == [stated.certificate.post.tensor_root]
    [ancestor] = read.pedigree.ancestors
    assert [each.content for each in ancestor.hashes] == [stated.certificate.pre.tensor_root]
    references = {each.type.value: each for each in read.external_references}
    assert [each.content for each in references["attestation"].hashes] == [stated.digest]
    assert [each.content for each in references["evidence"].hashes] == [sha256(stated.data).hexdigest()]


def test_a_grade_only_where_it_was_verified(stated: Source, verified: Source) -> None:
    said, found = component(cyclonedx.bom(stated)), component(cyclonedx.bom(verified))
    assert properties(said)["verification"] == "not verified here" and "grade" not in properties(said)
    assert properties(found)["grade"] == "attested"
    limits = found["modelCard"]["considerations"]["technicalLimitations"]
    assert verified.verified is not None and tuple(limits) == verified.verified.report.limits
    assert "metric:accuracy" in properties(said)


def test_files_have_their_own_hashes(case: Case) -> None:
    from certify.statement import TENSOR_ROOT, Statement, subject
    from tests.cases import certificate, request, training

    named = Case()
    trained, asked = named.say(training()), named.say(request())
    said = certificate(trained, asked)
    digest = sha256(b"weights").hexdigest()
    named.say(Statement((*said.subjects, subject("model.safetensors", digest)), said.predicate))
    data = cyclonedx.bom(read(named.data()))
    validate(data)
    assert said.subjects[0].name == TENSOR_ROOT
    [file] = component(data)["components"]
    assert (file["type"], file["name"], file["hashes"][0]["content"]) == ("file", "model.safetensors", digest)


def test_the_same_case_gives_the_same_bytes_and_another_another_number(verified: Source, case: Case) -> None:
    again = read(case.data(), trust=trust_of(case), now=NOW)
    assert cyclonedx.bom(verified) == cyclonedx.bom(again)
    other = read(usual_case().data())
    numbers = {json.loads(cyclonedx.bom(each))["serialNumber"] for each in (verified, read(case.data()), other)}
    assert len(numbers) == 3
