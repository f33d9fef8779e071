"""The published JSON Schemas: current, and of the same opinion as the parser on what they can express."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.errors import StatementError
from certify.schema import FOLDER, files, schemas
from certify.statement import PREDICATES, PREFIX, Statement
from certify.wire import canonical
from tests.audit_cases import audited_case
from tests.cases import operator, request, revocation, rotation, training, usual_case

CASE = usual_case()
AUDITED = [entry.envelope.payload for entry in audited_case().bundle().entries[3:]]
PAYLOADS = {
    "training": [training().payload()],
    "request": [request().payload()],
    "unlearning": [CASE.bundle().entries[2].envelope.payload],
    "audit-plan": AUDITED[:1],
    "audit": AUDITED[1:],
    "key": [
        rotation(CASE.operator.key, operator("Heir").key).payload(),
        revocation(CASE.operator.key).payload(),
    ],
}
VALIDATORS = {kind: jsonschema.Draft202012Validator(schema) for kind, schema in schemas().items()}
CASES = [(kind, payload) for kind, payloads in PAYLOADS.items() for payload in payloads]


def test_published_files_are_current() -> None:
    """``python -m certify.schema`` writes them."""
    assert {path.name: path.read_bytes() for path in FOLDER.iterdir()} == files()


def test_each_predicate_type_has_a_schema_by_its_name() -> None:
    assert {schema["$id"] for schema in schemas().values()} == set(PREDICATES)
    for kind, schema in schemas().items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["$id"] == f"{PREFIX}{kind}/v1"
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert schema["title"]


@pytest.mark.parametrize(("kind", "payload"), CASES)
def test_real_statements_validate_under_their_own_schema_only(kind: str, payload: bytes) -> None:
    for other, validator in VALIDATORS.items():
        assert validator.is_valid(json.loads(payload)) == (other == kind)


FREE_TEXT = {"name", "ground", "python", "platform", "device", "torch"}
OPEN = {"libraries", "settings", "parameters", "metrics"}
"""Objects of any fields."""


def mutations(payload: bytes) -> Iterator[tuple[str, Any]]:
    """What a schema can see: something more, of another kind, or in another form, in every place."""
    fields = json.loads(payload)

    def changed(target: Any, key: Any, value: Any) -> Any:
        kept = target.get(key, ...) if isinstance(target, dict) else target[key]
        target[key] = value
        whole = json.loads(json.dumps(fields))
        target[key] = kept
        if kept is ...:
            del target[key]
        return whole

    def visit(value: Any, name: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict) and name not in OPEN:
            yield f"{name} with one field more", changed(value, "unheard-of", 1)
        for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            yield f"{name}.{key} as an object", changed(value, key, {"a": {"b": {}}})
            yield f"{name}.{key} as a list", changed(value, key, [[[]]])
            if isinstance(value[key], str) and key not in FREE_TEXT:
                yield f"{name}.{key} with a line feed", changed(value, key, value[key] + "\n")
            yield from visit(value[key], str(key))

    return visit(fields, "")


@pytest.mark.parametrize(("kind", "payload"), CASES)
def test_mutated_statements_fail_the_schema_and_the_parser(kind: str, payload: bytes) -> None:
    tried = list(mutations(payload))
    assert len(tried) > 30
    for what, fields in tried:
        assert not VALIDATORS[kind].is_valid(fields), what
        with pytest.raises(StatementError):
            Statement.parse(canonical(fields, what="a statement", error=StatementError))


@pytest.mark.parametrize(("kind", "payload"), CASES)
def test_missing_required_fields_fail(kind: str, payload: bytes) -> None:
    for name in ("_type", "subject", "predicateType", "predicate"):
        fields = json.loads(payload)
        del fields[name]
        assert not VALIDATORS[kind].is_valid(fields)


@given(st.sampled_from(CASES), st.data())
def test_what_the_parser_takes_the_schema_takes(case: tuple[str, bytes], data: st.DataObject) -> None:
    kind, payload = case
    fields = json.loads(payload)
    name = data.draw(st.sampled_from(sorted(fields["predicate"])))
    fields["predicate"][name] = data.draw(st.none() | st.integers() | st.text(max_size=3) | st.just([]) | st.just({}))
    try:
        Statement.parse(canonical(fields, what="a statement", error=StatementError))
    except StatementError:
        return
    VALIDATORS[kind].validate(fields)
